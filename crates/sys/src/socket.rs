//! Unix sockets that carry descriptors: the links between daemon, monitor and
//! container.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_keepalive, set_socket_timeout, set_tcp_keepcnt, set_tcp_keepidle,
    set_tcp_keepintvl,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
    socketpair,
};

/// Descriptors one message may carry; the kernel's own limit is 253.
pub const MAX_FDS: usize = 32;

/// Asks the other end of a TCP connection every so often whether it is there; after nine questions without an
/// answer the connection is broken. Keeps what lies between from forgetting a silent connection (tcp(7)).
pub fn keep_alive(socket: impl AsFd, interval: Duration) -> Result<(), Errno> {
    let socket = socket.as_fd();
    set_tcp_keepidle(socket, interval)?;
    set_tcp_keepintvl(socket, interval)?;
    set_tcp_keepcnt(socket, 9)?;
    set_socket_keepalive(socket, true)
}

/// A pair of connected sockets, close-on-exec.
pub fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Binds and listens on a seqpacket socket of a directory, which only root may
/// connect to; one that a dead process left there is replaced. Non-blocking.
pub fn listen_at(dir: &Path, name: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    at_socket(dir, name, flags, |socket, address, path| {
        let _absent = std::fs::remove_file(path).is_err();
        rustix::net::bind(socket, address)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        rustix::net::listen(socket, 16)
    })
}

/// Connects to a seqpacket socket of a directory. Connecting, and whatever is
/// sent or received later, waits no longer than `patience`.
///
/// Errors: `ENOENT` and `ECONNREFUSED` where nobody listens, `EAGAIN` when
/// there is no answer in time.
pub fn connect_at(dir: &Path, name: &str, patience: Duration) -> Result<OwnedFd, Errno> {
    at_socket(dir, name, SocketFlags::CLOEXEC, |socket, address, _| {
        set_patience(socket, patience)?;
        rustix::net::connect(socket, address)
    })
}

/// Makes a socket and hands it over with its address. The directory's
/// descriptor keeps the address short: sun_path holds 108 bytes, a directory
/// may be deeper.
fn at_socket(
    dir: &Path,
    name: &str,
    flags: SocketFlags,
    act: impl FnOnce(&OwnedFd, &SocketAddrUnix, &str) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, dir_flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str())?;
    let kind = SocketType::SEQPACKET;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    act(&socket, &address, &path)?;
    Ok(socket)
}

/// Bounds every later wait on a socket, for connections too: past `patience`
/// a blocked call fails with `EAGAIN` (`SO_RCVTIMEO`, `SO_SNDTIMEO`, socket(7)).
pub fn set_patience(socket: impl AsFd, patience: Duration) -> Result<(), Errno> {
    for direction in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, direction, Some(patience))?;
    }
    Ok(())
}

/// Sends bytes and one descriptor; usable between clone and exec.
pub fn send_with_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Errno> {
    send(socket, bytes, &[fd]).map(drop)
}

/// Sends bytes with descriptors as ancillary data (`SCM_RIGHTS`, unix(7)).
/// Returns how many bytes were taken. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        let data = [IoSlice::new(bytes)];
        match sendmsg(socket, &data, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Receives bytes and the descriptors sent with them, close-on-exec.
/// Returns 0 bytes at the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut data = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}

/// Takes ownership of an inherited descriptor, if that number is open.
///
/// Errors: `EBADF` when it is not.
pub fn inherited(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl on any number is harmless; ownership is taken only of an
    // open one, and each inherited number has exactly one taker in `main`.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(crate::last_errno());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Process, user and group at the other end of a connection (`SO_PEERCRED`).
pub fn peer(socket: impl AsFd) -> Result<(i32, u32, u32), Errno> {
    // SAFETY: ucred is plain integers and its length is given.
    unsafe {
        let mut cred: libc::ucred = std::mem::zeroed();
        let mut length = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
        let result = libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut length,
        );
        if result < 0 {
            Err(crate::last_errno())
        } else {
            Ok((cred.pid, cred.uid, cred.gid))
        }
    }
}

/// Bytes written to a stream socket that its peer has not read yet
/// (`SIOCOUTQ`, unix(7)); over TCP, what it has not acknowledged.
pub fn unread_by_peer(socket: impl AsFd) -> Result<usize, Errno> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    if result < 0 {
        return Err(crate::last_errno());
    }
    Ok(usize::try_from(waiting).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    #[test]
    fn a_wait_for_somebody_silent_ends() {
        let (ours, _theirs) = pair(SocketType::SEQPACKET).unwrap();
        set_patience(&ours, Duration::from_millis(20)).unwrap();
        assert_eq!(
            receive(ours.as_fd(), &mut [0; 8]).unwrap_err(),
            Errno::AGAIN
        );
    }

    #[test]
    fn what_the_peer_has_not_read_is_counted() {
        let (left, right) = pair(SocketType::STREAM).unwrap();
        assert_eq!(unread_by_peer(&left).unwrap(), 0);
        rustix::io::write(&left, b"hello").unwrap();
        assert!(unread_by_peer(&left).unwrap() > 0);
        rustix::io::read(&right, &mut [0; 16]).unwrap();
        assert_eq!(unread_by_peer(&left).unwrap(), 0);
    }

    #[test]
    fn a_descriptor_travels_with_its_bytes() {
        let (left, right) = pair(SocketType::SEQPACKET).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(left.as_fd(), b"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let mut buffer = [0; 16];
        let (length, fds) = receive(right.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(fds.len(), 1);
        rustix::io::write(&fds[0], b"x").unwrap();
        drop(fds);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }
}
