//! The kernel's own file systems: what is in them is made up while it is read,
//! and a write is a command.

use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::kernel::file;

/// Magic numbers of linux/magic.h and of the file systems' own sources.
const MAGICS: [i64; 15] = [
    libc::PROC_SUPER_MAGIC,
    0x6265_6572, // sysfs
    libc::CGROUP2_SUPER_MAGIC,
    libc::CGROUP_SUPER_MAGIC,
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x1980_0202, // mqueue
    0x1cd1,      // devpts
];

/// Whether `fd` is in one of them.
pub(super) fn is_one(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(MAGICS.contains(&file::file_system_magic(fd)?))
}
