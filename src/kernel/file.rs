//! Files below a directory descriptor: the `*at` calls, extended attributes.
//!
//! Callers pass single names or paths that they resolved themselves; where a
//! path is controlled by an image or an archive, its parent is opened with
//! [`super::open::openat2`] first and only the last name comes here.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

use super::error::{Error, Named, Result, check};
use super::open::to_c;

/// The status of `fd` (fstat(2)).
pub fn status(fd: BorrowedFd<'_>) -> Result<FileStat> {
    nix::sys::stat::fstat(fd).named("fstat", String::new)
}

/// The status of `name` itself, links not followed (fstatat(2)).
pub fn status_at(dir: BorrowedFd<'_>, name: &Path) -> Result<FileStat> {
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).named("fstatat", || shown(name))
}

/// Opens the single name `name` in `dir` (openat(2)). O_NOFOLLOW and O_CLOEXEC
/// are added; `mode` counts only with O_CREAT.
pub fn open_at(dir: BorrowedFd<'_>, name: &Path, flags: i32, mode: u32) -> Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    loop {
        match nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode)) {
            Err(Errno::EINTR) => {}
            result => return result.named("openat", || shown(name)),
        }
    }
}

/// What the symbolic link `name` holds (readlinkat(2)).
pub fn read_link_at(dir: BorrowedFd<'_>, name: &Path) -> Result<OsString> {
    nix::fcntl::readlinkat(dir, name).named("readlinkat", || shown(name))
}

/// The names of one directory, read as they are asked for (getdents64(2)).
/// Names that were returned may be removed while reading.
///
/// Not `Dir::iter`: that rewinds the directory whenever it is dropped.
pub struct Listing(nix::dir::OwningIter);

impl Listing {
    /// Takes over an open directory.
    pub fn new(dir: OwnedFd) -> Result<Self> {
        nix::dir::Dir::from_fd(dir).map(|dir| Self(dir.into_iter())).named("fdopendir", String::new)
    }
}

impl Iterator for Listing {
    /// A name other than `.` and `..`, and whether the file system says that
    /// it is a directory (`None`: it does not say).
    type Item = Result<(CString, Option<bool>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.0.next()? {
                Err(errno) => Some(Err(Error::new("getdents64", "", errno))),
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => continue,
                Ok(entry) => {
                    let directory = entry.file_type().map(|kind| kind == nix::dir::Type::Directory);
                    Some(Ok((entry.file_name().to_owned(), directory)))
                }
            };
        }
    }
}

impl AsFd for Listing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the iterator, which `self` owns and the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
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

/// Gives an open file the name `to`, one made with O_TMPFILE for example
/// (linkat(2) by way of /proc, as open(2) shows under O_TMPFILE).
pub fn link_open_file(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, to: &Path) -> Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(super::open::cwd(), from.as_str(), dir, to, AtFlags::AT_SYMLINK_FOLLOW)
        .named("linkat", || shown(to))
}

/// Renames, replacing what is there (renameat(2)).
pub fn rename(from_dir: BorrowedFd<'_>, from: &Path, to_dir: BorrowedFd<'_>, to: &Path) -> Result<()> {
    nix::fcntl::renameat(from_dir, from, to_dir, to).named("renameat", || shown(to))
}

/// Exchanges two names in one step (renameat2(2), RENAME_EXCHANGE; EINVAL on a
/// file system that cannot).
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    let cwd = super::open::cwd();
    nix::fcntl::renameat2(cwd, one, cwd, other, nix::fcntl::RenameFlags::RENAME_EXCHANGE)
        .named("renameat2", || shown(other))
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

/// Sets the permission bits of `name` itself, never of what a link leads to
/// (fchmodat2(2), since Linux 6.6; ENOSYS before).
pub fn set_mode_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<()> {
    let c_name = to_c(name, "fchmodat2")?;
    // SAFETY: c_name is NUL-terminated and outlives the call; the other arguments are integers.
    let value = unsafe {
        libc::syscall(libc::SYS_fchmodat2, dir.as_raw_fd(), c_name.as_ptr(), mode, libc::AT_SYMLINK_NOFOLLOW)
    };
    check(value, "fchmodat2", || shown(name)).map(drop)
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

/// The value of an extended attribute of an open file, up to 256 bytes of it
/// (fgetxattr(2)). `None` when it is not set or there are no attributes here.
pub fn attribute(fd: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 256];
    // SAFETY: name is NUL-terminated, value is live and writable for the length given.
    let length = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match check(length as libc::c_long, "fgetxattr", || name.to_string_lossy().into_owned()) {
        Ok(length) => {
            value.truncate(length as usize);
            Ok(Some(value))
        }
        Err(Error { errno: Errno::ENODATA | Errno::EOPNOTSUPP, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of the extended attributes of an open file (flistxattr(2)); none
/// where the file system has no attributes.
pub fn attribute_names(fd: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let list = grow(256, "flistxattr", |buffer| {
        // SAFETY: the buffer is live and writable for the length given.
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    let names = list.unwrap_or_default();
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).flat_map(CString::new).collect())
}

/// The whole value of an extended attribute of an open file (fgetxattr(2)).
/// `None` when it is not set or there are no attributes here.
pub fn whole_attribute(fd: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    grow(256, "fgetxattr", |buffer| {
        // SAFETY: name is NUL-terminated, the buffer is live and writable for the length given.
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// Repeats a call that fills a buffer until the buffer is large enough (ERANGE
/// before). `None` where there is nothing to read (ENODATA, EOPNOTSUPP).
fn grow(start: usize, call: &'static str, fill: impl Fn(&mut [u8]) -> isize) -> Result<Option<Vec<u8>>> {
    /// XATTR_SIZE_MAX and XATTR_LIST_MAX.
    const BYTES_MAX: usize = 64 << 10;
    let mut buffer = vec![0_u8; start];
    loop {
        match check(fill(&mut buffer) as libc::c_long, call, String::new) {
            Ok(length) => {
                buffer.truncate(length as usize);
                return Ok(Some(buffer));
            }
            Err(Error { errno: Errno::ERANGE, .. }) if buffer.len() < BYTES_MAX => buffer.resize(BYTES_MAX, 0),
            Err(Error { errno: Errno::ENODATA | Errno::EOPNOTSUPP, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The next run of data of an open file at or after `offset`: its start and
/// its end (lseek(2) SEEK_DATA, SEEK_HOLE); `None` if only a hole is left.
/// Moves the file's position.
pub fn next_data(fd: BorrowedFd<'_>, offset: u64) -> Result<Option<(u64, u64)>> {
    use nix::unistd::{Whence, lseek};
    let seek = |to: i64, whence| lseek(fd, to, whence).named("lseek", || to.to_string());
    let start = match seek(offset.cast_signed(), Whence::SeekData) {
        Err(Error { errno: Errno::ENXIO, .. }) => return Ok(None),
        result => result?,
    };
    Ok(Some((start.cast_unsigned(), seek(start, Whence::SeekHole)?.cast_unsigned())))
}

/// Removes an extended attribute of an open file (fremovexattr(2)).
pub fn remove_attribute(fd: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    let value = unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    check(value.into(), "fremovexattr", || name.to_string_lossy().into_owned()).map(drop)
}

/// Has reads and writes of `fd` fail with EAGAIN instead of waiting (fcntl(2)
/// O_NONBLOCK). It holds for all who share the open file.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = fcntl(fd, FcntlArg::F_GETFL).named("fcntl", || "F_GETFL".to_owned())?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).named("fcntl", || "F_SETFL".to_owned())
}

/// The magic number of the file system that `fd` is on (fstatfs(2)).
pub fn file_system_magic(fd: BorrowedFd<'_>) -> Result<i64> {
    Ok(nix::sys::statfs::fstatfs(fd.as_fd()).named("fstatfs", String::new)?.filesystem_type().0)
}

/// Makes `to` a copy of `from` that shares its blocks (ioctl_ficlone(2)).
/// EOPNOTSUPP where the file system cannot.
pub fn share_blocks(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: FICLONE takes a descriptor, which is open for as long as the borrow.
    let value = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) };
    check(value.into(), "ioctl", || "FICLONE".to_owned()).map(drop)
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
