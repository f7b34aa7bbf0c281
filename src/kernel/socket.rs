//! Sockets of this machine and descriptors handed over them (unix(7),
//! SCM_RIGHTS), and those to others (tcp(7)).

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    UnixAddr, recvmsg, sendmsg, socketpair, sockopt,
};

use super::error::{Named, Result};

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
