//! `kill`: a signal to the first process of a container, or to all.

use std::os::fd::AsFd;
use std::process::ExitCode;

use conex_spec::runtime::Status;
use rustix::io::Errno;

use super::record::Container;
use super::{Error, Given, Globals, Verb, flag, switch};

pub(super) const VERB: Verb = Verb {
    name: "kill",
    about: "send a signal (TERM) to a container",
    usage: "[--all] ID [SIGNAL]",
    flags: &[switch("all").short('a')],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let (id, signal) = match given.words.as_slice() {
        [id] => (id, libc::SIGTERM),
        [id, signal] => {
            let text = flag::text(signal)?;
            let number = number(text)
                .ok_or_else(|| Error::usage(format!("unable to parse signal {text:?}")))?;
            (id, number)
        }
        _ => return Err(Error::usage("an id and at most a signal are needed")),
    };
    let container = Container::open(globals, flag::text(id)?)?;
    if given.on("all")? {
        return kill_all(&container, signal);
    }
    let (_, pidfd) = container.process().ok_or(Error::NotRunning)?;
    if signal == libc::SIGKILL && !container.record.own_pids {
        // Without a pid namespace, nobody dies with the first process.
        return kill_all(&container, signal);
    }
    match conex_sys::process::pidfd_signal(pidfd.as_fd(), signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Err(Error::NotRunning),
        Err(e) => return Err(Error::io("signal container", &container.record.id, e)),
    }
    if signal == libc::SIGKILL && container.status()? == Status::Paused {
        // In a version 1 freezer even this signal waits for the thaw.
        thaw(&container)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn kill_all(container: &Container, signal: i32) -> Result<ExitCode, Error> {
    let Some(cgroup) = container.cgroup()? else {
        return Err(Error::NotRunning);
    };
    if signal == libc::SIGKILL {
        cgroup.kill()?;
        return Ok(ExitCode::SUCCESS);
    }
    for pid in cgroup.pids()? {
        match conex_sys::process::kill(pid, signal) {
            // It has ended since it was listed.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(Error::io("signal process", pid.to_string(), e)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn thaw(container: &Container) -> Result<(), Error> {
    match container.cgroup()? {
        Some(cgroup) => Ok(cgroup.thaw()?),
        None => Ok(()),
    }
}

/// A signal by number or by name, with or without `SIG`. Source: signal(7).
fn number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return (0..=RTMAX).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |text: &str| {
        text.parse::<i32>()
            .ok()
            .filter(|n| (0..=RTMAX - RTMIN).contains(n))
    };
    match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        "IOT" => Some(libc::SIGABRT),
        "POLL" => Some(libc::SIGIO),
        "CLD" => Some(libc::SIGCHLD),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(above), _) => offset(above).map(|n| RTMIN + n),
            (_, Some(below)) => offset(below).map(|n| RTMAX - n),
            _ => NAMES
                .iter()
                .position(|known| *known == name)
                .map(|at| at as i32 + 1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_and_by_number() {
        let cases = [
            ("TERM", Some(15)),
            ("SIGKILL", Some(9)),
            ("sighup", Some(1)),
            ("9", Some(9)),
            ("SYS", Some(31)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX-40", None),
            ("65", None),
            ("-1", None),
            ("FOO", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
