//! `exec`: one more process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conex_spec::runtime::{Capabilities, MAX_CONFIG_BYTES, Process, Spec, Status};
use rustix::fs::{Mode, OFlags};

use super::create::{Inherited, check_terminal, end, receive_terminal, stdio};
use super::foreground::{Foreground, exit_code};
use super::record::{Container, write_atomically};
use super::{Error, Flag, Given, Globals, Verb, bundle, flag, home, seal, switch, value};
use crate::launch::exec::{Exec, Target};
use crate::user;

pub(super) const VERB: Verb = Verb {
    name: "exec",
    about: "run one more process in a container",
    usage: "[-t] [-d] [--cwd DIR] [-e VAR] [-u USER] [-p FILE] ID [COMMAND…]",
    flags: &FLAGS,
    run,
};

const FLAGS: [Flag; 15] = [
    value("console-socket"),
    value("pid-file"),
    value("process").short('p'),
    switch("tty").short('t'),
    value("cwd"),
    value("env").short('e'),
    value("user").short('u'),
    value("additional-gids").short('g'),
    switch("detach").short('d'),
    value("cap").short('c'),
    switch("no-new-privs"),
    value("apparmor"),
    value("process-label"),
    value("preserve-fds"),
    switch("ignore-paused"),
];

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    seal::ensure()?;
    let inherited = Inherited::take(given.number("preserve-fds")?.unwrap_or(0))?;
    let Some((id, command)) = given.words.split_first() else {
        return Err(Error::usage("the container's id is needed"));
    };
    let container = Container::open(globals, flag::text(id)?)?;
    match container.status()? {
        Status::Stopped => {
            return Err(Error::State("cannot exec in a stopped container".into()));
        }
        Status::Paused if !given.on("ignore-paused")? => {
            return Err(Error::State(
                "cannot exec in a paused container (use --ignore-paused)".into(),
            ));
        }
        status @ Status::Creating => {
            return Err(Error::cannot("exec in", &container.record.id, status));
        }
        _ => {}
    }
    let command = command
        .iter()
        .map(|word| flag::text(word).map(str::to_owned));
    let command = command.collect::<Result<Vec<_>, _>>()?;
    let (pid, pidfd) = container.process().ok_or(Error::NotRunning)?;
    let spec = container.spec()?;
    let mut process = process(given, &spec, command, pid)?;
    home::add(&mut process, root_of(pid)?.as_fd());
    let (detach, socket) = (given.on("detach")?, given.path("console-socket")?);
    check_terminal(process.terminal, detach, socket.as_deref())?;
    let foreground = if detach {
        None
    } else {
        Some(Foreground::prepare()?)
    };
    let (stdio, ours) = stdio(process.terminal, socket.as_deref())?;
    let cgroup = container.cgroup()?;
    let exec = Exec {
        container: Target {
            pid,
            pidfd: pidfd.as_fd(),
        },
        process: &process,
        seccomp: spec.linux.as_ref().and_then(|l| l.seccomp.as_ref()),
        stdio,
        cgroup: cgroup.as_ref(),
        preserve_fds: inherited.count(),
    };
    let mut launched = exec.spawn()?;
    let settled = launched.settle().map_err(Error::from).and_then(|()| {
        if let Some(path) = given.path("pid-file")? {
            write_atomically(&path, launched.pid().to_string().as_bytes(), 0o644)?;
        }
        ours.map(|socket| receive_terminal(socket.as_fd()))
            .transpose()
    });
    for warning in &launched.warnings {
        globals.log.warn(warning);
    }
    let terminal = settled.inspect_err(|_| end(&launched))?;
    match foreground {
        Some(foreground) => foreground
            .wait(launched.into_pidfd(), terminal)
            .map(exit_code),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What to run: a file says it, or the container's own process with changes.
fn process(given: &Given, spec: &Spec, command: Vec<String>, pid: i32) -> Result<Process, Error> {
    let base = spec.process.clone().unwrap_or_default();
    if let Some(path) = given.path("process")? {
        return read_process(&path, base);
    }
    let mut process = Process {
        args: command,
        terminal: given.on("tty")?,
        ..base
    };
    if process.args.is_empty() {
        return Err(Error::usage("a command, or --process, is needed"));
    }
    process.console_size = None;
    if let Some(cwd) = given.value("cwd") {
        process.cwd = PathBuf::from(cwd);
    }
    for variable in given.texts("env")? {
        set_variable(&mut process.env, variable);
    }
    if let Some(text) = given.text("user")? {
        set_user(&mut process, text, pid)?;
    }
    for gid in given.texts("additional-gids")? {
        let gid = gid
            .parse()
            .map_err(|_| Error::usage(format!("invalid group id {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    let capabilities = given.texts("cap")?;
    if !capabilities.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &capabilities);
    }
    if given.value("no-new-privs").is_some() {
        process.no_new_privileges = given.on("no-new-privs")?;
    }
    if let Some(profile) = given.text("apparmor")? {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = given.text("process-label")? {
        process.selinux_label = Some(label.to_owned());
    }
    process.validate().map_err(|source| Error::Spec {
        path: "exec".into(),
        source,
    })?;
    Ok(process)
}

/// What the file leaves out is as in the container, as runc has it.
fn read_process(path: &Path, base: Process) -> Result<Process, Error> {
    let bytes = bundle::read(path, MAX_CONFIG_BYTES as u64 + 1)?;
    let mut process = Process::load(&bytes).map_err(|source| Error::Spec {
        path: path.to_owned(),
        source,
    })?;
    process.capabilities = process.capabilities.or(base.capabilities);
    process.apparmor_profile = process.apparmor_profile.or(base.apparmor_profile);
    process.selinux_label = process.selinux_label.or(base.selinux_label);
    process.oom_score_adj = process.oom_score_adj.or(base.oom_score_adj);
    if process.rlimits.is_empty() {
        process.rlimits = base.rlimits;
    }
    Ok(process)
}

/// The first of two would count for some programs, the last for others.
fn set_variable(env: &mut Vec<String>, variable: String) {
    let name = variable.split('=').next().unwrap_or_default();
    env.retain(|other| other.split('=').next() != Some(name));
    env.push(variable);
}

/// Numbers as they are; names from the container's own files.
fn set_user(process: &mut Process, text: &str, pid: i32) -> Result<(), Error> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    let user = &mut process.user;
    if let Ok(uid) = uid.parse()
        && (gid.is_empty() || gid.parse::<u32>().is_ok())
    {
        user.uid = uid;
        user.gid = gid.parse().unwrap_or(user.gid);
        return Ok(());
    }
    let root = root_of(pid)?;
    let found = user::resolve(root.as_fd(), text, &[]).map_err(|e| Error::usage(e.to_string()))?;
    user.uid = found.uid;
    user.gid = found.gid;
    user.additional_gids = found.supplementary;
    Ok(())
}

/// The container's files.
fn root_of(pid: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| Error::io("open", &path, e))
}

fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        for name in names {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_replaces_the_one_of_its_name() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned(), "A=3".to_owned()];
        set_variable(&mut env, "A=4".into());
        assert_eq!(env, ["AB=2", "A=4"]);
    }

    #[test]
    fn an_added_capability_is_effective_but_not_inherited() {
        let mut sets = Capabilities {
            bounding: vec!["CAP_KILL".into()],
            ..Capabilities::default()
        };
        add_capabilities(&mut sets, &["CAP_KILL".to_owned(), "CAP_CHOWN".to_owned()]);
        assert_eq!(sets.bounding, ["CAP_KILL", "CAP_CHOWN"]);
        assert_eq!(sets.effective, sets.permitted);
        assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
    }
}
