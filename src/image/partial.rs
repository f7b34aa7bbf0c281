//! Blobs on their way from a registry: one file a digest in `staging/`.
//!
//! ```text
//!   staging/partial.HEX    locked (flock(2)) by whoever fetches the blob
//! ```
//!
//! It grows as bytes arrive and keeps them when fetching ends early: whoever
//! wants the blob next, in this process or after a reboot, goes on behind the
//! last byte. Who finds it locked waits for the other's download instead of
//! making one. Nothing believes what is in it before the whole is verified;
//! after a power cut it may hold what was never sent, and is fetched anew then.
//!
//! Lock order: nothing may be waited for while a partial is held
//! ([`Blobs::wait_for`] is for those who hold none).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::blobs::Blobs;
use super::descriptor::Descriptor;
use super::digest::{Digest, Hasher};
use crate::error::{Context, Failure, Result};
use crate::limits;

const PREFIX: &str = "partial.";

/// Whether a file of `staging/` is one of these, by its name. They are kept
/// for longer than other unfinished writes ([`limits::PARTIAL_KEEP_S`]).
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Who fetches a blob.
pub enum Claim {
    /// Nobody needs to: it is in the store.
    Here,
    /// We do.
    Ours(Box<Partial>),
    /// Another one, which may be another process.
    Theirs,
}

impl Blobs {
    /// Takes the fetching of a blob upon us, unless it is here or somebody is
    /// at it.
    pub fn claim(&self, blob: &Descriptor) -> Result<Claim> {
        self.claim_with(blob, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    /// As [`Blobs::claim`], but waits for whoever is at it; `None` where the
    /// blob is here. The caller holds no other partial.
    pub fn wait_for(&self, blob: &Descriptor) -> Result<Option<Partial>> {
        match self.claim_with(blob, |file| file.lock().map(|()| true))? {
            Claim::Ours(partial) => Ok(Some(*partial)),
            Claim::Here | Claim::Theirs => Ok(None),
        }
    }

    fn claim_with(&self, blob: &Descriptor, lock: impl Fn(&File) -> io::Result<bool>) -> Result<Claim> {
        let path = self.staging().join(format!("{PREFIX}{}", blob.digest.hex()));
        let doing = || format!("open \"{}\"", path.display());
        loop {
            if self.has(blob)? {
                return Ok(Claim::Here);
            }
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path).doing(doing)?;
            if !lock(&file).doing(doing)? {
                return Ok(Claim::Theirs);
            }
            // Whoever held the lock may have renamed or removed the file.
            if is_still_at(&file, &path) {
                let place = Place { path, is_done: false };
                let mut partial =
                    Partial { place, file, blob: blob.clone(), hasher: Hasher::new(), resumed: 0, bell: None };
                partial.take_over()?;
                return Ok(Claim::Ours(Box::new(partial)));
            }
        }
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Where a partial is. Left while it is empty, nothing stays there.
struct Place {
    path: PathBuf,
    is_done: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_done && self.path.symlink_metadata().is_ok_and(|status| status.len() == 0) {
            // If this fails, a sweep deletes it some days later.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A blob that we fetch. Dropped unfinished, it stays for the next try, unless
/// nothing of it has come.
pub struct Partial {
    place: Place,
    /// Holds the lock; closed after `place` was left.
    file: File,
    blob: Descriptor,
    hasher: Hasher,
    /// Bytes of an earlier try.
    resumed: u64,
    /// Rung when bytes have come.
    bell: Option<OwnedFd>,
}

impl Partial {
    /// What is being fetched.
    pub fn blob(&self) -> &Descriptor {
        &self.blob
    }

    /// How many bytes are here.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// How many of them came in an earlier try.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// The file for one who reads it as it grows, and the end of a pipe that
    /// has something to read when there is more, and ends when no more comes.
    pub fn follow(&mut self) -> Result<(File, OwnedFd)> {
        let doing = || format!("open \"{}\"", self.place.path.display());
        let file = File::open(&self.place.path).doing(doing)?;
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).doing(doing)?;
        // A full pipe has rung often enough.
        nix::fcntl::fcntl(&writer, nix::fcntl::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from).doing(doing)?;
        self.bell = Some(writer);
        Ok((file, reader))
    }

    /// Forgets what is here, for bytes that turned out to be wrong.
    pub fn restart(&mut self) -> Result<()> {
        (self.hasher, self.resumed) = (Hasher::new(), 0);
        self.file.set_len(0).doing(|| format!("empty \"{}\"", self.place.path.display()))
    }

    /// Removes what is here: it is not what it should be.
    pub fn discard(mut self) -> Result<()> {
        self.place.is_done = true;
        std::fs::remove_file(&self.place.path).doing(|| format!("remove \"{}\"", self.place.path.display()))
    }

    /// Checks the whole; gives the partial back if its content is wrong.
    pub fn complete(self) -> std::result::Result<Complete, Box<Wrong>> {
        let (bytes, size) = (self.bytes(), self.blob.size);
        let wrong = |what: String| Failure::user(what).doing(format!("receive blob {}", self.blob.digest));
        if bytes != size {
            let failure = wrong(format!("it has {bytes} bytes instead of {size}"));
            return Err(Box::new(Wrong { partial: self, failure }));
        }
        let digest = self.hasher.clone().finish();
        if digest != self.blob.digest {
            let failure = wrong(format!("its content has digest {digest}"));
            return Err(Box::new(Wrong { partial: self, failure }));
        }
        let Self { mut place, file, blob, .. } = self;
        place.is_done = true;
        Ok(Complete { place, digest: blob.digest, file })
    }

    /// Hashes what an earlier try left.
    fn take_over(&mut self) -> Result<()> {
        let doing = || format!("read \"{}\"", self.place.path.display());
        if self.file.metadata().doing(doing)?.len() > self.blob.size {
            return self.restart();
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = self.file.read(&mut buffer).doing(doing)?;
            if count == 0 {
                self.resumed = self.hasher.bytes();
                return Ok(());
            }
            self.hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.blob.size.min(limits::LAYER_BYTES_MAX).saturating_sub(self.hasher.bytes());
        if bytes.len() as u64 > room {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more bytes than announced"));
        }
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        // EAGAIN: the reader has enough to wake up for. EPIPE: it has gone.
        if let Some(bell) = &self.bell
            && nix::unistd::write(bell.as_fd(), b"!") == Err(nix::Error::EPIPE)
        {
            self.bell = None;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that turned out to be another one.
pub struct Wrong {
    /// The blob, for another try.
    pub partial: Partial,
    /// What is wrong.
    pub failure: Failure,
}

/// A blob that is whole and verified, but has no name yet: dropped, it stays
/// in staging and the next one who wants it only needs to hash it.
pub struct Complete {
    place: Place,
    digest: Digest,
    /// Its lock keeps sweeps and other downloads away until the rename.
    file: File,
}

impl Complete {
    /// Lets go of it: what was in it is kept elsewhere.
    pub fn discard(self) -> Result<()> {
        std::fs::remove_file(&self.place.path).doing(|| format!("remove \"{}\"", self.place.path.display()))
    }

    /// Has the kernel write out this one blob.
    pub fn write_out(&self) -> Result<()> {
        self.file.sync_data().doing(|| format!("write out blob {}", self.digest))
    }

    /// Gives the blob its name. It has been written out, alone or with all
    /// ([`Blobs::write_out`]): after a power cut, a name must not stand for
    /// blocks that were never written.
    pub fn publish(self, blobs: &Blobs) -> Result<()> {
        std::fs::rename(&self.place.path, blobs.path(&self.digest)).doing(|| format!("store blob {}", self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    fn store() -> (tempfile::TempDir, Blobs, Descriptor) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, Blobs::open(&paths).unwrap(), Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"abcdef"))
    }

    fn ours(claim: Result<Claim>) -> Partial {
        match claim.unwrap() {
            Claim::Ours(partial) => *partial,
            Claim::Here | Claim::Theirs => panic!("not ours"),
        }
    }

    #[test]
    fn goes_on_behind_the_last_byte() {
        let (_dir, blobs, blob) = store();
        let mut partial = ours(blobs.claim(&blob));
        partial.write_all(b"abc").unwrap();
        assert!(matches!(blobs.claim(&blob).unwrap(), Claim::Theirs));
        drop(partial);
        let mut partial = ours(blobs.claim(&blob));
        assert_eq!((partial.bytes(), partial.resumed()), (3, 3));
        assert!(partial.write_all(b"defg").is_err());
        partial.write_all(b"def").unwrap();
        let Ok(complete) = partial.complete() else { panic!("not complete") };
        complete.publish(&blobs).unwrap();
        assert!(matches!(blobs.claim(&blob).unwrap(), Claim::Here));
        assert_eq!(blobs.read_verified(&blob.digest, 9).unwrap(), b"abcdef");
    }

    #[test]
    fn nothing_is_left_of_nothing() {
        let (_dir, blobs, blob) = store();
        let path = ours(blobs.claim(&blob)).place.path.clone();
        assert!(!path.exists());
        std::fs::write(&path, b"longer than the blob").unwrap();
        assert_eq!(ours(blobs.claim(&blob)).bytes(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn wrong_bytes_are_told_and_forgotten() {
        let (_dir, blobs, blob) = store();
        let mut partial = ours(blobs.claim(&blob));
        partial.write_all(b"abc").unwrap();
        let Err(wrong) = partial.complete() else { panic!("complete") };
        let Wrong { mut partial, failure } = *wrong;
        assert!(failure.to_string().contains("3 bytes instead of 6"));
        partial.write_all(b"xyz").unwrap();
        let Err(wrong) = partial.complete() else { panic!("complete") };
        let Wrong { mut partial, failure } = *wrong;
        assert!(failure.to_string().contains("has digest"));
        partial.restart().unwrap();
        partial.write_all(b"abcdef").unwrap();
        assert!(partial.complete().is_ok());
    }

    #[test]
    fn a_reader_is_told_of_more() {
        let (_dir, blobs, blob) = store();
        let mut partial = ours(blobs.claim(&blob));
        let (mut file, bell) = partial.follow().unwrap();
        let mut bell = File::from(bell);
        partial.write_all(b"abc").unwrap();
        let (mut rings, mut bytes) = ([0; 9], Vec::new());
        assert_eq!(bell.read(&mut rings).unwrap(), 1);
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"abc");
        drop(partial);
        assert_eq!(bell.read(&mut rings).unwrap(), 0);
    }

    #[test]
    fn who_waits_gets_what_another_fetched() {
        let (_dir, blobs, blob) = store();
        let mut partial = ours(blobs.claim(&blob));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| blobs.wait_for(&blob).unwrap().is_none());
            partial.write_all(b"abcdef").unwrap();
            let Ok(complete) = partial.complete() else { panic!("not complete") };
            complete.publish(&blobs).unwrap();
            assert!(waiting.join().unwrap());
        });
    }
}
