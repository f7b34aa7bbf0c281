//! What the walk finds, as a tar: a layer (image spec, layer.md) or a plain
//! tree.
//!
//! - A name that is gone is an empty file `.wh.NAME`; `.wh..wh..opq` stands
//!   for all that the directory had.
//! - The second name of a file is a hard link to the first.
//! - Files with holes are written whole: the specification advises against
//!   sparse entries, since few programs read them.
//! - A file is written with the size it had when it was opened, cut or filled
//!   with zeros if it changes meanwhile.
//! - The root is written only if it is not what a layer without it means.
//! - Sockets are left out, as every archiver does.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::stat::{FileStat, SFlag, major, minor};
use tar::EntryType;

use super::archive::{Archive, Entry};
use super::attributes::{self, Attributes};
use super::compare::Rules;
use super::stack::{self, Id, is};
use super::walk::{Directory, Found, Sink};
use super::{Form, Options, Summary};
use crate::error::{Failure, Result};
use crate::storage::kernel_tree;
use crate::{kernel, limits};

/// Begins the name of a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// Says that its directory has nothing of lower layers.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Mode of a root that no entry describes.
const ROOT_MODE: u32 = 0o755;
/// Read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A tar under way.
pub(super) struct Layer<W: Write> {
    archive: Archive<W>,
    form: Form,
    rules: Rules,
    /// Files with more names to come: the first one's path, by inode.
    links: HashMap<Id, Vec<u8>>,
    links_bytes: usize,
    /// What is packed goes by this name.
    name: Vec<u8>,
    /// Whether a device holds files of the kernel's own.
    devices: HashMap<u64, bool>,
    summary: Summary,
    buffer: Vec<u8>,
}

impl<W: Write> Layer<W> {
    pub(super) fn new(output: W, options: &Options, rules: Rules) -> Self {
        Self {
            archive: Archive::new(output),
            form: options.form,
            rules,
            links: HashMap::new(),
            links_bytes: 0,
            name: options.name.clone(),
            devices: HashMap::new(),
            summary: Summary::default(),
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    /// Ends the tar; what was written.
    pub(super) fn finish(self) -> Result<Summary> {
        let entries = self.archive.entries();
        self.archive.finish()?;
        Ok(Summary { entries, ..self.summary })
    }

    /// A name that means something else in a layer cannot be the name of a
    /// file in it ("it is not possible to create a filesystem which has a file
    /// or directory with a name beginning with .wh.").
    fn check_name(&self, path: &[u8]) -> Result<()> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if self.form == Form::Layer && name.starts_with(WHITEOUT) {
            return Err(Failure::user("no file in a layer can have a name that begins with \".wh.\"")
                .hint("such names stand for deleted files; rename it in the container"));
        }
        Ok(())
    }

    fn entry<'a>(&self, kind: EntryType, path: &'a [u8], status: &FileStat, attributes: &'a Attributes) -> Entry<'a> {
        Entry {
            kind,
            path,
            target: &[],
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            modified_s: self.rules.modified_s(status),
            size: 0,
            device: None,
            attributes,
        }
    }

    /// A path of the walk as it is in the tar.
    fn named(&self, path: &[u8]) -> Vec<u8> {
        match (self.name.as_slice(), path) {
            (b"", path) => path.to_vec(),
            (name, b"") => name.to_vec(),
            (name, path) => [name, path].join(&b'/'),
        }
    }

    fn regular(&mut self, found: &Found<'_>, path: &[u8]) -> Result<bool> {
        if self.is_of_kernel(found)? {
            return self.of_kernel(found, path);
        }
        let Some((fd, status)) = stack::open_file(found.place)? else { return Ok(false) };
        if status.st_nlink > 1 && self.link(path, &status)? {
            return Ok(true);
        }
        let attributes = attributes::read(fd.as_fd(), &mut self.summary.dropped_attributes)?;
        let size = u64::try_from(status.st_size).unwrap_or_default();
        let entry = Entry { size, ..self.entry(EntryType::Regular, path, &status, &attributes) };
        self.archive.begin(&entry)?;
        let is_steady = self.content(fd, &status, size)?;
        self.archive.end()?;
        Ok(is_steady)
    }

    /// Whether a file is in one of the kernel's own file systems.
    fn is_of_kernel(&mut self, found: &Found<'_>) -> Result<bool> {
        let device = found.status.st_dev;
        if let Some(known) = self.devices.get(&device) {
            return Ok(*known);
        }
        // What is mounted on a single file is not where its name is.
        let is_mounted = kernel::file::status(found.place.dir)?.st_dev != device;
        let is_one = !is_mounted && kernel_tree::is_one(found.place.dir)?;
        if !is_mounted {
            self.devices.insert(device, is_one);
        }
        Ok(is_one)
    }

    /// Writes a file that the kernel makes up while it is read: its size says
    /// nothing, it may have no end, and it may refuse for reasons of its own.
    fn of_kernel(&mut self, found: &Found<'_>, path: &[u8]) -> Result<bool> {
        let mut content = Vec::new();
        let read = stack::open_file(found.place).and_then(|opened| match opened {
            Some((fd, _)) => {
                let most = limits::KERNEL_FILE_BYTES_MAX;
                Ok(Some(File::from(fd).take(most).read_to_end(&mut content)? as u64 == most))
            }
            None => Ok(None),
        });
        match read {
            Ok(None) => return Ok(false),
            Ok(Some(is_cut)) => self.summary.unread += u64::from(is_cut),
            // It alone was asked for.
            Err(failure) if found.path.is_empty() && content.is_empty() => return Err(failure),
            Err(_) => self.summary.unread += 1,
        }
        let attributes = Attributes::new();
        let size = content.len() as u64;
        self.archive.begin(&Entry { size, ..self.entry(EntryType::Regular, path, found.status, &attributes) })?;
        self.archive.write(&content)?;
        self.archive.end()?;
        Ok(true)
    }

    /// Writes a further name of a file that was written; `false` for the first.
    fn link(&mut self, path: &[u8], status: &FileStat) -> Result<bool> {
        let id = Id::of(status);
        if let Some(first) = self.links.get(&id) {
            let no_attributes = Attributes::new();
            let entry = Entry { target: first, ..self.entry(EntryType::Link, path, status, &no_attributes) };
            self.archive.begin(&entry)?;
            return Ok(true);
        }
        self.links_bytes += path.len() + size_of::<(Id, Vec<u8>)>();
        if self.links_bytes > limits::LAYER_LINK_BYTES_MAX {
            return Err(Failure::user("there are too many files with several names"));
        }
        self.links.insert(id, path.to_vec());
        Ok(false)
    }

    /// Writes `size` bytes of a file; returns whether it stayed as it was.
    fn content(&mut self, fd: OwnedFd, status: &FileStat, size: u64) -> Result<bool> {
        const SECTOR_BYTES: u64 = 512;
        let has_holes = u64::try_from(status.st_blocks).unwrap_or_default().saturating_mul(SECTOR_BYTES) < size;
        let file = File::from(fd);
        let mut at = 0;
        while at < size {
            let (start, end) = match has_holes {
                true => data_after(&file, at, size)?,
                false => (at, size),
            };
            self.archive.write_zeros(start - at)?;
            at = self.copy(&file, start, end)?;
            if at < end {
                // It was cut since it was opened.
                self.archive.write_zeros(size - at)?;
                return Ok(false);
            }
        }
        let after = kernel::file::status(file.as_fd())?;
        let key = |status: &FileStat| (status.st_size, status.st_mtime, status.st_mtime_nsec);
        Ok(key(&after) == key(status))
    }

    /// Copies what lies between two offsets; returns where the file ended.
    fn copy(&mut self, file: &File, start: u64, end: u64) -> Result<u64> {
        let mut at = start;
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
            match file.read_at(self.buffer.split_at_mut(step).0, at) {
                Ok(0) => break,
                Ok(count) => {
                    self.archive.write(self.buffer.split_at(count).0)?;
                    at += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(at)
    }
}

/// The next run of data at or after `at`, within `size`.
fn data_after(file: &File, at: u64, size: u64) -> Result<(u64, u64)> {
    match kernel::file::next_data(file.as_fd(), at) {
        Ok(Some((start, end))) => Ok((start.min(size), end.min(size))),
        Ok(None) => Ok((size, size)),
        // Cut between the two calls: read on until the end shows.
        Err(error) if error.errno == kernel::Errno::ENXIO => Ok((at, size)),
        Err(error) => Err(error.into()),
    }
}

impl<W: Write> Sink for Layer<W> {
    fn directory(&mut self, directory: &Directory<'_>) -> Result<()> {
        let Directory { path, status, attributes, .. } = directory;
        let as_usual = (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (ROOT_MODE, 0, 0);
        if path.is_empty() && self.name.is_empty() && as_usual && attributes.is_empty() {
            return Ok(());
        }
        self.check_name(path)?;
        let path = self.named(path);
        let path = if path.is_empty() { b"./".to_vec() } else { [&path, &b"/"[..]].concat() };
        self.archive.begin(&self.entry(EntryType::Directory, &path, status, attributes))
    }

    fn takes(&mut self, status: &FileStat) -> bool {
        let is_socket = is(status, SFlag::S_IFSOCK);
        self.summary.skipped_sockets += u64::from(is_socket);
        !is_socket
    }

    fn file(&mut self, found: &Found<'_>) -> Result<bool> {
        let Found { path, place, status, .. } = found;
        self.check_name(path)?;
        let path = &self.named(path);
        if is(status, SFlag::S_IFREG) {
            return self.regular(found, path);
        }
        if status.st_nlink > 1 && self.link(path, status)? {
            return Ok(true);
        }
        let no_attributes = Attributes::new();
        let entry = |kind| self.entry(kind, path, status, &no_attributes);
        let device = Some((major(status.st_rdev) as u32, minor(status.st_rdev) as u32));
        if is(status, SFlag::S_IFLNK) {
            let Some(target) = stack::read_link(place.dir, place.name)? else { return Ok(false) };
            self.archive.begin(&Entry { target: &target, mode: 0o777, ..entry(EntryType::Symlink) })?;
        } else if is(status, SFlag::S_IFIFO) {
            self.archive.begin(&entry(EntryType::Fifo))?;
        } else if is(status, SFlag::S_IFCHR) {
            self.archive.begin(&Entry { device, ..entry(EntryType::Char) })?;
        } else if is(status, SFlag::S_IFBLK) {
            self.archive.begin(&Entry { device, ..entry(EntryType::Block) })?;
        } else {
            return Err(Failure::host(format!("its type {:o} is not known", status.st_mode)));
        }
        Ok(true)
    }

    fn unread(&mut self) {
        self.summary.unread += 1;
    }

    fn deleted(&mut self, parent: &[u8], names: &[&[u8]], is_opaque: bool) -> Result<()> {
        let all = if is_opaque { vec![OPAQUE.to_vec()] } else { whiteouts(names) };
        for name in all {
            let path = if parent.is_empty() { name } else { [parent, &name].join(&b'/') };
            // Nobody looks at more than the name: as other tools write it.
            let entry = Entry {
                kind: EntryType::Regular,
                path: &path,
                target: &[],
                mode: 0,
                uid: 0,
                gid: 0,
                modified_s: 0,
                size: 0,
                device: None,
                attributes: &[],
            };
            self.archive.begin(&entry)?;
        }
        Ok(())
    }
}

fn whiteouts(names: &[&[u8]]) -> Vec<Vec<u8>> {
    names.iter().map(|name| [WHITEOUT, name].concat()).collect()
}
