//! The five capability sets of the calling thread: capset(2), prctl(2).
//! Which capabilities a container gets is decided elsewhere: here a set is bits.

use super::error::{Result, check};

/// `_LINUX_CAPABILITY_VERSION_3` (capget(2)): two 32-bit words a set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets effective, permitted and inheritable; bit n is capability n.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: header and data are live, laid out as capset(2) says, and version 3 means two data words.
    let value = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(value, "capset", String::new).map(drop)
}

/// Drops one capability from the bounding set.
pub fn drop_bounding(capability: u32) -> Result<()> {
    // SAFETY: the option takes one integer.
    let value = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    check(value.into(), "prctl", || format!("PR_CAPBSET_DROP {capability}")).map(drop)
}

/// Whether the kernel knows the capability (EINVAL beyond the last one).
pub fn known(capability: u32) -> bool {
    // SAFETY: the option takes one integer and changes nothing.
    let value = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) };
    value >= 0
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    // SAFETY: the option takes no further argument; unused ones must be 0.
    let value = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    check(value.into(), "prctl", || "PR_CAP_AMBIENT_CLEAR_ALL".to_owned()).map(drop)
}
