//! Debian's `docker-registry` for one test, on a port of its own, and images that `skopeo` pushes to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::{Cli, Client, engine_for};
use crate::fixture::{self, Fixture};
use crate::{skip, workspace};

/// `ann` with the password `secret`, in bcrypt.
const HTPASSWD: &str = "ann:$2b$04$qyzmWGPVlZN61tPIEvsd9.Aa/S.bxIYxZBdn7.1A.7kY3I2dbrbs.\n";

/// How a registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Plain HTTP, for everybody.
    Open,
    /// Plain HTTP, for the user `ann` with the password `secret`.
    Password,
    /// TLS on every address of the machine, with a certificate of an authority nobody knows.
    Tls,
}

/// A registry that runs as long as this lives.
#[derive(Debug)]
pub struct Registry {
    root: TempDir,
    process: Child,
    /// `host:port`, as references name it.
    pub address: String,
    access: Access,
}

impl Registry {
    /// Starts a registry; `None`, with the reason printed, where there is none.
    pub fn start(access: Access) -> Option<Registry> {
        for program in ["docker-registry", "skopeo"] {
            if workspace::program(program).is_none() {
                skip(&format!("no {program} here"));
                return None;
            }
        }
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let host = match access {
            Access::Tls => outside_address()?,
            _ => "127.0.0.1".to_owned(),
        };
        let mut http = json!({"addr": format!("{host}:0")});
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": root.path().join("data")},
                "delete": {"enabled": true},
            },
        });
        match access {
            Access::Open => {}
            Access::Password => {
                let path = root.path().join("htpasswd");
                fs::write(&path, HTPASSWD).expect("a file can be written");
                config["auth"] = json!({"htpasswd": {"realm": "R", "path": path}});
            }
            Access::Tls => {
                make_certificates(root.path(), &host)?;
                http["tls"] = json!({
                    "certificate": root.path().join("host.crt"),
                    "key": root.path().join("host.key"),
                });
            }
        }
        config["http"] = http;
        // JSON is YAML.
        let path = root.path().join("config.yml");
        fs::write(&path, config.to_string()).expect("a file can be written");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the registry can be started");
        let log = process.stderr.take().expect("stderr is a pipe");
        let mut lines = BufReader::new(log).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| listening(&line));
        // It must not block on its log later.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(address) = address else {
            process.kill().ok();
            process.wait().ok();
            panic!("the registry does not start");
        };
        Some(Registry {
            root,
            process,
            address,
            access,
        })
    }

    /// The authority its certificate is of.
    pub fn authority(&self) -> PathBuf {
        self.root.path().join("ca.crt")
    }

    /// Pushes an image of these layers, tars from the bottom up, and gives its manifest's digest.
    pub fn push(&self, name: &str, layers: &[Vec<u8>]) -> String {
        let layout = Layout::new();
        let manifest = layout.image("amd64", layers);
        layout.finish(&[manifest]);
        self.copy(layout.path(), name, &[])
    }

    /// Pushes an index of one image for each architecture, and an attestation.
    pub fn push_index(&self, name: &str, images: &[(&str, Vec<Vec<u8>>)]) -> String {
        let layout = Layout::new();
        let mut manifests: Vec<Value> = images
            .iter()
            .map(|(architecture, layers)| layout.image(architecture, layers))
            .collect();
        let mut attestation = layout.image("unknown", &[tar_of(&[("attestation", b"x")])]);
        attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        manifests.push(attestation);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut entry = layout.put(index.to_string().as_bytes());
        entry["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
        layout.finish(&[entry]);
        self.copy(layout.path(), name, &["--all"])
    }

    fn copy(&self, layout: &Path, name: &str, flags: &[&str]) -> String {
        let digest = layout.join("digest");
        let mut command = Command::new("skopeo");
        command
            .args(["copy", "--dest-tls-verify=false", "--insecure-policy"])
            .args(flags);
        if self.access == Access::Password {
            command.args(["--dest-creds", "ann:secret"]);
        }
        let output = command
            .arg("--digestfile")
            .arg(&digest)
            .arg(format!("oci:{}:it", layout.display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .expect("skopeo can be started");
        assert!(
            output.status.success(),
            "skopeo: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::read_to_string(digest).expect("skopeo says the digest")
    }

    /// A blob's file in the registry's storage.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.root
            .path()
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// The bytes of a manifest or another blob.
    pub fn content(&self, digest: &str) -> Vec<u8> {
        fs::read(self.blob(digest)).unwrap_or_else(|e| panic!("{digest}: {e}"))
    }

    /// The layers' blobs of a manifest.
    pub fn layers(&self, manifest: &str) -> Vec<String> {
        let manifest: Value =
            serde_json::from_slice(&self.content(manifest)).expect("a manifest is JSON");
        let layers = manifest["layers"].as_array().expect("it has layers");
        let digest = |layer: &Value| layer["digest"].as_str().map(str::to_owned);
        layers.iter().filter_map(digest).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The address in `msg="listening on 127.0.0.1:5000, tls"`.
fn listening(line: &str) -> Option<String> {
    let rest = line.split_once("listening on ")?.1;
    let end = rest.find([',', '"']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// An address of this machine that is not on loopback, where every certificate is believed.
fn outside_address() -> Option<String> {
    // Nothing is sent: the kernel only says which address it would send from.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    let address = ["192.0.2.1:9", "198.51.100.1:9", "10.0.0.1:9"]
        .iter()
        .find_map(|other| {
            socket.connect(other).ok()?;
            let own = socket.local_addr().ok()?.ip();
            (!own.is_loopback() && !own.is_unspecified()).then(|| own.to_string())
        });
    if address.is_none() {
        skip("this machine has no address but loopback's");
    }
    address
}

fn make_certificates(root: &Path, host: &str) -> Option<()> {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout host.key -out host.csr && \
         printf 'subjectAltName=IP:{host}\\nbasicConstraints=CA:FALSE\\n' > ext && \
         openssl x509 -req -in host.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out host.crt"
    );
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(root)
        .output();
    match made {
        Ok(output) if output.status.success() => Some(()),
        other => {
            skip(&format!("no certificates can be made: {other:?}"));
            None
        }
    }
}

/// A directory in the OCI image layout.
struct Layout {
    root: TempDir,
}

impl Layout {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        fs::create_dir_all(root.path().join("blobs/sha256")).expect("a fresh directory");
        Self { root }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    /// A blob's descriptor without its type.
    fn put(&self, bytes: &[u8]) -> Value {
        let hex = hex(bytes);
        fs::write(self.path().join("blobs/sha256").join(&hex), bytes).expect("a fresh file");
        json!({"digest": format!("sha256:{hex}"), "size": bytes.len()})
    }

    fn image(&self, architecture: &str, layers: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|tar| format!("sha256:{}", hex(tar)))
            .collect();
        let config = json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut config = self.put(config.to_string().as_bytes());
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let layers: Vec<Value> = layers
            .iter()
            .map(|tar| {
                let mut layer = self.put(&gzip(tar));
                layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
                layer
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut manifest = self.put(manifest.to_string().as_bytes());
        manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifest
    }

    fn finish(&self, manifests: &[Value]) {
        let mut manifests = manifests.to_vec();
        manifests[0]["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        let write = |name: &str, value: Value| {
            fs::write(self.path().join(name), value.to_string()).expect("a fresh file");
        };
        write("index.json", index);
        write("oci-layout", json!({"imageLayoutVersion": "1.0.0"}));
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// A registry and an engine beside it for one case.
pub fn with_registry(client: Client, access: Access, case: impl FnOnce(&Cli<'_>, &Registry)) {
    let (Some(registry), Some(engine)) = (Registry::start(access), engine_for(client)) else {
        return;
    };
    case(&engine.cli(client), &registry);
}

/// Makes each named function, `fn(&Cli<'_>, &Registry)`, two tests, `<name>::conex` and `<name>::docker`, each with a
/// registry and an engine of its own.
#[macro_export]
macro_rules! under_both_clients_with_registry {
    ($access:expr; $($case:ident),* $(,)?) => {
        $(mod $case {
            use $crate::client::Client;
            use $crate::registry::with_registry;

            use super::*;

            #[test]
            fn conex() {
                with_registry(Client::Conex, $access, super::$case);
            }

            #[test]
            fn docker() {
                with_registry(Client::Docker, $access, super::$case);
            }
        })*
    };
}

/// The layers of an image that runs: a root, and content that differs from seed to seed; `None`, with the reason
/// printed, where there is no root.
pub fn runnable_layers(seed: u64) -> Option<Vec<Vec<u8>>> {
    match busybox() {
        Ok(root) => Some(vec![root, tar_of(&[("file", &noise(300_000, seed))])]),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// A tar of a root that runs.
pub fn busybox() -> Result<Vec<u8>, String> {
    let path = fixture::make(Fixture::Busybox)?;
    fs::read(path).map_err(|e| e.to_string())
}

/// A tar of these files, readable by everybody.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(&next());
    }
    out.truncate(length);
    out
}
