//! Landlock: what the kernel has of it (landlock(7)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::{Result, check};

/// From linux/landlock.h.
const CREATE_RULESET_VERSION: u32 = 1;

/// The version of its interface, from 1 (landlock_create_ruleset(2)). ENOSYS or
/// EOPNOTSUPP where there is none.
pub fn version() -> Result<u32> {
    // SAFETY: with this flag the call takes no attribute and makes nothing.
    let value = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION)
    };
    check(value, "landlock_create_ruleset", || "version".to_owned()).map(|version| version as u32)
}

/// struct landlock_ruleset_attr, as far as kernels know it today. An older one
/// takes a shorter one.
#[repr(C)]
struct Ruleset {
    files: u64,
    ports: u64,
    scopes: u64,
}

/// Takes all rights to files from the calling thread for good; where the
/// kernel knows of them (version 6), also signals to and abstract sockets of
/// processes that are not so confined. Ports stay open. Needs no_new_privs.
/// What is open stays usable.
pub fn refuse_all() -> Result<()> {
    let version = version()?;
    // One right more each: refer in 2, truncate in 3, ioctl on devices in 5.
    let rights = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    let scopes = if version >= 6 { 0b11 } else { 0 };
    let ruleset = Ruleset { files: (1 << rights) - 1, ports: 0, scopes };
    // The fields beyond the first came with versions 4 and 6.
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the call reads `size` bytes of the live ruleset, which has that many.
    let value = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0) };
    let fd = check(value, "landlock_create_ruleset", || format!("version {version}"))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: the call takes a descriptor and flags.
    let value = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(value, "landlock_restrict_self", String::new).map(drop)
}
