//! Blobs: content under its digest, in the directory form of an OCI image
//! layout (image spec, image-layout.md).
//!
//! A blob is written to `staging/`, hashed on the way, and renamed into place
//! when digest and length are right: what has a name is whole. A file in
//! staging is locked by whoever writes it, so a sweep may delete those that
//! nobody holds. Blobs never change; two writers of one blob write the same.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::descriptor::{Descriptor, Role};
use super::digest::{Digest, Hasher};
use super::{layout, stores};
use crate::error::{Context, Failure, Result};
use crate::kernel;
use crate::limits;
use crate::paths::{self, ImageStore, Paths};

/// The store's blobs.
pub struct Blobs {
    dir: PathBuf,
    staging: PathBuf,
    /// `dir`, for lookups relative to it.
    dir_fd: OwnedFd,
    /// Where layers may be, too, and documents that are not here.
    stores: Vec<ImageStore>,
}

impl Blobs {
    /// Opens the blob store, making it where it is missing.
    pub fn open(paths: &Paths) -> Result<Self> {
        let (dir, staging) = (paths.blobs(), paths.staging());
        let stores = paths.image_stores.clone();
        let marker = paths.data.join(layout::MARKER_FILE);
        // Each start looks an image up: one that is whole costs three calls.
        if staging.exists()
            && marker.exists()
            && let Ok(dir_fd) = kernel::open::open_dir(&dir)
        {
            return Ok(Self { dir, staging, dir_fd, stores });
        }
        for dir in [&dir, &staging] {
            paths::make_private(dir)?;
        }
        if !marker.exists() {
            replace(&staging, &marker, layout::MARKER)?;
        }
        let dir_fd = kernel::open::open_dir(&dir).doing(|| format!("open blob store \"{}\"", dir.display()))?;
        Ok(Self { dir, staging, dir_fd, stores })
    }

    /// The length of a blob, if it is in our own store.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match kernel::file::status_at(self.dir_fd.as_fd(), Path::new(&digest.hex())) {
            Ok(status) => Ok(Some(u64::try_from(status.st_size).unwrap_or(0))),
            Err(error) if error.errno == kernel::Errno::ENOENT => Ok(None),
            Err(error) => Err(Failure::from(error).doing(format!("look for blob {digest}"))),
        }
    }

    /// Whether the content described is here, in its full length. A layer may
    /// be in a read-only store: it is verified when it is unpacked or copied.
    /// Documents are small, and with copies of them an image can be listed,
    /// and its parts be known, whatever becomes of the store.
    pub fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        if self.size(&descriptor.digest)? == Some(descriptor.size) {
            return Ok(true);
        }
        let is_layer = descriptor.role() == Role::Layer;
        let mut found =
            self.stores.iter().filter(|_| is_layer).filter_map(|store| stores::blob(store, &descriptor.digest));
        Ok(found.any(|file| file.metadata().is_ok_and(|status| status.len() == descriptor.size)))
    }

    /// The read-only store that a blob is read from, if it is not in our own.
    pub fn store_of(&self, digest: &Digest) -> Option<&ImageStore> {
        match self.size(digest) {
            Ok(None) => self.stores.iter().find(|store| stores::blob(store, digest).is_some()),
            _ => None,
        }
    }

    /// Opens a blob for reading. The caller verifies what it reads
    /// ([`super::digest::Verifier`]).
    pub fn file(&self, digest: &Digest) -> Result<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW;
        let resolve = kernel::open::Resolve::BeneathNoLinks;
        match kernel::open::openat2(self.dir_fd.as_fd(), Path::new(&digest.hex()), flags, 0, resolve) {
            Ok(fd) => Ok(File::from(fd)),
            Err(error) if error.errno == kernel::Errno::ENOENT => {
                let found = self.stores.iter().find_map(|store| stores::blob(store, digest));
                found.ok_or_else(|| missing(digest))
            }
            Err(error) => Err(Failure::from(error).doing(format!("open blob {digest}"))),
        }
    }

    /// The content of a small blob of at most `max` bytes, verified.
    pub fn read_verified(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let doing = || format!("read blob {digest}");
        let mut bytes = Vec::new();
        self.file(digest)?.take(max.saturating_add(1)).read_to_end(&mut bytes).doing(doing)?;
        if bytes.len() as u64 > max {
            return Err(Failure::user(format!("it is larger than {max} bytes")).doing(doing()));
        }
        if Digest::of(&bytes) != *digest {
            return Err(damaged(digest).doing(doing()));
        }
        Ok(bytes)
    }

    /// Where a blob is or will be.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Where blobs are written before they have a name.
    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Has the kernel write out the file system that the store is on
    /// (syncfs(2)), once for all that is about to be named.
    pub fn write_out(&self) -> Result<()> {
        kernel::file::sync_file_system(self.dir_fd.as_fd()).doing(|| "write out blobs and layers")
    }

    /// Starts a blob. Digest and length are checked when it is finished,
    /// where they are known already.
    pub fn writer(&self, digest: Option<Digest>, size: Option<u64>) -> Result<BlobWriter<'_>> {
        let temporary = Temporary::make(&self.staging)?;
        Ok(BlobWriter { blobs: self, temporary, hasher: Hasher::new(), digest, size })
    }

    /// Keeps `bytes` and returns their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer(Some(digest), Some(bytes.len() as u64))?;
        writer.write_all(bytes).doing(|| format!("write blob {digest}"))?;
        Ok(writer.finish()?.0)
    }

    /// Removes a blob; `false` if it was not here.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        match kernel::file::remove(self.dir_fd.as_fd(), Path::new(&digest.hex())) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == kernel::Errno::ENOENT => Ok(false),
            Err(error) => Err(Failure::from(error).doing(format!("remove blob {digest}"))),
        }
    }

    /// All blobs with their lengths, in no order. What is no blob is passed over.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let doing = || format!("list blobs in \"{}\"", self.dir.display());
        let mut blobs = Vec::new();
        for entry in std::fs::read_dir(&self.dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            let Some(digest) = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok()) else {
                continue;
            };
            match entry.metadata() {
                Ok(status) if status.is_file() => blobs.push((digest, status.len())),
                Ok(_) => {}
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::from(error).doing(doing())),
            }
        }
        Ok(blobs)
    }

    /// A file of the same file system that vanishes when it is closed.
    pub fn scratch(&self) -> Result<File> {
        let temporary = Temporary::make(&self.staging)?;
        temporary.file.try_clone().doing(|| "keep scratch file")
    }
}

fn missing(digest: &Digest) -> Failure {
    Failure::not_found(format!("blob {digest} is missing"))
        .hint("pull or load the image again; where a read-only store had it, name that store with --image-store")
}

/// The failure of a blob whose content is not what its name says.
pub fn damaged(digest: &Digest) -> Failure {
    Failure::user(format!("blob {digest} is damaged: its content has another digest"))
        .hint("kelp system check --repair fetches it again; without a registry, remove the image and load it again")
}

/// A blob on its way into the store. Dropped unfinished, it leaves nothing.
pub struct BlobWriter<'a> {
    blobs: &'a Blobs,
    temporary: Temporary,
    hasher: Hasher,
    digest: Option<Digest>,
    size: Option<u64>,
}

impl<'a> BlobWriter<'a> {
    /// Checks the blob and gives it its name; returns digest and length.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let checked = self.check()?;
        let (digest, bytes) = (checked.digest, checked.bytes);
        // Before the rename: after a power cut, a name must not stand for
        // blocks that were never written.
        checked.temporary.file.sync_data().doing(|| format!("store blob {digest}"))?;
        checked.publish()?;
        Ok((digest, bytes))
    }

    /// Checks the blob, which gets its name later: several of them can be
    /// written out to the disk at once ([`Blobs::write_out`]).
    pub fn check(self) -> Result<Checked<'a>> {
        let Self { blobs, temporary, hasher, digest: expected, size } = self;
        let bytes = hasher.bytes();
        let digest = hasher.finish();
        let doing = || format!("store blob {}", expected.unwrap_or(digest));
        if let Some(size) = size.filter(|size| *size != bytes) {
            return Err(Failure::user(format!("it has {bytes} bytes instead of {size}")).doing(doing()));
        }
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Failure::user(format!("its content has digest {digest}")).doing(doing()));
        }
        Ok(Checked { blobs, temporary, digest, bytes })
    }
}

/// A blob that is what it should be and has no name yet. Dropped, it leaves
/// nothing.
pub struct Checked<'a> {
    blobs: &'a Blobs,
    temporary: Temporary,
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

impl Checked<'_> {
    /// Gives it its name. The caller has had it written out to the disk.
    pub fn publish(self) -> Result<()> {
        self.temporary.rename(&self.blobs.path(&self.digest)).doing(|| format!("store blob {}", self.digest))
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size.unwrap_or(limits::LAYER_BYTES_MAX).saturating_sub(self.hasher.bytes());
        if bytes.len() as u64 > room {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more bytes than announced"));
        }
        let count = self.temporary.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}

/// A locked file in staging that is deleted unless it is renamed.
struct Temporary {
    file: File,
    path: PathBuf,
}

/// Makes names in staging unique within the process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Temporary {
    fn make(staging: &Path) -> Result<Self> {
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = staging.join(format!("blob.{}.{number}", std::process::id()));
            let doing = || format!("write \"{}\"", path.display());
            let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match opened {
                Ok(file) => file,
                // Left by an earlier process of our number, or by one of
                // another pid namespace that lives: the next name then.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Failure::from(error).doing(doing())),
            };
            let temporary = Self { file, path };
            // The umask may take bits away from the owner too.
            kernel::file::set_mode(temporary.file.as_fd(), 0o600).doing(|| "set mode of staged file")?;
            // A sweep that was faster holds the lock and deletes the file.
            if temporary.file.try_lock().is_ok() {
                return Ok(temporary);
            }
        }
    }

    fn rename(mut self, to: &Path) -> Result<()> {
        std::fs::rename(&self.path, to)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // If this fails, the sweep deletes it: nobody holds the lock any more.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Writes a small file at `path`, on the file system of `staging`, whole or
/// not at all.
pub(super) fn replace(staging: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("write \"{}\"", path.display());
    let mut temporary = Temporary::make(staging)?;
    temporary.file.write_all(bytes).doing(doing)?;
    temporary.file.sync_data().doing(doing)?;
    temporary.rename(path).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn store() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        let blobs = Blobs::open(&paths).unwrap();
        (dir, blobs)
    }

    fn staged(blobs: &Blobs) -> usize {
        std::fs::read_dir(&blobs.staging).unwrap().count()
    }

    #[test]
    fn keeps_and_finds_again() {
        let (dir, blobs) = store();
        let digest = blobs.put(b"abc").unwrap();
        assert_eq!(blobs.put(b"abc").unwrap(), digest);
        assert_eq!(blobs.read_verified(&digest, 3).unwrap(), b"abc");
        assert!(blobs.read_verified(&digest, 2).unwrap_err().to_string().contains("larger than 2"));
        assert_eq!(blobs.list().unwrap(), [(digest, 3)]);
        let path = dir.path().join("data/blobs/sha256").join(digest.hex());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(blobs.remove(&digest).unwrap());
        assert!(!blobs.remove(&digest).unwrap());
        assert_eq!(blobs.size(&digest).unwrap(), None);
        let layout = std::fs::read_to_string(dir.path().join("data/oci-layout")).unwrap();
        assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
        assert_eq!(staged(&blobs), 0);
    }

    #[test]
    fn wrong_content_never_gets_a_name() {
        let (_dir, blobs) = store();
        let write = |digest, size, bytes: &[u8]| {
            let mut writer = blobs.writer(digest, size).unwrap();
            writer.write_all(bytes).map_err(Failure::from)?;
            writer.finish()
        };
        assert!(write(Some(Digest::of(b"abc")), Some(3), b"abd").unwrap_err().to_string().contains("has digest"));
        assert!(
            write(Some(Digest::of(b"abc")), Some(3), b"ab").unwrap_err().to_string().contains("2 bytes instead of 3")
        );
        assert!(write(None, Some(3), b"abcd").unwrap_err().to_string().contains("more bytes than announced"));
        assert_eq!(blobs.list().unwrap(), []);
        assert_eq!(staged(&blobs), 0);
        assert_eq!(write(None, None, b"abc").unwrap(), (Digest::of(b"abc"), 3));
    }

    #[test]
    fn notices_damage_and_links() {
        let (dir, blobs) = store();
        let digest = blobs.put(b"abc").unwrap();
        let path = dir.path().join("data/blobs/sha256").join(digest.hex());
        std::fs::write(&path, b"abd").unwrap();
        assert!(blobs.read_verified(&digest, 9).unwrap_err().to_string().contains("damaged"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(blobs.file(&digest).is_err());
        assert_eq!(blobs.list().unwrap(), []);
    }
}
