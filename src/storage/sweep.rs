//! Removal: renamed away at once, deleted when there is time.
//!
//! Deleting 40,000 files takes seconds, and on ext4 it slows down whatever is
//! created next (it avoids inodes that were deleted in the last minutes). So a
//! command renames into `trash/`, and [`empty_trash`] runs when nobody waits.
//!
//! [`empty_trash`] must run as uid 0 of the user namespace that the files were
//! made in: they belong to subordinate ids, and overlayfs leaves directories
//! with mode 000 (`work/work`).

use std::ffi::{CStr, OsStr};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Context, Failure, Result};
use crate::image::partial;
use crate::kernel::file::Listing;
use crate::kernel::open::Resolve;
use crate::kernel::{self, Errno};
use crate::limits;
use crate::paths::{self, Paths};

/// Held with flock(2) by whoever works in a directory below `staging/`; it
/// guards that directory against [`collect_stale`]. Nothing is locked after it.
pub(super) const LOCK_NAME: &str = "lock";

/// Directories open at once while deleting; what is deeper is moved up first.
/// A container can nest directories deeper than any stack or descriptor table.
const OPEN_MAX: usize = 64;

/// How old an unfinished write without an owner must be. Its lock says whether
/// somebody is at it; the age covers the moment before the lock is taken.
pub const STALE: Duration = Duration::from_secs(60);

/// Renames `path` into the trash. It is gone from its place when this returns.
pub fn trash(paths: &Paths, path: &Path) -> Result<()> {
    let trash = paths.trash();
    paths::make_private(&trash)?;
    loop {
        match std::fs::rename(path, trash.join(unique_name())) {
            // ENOTEMPTY or EEXIST: the name is taken; not by us, so look for another.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {}
            result => return result.doing(|| format!("remove \"{}\"", path.display())),
        }
    }
}

/// Deletes all that is in the trash; returns how many entries. Goes on behind
/// what cannot be deleted and tells the first of it.
pub fn empty_trash(paths: &Paths) -> Result<u64> {
    let trash = paths.trash();
    let dir = match kernel::open::open_dir(&trash) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(0),
        result => result.doing(|| "empty trash")?,
    };
    let listing = Listing::new(dir.try_clone()?)?;
    let (mut count, mut first) = (0, None);
    for next in listing {
        let (name, _) = next.doing(|| "empty trash")?;
        match remove_tree(dir.as_fd(), &path_of(&name), dir.as_fd()) {
            Ok(()) => count += 1,
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    match first {
        None => Ok(count),
        Some(failure) => Err(failure.doing(format!("empty trash \"{}\"", trash.display()))),
    }
}

/// The sweep stage's whole life: collects what was left behind, deletes what
/// was thrown away. Nobody waits for it and it has nobody to tell.
pub fn stage() -> Result<()> {
    let channel = crate::process::stage::take_channel()?;
    kernel::process::set_no_new_privileges()?;
    let Some(paths) = channel.receive::<Paths>()?.map(|received| received.message) else { return Ok(()) };
    kernel::process::new_session()?;
    kernel::process::silence_standard_streams()?;
    collect_stale(&paths, STALE)?;
    empty_trash(&paths)?;
    crate::process::base::unregister(&paths);
    Ok(())
}

/// Moves into the trash what nobody works on any more ([`stale`]). Returns how
/// many.
pub fn collect_stale(paths: &Paths, age: Duration) -> Result<u64> {
    let mut count = 0;
    for path in stale(paths, age)? {
        match trash(paths, &path) {
            Err(failure) if failure.is_errno(libc::ENOENT) => {}
            result => {
                result?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Moves the beginnings of blobs that nobody fetches into the trash, whatever
/// their age; returns how many bytes they are.
pub fn discard_partials(paths: &Paths) -> Result<u64> {
    let mut bytes = 0_u64;
    for (path, size) in partials(paths)? {
        match trash(paths, &path) {
            Err(failure) if failure.is_errno(libc::ENOENT) => {}
            result => {
                result?;
                bytes = bytes.saturating_add(size);
            }
        }
    }
    Ok(bytes)
}

/// The beginnings of blobs that nobody fetches, and their bytes.
pub fn partials(paths: &Paths) -> Result<Vec<(PathBuf, u64)>> {
    let mut partials = Vec::new();
    for entry in staging(paths)? {
        let path = entry.doing(|| "read staging directory")?.path();
        let Ok(status) = path.symlink_metadata() else { continue };
        if is_partial(&path) && !is_locked(&path, status.is_dir()) {
            partials.push((path, status.len()));
        }
    }
    Ok(partials)
}

/// What is in `staging/`; nothing where it is missing.
fn staging(paths: &Paths) -> Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(paths.staging()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        result => Ok(Some(result.doing(|| "read staging directory")?).into_iter().flatten()),
    }
}

fn is_partial(path: &Path) -> bool {
    partial::is_partial(path.file_name().and_then(OsStr::to_str).unwrap_or_default())
}

/// Entries of `staging/` older than `age` whose lock (their own if a file,
/// [`LOCK_NAME`] in them if a directory) is free.
pub fn stale(paths: &Paths, age: Duration) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for entry in staging(paths)? {
        let path = entry.doing(|| "read staging directory")?.path();
        // Gone meanwhile: it was renamed into place.
        let Ok(status) = path.symlink_metadata() else { continue };
        if is_older(&status, keep(&path, age)) && !is_locked(&path, status.is_dir()) {
            stale.push(path);
        }
    }
    Ok(stale)
}

/// How old an entry of `staging/` must be. The next pull goes on with one that
/// broke off.
fn keep(path: &Path, age: Duration) -> Duration {
    if is_partial(path) { age.max(Duration::from_secs(limits::PARTIAL_KEEP_S)) } else { age }
}

/// Whether nothing was changed for as long as `age`.
fn is_older(status: &Metadata, age: Duration) -> bool {
    status.modified().is_ok_and(|then| SystemTime::now().duration_since(then).is_ok_and(|it| it >= age))
}

/// Whether somebody holds the lock of a staging entry. One without a lock
/// file is not held: its maker died before the first step.
fn is_locked(path: &Path, is_dir: bool) -> bool {
    let lock = if is_dir { path.join(LOCK_NAME) } else { path.to_owned() };
    match File::open(lock) {
        Ok(file) => matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// Removes `name` in `dir`, with all below it. Follows no symbolic link,
/// crosses no mount point and opens few descriptors however deep it goes: what
/// is too deep is renamed into `top`, a directory of the same file system
/// above it, and removed from there.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &Path, top: BorrowedFd<'_>) -> Result<()> {
    let mut moved = Vec::new();
    remove_below(dir, name, top, &mut moved)?;
    while let Some(name) = moved.pop() {
        remove_below(top, &name, top, &mut moved)?;
    }
    Ok(())
}

fn remove_below(dir: BorrowedFd<'_>, name: &Path, top: BorrowedFd<'_>, moved: &mut Vec<PathBuf>) -> Result<()> {
    let Some(first) = unless_gone(remove_or_open(dir, name, None))?.flatten() else { return Ok(()) };
    let mut open: Vec<(PathBuf, Listing)> = vec![(name.to_owned(), first)];
    while let Some((_, listing)) = open.last_mut() {
        if let Some(next) = listing.next() {
            let (child, is_directory) = next?;
            let child = path_of(&child);
            let below = unless_gone(remove_or_open(listing.as_fd(), &child, is_directory))?.flatten();
            let Some(below) = below else { continue };
            if open.len() < OPEN_MAX {
                open.push((child, below));
            } else if let Some((_, listing)) = open.last() {
                moved.extend(unless_gone(move_up(listing.as_fd(), &child, top))?);
            }
        } else if let Some((done, _)) = open.pop() {
            let parent = open.last().map_or(dir, |(_, listing)| listing.as_fd());
            unless_gone(with_write(parent, || kernel::file::remove_dir(parent, &done)))?;
        }
    }
    Ok(())
}

/// Several processes may empty the trash at once: what another one removed
/// meanwhile is removed.
fn unless_gone<T, E: Into<Failure>>(result: Result<T, E>) -> Result<Option<T>> {
    match result.map_err(Into::into) {
        Ok(done) => Ok(Some(done)),
        Err(failure) if failure.is_errno(libc::ENOENT) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Removes a file at once; of a directory returns the listing.
fn remove_or_open(dir: BorrowedFd<'_>, name: &Path, is_directory: Option<bool>) -> Result<Option<Listing>> {
    if is_directory != Some(true) {
        match with_write(dir, || kernel::file::remove(dir, name)) {
            Ok(()) => return Ok(None),
            Err(error) if error.errno == Errno::EISDIR => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let open = || kernel::open::openat2(dir, name, flags, 0, Resolve::SameMount);
    let fd = match open() {
        Err(error) if error.errno == Errno::EACCES => {
            // Ours but closed to us: outside of a user namespace its modes hold for us too.
            kernel::file::set_mode(dir, 0o700)?;
            kernel::file::set_mode_at(dir, name, 0o700)?;
            open()?
        }
        Err(error) if error.errno == Errno::EXDEV => {
            return Err(Failure::host(format!("\"{}\" is a mount point", name.display())));
        }
        result => result?,
    };
    Ok(Some(Listing::new(fd)?))
}

/// Renames `name` into `top` under a name that no layer can have (`.wh..wh.`).
fn move_up(dir: BorrowedFd<'_>, name: &Path, top: BorrowedFd<'_>) -> Result<PathBuf> {
    let free = PathBuf::from(format!(".wh..wh.kelp-{}", unique_name()));
    kernel::file::rename(dir, name, top, &free)?;
    Ok(free)
}

/// Repeats a removal in a directory of ours that we may not write to.
fn with_write(dir: BorrowedFd<'_>, remove: impl Fn() -> kernel::Result<()>) -> kernel::Result<()> {
    match remove() {
        Err(error) if error.errno == Errno::EACCES && kernel::file::set_mode(dir, 0o700).is_ok() => remove(),
        result => result,
    }
}

/// A name that no living process uses and that sorts by time.
pub(super) fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("{time:020}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn path_of(name: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    #[test]
    fn many_may_empty_it_at_once() {
        let (_dir, paths) = paths();
        for tree in 0..4 {
            let victim = paths.data.join(format!("layers/{tree}"));
            for number in 0..300 {
                std::fs::create_dir_all(victim.join(format!("a{}/b{number}", number % 7))).unwrap();
            }
            trash(&paths, &victim).unwrap();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| empty_trash(&paths))).collect();
            threads.into_iter().for_each(|thread| assert!(thread.join().unwrap().is_ok()));
        });
        assert_eq!(std::fs::read_dir(paths.trash()).unwrap().count(), 0);
    }

    #[test]
    fn empties_the_trash_and_follows_no_link() {
        let (dir, paths) = paths();
        let canary = dir.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("file"), "x").unwrap();
        let victim = paths.data.join("layers/x");
        std::fs::create_dir_all(victim.join("a/b")).unwrap();
        std::fs::write(victim.join("a/b/c"), "x").unwrap();
        std::os::unix::fs::symlink(&canary, victim.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", victim.join("root")).unwrap();
        for closed in ["a/b", "a"] {
            std::fs::set_permissions(victim.join(closed), std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        trash(&paths, &victim).unwrap();
        assert!(!victim.exists());
        assert_eq!(empty_trash(&paths).unwrap(), 1);
        assert_eq!(empty_trash(&paths).unwrap(), 0);
        assert!(canary.join("file").exists());
    }

    #[test]
    fn removes_trees_deeper_than_the_descriptor_table() {
        let (_dir, paths) = paths();
        paths::make_private(&paths.trash()).unwrap();
        let top = kernel::open::open_dir(&paths.trash()).unwrap();
        let mut at = top.try_clone().unwrap();
        for _ in 0..5000 {
            kernel::file::make_dir(at.as_fd(), Path::new("d"), 0o700).unwrap();
            kernel::file::make_node(at.as_fd(), Path::new("f"), nix::sys::stat::SFlag::S_IFREG, 0o600, 0).unwrap();
            at = kernel::file::open_at(at.as_fd(), Path::new("d"), libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        }
        empty_trash(&paths).unwrap();
        assert_eq!(std::fs::read_dir(paths.trash()).unwrap().count(), 0);
    }

    #[test]
    fn collects_only_what_nobody_holds() {
        let (_dir, paths) = paths();
        for name in ["held", "left", "bare"] {
            paths::make_private(&paths.staging().join(name)).unwrap();
        }
        let held = File::create(paths.staging().join("held").join(LOCK_NAME)).unwrap();
        held.try_lock().unwrap();
        File::create(paths.staging().join("left").join(LOCK_NAME)).unwrap();
        let blob = File::create(paths.staging().join("blob")).unwrap();
        blob.try_lock().unwrap();
        assert_eq!(collect_stale(&paths, Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(collect_stale(&paths, Duration::ZERO).unwrap(), 2);
        assert!(paths.staging().join("held").exists() && paths.staging().join("blob").exists());
    }
}
