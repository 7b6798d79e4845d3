//! `start`: mounts the root, builds the configuration, hands both to a new
//! monitor and waits for its word.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conex_layers::driver::Rootfs;
use conex_layers::overlay::{Access, Durability, OverlayOptions};
use conex_monitor::protocol::{self, Event, LogFile, StartRequest, Started, Stdin};
use conex_monitor::{ExitRecord, Link, LinkError};
use tokio::sync::oneshot;

use super::task::{Command, Monitored};
use super::{Container, Record, mount, spec};
use crate::engine::Inner;
use crate::network::{Attached, Outside, Plan, Sandbox, port, settings};
use crate::{Engine, Error, ErrorKind};

/// How long a monitor may take: its mounts may be on a slow network.
const START_PATIENCE: Duration = Duration::from_secs(120);

impl Engine {
    /// Starts a container. Errors: not modified when it runs already; invalid
    /// parameter when its program cannot be executed.
    pub async fn container_start(&self, name: &str) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Start(reply))?;
        super::stop::wait(answer, name).await
    }
}

/// A container that runs.
pub(super) struct Launched {
    pub(super) hello: Started,
    pub(super) monitored: Monitored,
    /// What it has of its networks; `None` where it shares another's.
    pub(super) sandbox: Option<Arc<Sandbox>>,
}

/// A container that does not.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) exit_code: i32,
}

impl From<Error> for Failed {
    /// Docker's code for everything that is not the program's fault.
    fn from(error: Error) -> Failed {
        Failed {
            error,
            exit_code: 128,
        }
    }
}

/// Starts a container's monitor and waits until the program runs.
pub(super) async fn launch(
    engine: &Arc<Inner>,
    container: &Arc<Container>,
    attachers: Vec<(protocol::Attach, OwnedFd)>,
) -> Result<Launched, Failed> {
    let engine = Arc::clone(engine);
    let container = Arc::clone(container);
    let (hello, link, pidfd, sandbox) =
        tokio::task::spawn_blocking(move || launch_blocking(&engine, &container, &attachers))
            .await
            .map_err(|e| Error::system("start container", &e))??;
    let monitored =
        Monitored::new(link, pidfd).map_err(|e| Error::system("watch the monitor", &e))?;
    Ok(Launched {
        hello,
        monitored,
        sandbox,
    })
}

/// What the monitor said, the link to it, the pidfd, and what the container has
/// of its networks.
type Begun = (Started, Link, OwnedFd, Option<Arc<Sandbox>>);

fn launch_blocking(
    engine: &Inner,
    container: &Container,
    attachers: &[(protocol::Attach, OwnedFd)],
) -> Result<Begun, Failed> {
    let current = container.current_record();
    let record = current.as_ref();
    mount::prepare(&record.mounts)?;
    engine.mount_volumes(record)?;
    if container.state().started_ns != 0 {
        engine.allow_again(record)?;
    }
    let root = match engine.shared_root(container)? {
        Some(root) => root,
        None => engine.mount_root(record, Access::ReadWrite)?,
    };
    let joined = engine.joined_namespaces(record)?;
    // Who shares a network namespace shares its names too.
    let namesake = match record.host_config.network_mode.strip_prefix("container:") {
        Some(word) => Some(engine.find(word)?),
        None => None,
    };
    let mut linked = Vec::new();
    // Given back whenever this function fails.
    let mut attached = None;
    let mut shared: Record;
    let (record, files) = match &namesake {
        Some(other) => {
            shared = record.clone();
            shared
                .config
                .hostname
                .clone_from(&other.record.config.hostname);
            shared
                .config
                .domainname
                .clone_from(&other.record.config.domainname);
            (&shared, &other.dir)
        }
        None => {
            let links = engine.links_of(record)?;
            let own = container.name();
            linked = links.iter().flat_map(|l| l.environment(&own)).collect();
            let given = attach(engine, container)?;
            let outside = engine.write_files(container, &given.sandbox, &links)?;
            open_resolver(engine, container, &given, outside)?;
            attached = Some(given);
            (record, &container.dir)
        }
    };
    let host = spec::Host {
        config: &engine.config,
        cgroup_path: engine.cgroup_path(&record.id, &record.host_config.cgroup_parent),
        unified: engine.cgroups.mode() == conex_runtime::cgroup::Mode::Unified,
        files,
        own_oom_score: engine.own_oom_score,
        joined,
        linked,
    };
    let spec = spec::build(&host, record, root.as_fd())?;
    prepare_run_dir(container)?;
    let listener = conex_monitor::listen(&container.run_dir)
        .map_err(|e| Error::system("listen in the run directory", &e))?;
    let namespace = attached.as_ref().and_then(|a| a.namespace.as_ref());
    if let Some(attached) = &attached {
        // Before there is a process: the next engine finds what it has.
        attached.sandbox.save(&container.run_dir)?;
    }

    let config = &record.config;
    let request = StartRequest {
        version: protocol::VERSION,
        id: record.id.clone(),
        spec,
        run_dir: container.run_dir.clone(),
        stdin: match (config.open_stdin, config.stdin_once) {
            (false, _) => Stdin::Closed,
            (true, false) => Stdin::Open,
            (true, true) => Stdin::Once,
        },
        init: engine.wants_init(record),
        log: log_file(record)?,
        attach: attachers.iter().map(|(wanted, _)| wanted.clone()).collect(),
        proc_links: proc_links(engine, record),
        network: namespace.is_some(),
    };
    let link = crate::process::spawn_monitor(&engine.executable, &record.id)
        .map_err(|e| Error::system("start the container's monitor", &e))?;
    let mut fds = vec![root.as_fd(), listener.as_fd()];
    fds.extend(namespace.map(AsFd::as_fd));
    fds.extend(attachers.iter().map(|(_, socket)| socket.as_fd()));
    let answered = link
        .set_patience(START_PATIENCE)
        .map_err(LinkError::from)
        .and_then(|()| link.send_start(&request, &fds))
        .and_then(|()| link.receive_event());
    let lost = |problem: Error| {
        // It was killed, or hangs: whatever it made goes with it.
        crate::process::kill_monitor(&record.id);
        engine.clear_run(record);
        Err(problem.into())
    };
    match answered {
        Ok((Event::Started(hello), mut fds)) => match fds.pop() {
            Some(pidfd) => {
                let sandbox = attached.map(|attached| Arc::new(attached.keep()));
                if let (Some(sandbox), Ok(process)) = (&sandbox, pidfd.try_clone()) {
                    engine.networks.watch(sandbox, process);
                }
                Ok((hello, link, pidfd, sandbox))
            }
            None => lost(Error::new(ErrorKind::System, "the monitor sent no pidfd")),
        },
        Ok((Event::Failed(failure), _)) => {
            let program = matches!(failure.exit_code, 126 | 127);
            let kind = if program {
                ErrorKind::InvalidParameter
            } else {
                ErrorKind::System
            };
            let text = format!(
                "failed to create task for container: OCI runtime create failed: unable to start \
                 container process: error during container init: {}",
                failure.message
            );
            Err(Failed {
                error: Error::new(kind, text),
                exit_code: failure.exit_code,
            })
        }
        Ok(_) => lost(Error::new(
            ErrorKind::System,
            "the monitor spoke out of turn",
        )),
        Err(error) => lost(Error::system("start the container: its monitor", &error)),
    }
}

/// Gives the container its place on its networks.
fn attach<'a>(engine: &'a Inner, container: &Container) -> Result<Attached<'a>, Error> {
    let record = &container.record;
    let mode = record.host_config.network_mode.as_str();
    let state = container.state();
    let mut asked: Vec<_> = settings::asked(record, &state).into_iter().collect();
    asked.sort_by_key(|(name, settings)| (name != mode, -settings.gw_priority));
    let name = container.name();
    engine.networks.attach(&Plan {
        record,
        name: &name,
        asked,
        ports: port::wanted(&record.config, &record.host_config)?,
    })
}

/// Puts a resolver into its namespace, if it is to have one.
fn open_resolver(
    engine: &Inner,
    container: &Container,
    attached: &Attached<'_>,
    outside: Outside,
) -> Result<(), Error> {
    let Some(namespace) = attached.namespace.as_ref() else {
        return Ok(());
    };
    let asked = settings::asked(&container.record, &container.state());
    let asked: Vec<_> = asked.into_iter().collect();
    match engine.networks.resolver(&attached.sandbox, &asked, outside) {
        Some(resolver) => engine.networks.resolve(resolver, namespace.as_fd()),
        None => Ok(()),
    }
}

/// Links into `/proc` that tools find the container by.
fn proc_links(engine: &Inner, record: &Record) -> Vec<(PathBuf, String)> {
    let mut links = vec![(engine.root.namespace_link(&record.id), "ns/net".into())];
    // With whole layers the root is where it always is.
    if engine.driver.kind().fills_in_any_order() {
        links.push((merged_link(engine, record), "root".into()));
    }
    links
}

/// The name tools know as `MergedDir`.
pub(crate) fn merged_link(engine: &Inner, record: &Record) -> PathBuf {
    engine
        .root
        .data()
        .join(&record.driver)
        .join(&record.id)
        .join("merged")
}

fn prepare_run_dir(container: &Container) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::system("make the run directory", &e);
    match std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&container.run_dir)
    {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(e)),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    match std::fs::remove_file(container.run_dir.join(ExitRecord::FILE)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    }
}

fn log_file(record: &Record) -> Result<Option<LogFile>, Error> {
    use conex_logs::driver::{Kind, Options};
    let Some(path) = &record.log_path else {
        return Ok(None);
    };
    let log = &record.host_config.log_config;
    let invalid = |e: &dyn std::error::Error| Error::invalid(e.to_string());
    let kind = Kind::from_name(&log.driver).map_err(|e| invalid(&e))?;
    let words = log.config.clone().unwrap_or_default().into_iter().collect();
    let mut options = Options::parse(kind, &words).map_err(|e| invalid(&e))?;
    options.attrs = super::logs::attributes(record, &options.selection);
    Ok(Some(LogFile {
        path: path.clone(),
        options,
    }))
}

impl Inner {
    /// A detached mount of a container's root. Blocks.
    pub(super) fn mount_root(&self, record: &Record, access: Access) -> Result<OwnedFd, Error> {
        let failed = |e: &dyn std::error::Error| Error::system("mount the container's root", e);
        let rootfs = self
            .driver
            .rootfs(&Inner::layer_id(&record.id))
            .map_err(|e| failed(&e))?;
        // A throw-away container's layer is never mounted a second time after
        // a crash, so it needs no sync at its unmounting.
        let durability = match record.host_config.auto_remove && access == Access::ReadWrite {
            true => Durability::Volatile,
            false => Durability::Synced,
        };
        rootfs
            .mount(OverlayOptions { durability, access })
            .map_err(|e| failed(&e))
    }

    /// A throw-away container that is restarted has its layer mounted a second time, after the
    /// first mount has ended in order.
    fn allow_again(&self, record: &Record) -> Result<(), Error> {
        let rootfs = self.driver.rootfs(&Inner::layer_id(&record.id));
        match rootfs {
            Ok(Rootfs::Overlay(recipe)) if record.host_config.auto_remove => recipe
                .forgive_volatile()
                .map_err(|e| Error::system("mount the container's root again", &e)),
            _ => Ok(()),
        }
    }

    /// Whether process 1 is an init: as asked, else as the engine is set up, and only in a pid
    /// namespace of the container's own.
    fn wants_init(&self, record: &Record) -> bool {
        let host = &record.host_config;
        matches!(host.pid_mode.as_str(), "" | "private") && host.init.unwrap_or(self.config.init)
    }

    /// Namespaces of other containers that this one shares.
    fn joined_namespaces(&self, record: &Record) -> Result<spec::Joined, Error> {
        let of = |mode: &str, kind: &str, what: &str| -> Result<Option<PathBuf>, Error> {
            let Some(word) = mode.strip_prefix("container:") else {
                return Ok(None);
            };
            let other = self.find(word)?;
            let state = other.state();
            if !state.is_running() {
                let id = other.id();
                return Err(Error::conflict(format!(
                    "cannot join {what} of a non running container: {id}"
                )));
            }
            if kind == "ns/ipc"
                && matches!(
                    other.record.host_config.ipc_mode.as_str(),
                    "private" | "none"
                )
            {
                return Err(Error::invalid(format!(
                    "container {word}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                     container)"
                )));
            }
            Ok(Some(PathBuf::from(format!("/proc/{}/{kind}", state.pid))))
        };
        let host = &record.host_config;
        Ok(spec::Joined {
            network: of(&host.network_mode, "ns/net", "network")?,
            pid: of(&host.pid_mode, "ns/pid", "PID")?,
            ipc: of(&host.ipc_mode, "ns/ipc", "IPC")?,
            shm: of(&host.ipc_mode, "root/dev/shm", "IPC")?,
        })
    }
}
