//! `system check`: what lies in the data root has to agree with what is
//! recorded. It tells, and with `repair` puts right what can be put right
//! without guessing: nothing that may be somebody's is deleted, it goes to
//! `lost`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use conex_api::check::{Finding, Report};
use conex_layers::driver::Kind;
use conex_store::records::containers;

use crate::engine::Inner;
use crate::{Engine, Error};

/// What the engine itself has in the data root. Everything else is a stranger.
const KNOWN: [&str; 15] = [
    "containers",
    "daemon.log",
    "engine-id",
    "image",
    "lock",
    "lost",
    // Of a file system that is the data root.
    "lost+found",
    "network",
    "state.db",
    "state.db-shm",
    "state.db-wal",
    "tmp",
    "volumes",
    "plugins",
    "trust",
];

/// A check under way.
#[derive(Debug, Default)]
pub(crate) struct Checkup {
    pub(crate) report: Report,
    repair: bool,
}

/// Whether what was found is to be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    Wanted,
    Not,
}

impl Checkup {
    pub(crate) fn found(
        &mut self,
        kind: &str,
        object: &str,
        path: impl AsRef<Path>,
        message: String,
    ) -> Repair {
        self.report.findings.push(Finding {
            kind: kind.into(),
            object: object.into(),
            path: path.as_ref().display().to_string(),
            message,
            ..Finding::default()
        });
        match self.repair {
            true => Repair::Wanted,
            false => Repair::Not,
        }
    }

    /// How the repair of the last finding ended.
    pub(crate) fn repaired(&mut self, is_done: bool) {
        if let Some(last) = self.report.findings.last_mut() {
            last.repaired = is_done;
        }
    }

    fn note(&mut self, kind: &str, object: &str, path: &Path, message: String) {
        self.found(kind, object, path, message);
        if let Some(last) = self.report.findings.last_mut() {
            last.note = true;
        }
    }
}

impl Engine {
    /// Checks the data root, and puts right what it may when `repair` is given.
    pub async fn check(&self, repair: bool) -> Result<Report, Error> {
        let engine = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || engine.check(repair))
            .await
            .map_err(|e| Error::system("check the data root", &e))?
    }
}

impl Inner {
    fn check(&self, repair: bool) -> Result<Report, Error> {
        let mut checkup = Checkup {
            repair,
            ..Checkup::default()
        };
        self.check_images(&mut checkup);
        self.check_containers(&mut checkup)?;
        self.check_layers(&mut checkup)?;
        self.check_root(&mut checkup)?;
        Ok(checkup.report)
    }

    /// Ids that are recorded, in memory or on the disk: the record of a
    /// container comes first and goes last.
    fn recorded_containers(&self) -> Result<BTreeSet<String>, Error> {
        let rows = self.state_db.run(containers::load_all);
        let rows = rows.map_err(|e| Error::system("read the records of containers", &e))?;
        let mut ids: BTreeSet<String> = rows.into_iter().map(|row| row.id).collect();
        ids.extend(self.table().iter().map(|c| c.id().to_owned()));
        Ok(ids)
    }

    fn check_containers(&self, checkup: &mut Checkup) -> Result<(), Error> {
        let there: Vec<String> = names_in(&self.root.containers())?;
        let known = self.recorded_containers()?;
        for name in there.iter().filter(|name| !known.contains(*name)) {
            let path = self.root.container(name);
            let sentence = "a container directory without a record".to_owned();
            let finding =
                checkup.found("container-directory-without-record", name, &path, sentence);
            if finding == Repair::Wanted {
                checkup.repaired(self.root.set_aside(&path).is_ok());
            }
        }
        // Only those that are shown: others are being made or removed.
        let shown: Vec<String> = self.table().iter().map(|c| c.id().to_owned()).collect();
        checkup.report.containers = shown.len() as u64;
        for id in shown {
            let is_gone = || self.table().iter().all(|c| c.id() != id);
            let directory = self.root.container(&id);
            if !directory.is_dir() && !is_gone() {
                let sentence = "its directory is gone: remove it".to_owned();
                checkup.found("container-without-directory", &id, &directory, sentence);
            }
            if self.driver.content(&Inner::layer_id(&id)).is_err() && !is_gone() {
                let sentence = "its layer is gone: remove it".to_owned();
                checkup.found("container-without-layer", &id, "", sentence);
            }
        }
        Ok(())
    }

    fn check_layers(&self, checkup: &mut Checkup) -> Result<(), Error> {
        let listed = self.driver.list();
        let listed = listed.map_err(|e| Error::system("list the layers", &e))?;
        // Read after the list: a record comes before its directory.
        let containers = self.recorded_containers()?;
        let layers = self.images.layer_directories();
        let home = self.root.data().join(self.driver.kind().name());
        for layer in listed {
            let name = layer.id.as_str();
            if containers.contains(name) || layers.contains(name) {
                continue;
            }
            let path = home.join(name);
            if layer.is_container {
                let sentence = "what a container wrote, without a record of it".to_owned();
                let finding =
                    checkup.found("container-layer-without-record", name, &path, sentence);
                if finding == Repair::Wanted {
                    checkup.repaired(self.root.set_aside(&path).is_ok());
                }
            } else {
                let sentence = "a layer without a record".to_owned();
                let finding = checkup.found("layer-without-record", name, &path, sentence);
                if finding == Repair::Wanted {
                    checkup.repaired(self.drop_strange_layer(&layer.id));
                }
            }
        }
        Ok(())
    }

    fn check_root(&self, checkup: &mut Checkup) -> Result<(), Error> {
        let drivers = Kind::ALL.map(Kind::name);
        for name in names_in(self.root.data())? {
            let path = self.root.data().join(&name);
            if drivers.contains(&name.as_str()) {
                let own = self.driver.kind().name() == name;
                let layers = names_in(&path)?;
                if !own && layers.iter().any(|layer| !layer.starts_with('.')) {
                    let sentence = "layers of a storage driver that is not in use".to_owned();
                    checkup.note("other-driver", &name, &path, sentence);
                }
            } else if !KNOWN.contains(&name.as_str()) {
                let sentence = "nothing of this engine's".to_owned();
                checkup.found("stranger", &name, &path, sentence);
            }
        }
        let lost = self.root.data().join("lost");
        for name in names_in(&lost)? {
            let sentence = "kept for its owner; delete it when nobody needs it".to_owned();
            checkup.note("lost", &name, &lost.join(&name), sentence);
        }
        Ok(())
    }
}

fn names_in(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |e: std::io::Error| Error::system("look through the data root", &e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
