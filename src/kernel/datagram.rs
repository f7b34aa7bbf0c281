//! Sockets for datagrams: udp(7), and echo requests without a privilege
//! (icmp(7), `SOCK_DGRAM` with `IPPROTO_ICMP`). What comes beside a datagram
//! (who sent it, how it was marked, how it is cut) and what became of one that
//! was sent (`IP_RECVERR` of ip(7)) is read with it.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SetSockOpt, SockFlag, SockProtocol, SockType,
    SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg, setsockopt, socket, sockopt,
};

use super::error::{Named, Result, check};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, without IPv4 in it.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn number(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// A UDP socket without addresses: the kernel gives it a port of its own when
/// it sends first. Non-blocking, close-on-exec; errors are kept for
/// [`receive_error`], datagrams that arrive together may come as one
/// (`UDP_GRO`, Linux 5.0). `receive_bytes` is the room for those that were not
/// read yet, as far as the host's limit (net.core.rmem_max) goes.
pub fn udp(family: Family, receive_bytes: usize) -> Result<OwnedFd> {
    let socket = open(family, SockProtocol::Udp)?;
    if family == Family::V6 {
        set(&socket, sockopt::Ipv6V6Only, &true, "IPV6_V6ONLY")?;
    }
    set(&socket, sockopt::RcvBuf, &receive_bytes, "SO_RCVBUF")?;
    match set(&socket, sockopt::UdpGroSegment, &true, "UDP_GRO") {
        // Linux before 5.0: each datagram comes alone.
        Err(error) if error.errno == Errno::ENOPROTOOPT => {}
        result => result?,
    }
    Ok(socket)
}

/// A socket that sends echo requests and receives their replies. EACCES where
/// the host does not let this user's groups (net.ipv4.ping_group_range, for
/// both families). Identifiers are the kernel's: it writes its own into what is
/// sent. Otherwise as [`udp`].
pub fn ping(family: Family) -> Result<OwnedFd> {
    open(family, if family == Family::V4 { SockProtocol::Icmp } else { SockProtocol::IcmpV6 })
}

fn open(family: Family, protocol: SockProtocol) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(family.number(), SockType::Datagram, flags, protocol).named("socket", || format!("{protocol:?}"))?;
    match family {
        Family::V4 => {
            set(&socket, sockopt::Ipv4RecvErr, &true, "IP_RECVERR")?;
            set(&socket, sockopt::IpRecvTos, &true, "IP_RECVTOS")?;
            set(&socket, sockopt::Ipv4RecvTtl, &true, "IP_RECVTTL")?;
        }
        Family::V6 => {
            set(&socket, sockopt::Ipv6RecvErr, &true, "IPV6_RECVERR")?;
            set(&socket, sockopt::Ipv6RecvTClass, &true, "IPV6_RECVTCLASS")?;
            set(&socket, sockopt::Ipv6RecvHopLimit, &true, "IPV6_RECVHOPLIMIT")?;
        }
    }
    Ok(socket)
}

fn set<O: SetSockOpt>(socket: &impl AsFd, option: O, value: &O::Val, name: &'static str) -> Result<()> {
    setsockopt(&socket.as_fd(), option, value).named("setsockopt", || name.to_owned())
}

/// What is written into the IP header of what a socket sends from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// TTL, or hop limit: 1 to 255.
    pub hop_limit: u8,
    /// TOS, or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// It goes whole or not at all: DF in IPv4, no fragment header in IPv6.
    pub dont_fragment: bool,
}

/// Sets [`Marks`].
pub fn mark(socket: BorrowedFd<'_>, family: Family, marks: Marks) -> Result<()> {
    let (hop_limit, traffic_class) = (i32::from(marks.hop_limit), i32::from(marks.traffic_class));
    let discovery = match (family, marks.dont_fragment) {
        (Family::V4, true) => libc::IP_PMTUDISC_DO,
        (Family::V4, false) => libc::IP_PMTUDISC_DONT,
        (Family::V6, true) => libc::IPV6_PMTUDISC_DO,
        (Family::V6, false) => libc::IPV6_PMTUDISC_DONT,
    };
    match family {
        Family::V4 => {
            set(&socket, sockopt::Ipv4Ttl, &hop_limit, "IP_TTL")?;
            set(&socket, sockopt::Ipv4Tos, &traffic_class, "IP_TOS")?;
            set_number(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discovery, "IP_MTU_DISCOVER")
        }
        Family::V6 => {
            set(&socket, sockopt::Ipv6Ttl, &hop_limit, "IPV6_UNICAST_HOPS")?;
            set(&socket, sockopt::Ipv6TClass, &traffic_class, "IPV6_TCLASS")?;
            set_number(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discovery, "IPV6_MTU_DISCOVER")
        }
    }
}

fn set_number(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32, name: &'static str) -> Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: value is a live integer of the length given, which setsockopt(2) reads.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    check(result.into(), "setsockopt", || name.to_owned()).map(drop)
}

/// Sends one datagram, or, with `segment`, several of that many bytes each, the
/// last of what is left (`UDP_SEGMENT`, Linux 4.18; at most 64 of them). Does
/// not wait: EAGAIN. An error may be that of an earlier datagram, which is then
/// in the queue of [`receive_error`].
pub fn send(socket: BorrowedFd<'_>, to: SocketAddr, payload: &[u8], segment: Option<u16>) -> Result<()> {
    let cut = segment.map(|bytes| [bytes]);
    let control = cut.as_ref().map(|[bytes]| [ControlMessage::UdpGsoSegments(bytes)]);
    let control = control.as_ref().map_or(&[][..], |control| &control[..]);
    let (flags, payload) = (MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL, [IoSlice::new(payload)]);
    let sent = match to {
        SocketAddr::V4(to) => sendmsg(socket.as_raw_fd(), &payload, control, flags, Some(&SockaddrIn::from(to))),
        SocketAddr::V6(to) => sendmsg(socket.as_raw_fd(), &payload, control, flags, Some(&SockaddrIn6::from(to))),
    };
    sent.map(drop).named("sendmsg", || to.to_string())
}

/// A datagram that was received, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the buffer.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where several came together: bytes of each but the last, which may be
    /// shorter.
    pub segment: Option<u16>,
    /// What was left of its hops, where the kernel says it.
    pub hop_limit: Option<u8>,
    /// TOS, or traffic class.
    pub traffic_class: u8,
}

/// The next datagram; EAGAIN where there is none. What does not fit into
/// `buffer` is lost. An error may be that of a datagram that was sent.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Received>> {
    let mut space = nix::cmsg_space!(i32, i32, i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)
        .named("recvmsg", || "datagram".to_owned())?;
    let Some(from) = message.address.as_ref().and_then(address) else { return Ok(None) };
    let mut received = Received { length: message.bytes, from, segment: None, hop_limit: None, traffic_class: 0 };
    for control in message.cmsgs().named("recvmsg", || "control data".to_owned())? {
        match control {
            ControlMessageOwned::UdpGroSegments(bytes) => received.segment = u16::try_from(bytes).ok(),
            ControlMessageOwned::Ipv4Ttl(hops) => received.hop_limit = u8::try_from(hops).ok(),
            ControlMessageOwned::Ipv6HopLimit(hops) => received.hop_limit = u8::try_from(hops).ok(),
            ControlMessageOwned::Ipv4Tos(class) => received.traffic_class = class,
            ControlMessageOwned::Ipv6TClass(class) => received.traffic_class = u8::try_from(class).unwrap_or(0),
            _ => {}
        }
    }
    Ok(Some(received))
}

/// What became of a datagram that was sent (`struct sock_extended_err`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// Bytes of the buffer: as much of the datagram's payload as came back
    /// with the error.
    pub length: usize,
    /// Where it was to go.
    pub destination: SocketAddr,
    /// The error as a send would have it.
    pub errno: Errno,
    /// Who says so.
    pub origin: Origin,
}

/// Who reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This host's kernel: larger than `mtu`, where `errno` is EMSGSIZE.
    Local {
        /// Bytes of an IP packet that would have gone.
        mtu: u32,
    },
    /// An ICMP message of the family of the socket.
    Icmp {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// The MTU that it tells, where it does.
        mtu: u32,
        /// Who sent it.
        from: IpAddr,
    },
}

/// The next error that is kept for the socket; EAGAIN where there is none.
/// `None`: one that says nothing of a datagram.
pub fn receive_error(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Reported>> {
    let mut space = nix::cmsg_space!((libc::sock_extended_err, libc::sockaddr_in6), i32, i32, i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
        .named("recvmsg", || "MSG_ERRQUEUE".to_owned())?;
    let Some(destination) = message.address.as_ref().and_then(address) else { return Ok(None) };
    let length = message.bytes;
    for control in message.cmsgs().named("recvmsg", || "control data".to_owned())? {
        let (error, from) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                (error, from.map(|from| IpAddr::V4(u32::from_be(from.sin_addr.s_addr).into())))
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                (error, from.map(|from| IpAddr::V6(from.sin6_addr.s6_addr.into())))
            }
            _ => continue,
        };
        let origin = match (error.ee_origin, from) {
            (libc::SO_EE_ORIGIN_LOCAL, _) => Origin::Local { mtu: error.ee_info },
            (libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6, Some(from)) => {
                Origin::Icmp { kind: error.ee_type, code: error.ee_code, mtu: error.ee_info, from }
            }
            _ => continue,
        };
        let errno = Errno::from_raw(i32::try_from(error.ee_errno).unwrap_or(0));
        return Ok(Some(Reported { length, destination, errno, origin }));
    }
    Ok(None)
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn wait(socket: &OwnedFd, events: nix::poll::PollFlags) {
        let mut fds = [nix::poll::PollFd::new(socket.as_fd(), events)];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(5_000_u16)).unwrap();
    }

    const MARKS: Marks = Marks { hop_limit: 41, traffic_class: 0x2a, dont_fragment: true };

    #[test]
    fn datagrams_arrive_with_their_marks() {
        for (family, here) in [(Family::V4, "127.0.0.1:0"), (Family::V6, "[::1]:0")] {
            let peer = UdpSocket::bind(here).unwrap();
            let socket = udp(family, 1 << 20).unwrap();
            mark(socket.as_fd(), family, MARKS).unwrap();
            send(socket.as_fd(), peer.local_addr().unwrap(), b"hello", None).unwrap();
            let mut buffer = [0; 100];
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"hello");
            let answering = OwnedFd::from(peer);
            mark(answering.as_fd(), family, MARKS).unwrap();
            send(answering.as_fd(), from, b"good day", None).unwrap();
            wait(&socket, nix::poll::PollFlags::POLLIN);
            let received = receive(socket.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!((received.hop_limit, received.traffic_class, received.segment), (Some(41), 0x2a, None));
            assert_eq!((received.from.ip().is_loopback(), &buffer[..received.length]), (true, &b"good day"[..]));
            assert_eq!(receive(socket.as_fd(), &mut buffer).unwrap_err().errno, Errno::EAGAIN);
        }
    }

    #[test]
    fn several_go_as_one_and_come_as_one() {
        for (family, here) in [(Family::V4, "127.0.0.1:0"), (Family::V6, "[::1]:0")] {
            let (one, other) = (udp(family, 1 << 20).unwrap(), UdpSocket::bind(here).unwrap());
            let to = other.local_addr().unwrap();
            let other = OwnedFd::from(other);
            setsockopt(&other, sockopt::UdpGroSegment, &true).unwrap();
            send(one.as_fd(), to, &[7; 2500], Some(1000)).unwrap();
            wait(&other, nix::poll::PollFlags::POLLIN);
            let received = receive(other.as_fd(), &mut [0; 65_536]).unwrap().unwrap();
            assert_eq!((received.length, received.segment), (2500, Some(1000)));
        }
    }

    #[test]
    fn errors_name_the_datagram_and_who_reports_them() {
        for (family, here, kind, code) in [(Family::V4, "127.0.0.1:0", 3, 3), (Family::V6, "[::1]:0", 1, 4)] {
            let nobody = UdpSocket::bind(here).unwrap().local_addr().unwrap();
            let socket = udp(family, 1 << 20).unwrap();
            send(socket.as_fd(), nobody, b"hello", None).unwrap();
            wait(&socket, nix::poll::PollFlags::empty());
            let mut buffer = [0; 100];
            let reported = receive_error(socket.as_fd(), &mut buffer).unwrap().unwrap();
            let origin = Origin::Icmp { kind, code, mtu: 0, from: nobody.ip() };
            assert_eq!(reported, Reported { length: 5, destination: nobody, errno: Errno::ECONNREFUSED, origin });
            assert_eq!(&buffer[..5], b"hello");
            assert_eq!(receive_error(socket.as_fd(), &mut buffer).unwrap_err().errno, Errno::EAGAIN);
        }
    }
}
