//! Which extended attributes of a layer are set, and the pair of them that
//! overlayfs reads.
//!
//! Invariant: no attribute from a layer can speak to overlayfs
//! (`user.overlay.*`, `trusted.overlay.*`): it would hide or redirect files.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use crate::error::{Failure, Result};
use crate::kernel::{self, Errno};

/// `y`: hides all that lower layers have in the directory. `x`: the directory
/// holds whiteouts that are files with [`WHITEOUT`].
pub(super) const OPAQUE: &CStr = c"user.overlay.opaque";
/// A whiteout where a device node cannot be made (since Linux 6.7).
pub(super) const WHITEOUT: &CStr = c"user.overlay.whiteout";

/// Linux's XATTR_NAME_MAX.
const NAME_BYTES_MAX: usize = 255;

/// What to do with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Set,
    /// Set when the directory is complete: a default ACL would be inherited.
    SetLast,
    Drop,
}

/// Decides by name.
pub(super) fn treatment(name: &[u8]) -> Treatment {
    match name {
        b"security.capability" => Treatment::Set,
        b"system.posix_acl_access" | b"system.posix_acl_default" => Treatment::SetLast,
        _ if name.starts_with(b"user.overlay.") => Treatment::Drop,
        _ if name.starts_with(b"user.") => Treatment::Set,
        // trusted.* needs rights over the host; SELinux labels and the like are the host's to give.
        _ => Treatment::Drop,
    }
}

/// Sets an attribute; `false` where this file or file system cannot have it.
pub(super) fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<bool> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Failure::user(format!("name of extended attribute is longer than {NAME_BYTES_MAX} bytes")));
    }
    let name = CString::new(name).map_err(|_| Failure::user("name of extended attribute holds a NUL byte"))?;
    match kernel::file::set_attribute(fd, &name, value) {
        Ok(()) => Ok(true),
        Err(error) if error.errno == Errno::ENOSPC && is_full(fd) => Err(error.into()),
        // EACCES: a default ACL on what is no directory. EINVAL: an ACL or capability names an id that is not mapped. ENOSPC and E2BIG: the value is
        // larger than this file system keeps in an inode, which is not a full disk.
        Err(error)
            if matches!(
                error.errno,
                Errno::EPERM
                    | Errno::EACCES
                    | Errno::EOPNOTSUPP
                    | Errno::EINVAL
                    | Errno::ENOSPC
                    | Errno::E2BIG
                    | Errno::ERANGE
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the file system has no block left for us.
fn is_full(fd: BorrowedFd<'_>) -> bool {
    nix::sys::statvfs::fstatvfs(fd).is_ok_and(|status| status.blocks_available() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_speaks_to_overlayfs() {
        for name in ["user.overlay.opaque", "user.overlay.whiteout", "trusted.overlay.redirect", "security.selinux", ""]
        {
            assert_eq!(treatment(name.as_bytes()), Treatment::Drop, "{name}");
        }
        for name in ["user.x", "user.overlayx", "security.capability"] {
            assert_eq!(treatment(name.as_bytes()), Treatment::Set, "{name}");
        }
        assert_eq!(treatment(b"system.posix_acl_default"), Treatment::SetLast);
    }
}
