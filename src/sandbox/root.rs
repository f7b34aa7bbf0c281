//! The container's `/`: an overlay of its layers, or a plain directory.
//!
//! The directories are opened by init before its ids change, with the user's
//! own rights, and in its own mount namespace: overlayfs takes no layer from
//! another one (EINVAL). The mount is made in the container's user namespace.
//! Layers go in by descriptor (`lowerdir+`, Linux 6.13; by path before that),
//! so neither the option page's 4 KiB nor its escapes are a limit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::spec::{HostPath, Root};
use crate::error::{Context, Failure, Result};
use crate::kernel::{Errno, file, mount, open};

/// The directories of a root, open.
pub struct Opened {
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Opened {
    /// Opens them.
    pub fn open(root: &Root) -> Result<Self> {
        let lowers = root.lowers.iter().map(open_layer).collect::<Result<Vec<_>>>()?;
        let [upper, work] = [&root.upper, &root.work]
            .map(|path| open::open_dir(path.as_path()).doing(|| format!("open {}", path.as_path().display())));
        Ok(Self { lowers, upper: upper?, work: work? })
    }
}

/// Gives the writable directories to `owner` (an id of the base namespace), so
/// that the container's root owns its `/`. Done by the supervisor, who may.
pub fn give(root: &Root, owner: (u32, u32)) -> Result<()> {
    if owner == (0, 0) {
        return Ok(());
    }
    for path in [&root.upper, &root.work] {
        let fd = open::open_dir(path.as_path())?;
        file::set_owner(fd.as_fd(), owner.0, owner.1)?;
    }
    Ok(())
}

fn open_layer(path: &HostPath) -> Result<OwnedFd> {
    open::open_dir(path.as_path()).doing(|| format!("open layer {}", path.as_path().display()))
}

/// Mounts the root detached. It is made read-only last, by the caller: mount
/// points may still have to be made in it.
pub fn mount(root: &Root, opened: &Opened) -> Result<OwnedFd> {
    if root.lowers.is_empty() {
        return Ok(mount::clone_tree(opened.upper.as_fd(), Path::new(""), true)?);
    }
    let lowers: Vec<_> = opened.lowers.iter().map(AsFd::as_fd).collect();
    overlay(&lowers, opened.upper.as_fd(), opened.work.as_fd(), root.volatile).map_err(explain)
}

/// An overlay with `userxattr`, without which whiteouts and opaque marks made
/// by users would be ignored.
pub fn overlay(
    lowers: &[BorrowedFd<'_>],
    upper: BorrowedFd<'_>,
    work: BorrowedFd<'_>,
    volatile: bool,
) -> Result<OwnedFd> {
    let context = mount::Context::new(c"overlay")?;
    context.flag(c"userxattr")?;
    for lower in lowers {
        set_directory(&context, c"lowerdir+", *lower)?;
    }
    set_directory(&context, c"upperdir", upper)?;
    set_directory(&context, c"workdir", work)?;
    if volatile {
        context.flag(c"volatile")?;
    }
    Ok(context.mount(0)?)
}

/// By descriptor; before Linux 6.13, which knows no overlay descriptors
/// (EINVAL), by the descriptor's path below /proc.
fn set_directory(context: &mount::Context, key: &std::ffi::CStr, fd: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    match context.descriptor(key, fd) {
        Err(error) if error.errno == Errno::EINVAL => {
            Ok(context.string(key, &format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
        }
        result => Ok(result?),
    }
}

fn explain(failure: Failure) -> Failure {
    if failure.is_errno(libc::ENODEV) {
        return failure.hint("this kernel has no overlayfs: an admin runs modprobe overlay");
    }
    if failure.is_errno(libc::EPERM) {
        return failure.hint("overlayfs in user namespaces needs Linux 5.11 or later");
    }
    if failure.is_errno(libc::EINVAL) {
        return failure.hint(
            "the upper directory must be on a local file system with user xattrs (not NFS, Lustre, overlay or \
             tmpfs before Linux 6.6), and a --rootfs directory must have no mounts below it; \
             set KELP_DATA to a local disk",
        );
    }
    failure
}
