//! Installing a seccomp filter: seccomp(2). The filter is made elsewhere.

use super::error::{Result, check};

/// One classic BPF instruction, as `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Installs `filter` on the calling thread, to stay over execve(2). Needs
/// no_new_privs or CAP_SYS_ADMIN in the user namespace. At most 4,096
/// instructions (BPF_MAXINSNS).
pub fn install(filter: &[Instruction]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: program points to `len` live instructions of sock_filter's layout (repr(C) above); the
    // kernel copies them and writes nothing.
    let value = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(value, "seccomp", || format!("{} instructions", filter.len())).map(drop)
}
