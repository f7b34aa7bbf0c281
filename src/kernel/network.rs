//! The one network setting a private namespace needs without any library:
//! bringing up its loopback device (netdevice(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::error::{Named, Result, check};

/// Sets `lo` of the current network namespace up; the kernel adds 127.0.0.1
/// and ::1 by itself.
pub fn loopback_up() -> Result<()> {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .named("socket", || "AF_INET".to_owned())?;
    // SAFETY: ifreq is a plain struct of integers and bytes; all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the live ifreq given.
    let value = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(value.into(), "ioctl", || "SIOCSIFFLAGS lo".to_owned()).map(drop)
}
