//! Landlock: what the kernel has of it (landlock(7)).

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
