//! Sockets of this machine and descriptors handed over them (unix(7),
//! SCM_RIGHTS), and those to others (tcp(7)).

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    UnixAddr, recvmsg, sendmsg, socketpair, sockopt,
};

use super::error::{Named, Result, check};

/// The most descriptors that one message may carry (SCM_MAX_FD is 253).
const DESCRIPTORS_MAX: usize = 64;

/// A connected pair of stream sockets, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).named("socketpair", String::new)
}

/// The same, non-blocking.
pub fn pair_now() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::Stream, None, flags).named("socketpair", String::new)
}

/// A stream socket that listens at `path`, non-blocking and close-on-exec.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let doing = || path.display().to_string();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).named("socket", String::new)?;
    let address = UnixAddr::new(path).named("bind", doing)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address).named("bind", doing)?;
    nix::sys::socket::listen(&socket, Backlog::MAXCONN).named("listen", doing)?;
    Ok(socket)
}

/// The next connection to a listening socket; `None` where there is none now.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match nix::sys::socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
        // SAFETY: accept4 has just made this descriptor for us; nobody else owns it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(nix::Error::EAGAIN | nix::Error::ECONNABORTED | nix::Error::EINTR) => Ok(None),
        Err(errno) => Err(errno).named("accept4", String::new),
    }
}

/// A stream socket connected to the one that listens at `path`.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    connect_with(path, SockFlag::empty())
}

/// The same without waiting: EAGAIN where too many wait already. The socket
/// is non-blocking.
pub fn connect_now(path: &Path) -> Result<OwnedFd> {
    connect_with(path, SockFlag::SOCK_NONBLOCK)
}

fn connect_with(path: &Path, flags: SockFlag) -> Result<OwnedFd> {
    let doing = || path.display().to_string();
    let flags = SockFlag::SOCK_CLOEXEC | flags;
    let socket =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).named("socket", String::new)?;
    let address = UnixAddr::new(path).named("connect", doing)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address).named("connect", doing)?;
    Ok(socket)
}

/// A TCP socket that is being connected to `address`: non-blocking,
/// close-on-exec, without delay (TCP_NODELAY), with urgent bytes in their place
/// in the stream (SO_OOBINLINE). Writable when it is decided, by SO_ERROR
/// (connect(2), EINPROGRESS).
pub fn connect_tcp(address: SocketAddr) -> Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        nix::sys::socket::socket(family, SockType::Stream, flags, None).named("socket", || address.to_string())?;
    nix::sys::socket::setsockopt(&socket, sockopt::TcpNoDelay, &true).named("setsockopt", || "TCP_NODELAY".into())?;
    nix::sys::socket::setsockopt(&socket, sockopt::OobInline, &true).named("setsockopt", || "SO_OOBINLINE".into())?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno).named("connect", || address.to_string()),
    }
}

/// A UDP socket for one peer, of which alone it receives: non-blocking,
/// close-on-exec, at a port that the kernel picks at random.
pub fn connect_udp(address: SocketAddr) -> Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        nix::sys::socket::socket(family, SockType::Datagram, flags, None).named("socket", || address.to_string())?;
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .named("connect", || address.to_string())?;
    Ok(UdpSocket::from(socket))
}

/// Whether a stream socket of any family has a peer.
pub fn is_connected(socket: BorrowedFd<'_>) -> bool {
    nix::sys::socket::getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_ok()
}

/// A TCP socket that listens at `address`, and at it alone (IPV6_V6ONLY):
/// non-blocking, close-on-exec. What it accepts has TCP_NODELAY and
/// SO_OOBINLINE from it. A port that was used a minute ago can be used again
/// (SO_REUSEADDR).
pub fn listen_tcp(address: SocketAddr) -> Result<TcpListener> {
    let target = || address.to_string();
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(family, SockType::Stream, flags, None).named("socket", target)?;
    let set = |what: &'static str| move |result: nix::Result<()>| result.named("setsockopt", || what.to_owned());
    set("SO_REUSEADDR")(nix::sys::socket::setsockopt(&socket, sockopt::ReuseAddr, &true))?;
    set("TCP_NODELAY")(nix::sys::socket::setsockopt(&socket, sockopt::TcpNoDelay, &true))?;
    set("SO_OOBINLINE")(nix::sys::socket::setsockopt(&socket, sockopt::OobInline, &true))?;
    if address.is_ipv6() {
        set("IPV6_V6ONLY")(nix::sys::socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true))?;
    }
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).named("bind", target)?;
    // As many as net.core.somaxconn lets wait.
    nix::sys::socket::listen(&socket, Backlog::MAXALLOWABLE).named("listen", target)?;
    Ok(TcpListener::from(socket))
}

/// The next connection to a listening TCP socket, non-blocking and
/// close-on-exec; `None` where there is none now.
pub fn accept_tcp(listener: BorrowedFd<'_>) -> Result<Option<TcpStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match nix::sys::socket::accept4(listener.as_raw_fd(), flags) {
        // SAFETY: accept4 has just made this descriptor for us; nobody else owns it.
        Ok(fd) => Ok(Some(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))),
        Err(nix::Error::EAGAIN) => Ok(None),
        Err(errno) => Err(errno).named("accept4", String::new),
    }
}

/// Prepares a TCP socket of another network namespace for connections that are
/// passed on: TCP_NODELAY, SO_OOBINLINE, SO_REUSEADDR, and a port that is
/// chosen as late as possible (IP_BIND_ADDRESS_NO_PORT). With `mark` it can be
/// bound to any address (IP_TRANSPARENT, ip(7)) and its packets are marked so;
/// that needs CAP_NET_ADMIN over its namespace.
pub fn prepare_inbound(socket: BorrowedFd<'_>, family: i32, mark: Option<u32>) -> Result<()> {
    let set = |what: &'static str| move |result: nix::Result<()>| result.named("setsockopt", || what.to_owned());
    set("TCP_NODELAY")(nix::sys::socket::setsockopt(&socket, sockopt::TcpNoDelay, &true))?;
    set("SO_OOBINLINE")(nix::sys::socket::setsockopt(&socket, sockopt::OobInline, &true))?;
    set("SO_REUSEADDR")(nix::sys::socket::setsockopt(&socket, sockopt::ReuseAddr, &true))?;
    set("IP_BIND_ADDRESS_NO_PORT")(nix::sys::socket::setsockopt(&socket, sockopt::IpBindAddressNoPort, &true))?;
    let Some(mark) = mark else { return Ok(()) };
    set("SO_MARK")(nix::sys::socket::setsockopt(&socket, sockopt::Mark, &mark))?;
    if family == libc::AF_INET {
        return set("IP_TRANSPARENT")(nix::sys::socket::setsockopt(&socket, sockopt::IpTransparent, &true));
    }
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the call reads the live integer given, whose size is said.
    let value = unsafe {
        let (level, name) = (libc::SOL_IPV6, libc::IPV6_TRANSPARENT);
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length)
    };
    check(value.into(), "setsockopt", || "IPV6_TRANSPARENT".to_owned()).map(drop)
}

/// Binds a socket to `source`, if one is given, and begins to connect it to
/// `destination` (as in [`connect_tcp`]).
pub fn connect_from(socket: BorrowedFd<'_>, source: Option<SocketAddr>, destination: SocketAddr) -> Result<()> {
    if let Some(source) = source {
        let bound = nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(source));
        bound.named("bind", || source.to_string())?;
    }
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(destination)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(()),
        Err(errno) => Err(errno).named("connect", || destination.to_string()),
    }
}

/// Makes the coming close of a TCP socket a reset (socket(7), SO_LINGER of 0).
pub fn reset_on_close(socket: BorrowedFd<'_>) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&socket, sockopt::Linger, &linger).named("setsockopt", || "SO_LINGER".into())
}

/// Who is at the other end, as the caller's user namespace sees them.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32> {
    let credentials =
        nix::sys::socket::getsockopt(&socket, sockopt::PeerCredentials).named("getsockopt", String::new)?;
    Ok(credentials.uid())
}

/// The process at the other end; where we connected, the one that listens
/// (SO_PEERCRED of unix(7)). As the caller's pid namespace has it: 0 where it
/// cannot be seen from there.
pub fn peer_pid(socket: BorrowedFd<'_>) -> Result<i32> {
    let credentials =
        nix::sys::socket::getsockopt(&socket, sockopt::PeerCredentials).named("getsockopt", String::new)?;
    Ok(credentials.pid())
}

/// Whether a call that must not wait does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It waits.
    Wait,
    /// EAGAIN instead (MSG_DONTWAIT).
    Now,
}

impl Patience {
    fn flags(self) -> MsgFlags {
        match self {
            Self::Wait => MsgFlags::empty(),
            Self::Now => MsgFlags::MSG_DONTWAIT,
        }
    }
}

/// Sends `bytes` with `descriptors` attached. Returns how many bytes went.
/// A closed peer is EPIPE, never a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>], patience: Patience) -> Result<usize> {
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL | patience.flags(), None)
        .named("sendmsg", || "channel".to_owned())
}

/// Receives into `buffer`; descriptors that came along are appended to
/// `descriptors`. 0 is the end of the stream.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    patience: Patience,
) -> Result<usize> {
    let mut space = nix::cmsg_space!([i32; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC | patience.flags())
            .named("recvmsg", || "channel".to_owned())?;
    for control in message.cmsgs().named("recvmsg", || "control data".to_owned())? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: SCM_RIGHTS installed these descriptors for us; nobody else owns them.
            descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

/// Takes over descriptor `number` that an exec left open for us, and makes it
/// close-on-exec. `None` where it is not open. Each number is taken once.
pub fn take(number: i32) -> Option<OwnedFd> {
    // SAFETY: F_SETFD on any number is safe; it fails with EBADF where nothing is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: the descriptor is open, was left for this stage by its parent, and is taken once by contract.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
