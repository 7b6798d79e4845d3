//! `create`: everything but the program, which waits for `start`. `run` and
//! `create` share what is here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conex_spec::runtime::{DeviceCgroup, DeviceKind, Resources, Spec, Status};
use rustix::net::SocketType;

use super::record::{Container, Record, connect_to, write_atomically};
use super::{Error, Flag, Given, Globals, Verb, bundle, home, seal, switch, value};
use crate::cgroup::{self, Cgroup, Layout};
use crate::launch::{Extras, Launch, Launched, Start, Stdio, root_from_path};

pub(super) const VERB: Verb = Verb {
    name: "create",
    about: "create a container",
    usage: "[-b BUNDLE] [--console-socket PATH] [--pid-file PATH] ID",
    flags: &FLAGS,
    run,
};

pub(super) const FLAGS: [Flag; 6] = [
    value("bundle").short('b'),
    value("console-socket"),
    value("pid-file"),
    value("preserve-fds"),
    switch("no-pivot"),
    switch("no-new-keyring"),
];

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    seal::ensure()?;
    create(globals, &Wanted::read(given, When::Later, true)?)?;
    Ok(ExitCode::SUCCESS)
}

/// When the program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    Later,
}

/// What the command line asks.
#[derive(Debug)]
pub(super) struct Wanted {
    id: String,
    bundle: PathBuf,
    pub(super) spec: Spec,
    config: Vec<u8>,
    when: When,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    inherited: Inherited,
    keep_keyring: bool,
    no_pivot: bool,
}

impl Wanted {
    pub(super) fn read(given: &Given, when: When, detach: bool) -> Result<Wanted, Error> {
        let id = given.id()?.to_owned();
        super::record::check_id(&id)?;
        let inherited = Inherited::take(given.number("preserve-fds")?.unwrap_or(0))?;
        // Before the working directory changes, as all of them count from it.
        let (console_socket, pid_file) = (given.path("console-socket")?, given.path("pid-file")?);
        let (bundle, mut spec, config) = bundle::enter(given)?;
        inherited.announce(&mut spec);
        let has_start_hooks = spec
            .hooks
            .as_ref()
            .is_some_and(|h| !h.start_container.is_empty());
        let wanted = Wanted {
            id,
            bundle,
            spec,
            config,
            when: if has_start_hooks { When::Later } else { when },
            console_socket,
            pid_file,
            inherited,
            keep_keyring: given.on("no-new-keyring")?,
            no_pivot: given.on("no-pivot")?,
        };
        check_terminal(wanted.terminal(), detach, wanted.console_socket.as_deref())?;
        Ok(wanted)
    }

    fn terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|p| p.terminal)
    }
}

/// A terminal of a container needs somebody who holds its other end.
pub(super) fn check_terminal(
    terminal: bool,
    detach: bool,
    socket: Option<&Path>,
) -> Result<(), Error> {
    match socket {
        None if terminal && detach => Err(Error::usage(
            "cannot allocate tty if the runtime will detach without setting console socket",
        )),
        Some(_) if !terminal || !detach => Err(Error::usage(
            "cannot use console socket if the runtime will not detach or allocate tty",
        )),
        _ => Ok(()),
    }
}

/// Descriptors from 3 on that the program is to have. Held so that no other
/// one gets their numbers.
#[derive(Debug)]
pub(super) struct Inherited {
    held: Vec<OwnedFd>,
    listening: u32,
}

impl Inherited {
    /// Those of socket activation (sd_listen_fds(3)) and as many more as asked.
    pub(super) fn take(preserve: u32) -> Result<Inherited, Error> {
        let variable = |name| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse::<u32>().ok())
        };
        let listening = match variable("LISTEN_PID") {
            Some(pid) if pid == std::process::id() => variable("LISTEN_FDS").unwrap_or(0),
            _ => 0,
        };
        let count = listening.saturating_add(preserve).min(1 << 16);
        let held = (3..3 + count as i32).map(|number| {
            conex_sys::socket::inherited(number)
                .map_err(|e| Error::io("preserve descriptor", format!("/proc/self/fd/{number}"), e))
        });
        Ok(Inherited {
            held: held.collect::<Result<_, _>>()?,
            listening,
        })
    }

    pub(super) fn count(&self) -> u32 {
        self.held.len() as u32
    }

    /// Tells the program of its sockets.
    fn announce(&self, spec: &mut Spec) {
        if let (true, Some(process)) = (self.listening > 0, &mut spec.process) {
            process.env.push(format!("LISTEN_FDS={}", self.listening));
            process.env.push("LISTEN_PID=1".into());
        }
    }
}

/// A container that was made.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) container: Container,
    pub(super) launched: Launched,
    /// The master of its terminal, unless it went to a console socket.
    pub(super) terminal: Option<OwnedFd>,
    /// Whether its program waits for `start`.
    pub(super) when: When,
}

/// Makes a container. On a failure nothing is left of it.
pub(super) fn create(globals: &Globals, wanted: &Wanted) -> Result<Created, Error> {
    if wanted.no_pivot {
        globals
            .log
            .warn("--no-pivot is ignored: the root is always changed by pivot_root");
    }
    let mut record = Record::new(&wanted.id, wanted.bundle.clone(), &wanted.spec);
    let layout = match Layout::detect() {
        Ok(layout) => Some(layout),
        Err(cgroup::Error::NotMounted) => {
            globals
                .log
                .warn("no cgroup hierarchy is mounted: nothing is limited");
            None
        }
        Err(error) => return Err(error.into()),
    };
    record.cgroup = layout
        .as_ref()
        .map(|_| cgroup_path(&wanted.id, &wanted.spec));
    record.preserve_fds = wanted.inherited.count();
    let mut container = Container::create(globals, record, &wanted.config)?;
    let mut cgroup = None;
    let made = make_cgroup(globals, &container, layout.as_ref(), wanted).and_then(|made| {
        launch(
            globals,
            &mut container,
            cgroup.insert(made).as_ref(),
            wanted,
        )
    });
    match made {
        Ok((launched, terminal)) => Ok(Created {
            container,
            launched,
            terminal,
            when: wanted.when,
        }),
        Err(error) => {
            clean_up(globals, &container, cgroup.flatten());
            Err(error)
        }
    }
}

fn clean_up(globals: &Globals, container: &Container, cgroup: Option<Cgroup>) {
    if let Some(cgroup) = cgroup {
        let removed = cgroup.kill().and_then(|()| cgroup.remove());
        removed.unwrap_or_else(|error| globals.log.warn(&Error::from(error).report()));
    }
    container
        .forget()
        .unwrap_or_else(|error| globals.log.warn(&error.report()));
}

fn launch(
    globals: &Globals,
    container: &mut Container,
    cgroup: Option<&Cgroup>,
    wanted: &Wanted,
) -> Result<(Launched, Option<OwnedFd>), Error> {
    let root = wanted.spec.root.as_ref().map(|root| root.path.as_path());
    let root = root_from_path(root.unwrap_or(Path::new("rootfs")))?;
    let start = match wanted.when {
        When::Now => Start::Now,
        When::Later => Start::OnConnection(container.listen()?),
    };
    let (stdio, ours) = stdio(wanted.terminal(), wanted.console_socket.as_deref())?;
    let state = container.state(Status::Creating);
    let extras = Extras {
        state: Some(&state),
        preserve_fds: wanted.inherited.count(),
        keep_keyring: wanted.keep_keyring,
    };
    let mut spec = wanted.spec.clone();
    if let Some(process) = &mut spec.process {
        home::add(process, root.as_fd());
    }
    let launch = Launch {
        spec: &spec,
        root,
        stdio,
        cgroup,
        start,
        init: None,
    };
    let mut launched = launch.spawn_with(&extras)?;
    let finished = finish(globals, container, &mut launched, ours, wanted);
    if finished.is_err() {
        end(&launched);
    }
    Ok((launched, finished?))
}

/// From the clone to a container that others may know of.
fn finish(
    globals: &Globals,
    container: &mut Container,
    launched: &mut Launched,
    ours: Option<OwnedFd>,
    wanted: &Wanted,
) -> Result<Option<OwnedFd>, Error> {
    let pid = launched.pid();
    container.set_process(pid);
    container.record.steps = launched.steps();
    if wanted.when == When::Now {
        // It may be gone a moment after it has started.
        container.save()?;
    }
    launched.settle()?;
    for warning in &launched.warnings {
        globals.log.warn(warning);
    }
    if wanted.when == When::Later {
        container.save()?;
    }
    if let Some(path) = &wanted.pid_file {
        write_atomically(path, pid.to_string().as_bytes(), 0o644)?;
    }
    globals
        .log
        .debug(&format!("container {} is process {pid}", wanted.id));
    ours.map(|socket| receive_terminal(socket.as_fd()))
        .transpose()
}

/// Ends and reaps a process that must not go on.
pub(super) fn end(launched: &Launched) {
    // It may have ended by itself, and then only waits to be reaped.
    conex_sys::process::pidfd_signal(launched.pidfd(), libc::SIGKILL).ok();
    launched.wait().ok();
}

/// The streams of a process, and where its terminal arrives if it is ours.
pub(super) fn stdio(
    terminal: bool,
    console_socket: Option<&Path>,
) -> Result<(Stdio, Option<OwnedFd>), Error> {
    match console_socket {
        _ if !terminal => Ok((Stdio::Inherit, None)),
        Some(path) => Ok((Stdio::Console(connect_to(path)?), None)),
        None => {
            let (ours, theirs) = conex_sys::socket::pair(SocketType::SEQPACKET)
                .map_err(|e| Error::io("make a socket for", "the console", e))?;
            Ok((Stdio::Console(theirs), Some(ours)))
        }
    }
}

/// Takes the master that the process sent.
pub(super) fn receive_terminal(socket: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let failed = |e: std::io::Error| Error::io("receive", "the console", e);
    let (_, mut fds) =
        conex_sys::socket::receive(socket, &mut [0; 16]).map_err(|e| failed(e.into()))?;
    fds.pop()
        .ok_or_else(|| failed(std::io::ErrorKind::UnexpectedEof.into()))
}

fn make_cgroup(
    globals: &Globals,
    container: &Container,
    layout: Option<&Layout>,
    wanted: &Wanted,
) -> Result<Option<Cgroup>, Error> {
    let (Some(layout), Some(path)) = (layout, &container.record.cgroup) else {
        return Ok(None);
    };
    let asked = wanted.spec.linux.as_ref().and_then(|l| l.resources.clone());
    let resources = with_default_devices(asked.unwrap_or_default());
    let (cgroup, warnings) = Cgroup::create(layout, path, &resources)?;
    for warning in warnings {
        globals.log.warn(&warning);
    }
    Ok(Some(cgroup))
}

/// Where in the hierarchies: as the configuration says, else by the id.
fn cgroup_path(id: &str, spec: &Spec) -> String {
    match spec.linux.as_ref().and_then(|l| l.cgroups_path.as_deref()) {
        None => format!("/{id}"),
        // systemd's form, as the unit it would make.
        Some(path) if path.matches(':').count() == 2 && !path.starts_with('/') => {
            let mut parts = path.splitn(3, ':');
            let mut part = || parts.next().unwrap_or_default();
            let (slice, prefix, name) = (part(), part(), part());
            let slice = if slice.is_empty() {
                "system.slice"
            } else {
                slice
            };
            if name.ends_with(".slice") {
                format!("/{slice}/{name}")
            } else {
                format!("/{slice}/{prefix}-{name}.scope")
            }
        }
        Some(path) => path.to_owned(),
    }
}

/// Nothing but what is listed, and always the devices every container has.
/// Source: runtime-spec, "Default Devices"; runc adds terminals.
fn with_default_devices(mut resources: Resources) -> Resources {
    let rule = |allow, kind, major, minor, access: &str| DeviceCgroup {
        allow,
        kind,
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let default = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    let mut rules = vec![rule(false, None, None, None, "rwm")];
    rules.append(&mut resources.devices);
    let char = Some(DeviceKind::Char);
    rules.extend(default.map(|(major, minor)| rule(true, char, Some(major), Some(minor), "rwm")));
    rules.push(rule(true, char, Some(136), None, "rwm"));
    rules.push(rule(true, char, None, None, "m"));
    rules.push(rule(true, Some(DeviceKind::Block), None, None, "m"));
    resources.devices = rules;
    resources
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_spec::runtime::Linux;

    #[test]
    fn a_cgroup_is_named_by_path_by_unit_or_by_id() {
        let path = |text: Option<&str>| {
            let linux = Linux {
                cgroups_path: text.map(str::to_owned),
                ..Linux::default()
            };
            cgroup_path(
                "c1",
                &Spec {
                    linux: Some(linux),
                    ..Spec::default()
                },
            )
        };
        assert_eq!(path(None), "/c1");
        assert_eq!(path(Some("/pod/c1")), "/pod/c1");
        assert_eq!(
            path(Some("user.slice:podman:c1")),
            "/user.slice/podman-c1.scope"
        );
        assert_eq!(path(Some(":cri:c1")), "/system.slice/cri-c1.scope");
    }

    #[test]
    fn devices_are_denied_before_the_asked_and_the_default_ones_are_allowed() {
        let asked = DeviceCgroup {
            allow: true,
            major: Some(10),
            minor: Some(229),
            kind: Some(DeviceKind::Char),
            access: Some("rw".into()),
        };
        let rules = with_default_devices(Resources {
            devices: vec![asked.clone()],
            ..Resources::default()
        })
        .devices;
        assert!(!rules[0].allow && rules[0].kind.is_none());
        assert_eq!(rules[1], asked);
        assert!(rules[2..].iter().all(|rule| rule.allow));
    }

    #[test]
    fn a_terminal_needs_a_holder() {
        let socket = Some(Path::new("/s"));
        check_terminal(true, true, socket).unwrap();
        check_terminal(true, false, None).unwrap();
        check_terminal(false, true, None).unwrap();
        assert!(check_terminal(true, true, None).is_err());
        assert!(check_terminal(true, false, socket).is_err());
        assert!(check_terminal(false, true, socket).is_err());
    }
}
