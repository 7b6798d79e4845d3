//! Where clients come in: UNIX sockets, TCP, sockets handed over by the service manager.
//! Knows nothing of HTTP, and of TLS only who is to be asked for it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::connection::Newcomer;
use crate::tls::{Tls, TlsError};

/// The first descriptor a service manager hands over (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

/// Descriptors taken from a service manager at most.
const MAX_INHERITED: i32 = 64;

/// Port of `tcp://` without one.
const DEFAULT_TCP_PORT: u16 = 2375;

/// How often a silent client is asked whether it is there, as Go's servers do.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Groups a socket is given to when none is named, the first that exists.
const DEFAULT_GROUPS: [&str; 2] = ["docker", "conex"];

/// A place where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// A UNIX socket, mode 0660.
    Unix {
        /// Its path; missing parent directories are made.
        path: PathBuf,
        /// Name or number of the group that may connect; `None` is `docker` or `conex` if there is one.
        group: Option<String>,
    },
    /// TCP, `host:port`, under TLS if the engine has certificates. Whoever is let in is root on this host.
    Tcp(String),
    /// Every socket handed over by the service manager.
    Inherited,
}

/// A text that names no listener.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseListenerError {
    /// No known scheme before `://`.
    #[error("invalid bind address {0:?}: must begin with unix://, tcp:// or fd://")]
    Scheme(String),
    /// No absolute path after `unix://`.
    #[error("invalid bind address {0:?}: the path must be absolute")]
    Path(String),
    /// No `host:port` after `tcp://`.
    #[error("invalid bind address {0:?}: expected host:port")]
    Address(String),
}

/// Why a listener cannot be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The certificates cannot be used.
    #[error("invalid TLS configuration")]
    Tls(#[from] TlsError),
    /// Another process answers at that path.
    #[error("{} is already served by another process", .0.display())]
    Served(PathBuf),
    /// Something that is no socket has that name.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// No such group.
    #[error("group {0:?} not found")]
    Group(String),
    /// The socket cannot be made at that path.
    #[error("cannot listen on {}", .path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on tcp://{address}")]
    Tcp {
        /// The address as given.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The service manager handed over no socket to this process.
    #[error("no sockets were handed over by the service manager")]
    NothingInherited,
    /// A descriptor that was handed over is no listening stream socket.
    #[error("cannot listen on inherited descriptor {number}")]
    Inherited {
        /// Its number.
        number: i32,
        /// The cause.
        source: io::Error,
    },
}

/// An open listener.
#[derive(Debug)]
pub(crate) enum Open {
    /// A UNIX socket.
    Unix {
        /// Where clients are accepted.
        listener: UnixListener,
        /// Removed at the end, if it was made here.
        _file: Option<SocketFile>,
    },
    /// A TCP socket.
    Tcp {
        /// Where clients are accepted.
        listener: TcpListener,
        /// What they have to go through.
        tls: Option<Tls>,
    },
}

/// The file of a socket made here; removed when dropped, unless another has taken its name.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Inherited => f.write_str("fd://"),
        }
    }
}

impl FromStr for Listener {
    type Err = ParseListenerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix {
                path: path.into(),
                group: None,
            }),
            Some(("unix", _)) => Err(ParseListenerError::Path(text.to_owned())),
            Some(("tcp", address)) => {
                let address = address.trim_end_matches('/');
                let (host, port) = match address.rsplit_once(':') {
                    Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
                    _ => (address, Some(DEFAULT_TCP_PORT)),
                };
                let bare_ipv6 = host.contains(':') && !host.starts_with('[');
                let (Some(port), false) = (port, bare_ipv6) else {
                    return Err(ParseListenerError::Address(text.to_owned()));
                };
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            Some(("fd", _)) => Ok(Self::Inherited),
            _ => Err(ParseListenerError::Scheme(text.to_owned())),
        }
    }
}

impl Listener {
    /// Opens it; an inherited one may be several. TLS is for TCP alone.
    pub(crate) async fn open(&self, tls: Option<&Tls>) -> Result<Vec<Open>, ListenError> {
        match self {
            Self::Unix { path, group } => Ok(vec![open_unix(path, group.as_deref()).await?]),
            Self::Tcp(address) => match TcpListener::bind(address.as_str()).await {
                Ok(listener) => {
                    // The port may be the kernel's choice.
                    if let Ok(address) = listener.local_addr() {
                        tracing::info!("API listen on {address}");
                    }
                    let tls = tls.cloned();
                    Ok(vec![Open::Tcp { listener, tls }])
                }
                Err(source) => Err(ListenError::Tcp {
                    address: address.clone(),
                    source,
                }),
            },
            Self::Inherited => open_inherited(tls),
        }
    }
}

impl Open {
    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<Newcomer> {
        match self {
            Self::Unix { listener, .. } => Ok(Newcomer::Unix(listener.accept().await?.0)),
            Self::Tcp { listener, tls } => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                conex_sys::socket::keep_alive(&socket, KEEP_ALIVE)?;
                Ok(Newcomer::Tcp(socket, tls.clone()))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Makes a socket under a name of its own and moves it into place, so that nobody meets it without its mode
/// and a stale one is replaced without a gap.
async fn open_unix(path: &Path, group: Option<&str>) -> Result<Open, ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    let gid = group_id(group)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(ListenError::Served(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut fresh = path.to_owned().into_os_string();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    // Left by a process of the same number that was killed between the two steps.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    let placed = place(&fresh, path, gid);
    if placed.is_err() {
        fs::remove_file(&fresh).ok();
    }
    let identity = placed.map_err(failed)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity,
    };
    Ok(Open::Unix {
        listener,
        _file: Some(file),
    })
}

/// Gives the socket at `fresh` its mode, group and name.
fn place(fresh: &Path, path: &Path, gid: Option<u32>) -> io::Result<(u64, u64)> {
    if let Some(gid) = gid
        && let Err(error) = std::os::unix::fs::chown(fresh, None, Some(gid))
    {
        // Without privilege the socket is its owner's alone, which is what there is to give.
        tracing::warn!(path = %path.display(), gid, %error, "cannot give the socket to its group");
    }
    fs::set_permissions(fresh, fs::Permissions::from_mode(0o660))?;
    let identity = identity(fresh)?;
    fs::rename(fresh, path)?;
    Ok(identity)
}

/// Device and inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The group a socket is given to.
fn group_id(group: Option<&str>) -> Result<Option<u32>, ListenError> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    match group {
        None => Ok(DEFAULT_GROUPS
            .iter()
            .find_map(|name| find_group(&groups, name))),
        Some(group) => find_group(&groups, group)
            .or_else(|| group.parse().ok())
            .map(Some)
            .ok_or_else(|| ListenError::Group(group.to_owned())),
    }
}

/// The number of a group in the text of group(5).
fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Takes the sockets the service manager handed over to this process.
fn open_inherited(tls: Option<&Tls>) -> Result<Vec<Open>, ListenError> {
    let variable = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    let ours =
        variable("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    let count = variable("LISTEN_FDS").filter(|count| ours && (1..=MAX_INHERITED).contains(count));
    let count = count.ok_or(ListenError::NothingInherited)?;
    (FIRST_INHERITED..FIRST_INHERITED + count)
        .map(|number| {
            conex_sys::socket::inherited(number)
                .map_err(io::Error::from)
                .and_then(|fd| adopt(fd, tls))
                .map_err(|source| ListenError::Inherited { number, source })
        })
        .collect()
}

/// Makes a listener of a descriptor, whichever family its socket is of.
fn adopt(fd: OwnedFd, tls: Option<&Tls>) -> io::Result<Open> {
    let unix = std::os::unix::net::UnixListener::from(fd);
    unix.set_nonblocking(true)?;
    // The address of a socket of another family cannot be read as one of this.
    if unix.local_addr().is_ok() {
        return Ok(Open::Unix {
            listener: UnixListener::from_std(unix)?,
            _file: None,
        });
    }
    let tcp = std::net::TcpListener::from(OwnedFd::from(unix));
    tcp.local_addr()?;
    Ok(Open::Tcp {
        listener: TcpListener::from_std(tcp)?,
        tls: tls.cloned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unix(path: &Path) -> Listener {
        Listener::Unix {
            path: path.to_owned(),
            group: None,
        }
    }

    #[test]
    fn addresses_read_as_dockers() {
        let parse = |text: &str| {
            text.parse::<Listener>()
                .map(|listener| listener.to_string())
        };
        assert_eq!(parse("unix:///run/x.sock").unwrap(), "unix:///run/x.sock");
        assert_eq!(parse("tcp://0.0.0.0:1").unwrap(), "tcp://0.0.0.0:1");
        assert_eq!(parse("tcp://:2376").unwrap(), "tcp://127.0.0.1:2376");
        assert_eq!(parse("tcp://").unwrap(), "tcp://127.0.0.1:2375");
        assert_eq!(parse("tcp://host/").unwrap(), "tcp://host:2375");
        assert_eq!(parse("tcp://[::1]").unwrap(), "tcp://[::1]:2375");
        assert_eq!(parse("tcp://[::1]:9").unwrap(), "tcp://[::1]:9");
        assert_eq!(parse("fd://").unwrap(), "fd://");
        for text in [
            "",
            "/run/x",
            "unix://x",
            "http://x:1",
            "tcp://x:y",
            "tcp://::1:2375",
            "tcp://x:70000",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nbroken\ndocker:x:997:a,b\n";
        assert_eq!(find_group(groups, "docker"), Some(997));
        assert_eq!(find_group(groups, "broken"), None);
        assert_eq!(find_group(groups, "dock"), None);
        assert_eq!(group_id(Some("4711")).unwrap(), Some(4711));
        assert!(matches!(
            group_id(Some("no such group")),
            Err(ListenError::Group(_))
        ));
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/engine.sock");
        let open = unix(&path).open(None).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("made")).unwrap().count(), 1);
        drop(open);
        assert_eq!(fs::read_dir(dir.path().join("made")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let open = unix(&path).open(None).await.unwrap();
        let error = unix(&path).open(None).await.unwrap_err();
        assert!(matches!(error, ListenError::Served(_)), "{error}");
        UnixStream::connect(&path).await.unwrap();
        drop(open);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let open = unix(&path).open(None).await.unwrap();
        fs::remove_file(&path).unwrap();
        let successor = unix(&path).open(None).await.unwrap();
        drop(open);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        fs::write(&path, "data").unwrap();
        let error = unix(&path).open(None).await.unwrap_err();
        assert!(matches!(error, ListenError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[tokio::test]
    async fn silent_clients_of_tcp_are_asked_whether_they_are_there() {
        use rustix::net::sockopt;
        let mut open = Listener::Tcp("127.0.0.1:0".into())
            .open(None)
            .await
            .unwrap();
        let Some(Open::Tcp { listener, .. }) = open.first() else {
            panic!("{open:?}");
        };
        let address = listener.local_addr().unwrap();
        let (client, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(address), open[0].accept());
        let Newcomer::Tcp(socket, None) = accepted.unwrap() else {
            panic!("it is another kind of client");
        };
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEP_ALIVE);
        drop((client, open.pop()));
    }

    #[tokio::test]
    async fn sockets_of_both_families_are_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(
            adopt(unix.into(), None).unwrap(),
            Open::Unix { _file: None, .. }
        ));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(adopt(tcp.into(), None).unwrap(), Open::Tcp { .. }));
        let file = fs::File::open("/dev/null").unwrap();
        assert!(adopt(file.into(), None).is_err());
    }
}
