//! The engine: opening it, what it holds, and how its parts find each other.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use conex_layers::driver::{Driver, LayerId, choose};
use conex_runtime::cgroup::{Cgroup, Layout};
use conex_store::db::{Database, DbError, Durability};
use conex_store::lock::{FileLock, LockError};
use conex_store::records::containers;
use thiserror::Error as ThisError;
use tokio::sync::oneshot;

use crate::container::state::State;
use crate::container::{Container, KeptRoots, Record, Table};
use crate::disk::Root;
use crate::event::Events;
use crate::image::Images;
use crate::network::Networks;
use crate::registry::{Blobs, Remote};
use crate::volume::Volumes;
use crate::{Config, Error, RegistrySettings, container, process};

/// A running engine; clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// What everybody in the engine can reach.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) root: Root,
    pub(crate) id: String,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) events: Arc<Events>,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) networks: Networks,
    pub(crate) remote: Remote,
    pub(crate) containers: RwLock<Table>,
    pub(crate) kept_roots: KeptRoots,
    pub(crate) execs: crate::exec::Execs,
    pub(crate) cgroups: Layout,
    pub(crate) state_db: Database,
    pub(crate) executable: OwnedFd,
    pub(crate) own_oom_score: i32,
    /// One prune of containers at a time: two would tell of the same bytes.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    /// It is going: what ends now is not restarted by it.
    leaving: AtomicBool,
    _lock: FileLock,
}

/// Why an engine could not be opened.
#[derive(Debug, ThisError)]
pub enum OpenError {
    /// Another engine uses the data root.
    #[error("the data root is in use")]
    Locked(#[from] LockError),
    /// A directory could not be made or read.
    #[error("the data root cannot be used")]
    Root(#[from] io::Error),
    /// A database could not be opened.
    #[error("a database of the engine cannot be opened")]
    Database(#[from] DbError),
    /// No storage driver works here, or not the one asked for.
    #[error("error initializing graphdriver")]
    Driver(#[from] choose::ChooseError),
    /// The cgroup file systems are not understood.
    #[error("cgroups")]
    Cgroups(#[from] conex_runtime::cgroup::Error),
    /// The bridge that was named cannot be the default network's.
    #[error(
        "Error initializing network controller: error creating default \"bridge\" network: {0}"
    )]
    DefaultBridge(String),
    /// A file holds something else than what the engine writes.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Engine {
    /// Opens the engine of a data root: databases, images, and every container
    /// that runs or was left behind.
    ///
    /// Must be called within the runtime that will serve it.
    pub async fn open(config: Config) -> Result<Engine, OpenError> {
        // The modes of everything made here are meant as they are written;
        // resolv.conf must be readable whatever umask the caller has.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        process::bury_children()?;
        let inner = tokio::task::spawn_blocking(move || Inner::open(config))
            .await
            .map_err(io::Error::other)??;
        let inner = Arc::new(inner);
        let mut leftovers = inner.root.tmp_leftovers()?;
        leftovers.extend(inner.volumes.leftovers()?);
        inner.images.drop_unfinished(inner.driver.as_ref());
        container::restore::restore(&inner).await?;
        let worker = Arc::clone(&inner);
        tokio::task::spawn_blocking(move || worker.drop_layers_without_image())
            .await
            .map_err(io::Error::other)?;
        std::thread::Builder::new()
            .name("clear-tmp".into())
            .spawn(move || Root::delete_leftovers(&leftovers))?;
        Ok(Engine { inner })
    }

    /// The engine's id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Replaces what is said about registries; pulls and pushes under way go on as they began.
    pub fn set_registries(&self, settings: RegistrySettings) {
        self.inner.remote.replace(settings);
    }

    /// Containers that run or will be started again: an engine that started
    /// itself stays for them.
    pub fn busy_containers(&self) -> usize {
        let table = self.inner.table();
        let busy = |c: &&Arc<Container>| {
            let state = c.state();
            state.is_running() || state.status() == "restarting"
        };
        table.iter().filter(busy).count()
    }

    /// Stops every running container, each with its own signal and patience,
    /// and gives back what belongs to the engine alone.
    pub async fn shut_down(&self, stop_containers: bool) {
        self.inner.leaving.store(true, Ordering::Relaxed);
        if stop_containers {
            let all: Vec<_> = self.inner.table().iter().cloned().collect();
            let stops = all.iter().map(|container| self.stop_for_leaving(container));
            for result in futures_util::future::join_all(stops).await {
                if let Err(error) = result {
                    tracing::debug!(%error, "not stopped");
                }
            }
        }
        let nobody_runs = !self.inner.table().iter().any(|c| c.state().is_running());
        let inner = Arc::clone(&self.inner);
        if nobody_runs
            && let Err(error) = tokio::task::spawn_blocking(move || inner.networks.withdraw()).await
        {
            tracing::debug!(%error, "networks are left");
        }
        self.inner.remove_empty_cgroup();
    }
}

impl Inner {
    fn open(config: Config) -> Result<Inner, OpenError> {
        let root = Root::create(&config.data_root, &config.exec_root)?;
        let lock = FileLock::try_acquire(&root.lock())?;
        let id = engine_id(&root)?;
        let driver = choose::choose(root.data(), config.storage_driver.as_deref())?;
        let state_db = Database::open(
            &root.state_database(),
            Durability::Normal,
            containers::MIGRATIONS,
        )?;
        let images = Images::open(&root)?;
        let events = Arc::new(Events::new());
        let networks = Networks::open(&root, &id)?;
        let executable =
            conex_sys::memfd::seal_executable(&mut conex_sys::process::own_executable()?)?;
        let own_oom_score = std::fs::read_to_string("/proc/self/oom_score_adj")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Ok(Inner {
            driver: Arc::from(driver),
            volumes: Volumes::open(root.volumes(), Arc::clone(&events))?,
            events,
            images,
            networks,
            remote: Remote::new(&config, Blobs::open(&root.partial_blobs())?),
            containers: RwLock::default(),
            kept_roots: KeptRoots::default(),
            execs: crate::exec::Execs::default(),
            cgroups: Layout::detect()?,
            state_db,
            executable,
            own_oom_score,
            id,
            root,
            config,
            pruning: tokio::sync::Mutex::default(),
            leaving: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// All containers, for a short look.
    pub(crate) fn table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.containers
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All containers, for a short change.
    pub(crate) fn table_mut(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.containers
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Container>, Error> {
        self.table().find(name)
    }

    /// Whether the engine is going.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Runs a job on the container database and waits for its commit.
    pub(crate) async fn on_state_db<T: Send + 'static>(
        &self,
        doing: &str,
        job: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        self.state_db.submit(job, move |result| {
            let _caller_gone = done.send(result).is_err();
        });
        match result.await {
            Ok(result) => result.map_err(|e| Error::system(doing, &e)),
            Err(error) => Err(Error::system(doing, &error)),
        }
    }

    pub(crate) async fn save_state(&self, id: &str, state: &State) -> Result<(), Error> {
        let json = serde_json::to_string(state).map_err(|e| Error::system("save state", &e))?;
        let id = id.to_owned();
        self.on_state_db("save the container's state", move |db| {
            containers::update_state(db, &id, &json)
        })
        .await
        .map(drop)
    }

    /// The cgroup of a container, below every hierarchy's root.
    pub(crate) fn cgroup_path(&self, id: &str, parent: &str) -> String {
        let parent = parent.trim_matches('/');
        if parent.is_empty() {
            format!("{}/{id}", self.config.container_cgroup())
        } else {
            format!("/{parent}/{id}")
        }
    }

    /// Takes back what a monitor left that died: processes, cgroup, and links
    /// to a process id that is anybody's now. Says whether there was a cgroup.
    /// Blocks, for two seconds at most.
    pub(crate) fn clear_run(&self, record: &Record) -> bool {
        let _absent = std::fs::remove_file(container::merged_link(self, record)).is_err();
        let path = self.cgroup_path(&record.id, &record.host_config.cgroup_parent);
        let Ok(cgroup) = Cgroup::open(&self.cgroups, &path) else {
            return false;
        };
        if let Err(error) = cgroup.kill().and_then(|()| cgroup.remove()) {
            tracing::warn!(container = record.id, %error, "its cgroup is left");
        }
        true
    }

    /// Removes the directory above the containers' cgroups if none is left.
    fn remove_empty_cgroup(&self) {
        if let Ok(cgroup) = Cgroup::open(&self.cgroups, &self.config.container_cgroup()) {
            let children = cgroup
                .hierarchies()
                .iter()
                .filter_map(|(_, dir)| std::fs::read_dir(dir).ok())
                .flatten()
                .any(|entry| entry.is_ok_and(|e| e.file_type().is_ok_and(|t| t.is_dir())));
            if !children && let Err(error) = cgroup.remove() {
                tracing::debug!(%error, "the engine's cgroup is left");
            }
        }
    }

    pub(crate) fn layer_id(id: &str) -> LayerId {
        id.parse().expect("container ids are hexadecimal")
    }
}

fn engine_id(root: &Root) -> Result<String, OpenError> {
    use conex_store::persist;
    let path = root.data().join("engine-id");
    if let Ok(bytes) = persist::read_limited(&path, 256) {
        let id = String::from_utf8_lossy(&bytes).trim().to_owned();
        if !id.is_empty() {
            return Ok(id);
        }
    }
    let hex = crate::id::generate();
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    );
    persist::write_atomic(&path, id.as_bytes(), persist::Durability::Synced)
        .map_err(io::Error::other)?;
    Ok(id)
}
