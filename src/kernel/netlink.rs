//! Sockets of the kernel's network configuration (netlink(7), rtnetlink(7)).
//! What is said on them is put together elsewhere.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::error::{Named, Result, check};

/// A socket to the network namespace that it was made in.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one.
    pub fn open() -> Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map(Self)
            .named("socket", || "AF_NETLINK".to_owned())
    }

    /// Sends messages, one behind the other, in one datagram. The kernel has
    /// dealt with them all when this returns; what came of it is to be received.
    pub fn send(&self, messages: &[u8]) -> Result<()> {
        // An unbound socket is bound to the kernel's address as its peer.
        send(self.0.as_raw_fd(), messages, MsgFlags::empty()).map(drop).named("send", || "netlink".to_owned())
    }

    /// Receives one datagram; how many bytes it has.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()).named("recv", || "netlink".to_owned())
    }
}

/// The index of the network device `name` of the namespace that `socket`, of
/// any family, is in (netdevice(7)).
pub fn index_of(socket: BorrowedFd<'_>, name: &str) -> Result<u32> {
    // SAFETY: ifreq is a plain struct of integers and bytes; all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0; a device with a longer name does not exist.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFINDEX reads the name and writes the index of the live ifreq given.
    let value = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) };
    check(value.into(), "ioctl", || format!("SIOCGIFINDEX {name}"))?;
    // SAFETY: the call has just written this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
