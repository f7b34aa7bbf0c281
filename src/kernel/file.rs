//! Files below a directory descriptor: the `*at` calls, extended attributes.
//!
//! Callers pass single names or paths that they resolved themselves; where a
//! path is controlled by an image or an archive, its parent is opened with
//! [`super::open::openat2`] first and only the last name comes here.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

use super::error::{Named, Result, check};

/// The status of `fd` (fstat(2)).
pub fn status(fd: BorrowedFd<'_>) -> Result<FileStat> {
    nix::sys::stat::fstat(fd).named("fstat", String::new)
}

/// The status of `name` itself, links not followed (fstatat(2)).
pub fn status_at(dir: BorrowedFd<'_>, name: &Path) -> Result<FileStat> {
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).named("fstatat", || shown(name))
}

/// Makes a directory (mkdirat(2)).
pub fn make_dir(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<()> {
    nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(mode)).named("mkdirat", || shown(name))
}

/// Makes a fifo, socket or device node (mknodat(2)). `kind` is an S_IF* value.
pub fn make_node(dir: BorrowedFd<'_>, name: &Path, kind: SFlag, mode: u32, device: u64) -> Result<()> {
    nix::sys::stat::mknodat(dir, name, kind, Mode::from_bits_truncate(mode), device).named("mknodat", || shown(name))
}

/// Makes a symbolic link (symlinkat(2)).
pub fn make_symlink(target: &Path, dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    nix::unistd::symlinkat(target, dir, name).named("symlinkat", || shown(name))
}

/// Links `from` (not followed if it is a symbolic link) to `to` (linkat(2)).
pub fn make_link(from_dir: BorrowedFd<'_>, from: &Path, to_dir: BorrowedFd<'_>, to: &Path) -> Result<()> {
    nix::unistd::linkat(from_dir, from, to_dir, to, AtFlags::empty()).named("linkat", || shown(to))
}

/// Renames, replacing what is there (renameat(2)).
pub fn rename(from_dir: BorrowedFd<'_>, from: &Path, to_dir: BorrowedFd<'_>, to: &Path) -> Result<()> {
    nix::fcntl::renameat(from_dir, from, to_dir, to).named("renameat", || shown(to))
}

/// Removes a name that is not a directory (unlinkat(2)).
pub fn remove(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).named("unlinkat", || shown(name))
}

/// Removes an empty directory (unlinkat(2) AT_REMOVEDIR).
pub fn remove_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir).named("unlinkat", || shown(name))
}

/// Sets the owner of `name` itself, links not followed (fchownat(2)).
pub fn set_owner_at(dir: BorrowedFd<'_>, name: &Path, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    nix::unistd::fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).named("fchownat", || shown(name))
}

/// Sets the owner of an open file (fchown(2)).
pub fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .named("fchown", || format!("{uid}:{gid}"))
}

/// Sets the permission bits of an open file (fchmod(2)).
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode)).named("fchmod", || format!("{mode:o}"))
}

/// Sets access and modification times of `name` itself (utimensat(2)).
pub fn set_times_at(dir: BorrowedFd<'_>, name: &Path, accessed: &TimeSpec, modified: &TimeSpec) -> Result<()> {
    nix::sys::stat::utimensat(dir, name, accessed, modified, nix::sys::stat::UtimensatFlags::NoFollowSymlink)
        .named("utimensat", || shown(name))
}

/// Sets access and modification times of an open file (futimens(2)).
pub fn set_times(fd: BorrowedFd<'_>, accessed: &TimeSpec, modified: &TimeSpec) -> Result<()> {
    nix::sys::stat::futimens(fd, accessed, modified).named("futimens", String::new)
}

/// Sets an extended attribute of an open file (fsetxattr(2)).
pub fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: name is NUL-terminated, value is live for the length given.
    let result = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into(), "fsetxattr", || name.to_string_lossy().into_owned()).map(drop)
}

/// The magic number of the file system that `fd` is on (fstatfs(2)).
pub fn file_system_magic(fd: BorrowedFd<'_>) -> Result<i64> {
    Ok(nix::sys::statfs::fstatfs(fd.as_fd()).named("fstatfs", String::new)?.filesystem_type().0)
}

/// Writes out all dirty data of the file system that `fd` is on (syncfs(2)).
pub fn sync_file_system(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call takes one descriptor.
    let value = unsafe { libc::syncfs(fd.as_raw_fd()) };
    check(value.into(), "syncfs", String::new).map(drop)
}

fn shown(name: &Path) -> String {
    name.display().to_string()
}
