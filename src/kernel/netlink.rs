//! Sockets of the kernel's network configuration (netlink(7), rtnetlink(7)).
//! What is said on them is put together elsewhere.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::error::{Named, Result};

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

    /// Opens one that also hears of changes of addresses, IPv4 and IPv6
    /// (RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR).
    pub fn open_for_addresses() -> Result<Self> {
        let opened = Self::open()?;
        let groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        bind(opened.0.as_raw_fd(), &NetlinkAddr::new(0, groups)).named("bind", || "AF_NETLINK".to_owned())?;
        Ok(opened)
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

    /// The same without waiting: EAGAIN where there is none now. ENOBUFS where
    /// some were lost, for they were not received in time.
    pub fn receive_now(&self, buffer: &mut [u8]) -> Result<usize> {
        recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).named("recv", || "netlink".to_owned())
    }
}

/// The index of the network device `name` of the caller's namespace
/// (if_nametoindex(3)).
pub fn index_of(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).named("if_nametoindex", || name.to_owned())
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
