//! Archives put together by hand: tar members byte for byte, and archives of
//! images around given layers, also such as no writer would make.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One 512-byte ustar header with a right checksum.
pub fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A regular file with its padding.
pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = header(name, b'0', content.len() as u64, "");
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// The two blocks that end an archive.
pub fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// A layer of one file.
pub fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    [file(name, content), end()].concat()
}

/// `sha256:…` of these bytes.
pub fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The config of an image of these layers.
pub fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// A Docker archive, layers first and the manifest last, as most writers have it.
pub fn docker(config: &Value, layers: &[Vec<u8>], tags: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut names = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("{index}/layer.tar");
        archive.extend(file(&name, layer));
        names.push(name);
    }
    archive.extend(file("config.json", config.to_string().as_bytes()));
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    archive.extend(file("manifest.json", manifest.to_string().as_bytes()));
    archive.extend(end());
    archive
}

/// An OCI layout being put together.
#[derive(Debug, Default)]
pub struct Layout {
    members: Vec<u8>,
}

impl Layout {
    /// Puts a blob in and gives its descriptor.
    pub fn blob(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        let name = format!("blobs/sha256/{}", &digest["sha256:".len()..]);
        self.members.extend(file(&name, content));
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Puts an image in and gives its manifest's descriptor.
    pub fn image(&mut self, config: &Value, layers: &[(&str, Vec<u8>)]) -> Value {
        let config = config.to_string();
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
        );
        let layers: Vec<Value> = layers
            .iter()
            .map(|(media_type, bytes)| self.blob(media_type, bytes))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        self.blob(media_type, manifest.to_string().as_bytes())
    }

    /// Puts an index in and gives its descriptor.
    pub fn index(&mut self, manifests: &[Value]) -> Value {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type, "manifests": manifests,
        });
        self.blob(media_type, index.to_string().as_bytes())
    }

    /// The archive with these entries in `index.json`.
    pub fn finish(mut self, manifests: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.members
            .extend(file("index.json", index.to_string().as_bytes()));
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.members.extend(file("oci-layout", layout));
        self.members.extend(end());
        self.members
    }
}
