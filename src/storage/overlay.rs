//! What overlayfs asks of the directories it is given. The mount itself is the
//! sandbox's.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::error::{Context, Failure, Result};
use crate::kernel;
use crate::kernel::file;

/// Gives a container's upper directory the mode of `top`, the root of its
/// topmost layer: the upper directory is what the container sees as `/`.
pub fn take_mode(upper: &Path, top: &Path) -> Result<()> {
    let doing = || format!("prepare \"{}\"", upper.display());
    let mode =
        file::status(kernel::open::open_dir(top).plainly().doing(|| format!("use \"{}\"", top.display()))?.as_fd())?
            .st_mode
            & 0o7777;
    let upper = kernel::open::open_dir(upper).doing(doing)?;
    if file::status(upper.as_fd())?.st_mode & 0o7777 != mode {
        file::set_mode(upper.as_fd(), mode).doing(doing)?;
    }
    Ok(())
}

/// Refuses file systems that overlayfs does not take as an upper layer.
pub fn check_file_system(dir: BorrowedFd<'_>) -> Result<()> {
    let magic = file::file_system_magic(dir)?;
    match no_upper(magic) {
        None => Ok(()),
        Some(name) => Err(Failure::host(format!("an overlay's upper layer cannot live on {name}"))
            .hint("set KELP_DATA to a directory on a local disk")),
    }
}

/// The name of a file system that cannot hold an upper layer, by its magic
/// number (statfs(2)). overlayfs wants d_type, extended attributes, O_TMPFILE
/// and RENAME_WHITEOUT, and no revalidation of names (ovl_dentry_remote).
pub fn no_upper(magic: i64) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x00C3_6400 => "CephFS",
        0x5346_414F => "AFS",
        0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0102_1997 => "9P",
        0x794C_7630 => "overlay",
        0xF15F => "eCryptfs",
        0x6573_5546 => "FUSE",
        0x4D44 => "FAT",
        0x2011_BAB0 => "exFAT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_what_cannot_hold_an_upper_layer() {
        assert_eq!(no_upper(0x6969), Some("NFS"));
        // ext4, xfs, btrfs, tmpfs.
        for magic in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994] {
            assert_eq!(no_upper(magic), None);
        }
    }

    #[test]
    fn the_upper_directory_has_the_mode_of_the_top_layer() {
        let dir = tempfile::tempdir().unwrap();
        let (top, upper) = (dir.path().join("top"), dir.path().join("upper"));
        std::fs::create_dir(&top).unwrap();
        std::fs::create_dir(&upper).unwrap();
        std::fs::set_permissions(&top, PermissionsExt::from_mode(0o1711)).unwrap();
        take_mode(&upper, &top).unwrap();
        assert_eq!(upper.metadata().unwrap().permissions().mode() & 0o7777, 0o1711);
    }
}
