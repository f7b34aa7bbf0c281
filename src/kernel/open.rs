//! Opening by path: openat2(2) with its resolve rules.
//!
//! Every path that an image, a container or an archive controls is opened
//! through here, below a directory descriptor (rule P1 of docs/security.md).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::error::{Error, Result, check};

/// How far a path may lead (openat2(2), "resolve").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// As open(2) does. Only for paths that the user typed.
    Anywhere,
    /// The directory is the root: absolute links and `..` stay below it.
    InRoot,
    /// As [`Resolve::InRoot`], and no component may be a symbolic link.
    InRootNoLinks,
    /// A path that leaves the directory is refused with EXDEV, and links are
    /// refused with ELOOP.
    BeneathNoLinks,
    /// As [`Resolve::BeneathNoLinks`], and a mount point is refused with EXDEV.
    SameMount,
}

impl Resolve {
    fn bits(self) -> u64 {
        match self {
            Self::Anywhere => 0,
            Self::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
            Self::InRootNoLinks => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS,
            Self::SameMount => Self::BeneathNoLinks.bits() | libc::RESOLVE_NO_XDEV,
            Self::BeneathNoLinks => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS,
        }
    }
}

/// Opens `path` below `dir`. `flags` are open(2) flags (O_CLOEXEC is added),
/// `mode` counts only with O_CREAT.
pub fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: i32, mode: u32, resolve: Resolve) -> Result<OwnedFd> {
    let c_path = to_c(path, "openat2")?;
    // SAFETY: open_how is a plain struct of integers; all zeros is its documented default.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = if flags & (libc::O_CREAT | libc::O_TMPFILE) != 0 { u64::from(mode) } else { 0 };
    how.resolve = resolve.bits();
    loop {
        // SAFETY: c_path is NUL-terminated and `how` has the size given; both outlive the call.
        let value = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                c_path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        match check(value, "openat2", || path.display().to_string()) {
            // EAGAIN: a rename raced with the walk (openat2(2)); the walk is safe to repeat.
            Err(Error { errno: Errno::EINTR | Errno::EAGAIN, .. }) => {}
            // SAFETY: the kernel returned a new descriptor that nobody else owns.
            result => return result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        }
    }
}

/// Opens a path that the user typed, relative to the working directory.
pub fn open(path: &Path, flags: i32) -> Result<OwnedFd> {
    openat2(cwd(), path, flags, 0, Resolve::Anywhere)
}

/// Opens a directory that the user typed, for use as a base of `*at` calls.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(path, libc::O_DIRECTORY | libc::O_RDONLY)
}

/// The working directory as a base for `*at` calls.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not a descriptor but a constant that every *at call accepts; nothing is closed.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// A path as a C string; EINVAL where it holds a NUL.
pub(super) fn to_c(path: &Path, call: &'static str) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new(call, path.display().to_string(), Errno::EINVAL))
}
