//! A layer of unknown digest: stored as it comes, and its diff id learned on
//! the way, in one pass.

use std::io::{self, BufReader, Read, Write};

use super::headers;
use crate::error::{Context, Result};
use crate::image::blobs::{BlobWriter, Blobs, Checked};
use crate::image::compression::Compression;
use crate::image::descriptor::Descriptor;
use crate::image::digest::{Digest, Verifier};
use crate::limits;

/// A layer that is in the store and has no name yet.
pub(super) struct Stored<'a> {
    pub(super) descriptor: Descriptor,
    /// The digest of the plain tar.
    pub(super) diff_id: Digest,
    pub(super) blob: Checked<'a>,
}

/// Stores a tar of any compression.
pub(super) fn store(blobs: &Blobs, stream: impl Read) -> Result<Stored<'_>> {
    let (compression, stream) = Compression::sniff(stream)?;
    let mut writer = blobs.writer(None, None)?;
    let mut tee = Tee { reader: stream, writer: &mut writer };
    let decoder = compression.decoder(BufReader::with_capacity(128 << 10, &mut tee))?;
    let diff_id = read_tar(decoder).doing(|| "read layer")?;
    // What a decompressor leaves unread belongs to the blob all the same.
    io::copy(&mut tee, &mut io::sink()).doing(|| "read layer")?;
    let blob = writer.check()?;
    let descriptor = Descriptor::new(compression.layer_media_type(), blob.digest, blob.bytes);
    Ok(Stored { descriptor, diff_id, blob })
}

/// The digest of a plain tar. Only its first header is looked at, so that a
/// text or an error page does not become an image; the rest is for the unpack.
fn read_tar(reader: impl Read) -> Result<Digest> {
    let mut reader = Verifier::new(reader);
    let mut block = [0; 512];
    match reader.read_exact(&mut block) {
        Ok(()) if headers::is_header(&block) || block.iter().all(|byte| *byte == 0) => {}
        Ok(()) => return Err(headers::not_a_tar()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(headers::not_a_tar()),
        Err(error) => return Err(error.into()),
    }
    Ok(reader.finish(limits::LAYER_BYTES_MAX)?.0)
}

/// Reads, and writes down what was read.
struct Tee<'a, 'b, R> {
    reader: R,
    writer: &'a mut BlobWriter<'b>,
}

impl<R: Read> Read for Tee<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.writer.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}
