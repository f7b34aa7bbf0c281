//! The mount API by descriptor: fsopen(2), fsconfig(2), fsmount(2),
//! open_tree(2), move_mount(2), mount_setattr(2); and pivot_root(2).
//!
//! No call here takes a path that an image controls: targets are descriptors.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::error::{Error, Named, Result, check};
use super::open::to_c;

/// Read-only (mount_setattr(2)).
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-ID bits and file capabilities have no effect.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes cannot be opened.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Programs cannot be executed.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// A file system being configured (fsopen(2)).
pub struct Context {
    fd: OwnedFd,
    kind: &'static CStr,
}

impl Context {
    /// Starts a new file system of `kind`, e.g. `c"overlay"`.
    pub fn new(kind: &'static CStr) -> Result<Self> {
        // SAFETY: kind is NUL-terminated and static.
        let value = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
        let fd = check(value, "fsopen", || name(kind))?;
        // SAFETY: the kernel returned a new descriptor that nobody else owns.
        let context = Self { fd: unsafe { OwnedFd::from_raw_fd(fd as i32) }, kind };
        // The first column of mount(8); "none" would tell nothing.
        context.string(c"source", &name(kind))?;
        Ok(context)
    }

    /// Sets `key` to a string.
    pub fn string(&self, key: &CStr, value: &str) -> Result<()> {
        let c_value = CString::new(value).map_err(|_| self.error("fsconfig", key, Errno::EINVAL))?;
        // SAFETY: key and value are NUL-terminated and outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                libc::FSCONFIG_SET_STRING,
                key.as_ptr(),
                c_value.as_ptr(),
                0,
            )
        };
        self.done(result, key)
    }

    /// Sets a flag without a value.
    pub fn flag(&self, key: &CStr) -> Result<()> {
        // SAFETY: key is NUL-terminated; a flag takes a null value and 0.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                libc::FSCONFIG_SET_FLAG,
                key.as_ptr(),
                std::ptr::null::<libc::c_char>(),
                0,
            )
        };
        self.done(result, key)
    }

    /// Sets `key` to a descriptor (an overlay layer by fd: Linux 6.13).
    pub fn descriptor(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<()> {
        // SAFETY: key is NUL-terminated; FSCONFIG_SET_FD takes a null value and the fd as aux.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                libc::FSCONFIG_SET_FD,
                key.as_ptr(),
                std::ptr::null::<libc::c_char>(),
                fd.as_raw_fd(),
            )
        };
        self.done(result, key)
    }

    /// Creates the file system and mounts it detached with `attributes`.
    pub fn mount(self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                libc::FSCONFIG_CMD_CREATE,
                std::ptr::null::<libc::c_char>(),
                std::ptr::null::<libc::c_char>(),
                0,
            )
        };
        self.done(result, c"create")?;
        // SAFETY: the descriptor is a configured file system context.
        let value = unsafe {
            libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as libc::c_uint)
        };
        let fd = check(value, "fsmount", || name(self.kind))?;
        // SAFETY: the kernel returned a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    fn done(&self, value: libc::c_long, key: &CStr) -> Result<()> {
        if value == -1 {
            let errno = Errno::last();
            return Err(self.error("fsconfig", key, errno));
        }
        Ok(())
    }

    /// The kernel's own words, where it left any in the context's log, are
    /// worth more than the errno: they are appended to the object's name.
    fn error(&self, call: &'static str, key: &CStr, errno: Errno) -> Error {
        let mut log = [0_u8; 512];
        let words = nix::unistd::read(self.fd.as_fd(), &mut log)
            .ok()
            .and_then(|length| log.get(..length))
            .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let mut target = format!("{} {}", name(self.kind), name(key));
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            target = format!("{target} ({words})");
        }
        Error::new(call, target, errno)
    }
}

/// A detached copy of the mount at `path` below `dir`; with `recursive`, of
/// the whole tree. An empty path means `dir` itself.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let c_path = to_c(path, "open_tree")?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: c_path is NUL-terminated and outlives the call.
    let value = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), c_path.as_ptr(), flags) };
    let fd = check(value, "open_tree", || path.display().to_string())?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches the detached `mount` onto `target`. `what` names it in errors.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, what: &str) -> Result<()> {
    // SAFETY: both paths are empty strings and both EMPTY_PATH flags are set, so only the descriptors count.
    let value = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    check(value, "move_mount", || what.to_owned()).map(drop)
}

/// Adds `attributes` to a mount (and all below it with `recursive`) and sets
/// its `propagation` (an MS_* value, 0 to leave it). Attributes are only ever
/// added: a user namespace may not drop what its parent locked.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: u64,
    propagation: u64,
    recursive: bool,
    what: &str,
) -> Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is empty (AT_EMPTY_PATH), attr is live and has the size given.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(value, "mount_setattr", || what.to_owned()).map(drop)
}

/// Makes the working directory the root and stacks the old root below it
/// (pivot_root(2), "pivot_root(".", ".")"), ready to be detached.
pub fn pivot_to_cwd() -> Result<()> {
    nix::unistd::pivot_root(c".", c".").named("pivot_root", || ".".to_owned())
}

/// Detaches the topmost mount at the working directory, with all below it.
pub fn detach_cwd() -> Result<()> {
    nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH).named("umount2", || ".".to_owned())
}

fn name(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
