//! Puts the steps of a spec on top of the root, by descriptor only.
//!
//! Every target is resolved below the root's descriptor with
//! RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS (rule P1); below /proc, /sys and
//! /dev no link of the image is followed at all (CVE-2023-28642,
//! CVE-2025-31133). Sources that the user named were opened before the ids
//! changed, with the user's own rights.
//!
//! Nothing of the container runs yet, but another container that shares a
//! volume may: a target is opened once and used by that descriptor.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::SFlag;

use super::root;
use super::spec::{Attributes, ContainerPath, HostPath, Mount, Overlay, Propagation, Source, Step};
use crate::error::{Context, Failure, Result};
use crate::kernel::{Errno, file, mount, open, terminal};
use crate::limits;
use crate::process::steps::Steps;

/// SYSFS_MAGIC of linux/magic.h.
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// What the mounts left for others.
#[derive(Default)]
pub struct Outcome {
    /// Master and slave of the container's terminal.
    pub terminal: Option<(OwnedFd, OwnedFd)>,
    /// One line each for the user.
    pub notices: Vec<String>,
}

/// Host sources of a spec, as detached copies, by the step's index.
pub type Sources = HashMap<usize, OwnedFd>;

/// Opens every host source. Runs before ids change and needs none mapped.
pub fn open_sources(all: &[Step]) -> Result<Sources> {
    let mut sources = Sources::new();
    for (index, step) in all.iter().enumerate() {
        let Step::Mount(Mount { source, target, .. }) = step else { continue };
        let opened = match source {
            Source::Bind { path, recursive, .. } => open_bind(path.as_path(), *recursive),
            Source::Content { path, .. } | Source::Device { path } => clone(path.as_path(), false),
            Source::HostProc => clone(Path::new("/proc"), true),
            Source::HostSys => clone(Path::new("/sys"), true),
            _ => continue,
        };
        sources.insert(index, opened.doing(|| format!("mount on {target}"))?);
    }
    Ok(sources)
}

fn clone(path: &Path, recursive: bool) -> Result<OwnedFd> {
    Ok(mount::clone_tree(open::cwd(), path, recursive)?)
}

fn open_bind(path: &Path, recursive: bool) -> Result<OwnedFd> {
    clone(path, recursive).map_err(|failure| match failure.errno {
        Some(libc::EACCES) => failure.hint(format!("you have no right to reach \"{}\"", path.display())),
        Some(libc::EINVAL) if !recursive => {
            failure.hint("there are mounts below it that a user namespace may not uncover: bind it recursively")
        }
        _ => failure,
    })
}

/// Carries out `all` steps below `root`.
pub fn apply(all: &[Step], root: BorrowedFd<'_>, sources: &mut Sources, steps: &mut Steps) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut mask = Mask::default();
    for (index, step) in all.iter().enumerate() {
        match step {
            Step::Mount(mount) => {
                apply_mount(mount, root, sources.remove(&index), &mut outcome)
                    .doing(|| format!("mount on {}", mount.target))?;
                steps.mark(&format!("mount {}", mount.target));
            }
            Step::Symlink { path, target } => {
                make_link(root, path, target).doing(|| format!("make link {path}"))?;
            }
            Step::Mask(path) => mask.apply(root, path).doing(|| format!("mask {path}"))?,
            Step::ReadOnly(path) => make_read_only(root, path).doing(|| format!("make {path} read-only"))?,
        }
    }
    steps.mark("masks and read-only paths");
    Ok(outcome)
}

fn apply_mount(mount: &Mount, root: BorrowedFd<'_>, source: Option<OwnedFd>, outcome: &mut Outcome) -> Result<()> {
    let Some(tree) = make_tree(mount, root, source, outcome)? else { return Ok(()) };
    let directory = is_directory(tree.as_fd())?;
    let target = open_target(root, &mount.target, directory)?;
    mount::attach(tree.as_fd(), target.as_fd(), &mount.target.to_string())?;
    Ok(())
}

/// The detached mount of one step, its attributes set; `None` where the step
/// is left out with a notice.
fn make_tree(
    mount: &Mount,
    root: BorrowedFd<'_>,
    source: Option<OwnedFd>,
    outcome: &mut Outcome,
) -> Result<Option<OwnedFd>> {
    let bits = attribute_bits(mount.attributes);
    let fresh = |kind, options: &[(&std::ffi::CStr, String)]| -> Result<OwnedFd> {
        let context = mount::Context::new(kind)?;
        for (key, value) in options {
            context.string(key, value)?;
        }
        Ok(context.mount(bits)?)
    };
    let opened = || source.ok_or_else(|| Failure::bug("a mount source was not opened"));
    let tree = match &mount.source {
        Source::Bind { propagation, recursive, .. } => bound(opened()?, bits, *propagation, *recursive)?,
        Source::Content { .. } => bound(opened()?, bits, None, false)?,
        Source::Device { path } => bound_device(opened()?, path.as_path())?,
        Source::HostProc | Source::HostSys | Source::Shared(_) => bound(opened()?, bits, None, true)?,
        Source::Overlay(overlay) => match overlay_directory(overlay) {
            Ok(tree) => bound(tree, bits, None, false)?,
            // Locked mounts below it, or a directory that is no lower.
            Err(failure) if matches!(failure.errno, Some(libc::EINVAL | libc::EACCES)) => {
                outcome.notices.push(format!("{} is shown read-only: the host has mounts below it", mount.target));
                bound(clone(overlay.lower.as_path(), true)?, bits | mount::RDONLY, None, true)?
            }
            Err(failure) => return Err(failure),
        },
        Source::Tmpfs { size_bytes, mode, owner } => {
            let mut options = vec![(c"mode", format!("{mode:o}"))];
            options.extend(size_bytes.map(|size| (c"size", size.to_string())));
            options.extend(owner.iter().flat_map(|(uid, gid)| [(c"uid", uid.to_string()), (c"gid", gid.to_string())]));
            fresh(c"tmpfs", &options)?
        }
        Source::Proc => fresh(c"proc", &[]).map_err(explain_proc)?,
        Source::Sysfs => fresh(c"sysfs", &[])?,
        Source::Mqueue => fresh(c"mqueue", &[])?,
        Source::Devpts => devpts(bits)?,
        Source::Cgroup2 => match fresh(c"cgroup2", &[]) {
            Ok(tree) => tree,
            Err(failure) if matches!(failure.errno, Some(libc::EPERM | libc::ENODEV | libc::EBUSY)) => {
                outcome.notices.push("no cgroup v2 tree could be mounted on /sys/fs/cgroup".to_owned());
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        },
        Source::Console => {
            let pair = open_terminal(root)?;
            let tree = mount::clone_tree(pair.1.as_fd(), Path::new(""), false)?;
            outcome.terminal = Some(pair);
            tree
        }
    };
    Ok(Some(tree))
}

fn attribute_bits(attributes: Attributes) -> u64 {
    let Attributes { read_only, no_suid, no_dev, no_exec } = attributes;
    [(read_only, mount::RDONLY), (no_suid, mount::NOSUID), (no_dev, mount::NODEV), (no_exec, mount::NOEXEC)]
        .into_iter()
        .filter_map(|(wanted, bit)| wanted.then_some(bit))
        .fold(0, |bits, bit| bits | bit)
}

/// Sets attributes on a copy of a host tree before anybody can see it.
fn bound(tree: OwnedFd, bits: u64, propagation: Option<Propagation>, recursive: bool) -> Result<OwnedFd> {
    let propagation = match propagation {
        None | Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Shared) => libc::MS_SHARED,
    };
    mount::set_attributes(tree.as_fd(), bits, propagation, recursive, "bind")?;
    Ok(tree)
}

/// A device node, which must be one: a regular file here would be a way to
/// show host files under a device's name.
fn bound_device(tree: OwnedFd, path: &Path) -> Result<OwnedFd> {
    let kind = file::status(tree.as_fd())?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFCHR && kind != libc::S_IFBLK {
        return Err(Failure::user(format!("\"{}\" is not a device", path.display())));
    }
    bound(tree, mount::NOSUID | mount::NOEXEC, None, false)
}

fn overlay_directory(overlay: &Overlay) -> Result<OwnedFd> {
    let open = |path: &HostPath| open::open_dir(path.as_path());
    let (lower, upper, work) = (open(&overlay.lower)?, open(&overlay.upper)?, open(&overlay.work)?);
    root::overlay(&[lower.as_fd()], Some((upper.as_fd(), work.as_fd())), overlay.volatile)
}

/// Pseudo-terminals belong to group tty (5) so that write(1) works; where only
/// one id is mapped there is no such group.
fn devpts(bits: u64) -> Result<OwnedFd> {
    let make = |group: bool| -> Result<OwnedFd> {
        let context = mount::Context::new(c"devpts")?;
        context.flag(c"newinstance").or_else(|error| match error.errno {
            // Since Linux 4.7 every mount is a new instance and the flag only tolerated.
            Errno::EINVAL => Ok(()),
            _ => Err(error),
        })?;
        context.string(c"ptmxmode", "0666")?;
        context.string(c"mode", "0620")?;
        if group {
            context.string(c"gid", "5")?;
        }
        Ok(context.mount(bits)?)
    };
    make(true).or_else(|_| make(false))
}

fn explain_proc(failure: Failure) -> Failure {
    if failure.is_errno(libc::EPERM) {
        return failure.hint(
            "the host's /proc has masked paths, as inside another container: \
             start that one with --security-opt unmask=ALL, or use --pid host",
        );
    }
    failure
}

/// Master and slave of a new terminal of the container's own devpts. A running
/// container can put anything on /dev/pts: what is there must be a devpts, and
/// the multiplexer in it no mount of something else (as CVE-2025-52565).
pub fn open_terminal(root: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new("dev/pts");
    let devpts = open::openat2(root, path, libc::O_PATH | libc::O_DIRECTORY, 0, open::Resolve::InRootNoLinks)?;
    if file::file_system_magic(devpts.as_fd())? != libc::DEVPTS_SUPER_MAGIC {
        return Err(Failure::user("/dev/pts in the container is not a devpts"));
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = open::openat2(devpts.as_fd(), Path::new("ptmx"), flags, 0, open::Resolve::SameMount)?;
    let slave = terminal::open_slave(master.as_fd())?;
    Ok((master, slave))
}

/// How links of the image count on the way to `path`.
fn resolve_rule(path: &ContainerPath) -> open::Resolve {
    let kernel_trees = ["/proc", "/sys", "/dev"];
    if kernel_trees.iter().any(|tree| path.as_path().starts_with(tree)) {
        open::Resolve::InRootNoLinks
    } else {
        open::Resolve::InRoot
    }
}

/// The target, made where it is missing, behind a dangling link too.
fn open_target(root: BorrowedFd<'_>, path: &ContainerPath, directory: bool) -> Result<OwnedFd> {
    let rule = resolve_rule(path);
    let mut at = path.clone();
    for _ in 0..limits::ENTRY_LINKS_MAX {
        match open::openat2(root, at.relative(), libc::O_PATH, 0, rule) {
            Ok(target) => {
                check_tree(&target, path)?;
                return check_kind(target, path, directory);
            }
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) if error.errno == Errno::ELOOP => break,
            Err(error) => return Err(error.into()),
        }
        let parent = make_dirs(root, &parent_of(&at), rule)?;
        match link_at(parent.as_fd(), &at) {
            Some(behind) => at = behind,
            None => return make_target(parent.as_fd(), name_of(&at), directory),
        }
    }
    Err(Failure::user(format!("the image has a symbolic link on the way to {path}")))
}

fn parent_of(path: &ContainerPath) -> ContainerPath {
    path.as_path().parent().map_or_else(|| ContainerPath::new("/"), ContainerPath::new)
}

fn name_of(path: &ContainerPath) -> &Path {
    path.as_path().file_name().map(Path::new).unwrap_or(Path::new("."))
}

/// Where the symbolic link at `path` leads, if it is one; `..` in it is taken
/// literally. The result is again resolved below the root.
fn link_at(parent: BorrowedFd<'_>, path: &ContainerPath) -> Option<ContainerPath> {
    let target = file::read_link_at(parent, name_of(path)).ok()?;
    Some(ContainerPath::new(parent_of(path).as_path().join(target)))
}

/// A link of the image may lead into the kernel's own file systems, where a
/// mount could undo a mask (CVE-2019-19921). kelp itself names them directly.
fn check_tree(target: &OwnedFd, path: &ContainerPath) -> Result<()> {
    let is_kernels = matches!(
        file::file_system_magic(target.as_fd())?,
        libc::PROC_SUPER_MAGIC | SYSFS_MAGIC | libc::CGROUP2_SUPER_MAGIC
    );
    if is_kernels && resolve_rule(path) == open::Resolve::InRoot {
        return Err(Failure::user(format!("a symbolic link of the image leads from {path} into /proc or /sys")));
    }
    Ok(())
}

fn check_kind(target: OwnedFd, path: &ContainerPath, directory: bool) -> Result<OwnedFd> {
    if is_directory(target.as_fd())? == directory {
        return Ok(target);
    }
    let (source, there) = if directory { ("a directory", "a file") } else { ("a file", "a directory") };
    Err(Failure::user(format!("the source is {source}, but {path} in the image is {there}")))
}

fn make_target(parent: BorrowedFd<'_>, name: &Path, directory: bool) -> Result<OwnedFd> {
    if directory {
        file::make_dir(parent, name, 0o755)?;
    } else {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
        open::openat2(parent, name, flags, 0o644, open::Resolve::BeneathNoLinks)?;
    }
    Ok(open::openat2(parent, name, libc::O_PATH, 0, open::Resolve::BeneathNoLinks)?)
}

/// Opens a directory below the root and makes what is missing of it, mode
/// 0755. A dangling link of the image (/var/run in one without /run) is made
/// to lead somewhere, as Docker does.
pub fn make_dirs(root: BorrowedFd<'_>, path: &ContainerPath, rule: open::Resolve) -> Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_RDONLY;
    let mut at = path.clone();
    for _ in 0..limits::ENTRY_LINKS_MAX {
        match open::openat2(root, at.relative(), flags, 0, rule) {
            Err(error) if error.errno == Errno::ENOENT => {}
            result => return Ok(result?),
        }
        if let Some(behind) = make_missing(root, &at, rule)? {
            at = behind;
        }
    }
    Err(Failure::user(format!("the image has too many symbolic links on the way to {path}")))
}

/// Makes what is missing of `path`, up to the first dangling link: then
/// returns the path that leads on behind it.
fn make_missing(root: BorrowedFd<'_>, path: &ContainerPath, rule: open::Resolve) -> Result<Option<ContainerPath>> {
    let flags = libc::O_DIRECTORY | libc::O_RDONLY;
    let mut walked = ContainerPath::new("/");
    let mut rest = path.relative().components();
    while let Some(component) = rest.next() {
        let parent = open::openat2(root, walked.relative(), flags, 0, rule)?;
        walked = ContainerPath::new(walked.as_path().join(component));
        match file::make_dir(parent.as_fd(), name_of(&walked), 0o755) {
            Err(error) if error.errno != Errno::EEXIST => return Err(error.into()),
            Ok(()) => continue,
            Err(_) => {}
        }
        let is_dangling = matches!(
            open::openat2(root, walked.relative(), flags, 0, rule),
            Err(error) if error.errno == Errno::ENOENT
        );
        if is_dangling && let Some(behind) = link_at(parent.as_fd(), &walked) {
            return Ok(Some(ContainerPath::new(behind.as_path().join(rest.as_path()))));
        }
    }
    Ok(None)
}

fn make_link(root: BorrowedFd<'_>, path: &ContainerPath, target: &str) -> Result<()> {
    let parent = make_dirs(root, &parent_of(path), resolve_rule(path))?;
    Ok(file::make_symlink(Path::new(target), parent.as_fd(), name_of(path))?)
}

/// What masks paths: /dev/null over files, one empty read-only tmpfs over
/// directories.
#[derive(Default)]
struct Mask {
    directory: Option<OwnedFd>,
}

impl Mask {
    fn apply(&mut self, root: BorrowedFd<'_>, path: &ContainerPath) -> Result<()> {
        let Some(target) = open_existing(root, path)? else { return Ok(()) };
        let cover = if is_directory(target.as_fd())? { self.empty_directory()? } else { null_device(root)? };
        Ok(mount::attach(cover.as_fd(), target.as_fd(), &path.to_string())?)
    }

    /// The first use mounts it, later ones bind that mount.
    fn empty_directory(&mut self) -> Result<OwnedFd> {
        if let Some(first) = &self.directory {
            return Ok(mount::clone_tree(first.as_fd(), Path::new(""), false)?);
        }
        let context = mount::Context::new(c"tmpfs")?;
        context.string(c"size", "0")?;
        context.string(c"mode", "0555")?;
        let tree = context.mount(mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
        self.directory = Some(tree.try_clone()?);
        Ok(tree)
    }
}

/// A bind of the container's /dev/null, which must be the null device itself
/// (character 1:3): an image's fake would undo the mask (CVE-2025-31133).
fn null_device(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let tree = {
        let null = open::openat2(root, Path::new("dev/null"), libc::O_PATH, 0, open::Resolve::InRootNoLinks)?;
        mount::clone_tree(null.as_fd(), Path::new(""), false)?
    };
    let status = file::status(tree.as_fd())?;
    let is_null = SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT) == SFlag::S_IFCHR
        && status.st_rdev == libc::makedev(1, 3);
    if !is_null {
        return Err(Failure::host("/dev/null is not the null device"));
    }
    mount::set_attributes(tree.as_fd(), mount::RDONLY, 0, false, "/dev/null")?;
    Ok(tree)
}

fn make_read_only(root: BorrowedFd<'_>, path: &ContainerPath) -> Result<()> {
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    let tree = mount::clone_tree(target.as_fd(), Path::new(""), true)?;
    mount::set_attributes(tree.as_fd(), mount::RDONLY, 0, true, &path.to_string())?;
    Ok(mount::attach(tree.as_fd(), target.as_fd(), &path.to_string())?)
}

/// A path to protect; `None` where there is nothing to protect.
fn open_existing(root: BorrowedFd<'_>, path: &ContainerPath) -> Result<Option<OwnedFd>> {
    match open::openat2(root, path.relative(), libc::O_PATH, 0, resolve_rule(path)) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(file::status(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}
