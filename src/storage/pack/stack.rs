//! Directories on top of each other, read as overlayfs reads them (kernel
//! documentation, overlayfs.rst, "Upper and Lower", "whiteouts and opaque
//! directories"): the topmost file of a name shows, directories of a name are
//! merged, a whiteout hides all below it, an opaque directory all it would be
//! merged with.
//!
//! No overlay is mounted for this: it works without overlayfs, while the
//! container runs, and with either form of whiteouts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};

use crate::error::{Failure, Result};
use crate::kernel::open::Resolve;
use crate::kernel::{self, Errno, file};
use crate::limits;
use crate::storage::kernel_tree;

use super::compare::Place;

/// `y`: hides all that lower layers have in the directory. `x`: it may hold
/// whiteouts that are files.
const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";
/// Marks an empty file as a whiteout (since Linux 6.7).
const WHITEOUT: &std::ffi::CStr = c"user.overlay.whiteout";

const DIRECTORY_FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY;

/// What tells one directory from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    pub(super) fn of(status: &FileStat) -> Self {
        Self { device: status.st_dev, inode: status.st_ino }
    }
}

/// A directory of one layer.
#[derive(Debug)]
pub(super) struct Dir {
    /// Which, by its place in the stack.
    pub(super) layer: u16,
    pub(super) fd: OwnedFd,
    pub(super) id: Id,
    /// Hides those below it.
    pub(super) is_opaque: bool,
    /// A whiteout in it may be a file.
    has_whiteout_files: bool,
    /// How far names in it may lead.
    pub(super) rule: Resolve,
    /// The kernel's own file system begins here: nothing in it is a file that
    /// somebody keeps.
    is_passed_over: bool,
}

/// What a merged directory has under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) is_directory: bool,
    /// The directories that have it, by their place in the stack: of a file
    /// one, of a directory all that may have to be merged.
    pub(super) sources: Vec<u16>,
}

/// Opens directories that were handed over, perhaps with O_PATH. `rule` says
/// how far what is in them may lead.
pub(super) fn open_roots(roots: &[OwnedFd], rule: Resolve) -> Result<Vec<Dir>> {
    let open = |(layer, root): (u16, &OwnedFd)| {
        let fd = kernel::open::openat2(root.as_fd(), Path::new("."), DIRECTORY_FLAGS, 0, rule)?;
        Dir::new(layer, fd, rule)
    };
    (0..).zip(roots).map(open).collect()
}

impl Dir {
    /// Whether it is the topmost layer's.
    pub(super) fn is_top(&self) -> bool {
        self.layer == 0
    }

    fn new(layer: u16, fd: OwnedFd, rule: Resolve) -> Result<Self> {
        let id = Id::of(&file::status(fd.as_fd())?);
        let mark = file::attribute(fd.as_fd(), OPAQUE)?;
        let is = |value: &[u8]| mark.as_deref() == Some(value);
        Ok(Self { layer, fd, id, is_opaque: is(b"y"), has_whiteout_files: is(b"x"), rule, is_passed_over: false })
    }
}

/// Opens what the merged directory `dirs` has as the directory `name`.
/// `None` if it is gone or something else by now.
pub(super) fn enter(dirs: &[Dir], name: &[u8], sources: &[u16]) -> Result<Option<Vec<Dir>>> {
    let mut found: Vec<Dir> = Vec::with_capacity(sources.len());
    for dir in sources.iter().filter_map(|source| dirs.get(usize::from(*source))) {
        if found.last().is_some_and(|above| above.is_opaque) {
            break;
        }
        let opened = kernel::open::openat2(dir.fd.as_fd(), as_path(name), DIRECTORY_FLAGS, 0, dir.rule);
        let Some(fd) = unless_gone(opened)? else { return Ok(None) };
        let mut below = Dir::new(dir.layer, fd, dir.rule)?;
        below.is_passed_over = below.id.device != dir.id.device && kernel_tree::is_one(below.fd.as_fd())?;
        found.push(below);
    }
    Ok((!found.is_empty()).then_some(found))
}

/// The directory `path` of the stack `roots`, topmost first, as its parts;
/// symbolic links lead where they do with the stack as root. `None` if there is
/// no such directory, or too many links lead to it.
pub fn locate(roots: &[OwnedFd], path: &Path) -> Result<Option<Vec<OwnedFd>>> {
    // The directories on the way, and the components to go, the next one last.
    let mut way = vec![open_roots(roots, Resolve::SameMount)?];
    let mut left = components(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let Some(dirs) = way.last() else { break };
        if name == b".." {
            // The root is above itself.
            way.truncate(way.len().saturating_sub(1).max(1));
            continue;
        }
        let Some(found) = find(dirs, &name)? else { return Ok(None) };
        if found.is_directory {
            let Some(next) = enter(dirs, &name, &found.sources)? else { return Ok(None) };
            if way.len() > limits::MOUNT_DEPTH_MAX {
                return Err(Failure::user(format!("it is deeper than {} directories", limits::MOUNT_DEPTH_MAX)));
            }
            way.push(next);
            continue;
        }
        let dir = found.sources.first().and_then(|source| dirs.get(usize::from(*source)));
        let Some(target) = dir.map(|dir| read_link(dir.fd.as_fd(), &name)).transpose()?.flatten() else {
            return Ok(None);
        };
        links += 1;
        if links > limits::ENTRY_LINKS_MAX {
            return Ok(None);
        }
        if target.starts_with(b"/") {
            way.truncate(1);
        }
        left.extend(components(as_path(&target)));
    }
    Ok(way.pop().map(|dirs| dirs.into_iter().map(|dir| dir.fd).collect()))
}

/// The components of a path, last one first.
fn components(path: &Path) -> Vec<Vec<u8>> {
    let all = path.as_os_str().as_bytes().split(|byte| *byte == b'/').rev();
    all.filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// What the merged directory `dirs` has under one name.
fn find(dirs: &[Dir], name: &[u8]) -> Result<Option<Name>> {
    let mut sources = Vec::new();
    for (place, dir) in (0_u16..).zip(dirs) {
        match look(dir, name, None)? {
            Some(Found::Directory) => sources.push(place),
            Some(Found::File) if sources.is_empty() => {
                return Ok(Some(Name { is_directory: false, sources: vec![place] }));
            }
            Some(Found::File | Found::Whiteout) => break,
            None => {}
        }
    }
    Ok((!sources.is_empty()).then_some(Name { is_directory: true, sources }))
}

/// Opens the directory `path` below `roots` again, in the layers it was in.
/// `None` if another one is there by now.
pub(super) fn open_again(roots: &[Dir], places: &[(u16, Id)], path: &[u8]) -> Result<Option<Vec<Dir>>> {
    let mut found = Vec::with_capacity(places.len());
    for (layer, id) in places {
        let Some(root) = roots.get(usize::from(*layer)) else { return Ok(None) };
        let opened = kernel::open::openat2(root.fd.as_fd(), as_path(path), DIRECTORY_FLAGS, 0, root.rule);
        match unless_gone(opened)?.map(|fd| Dir::new(*layer, fd, root.rule)).transpose()? {
            Some(dir) if dir.id == *id => found.push(dir),
            _ => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Opens the regular file `name` to be read. `None` if it is gone or something
/// else by now: opening does not wait for who writes into a fifo.
pub(super) fn open_file(place: Place<'_>) -> Result<Option<(OwnedFd, FileStat)>> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = kernel::open::openat2(place.dir, as_path(place.name), flags, 0, place.rule);
    let Some(fd) = unless_gone(opened)? else { return Ok(None) };
    let status = file::status(fd.as_fd())?;
    Ok(is(&status, SFlag::S_IFREG).then_some((fd, status)))
}

/// The status of `name`; `None` if it is gone.
pub(super) fn status(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileStat>> {
    unless_gone(file::status_at(dir, as_path(name)))
}

/// Where the symbolic link `name` leads; `None` if it is gone.
pub(super) fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    match file::read_link_at(dir, as_path(name)) {
        // No symbolic link any more.
        Err(error) if error.errno == Errno::EINVAL => Ok(None),
        result => Ok(unless_gone(result)?.map(|target| target.as_bytes().to_vec())),
    }
}

/// What a container that runs may do to a name meanwhile: remove it, or put
/// something else in its place.
fn unless_gone<T>(result: kernel::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => Ok(None),
        Err(error) if error.errno == Errno::EXDEV => {
            Err(Failure::host("something is mounted there, and what is below it cannot be read"))
        }
        // Who packs names the path.
        Err(error) => Err(Failure::from(error).plainly()),
    }
}

/// What shows in `dirs`, merged. Names that are gone when they are looked at
/// are left out and counted.
pub(super) fn merge(dirs: &[Dir], gone: &mut u64) -> Result<BTreeMap<Vec<u8>, Name>> {
    /// A name while more may come from below.
    struct Open {
        name: Name,
        is_hidden: bool,
        is_closed: bool,
    }
    let mut names: BTreeMap<Vec<u8>, Open> = BTreeMap::new();
    let mut bytes = 0;
    for (place, dir) in (0_u16..).zip(dirs).filter(|(_, dir)| !dir.is_passed_over) {
        let listing = kernel::open::openat2(dir.fd.as_fd(), Path::new("."), DIRECTORY_FLAGS, 0, dir.rule)?;
        for next in file::Listing::new(listing)? {
            let (name, is_directory) = next?;
            let name = name.to_bytes();
            if names.get(name).is_some_and(|open| open.is_closed) {
                continue;
            }
            let Some(found) = look(dir, name, is_directory)? else {
                *gone += 1;
                continue;
            };
            match names.entry(name.to_vec()) {
                Entry::Occupied(mut entry) => {
                    let open = entry.get_mut();
                    match found {
                        Found::Directory => open.name.sources.push(place),
                        Found::File | Found::Whiteout => open.is_closed = true,
                    }
                }
                Entry::Vacant(entry) => {
                    bytes += entry.key().len() + size_of::<Open>();
                    if bytes > limits::LAYER_DIRECTORY_BYTES_MAX {
                        return Err(Failure::user("it has too many files in one directory"));
                    }
                    let is_directory = found == Found::Directory;
                    let name = Name { is_directory, sources: vec![place] };
                    entry.insert(Open { name, is_hidden: found == Found::Whiteout, is_closed: !is_directory });
                }
            }
        }
    }
    Ok(names.into_iter().filter(|(_, open)| !open.is_hidden).map(|(name, open)| (name, open.name)).collect())
}

/// What one layer has under a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Directory,
    File,
    Whiteout,
}

fn look(dir: &Dir, name: &[u8], is_directory: Option<bool>) -> Result<Option<Found>> {
    if is_directory == Some(true) {
        return Ok(Some(Found::Directory));
    }
    let Some(status) = status(dir.fd.as_fd(), name)? else { return Ok(None) };
    Ok(Some(if is(&status, SFlag::S_IFDIR) {
        Found::Directory
    } else if is_whiteout(dir, name, &status)? {
        Found::Whiteout
    } else {
        Found::File
    }))
}

fn is_whiteout(dir: &Dir, name: &[u8], status: &FileStat) -> Result<bool> {
    if is(status, SFlag::S_IFCHR) {
        return Ok(status.st_rdev == 0);
    }
    if !dir.has_whiteout_files || !is(status, SFlag::S_IFREG) || status.st_size != 0 {
        return Ok(false);
    }
    match open_file(Place { dir: dir.fd.as_fd(), name, rule: dir.rule })? {
        Some((fd, _)) => Ok(file::attribute(fd.as_fd(), WHITEOUT)?.is_some()),
        None => Ok(false),
    }
}

/// Whether a file is of this type (an S_IF* value).
pub(super) fn is(status: &FileStat, kind: SFlag) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
