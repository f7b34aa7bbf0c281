//! From a layer's blob to its directory: inflate, hash and apply at once.
//!
//! ```text
//! blob ── inflate thread ──┬─ chunks ──> hasher thread   (diff id)
//!                          └─ chunks ──> caller's thread (apply)
//! ```
//!
//! The diff id covers every byte that was inflated, padding behind the end of
//! the archive included. A blob that is cut short or has something behind its
//! last member or frame is refused.
//!
//! A blob that is still being downloaded is followed: the command writes it,
//! we read behind, from the page cache ([`Growing`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use crate::error::{Context, Failure, Result};
use crate::image::compression::Compression;

use super::{Options, Summary, apply_buffered};

/// One step of the pipeline: large enough that the hand-over costs nothing.
const CHUNK_BYTES: usize = 512 << 10;
/// Chunks under way to each reader: bounds memory to some MiB.
const CHUNKS_MAX: usize = 8;

type Chunk = Arc<Vec<u8>>;

/// Unpacks a layer's blob into the empty directory `root`. Returns the diff
/// id (SHA-256 of the uncompressed bytes, in hex) for the caller to compare
/// before the layer is used.
pub fn apply_blob(blob: impl Read + Send, root: BorrowedFd<'_>, options: &Options) -> Result<(String, Summary)> {
    let (compression, blob) = Compression::sniff(blob).doing(|| "read layer")?;
    let blob = BufReader::with_capacity(CHUNK_BYTES, blob);
    let (to_apply, from_inflate) = sync_channel(CHUNKS_MAX);
    let (to_hash, hashable) = sync_channel::<Chunk>(CHUNKS_MAX);
    std::thread::scope(|scope| {
        let inflate = std::thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, move || inflate(blob, compression, &to_apply, &to_hash))?;
        let hasher = std::thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, move || {
            let mut hash = Sha256::new();
            hashable.iter().for_each(|chunk| hash.update(chunk.as_slice()));
            hash.finalize()
        })?;
        // Dropping the reader on failure ends the other two.
        let applied = apply_buffered(Chunks { from: from_inflate, current: Chunk::default(), used: 0 }, root, options);
        let ended = inflate.join().map_err(|_| Failure::bug("inflate thread panicked"))?;
        let hash = hasher.join().map_err(|_| Failure::bug("hash thread panicked"))?;
        // A cut stream makes the archive end early too: the blob's own failure says why.
        ended.doing(|| "inflate layer")?;
        Ok((hex(&hash), applied?))
    })
}

/// Inflates into both channels. Ends early when the applier is gone.
fn inflate(
    blob: BufReader<impl Read>,
    compression: Compression,
    to_apply: &SyncSender<Chunk>,
    to_hash: &SyncSender<Chunk>,
) -> Result<()> {
    let mut stream = compression.decoder(blob)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let ended = stream.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let last = match ended {
            Ok(bytes) => bytes < CHUNK_BYTES,
            Err(error) => return Err(Failure::user(error.to_string())),
        };
        let chunk = Chunk::new(chunk);
        if to_hash.send(Chunk::clone(&chunk)).is_err() || to_apply.send(chunk).is_err() || last {
            return Ok(());
        }
    }
}

/// A blob that may still be growing. Ends behind its last byte; that no more
/// will come before it is an error.
pub(super) struct Growing {
    file: File,
    /// Bytes not read yet.
    left: u64,
    /// A pipe: something to read when the file has grown, its end when it
    /// grows no more. `None` for a file that is whole.
    bell: Option<File>,
}

impl Growing {
    /// Follows `file` until `size` bytes were read.
    pub(super) fn new(file: File, size: u64, bell: Option<File>) -> Self {
        Self { file, left: size, bell }
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            let count = self.file.read(buffer)?;
            if count > 0 {
                self.left -= count as u64;
                return Ok(count);
            }
            let mut rings = [0; 512];
            let rung = match &mut self.bell {
                Some(bell) => bell.read(&mut rings)?,
                None => 0,
            };
            if rung == 0 {
                // The last bytes may have come between the two reads.
                self.bell = None;
                let count = self.file.read(buffer)?;
                self.left -= count as u64;
                return match count {
                    0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is cut short")),
                    count => Ok(count),
                };
            }
        }
    }
}

/// The chunks as a stream.
struct Chunks {
    from: Receiver<Chunk>,
    current: Chunk,
    used: usize,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.used >= self.current.len() {
            match self.from.recv() {
                Ok(chunk) => (self.current, self.used) = (chunk, 0),
                // The sender is gone: the end, or a failure that inflate() returns.
                Err(_) => return Ok(&[]),
            }
        }
        Ok(self.current.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?.read(buffer)?;
        self.consume(bytes);
        Ok(bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
