//! The files of one log, oldest first, opened while they may be rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Failure, Result};

/// The name of the file `number`; 0 is the one that is written to.
pub(super) fn name(id: &str, number: u32) -> PathBuf {
    match number {
        0 => format!("{id}-json.log").into(),
        number => format!("{id}-json.log.{number}").into(),
    }
}

/// Where a log is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `containers/ID`.
    pub(super) directory: PathBuf,
    /// 64 hexadecimal digits.
    pub(super) id: String,
    /// How many files there may be.
    pub(super) files: u32,
}

/// One file of a log, whatever it is called by now.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    /// What it was called when it was opened.
    pub(super) path: PathBuf,
    /// Device and inode.
    pub(super) identity: (u64, u64),
}

impl Place {
    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(name(&self.id, number))
    }

    /// All files, oldest first. None is missed but one that is begun meanwhile.
    pub(super) fn open(&self) -> Result<Vec<LogFile>> {
        let mut found: Vec<LogFile> = Vec::new();
        // From the newest on: rotation moves files the way we go, so one may be
        // met twice, but none is passed unseen.
        for number in 0..self.files {
            let path = self.path(number);
            let Some(file) = open(&path).doing(|| format!("open {}", path.display()))? else { continue };
            if found.iter().all(|known| known.identity != file.identity) {
                found.push(file);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Whether `newest` is still the file that is written to.
    pub(super) fn is_newest(&self, newest: &LogFile) -> bool {
        // Between two renames there is none: then too, nothing has come yet.
        self.path(0).metadata().map_or(true, |status| (status.dev(), status.ino()) == newest.identity)
    }
}

/// Opens one; `None` where there is none.
fn open(path: &Path) -> Result<Option<LogFile>> {
    // O_NONBLOCK: what is no file would otherwise have us wait (a fifo).
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(Failure::host("it is not a file"));
    }
    Ok(Some(LogFile { file, path: path.to_owned(), identity: (status.dev(), status.ino()) }))
}
