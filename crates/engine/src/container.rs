//! Containers: what one is in memory, and one file per verb.
//!
//! A container is an immutable [`Record`], a name, and a [`State`] that only
//! its task ([`task`]) moves. Readers take snapshots and never wait.

mod archive;
pub(crate) mod attach;
mod boot;
mod changes;
mod commit;
mod create;
mod etc;
mod export;
mod files;
mod health;
mod inspect;
mod kill;
pub(crate) mod link;
mod list;
pub(crate) mod logs;
mod merge;
mod mount;
mod pause;
mod probe;
mod prune;
mod remove;
mod rename;
pub(crate) mod restore;
mod spec;
mod start;
pub(crate) mod state;
mod stats;
mod stop;
pub(crate) mod storage;
mod table;
pub(crate) mod task;
mod top;
mod update;
mod validate;
mod volume;
mod wait;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use conex_api::container::{Config, HostConfig, MountPoint, NetworkingConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::event::Events;
pub(crate) use files::Kept as KeptRoots;
pub(crate) use spec::exec_process;
pub(crate) use start::merged_link;
pub(crate) use state::State;
pub(crate) use stop::wait as answered;
pub(crate) use table::Table;

/// What never changes about a container. Kept in `state.db` and, so that it
/// survives a lost database, as `config.json` in the container's directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// The name at creation; the current one is in the database.
    pub(crate) name: String,
    pub(crate) created_ns: i64,
    /// `sha256:…` of the image's config.
    pub(crate) image_id: String,
    /// The program: entrypoint and command merged.
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    pub(crate) config: Config,
    pub(crate) host_config: HostConfig,
    pub(crate) networking: NetworkingConfig,
    /// Binds and volumes, resolved.
    pub(crate) mounts: Vec<MountPoint>,
    /// By destination, of what volume only a part is mounted.
    #[serde(default)]
    pub(crate) subpaths: BTreeMap<String, String>,
    /// Names of anonymous volumes made for it, which go with it.
    pub(crate) anonymous_volumes: Vec<String>,
    /// Storage driver that holds its layer.
    pub(crate) driver: String,
    /// Where its json-file log is; `None` without one.
    pub(crate) log_path: Option<PathBuf>,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) record: Record,
    name: ArcSwap<String>,
    state: watch::Sender<Arc<State>>,
    commands: mpsc::UnboundedSender<task::Command>,
    /// Its root while it does not run and is written to.
    shared: files::Shared,
    /// `<data root>/containers/<id>`.
    pub(crate) dir: PathBuf,
    /// `<exec root>/containers/<id>`.
    pub(crate) run_dir: PathBuf,
}

impl Container {
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Without the leading slash.
    pub(crate) fn name(&self) -> Arc<String> {
        self.name.load_full()
    }

    /// A snapshot.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Follows the state from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    /// What the user asked of the host, with what was changed since the creation.
    pub(crate) fn host_config(&self) -> Cow<'_, HostConfig> {
        match &self.state.borrow().host_config {
            Some(changed) => Cow::Owned(HostConfig::clone(changed)),
            None => Cow::Borrowed(&self.record.host_config),
        }
    }

    /// The record, with what was changed since the creation.
    pub(crate) fn current_record(&self) -> Cow<'_, Record> {
        match self.host_config() {
            Cow::Borrowed(_) => Cow::Borrowed(&self.record),
            Cow::Owned(host_config) => Cow::Owned(Record {
                host_config,
                ..self.record.clone()
            }),
        }
    }

    /// Asks the owner; an error says that the container is gone.
    pub(crate) fn command(&self, command: task::Command) -> Result<(), crate::Error> {
        self.commands
            .send(command)
            .map_err(|_| crate::Error::no_container(self.id()))
    }

    /// Attributes that every event of the container carries.
    pub(crate) fn attributes(&self) -> std::collections::BTreeMap<String, String> {
        let mut all = self.record.config.labels.clone().unwrap_or_default();
        all.insert("image".into(), self.record.config.image.clone());
        all.insert("name".into(), self.name().as_ref().clone());
        all
    }

    pub(crate) fn publish(&self, events: &Events, action: &str, extra: &[(&str, String)]) {
        let mut attributes = self.attributes();
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        events.publish("container", action, self.id(), attributes);
    }
}
