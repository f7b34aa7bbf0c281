//! Entries into a directory that has something already: what `cp` does.
//!
//! Docker's rules: directories are merged and take the entry's mode and time;
//! a file takes the place of a file, a directory never that of a file nor the
//! other way round. A file that is there is replaced by rename(2) when the new
//! one is whole.
//!
//! The directory may belong to a container that runs, or be one of the user's
//! that gets what a container has: no link in it is followed, but where an
//! archive names no directories and [`Target::links`] says whose links those
//! are. What is open is written to by descriptor. Nothing is opened that was
//! there before, except a file that something is mounted on: it cannot be
//! replaced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::SFlag;

use super::archive::{Archive, Entry, Kind};
use super::attributes;
use super::tree::{as_path, is, link_target, owner_failure, timespec, write_data};
use super::{Summary, path, read_entries, refused};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::kernel::open::{Resolve, openat2};
use crate::kernel::{self, Errno, file};
use crate::limits;
use crate::storage::kernel_tree;

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;
/// Mode of a directory that no entry describes.
const DIRECTORY_MODE: u32 = 0o755;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// As the archive says; an id that is not mapped is a failure.
    AsRecorded,
    /// Root's, who we are.
    Root,
    /// The caller's, who is an ordinary user.
    Caller,
    /// As the archive says where the caller may give them away.
    AsPermitted,
}

/// Where entries go.
pub struct Target<'a> {
    /// The directory, perhaps open with O_PATH.
    pub directory: BorrowedFd<'a>,
    /// All entries have this name, or are below it; empty: they have any.
    pub only: Option<&'a [u8]>,
    /// A root and the directory's path in it: links on the way to an entry are
    /// followed as seen from there. `None`: they are refused.
    pub links: Option<(BorrowedFd<'a>, &'a [u8])>,
    /// Whose the files become.
    pub ownership: Ownership,
}

/// Unpacks the uncompressed tar `stream` into `target`. The stream is read to
/// its end.
pub fn merge(stream: impl BufRead, target: Target<'_>) -> Result<Summary> {
    let mut archive = Archive::new(stream, limits::LAYER_BYTES_MAX);
    let fd = openat2(target.directory, Path::new("."), DIRECTORY, 0, Resolve::BeneathNoLinks)?;
    let parent = Parent { path: Vec::new(), is_setgid: is_setgid(fd.as_fd())?, fd };
    refuse_kernel_tree(parent.fd.as_fd())?;
    let mut merge = Merge { target, parent, directories: BTreeMap::new(), bytes: 0, summary: Summary::default() };
    let mut clean = Vec::new();
    let entries = read_entries(&mut archive, limits::LAYER_ENTRIES_MAX, |archive, entry| {
        path::clean(&entry.path, &mut clean).map_err(refused)?;
        merge.place(&clean, entry, archive)
    })?;
    archive.drain()?;
    let summary = merge.settle()?;
    Ok(Summary { entries, ..summary })
}

struct Merge<'a> {
    target: Target<'a>,
    /// The parent of the current entry.
    parent: Parent,
    /// What directories shall be in the end, by their path.
    directories: BTreeMap<Vec<u8>, Directory>,
    /// Of the names in `directories`.
    bytes: usize,
    summary: Summary,
}

struct Parent {
    path: Vec<u8>,
    fd: OwnedFd,
    /// New files have its group, not ours.
    is_setgid: bool,
}

/// What a directory shall be in the end.
struct Directory {
    /// Device and inode: another one is left alone.
    id: (u64, u64),
    is_new: bool,
    /// All but the path.
    entry: Entry,
}

/// Where a file is until it is whole.
enum Under {
    /// Its own name.
    Own,
    /// This one, to be renamed.
    Temporary(String),
    /// This one; under its own something is mounted. A rename over that would
    /// take the mount from the container: the kernel refuses it (EBUSY) only
    /// to those who are in the same mount namespace.
    Mounted(String),
}

impl Under {
    /// The name it has, whose own is `name`.
    fn name<'a>(&'a self, name: &'a [u8]) -> &'a Path {
        match self {
            Self::Own => as_path(name),
            Self::Temporary(temporary) | Self::Mounted(temporary) => Path::new(temporary),
        }
    }
}

impl Merge<'_> {
    fn place<R: BufRead>(&mut self, clean: &[u8], entry: &mut Entry, archive: &mut Archive<R>) -> Result<()> {
        if let Some(only) = self.target.only
            && !is_below(clean, only)
        {
            return Err(Failure::bug("the archive holds more than was asked for"));
        }
        if clean.is_empty() {
            // The directory that was there before.
            return if entry.kind == Kind::Directory { Ok(()) } else { Err(Failure::user("it has no name")) };
        }
        self.enter(path::parent(clean))?;
        let name = path::name(clean);
        match entry.kind {
            Kind::Directory => self.make_directory(clean, entry),
            Kind::File => self.make_file(name, entry, archive),
            Kind::Symlink => {
                let target = link_target(entry)?;
                let made = self.begin(name, |dir, name| file::make_symlink(target, dir, name))?;
                self.finish(name, &made.1, Some(entry))
            }
            Kind::Fifo => {
                let mode = self.mode(entry) & 0o777;
                let make = |dir: BorrowedFd<'_>, name: &Path| file::make_node(dir, name, SFlag::S_IFIFO, mode, 0);
                let made = self.begin(name, make)?;
                self.finish(name, &made.1, Some(entry))
            }
            Kind::Link => self.make_link(name, entry),
            Kind::Device => {
                self.summary.skipped_devices += 1;
                Ok(())
            }
        }
    }

    /// Makes `path` the directory that the next entry goes into.
    fn enter(&mut self, path: &[u8]) -> Result<()> {
        if path == self.parent.path {
            return Ok(());
        }
        let fd = match self.open(path, DIRECTORY) {
            Err(error) if error.errno == Errno::ENOENT => {
                self.enter(path::parent(path))?;
                let (dir, name) = (self.parent.fd.as_fd(), as_path(path::name(path)));
                file::make_dir(dir, name, DIRECTORY_MODE)?;
                let fd = openat2(dir, name, DIRECTORY, 0, Resolve::BeneathNoLinks)?;
                if self.parent.is_setgid && self.target.ownership != Ownership::Caller {
                    file::set_owner_at(dir, name, 0, 0)?;
                }
                fd
            }
            Err(error) if matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(Failure::user(format!("its parent {} is not a directory", quoted_bytes(path))));
            }
            result => result?,
        };
        refuse_kernel_tree(fd.as_fd())?;
        self.parent = Parent { path: path.to_vec(), is_setgid: is_setgid(fd.as_fd())?, fd };
        Ok(())
    }

    /// Opens a directory of the target.
    fn open(&self, path: &[u8], flags: i32) -> kernel::Result<OwnedFd> {
        let directory = self.target.directory;
        let opened = match path {
            b"" => openat2(directory, Path::new("."), flags, 0, Resolve::BeneathNoLinks),
            path => openat2(directory, as_path(path), flags, 0, Resolve::BeneathNoLinks),
        };
        match (opened, self.target.links) {
            (Err(error), Some((root, base))) if matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR) => {
                openat2(root, as_path(&[base, path].join(&b'/')), flags, 0, Resolve::InRoot)
            }
            (opened, _) => opened,
        }
    }

    fn make_directory(&mut self, clean: &[u8], entry: &mut Entry) -> Result<()> {
        let (dir, name) = (self.parent.fd.as_fd(), as_path(path::name(clean)));
        let is_new = match file::make_dir(dir, name, 0o700) {
            Err(error) if error.errno == Errno::EEXIST => false,
            result => result.map(|()| true)?,
        };
        let fd = match openat2(dir, name, DIRECTORY, 0, Resolve::BeneathNoLinks) {
            Err(error) if matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(Failure::user("a directory cannot take the place of what is not one"));
            }
            result => result?,
        };
        let status = file::status(fd.as_fd())?;
        let attributes = std::mem::take(&mut entry.attributes);
        let Entry { mode, uid, gid, modified, .. } = *entry;
        self.bytes += clean.len() + size_of::<Directory>();
        self.bytes += attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if self.bytes > limits::LAYER_DIRECTORY_BYTES_MAX {
            return Err(Failure::user("there are too many directories"));
        }
        let entry = Entry { mode, uid, gid, modified, attributes, ..Entry::default() };
        let id = (status.st_dev, status.st_ino);
        // Named twice, it is still a new one.
        let is_new = is_new || self.directories.get(clean).is_some_and(|other| other.is_new && other.id == id);
        self.directories.insert(clean.to_vec(), Directory { id, is_new, entry });
        Ok(())
    }

    fn make_file<R: BufRead>(&mut self, name: &[u8], entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let (fd, under) = self.begin(name, |dir, name| file::open_at(dir, name, flags, 0o600))?;
        let mut content = File::from(fd);
        let filled = write_data(&mut content, entry, archive).and_then(|bytes| {
            self.summary.bytes += bytes;
            self.describe(content.as_fd(), entry)
        });
        match (filled, &under) {
            (Err(failure), _) => {
                self.remove(name, &under);
                Err(failure)
            }
            (Ok(()), Under::Mounted(_)) => {
                let written = self.write_into(name, &mut content);
                self.remove(name, &under);
                written.doing(|| "write to what is mounted there")
            }
            (Ok(()), _) => self.finish(name, &under, None),
        }
    }

    /// Gives an open file its owner, attributes, mode and times.
    fn describe(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        // This order: chown(2) drops set-user-ID and capabilities, and an ACL moves mode bits.
        if let Some((uid, gid)) = self.owner(entry) {
            let result = file::set_owner(fd, uid, gid);
            self.judge_owner(result, entry)?;
        }
        for (name, value) in &entry.attributes {
            let set = self.takes(name, entry) && attributes::set(fd, name, value)?;
            self.summary.dropped_attributes += u64::from(!set);
        }
        file::set_mode(fd, self.mode(entry))?;
        let time = timespec(entry.modified);
        Ok(file::set_times(fd, &time, &time)?)
    }

    /// Writes the content of a file into one that cannot be replaced, since it
    /// is a mount point. Owner and mode are those of what is mounted.
    fn write_into(&self, name: &[u8], content: &mut File) -> Result<()> {
        let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let mounted = file::open_at(self.parent.fd.as_fd(), as_path(name), flags, 0)?;
        if !is(&file::status(mounted.as_fd())?, SFlag::S_IFREG) {
            return Err(Failure::user("it is not a regular file"));
        }
        refuse_kernel_tree(mounted.as_fd())?;
        let mut mounted = File::from(mounted);
        mounted.set_len(0)?;
        content.rewind()?;
        std::io::copy(content, &mut mounted)?;
        Ok(mounted.flush()?)
    }

    fn make_link(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let mut target = Vec::new();
        path::clean(&entry.target, &mut target).map_err(refused)?;
        let doing = || format!("link to {}", quoted_bytes(&entry.target));
        if target.is_empty() || self.target.only.is_some_and(|only| !is_below(&target, only)) {
            return Err(Failure::user("it is not in this archive")).doing(doing);
        }
        let from = self.open(path::parent(&target), DIRECTORY).doing(doing)?;
        let from_name = as_path(path::name(&target));
        let status = file::status_at(from.as_fd(), from_name).doing(doing)?;
        if let Ok(there) = file::status_at(self.parent.fd.as_fd(), as_path(name))
            && (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)
        {
            return Ok(());
        }
        let made = self.begin(name, |dir, name| file::make_link(from.as_fd(), from_name, dir, name)).doing(doing)?;
        self.finish(name, &made.1, None)
    }

    /// Makes what is no directory: under its own name, or under another one if
    /// something is there.
    fn begin<T>(&self, name: &[u8], make: impl Fn(BorrowedFd<'_>, &Path) -> kernel::Result<T>) -> Result<(T, Under)> {
        let dir = self.parent.fd.as_fd();
        match make(dir, as_path(name)) {
            Err(error) if error.errno == Errno::EEXIST => {}
            result => return Ok((result?, Under::Own)),
        }
        if is(&file::status_at(dir, as_path(name))?, SFlag::S_IFDIR) {
            return Err(Failure::user("what is not a directory cannot take the place of one"));
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let is_mounted = match openat2(dir, as_path(name), flags, 0, Resolve::SameMount) {
            Err(error) if error.errno == Errno::EXDEV => true,
            result => result.map(|_| false)?,
        };
        let temporary = format!(".kelp-cp-{}", kernel::process::random_hex::<8>()?);
        let made = make(dir, Path::new(&temporary))?;
        Ok((made, if is_mounted { Under::Mounted(temporary) } else { Under::Temporary(temporary) }))
    }

    /// Gives what is whole its name. `entry`: with its owner and times, which
    /// it has not got yet.
    fn finish(&mut self, name: &[u8], under: &Under, entry: Option<&Entry>) -> Result<()> {
        let described = entry.map_or(Ok(()), |entry| self.describe_name(under.name(name), entry));
        let dir = self.parent.fd.as_fd();
        let finished = described.and_then(|()| match under {
            Under::Own => Ok(()),
            Under::Temporary(temporary) => Ok(file::rename(dir, Path::new(temporary), dir, as_path(name))?),
            Under::Mounted(_) => {
                Err(Failure::user("something is mounted there, which only a file's content can go to"))
            }
        });
        if finished.is_err() && !matches!(under, Under::Own) {
            self.remove(name, under);
        }
        finished
    }

    /// Owner and times of what is not opened.
    fn describe_name(&mut self, name: &Path, entry: &Entry) -> Result<()> {
        self.summary.dropped_attributes += entry.attributes.len() as u64;
        if let Some((uid, gid)) = self.owner(entry) {
            let result = file::set_owner_at(self.parent.fd.as_fd(), name, uid, gid);
            self.judge_owner(result, entry)?;
        }
        let time = timespec(entry.modified);
        Ok(file::set_times_at(self.parent.fd.as_fd(), name, &time, &time)?)
    }

    /// Removes what did not become whole.
    fn remove(&self, name: &[u8], under: &Under) {
        // The failure that led here is the one that counts.
        file::remove(self.parent.fd.as_fd(), under.name(name)).ok();
    }

    /// Whom a new file is to be given to; `None` if it is ours and stays so.
    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        let (owner, is_ours) = match self.target.ownership {
            Ownership::AsRecorded | Ownership::AsPermitted => ((entry.uid, entry.gid), false),
            Ownership::Root => ((0, 0), !self.parent.is_setgid),
            Ownership::Caller => ((0, 0), true),
        };
        (!is_ours).then_some(owner)
    }

    fn judge_owner(&mut self, result: kernel::Result<()>, entry: &Entry) -> Result<()> {
        match result {
            Err(error)
                if self.target.ownership == Ownership::AsPermitted
                    && matches!(error.errno, Errno::EPERM | Errno::EINVAL) =>
            {
                self.summary.ignored_owners += 1;
                Ok(())
            }
            result => result.map_err(|error| owner_failure(error, entry)),
        }
    }

    /// Whether what gives rights to or takes them from named users (set-ID bits,
    /// capabilities, ACLs) still means the same: only with its owner, and never
    /// on the host, whose users are others.
    fn keeps_rights(&self, entry: &Entry) -> bool {
        match self.target.ownership {
            Ownership::AsRecorded => true,
            Ownership::Root => (entry.uid, entry.gid) == (0, 0),
            Ownership::Caller | Ownership::AsPermitted => false,
        }
    }

    fn mode(&self, entry: &Entry) -> u32 {
        const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
        if self.keeps_rights(entry) { entry.mode } else { entry.mode & !SET_ID }
    }

    fn takes(&self, name: &[u8], entry: &Entry) -> bool {
        let is_kept = attributes::treatment(name) != attributes::Treatment::Drop;
        is_kept && (name.starts_with(b"user.") || self.keeps_rights(entry))
    }

    /// Gives directories their owners, modes and times, and tells what was done.
    fn settle(mut self) -> Result<Summary> {
        // In reverse order of names a directory comes after all that are in it.
        for (path, directory) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.settle_directory(&path, &directory).doing(|| format!("directory {}", quoted_bytes(&path)))?;
        }
        Ok(self.summary)
    }

    fn settle_directory(&mut self, path: &[u8], directory: &Directory) -> Result<()> {
        let fd = match self.open(path, libc::O_RDONLY | libc::O_DIRECTORY) {
            Ok(fd) => fd,
            // Moved away, or one of others that cannot be read.
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Ok(()),
            Err(error) if error.errno == Errno::EACCES && !directory.is_new => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let status = file::status(fd.as_fd())?;
        if (status.st_dev, status.st_ino) != directory.id {
            return Ok(());
        }
        self.parent.is_setgid = is_setgid(fd.as_fd())?;
        match self.describe(fd.as_fd(), &directory.entry) {
            // It was there before and is somebody else's (/tmp), or cannot be written (a read-only mount).
            Err(failure) if !directory.is_new && (failure.is_errno(libc::EPERM) || failure.is_errno(libc::EROFS)) => {
                Ok(())
            }
            result => result,
        }
    }
}

/// Whether `path` is `top` or below it.
fn is_below(path: &[u8], top: &[u8]) -> bool {
    top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn is_setgid(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(file::status(fd)?.st_mode & libc::S_ISGID != 0)
}

/// A link or a rename in a container must not lead into the kernel's own file
/// systems, where a write is a command (CVE-2025-52881).
fn refuse_kernel_tree(fd: BorrowedFd<'_>) -> Result<()> {
    match kernel_tree::is_one(fd)? {
        true => Err(Failure::user("it is in the kernel's own file system (/proc, /sys), where nothing is copied to")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// One entry: its type, path, what a link leads to or a file holds, mode.
    type Line<'a> = (tar::EntryType, &'a str, &'a str, u32);

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
    const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
    const LINK: tar::EntryType = tar::EntryType::Link;

    fn archive(lines: &[Line<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, text, mode) in lines {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_mtime(1_600_000_000);
            header.set_uid(12_345);
            header.set_gid(12_345);
            let content = if *kind == FILE { text.as_bytes() } else { &[] };
            header.set_size(content.len() as u64);
            if *kind != FILE {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A directory `to`, and beside it one that nothing may reach.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.path("to")).unwrap();
            fs::create_dir(place.path("outside")).unwrap();
            fs::write(place.path("outside/file"), "outside").unwrap();
            place
        }

        fn path(&self, path: &str) -> std::path::PathBuf {
            self.0.path().join(path)
        }

        fn merge(&self, lines: &[Line<'_>], only: Option<&[u8]>) -> Result<Summary> {
            let directory = kernel::open::open_dir(&self.path("to")).unwrap();
            let target = Target { directory: directory.as_fd(), only, links: None, ownership: Ownership::Caller };
            merge(archive(lines).as_slice(), target)
        }
    }

    impl Drop for Place {
        #[track_caller]
        fn drop(&mut self) {
            assert_eq!(fs::read_to_string(self.path("outside/file")).unwrap(), "outside");
            assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1);
            assert_eq!(fs::metadata(self.path("outside/file")).unwrap().nlink(), 1);
        }
    }

    #[test]
    fn no_link_is_followed() {
        let place = Place::new();
        symlink("../outside", place.path("to/there")).unwrap();
        let refused: [&[Line<'_>]; 7] = [
            &[(FILE, "there/new", "x", 0o644)],
            &[(DIRECTORY, "there", "", 0o700)],
            &[(SYMLINK, "own", "../outside", 0o777), (FILE, "own/new", "x", 0o644)],
            &[(SYMLINK, "own", "../outside", 0o777), (DIRECTORY, "own/", "", 0o700)],
            &[(LINK, "hard", "there/file", 0o644)],
            &[(LINK, "hard", "../outside/file", 0o644)],
            &[(FILE, "../outside/new", "x", 0o644)],
        ];
        for lines in refused {
            assert!(place.merge(lines, None).is_err(), "{lines:?}");
        }
        // The link itself is replaced.
        symlink("../outside/file", place.path("to/file")).unwrap();
        place.merge(&[(FILE, "file", "new", 0o644), (FILE, "there", "new", 0o644)], None).unwrap();
        for name in ["to/file", "to/there"] {
            assert!(fs::symlink_metadata(place.path(name)).unwrap().is_file());
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let place = Place::new();
        place.merge(&[(DIRECTORY, "top", "", 0o755), (FILE, "top/file", "x", 0o644)], Some(b"top")).unwrap();
        for path in ["topper", "file", ".", "top/../file"] {
            assert!(place.merge(&[(FILE, path, "x", 0o644)], Some(b"top")).is_err(), "{path}");
        }
        fs::write(place.path("to/mine"), "mine").unwrap();
        assert!(place.merge(&[(LINK, "top/link", "mine", 0o644)], Some(b"top")).is_err());
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let place = Place::new();
        fs::write(place.path("to/file"), "old").unwrap();
        let directory = kernel::open::open_dir(&place.path("to")).unwrap();
        let tar = archive(&[(FILE, "new", &"x".repeat(2_000), 0o644), (FILE, "file", &"x".repeat(2_000), 0o644)]);
        for length in [700, 1_024, 3_500, 4_600] {
            let target = Target { directory: directory.as_fd(), only: None, links: None, ownership: Ownership::Caller };
            merge(&tar[..length], target).unwrap_err();
            assert_eq!(fs::read_to_string(place.path("to/file")).unwrap(), "old");
            let names = fs::read_dir(place.path("to")).unwrap().count();
            assert_eq!(names, if length < 3_000 { 1 } else { 2 }, "{length}");
        }
    }

    #[test]
    fn directories_are_merged_and_rights_do_not_come_along() {
        let place = Place::new();
        fs::create_dir(place.path("to/there")).unwrap();
        fs::write(place.path("to/there/mine"), "mine").unwrap();
        let lines = [
            (DIRECTORY, "there", "", 0o2750),
            (DIRECTORY, "there/closed", "", 0o500),
            (FILE, "there/closed/file", "x", 0o4751),
            (LINK, "there/link", "there/closed/file", 0o4751),
            (LINK, "there/link", "there/closed/file", 0o4751),
            (FILE, "implied/dir/file", "x", 0o644),
        ];
        place.merge(&lines, None).unwrap();
        place.merge(&lines[..2], None).unwrap();
        let mode = |path: &str| fs::metadata(place.path(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("to/there"), mode("to/there/closed"), mode("to/there/link")), (0o750, 0o500, 0o751));
        assert_eq!(fs::metadata(place.path("to/there")).unwrap().mtime(), 1_600_000_000);
        assert_eq!(fs::read_to_string(place.path("to/there/mine")).unwrap(), "mine");
        fs::set_permissions(place.path("to/there/closed"), PermissionsExt::from_mode(0o700)).unwrap();
        for (kind, path) in [(FILE, "there"), (SYMLINK, "there"), (DIRECTORY, "there/mine"), (FILE, "there/mine/x")] {
            assert!(place.merge(&[(kind, path, "x", 0o644)], None).is_err(), "{path}");
        }
    }
}
