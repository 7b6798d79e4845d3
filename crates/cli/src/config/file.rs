//! `config.json` as a whole: what others wrote into it stays when one setting changes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::error::CliError;

/// The file, read.
pub(crate) struct File {
    path: PathBuf,
    root: Map<String, Value>,
}

impl File {
    pub(crate) fn open(directory: &Path) -> Result<Self, CliError> {
        let path = directory.join("config.json");
        let broken = |problem: &dyn std::fmt::Display| {
            CliError::message(format!("{}: {problem}", path.display()))
        };
        let root = match fs::read(&path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| broken(&e))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(broken(&error)),
        };
        Ok(Self { path, root })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// The credentials by registry.
    pub(crate) fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self
            .root
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        auths.as_object_mut().expect("it was made an object")
    }

    /// The same, to be changed.
    pub(crate) fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    /// Replaces the file at once; the file a link leads to, if it is one.
    /// `what` changed is for the error's text.
    pub(crate) fn save(&self, what: &str) -> Result<(), CliError> {
        let failed = |e: io::Error| {
            CliError::message(format!("Error saving {what}: {}: {e}", self.path.display()))
        };
        let mut bytes = Vec::new();
        let mut serializer =
            Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"\t"));
        self.root
            .serialize(&mut serializer)
            .map_err(|e| failed(e.into()))?;
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = target.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let draft = directory.join(format!(".config.json.{}", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&draft, &target));
        written.map_err(|error| {
            fs::remove_file(&draft).ok();
            failed(error)
        })
    }
}
