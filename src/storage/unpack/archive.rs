//! A strict reader of tar: ustar, pax and GNU headers to [`Entry`] values.
//!
//! Not a general tar reader. Differences between tar readers are how files get
//! smuggled past checks (CVE-2025-62518), so there is one reading: a pax size
//! replaces the header's, as POSIX says; types without data must have size 0;
//! whatever is ambiguous or unknown is refused by name. Layouts are those of
//! pax(1), "ustar Interchange Format", and GNU tar's manual, "Basic Tar Format".
//!
//! Invariant: the position in the stream depends on sizes that were checked,
//! and every variable-length header is bounded before memory is reserved.

use std::io::BufRead;

use crate::error::{Context, Failure, Result};
use crate::limits;

use super::pax;

/// Headers and data come in blocks of this size.
pub(super) const BLOCK_BYTES: usize = 512;

type Block = [u8; BLOCK_BYTES];

/// What kind of file an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    File,
    Link,
    Symlink,
    Directory,
    Fifo,
    /// Character or block device.
    Device,
}

/// One header with all that extended headers said about it. Its buffers are
/// reused from entry to entry.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    /// Target of a link or symbolic link.
    pub target: Vec<u8>,
    pub kind: Kind,
    /// Bytes of data that follow in the stream.
    pub size: u64,
    /// Where the data goes, if the file has holes.
    pub sparse: Option<Sparse>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Timestamp,
    /// Extended attributes, in the order given.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Seconds and nanoseconds since 1970, nanoseconds counting forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// The layout of a file with holes.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// Size with the holes.
    pub size: u64,
    /// Offset and length of each run of data, ascending, not overlapping.
    pub segments: Vec<(u64, u64)>,
}

/// Reads entries one after the other.
pub(super) struct Archive<R> {
    stream: R,
    bytes_read: u64,
    bytes_max: u64,
    /// Data of the current entry not read yet, and the padding behind it.
    data_left: u64,
    padding_left: u64,
}

/// Extended headers met before the header they belong to.
#[derive(Default)]
struct Pending {
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    records: Option<pax::Records>,
}

impl<R: BufRead> Archive<R> {
    /// Reads from `stream`, at most `bytes_max` of it.
    pub(super) fn new(stream: R, bytes_max: u64) -> Self {
        Self { stream, bytes_read: 0, bytes_max, data_left: 0, padding_left: 0 }
    }

    /// Moves to the next entry; `false` at the end of the archive.
    pub(super) fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        let mut pending = Pending::default();
        let mut block = [0; BLOCK_BYTES];
        loop {
            self.skip_data()?;
            // Clear what a failure would otherwise name: it concerns this header, not the last entry.
            entry.path.clear();
            if !self.read_block(&mut block)? || block == [0; BLOCK_BYTES] {
                if pending.any() {
                    return Err(Failure::user("archive ends after an extended header"));
                }
                return Ok(false);
            }
            verify_checksum(&block)?;
            let size = number(field(&block, 124, 12)).doing(|| "read size")?;
            match block[156] {
                b'x' => put_once(&mut pending.records, pax::Records::parse(&self.extended(size)?)?, "pax header")?,
                b'g' => pax::Records::parse(&self.extended(size)?)?.check_global()?,
                b'L' => put_once(&mut pending.long_path, self.long_name(size)?, "GNU long name")?,
                b'K' => put_once(&mut pending.long_target, self.long_name(size)?, "GNU long link name")?,
                _ => {
                    self.fill(entry, &block, size, pending)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The data of the current entry that is at hand; empty at its end. Call
    /// [`Archive::consume`] with what was used of it.
    pub(super) fn data(&mut self) -> Result<&[u8]> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.data_left).unwrap_or(usize::MAX);
        let available = fill_buf(&mut self.stream)?;
        if available.is_empty() {
            return Err(truncated());
        }
        Ok(available.split_at(available.len().min(left)).0)
    }

    /// Takes `bytes` off the data.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.stream.consume(bytes);
        self.data_left -= bytes as u64;
        self.bytes_read += bytes as u64;
    }

    /// Reads what follows the end of the archive, so that whoever hashes the
    /// stream sees all of it.
    pub(super) fn drain(&mut self) -> Result<()> {
        loop {
            let available = fill_buf(&mut self.stream)?.len();
            if available == 0 {
                return Ok(());
            }
            self.stream.consume(available);
            self.count(available as u64)?;
        }
    }

    /// Passes over what is left of the current entry.
    fn skip_data(&mut self) -> Result<()> {
        let mut left = self.data_left + self.padding_left;
        while left > 0 {
            let available = fill_buf(&mut self.stream)?.len();
            if available == 0 {
                return Err(truncated());
            }
            let step = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.stream.consume(step);
            self.bytes_read += step as u64;
            left -= step as u64;
        }
        (self.data_left, self.padding_left) = (0, 0);
        Ok(())
    }

    /// Announces `size` bytes of data, checked against the bound at once: a
    /// lying size must not get as far as the disk.
    fn begin_data(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of_checked(BLOCK_BYTES as u64)? - size;
        let end = self.bytes_read.checked_add(size).and_then(|end| end.checked_add(padding));
        if end.is_none_or(|end| end > self.bytes_max) {
            return Err(self.too_large());
        }
        (self.data_left, self.padding_left) = (size, padding);
        Ok(())
    }

    /// Reads a block; `false` if the stream ends before it.
    fn read_block(&mut self, block: &mut Block) -> Result<bool> {
        if fill_buf(&mut self.stream)?.is_empty() {
            return Ok(false);
        }
        self.stream.read_exact(block).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => truncated(),
            _ => Failure::from(error),
        })?;
        self.count(BLOCK_BYTES as u64)?;
        Ok(true)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.bytes_read = self.bytes_read.saturating_add(bytes);
        if self.bytes_read > self.bytes_max { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Failure {
        Failure::user(format!("layer is larger than {} bytes unpacked", self.bytes_max))
    }

    /// Reads the body of an extended header.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > limits::ENTRY_HEADER_BYTES_MAX {
            return Err(Failure::user(format!(
                "extended header of {size} bytes is larger than {} bytes",
                limits::ENTRY_HEADER_BYTES_MAX
            )));
        }
        self.begin_data(size)?;
        let mut body = Vec::with_capacity(size as usize);
        loop {
            let data = self.data()?;
            if data.is_empty() {
                return Ok(body);
            }
            body.extend_from_slice(data);
            let used = data.len();
            self.consume(used);
        }
    }

    /// Reads a GNU long name: the name and a NUL.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extended(size)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn fill(&mut self, entry: &mut Entry, block: &Block, size: u64, pending: Pending) -> Result<()> {
        let Pending { long_path, long_target, records } = pending;
        let records = records.unwrap_or_default();
        read_path(block, &mut entry.path);
        take_name(&mut entry.path, long_path, records.path, "path")?;
        entry.target.clear();
        entry.target.extend_from_slice(text(field(block, 157, 100)));
        take_name(&mut entry.target, long_target, records.target, "link target")?;
        entry.kind = kind(block, &entry.path)?;
        entry.size = records.size.unwrap_or(size);
        entry.mode = (number(field(block, 100, 8)).doing(|| "read mode")? & 0o7777) as u32;
        entry.uid = match records.uid {
            Some(uid) => uid,
            None => id(field(block, 108, 8)).doing(|| "read uid")?,
        };
        entry.gid = match records.gid {
            Some(gid) => gid,
            None => id(field(block, 116, 8)).doing(|| "read gid")?,
        };
        entry.modified = match records.modified {
            Some(modified) => modified,
            None => Timestamp { seconds: signed(field(block, 136, 12)).doing(|| "read time")?, nanoseconds: 0 },
        };
        entry.attributes = records.attributes;
        entry.sparse = None;
        if entry.kind != Kind::File && entry.size != 0 {
            return Err(Failure::user(format!("type without data has a size of {}", entry.size)));
        }
        if block[156] == b'S' {
            if records.size.is_some_and(|other| other != size) {
                return Err(Failure::user("sparse file has two sizes"));
            }
            entry.sparse = Some(self.sparse(block, entry.size)?);
        }
        self.begin_data(entry.size)
    }

    /// Reads the map of an old GNU sparse file: four segments in the header,
    /// then blocks of 21.
    fn sparse(&mut self, block: &Block, data: u64) -> Result<Sparse> {
        let mut sparse = Sparse { size: number(field(block, 483, 12))?, segments: Vec::new() };
        sparse.read(field(block, 386, 96))?;
        let mut more = block[482] != 0;
        while more {
            let mut extension = [0; BLOCK_BYTES];
            if !self.read_block(&mut extension)? {
                return Err(truncated());
            }
            sparse.read(field(&extension, 0, 504))?;
            more = extension[504] != 0;
        }
        sparse.check(data)?;
        Ok(sparse)
    }
}

impl Pending {
    fn any(&self) -> bool {
        self.long_path.is_some() || self.long_target.is_some() || self.records.is_some()
    }
}

impl Sparse {
    fn read(&mut self, fields: &[u8]) -> Result<()> {
        let (descriptors, _) = fields.as_chunks::<24>();
        for descriptor in descriptors {
            let (offset, length) = descriptor.split_at(12);
            if offset[0] == 0 {
                continue;
            }
            if self.segments.len() >= limits::SPARSE_SEGMENTS_MAX {
                return Err(Failure::user(format!(
                    "sparse file has more than {} segments",
                    limits::SPARSE_SEGMENTS_MAX
                )));
            }
            self.segments.push((number(offset)?, number(length)?));
        }
        Ok(())
    }

    fn check(&self, data: u64) -> Result<()> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for (offset, length) in &self.segments {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= self.size);
            end = next.ok_or_else(|| Failure::user("sparse map is not in order"))?;
            // Cannot overflow: the segments are disjoint and end at or before a u64.
            total += length;
        }
        if total == data { Ok(()) } else { Err(Failure::user("sparse map does not match the size")) }
    }
}

/// Rounding up that refuses what cannot be rounded.
trait CheckedMultiple: Sized {
    fn next_multiple_of_checked(self, step: Self) -> Result<Self>;
}

impl CheckedMultiple for u64 {
    fn next_multiple_of_checked(self, step: Self) -> Result<Self> {
        self.checked_next_multiple_of(step).ok_or_else(|| Failure::user("size does not fit in 64 bits"))
    }
}

fn truncated() -> Failure {
    Failure::user("archive is cut short")
}

fn put_once<T>(slot: &mut Option<T>, value: T, what: &str) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::user(format!("entry has two {what}s"))),
    }
}

/// Replaces a header's name by the longer one; two that differ are refused.
fn take_name(name: &mut Vec<u8>, gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, what: &str) -> Result<()> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(Failure::user(format!("entry has two {what}s that differ"))),
        (Some(long), _) | (None, Some(long)) => {
            *name = long;
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

fn kind(block: &Block, path: &[u8]) -> Result<Kind> {
    Ok(match block[156] {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if path.last() == Some(&b'/') => Kind::Directory,
        // 7 is "contiguous", to be treated as a file where there is no such thing; S is GNU sparse.
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Link,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Failure::user(format!("unknown entry type \"{}\"", other.escape_ascii()))),
    })
}

/// The path of a header. `prefix` exists in POSIX headers only: GNU keeps
/// times there and has another magic.
fn read_path(block: &Block, path: &mut Vec<u8>) {
    path.clear();
    if field(block, 257, 6) == b"ustar\0" {
        let prefix = text(field(block, 345, 155));
        if !prefix.is_empty() {
            path.extend_from_slice(prefix);
            path.push(b'/');
        }
    }
    path.extend_from_slice(text(field(block, 0, 100)));
}

/// `length` bytes of a block. The ranges are constants within a block.
fn field(block: &Block, start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

/// A text field up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of all bytes, the checksum's own counted as spaces. Some old
/// programs summed signed bytes.
fn verify_checksum(block: &Block) -> Result<()> {
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    let stored = octal(field(block, 148, 8));
    if stored.is_some_and(|stored| stored == unsigned as u64 || i64::try_from(stored) == Ok(signed)) {
        Ok(())
    } else {
        Err(Failure::user("not a tar header (checksum does not match)"))
    }
}

/// A number: octal digits, or GNU's base 256 with the top bit set.
fn number(field: &[u8]) -> Result<u64> {
    u64::try_from(signed(field)?).map_err(|_| Failure::user("number is negative"))
}

fn id(field: &[u8]) -> Result<u32> {
    valid_id(number(field)?)
}

/// chown(2) takes 2³²−1 for "leave as it is", so it is no id.
pub(super) fn valid_id(id: u64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Failure::user(format!("{id} is not a user or group id")))
}

fn signed(field: &[u8]) -> Result<i64> {
    let invalid = || Failure::user(format!("\"{}\" is not a number", field.escape_ascii()));
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // Two's complement of the field's length; bit 6 of the first byte is the sign.
            let start = if first & 0x40 != 0 { -1 } else { 0 };
            let start = (start << 6) | i128::from(first & 0x3f);
            let value = rest.iter().try_fold(start, |value, byte| {
                value.checked_mul(256).and_then(|value| value.checked_add(i128::from(*byte)))
            });
            value.and_then(|value| i64::try_from(value).ok()).ok_or_else(invalid)
        }
        _ => octal(field).and_then(|value| i64::try_from(value).ok()).ok_or_else(invalid),
    }
}

/// Octal digits between spaces, up to a NUL; an empty field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn fill_buf<R: BufRead>(stream: &mut R) -> Result<&[u8]> {
    // Polonius case: retrying inside one loop with the returned borrow is not accepted, so look first.
    loop {
        match stream.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::from(error)),
            Ok(_) => break,
        }
    }
    stream.fill_buf().map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &[u8], expected: Option<i64>) {
        assert_eq!(signed(field).ok(), expected, "{:?}", field.escape_ascii().to_string());
    }

    #[test]
    fn reads_numbers() {
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"644 xxx\0", None);
        check(b"\0\0\0\0", Some(0));
        check(b"77777777777\0", Some(0o77_777_777_777));
        check(b"777777777777", Some(0o777_777_777_777));
        check(b"0000888\0", None);
        check(b"-1\0", None);
        check(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], Some(256));
        check(&[0xff; 12], Some(-1));
        check(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None);
        assert!(number(&[0xff; 12]).is_err());
        assert!(id(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(id(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]).is_ok());
    }
}
