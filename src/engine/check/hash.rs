//! Every blob against its digest: on all cores, in bounded memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::survey::Survey;
use crate::error::{Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::digest::{Digest, Hasher};
use crate::image::registry::Progress;
use crate::limits;

/// Under which the progress is told.
const PROGRESS: &str = "verify blobs";

/// What a blob turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its content has its digest.
    Whole,
    /// Its content has another.
    Damaged(Digest),
    /// It cannot be read.
    Unreadable(String),
    /// It is not here.
    Missing,
}

/// What all blobs turned out to be.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    by_digest: BTreeMap<Digest, Verdict>,
    hashed: u64,
    bytes: u64,
}

impl Verdicts {
    /// What the blob at `digest` turned out to be; one that was not looked
    /// for is missing.
    pub(super) fn of(&self, digest: &Digest) -> &Verdict {
        self.by_digest.get(digest).unwrap_or(&Verdict::Missing)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, &Verdict)> {
        self.by_digest.iter()
    }

    /// How many blobs were hashed, and how many bytes that was.
    pub(super) fn hashed(&self) -> (u64, u64) {
        (self.hashed, self.bytes)
    }

    /// Forgets about a blob that was replaced or removed.
    pub(super) fn forget(&mut self, digest: &Digest) {
        self.by_digest.remove(digest);
    }

    /// Hashes what is there of the survey's blobs and was not hashed before.
    pub(super) fn hash(&mut self, blobs: &Blobs, survey: &Survey, progress: &dyn Progress) -> Result<()> {
        match survey.is_everything {
            true => self.hash_everything(blobs, survey, progress),
            false => self.hash_these(blobs, survey, BTreeMap::new(), progress),
        }
    }

    /// The same, and all other blobs that there are.
    pub(super) fn hash_everything(&mut self, blobs: &Blobs, survey: &Survey, progress: &dyn Progress) -> Result<()> {
        self.hash_these(blobs, survey, blobs.list()?.into_iter().collect(), progress)
    }

    fn hash_these(
        &mut self,
        blobs: &Blobs,
        survey: &Survey,
        known: BTreeMap<Digest, u64>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut work = Vec::new();
        for digest in known.keys().chain(survey.needs.keys()).filter(|digest| !self.by_digest.contains_key(digest)) {
            let size = match known.get(digest) {
                Some(size) => Some(*size),
                None => blobs.size(digest)?,
            };
            work.push((*digest, size.unwrap_or(0)));
        }
        // Large ones first, so that no core is left with one at the end.
        work.sort_by_key(|(digest, size)| (std::cmp::Reverse(*size), *digest));
        work.dedup();
        let (found, bytes) = hash_all(blobs, &work, progress);
        self.hashed += found.iter().filter(|(_, verdict)| *verdict != Verdict::Missing).count() as u64;
        self.bytes += bytes;
        self.by_digest.extend(found);
        Ok(())
    }
}

/// Threads end before this returns: the command forks stages afterwards.
fn hash_all(blobs: &Blobs, work: &[(Digest, u64)], progress: &dyn Progress) -> (Vec<(Digest, Verdict)>, u64) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(limits::HASH_THREADS_MAX);
    let (queue, found, read) = (Mutex::new(work.iter()), Mutex::new(Vec::new()), AtomicU64::new(0));
    progress.start(PROGRESS, work.iter().map(|(_, size)| *size).fold(0, u64::saturating_add));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(work.len()) {
            scope.spawn(|| {
                let mut buffer = vec![0; 256 << 10];
                // A poisoned lock means a panic, and that ends the process (panic = "abort").
                let take = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                while let Some((digest, _)) = take() {
                    let verdict = hash_one(blobs, digest, &mut buffer, &|bytes| {
                        read.fetch_add(bytes, Ordering::Relaxed);
                        progress.advance(PROGRESS, bytes);
                    });
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((*digest, verdict));
                }
            });
        }
    });
    progress.done(PROGRESS);
    (found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), read.into_inner())
}

fn hash_one(blobs: &Blobs, digest: &Digest, buffer: &mut [u8], advance: &dyn Fn(u64)) -> Verdict {
    let mut hash = || -> Result<Digest> {
        let mut file = blobs.file(digest)?;
        let mut hasher = Hasher::new();
        loop {
            match file.read(buffer)? {
                0 => return Ok(hasher.finish()),
                count => {
                    hasher.update(buffer.get(..count).unwrap_or_default());
                    advance(count as u64);
                }
            }
        }
    };
    match hash() {
        Ok(found) if found == *digest => Verdict::Whole,
        Ok(found) => Verdict::Damaged(found),
        Err(Failure { kind: Kind::NotFound, .. }) => Verdict::Missing,
        Err(failure) => Verdict::Unreadable(failure.to_string()),
    }
}
