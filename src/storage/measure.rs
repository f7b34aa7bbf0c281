//! How many bytes a directory holds, whoever its files belong to.
//!
//! The walk runs in the census stage, as root of the base namespace, and often
//! in what a live container is writing: what vanishes meanwhile is not there.
//! It holds a descriptor for each level and the names of directories that are
//! still to be read, both bounded; what is beyond is told and not counted.
//!
//! Bytes are those of the content, without holes. A file with several names
//! counts its share for each: no list of inodes has to be kept, and the names
//! of one file are all in the tree unless somebody made one elsewhere.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::kernel::file::{self, Listing};
use crate::kernel::{Errno, open};
use crate::limits;

/// Bytes of a block as stat(2) counts them, whatever the file system's are.
const BLOCK_BYTES: u64 = 512;

/// What a directory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Files, directories and all else below it.
    pub entries: u64,
    /// Content of its regular files.
    pub bytes: u64,
    /// Entries that could not be looked at, or are too many or too deep.
    pub uncounted: u64,
}

impl Measured {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
            uncounted: self.uncounted.saturating_add(other.uncounted),
        }
    }
}

/// Measures what is below `root`; a directory that is not there holds nothing.
pub(super) fn measure(root: &Path) -> Measured {
    match open::open_dir(root) {
        Ok(root) => Walk::default().below(root),
        Err(error) if error.errno == Errno::ENOENT => Measured::default(),
        Err(_) => Measured { uncounted: 1, ..Measured::default() },
    }
}

#[derive(Default)]
struct Walk {
    measured: Measured,
    /// Bytes of files by how many names they have.
    linked: BTreeMap<u64, u64>,
    /// Bytes of names that are kept.
    kept: usize,
}

/// A directory, and those in it that are still to be read.
struct Level {
    fd: OwnedFd,
    directories: Vec<CString>,
}

impl Walk {
    fn below(mut self, root: OwnedFd) -> Measured {
        let mut levels = Vec::new();
        self.enter(root, &mut levels);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.directories.pop() else {
                levels.pop();
                continue;
            };
            self.kept = self.kept.saturating_sub(name.as_bytes().len());
            match open_directory(level.fd.as_fd(), path_of(&name)) {
                Ok(Some(fd)) if levels.len() < limits::ENTRY_DEPTH_MAX => self.enter(fd, &mut levels),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => self.measured.uncounted += 1,
            }
        }
        let linked = self.linked.iter().map(|(names, bytes)| bytes / names);
        self.measured.bytes = linked.fold(self.measured.bytes, u64::saturating_add);
        self.measured
    }

    /// Takes the entries of a directory down.
    fn enter(&mut self, fd: OwnedFd, levels: &mut Vec<Level>) {
        match self.read(fd.as_fd()) {
            Ok(directories) => levels.push(Level { fd, directories }),
            Err(_) => self.measured.uncounted += 1,
        }
    }

    fn read(&mut self, dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
        // Opened anew: a listing takes its descriptor over, with its position.
        let listing = Listing::new(file::open_at(dir, Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY, 0)?)?;
        let mut directories = Vec::new();
        for next in listing {
            let (name, _) = next?;
            let status = match file::status_at(dir, path_of(&name)).map_err(Failure::from) {
                Err(failure) if failure.is_errno(libc::ENOENT) => continue,
                Err(_) => {
                    self.measured.uncounted += 1;
                    continue;
                }
                Ok(status) => status,
            };
            self.measured.entries += 1;
            match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFDIR if self.kept >= limits::LAYER_DIRECTORY_BYTES_MAX => self.measured.uncounted += 1,
                SFlag::S_IFDIR => {
                    self.kept += name.as_bytes().len();
                    directories.push(name);
                }
                SFlag::S_IFREG => self.count(&status),
                _ => {}
            }
        }
        Ok(directories)
    }

    fn count(&mut self, status: &FileStat) {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let bytes = number(status.st_size).min(number(status.st_blocks).saturating_mul(BLOCK_BYTES));
        let sum = match status.st_nlink {
            0 | 1 => &mut self.measured.bytes,
            names => self.linked.entry(names).or_default(),
        };
        *sum = sum.saturating_add(bytes);
    }
}

/// `None` where it is gone meanwhile, or has become something else.
fn open_directory(dir: BorrowedFd<'_>, name: &Path) -> Result<Option<OwnedFd>> {
    match file::open_at(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(Failure::from) {
        Err(failure) if [libc::ENOENT, libc::ENOTDIR, libc::ELOOP].iter().any(|errno| failure.is_errno(*errno)) => {
            Ok(None)
        }
        result => result.map(Some),
    }
}

fn path_of(name: &CString) -> &Path {
    Path::new(OsStr::from_bytes(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn content_counts_once_and_holes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(measure(&root.join("nothing")), Measured::default());
        assert_eq!(measure(root), Measured::default());
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/one"), vec![1; 10_000]).unwrap();
        fs::write(root.join("a/b/c/two"), vec![1; 500]).unwrap();
        File::create(root.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        for name in ["link", "a/b/link"] {
            fs::hard_link(root.join("a/one"), root.join(name)).unwrap();
        }
        symlink("/usr", root.join("usr")).unwrap();
        assert_eq!(measure(root), Measured { entries: 9, bytes: 10_500, uncounted: 0 });
    }

    #[test]
    fn what_is_closed_or_too_deep_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = open::open_dir(dir.path()).unwrap();
        for _ in 0..limits::ENTRY_DEPTH_MAX + 5 {
            file::make_dir(deep.as_fd(), Path::new("d"), 0o700).unwrap();
            deep = file::open_at(deep.as_fd(), Path::new("d"), libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        }
        super::super::census::raise_descriptors();
        let measured = measure(dir.path());
        assert_eq!((measured.entries, measured.uncounted), (limits::ENTRY_DEPTH_MAX as u64, 1));
        if nix::unistd::geteuid().is_root() {
            return;
        }
        let closed = tempfile::tempdir().unwrap();
        fs::create_dir(closed.path().join("x")).unwrap();
        fs::set_permissions(closed.path().join("x"), fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(measure(closed.path()), Measured { entries: 1, bytes: 0, uncounted: 1 });
    }
}
