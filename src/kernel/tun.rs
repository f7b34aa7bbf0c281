//! Devices that are a descriptor on one side (the kernel's
//! Documentation/networking/tuntap.rst).
//!
//! The device appears in the network namespace of who calls [`create`], and
//! needs CAP_NET_ADMIN there. Its descriptor works from anywhere.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::error::{Error, Named, Result, check};

/// What a device's owner can work with, so that the kernel need not do it
/// (TUNSETOFFLOAD): sums not filled in, and segments not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Frames as they would be on a wire.
    None,
    /// Checksums of TCP and UDP are left open.
    Checksum,
    /// And TCP comes in segments of up to 64 KiB.
    Tcp,
    /// And UDP, too (since Linux 6.2).
    TcpAndUdp,
}

impl Offload {
    fn bits(self) -> libc::c_uint {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        match self {
            Self::None => 0,
            Self::Checksum => libc::TUN_F_CSUM,
            Self::Tcp => tcp,
            Self::TcpAndUdp => tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        }
    }
}

/// A new device `name` for IP packets, each behind a virtio_net_hdr of 10
/// bytes (`IFF_TUN`, `IFF_NO_PI`, `IFF_VNET_HDR`); non-blocking,
/// close-on-exec. `name` has at most 15 bytes.
pub fn create(name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let device = nix::fcntl::open("/dev/net/tun", flags, Mode::empty()).named("open", || "/dev/net/tun".to_owned())?;
    // SAFETY: ifreq is a plain struct of integers and bytes; all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    if name.len() >= request.ifr_name.len() {
        return Err(Error::new("ioctl", format!("TUNSETIFF {name}"), Errno::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the live ifreq given.
    let value = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(value.into(), "ioctl", || format!("TUNSETIFF {name}"))?;
    Ok(device)
}

/// Tells the kernel what the owner of `device` can work with; EINVAL where
/// this kernel does not know it.
pub fn set_offload(device: BorrowedFd<'_>, offload: Offload) -> Result<()> {
    // SAFETY: TUNSETOFFLOAD takes an integer.
    let value = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload.bits())) };
    check(value.into(), "ioctl", || format!("TUNSETOFFLOAD {offload:?}")).map(drop)
}
