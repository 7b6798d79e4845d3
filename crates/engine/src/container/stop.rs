//! `stop` and `restart`: a signal, patience, then SIGKILL.

use std::time::Duration;

use conex_api::container::StopOptions;
use tokio::sync::oneshot;

use super::Container;
use super::task::{Cause, Command};
use crate::{Engine, Error, ErrorKind};

impl Engine {
    /// Stops a container: its stop signal, then SIGKILL after the timeout.
    ///
    /// The order of precedence is the request, the container, the engine; a
    /// negative timeout waits for ever. Errors: not modified when it does not
    /// run. Goes on when the caller goes away (COMPAT D1.15).
    pub async fn container_stop(&self, name: &str, options: StopOptions) -> Result<(), Error> {
        self.stop_for(Cause::User, name, options).await
    }

    async fn stop_for(&self, cause: Cause, name: &str, options: StopOptions) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let config = &container.record.config;
        let signal = match options.signal.as_deref().filter(|s| !s.is_empty()) {
            Some(word) => signal_of(word)?,
            None => signal_of(&config.stop_signal)?,
        };
        let seconds = options
            .timeout_seconds
            .or(config.stop_timeout)
            .unwrap_or(self.inner.config.stop_timeout_seconds);
        let timeout = u64::try_from(seconds).ok().map(Duration::from_secs);
        let (reply, answer) = oneshot::channel();
        container.command(Command::Stop {
            signal,
            timeout,
            cause,
            reply,
        })?;
        wait(answer, name).await
    }

    /// Stops a container because the engine goes: its policy may start it
    /// again when the engine is back.
    pub(crate) async fn stop_for_leaving(&self, container: &Container) -> Result<(), Error> {
        let config = &container.record.config;
        let signal = signal_of(&config.stop_signal).unwrap_or(libc::SIGTERM);
        let seconds = config
            .stop_timeout
            .unwrap_or(self.inner.config.stop_timeout_seconds);
        let timeout = u64::try_from(seconds).ok().map(Duration::from_secs);
        let (reply, answer) = oneshot::channel();
        container.command(Command::Stop {
            signal,
            timeout,
            cause: Cause::EngineLeaves,
            reply,
        })?;
        wait(answer, container.id()).await
    }

    /// Stops a container if it runs, and starts it; one that its end would remove is kept.
    pub async fn container_restart(&self, name: &str, options: StopOptions) -> Result<(), Error> {
        match self.stop_for(Cause::Restart, name, options).await {
            Err(error) if error.kind() != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        self.container_start(name).await?;
        let container = self.inner.find(name)?;
        container.publish(&self.inner.events, "restart", &[]);
        Ok(())
    }
}

/// An owner that went away took its container with it.
pub(crate) async fn wait(
    answer: oneshot::Receiver<Result<(), Error>>,
    name: &str,
) -> Result<(), Error> {
    answer
        .await
        .unwrap_or_else(|_| Err(Error::no_container(name)))
}

/// A signal by number or by name, with or without `SIG`; SIGTERM when empty.
pub(super) fn signal_of(word: &str) -> Result<i32, Error> {
    if word.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let invalid = || Error::invalid(format!("invalid signal: {word}"));
    if let Ok(number) = word.parse::<i32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(invalid())
        };
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals as glibc counts them: the first two are its own.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let offset = |text: &str| text.parse::<i32>().ok();
    let number = if name == "RTMIN" {
        Some(RTMIN)
    } else if name == "RTMAX" {
        Some(RTMAX)
    } else if let Some(n) = name.strip_prefix("RTMIN+").and_then(offset) {
        Some(RTMIN + n)
    } else if let Some(n) = name.strip_prefix("RTMAX-").and_then(offset) {
        Some(RTMAX - n)
    } else {
        SIGNALS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| *number)
    };
    number
        .filter(|n| (1..=RTMAX).contains(n))
        .ok_or_else(invalid)
}

/// signal(7).
const SIGNALS: [(&str, i32); 35] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGIOT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGPOLL),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("UNUSED", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::signal_of;

    #[test]
    fn signals_are_understood_in_every_spelling() {
        let cases = [
            ("", 15),
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN+1", 35),
            ("SIGRTMAX-2", 62),
            ("64", 64),
        ];
        for (word, number) in cases {
            assert_eq!(signal_of(word).unwrap(), number, "{word}");
        }
        for bad in ["NOPE", "0", "65", "-1", "RTMIN+31", "SIG"] {
            assert_eq!(
                signal_of(bad).unwrap_err().to_string(),
                format!("invalid signal: {bad}")
            );
        }
    }
}
