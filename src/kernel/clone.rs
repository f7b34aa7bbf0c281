//! clone3(2): a child with a pidfd and namespaces in one call.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Result, check};

/// What a parent learns of its new child.
pub struct Child {
    /// The child's pid in the parent's pid namespace.
    pub pid: i32,
    /// A descriptor of the process (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

/// Which side of the clone this is.
pub enum Side {
    /// The parent, with its child.
    Parent(Child),
    /// The child.
    Child,
}

/// linux/sched.h; beyond what libc's type for the flags of clone(2) holds.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones the calling process into the namespaces of `flags` (CLONE_NEW*), and
/// into the v2 cgroup whose directory is `cgroup`, if one is given (Linux 5.7).
///
/// The caller must be single-threaded: the child runs on a copy of its memory
/// and may allocate only under that condition.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    clone(flags, libc::SIGCHLD as u64, cgroup)
}

/// Clones the calling process as a child of its own parent (CLONE_PARENT), who
/// waits for it as for the caller. As [`clone3`], the caller must be
/// single-threaded; it must not be the first process of a pid namespace.
pub fn clone3_sibling() -> Result<Side> {
    // The signal at the end is the caller's own; another one is EINVAL (clone(2)).
    clone(libc::CLONE_PARENT as u64, 0, None)
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is a plain struct of integers; all zeros is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args points to a live clone_args of the size given; stack is 0 and CLONE_VM is not set,
    // so the child runs on a copy of our memory (fork rules), and the caller is single-threaded.
    let value = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    let pid = check(value, "clone3", || format!("flags {flags:#x}"))?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent(Child { pid: pid as i32, pidfd }))
}
