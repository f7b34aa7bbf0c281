//! Entering and naming namespaces: setns(2), unshare(2), ioctl_nsfs(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::CloneFlags;

use super::error::{Named, Result, check};

/// Joins the namespace (or, for a pidfd, the namespaces in `flags`) of `fd`.
/// `what` names it in errors.
pub fn setns(fd: BorrowedFd<'_>, flags: CloneFlags, what: &str) -> Result<()> {
    nix::sched::setns(fd, flags).named("setns", || what.to_owned())
}

/// Moves the caller into new namespaces.
pub fn unshare(flags: CloneFlags) -> Result<()> {
    nix::sched::unshare(flags).named("unshare", || format!("{flags:?}"))
}

/// The host uid that owns a user namespace (NS_GET_OWNER_UID).
pub fn owner_uid(user_namespace: BorrowedFd<'_>) -> Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the ioctl writes one uid_t to the live variable given.
    let value = unsafe { libc::ioctl(user_namespace.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut uid) };
    check(value.into(), "ioctl", || "NS_GET_OWNER_UID".to_owned())?;
    Ok(uid)
}

/// The parent of a user or pid namespace (NS_GET_PARENT).
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    related(namespace, libc::NS_GET_PARENT, "NS_GET_PARENT")
}

/// The inode number that names a namespace, as in /proc/PID/ns and lsns(8).
pub fn inode(namespace: BorrowedFd<'_>) -> Result<u64> {
    Ok(nix::sys::stat::fstat(namespace.as_fd()).named("fstat", || "namespace".to_owned())?.st_ino)
}

fn related(namespace: BorrowedFd<'_>, request: libc::Ioctl, what: &'static str) -> Result<OwnedFd> {
    // SAFETY: the request takes no argument and returns a descriptor or −1.
    let value = unsafe { libc::ioctl(namespace.as_raw_fd(), request) };
    let fd = check(value.into(), "ioctl", || what.to_owned())?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
