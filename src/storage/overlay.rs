//! Where a container's own changes live: the overlay's upper and work
//! directories. Choosing and making them only; the mount is the sandbox's.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::error::{Context, Failure, Result};
use crate::kernel;
use crate::kernel::file;

use super::sweep;

/// The directories of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What the container writes.
    pub upper: PathBuf,
    /// overlayfs's own, on the same file system.
    pub work: PathBuf,
}

impl Changes {
    /// Those of the container with directory `container` (`containers/ID`).
    pub fn of(container: &Path) -> Self {
        Self { upper: container.join("upper"), work: container.join("work") }
    }
}

/// Makes the directories in `container`. The upper directory is what the
/// container sees as `/`, so it gets owner and mode of `top`, the root of the
/// topmost layer; where there is none, 0755. Runs as uid 0 of the user
/// namespace if `top` belongs to another id.
pub fn prepare(container: &Path, top: Option<BorrowedFd<'_>>) -> Result<Changes> {
    let doing = || format!("prepare \"{}\"", container.display());
    let changes = Changes::of(container);
    let dir = kernel::open::open_dir(container).doing(doing)?;
    check_file_system(dir.as_fd()).doing(doing)?;
    sweep::make_own_dir(&changes.upper)?;
    sweep::make_own_dir(&changes.work)?;
    let upper = kernel::open::open_dir(&changes.upper).doing(doing)?;
    let mode = match top {
        None => 0o755,
        Some(top) => {
            let (from, to) = (file::status(top).doing(doing)?, file::status(upper.as_fd()).doing(doing)?);
            if (from.st_uid, from.st_gid) != (to.st_uid, to.st_gid) {
                file::set_owner(upper.as_fd(), from.st_uid, from.st_gid).doing(doing)?;
            }
            from.st_mode & 0o7777
        }
    };
    file::set_mode(upper.as_fd(), mode).doing(doing)?;
    Ok(changes)
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
        let top = dir.path().join("top");
        std::fs::create_dir(&top).unwrap();
        std::fs::set_permissions(&top, PermissionsExt::from_mode(0o1711)).unwrap();
        let top = kernel::open::open_dir(&top).unwrap();
        let changes = prepare(dir.path(), Some(top.as_fd())).unwrap();
        assert_eq!(changes.upper.metadata().unwrap().permissions().mode() & 0o7777, 0o1711);
        assert_eq!(changes.work.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }
}
