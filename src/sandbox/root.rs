//! The container's `/`: an overlay of its layers, or a plain directory.
//!
//! The directories are opened by init before its ids change, with the user's
//! own rights, and in its own mount namespace: overlayfs takes no layer from
//! another one (EINVAL). The mount is made in the container's user namespace.
//! Layers go in by descriptor where the kernel can, so that neither the length
//! nor the escapes of an option string are a limit.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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
    overlay(&lowers, Some((opened.upper.as_fd(), opened.work.as_fd())), root.volatile).map_err(explain)
}

/// Mounts the root detached to be read only: nothing is written to its
/// directories, and nothing is written out when it goes.
pub fn mount_to_read(root: &Root, opened: &Opened) -> Result<OwnedFd> {
    if root.lowers.is_empty() {
        return mount(root, opened);
    }
    let layers: Vec<_> = std::iter::once(&opened.upper).chain(&opened.lowers).map(AsFd::as_fd).collect();
    overlay(&layers, None, false).map_err(explain)
}

/// An overlay with `userxattr`, without which whiteouts and opaque marks made
/// by users would be ignored. Without `writable`, the upper and the work
/// directory, it is read-only and needs two lower ones.
///
/// Layers go in by descriptor (Linux 6.13), else one by one by name (6.7), else
/// all in one string, whose 255 bytes fsconfig(2) allows hold about 60 layers.
pub fn overlay(
    lowers: &[BorrowedFd<'_>],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    volatile: bool,
) -> Result<OwnedFd> {
    let context = mount::Context::new(c"overlay")?;
    context.flag(c"userxattr")?;
    if !add_by_descriptor(&context, lowers, writable)? {
        // Names as short as can be: descriptors below the working directory.
        nix::unistd::chdir(c"/proc/self/fd").map_err(std::io::Error::from)?;
        if !add_by_name(&context, lowers)? {
            let names: Vec<_> = lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
            context.string(c"lowerdir", &names.join(":"))?;
        }
        if let Some((upper, work)) = writable {
            context.string(c"upperdir", &upper.as_raw_fd().to_string())?;
            context.string(c"workdir", &work.as_raw_fd().to_string())?;
        }
    }
    if volatile {
        context.flag(c"volatile")?;
    }
    Ok(context.mount(0)?)
}

/// False where this kernel's overlayfs takes no descriptors: then nothing was
/// added.
fn add_by_descriptor(
    context: &mount::Context,
    lowers: &[BorrowedFd<'_>],
    writable: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<bool> {
    for (index, lower) in lowers.iter().enumerate() {
        match context.descriptor(c"lowerdir+", *lower) {
            Err(error) if index == 0 && error.errno == Errno::EINVAL => return Ok(false),
            result => result?,
        }
    }
    if let Some((upper, work)) = writable {
        context.descriptor(c"upperdir", upper)?;
        context.descriptor(c"workdir", work)?;
    }
    Ok(true)
}

/// False where this kernel's overlayfs knows no `lowerdir+`.
fn add_by_name(context: &mount::Context, lowers: &[BorrowedFd<'_>]) -> Result<bool> {
    for (index, lower) in lowers.iter().enumerate() {
        match context.string(c"lowerdir+", &lower.as_raw_fd().to_string()) {
            Err(error) if index == 0 && error.errno == Errno::EINVAL => return Ok(false),
            result => result?,
        }
    }
    Ok(true)
}

/// What the host may have to change for an overlay.
pub(super) fn explain(failure: Failure) -> Failure {
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
