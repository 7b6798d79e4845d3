//! An engine at the other end of ssh: `ssh` runs `conex system dial-stdio`
//! there, and its standard input and output are the connection.
//!
//! Keys, agents and the client's own settings are ssh's business. It asks
//! nothing on the terminal, which belongs to the command.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use tokio::net::UnixStream;

/// Runs on the other machine, in whatever shell is there.
const REMOTE: &str = "command -v conex >/dev/null 2>&1 && exec conex system dial-stdio; exec docker system dial-stdio";

/// A machine that ssh reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket there, if it is not the default.
    socket: Option<String>,
}

impl SshHost {
    /// Reads what follows `ssh://`: `[user@]host[:port][/path/of/socket]`.
    pub(crate) fn parse(rest: &str) -> Option<Self> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if rest
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "?#'\"\\".contains(c))
        {
            return None;
        }
        let (user, place) = match authority.rsplit_once('@') {
            // A password would be in every list of processes.
            Some((user, _)) if user.is_empty() || user.contains(':') => return None,
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    host,
                    after.strip_prefix(':').or(after.is_empty().then_some(""))?,
                )
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = match port {
            "" => None,
            port => Some(port.parse().ok()?),
        };
        // ssh would take such names for options.
        let is_option = |word: &str| word.starts_with('-');
        if host.is_empty() || is_option(host) || user.as_deref().is_some_and(is_option) {
            return None;
        }
        Some(Self {
            user,
            host: host.to_owned(),
            port,
            socket: Some(path.to_owned()).filter(|path| path.len() > 1),
        })
    }

    /// The words after `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]
            .map(str::to_owned)
            .into();
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["--".to_owned(), self.host.clone()]);
        words.push(match &self.socket {
            Some(path) => REMOTE.replace(" system", &format!(" --host 'unix://{path}' system")),
            None => REMOTE.to_owned(),
        });
        words
    }

    /// Starts ssh and gives our end of its standard streams.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = Pair::pair()?;
        let theirs = OwnedFd::from(theirs);
        Command::new("ssh")
            .args(self.arguments())
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs))
            // What the terminal sends to the command is not for ssh too.
            .process_group(0)
            // It ends with the connection, and is reaped with the command.
            .spawn()?;
        ours.set_nonblocking(true)?;
        UnixStream::from_std(ours)
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in [
            "box",
            "me@box",
            "me@box:22",
            "[::1]:22",
            "box/run/x.sock",
            "me@[::1]",
        ] {
            let host = SshHost::parse(text).unwrap();
            assert_eq!(host.to_string(), format!("ssh://{text}"));
        }
        for text in [
            "",
            "@box",
            "me:secret@box",
            "-oProxyCommand=x",
            "-x@box",
            "box:x",
            "a b",
            "box/'",
        ] {
            assert_eq!(SshHost::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_other_end_is_asked_for_the_socket_named() {
        let words = SshHost::parse("me@box:22/run/x.sock").unwrap().arguments();
        let text = words.join(" ");
        assert!(
            text.contains("-l me -p 22 -- box command -v conex"),
            "{text}"
        );
        assert!(
            text.contains("conex --host 'unix:///run/x.sock' system dial-stdio"),
            "{text}"
        );
        assert!(
            text.ends_with("docker --host 'unix:///run/x.sock' system dial-stdio"),
            "{text}"
        );
    }
}
