//! The headers of a tar, one by one, from a file or a stream (POSIX.1-2017,
//! pax, "ustar Interchange Format"; GNU tar, "Basic Tar Format").
//!
//! Names in an extension header are bounded before they are read, which is why
//! this is not left to the tar crate.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::error::{Failure, Result};
use crate::limits;

const BLOCK: u64 = 512;

/// A reader that can pass over bytes.
pub(super) trait Forward: Read {
    /// Passes over `bytes`; UnexpectedEof if there are fewer.
    fn pass(&mut self, bytes: u64) -> io::Result<()>;
}

/// A file, read at a place of our own.
pub(super) struct InFile<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl<'a> InFile<'a> {
    pub(super) fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, offset: 0, end: file.metadata()?.len() })
    }
}

impl Read for InFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Forward for InFile<'_> {
    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let offset = self.offset.checked_add(bytes).filter(|offset| *offset <= self.end);
        self.offset = offset.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

/// Anything else.
pub(super) struct InStream<R>(pub(super) R);

impl<R: Read> Read for InStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Forward for InStream<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())? {
            passed if passed == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of so many bytes, which are read from [`Headers`].
    File(u64),
    /// A link to the entry of this name, as far as it stays in the archive.
    Link(String),
    /// A directory, a device.
    Other,
}

/// A walk through a tar. Between two headers it reads as the file's content.
pub(super) struct Headers<R> {
    reader: R,
    /// Bytes read so far.
    offset: u64,
    /// Of the content that was not read yet.
    left: u64,
    /// Of the block's rest behind it.
    padding: u64,
    seen: usize,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Pending {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<R: Forward> Headers<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0, left: 0, padding: 0, seen: 0 }
    }

    /// Where the content of the present entry begins, unless some was read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry's name and kind; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(String, Kind)>> {
        let mut pending = Pending::default();
        loop {
            let rest = self.left + self.padding;
            self.reader.pass(rest).map_err(truncated)?;
            self.offset += rest;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let own_size = header.entry_size().map_err(|_| malformed(self.offset))?;
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                self.begin(own_size)?;
                let bytes = self.extension(own_size)?;
                pending.read(kind, &bytes).ok_or_else(|| malformed(self.offset))?;
                continue;
            }
            let size = pending.size.unwrap_or(own_size);
            self.begin(size)?;
            let Pending { name, link, .. } = pending;
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
            let kind = match (kind, link) {
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => Kind::File(size),
                (tar::EntryType::Symlink, Some(link)) => Kind::Link(beside(&name, &link)),
                (tar::EntryType::Link, Some(link)) => Kind::Link(plain(&link)),
                _ => Kind::Other,
            };
            return Ok(Some((name, kind)));
        }
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        let whole = size.checked_next_multiple_of(BLOCK).filter(|whole| self.offset.checked_add(*whole).is_some());
        self.padding = whole.ok_or_else(|| malformed(self.offset))? - size;
        self.left = size;
        Ok(())
    }

    /// The content of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        // Two paths and some numbers; nothing else in it is for us.
        let max = 4 * limits::ENTRY_PATH_BYTES_MAX as u64 + limits::ENTRY_XATTR_BYTES_MAX as u64;
        if size > max {
            return Err(Failure::user(format!("an extension header of the archive is larger than {max} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| malformed(self.offset))?];
        self.read_exact(&mut bytes).map_err(truncated)?;
        Ok(bytes)
    }

    /// The header here; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>> {
        self.seen += 1;
        if self.seen > limits::ARCHIVE_ENTRIES_MAX {
            return Err(Failure::user(format!("the archive has more than {} entries", limits::ARCHIVE_ENTRIES_MAX)));
        }
        if self.offset > limits::ARCHIVE_BYTES_MAX {
            return Err(Failure::user(format!("the archive is larger than {} bytes", limits::ARCHIVE_BYTES_MAX)));
        }
        let is_first = self.offset == 0;
        let mut block = Vec::with_capacity(BLOCK as usize);
        self.reader.by_ref().take(BLOCK).read_to_end(&mut block)?;
        self.offset += block.len() as u64;
        let Ok(block) = <[u8; BLOCK as usize]>::try_from(block.as_slice()) else {
            // Some writers leave out the two empty blocks at the end.
            return match (is_first, block.is_empty()) {
                (false, true) => Ok(None),
                (true, _) => Err(not_a_tar()),
                (false, false) => Err(truncated(io::ErrorKind::UnexpectedEof.into())),
            };
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(if is_first { not_a_tar() } else { malformed(self.offset) });
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        Ok(Some(header))
    }

    /// Reads what comes after the end, so that who writes a pipe is not
    /// disturbed.
    pub(super) fn drain(&mut self) -> Result<()> {
        let room = limits::ARCHIVE_BYTES_MAX.saturating_sub(self.offset);
        io::copy(&mut self.reader.by_ref().take(room), &mut io::sink())?;
        Ok(())
    }
}

impl<R: Read> Read for Headers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.reader.read(buffer.get_mut(..want).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated"));
        }
        self.left -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Pending {
    fn read(&mut self, kind: tar::EntryType, bytes: &[u8]) -> Option<()> {
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Some(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
        };
        match kind {
            kind if kind.is_gnu_longname() => self.name = text(bytes),
            kind if kind.is_gnu_longlink() => self.link = text(bytes),
            _ => {
                for record in tar::PaxExtensions::new(bytes) {
                    let record = record.ok()?;
                    match record.key_bytes() {
                        b"path" => self.name = text(record.value_bytes()),
                        b"linkpath" => self.link = text(record.value_bytes()),
                        b"size" => self.size = Some(record.value().ok()?.parse().ok()?),
                        _ => {}
                    }
                }
            }
        }
        Some(())
    }
}

/// Whether a block is a tar header: its checksum is right.
pub(super) fn is_header(block: &[u8; 512]) -> bool {
    let sum = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
    tar::Header::from_byte_slice(block).cksum().is_ok_and(|expected| expected == sum.sum::<u32>())
}

fn truncated(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::user("the archive is truncated"),
        _ => Failure::from(error).doing("read archive"),
    }
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
