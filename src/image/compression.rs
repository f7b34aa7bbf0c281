//! How a layer is compressed: told by its first bytes, never by its media type.
//!
//! Media types are wrong often enough (a docker-archive with gzip layers, a
//! registry that recompressed) and a lie costs nothing; the magic does not lie.

use std::io::{self, BufRead, Read};

use crate::error::{Failure, Result};

/// The compression of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A stream whose start was looked at.
pub type Sniffed<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// How many bytes [`Compression::detect`] wants to see.
pub const MAGIC_BYTES: usize = 6;

/// The largest zstd window accepted, as a power of two: 128 MiB, what
/// `zstd -d` takes without being asked (a bigger one is memory on request of
/// a stranger).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    /// Told from the first [`MAGIC_BYTES`] of a stream. Formats that layers
    /// never have, but root file system archives may, are refused by name.
    pub fn detect(start: &[u8]) -> Result<Self> {
        let other = |name: &str, tool: &str| {
            Err(Failure::user(format!("{name} compression is not supported"))
                .hint(format!("decompress it with {tool} first")))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // RFC 8878, 3.1.1 and 3.1.2 (a skippable frame may come first).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => other("xz", "unxz"),
            // Three letters and a digit may begin a tar too; a block's magic does not.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => other("bzip2", "bunzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => other("lz4", "unlz4"),
            [b'P', b'K', 3, 4, ..] => other("zip", "unzip"),
            _ => Ok(Self::None),
        }
    }

    /// Looks at the start of a stream; what is returned reads from there again.
    pub fn sniff<R: Read>(mut reader: R) -> Result<(Self, Sniffed<R>)> {
        let mut start = Vec::with_capacity(MAGIC_BYTES);
        reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
        Ok((Self::detect(&start)?, io::Cursor::new(start).chain(reader)))
    }

    /// The plain bytes of `reader`. Concatenated members are read through, as
    /// every decompressor does.
    pub fn decoder<'a>(self, reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(reader),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        })
    }

    /// The media type of a layer compressed so (image spec, layer.md).
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(bytes: &[u8], expected: Compression) {
        let (found, reader) = Compression::sniff(bytes).unwrap();
        assert_eq!(found, expected);
        let mut plain = String::new();
        found.decoder(reader).unwrap().read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "hello");
    }

    #[test]
    fn tells_by_magic() {
        check(b"hello", Compression::None);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        check(&gzip.finish().unwrap(), Compression::Gzip);
        check(&zstd::encode_all(&b"hello"[..], 1).unwrap(), Compression::Zstd);
        assert_eq!(Compression::detect(b"\x50\x2a\x4d\x18").unwrap(), Compression::Zstd);
        assert_eq!(Compression::detect(b"").unwrap(), Compression::None);
        for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY&SY", "bzip2"), (b"PK\x03\x04", "zip")] {
            assert!(Compression::detect(magic).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        for bytes in [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\x1f\x8bgarbage", b"\x28\xb5\x2f\xfdgarbage garbage"] {
            let compression = Compression::detect(bytes).unwrap();
            assert!(compression.decoder(bytes).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }
}
