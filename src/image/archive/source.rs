//! Where an archive's files are: a directory, or the entries of a tar.
//!
//! Nothing is ever unpacked: a tar is indexed once, header by header, and its
//! files are read where they lie; a directory's files are opened without
//! following a link (CVE-2025-11395, CVE-2026-20613: blobs that were links to
//! the host's files). A stream, or a compressed tar, is first written to a
//! nameless file in staging.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::quote::quoted;
use crate::kernel;
use crate::limits;

/// What a person loads from.
pub enum Input<'a> {
    /// A file or a directory.
    Path(&'a Path),
    /// A stream, e.g. standard input.
    Stream(&'a mut dyn Read),
}

/// Files by name.
pub(super) enum Source {
    Directory(OwnedFd),
    Tar { file: Arc<File>, entries: HashMap<String, Entry> },
}

/// An entry of a tar that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

/// A file of an archive, to be read once.
pub(super) struct Member {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Member {
    /// Bytes not read yet.
    pub(super) fn size(&self) -> u64 {
        self.left
    }
}

impl Read for Member {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..want).unwrap_or_default(), self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Source {
    pub(super) fn open(blobs: &Blobs, input: Input<'_>) -> Result<Self> {
        let path = match input {
            Input::Stream(stream) => return Self::of_tar(spool(blobs, stream)?),
            Input::Path(path) => path,
        };
        let mut file = File::open(path)?;
        let status = file.metadata()?;
        if status.is_dir() {
            return Ok(Self::Directory(file.into()));
        }
        if !status.is_file() {
            return Self::of_tar(spool(blobs, &mut file)?);
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(crate::image::compression::MAGIC_BYTES as u64).read_to_end(&mut start)?;
        file.rewind()?;
        match Compression::detect(&start)? {
            Compression::None => Self::of_tar(file),
            _ => Self::of_tar(spool(blobs, &mut file)?),
        }
    }

    fn of_tar(file: File) -> Result<Self> {
        let entries = index(&file)?;
        Ok(Self::Tar { file: Arc::new(file), entries })
    }

    /// The file of this name, or `None` if the archive has none.
    pub(super) fn member(&self, name: &str) -> Result<Option<Member>> {
        match self {
            Self::Directory(dir) => open_below(dir, name).doing(|| format!("open {}", quoted(name))),
            Self::Tar { file, entries } => {
                let mut name = name.to_owned();
                for _ in 0..=limits::ARCHIVE_LINKS_MAX {
                    match entries.get(&name) {
                        None => return Ok(None),
                        Some(Entry::File { offset, size }) => {
                            return Ok(Some(Member { file: Arc::clone(file), offset: *offset, left: *size }));
                        }
                        Some(Entry::Link(target)) => name.clone_from(target),
                    }
                }
                Err(Failure::user(format!("{} is a link without end", quoted(&name))))
            }
        }
    }

    /// The content of a small file.
    pub(super) fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.member(name)? else { return Ok(None) };
        if member.size() > max {
            return Err(Failure::user(format!("{} is larger than {max} bytes", quoted(name))));
        }
        let mut bytes = Vec::new();
        member.take(max).read_to_end(&mut bytes).doing(|| format!("read {}", quoted(name)))?;
        Ok(Some(bytes))
    }

    /// Whether the archive looks like a root file system.
    pub(super) fn is_rootfs(&self) -> bool {
        match self {
            Self::Directory(dir) => {
                ["etc", "usr", "bin"].iter().any(|name| kernel::file::status_at(dir.as_fd(), Path::new(name)).is_ok())
            }
            Self::Tar { entries, .. } => {
                entries.keys().any(|name| ["etc/", "usr/", "bin/"].iter().any(|start| name.starts_with(start)))
            }
        }
    }
}

fn open_below(dir: &OwnedFd, name: &str) -> Result<Option<Member>> {
    // O_NONBLOCK: opening a fifo must not wait for a writer (fifo(7)).
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let resolve = kernel::open::Resolve::BeneathNoLinks;
    let fd = match kernel::open::openat2(dir.as_fd(), Path::new(name), flags, 0, resolve) {
        Ok(fd) => fd,
        Err(error) if matches!(error.errno, kernel::Errno::ENOENT | kernel::Errno::ENOTDIR) => return Ok(None),
        Err(error) if error.errno == kernel::Errno::ELOOP => {
            return Err(Failure::user("it is a symbolic link, and links in image directories are not followed"));
        }
        Err(error) => return Err(Failure::from(error)),
    };
    let file = File::from(fd);
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(Failure::user("it is not a regular file"));
    }
    Ok(Some(Member { left: status.len(), file: Arc::new(file), offset: 0 }))
}

/// Writes a stream, decompressed, to a nameless file.
fn spool(blobs: &Blobs, stream: &mut dyn Read) -> Result<File> {
    let (compression, stream) = Compression::sniff(stream)?;
    let mut reader = compression.decoder(BufReader::with_capacity(128 << 10, stream))?;
    let mut file = blobs.scratch()?;
    let mut buffer = vec![0; 128 << 10];
    let mut total = 0u64;
    loop {
        let count = reader.read(&mut buffer).doing(|| "read archive")?;
        if count == 0 {
            break;
        }
        total += count as u64;
        if total > limits::ARCHIVE_BYTES_MAX {
            return Err(Failure::user(format!("the archive is larger than {} bytes", limits::ARCHIVE_BYTES_MAX)));
        }
        file.write_all(buffer.get(..count).unwrap_or_default()).doing(|| "write archive to staging")?;
    }
    Ok(file)
}

const BLOCK: u64 = 512;

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Pending {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

/// The files and links of a tar by name; of two with one name the last counts,
/// as it would on disk. Names in an extension header are bounded before they
/// are read, which is why this is not left to the tar crate.
fn index(file: &File) -> Result<HashMap<String, Entry>> {
    let end = file.metadata()?.len();
    let mut entries = HashMap::new();
    let mut pending = Pending::default();
    let mut offset = 0;
    let mut seen = 0;
    while let Some(header) = header_at(file, offset, end)? {
        seen += 1;
        if seen > limits::ARCHIVE_ENTRIES_MAX {
            return Err(Failure::user(format!("the archive has more than {} entries", limits::ARCHIVE_ENTRIES_MAX)));
        }
        let kind = header.entry_type();
        let is_extension = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
        let own_size = header.entry_size().map_err(|_| malformed(offset))?;
        let size = if is_extension { own_size } else { pending.size.unwrap_or(own_size) };
        let data = offset + BLOCK;
        let next = size.checked_next_multiple_of(BLOCK).and_then(|size| data.checked_add(size));
        let next = next.filter(|_| size <= end.saturating_sub(data)).ok_or_else(truncated)?;
        if is_extension {
            pending.read(file, &header, data, size)?;
        } else {
            let Pending { name, link, .. } = std::mem::take(&mut pending);
            let name = plain(&name.unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned()));
            let link =
                link.or_else(|| header.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned()));
            for path in std::iter::once(&name).chain(&link) {
                // All names are kept: a megabyte each would fill the memory.
                if path.len() > limits::ENTRY_PATH_BYTES_MAX {
                    let max = limits::ENTRY_PATH_BYTES_MAX;
                    return Err(Failure::user(format!("the archive has a path of more than {max} bytes")));
                }
            }
            let entry = match (kind, link) {
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => Some(Entry::File { offset: data, size }),
                (tar::EntryType::Symlink, Some(link)) => Some(Entry::Link(beside(&name, &link))),
                (tar::EntryType::Link, Some(link)) => Some(Entry::Link(plain(&link))),
                _ => None,
            };
            entries.extend(entry.map(|entry| (name, entry)));
        }
        offset = next;
    }
    Ok(entries)
}

impl Pending {
    fn read(&mut self, file: &File, header: &tar::Header, data: u64, size: u64) -> Result<()> {
        // Two paths and some numbers; nothing else in it is for us.
        let max = 4 * limits::ENTRY_PATH_BYTES_MAX as u64 + limits::ENTRY_XATTR_BYTES_MAX as u64;
        if size > max {
            return Err(Failure::user(format!("an extension header of the archive is larger than {max} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| malformed(data))?];
        file.read_exact_at(&mut bytes, data)?;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Some(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
        };
        match header.entry_type() {
            kind if kind.is_gnu_longname() => self.name = text(&bytes),
            kind if kind.is_gnu_longlink() => self.link = text(&bytes),
            _ => {
                for record in tar::PaxExtensions::new(&bytes) {
                    let record = record.map_err(|_| malformed(data))?;
                    match record.key_bytes() {
                        b"path" => self.name = text(record.value_bytes()),
                        b"linkpath" => self.link = text(record.value_bytes()),
                        b"size" => {
                            let size = record.value().ok().and_then(|value| value.parse().ok());
                            self.size = Some(size.ok_or_else(|| malformed(data))?);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// The header at `offset`; `None` at the end of the archive.
fn header_at(file: &File, offset: u64, end: u64) -> Result<Option<tar::Header>> {
    // Some writers leave out the two empty blocks at the end.
    if offset == end && offset > 0 {
        return Ok(None);
    }
    if end.saturating_sub(offset) < BLOCK {
        return Err(if offset == 0 { not_a_tar() } else { truncated() });
    }
    let mut header = tar::Header::new_old();
    file.read_exact_at(header.as_mut_bytes(), offset)?;
    if header.as_bytes().iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if !is_header(header.as_bytes()) {
        return Err(if offset == 0 { not_a_tar() } else { malformed(offset) });
    }
    Ok(Some(header))
}

/// Whether a block is a tar header: its checksum is right (POSIX.1-2017, pax,
/// "ustar Interchange Format").
pub(super) fn is_header(block: &[u8; 512]) -> bool {
    let sum = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
    tar::Header::from_byte_slice(block).cksum().is_ok_and(|expected| expected == sum.sum::<u32>())
}

fn truncated() -> Failure {
    Failure::user("the archive is truncated")
}

fn malformed(offset: u64) -> Failure {
    Failure::user(format!("the archive is damaged at byte {offset}"))
}

pub(super) fn not_a_tar() -> Failure {
    Failure::user("it is not a tar archive")
}

/// A name without `./` before and `/` behind.
fn plain(name: &str) -> String {
    name.trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// Where a link named `name` to `target` leads, in names of the archive. What
/// would leave the archive stays at its top, and is then not found.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}
