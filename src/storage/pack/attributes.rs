//! Extended attributes that belong to a file and not to its place.
//!
//! Kept are `user.*`, file capabilities and POSIX ACLs, by the same rule that
//! the unpacker sets them by. Nothing that speaks to overlayfs is kept, also
//! not what a container wrote under such a name (`user.overlay.overlay.*`
//! here): to whoever unpacks the layer it would hide or redirect files.
//!
//! All is read inside of the container's own user namespace, so the kernel
//! translates: ACLs name the container's ids, and a capability that the
//! container's root set, which on disk names that root (VFS_CAP_REVISION_3),
//! comes as the plain revision 2 (security/commoncap.c, cap_inode_getsecurity).

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::kernel::{self, Errno};

/// A file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// Names and values, sorted by name.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether an attribute is kept.
fn is_kept(name: &[u8]) -> bool {
    match name {
        CAPABILITY | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

/// Reads the attributes of an open file or directory that are kept. The
/// number of those that cannot be is added to `dropped`.
pub(super) fn read(fd: BorrowedFd<'_>, dropped: &mut u64) -> Result<Attributes> {
    let mut names: Vec<CString> =
        kernel::file::attribute_names(fd)?.into_iter().filter(|name| is_kept(name.to_bytes())).collect();
    names.sort();
    let mut attributes = Vec::with_capacity(names.len());
    for name in names {
        // A tar's key ends at the first equals sign.
        if name.to_bytes().contains(&b'=') {
            *dropped += 1;
            continue;
        }
        match kernel::file::whole_attribute(fd, &name) {
            Ok(Some(value)) if name.to_bytes() == CAPABILITY => attributes.push((name.into_bytes(), plain(value))),
            Ok(Some(value)) => attributes.push((name.into_bytes(), value)),
            // Removed since the names were read.
            Ok(None) => {}
            // EOVERFLOW: a capability of a root that this container does not know.
            Err(error) if error.errno == Errno::EOVERFLOW => *dropped += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(attributes)
}

/// Capabilities as they are told to others: those that name root itself
/// (linux/capability.h, struct vfs_ns_cap_data) as those that name nobody,
/// which means the same and is what other programs know.
fn plain(value: Vec<u8>) -> Vec<u8> {
    /// VFS_CAP_REVISION_2 and _3 in the topmost byte of the first word.
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    match value.as_slice() {
        [flags, 0, 0, REVISION_3, sets @ .., 0, 0, 0, 0] if sets.len() == 16 => {
            [&[*flags, 0, 0, REVISION_2], sets].concat()
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_speaks_to_overlayfs() {
        for name in ["user.overlay.opaque", "user.overlay.overlay.x", "trusted.overlay.redirect", "security.selinux"] {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
        for name in ["user.x", "user.overlayx", "security.capability", "system.posix_acl_default"] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_capability_of_root_names_nobody() {
        let third = [&[1, 0, 0, 3][..], &[7; 16], &[0; 4]].concat();
        assert_eq!(plain(third), [&[1, 0, 0, 2][..], &[7; 16]].concat());
        let other = [&[1, 0, 0, 3][..], &[7; 16], &[1, 0, 0, 0]].concat();
        assert_eq!(plain(other.clone()), other);
        assert_eq!(plain(vec![3; 5]), vec![3; 5]);
    }
}
