//! Files that appear under their names when they are whole, in directories
//! that are not ours: beside an archive's name, in an image layout.
//!
//! Written without a name (O_TMPFILE), so that nothing is left where a person
//! looks when kelp is killed. A file system that cannot do that (NFS) gets a
//! hidden name. Modes are what the umask leaves: these files are for others.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context, Failure, Result};
use crate::image::blobs::{Blobs, damaged};
use crate::image::digest::{Digest, Hasher};
use crate::image::registry::Progress;
use crate::kernel::{self, Errno};

/// How hidden names begin.
pub(super) const HIDDEN: &str = ".kelp-";

/// A file on its way; dropped unfinished, it leaves nothing.
pub(super) struct Unfinished<'a> {
    dir: BorrowedFd<'a>,
    file: File,
    /// Its name, where it had to have one.
    hidden: Option<PathBuf>,
}

/// Makes hidden names unique within the process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl<'a> Unfinished<'a> {
    /// Starts a file in `dir`.
    pub(super) fn begin(dir: BorrowedFd<'a>) -> Result<Self> {
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        let opened = kernel::open::openat2(dir, Path::new("."), flags, 0o666, kernel::open::Resolve::Anywhere);
        match opened {
            Ok(fd) => Ok(Self { dir, file: fd.into(), hidden: None }),
            // EISDIR: the kernel does not know the flag on this file system (open(2)).
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {
                let (fd, name) = named(dir)?;
                Ok(Self { dir, file: fd.into(), hidden: Some(name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in place of what has it.
    pub(super) fn publish(mut self, name: &Path) -> Result<()> {
        let hidden = match self.hidden.take() {
            Some(hidden) => hidden,
            // A link cannot replace a file, a rename can.
            None => loop {
                let hidden = hidden_name();
                match kernel::file::link_open_file(self.file.as_fd(), self.dir, &hidden) {
                    Err(error) if error.errno == Errno::EEXIST => continue,
                    result => result?,
                }
                break hidden;
            },
        };
        self.hidden = Some(hidden.clone());
        kernel::file::rename(self.dir, &hidden, self.dir, name)?;
        self.hidden = None;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.hidden {
            // What remains is hidden, and a later save removes it.
            kernel::file::remove(self.dir, name).ok();
        }
    }
}

fn hidden_name() -> PathBuf {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("{HIDDEN}{}-{number}", std::process::id()))
}

fn named(dir: BorrowedFd<'_>) -> Result<(OwnedFd, PathBuf)> {
    loop {
        let name = hidden_name();
        match kernel::file::open_at(dir, &name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o666) {
            Err(error) if error.errno == Errno::EEXIST => {}
            result => return Ok((result?, name)),
        }
    }
}

/// Has `write` fill a file at `path`, which appears whole or not at all. What
/// is no plain file (a fifo, a device) is written to, not replaced.
pub fn write_file<T>(path: &Path, write: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let doing = || format!("write \"{}\"", path.display());
    match path.metadata() {
        Ok(status) if status.is_dir() => return Err(Failure::user("it is a directory")).doing(doing),
        Ok(status) if !status.is_file() => {
            let file = File::options().write(true).open(path).doing(doing)?;
            return write(&file).doing(doing);
        }
        _ => {}
    }
    // A link stays one: the file it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(format!("\"{}\" is no file name", path.display())));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = kernel::open::open_dir(parent).map_err(|error| match error.errno {
        Errno::ENOENT => Failure::user(format!("there is no directory \"{}\"", parent.display())).doing(doing()),
        _ => Failure::from(error).plainly().doing(doing()),
    })?;
    let unfinished = Unfinished::begin(dir.as_fd()).plainly().doing(doing)?;
    let written = write(unfinished.file()).doing(doing)?;
    unfinished.publish(Path::new(name)).doing(doing)?;
    Ok(written)
}

/// Bytes copied between two steps of a progress bar.
const STEP_BYTES: u64 = 32 << 20;

/// Appends a blob of `size` bytes to `out`. The kernel copies
/// (copy_file_range(2), sendfile(2)) while another thread hashes what it
/// copies from: a blob that was damaged on disk is noticed here and not by
/// whoever reads the archive.
pub(super) fn copy_blob(blobs: &Blobs, digest: &Digest, size: u64, out: &File, progress: &dyn Progress) -> Result<()> {
    let id = format!("save {}", digest.short());
    let blob = blobs.file(digest)?;
    progress.start(&id, size);
    let (hashed, copied) = std::thread::scope(|scope| {
        let hashing = scope.spawn(|| hash(&blob, size));
        let copied = copy(&blob, size, out, &id, progress);
        (hashing.join(), copied)
    });
    copied.doing(|| format!("copy blob {digest}"))?;
    // A panic ends the process (panic = "abort").
    let hashed = hashed.unwrap_or_else(|_| Ok(Digest::of(b""))).doing(|| format!("read blob {digest}"))?;
    if hashed != *digest {
        return Err(damaged(digest));
    }
    progress.done(&id);
    Ok(())
}

fn copy(mut blob: &File, size: u64, mut out: &File, id: &str, progress: &dyn Progress) -> io::Result<()> {
    use std::io::Read;
    let mut left = size;
    while left > 0 {
        let count = io::copy(&mut blob.by_ref().take(left.min(STEP_BYTES)), &mut out)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        progress.advance(id, count);
        left -= count;
    }
    Ok(())
}

/// The digest of the first `size` bytes; the file's offset is another's.
pub(super) fn hash(file: &File, size: u64) -> io::Result<Digest> {
    use std::os::unix::fs::FileExt;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    while hasher.bytes() < size {
        let want = usize::try_from(size - hasher.bytes()).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read_at(buffer.get_mut(..want).unwrap_or_default(), hasher.bytes())?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hasher.finish())
}
