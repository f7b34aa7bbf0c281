//! The file that a log is written to, and its rotation.
//!
//! ```text
//!   ID-json.log.2 --> deleted        at most `files` of them
//!   ID-json.log.1 --> ID-json.log.2
//!   ID-json.log   --> ID-json.log.1
//!   (new)             ID-json.log
//! ```
//! Whole entries only: what a full disk cuts short is cut back to the last whole
//! one, at once or before the next write. A crash between two renames leaves a
//! gap, which readers pass over and the next rotation closes.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Whence;

use super::config::Rotation;
use super::files;
use crate::error::{Context, Result};
use crate::kernel::{Errno, file};

/// A log's files, open for writing. Whoever makes one holds the container's lock.
pub(super) struct JsonFile {
    directory: OwnedFd,
    id: String,
    rotation: Rotation,
    /// `None` while none could be made.
    file: Option<File>,
    /// What it holds.
    bytes: u64,
    /// Whether its end may be torn.
    is_torn: bool,
}

/// What an append did not write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shortfall {
    /// Bytes that are in the file: whole entries.
    pub(super) written: usize,
    /// Why no more.
    pub(super) errno: Errno,
}

impl JsonFile {
    /// Opens or makes the log of the container `id` in its `directory`; the torn
    /// end of an old one is cut off.
    pub(super) fn open(directory: &Path, id: &str, rotation: Rotation) -> Result<Self> {
        let directory = File::open(directory).doing(|| format!("open {}", directory.display()))?.into();
        let mut log = Self { directory, id: id.to_owned(), rotation, file: None, bytes: 0, is_torn: false };
        log.make_ready().map_err(std::io::Error::from).doing(|| "open the log")?;
        Ok(log)
    }

    /// Whether a file that holds `more` beside what it has is full.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        self.rotation.bytes.is_some_and(|full| self.bytes.saturating_add(more as u64) >= full)
    }

    /// Appends entries, in one write(2) where the disk allows. If less than
    /// `least` bytes and one entry more can be written, nothing is.
    pub(super) fn append(&mut self, entries: &[u8], least: usize) -> Result<(), Shortfall> {
        let nothing = |errno| Shortfall { written: 0, errno };
        self.make_ready().map_err(nothing)?;
        if self.is_full_with(0) {
            self.rotate().map_err(nothing)?;
        }
        let Some(file) = &self.file else { return Err(nothing(Errno::EBADF)) };
        let (mut done, mut refused) = (0, None);
        while done < entries.len() && refused.is_none() {
            match nix::unistd::write(file, entries.get(done..).unwrap_or_default()) {
                // Not in write(2)'s contract for files, but no reason to try for ever.
                Ok(0) => refused = Some(Errno::ENOSPC),
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(errno) => refused = Some(errno),
            }
        }
        let Some(errno) = refused else {
            self.bytes = self.bytes.saturating_add(entries.len() as u64);
            return Ok(());
        };
        let whole = memchr::memrchr(b'\n', entries.get(..done).unwrap_or_default()).map_or(0, |at| at + 1);
        let written = if whole > least { whole } else { 0 };
        self.take_back(done - written);
        self.bytes = self.bytes.saturating_add(written as u64);
        Err(Shortfall { written, errno })
    }

    /// Cuts the last `count` bytes off again.
    fn take_back(&mut self, count: usize) {
        let Some(file) = self.file.as_ref().filter(|_| count > 0) else { return };
        let cut = || {
            let end = nix::unistd::lseek(file, 0, Whence::SeekEnd)?;
            nix::unistd::ftruncate(file, end.saturating_sub_unsigned(count as u64).max(0))
        };
        // A file system that copies on write may need room for that, too.
        self.is_torn = cut().is_err();
    }

    /// Sees to it that there is a file whose end is whole.
    fn make_ready(&mut self) -> Result<(), Errno> {
        if self.file.is_none() {
            let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT;
            let name = files::name(&self.id, 0);
            let opened = file::open_at(self.directory.as_fd(), &name, flags, 0o600).map_err(|error| error.errno)?;
            self.file = Some(File::from(opened));
            self.is_torn = true;
        }
        if let Some(file) = self.file.as_ref().filter(|_| self.is_torn) {
            self.bytes = mend(file)?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Errno> {
        if let Some(file) = &self.file {
            // Somebody may have emptied it (`: > FILE`).
            self.bytes = length(file)?;
            if !self.is_full_with(0) {
                return Ok(());
            }
        }
        let directory = self.directory.as_fd();
        let oldest = self.rotation.files.max(1) - 1;
        let ignore_missing = |result: crate::kernel::Result<()>| match result {
            Err(error) if error.errno != Errno::ENOENT => Err(error.errno),
            _ => Ok(()),
        };
        ignore_missing(file::remove(directory, &files::name(&self.id, oldest)))?;
        for number in (0..oldest).rev() {
            let (from, to) = (files::name(&self.id, number), files::name(&self.id, number + 1));
            ignore_missing(file::rename(directory, &from, directory, &to))?;
        }
        self.file = None;
        self.make_ready()
    }

    /// The path of the file that is written to, below the container's directory.
    pub(super) fn name(&self) -> PathBuf {
        files::name(&self.id, 0)
    }
}

/// Cuts the end of a file off that is no whole line; returns its length.
fn mend(file: &File) -> Result<u64, Errno> {
    /// Bytes read at once, from the end.
    const BLOCK: u64 = 64 << 10;
    let length = length(file)?;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize((end - start) as usize, 0);
        // Most ends are whole: one byte says so.
        let look = if end == length { end - 1 } else { start };
        let part = block.get_mut(..(end - look) as usize).unwrap_or_default();
        read_exactly(file, part, look)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            end = look + at as u64 + 1;
            break;
        }
        end = look;
    }
    if end < length {
        nix::unistd::ftruncate(file, end.cast_signed())?;
    }
    Ok(end)
}

fn read_exactly(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
    use std::os::unix::fs::FileExt;
    let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    file.read_exact_at(buffer, offset).map_err(errno)
}

fn length(file: &File) -> Result<u64, Errno> {
    let status = file::status(file.as_fd()).map_err(|error| error.errno)?;
    Ok(u64::try_from(status.st_size).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "0123";

    fn open(directory: &Path, bytes: Option<u64>, files: u32) -> JsonFile {
        JsonFile::open(directory, ID, Rotation { bytes, files }).unwrap()
    }

    fn content(directory: &Path) -> Vec<String> {
        (0..9).map_while(|number| fs::read_to_string(directory.join(files::name(ID, number))).ok()).collect()
    }

    #[test]
    fn rotates_by_size_and_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), Some(4), 3);
        for text in ["a\n", "b\n", "c\n", "long\n", "d\n", "e\n", "f\n"] {
            log.append(text.as_bytes(), 0).unwrap();
        }
        assert_eq!(content(dir.path()), ["f\n", "d\ne\n", "c\nlong\n"]);
        // The next one goes on.
        let mut log = open(dir.path(), Some(4), 3);
        log.append(b"g\n", 0).unwrap();
        assert_eq!(content(dir.path()), ["f\ng\n", "d\ne\n", "c\nlong\n"]);
    }

    #[test]
    fn with_one_file_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), Some(1), 1);
        for text in ["a\n", "b\n"] {
            log.append(text.as_bytes(), 0).unwrap();
        }
        assert_eq!(content(dir.path()), ["b\n"]);
    }

    #[test]
    fn a_gap_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(files::name(ID, 2)), "old\n").unwrap();
        let mut log = open(dir.path(), Some(1), 9);
        log.append(b"a\n", 0).unwrap();
        log.append(b"b\n", 0).unwrap();
        fs::remove_file(dir.path().join(files::name(ID, 1))).unwrap();
        log.append(b"c\n", 0).unwrap();
        assert_eq!(content(dir.path()), ["c\n", "b\n"]);
        assert_eq!(fs::read_to_string(dir.path().join(files::name(ID, 4))).unwrap(), "old\n");
    }

    #[test]
    fn a_torn_end_is_mended() {
        for (before, after) in [
            ("", "x\n"),
            ("a\n", "a\nx\n"),
            ("a\nb", "a\nx\n"),
            ("b", "x\n"),
            (&("a\n".to_owned() + &"b".repeat(200_000)), "a\nx\n"),
            (&"\0".repeat(70_000), "x\n"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(files::name(ID, 0)), before).unwrap();
            open(dir.path(), None, 1).append(b"x\n", 0).unwrap();
            assert_eq!(content(dir.path()), [after]);
        }
    }

    #[test]
    fn a_file_that_was_emptied_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), Some(10), 2);
        log.append(b"123456789\n", 0).unwrap();
        fs::write(dir.path().join(files::name(ID, 0)), "").unwrap();
        log.append(b"x\n", 0).unwrap();
        assert_eq!(content(dir.path()), ["x\n"]);
    }
}
