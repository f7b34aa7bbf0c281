//! The writer of tar: ustar headers, and pax records for what they cannot say.
//!
//! The bytes depend on nothing but the entries: no user or group names, no
//! access or change times, numbers in octal, records in the order of their
//! keys (pax(1), "ustar Interchange Format"; the choices are those of Docker
//! and BuildKit, so that a layer looks alike whoever made it).

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::EntryType;

use crate::error::{Failure, Result};
use crate::limits;

/// Headers and data come in blocks of this size.
const BLOCK_BYTES: u64 = 512;
/// The largest number in seven octal digits: ids.
const ID_MAX: u32 = 0o777_7777;
/// The largest number in eleven octal digits: sizes and times.
const NUMBER_MAX: u64 = 0o777_7777_7777;
/// Where an extended header says it would be unpacked by a program that does
/// not know it, as Go's archive/tar has it.
const EXTENDED_NAME: &[u8] = b"PaxHeaders.0/";
/// Zeros are written from here.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// One entry. Its data follows.
pub(super) struct Entry<'a> {
    pub(super) kind: EntryType,
    /// Without a leading slash; of a directory with a slash at its end.
    pub(super) path: &'a [u8],
    /// Of a link or symbolic link.
    pub(super) target: &'a [u8],
    /// Permission bits, set-user-ID, set-group-ID and sticky bit.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) modified_s: i64,
    pub(super) size: u64,
    /// Major and minor number.
    pub(super) device: Option<(u32, u32)>,
    /// Extended attributes.
    pub(super) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

/// A tar under way.
pub(super) struct Archive<W> {
    stream: W,
    entries: u64,
    bytes: u64,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, entries: 0, bytes: 0 }
    }

    /// How many entries were begun.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Begins an entry: its data, of exactly the size it says, is due next.
    pub(super) fn begin(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.entries += 1;
        if self.entries > limits::LAYER_ENTRIES_MAX {
            return Err(Failure::user(format!("there are more than {} files", limits::LAYER_ENTRIES_MAX)));
        }
        // Before anything of it is written: a sparse file may say that it is exabytes.
        if self.bytes.saturating_add(entry.size) > limits::LAYER_BYTES_MAX {
            return Err(Failure::user(format!("the tar would be larger than {} bytes", limits::LAYER_BYTES_MAX)));
        }
        let mut records = Records::default();
        let mut header = header(entry, &mut records)?;
        let extended = records.finish()?;
        if !extended.is_empty() {
            self.extended(entry.path, &extended)?;
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Writes data.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes `count` bytes of zeros as data.
    pub(super) fn write_zeros(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.write(ZEROS.split_at(step as usize).0)?;
            count -= step;
        }
        Ok(())
    }

    /// Ends an entry: fills its last block.
    pub(super) fn end(&mut self) -> Result<()> {
        self.write_zeros(self.bytes.next_multiple_of(BLOCK_BYTES) - self.bytes)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_zeros(2 * BLOCK_BYTES)
    }

    fn extended(&mut self, path: &[u8], body: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        let last = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        fill(&mut header.as_old_mut().name, &[EXTENDED_NAME, last].concat());
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(body)?;
        self.end()
    }
}

/// The header of `entry`; what it has no room for goes to `records`.
fn header(entry: &Entry<'_>, records: &mut Records) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(entry.kind);
    // Up to 100 bytes, or in two parts where a slash is at the right place.
    if header.set_path(Path::new(std::ffi::OsStr::from_bytes(entry.path))).is_err() {
        records.name("path", entry.path);
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.prefix.fill(0);
        }
        fill(&mut header.as_old_mut().name, entry.path);
    }
    if fill(&mut header.as_old_mut().linkname, entry.target) {
        records.name("linkpath", entry.target);
    }
    header.set_mode(entry.mode);
    header.set_uid(u64::from(records.number_up_to(ID_MAX, "uid", entry.uid)));
    header.set_gid(u64::from(records.number_up_to(ID_MAX, "gid", entry.gid)));
    header.set_size(match entry.size {
        0..=NUMBER_MAX => entry.size,
        more => {
            records.text("size", more);
            0
        }
    });
    header.set_mtime(match u64::try_from(entry.modified_s) {
        Ok(seconds @ 0..=NUMBER_MAX) => seconds,
        _ => {
            records.text("mtime", entry.modified_s);
            0
        }
    });
    if let Some((major, minor)) = entry.device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    for (name, value) in entry.attributes {
        records.put([b"SCHILY.xattr.", name.as_slice()].concat(), value.as_slice());
    }
    Ok(header)
}

/// Copies as much of `bytes` as fits; `true` if that is not all.
fn fill(field: &mut [u8], bytes: &[u8]) -> bool {
    field.fill(0);
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    bytes.len() > field.len()
}

/// The body of an extended header.
#[derive(Default)]
struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((key.into(), value.into()));
    }

    fn text(&mut self, key: &str, value: impl std::fmt::Display) {
        self.put(key, value.to_string());
    }

    /// pax says that names are UTF-8 unless the header says otherwise.
    fn name(&mut self, key: &str, name: &[u8]) {
        if std::str::from_utf8(name).is_err() && !self.0.iter().any(|(key, _)| key == b"hdrcharset") {
            self.text("hdrcharset", "BINARY");
        }
        self.put(key, name);
    }

    /// `value` for the header if it has room for it; else 0, and a record.
    fn number_up_to(&mut self, most: u32, key: &str, value: u32) -> u32 {
        if value <= most {
            return value;
        }
        self.text(key, value);
        0
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.0.sort();
        let mut body = Vec::new();
        for (key, value) in &self.0 {
            if key.contains(&b'=') || key.contains(&0) {
                return Err(Failure::user("the name of an extended attribute holds \"=\", which tar cannot say"));
            }
            // LENGTH KEY=VALUE\n, where LENGTH counts itself.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + digits(rest);
            if digits(length) != digits(rest) {
                length = rest + digits(length);
            }
            body.extend_from_slice(format!("{length} ").as_bytes());
            body.extend_from_slice(key);
            body.push(b'=');
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        Ok(body)
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or_default() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for length in [0, 1, 88, 89, 90, 91, 92, 93, 980, 985, 986, 987, 988, 989, 990, 9_977, 9_978, 9_979, 9_980] {
            let mut records = Records::default();
            records.put("k", vec![b'v'; length]);
            let body = records.finish().unwrap();
            let said: usize = String::from_utf8_lossy(&body).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, body.len(), "{length}");
        }
    }

    fn with(entry: Entry<'_>) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = Vec::new();
        Archive::new(&mut bytes).begin(&entry).unwrap();
        let header = bytes.split_off(bytes.len() - 512);
        (bytes, header)
    }

    fn file(path: &[u8]) -> Entry<'_> {
        let (kind, target, device, attributes) = (EntryType::Regular, &[][..], None, &[][..]);
        Entry { kind, path, target, mode: 0o644, uid: 0, gid: 0, modified_s: 0, size: 0, device, attributes }
    }

    #[test]
    fn extended_headers_only_where_they_must_be() {
        let long = [vec![b'a'; 90], vec![b'b'; 90]].join(&b'/');
        for plain in [&b"etc/passwd"[..], b"\xff\xfe", &[b'x'; 100], &long] {
            assert_eq!(with(file(plain)).0, b"", "{:?}", plain.escape_ascii().to_string());
        }
        fn extended(entry: Entry<'_>) -> String {
            String::from_utf8_lossy(&with(entry).0).into_owned()
        }
        let strange = [&[b'x'; 120][..], b"\xff"].concat();
        assert!(extended(file(&[b'x'; 101])).contains("111 path=xxx"));
        assert!(extended(file(&strange)).contains("21 hdrcharset=BINARY\n131 path="));
        assert!(extended(Entry { uid: 2_097_152, ..file(b"a") }).contains("15 uid=2097152\n"));
        assert!(extended(Entry { size: 8 << 30, ..file(b"a") }).contains("19 size=8589934592\n"));
        assert!(extended(Entry { modified_s: -1, ..file(b"a") }).contains("12 mtime=-1\n"));
        assert!(extended(Entry { target: &[b't'; 101], ..file(b"a") }).contains("115 linkpath=t"));
        let attributes = [(b"user.b".to_vec(), b"\0\n".to_vec()), (b"user.a".to_vec(), b"".to_vec())];
        let found = extended(Entry { attributes: &attributes, ..file(b"d/a") });
        assert!(found.starts_with("PaxHeaders.0/a\0"), "{found}");
        assert!(found.contains("24 SCHILY.xattr.user.a=\n26 SCHILY.xattr.user.b=\0\n\n"), "{found}");
    }

    #[test]
    fn no_entry_is_larger_than_a_layer_may_be() {
        let entry = Entry { size: u64::MAX, ..file(b"a") };
        assert!(Archive::new(Vec::new()).begin(&entry).unwrap_err().to_string().contains("larger than"));
    }
}
