//! Manifest lists that are being put together, in `manifests/` of the configuration directory, shared with Docker's
//! client (COMPAT D7.19).
//!
//! ```text
//! manifests/<list>/<image>       one file for each image of a list: an Entry as JSON
//! ```
//!
//! A name in a path is the full reference with `-` for `:` and `_` for `/`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conex_spec::image::{Descriptor, media_type};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::CliError;

/// Larger files are no entries.
const MAX_ENTRY_BYTES: u64 = 16 << 20;

/// One image's manifest, as it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry {
    /// The image's full name.
    #[serde(rename = "Ref")]
    pub(crate) name: String,
    /// Of the manifest, with what the image runs on.
    pub(crate) descriptor: Descriptor,
    /// The manifest's bytes in base64.
    pub(crate) raw: String,
    /// The manifest, if it is Docker's.
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Value>,
    /// The manifest, if it is the OCI's.
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Value>,
}

impl Entry {
    /// Of a manifest's exact bytes. The descriptor's media type decides whose it is.
    pub(crate) fn new(
        name: String,
        descriptor: Descriptor,
        bytes: &[u8],
    ) -> Result<Self, CliError> {
        let manifest: Value = serde_json::from_slice(bytes)
            .map_err(|error| CliError::message(format!("{name}: {error}")))?;
        let is_docker = descriptor.media_type == media_type::DOCKER_MANIFEST;
        let (docker, oci) = match is_docker {
            true => (Some(manifest), None),
            false => (None, Some(manifest)),
        };
        Ok(Self {
            name,
            descriptor,
            raw: STANDARD.encode(bytes),
            docker,
            oci,
        })
    }

    /// The manifest's exact bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, CliError> {
        let decoded = STANDARD.decode(&self.raw);
        decoded.map_err(|error| CliError::message(format!("{}: {error}", self.name)))
    }

    /// The manifest as it can be read.
    pub(crate) fn manifest(&self) -> &Value {
        let manifest = self.docker.as_ref().or(self.oci.as_ref());
        manifest.unwrap_or(&Value::Null)
    }

    /// Digests of the config and the layers.
    pub(crate) fn blobs(&self) -> Vec<String> {
        let manifest = self.manifest();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let all = std::iter::once(&manifest["config"]).chain(layers);
        all.filter_map(|blob| blob["digest"].as_str().map(str::to_owned))
            .collect()
    }
}

/// What a list of these images is: the first one's manifest decides, as at Docker's client.
pub(crate) fn type_of_list(entries: &[Entry]) -> &'static str {
    let first = entries.first().map(|entry| &*entry.descriptor.media_type);
    match first == Some(media_type::OCI_MANIFEST) {
        true => media_type::OCI_INDEX,
        false => media_type::DOCKER_MANIFEST_LIST,
    }
}

/// A list of these images, in the bytes Docker's client makes of them.
pub(crate) fn list_of(entries: &[Entry]) -> Vec<u8> {
    use serde_json::ser::{PrettyFormatter, Serializer};
    let entry = |entry: &Entry| {
        let descriptor = &entry.descriptor;
        json!({
            "mediaType": descriptor.media_type,
            "size": descriptor.size_bytes,
            "digest": descriptor.digest.as_str(),
            "platform": descriptor.platform.clone().unwrap_or_default(),
        })
    };
    let list = json!({
        "schemaVersion": 2,
        "mediaType": type_of_list(entries),
        "manifests": entries.iter().map(entry).collect::<Vec<_>>(),
    });
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"   "));
    list.serialize(&mut serializer)
        .expect("memory takes everything");
    bytes
}

/// The lists of a configuration directory.
pub(crate) struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    pub(crate) fn of(config_dir: &Path) -> Self {
        Self {
            directory: config_dir.join("manifests"),
        }
    }

    fn path(&self, list: &Reference) -> PathBuf {
        self.directory.join(file_name(list))
    }

    /// The images of a list, in the order of their files; `None` if there is no such list.
    pub(crate) fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>, CliError> {
        let path = self.path(list);
        let found = match fs::read_dir(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let mut files = found
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&path, &error))?;
        files.sort();
        let entries = files.iter().map(|file| read(file));
        entries.collect::<Result<_, _>>().map(Some)
    }

    /// One image of a list; `None` if the list or the image in it is not there.
    pub(crate) fn get(
        &self,
        list: &Reference,
        image: &Reference,
    ) -> Result<Option<Entry>, CliError> {
        let path = self.path(list).join(file_name(image));
        match path.exists() {
            true => read(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Puts an image into a list, in place of what was there.
    pub(crate) fn put(
        &self,
        list: &Reference,
        image: &Reference,
        entry: &Entry,
    ) -> Result<(), CliError> {
        let directory = self.path(list);
        let path = directory.join(file_name(image));
        let bytes = serde_json::to_vec(entry).expect("an entry is a JSON object");
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory);
        // Beside the lists: whatever is in a list is an image of it.
        let draft = self
            .directory
            .join(format!(".{}.{}", file_name(image), std::process::id()));
        let written = made
            .and_then(|()| fs::File::create(&draft))
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| failed(&path, &error))
    }

    /// Forgets a list.
    pub(crate) fn remove(&self, list: &Reference) -> Result<(), CliError> {
        let path = self.path(list);
        fs::remove_dir_all(&path).map_err(|error| failed(&path, &error))
    }
}

/// Whether Docker's client takes such an entry for one that can be run.
pub(crate) fn is_known(platform: &Platform) -> bool {
    const KNOWN: [(&str, &[&str]); 9] = [
        ("darwin", &["386", "amd64", "arm", "arm64"]),
        ("dragonfly", &["amd64"]),
        ("freebsd", &["386", "amd64", "arm"]),
        (
            "linux",
            &[
                "386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x",
            ],
        ),
        ("netbsd", &["386", "amd64", "arm"]),
        ("openbsd", &["386", "amd64", "arm"]),
        ("plan9", &["386", "amd64"]),
        ("solaris", &["amd64"]),
        ("windows", &["386", "amd64", "arm", "arm64"]),
    ];
    KNOWN.iter().any(|(os, architectures)| {
        *os == platform.os && architectures.contains(&platform.architecture.as_str())
    })
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn read(path: &Path) -> Result<Entry, CliError> {
    let length = fs::metadata(path)
        .map_err(|error| failed(path, &error))?
        .len();
    if length > MAX_ENTRY_BYTES {
        return Err(failed(path, &"it is too long"));
    }
    let bytes = fs::read(path).map_err(|error| failed(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, problem: &dyn std::fmt::Display) -> CliError {
    CliError::message(format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use conex_spec::digest::Digest;

    use super::*;

    fn entry() -> Entry {
        let bytes = br#"{"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:l"}]}"#;
        let mut descriptor = Descriptor::new(
            media_type::DOCKER_MANIFEST,
            Digest::of(bytes),
            bytes.len() as u64,
        );
        descriptor.platform = Some(Platform::new("linux", "amd64"));
        Entry::new("r.lan/a:1".into(), descriptor, bytes).unwrap()
    }

    #[test]
    fn a_list_is_what_was_put_into_it_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let lists = Manifests::of(dir.path());
        let list = Reference::parse("r.lan:5000/team/list:1").unwrap();
        let image = Reference::parse("r.lan:5000/a:1").unwrap();
        assert!(lists.list(&list).unwrap().is_none());
        lists.put(&list, &image, &entry()).unwrap();
        let path = dir
            .path()
            .join("manifests/r.lan-5000_team_list-1/r.lan-5000_a-1");
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.starts_with(r#"{"Ref":"r.lan/a:1","Descriptor":{"mediaType":"#),
            "{text}"
        );
        assert!(text.contains(r#""SchemaV2Manifest":{"config":"#) && !text.contains("OCI"));
        let found = lists.get(&list, &image).unwrap().unwrap();
        assert_eq!(found.blobs(), ["sha256:c", "sha256:l"]);
        assert_eq!(found.bytes().unwrap(), entry().bytes().unwrap());
        assert_eq!(lists.list(&list).unwrap().unwrap().len(), 1);
        lists.remove(&list).unwrap();
        assert!(lists.list(&list).unwrap().is_none());
    }

    #[test]
    fn a_list_is_written_with_three_blanks_as_docker_does() {
        let text = String::from_utf8(list_of(&[entry()])).unwrap();
        let start = "{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.docker.distribution.manifest.list.v2+json\",\n   \"manifests\": [\n      {\n         \"mediaType\": ";
        assert!(text.starts_with(start), "{text}");
        let size = text.find("\"size\"").unwrap();
        assert!(size < text.find("\"digest\"").unwrap());
    }

    #[test]
    fn only_platforms_docker_knows_can_be_written_into_a_list() {
        assert!(is_known(&Platform::new("linux", "riscv64")));
        assert!(!is_known(&Platform::new("plan9", "arm64")));
        assert!(!is_known(&Platform::default()));
    }
}
