//! Datagrams with the address of the host they came to, so that an answer
//! leaves by the same one (`IP_PKTINFO` in ip(7), `IPV6_RECVPKTINFO` in ipv6(7)).

use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Room for one control message of either family.
const CONTROL: usize = 64;

/// A control buffer, aligned as its headers must be.
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// Asks the kernel to tell with each datagram where it came to.
pub fn tell_destination(socket: impl AsFd, is_ipv6: bool) -> Result<(), Errno> {
    let (level, option) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(crate::last_errno());
    }
    Ok(())
}

/// Receives one datagram: its length, its sender, and the address it came to
/// if [`tell_destination`] was asked for.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, SocketAddr, Option<IpAddr>), Errno> {
    let mut data = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; CONTROL]);
    // SAFETY: every pointer leads to memory that lives through the call, and
    // the kernel keeps to the lengths given.
    let (length, message) = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
        (length, message)
    };
    if length < 0 {
        return Err(crate::last_errno());
    }
    // SAFETY: zeroed is a valid value of plain integers, and the kernel wrote
    // an address over it.
    let name = unsafe { name.assume_init() };
    let from = address(&name).ok_or(Errno::AFNOSUPPORT)?;
    // SAFETY: the message describes `control`, which is still there; each
    // payload is read unaligned and only if it is long enough.
    let to = unsafe { destination(&message) };
    Ok((length.cast_unsigned(), from, to))
}

/// # Safety
///
/// `message` must be one that recvmsg filled and whose control buffer lives.
unsafe fn destination(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: as the caller promises.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let (level, kind) = ((*header).cmsg_level, (*header).cmsg_type);
            let payload = libc::CMSG_DATA(header);
            let length = (*header).cmsg_len as usize - (payload as usize - header as usize);
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO)
                && length >= size_of::<libc::in_pktinfo>()
            {
                let info: libc::in_pktinfo = payload.cast::<libc::in_pktinfo>().read_unaligned();
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                && length >= size_of::<libc::in6_pktinfo>()
            {
                let info: libc::in6_pktinfo = payload.cast::<libc::in6_pktinfo>().read_unaligned();
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure the storage holds.
            let four = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(four.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(four.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says which structure the storage holds.
            let six = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(six.sin6_addr.s6_addr);
            let port = u16::from_be(six.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, six.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends one datagram from an address of the host.
pub fn send(
    socket: BorrowedFd<'_>,
    datagram: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> Result<(), Errno> {
    let mut data = libc::iovec {
        iov_base: datagram.as_ptr().cast_mut().cast(),
        iov_len: datagram.len(),
    };
    let mut control = Control([0; CONTROL]);
    // SAFETY: every pointer leads to memory that lives through the call; the
    // control buffer has room for the one message that is written into it.
    let result = unsafe {
        let mut name: libc::sockaddr_storage = zeroed();
        let mut message: libc::msghdr = zeroed();
        message.msg_namelen = write_address(&mut name, to);
        message.msg_name = (&raw mut name).cast();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        if let Some(from) = from {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = CONTROL;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            let length = match from {
                IpAddr::V4(ip) => {
                    let mut info: libc::in_pktinfo = zeroed();
                    info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                    (*header).cmsg_level = libc::IPPROTO_IP;
                    (*header).cmsg_type = libc::IP_PKTINFO;
                    let place = libc::CMSG_DATA(header).cast::<libc::in_pktinfo>();
                    place.write_unaligned(info);
                    size_of::<libc::in_pktinfo>()
                }
                IpAddr::V6(ip) => {
                    let mut info: libc::in6_pktinfo = zeroed();
                    info.ipi6_addr.s6_addr = ip.octets();
                    (*header).cmsg_level = libc::IPPROTO_IPV6;
                    (*header).cmsg_type = libc::IPV6_PKTINFO;
                    let place = libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>();
                    place.write_unaligned(info);
                    size_of::<libc::in6_pktinfo>()
                }
            } as libc::c_uint;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    if result < 0 {
        return Err(crate::last_errno());
    }
    Ok(())
}

fn write_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let length = match address {
        SocketAddr::V4(four) => {
            // SAFETY: the storage is large enough and aligned for any address.
            let place = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            place.sin_family = libc::AF_INET as libc::sa_family_t;
            place.sin_port = four.port().to_be();
            place.sin_addr.s_addr = u32::from(*four.ip()).to_be();
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(six) => {
            // SAFETY: the storage is large enough and aligned for any address.
            let place = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            place.sin6_port = six.port().to_be();
            place.sin6_addr.s6_addr = six.ip().octets();
            place.sin6_scope_id = six.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    length as libc::socklen_t
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_answer_leaves_by_the_address_the_question_came_to() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        tell_destination(&server, false).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        // A connected client hears its server's address alone.
        client.connect(("127.0.0.7", port)).unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 64];
        let (length, from, to) = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(to, Some("127.0.0.7".parse().unwrap()));
        send(server.as_fd(), b"answer", from, to).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    }

    #[test]
    fn ipv6_tells_it_too() {
        let Ok(server) = UdpSocket::bind("[::]:0") else {
            return;
        };
        tell_destination(&server, true).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(("::1", port)).unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 64];
        let (_, from, to) = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!(to, Some("::1".parse().unwrap()));
        send(server.as_fd(), b"answer", from, to).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    }
}
