//! How memory goes back to the kernel (mallopt(3), prctl(2)).

use nix::errno::Errno;

use super::error::{Error, Result, check};

/// Blocks of at least `bytes` are mappings of their own from now on: zeroed by
/// the kernel when they are touched, and given back when they are freed.
/// Without it glibc raises the bound to the largest block that was ever freed.
pub fn map_blocks_from(bytes: i32) -> Result<()> {
    // SAFETY: mallopt takes two integers.
    if unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) } == 1 {
        Ok(())
    } else {
        Err(Error::new("mallopt", "M_MMAP_THRESHOLD", Errno::EINVAL))
    }
}

/// No huge pages for this process and what it executes
/// (`PR_SET_THP_DISABLE`): one touched byte costs 4 KiB, not 2 MiB.
pub fn refuse_huge_pages() -> Result<()> {
    // SAFETY: the call takes integers.
    let value = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    check(value.into(), "prctl", || "PR_SET_THP_DISABLE".to_owned()).map(drop)
}

/// Gives what is free in the heap back to the kernel (malloc_trim(3)).
pub fn give_back() {
    // SAFETY: malloc_trim takes an integer; it says whether there was anything.
    unsafe { libc::malloc_trim(0) };
}
