//! Where an archive's files are: a directory, or the entries of a tar.
//!
//! Nothing is ever unpacked: a tar in a file is indexed once, header by header,
//! and its files are read where they lie; a directory's files are opened
//! without following a link (CVE-2025-11395, CVE-2026-20613: blobs that were
//! links to the host's files). Of a stream or a compressed tar, large files go
//! straight into the store under the digests that they turn out to have, small
//! ones into a nameless file in staging. What of it no image needs is
//! collected as what a broken pull left.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::headers::{Headers, InFile, InStream, Kind};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::layout;
use crate::image::quote::quoted;
use crate::kernel;
use crate::limits;

/// Bytes moved at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What a person loads from.
pub enum Input<'a> {
    /// A file or a directory.
    Path(&'a Path),
    /// A stream, e.g. standard input.
    Stream(&'a mut dyn Read),
}

/// Files by name.
pub(super) struct Source<'a> {
    blobs: &'a Blobs,
    files: Files,
}

enum Files {
    Directory(OwnedFd),
    Tar { file: Arc<File>, entries: HashMap<String, Entry> },
}

/// An entry of a tar that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { offset: u64, size: u64 },
    Blob { digest: Digest, size: u64 },
    Link(String),
}

/// A file of an archive, to be read once.
pub(super) struct Member {
    file: Arc<File>,
    offset: u64,
    left: u64,
    stored: Option<Digest>,
}

impl Member {
    /// Bytes not read yet.
    pub(super) fn size(&self) -> u64 {
        self.left
    }

    /// The same file, opened once more and standing where the member begins: to
    /// be read by another process.
    pub(super) fn reopen(&self) -> io::Result<File> {
        let mut file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        file.seek(io::SeekFrom::Start(self.offset))?;
        Ok(file)
    }

    /// Its digest, if it is a blob of the store already.
    pub(super) fn stored(&self) -> Option<Digest> {
        self.stored
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

impl<'a> Source<'a> {
    pub(super) fn open(blobs: &'a Blobs, input: Input<'_>) -> Result<Self> {
        let files = match input {
            Input::Stream(stream) => receive(blobs, stream)?,
            Input::Path(path) => open(blobs, path)?,
        };
        Ok(Self { blobs, files })
    }

    /// The file of this name, or `None` if the archive has none.
    pub(super) fn member(&self, name: &str) -> Result<Option<Member>> {
        let (file, entries) = match &self.files {
            Files::Directory(dir) => return open_below(dir, name).doing(|| format!("open {}", quoted(name))),
            Files::Tar { file, entries } => (file, entries),
        };
        let mut name = name;
        for _ in 0..=limits::ARCHIVE_LINKS_MAX {
            match entries.get(name) {
                None => return Ok(None),
                Some(Entry::File { offset, size }) => {
                    return Ok(Some(Member { file: Arc::clone(file), offset: *offset, left: *size, stored: None }));
                }
                Some(Entry::Blob { digest, size }) => {
                    let file = Arc::new(self.blobs.file(digest)?);
                    return Ok(Some(Member { file, offset: 0, left: *size, stored: Some(*digest) }));
                }
                Some(Entry::Link(target)) => name = target,
            }
        }
        Err(Failure::user(format!("{} is a link without end", quoted(name))))
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
        let tops = ["etc", "usr", "bin"];
        match &self.files {
            Files::Directory(dir) => {
                tops.iter().any(|name| kernel::file::status_at(dir.as_fd(), Path::new(name)).is_ok())
            }
            Files::Tar { entries, .. } => {
                entries.keys().filter_map(|name| name.split_once('/')).any(|(top, _)| tops.contains(&top))
            }
        }
    }
}

fn open(blobs: &Blobs, path: &Path) -> Result<Files> {
    let mut file = File::open(path)?;
    let status = file.metadata()?;
    if status.is_dir() {
        return Ok(Files::Directory(file.into()));
    }
    if !status.is_file() {
        return receive(blobs, &mut file);
    }
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(crate::image::compression::MAGIC_BYTES as u64).read_to_end(&mut start)?;
    file.rewind()?;
    match Compression::detect(&start)? {
        Compression::None => index(file),
        _ => receive(blobs, &mut file),
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
    Ok(Some(Member { left: status.len(), file: Arc::new(file), offset: 0, stored: None }))
}

/// The files and links of a tar; of two with one name the last counts, as it
/// would on disk.
fn index(file: File) -> Result<Files> {
    let mut entries = HashMap::new();
    let mut headers = Headers::new(InFile::new(&file)?);
    while let Some((name, kind)) = headers.next()? {
        let entry = match kind {
            Kind::File(size) => Entry::File { offset: headers.offset(), size },
            Kind::Link(target) => Entry::Link(target),
            Kind::Other => continue,
        };
        entries.insert(name, entry);
    }
    Ok(Files::Tar { file: Arc::new(file), entries })
}

/// Takes in a stream of any compression.
fn receive(blobs: &Blobs, stream: &mut dyn Read) -> Result<Files> {
    let (compression, stream) = Compression::sniff(stream)?;
    let reader = compression.decoder(BufReader::with_capacity(BUFFER_BYTES, stream))?;
    let mut headers = Headers::new(InStream(reader));
    let (mut aside, mut end) = (blobs.scratch()?, 0);
    let mut entries = HashMap::new();
    while let Some((name, kind)) = headers.next()? {
        let entry = match kind {
            Kind::File(size) if size > limits::ARCHIVE_ASIDE_BYTES_MAX => {
                let digest = store(blobs, &name, size, &mut headers).doing(|| format!("read {}", quoted(&name)))?;
                Entry::Blob { digest, size }
            }
            Kind::File(size) => {
                pump(&mut headers, &mut aside, &|_| ()).doing(|| format!("read {}", quoted(&name)))?;
                end += size;
                Entry::File { offset: end - size, size }
            }
            Kind::Link(target) => Entry::Link(target),
            Kind::Other => continue,
        };
        entries.insert(name, entry);
    }
    headers.drain()?;
    Ok(Files::Tar { file: Arc::new(aside), entries })
}

/// Keeps a large file of a stream as a blob; the name of one in a layout is
/// its digest.
fn store(blobs: &Blobs, name: &str, size: u64, reader: &mut dyn Read) -> Result<Digest> {
    let said = name.strip_prefix(layout::BLOBS).and_then(|name| Digest::from_hex(name.strip_prefix('/')?).ok());
    let mut writer = blobs.writer(said, Some(size))?;
    pump(reader, &mut writer, &|_| ())?;
    Ok(writer.finish()?.0)
}

/// Copies all of `reader`, in large pieces; `advance` is told of each.
pub(super) fn pump(mut reader: impl Read, writer: &mut impl Write, advance: &dyn Fn(u64)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                writer.write_all(buffer.get(..count).unwrap_or_default())?;
                advance(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
