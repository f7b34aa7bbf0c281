//! Writes entries below the layer's root, by descriptor.
//!
//! The one rule: a path of more than one component is opened by
//! [`Tree::locate`] only, which never leaves the root and follows the layer's
//! own symbolic links itself, one at a time; every other call takes the
//! descriptor of a parent and a single name, and follows nothing.
//!
//! While the layer grows, its directories are the caller's, with mode 0700 and
//! no default ACL, so that nothing is inherited and nothing is in the way.
//! What they shall be is remembered and set by [`Tree::settle`], deepest first.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};
use nix::sys::time::TimeSpec;

use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::kernel::open::Resolve;
use crate::kernel::{self, Errno};
use crate::limits;
use crate::storage::sweep;

use super::archive::{Archive, Entry, Timestamp};
use super::attributes::{self, Treatment};
use super::path;
use super::{Options, Owners, Summary, Whiteouts};

const DIRECTORY_FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY;
const DIRECTORY_MODE: u32 = 0o755;

/// The layer so far.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    owners: Owners,
    whiteouts: Whiteouts,
    /// Bits that the process's umask takes from new files.
    umask: u32,
    summary: Summary,
    /// The parent of the current entry.
    parent: Parent,
    /// What directories shall be in the end, by their real path.
    directories: BTreeMap<Vec<u8>, Directory>,
    directory_bytes: usize,
}

/// An open directory of the layer.
struct Parent {
    /// The path that was asked for.
    asked: Vec<u8>,
    /// The same without symbolic links.
    real: Vec<u8>,
    fd: OwnedFd,
}

/// What a directory shall be in the end.
#[derive(Default)]
struct Directory {
    /// `None`: no entry said so, it was only needed by others.
    settings: Option<Settings>,
    /// Attributes to be set last.
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy)]
struct Settings {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: Timestamp,
}

/// What to do about a directory that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

impl<'a> Tree<'a> {
    /// Begins with the empty directory `root`.
    pub(super) fn new(root: BorrowedFd<'a>, options: &Options) -> Result<Self> {
        let Options { owners, whiteouts, .. } = *options;
        let parent = root.try_clone_to_owned()?;
        if kernel::file::Listing::new(open_dot(root)?)?.next().is_some() {
            return Err(Failure::bug("layer directory is not empty"));
        }
        // The data directory may hand down a group (set-group-ID) and an ACL, as shared project
        // directories do. A layer must not have them.
        for name in [c"system.posix_acl_default", c"system.posix_acl_access"] {
            match kernel::file::remove_attribute(root, name) {
                Err(error) if !matches!(error.errno, Errno::ENODATA | Errno::EOPNOTSUPP) => return Err(error.into()),
                _ => {}
            }
        }
        kernel::file::set_mode(root, 0o700)?;
        if owners == Owners::AsRecorded {
            kernel::file::set_owner(root, 0, 0)?;
        }
        Ok(Self {
            root,
            owners,
            whiteouts,
            umask: measure_umask(root)?,
            summary: Summary::default(),
            parent: Parent { asked: Vec::new(), real: Vec::new(), fd: parent },
            directories: BTreeMap::new(),
            directory_bytes: 0,
        })
    }

    /// Whether names can stand for deleted files.
    pub(super) fn knows_whiteouts(&self) -> bool {
        self.whiteouts != Whiteouts::None
    }

    /// Makes `parent` the directory that the next entry goes into.
    pub(super) fn enter(&mut self, parent: &[u8]) -> Result<()> {
        if parent != self.parent.asked {
            self.parent = self.locate(parent, Missing::Make)?;
        }
        Ok(())
    }

    /// Makes a file and writes the data of `entry`.
    pub(super) fn make_file<R: BufRead>(
        &mut self,
        name: &[u8],
        entry: &mut Entry,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        // Setting user.* asks for write permission on the file, whatever the descriptor allows.
        let extra = if entry.attributes.is_empty() { 0 } else { 0o600 };
        let mode = entry.mode & 0o777;
        let fd = self.make(name, |dir, name| kernel::file::open_at(dir, name, flags, mode | extra))?;
        let mut file = File::from(fd);
        self.summary.bytes += write_data(&mut file, entry, archive)?;
        let fd = file.as_fd();
        // This order: chown(2) drops set-user-ID and capabilities, and an ACL moves mode bits.
        if self.changes_owner(entry.uid, entry.gid) {
            kernel::file::set_owner(fd, entry.uid, entry.gid).map_err(|error| owner_failure(error, entry))?;
        }
        for (name, value) in &entry.attributes {
            let set = attributes::treatment(name) != Treatment::Drop && attributes::set(fd, name, value)?;
            self.summary.dropped_attributes += u64::from(!set);
        }
        if entry.mode & !0o777 != 0 || mode & self.umask != 0 || !entry.attributes.is_empty() {
            kernel::file::set_mode(fd, entry.mode)?;
        }
        let time = timespec(entry.modified);
        Ok(kernel::file::set_times(fd, &time, &time)?)
    }

    /// Makes a directory, or takes the one that is there, and enters it.
    pub(super) fn make_directory(&mut self, name: &[u8], entry: &mut Entry) -> Result<()> {
        let mut real = self.parent.real.clone();
        path::push(&mut real, name);
        let mut was_whiteout = false;
        match kernel::file::make_dir(self.parent.fd.as_fd(), as_path(name), 0o700) {
            Err(error) if error.errno == Errno::EEXIST => {
                let there = kernel::file::status_at(self.parent.fd.as_fd(), as_path(name))?;
                if !is(&there, SFlag::S_IFDIR) {
                    was_whiteout = self.is_whiteout(self.parent.fd.as_fd(), name, &there)?;
                    self.replace(name)?;
                    kernel::file::make_dir(self.parent.fd.as_fd(), as_path(name), 0o700)?;
                }
            }
            result => result?,
        }
        let fd = kernel::file::open_at(self.parent.fd.as_fd(), as_path(name), DIRECTORY_FLAGS, 0)?;
        if was_whiteout {
            kernel::file::set_attribute(fd.as_fd(), attributes::OPAQUE, b"y")?;
        }
        self.parent = Parent { asked: real.clone(), real, fd };
        self.describe(entry)
    }

    /// Takes an entry for the root itself.
    pub(super) fn set_root(&mut self, entry: &mut Entry) -> Result<()> {
        self.enter(b"")?;
        self.describe(entry)
    }

    /// Makes a symbolic link. Where it leads does not matter here: nothing
    /// outside of the layer ever follows it.
    pub(super) fn make_symlink(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let target = link_target(entry)?;
        self.make(name, |dir, name| kernel::file::make_symlink(target, dir, name))?;
        self.finish_name(name, entry)
    }

    /// Makes a fifo.
    pub(super) fn make_fifo(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        // Not chmod(2)ed after: there is no such call by descriptor without opening the fifo. The umask
        // of the unpack stage is 0, and elsewhere a fifo with fewer bits does no harm.
        let mode = entry.mode & 0o777;
        self.make(name, |dir, name| kernel::file::make_node(dir, name, SFlag::S_IFIFO, mode, 0))?;
        self.finish_name(name, entry)
    }

    /// Makes a hard link to a file of this layer.
    pub(super) fn make_link(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let mut target = Vec::new();
        path::clean(&entry.target, &mut target)
            .map_err(|error| Failure::user(error.to_string()))
            .and_then(|()| self.link(name, &target))
            .map_err(|failure| failure.doing(format!("link to {}", quoted_bytes(&entry.target))))
    }

    fn link(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        let absent = || Failure::user("it is not in this layer");
        let target_dir = if path::parent(target) == self.parent.asked {
            self.parent.fd.try_clone()?
        } else {
            self.locate(path::parent(target), Missing::Refuse)?.fd
        };
        let target_name = as_path(path::name(target));
        if target.is_empty() {
            return Err(Failure::user("it is a directory"));
        }
        let status = match kernel::file::status_at(target_dir.as_fd(), target_name) {
            Err(error) if error.errno == Errno::ENOENT => return Err(absent()),
            result => result?,
        };
        if is(&status, SFlag::S_IFDIR) {
            return Err(Failure::user("it is a directory"));
        }
        if self.is_whiteout(target_dir.as_fd(), path::name(target), &status)? {
            return Err(absent());
        }
        if let Ok(there) = kernel::file::status_at(self.parent.fd.as_fd(), as_path(name))
            && (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)
        {
            return Ok(());
        }
        self.make(name, |dir, name| kernel::file::make_link(target_dir.as_fd(), target_name, dir, name))
    }

    /// Counts a device node that is not made. One with number 0:0 would be a
    /// whiteout to overlayfs: only kelp itself makes those.
    pub(super) fn skip_device(&mut self) {
        self.summary.skipped_devices += 1;
    }

    /// Hides `name` of lower layers in `parent`. A file of this layer with
    /// that name stays (image-spec: whiteouts apply to lower layers only).
    pub(super) fn make_whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        self.enter(parent)?;
        if is_opaque(self.parent.fd.as_fd())? {
            // All that lower layers have here is hidden; see set_opaque.
            return Ok(());
        }
        let dir = self.parent.fd.as_fd();
        let made = match self.whiteouts {
            Whiteouts::Nodes => match kernel::file::make_node(dir, as_path(name), SFlag::S_IFCHR, 0, 0) {
                Err(error) if error.errno == Errno::EPERM => {
                    self.whiteouts = Whiteouts::Files;
                    self.make_whiteout_file(name)
                }
                result => result,
            },
            Whiteouts::Files | Whiteouts::None => self.make_whiteout_file(name),
        };
        let dir = self.parent.fd.as_fd();
        match made {
            Ok(()) => Ok(()),
            Err(error) if error.errno == Errno::EEXIST => {
                if is(&kernel::file::status_at(dir, as_path(name))?, SFlag::S_IFDIR) {
                    let there = kernel::file::open_at(dir, as_path(name), DIRECTORY_FLAGS, 0)?;
                    self.set_opaque(there.as_fd())?;
                }
                Ok(())
            }
            Err(error) if self.whiteouts == Whiteouts::Files => Err(Failure::from(error)
                .doing("make whiteout as a file")
                .hint("use Linux 6.7 or later, or set KELP_DATA to a directory on a local disk")),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a whiteout as a file with an attribute, where device nodes are
    /// forbidden (a seccomp filter around us, some network file systems).
    fn make_whiteout_file(&mut self, name: &[u8]) -> kernel::Result<()> {
        if !kernel_reads_whiteout_files() {
            return Err(kernel::Error::new("mknodat", quoted_bytes(name), Errno::EPERM));
        }
        let dir = self.parent.fd.as_fd();
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let file = kernel::file::open_at(dir, as_path(name), flags, 0o600)?;
        kernel::file::set_attribute(file.as_fd(), attributes::WHITEOUT, b"y")?;
        kernel::file::set_attribute(dir, attributes::OPAQUE, b"x")
    }

    /// Hides all that lower layers have in `directory`.
    pub(super) fn make_opaque(&mut self, directory: &[u8]) -> Result<()> {
        self.enter(directory)?;
        self.set_opaque(self.parent.fd.as_fd())
    }

    /// Marks a directory as opaque and takes the whiteouts out of it: a
    /// directory that is not merged is listed as it is, whiteouts included
    /// (ovl_iterate in fs/overlayfs/readdir.c), and with `y` those that are
    /// files would be files.
    fn set_opaque(&self, dir: BorrowedFd<'_>) -> Result<()> {
        if is_opaque(dir)? {
            return Ok(());
        }
        for next in kernel::file::Listing::new(open_dot(dir)?)? {
            let (name, _) = next?;
            let status = kernel::file::status_at(dir, as_path(name.to_bytes()))?;
            if self.is_whiteout(dir, name.to_bytes(), &status)? {
                kernel::file::remove(dir, as_path(name.to_bytes()))?;
            }
        }
        Ok(kernel::file::set_attribute(dir, attributes::OPAQUE, b"y")?)
    }

    /// Gives directories their owners, modes and times, and tells what was done.
    pub(super) fn settle(mut self) -> Result<Summary> {
        self.directories.entry(Vec::new()).or_default();
        // In reverse order of names a directory comes after all that are in it.
        for (path, directory) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.settle_directory(&path, &directory).doing(|| format!("directory {}", quoted_bytes(&path)))?;
        }
        Ok(self.summary)
    }

    fn settle_directory(&mut self, path: &[u8], directory: &Directory) -> Result<()> {
        let fd = open_real(self.root, path)?;
        let mode = directory.settings.map_or(DIRECTORY_MODE, |settings| settings.mode);
        if let Some(Settings { uid, gid, .. }) = directory.settings
            && self.changes_owner(uid, gid)
        {
            let entry = Entry { uid, gid, ..Entry::default() };
            kernel::file::set_owner(fd.as_fd(), uid, gid).map_err(|error| owner_failure(error, &entry))?;
        }
        for (name, value) in &directory.attributes {
            self.summary.dropped_attributes += u64::from(!attributes::set(fd.as_fd(), name, value)?);
        }
        kernel::file::set_mode(fd.as_fd(), mode)?;
        if let Some(settings) = directory.settings {
            let time = timespec(settings.modified);
            kernel::file::set_times(fd.as_fd(), &time, &time)?;
        }
        Ok(())
    }

    /// Remembers what the current directory shall be.
    fn describe(&mut self, entry: &mut Entry) -> Result<()> {
        let mut last = Vec::new();
        for (name, value) in entry.attributes.drain(..) {
            let set = match attributes::treatment(&name) {
                Treatment::SetLast => {
                    self.directory_bytes += name.len() + value.len();
                    last.push((name, value));
                    continue;
                }
                Treatment::Set => attributes::set(self.parent.fd.as_fd(), &name, &value)?,
                Treatment::Drop => false,
            };
            self.summary.dropped_attributes += u64::from(!set);
        }
        let real = self.parent.real.clone();
        let directory = self.directory(real)?;
        directory.attributes = last;
        let Entry { mode, uid, gid, modified, .. } = *entry;
        directory.settings = Some(Settings { mode, uid, gid, modified });
        Ok(())
    }

    /// The record of the directory with the path `real`.
    fn directory(&mut self, real: Vec<u8>) -> Result<&mut Directory> {
        if !self.directories.contains_key(&real) {
            self.directory_bytes += real.len() + size_of::<Directory>();
        }
        if self.directory_bytes > limits::LAYER_DIRECTORY_BYTES_MAX {
            return Err(Failure::user("layer has too many directories"));
        }
        Ok(self.directories.entry(real).or_default())
    }

    /// Makes `name` in the current directory, in place of what is there.
    fn make<T>(&mut self, name: &[u8], make: impl Fn(BorrowedFd<'_>, &Path) -> kernel::Result<T>) -> Result<T> {
        match make(self.parent.fd.as_fd(), as_path(name)) {
            Err(error) if error.errno == Errno::EEXIST => {
                self.replace(name)?;
                Ok(make(self.parent.fd.as_fd(), as_path(name))?)
            }
            result => Ok(result?),
        }
    }

    /// Removes `name` from the current directory, with all that is in it.
    fn replace(&mut self, name: &[u8]) -> Result<()> {
        sweep::remove_tree(self.parent.fd.as_fd(), as_path(name), self.root)?;
        let mut below = self.parent.real.clone();
        path::push(&mut below, name);
        self.directories.remove(&below);
        below.push(b'/');
        while let Some((path, _)) = self.directories.range(below.clone()..).next()
            && path.starts_with(&below)
        {
            let path = path.clone();
            self.directories.remove(&path);
        }
        // What was asked for may have led through what was removed.
        self.parent.asked.clone_from(&self.parent.real);
        Ok(())
    }

    /// Owner and times of a file that is not opened.
    fn finish_name(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        self.summary.dropped_attributes += entry.attributes.len() as u64;
        let change = self.changes_owner(entry.uid, entry.gid);
        let dir = self.parent.fd.as_fd();
        if change {
            kernel::file::set_owner_at(dir, as_path(name), entry.uid, entry.gid)
                .map_err(|error| owner_failure(error, entry))?;
        }
        let time = timespec(entry.modified);
        Ok(kernel::file::set_times_at(dir, as_path(name), &time, &time)?)
    }

    /// Whether an entry's owner is to be set; new files are 0:0 already.
    fn changes_owner(&mut self, uid: u32, gid: u32) -> bool {
        let other = (uid, gid) != (0, 0);
        let change = other && self.owners == Owners::AsRecorded;
        self.summary.ignored_owners += u64::from(other && !change);
        change
    }

    /// Whether a file of the layer is a whiteout that kelp made: layers cannot
    /// make devices nor set overlayfs's attributes.
    fn is_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8], status: &FileStat) -> Result<bool> {
        if is(status, SFlag::S_IFCHR) {
            return Ok(true);
        }
        if !is(status, SFlag::S_IFREG) || status.st_size != 0 || status.st_mode & 0o7777 != 0o600 {
            return Ok(false);
        }
        let file = kernel::file::open_at(dir, as_path(name), libc::O_RDONLY, 0)?;
        Ok(kernel::file::attribute(file.as_fd(), attributes::WHITEOUT)?.is_some())
    }

    /// Opens the directory `path` of the layer.
    fn locate(&mut self, path: &[u8], missing: Missing) -> Result<Parent> {
        match open_real(self.root, path) {
            Ok(fd) => Ok(Parent { asked: path.to_vec(), real: path.to_vec(), fd }),
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => {
                self.walk(path, missing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Tree::locate`], one component at a time: follows the layer's own
    /// symbolic links, as seen with the layer as root, and makes what is
    /// missing, but never what a link leads to: that belongs to another layer.
    fn walk(&mut self, asked: &[u8], missing: Missing) -> Result<Parent> {
        let mut at = Parent { asked: asked.to_vec(), real: Vec::new(), fd: open_dot(self.root)? };
        // Components to go, the next one last. The lowest `own` are the entry's, all above came out of links.
        let mut left: Vec<Vec<u8>> = components(asked);
        let (mut own, mut links) = (left.len(), 0);
        while let Some(component) = left.pop() {
            let from_link = left.len() >= own;
            own = own.min(left.len());
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at.real.truncate(path::parent(&at.real).len());
                    at.fd = open_real(self.root, &at.real)?;
                    continue;
                }
                _ => {}
            }
            let Some(target) = self.step(&mut at, &component, missing, from_link)? else { continue };
            links += 1;
            if links > limits::ENTRY_LINKS_MAX {
                return Err(Failure::user("its parent leads through too many symbolic links"));
            }
            if target.first() == Some(&b'/') {
                at.real.clear();
                at.fd = open_dot(self.root)?;
            }
            left.extend(components(&target));
        }
        Ok(at)
    }

    /// Goes into `component`; or tells where it leads, if it is a link.
    fn step(
        &mut self,
        at: &mut Parent,
        component: &[u8],
        missing: Missing,
        from_link: bool,
    ) -> Result<Option<Vec<u8>>> {
        let mut real = at.real.clone();
        path::push(&mut real, component);
        if real.len() >= limits::ENTRY_PATH_BYTES_MAX {
            return Err(Failure::user("its parent has too long a path"));
        }
        let name = as_path(component);
        let opened = match kernel::file::open_at(at.fd.as_fd(), name, DIRECTORY_FLAGS, 0) {
            Err(error) if error.errno == Errno::ENOENT && from_link => {
                let parent = quoted_bytes(&at.asked);
                return Err(Failure::user(format!(
                    "its parent {parent} leads to {}, which is not in this layer",
                    quoted_bytes(&real)
                )));
            }
            Err(error) if error.errno == Errno::ENOENT && missing == Missing::Make => {
                self.make_implied(at.fd.as_fd(), name, real.clone())?
            }
            Err(error) if error.errno == Errno::ENOENT => return Err(Failure::user("it is not in this layer")),
            Err(error) if matches!(error.errno, Errno::ENOTDIR | Errno::ELOOP) => {
                let status = kernel::file::status_at(at.fd.as_fd(), name)?;
                if is(&status, SFlag::S_IFLNK) {
                    return Ok(Some(kernel::file::read_link_at(at.fd.as_fd(), name)?.into_vec()));
                }
                if missing == Missing::Refuse || !self.is_whiteout(at.fd.as_fd(), component, &status)? {
                    return Err(Failure::user(format!("its parent {} is not a directory", quoted_bytes(&real))));
                }
                kernel::file::remove(at.fd.as_fd(), name)?;
                let fd = self.make_implied(at.fd.as_fd(), name, real.clone())?;
                kernel::file::set_attribute(fd.as_fd(), attributes::OPAQUE, b"y")?;
                fd
            }
            result => result?,
        };
        (at.fd, at.real) = (opened, real);
        Ok(None)
    }

    /// Makes a directory that no entry has named so far.
    fn make_implied(&mut self, dir: BorrowedFd<'_>, name: &Path, real: Vec<u8>) -> Result<OwnedFd> {
        kernel::file::make_dir(dir, name, 0o700)?;
        self.directory(real)?;
        Ok(kernel::file::open_at(dir, name, DIRECTORY_FLAGS, 0)?)
    }
}

/// Where the symbolic link `entry` leads.
pub(super) fn link_target(entry: &Entry) -> Result<&Path> {
    if entry.target.is_empty() || entry.target.contains(&0) || entry.target.len() >= limits::ENTRY_PATH_BYTES_MAX {
        return Err(Failure::user("target of symbolic link is empty, too long or holds a NUL byte"));
    }
    Ok(as_path(&entry.target))
}

/// Writes the data of `entry`, leaving holes where there are long runs of
/// zeros; returns the bytes written.
pub(super) fn write_data<R: BufRead>(file: &mut File, entry: &Entry, archive: &mut Archive<R>) -> Result<u64> {
    let whole = [(0, entry.size)];
    let (segments, size) = match &entry.sparse {
        Some(sparse) => (sparse.segments.as_slice(), sparse.size),
        None => (whole.as_slice(), entry.size),
    };
    let (mut written, mut has_holes) = (0, entry.sparse.is_some());
    for (offset, length) in segments {
        if *offset != 0 {
            file.seek(SeekFrom::Start(*offset))?;
        }
        let mut left = *length;
        while left > 0 {
            let data = archive.data()?;
            let step = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let data = data.split_at(step).0;
            if is_hole(data) {
                file.seek(SeekFrom::Current(step as i64))?;
                has_holes = true;
            } else {
                file.write_all(data)?;
                written += step as u64;
            }
            archive.consume(step);
            left -= step as u64;
        }
    }
    if has_holes {
        file.set_len(size)?;
    }
    Ok(written)
}

/// Whether data is a run of zeros long enough to be worth a hole. Some layers
/// hold gigabytes of them (/var/log/lastlog of a large uid).
fn is_hole(data: &[u8]) -> bool {
    const HOLE_BYTES_MIN: usize = 64 << 10;
    data.len() >= HOLE_BYTES_MIN && data.first() == Some(&0) && data.iter().all(|byte| *byte == 0)
}

/// Opens a directory by its path without symbolic links.
fn open_real(root: BorrowedFd<'_>, path: &[u8]) -> kernel::Result<OwnedFd> {
    if path.is_empty() {
        return open_dot(root);
    }
    kernel::open::openat2(root, as_path(path), DIRECTORY_FLAGS, 0, Resolve::BeneathNoLinks)
}

/// Opens a directory again, with a position of its own.
fn open_dot(dir: BorrowedFd<'_>) -> kernel::Result<OwnedFd> {
    kernel::file::open_at(dir, Path::new("."), DIRECTORY_FLAGS, 0)
}

/// What the umask takes from new files, found by trying: reading it by
/// umask(2) would change it for all threads. The name cannot be an entry's.
fn measure_umask(root: BorrowedFd<'_>) -> Result<u32> {
    let name = Path::new(".wh..wh.kelp");
    kernel::file::make_dir(root, name, 0o777)?;
    let mode = kernel::file::status_at(root, name)?.st_mode;
    kernel::file::remove_dir(root, name)?;
    Ok(!mode & 0o777)
}

fn is_opaque(dir: BorrowedFd<'_>) -> kernel::Result<bool> {
    Ok(kernel::file::attribute(dir, attributes::OPAQUE)?.as_deref() == Some(b"y"))
}

fn kernel_reads_whiteout_files() -> bool {
    let Ok(system) = nix::sys::utsname::uname() else { return false };
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

pub(super) fn owner_failure(error: kernel::Error, entry: &Entry) -> Failure {
    match error.errno {
        // chown(2) in a user namespace: an id that is not mapped is EINVAL.
        Errno::EINVAL => Failure::host(format!("owner {}:{} is not among your subordinate ids", entry.uid, entry.gid))
            .hint("have the administrator give you a larger range in /etc/subuid and /etc/subgid"),
        _ => error.into(),
    }
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}

pub(super) fn is(status: &FileStat, kind: SFlag) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

pub(super) fn timespec(time: Timestamp) -> TimeSpec {
    TimeSpec::new(time.seconds, i64::from(time.nanoseconds))
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
