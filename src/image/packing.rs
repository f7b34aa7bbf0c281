//! Packing: a layer compressed by all cores, into the same bytes on every
//! machine.
//!
//! The plain tar is cut into blocks of a fixed size, each becomes a gzip
//! member (RFC 1952, 2.2) or a zstd frame (RFC 8878, 3) of its own, and these
//! are written one behind the other, which both formats mean by the content of
//! all. So the number of threads leaves no trace.
//!
//! gzip is libdeflate's: it takes less of zlib's time for fewer bytes (docs/design/0002-push.md has the figures, and why not one
//! stream with the window carried over).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use super::blobs::Blobs;
use super::compression::Compression;
use super::descriptor::Descriptor;
use super::digest::{Digest, Verifier};
use crate::error::{Context, Failure, Result};
use crate::limits;

/// Bytes of a gzip member before compression: what members cost (18 bytes and
/// the first matches of each) is below 0.1 % from here on.
const GZIP_BLOCK_BYTES: usize = 1 << 20;

/// Bytes of a zstd frame before compression: twice the window of the default level.
const ZSTD_BLOCK_BYTES: usize = 4 << 20;

/// libdeflate's levels are not zlib's: its 5 is a tenth smaller than what
/// podman makes, in two thirds of the time.
const GZIP_LEVEL: i32 = 5;

/// How a layer is to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    compression: Compression,
    level: i32,
}

impl Form {
    /// `compression` at `level`, or at the level its own tool has by default.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self> {
        let (range, default, name) = match compression {
            Compression::None => (0..=0, 0, "uncompressed layers"),
            Compression::Gzip => (1..=12, GZIP_LEVEL, "gzip"),
            Compression::Zstd => (1..=19, 3, "zstd"),
        };
        let level = level.unwrap_or(default);
        if !range.contains(&level) {
            let (first, last) = (range.start(), range.end());
            return Err(match compression {
                Compression::None => Failure::usage(format!("{name} have no compression level")),
                _ => Failure::usage(format!("{name} has levels from {first} to {last}, not {level}")),
            });
        }
        Ok(Self { compression, level })
    }

    /// What comes out.
    pub fn compression(self) -> Compression {
        self.compression
    }

    fn block_bytes(self) -> usize {
        match self.compression {
            Compression::Zstd => ZSTD_BLOCK_BYTES,
            Compression::Gzip | Compression::None => GZIP_BLOCK_BYTES,
        }
    }
}

impl Default for Form {
    /// What every registry and runtime takes.
    fn default() -> Self {
        Self { compression: Compression::Gzip, level: GZIP_LEVEL }
    }
}

/// Packs layers, one at a time: each takes all cores.
pub struct Packer {
    threads: usize,
    /// Held while a layer is packed. Nothing is locked after it.
    turn: Mutex<()>,
}

impl Default for Packer {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores.min(limits::COMPRESS_THREADS_MAX), turn: Mutex::new(()) }
    }
}

impl Packer {
    /// A blob with the content of `layer` in another form. `diff_id` is the
    /// digest of the plain tar; a layer with other content is damaged.
    /// `advance` is told of plain bytes as they are read.
    pub fn pack(
        &self,
        blobs: &Blobs,
        layer: &Descriptor,
        diff_id: &Digest,
        form: Form,
        advance: &dyn Fn(u64),
    ) -> Result<Descriptor> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(blobs, layer, diff_id, form, advance).doing(|| format!("compress layer {}", diff_id.short()))
    }

    fn write(
        &self,
        blobs: &Blobs,
        layer: &Descriptor,
        diff_id: &Digest,
        form: Form,
        advance: &dyn Fn(u64),
    ) -> Result<Descriptor> {
        let (found, stream) = Compression::sniff(blobs.file(&layer.digest)?)?;
        let mut plain = Verifier::new(found.decoder(io::BufReader::with_capacity(128 << 10, stream))?);
        let mut writer = blobs.writer(None, None)?;
        let counted = Counted { reader: plain.by_ref().take(limits::LAYER_BYTES_MAX), advance };
        copy(counted, &mut writer, form, self.threads)?;
        let (digest, _) = plain.finish(limits::LAYER_BYTES_MAX)?;
        if digest != *diff_id {
            return Err(super::blobs::damaged(&layer.digest));
        }
        let (digest, size) = writer.finish()?;
        Ok(Descriptor::new(form.compression.layer_media_type(), digest, size))
    }
}

struct Counted<'a, R> {
    reader: R,
    advance: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        (self.advance)(count as u64);
        Ok(count)
    }
}

/// A block on its way to a thread, and where its compressed form is awaited.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Reads plain bytes, has blocks of them compressed and writes these in order.
fn copy(mut reader: impl Read, writer: &mut impl Write, form: Form, threads: usize) -> io::Result<()> {
    if form.compression == Compression::None {
        return io::copy(&mut reader, writer).map(drop);
    }
    let (jobs, queue) = mpsc::sync_channel::<Job>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, form));
        }
        let mut pending: VecDeque<Receiver<io::Result<Vec<u8>>>> = VecDeque::new();
        let mut is_first = true;
        loop {
            let block = read_block(&mut reader, form.block_bytes())?;
            // Nothing at all has a compressed form too.
            if block.is_empty() && !is_first {
                break;
            }
            is_first = false;
            if pending.len() >= 2 * threads
                && let Some(oldest) = pending.pop_front()
            {
                writer.write_all(&oldest.recv().map_err(io::Error::other)??)?;
            }
            let (done, compressed) = mpsc::sync_channel(1);
            jobs.send((block, done)).map_err(|_| io::Error::other("no thread compresses any more"))?;
            pending.push_back(compressed);
        }
        // Threads end when nothing more can come.
        drop(jobs);
        pending.iter().try_for_each(|block| writer.write_all(&block.recv().map_err(io::Error::other)??))
    })
}

/// One block, shorter than `size` only at the end.
fn read_block(reader: &mut impl Read, size: usize) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(size);
    reader.take(size as u64).read_to_end(&mut block)?;
    Ok(block)
}

fn work(queue: &Mutex<Receiver<Job>>, form: Form) {
    let mut compressor = match Compressor::new(form) {
        Ok(compressor) => compressor,
        Err(error) => {
            while let Some((_, done)) = take(queue) {
                done.send(Err(io::Error::other(error.to_string()))).ok();
            }
            return;
        }
    };
    while let Some((block, done)) = take(queue) {
        // Nobody waits any more when something else has failed.
        done.send(compressor.compress(&block)).ok();
    }
}

fn take(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

enum Compressor {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    fn new(form: Form) -> io::Result<Self> {
        Ok(match form.compression {
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(form.level)?),
            Compression::Gzip | Compression::None => {
                let level = libdeflater::CompressionLvl::new(form.level);
                let level = level.map_err(|_| io::Error::other("no such compression level"))?;
                Self::Gzip(libdeflater::Compressor::new(level))
            }
        })
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(compressor) => compressor.compress(block),
            Self::Gzip(compressor) => {
                let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
                let length = compressor.gzip_compress(block, &mut member).map_err(io::Error::other)?;
                member.truncate(length);
                Ok(member)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    fn packed(plain: &[u8], form: Form, threads: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        copy(plain, &mut bytes, form, threads).unwrap();
        bytes
    }

    fn form(compression: Compression, level: i32) -> Form {
        Form::new(compression, Some(level)).unwrap()
    }

    /// Bytes that compress a little, of several blocks of each form.
    fn plain(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..length).map(byte).collect()
    }

    #[test]
    fn the_number_of_threads_leaves_no_trace() {
        let plain = plain((9 << 20) + 17);
        for form in [form(Compression::Gzip, 1), Form::default(), form(Compression::Zstd, 1)] {
            let one = packed(&plain, form, 1);
            assert!(one.len() < plain.len() * 3 / 4);
            assert_eq!(Digest::of(&packed(&plain, form, 2)), Digest::of(&one));
            assert_eq!(Digest::of(&packed(&plain, form, 7)), Digest::of(&one));
            let mut back = Vec::new();
            let compression = Compression::detect(&one).unwrap();
            assert_eq!(compression, form.compression());
            compression.decoder(one.as_slice()).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(Digest::of(&back), Digest::of(&plain));
        }
    }

    #[test]
    fn gzip_says_nothing_of_where_and_when() {
        // RFC 1952, 2.3.1: no name, no time, an unknown system.
        let bytes = packed(b"layer", Form::default(), 2);
        assert_eq!((&bytes[..8], bytes[9]), (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0][..], 255));
        assert_eq!(bytes, packed(b"layer", Form::default(), 1));
        // Nothing is packed too.
        for form in [Form::default(), form(Compression::Zstd, 3)] {
            let empty = packed(b"", form, 2);
            let mut back = Vec::new();
            form.compression().decoder(empty.as_slice()).unwrap().read_to_end(&mut back).unwrap();
            assert!(!empty.is_empty() && back.is_empty());
        }
    }

    #[test]
    fn layers_become_blobs_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&Paths::new(dir.path().join("data"), dir.path().join("run"))).unwrap();
        let plain = plain(3 << 20);
        let layer = Descriptor::of(Compression::None.layer_media_type(), &plain);
        blobs.put(&plain).unwrap();
        let read = std::cell::Cell::new(0);
        let advance = |bytes| read.set(read.get() + bytes);
        let packer = Packer::default();
        let gzip = packer.pack(&blobs, &layer, &layer.digest, Form::default(), &advance).unwrap();
        assert_eq!((gzip.media_type.as_str(), read.get()), ("application/vnd.oci.image.layer.v1.tar+gzip", 3 << 20));
        assert!(blobs.has(&gzip).unwrap());
        // And back, by way of the other.
        let zstd = packer.pack(&blobs, &gzip, &layer.digest, form(Compression::Zstd, 1), &advance).unwrap();
        let back = Form::new(Compression::None, None).unwrap();
        assert_eq!(packer.pack(&blobs, &zstd, &layer.digest, back, &advance).unwrap(), layer);
        std::fs::write(dir.path().join("data/blobs/sha256").join(layer.digest.hex()), b"other").unwrap();
        let failure = packer.pack(&blobs, &layer, &layer.digest, Form::default(), &advance).unwrap_err();
        assert!(failure.to_string().contains("damaged"), "{failure}");
        assert_eq!(std::fs::read_dir(dir.path().join("data/staging")).unwrap().count(), 0);
    }

    #[test]
    fn levels_are_those_of_the_format() {
        assert!(Form::new(Compression::Gzip, Some(0)).is_err());
        assert!(Form::new(Compression::Zstd, Some(20)).is_err());
        assert!(Form::new(Compression::None, Some(1)).unwrap_err().to_string().contains("no compression level"));
        assert_eq!(Form::new(Compression::Gzip, None).unwrap(), Form::default());
    }
}
