//! Whether two files are the same to whoever uses them: type, owner, mode,
//! time, attributes and content; not which inode they are.
//!
//! Times are compared as a tar holds them, in whole seconds and not after
//! `newest_s`, so that a layer that was packed, unpacked and packed again is
//! the same layer. Two files with equal times are read and compared: a time is
//! a hint that anybody can set.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sys::stat::{FileStat, SFlag};

use super::attributes;
use super::stack::{self, Id, is};
use crate::error::Result;
use crate::kernel::open::Resolve;

/// What counts as a difference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Later times are taken for this.
    pub(super) newest_s: Option<i64>,
    /// A file with several names differs from every other file: in a layer, its
    /// names stay together, and those that were parted stay apart.
    pub(super) splits_links: bool,
}

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    /// How far the name may lead.
    pub(super) rule: Resolve,
}

impl Rules {
    /// The time of change, as written, in seconds.
    pub(super) fn modified_s(&self, status: &FileStat) -> i64 {
        self.newest_s.map_or(status.st_mtime, |newest| status.st_mtime.min(newest))
    }

    /// Whether the file at `new`, which is no directory, is the one at `old`.
    pub(super) fn is_same(&self, new: (Place<'_>, &FileStat), old: (Place<'_>, &FileStat)) -> Result<bool> {
        let ((new, status), (old, before)) = (new, old);
        if Id::of(status) == Id::of(before) {
            return Ok(true);
        }
        if self.splits_links && status.st_nlink.max(before.st_nlink) > 1 {
            return Ok(false);
        }
        let key = |status: &FileStat| {
            (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_rdev, self.modified_s(status))
        };
        if key(status) != key(before) {
            return Ok(false);
        }
        if is(status, SFlag::S_IFLNK) {
            return Ok(stack::read_link(new.dir, new.name)? == stack::read_link(old.dir, old.name)?);
        }
        if !is(status, SFlag::S_IFREG) {
            return Ok(true);
        }
        let pair = stack::open_file(new)?.zip(stack::open_file(old)?);
        let Some(((new, _), (old, _))) = pair else { return Ok(false) };
        // Dropped ones count where they are written.
        let attributes = |fd| attributes::read(fd, &mut 0);
        Ok(attributes(new.as_fd())? == attributes(old.as_fd())? && is_same_content(&new.into(), &old.into())?)
    }
}

fn is_same_content(new: &File, old: &File) -> Result<bool> {
    const CHUNK_BYTES: usize = 64 << 10;
    let (mut here, mut there) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut at = 0;
    loop {
        let count = fill(new, &mut here, at)?;
        if count != fill(old, &mut there, at)? || here.get(..count) != there.get(..count) {
            return Ok(false);
        }
        if count < CHUNK_BYTES {
            return Ok(true);
        }
        at += count as u64;
    }
}

/// Reads from `at` until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
