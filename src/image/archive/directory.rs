//! Adding images to an OCI layout that others may be reading: blobs first,
//! `index.json` last, everything by rename and no lock file.
//!
//! Two writers at once would lose each other's names, so a writer holds
//! flock(2) on the directory itself where the file system gives it. Readers
//! take no lock: they read one `index.json`, which is always whole.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::output::{HIDDEN, Unfinished, copy_blob, hash};
use super::save::Contents;
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::descriptor::{Descriptor, OCI_INDEX};
use crate::image::digest::Digest;
use crate::image::layout;
use crate::image::manifest::Document;
use crate::image::registry::Progress;
use crate::kernel::{self, Errno};
use crate::limits;

/// Adds images to the layout at `path`, which is made if it is missing.
pub(super) fn write(blobs: &Blobs, contents: &Contents, path: &Path, progress: &dyn Progress) -> Result<()> {
    add(blobs, contents, path, progress).doing(|| format!("write images into \"{}\"", path.display()))
}

fn add(blobs: &Blobs, contents: &Contents, path: &Path, progress: &dyn Progress) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let dir = kernel::open::open_dir(path)?;
    let lock = File::from(dir.try_clone()?);
    wait_for(&lock)?;
    check_is_layout(&dir)?;
    make_dir(dir.as_fd(), Path::new("blobs"))?;
    make_dir(dir.as_fd(), Path::new(layout::BLOBS))?;
    let blobs_dir = kernel::open::openat2(
        dir.as_fd(),
        Path::new(layout::BLOBS),
        libc::O_DIRECTORY,
        0,
        kernel::open::Resolve::BeneathNoLinks,
    )?;
    for dir in [&dir, &blobs_dir] {
        remove_leftovers(dir)?;
    }
    for (digest, size) in &contents.blobs {
        let name = digest.hex();
        if !is_there(&blobs_dir, digest, *size)? {
            let unfinished = Unfinished::begin(blobs_dir.as_fd())?;
            copy_blob(blobs, digest, *size, unfinished.file(), progress)?;
            // Before the rename: after a power cut, a name must not stand for
            // blocks that were never written.
            unfinished.file().sync_data()?;
            unfinished.publish(Path::new(&name))?;
        }
    }
    let old = read(&dir, layout::INDEX_FILE, limits::MANIFEST_BYTES_MAX)?;
    let index = merged(old.as_deref(), &contents.entries)?;
    replace(&dir, layout::MARKER_FILE, layout::MARKER)?;
    replace(&dir, layout::INDEX_FILE, &index)
}

/// Waits for another writer, not forever: whoever may read a directory may
/// also lock it.
fn wait_for(lock: &File) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(limits::LAYOUT_PATIENCE_MS);
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(Failure::host("another process is writing there").hint("try again when it is done"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            // NFS and others: directories cannot be locked. What is written is
            // whole all the same, and one user writes it.
            Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

/// An empty directory, or a layout of our version.
fn check_is_layout(dir: &OwnedFd) -> Result<()> {
    if let Some(marker) = read(dir, layout::MARKER_FILE, limits::TAG_BYTES_MAX)? {
        return layout::check_marker(&marker);
    }
    let entries = kernel::file::Listing::new(kernel::open::openat2(
        dir.as_fd(),
        Path::new("."),
        libc::O_DIRECTORY,
        0,
        kernel::open::Resolve::Anywhere,
    )?)?;
    for entry in entries {
        let (name, _) = entry?;
        // What a first writer leaves that was killed.
        let name = name.to_string_lossy();
        if name != "blobs" && !name.starts_with(HIDDEN) {
            return Err(Failure::user("it is neither empty nor an image layout")
                .hint("give a new directory, or one that --format oci-dir has written"));
        }
    }
    Ok(())
}

fn make_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match kernel::file::make_dir(dir, name, 0o777) {
        Err(error) if error.errno == Errno::EEXIST => Ok(()),
        result => Ok(result?),
    }
}

/// Whether a blob is there and is what its name says.
fn is_there(dir: &OwnedFd, digest: &Digest, size: u64) -> Result<bool> {
    let Some(file) = open(dir, &digest.hex())? else { return Ok(false) };
    let status = file.metadata()?;
    Ok(status.is_file() && status.len() == size && hash(&file, size)? == *digest)
}

/// Hidden files of writers that were killed more than a day ago.
fn remove_leftovers(dir: &OwnedFd) -> Result<()> {
    let listed =
        kernel::open::openat2(dir.as_fd(), Path::new("."), libc::O_DIRECTORY, 0, kernel::open::Resolve::Anywhere)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    for entry in kernel::file::Listing::new(listed)? {
        let (name, _) = entry?;
        let Some(name) = name.to_str().ok().filter(|name| name.starts_with(HIDDEN)) else { continue };
        let Ok(status) = kernel::file::status_at(dir.as_fd(), Path::new(name)) else { continue };
        let age_s = now.saturating_sub(u64::try_from(status.st_mtime).unwrap_or(0));
        if age_s > limits::BLOB_KEEP_S {
            // Somebody else's stays.
            kernel::file::remove(dir.as_fd(), Path::new(name)).ok();
        }
    }
    Ok(())
}

fn open(dir: &OwnedFd, name: &str) -> Result<Option<File>> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    match kernel::open::openat2(dir.as_fd(), Path::new(name), flags, 0, kernel::open::Resolve::BeneathNoLinks) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(Failure::from(error).doing(format!("open \"{name}\""))),
    }
}

fn read(dir: &OwnedFd, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let Some(file) = open(dir, name)? else { return Ok(None) };
    let doing = || format!("read \"{name}\"");
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).doing(doing)?;
    if bytes.len() as u64 > max {
        return Err(Failure::user(format!("it is larger than {max} bytes")).doing(doing()));
    }
    Ok(Some(bytes))
}

fn replace(dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<()> {
    if read(dir, name, limits::MANIFEST_BYTES_MAX).is_ok_and(|old| old.as_deref() == Some(bytes)) {
        return Ok(());
    }
    let unfinished = Unfinished::begin(dir.as_fd())?;
    let mut file = unfinished.file();
    file.write_all(bytes)?;
    file.sync_data()?;
    unfinished.publish(Path::new(name))
}

/// The new `index.json`: what was listed stays as it is, but for the names
/// that are given to another image now.
fn merged(old: Option<&[u8]>, entries: &[Descriptor]) -> Result<Vec<u8>> {
    let bug = |error: serde_json::Error| Failure::bug(error.to_string());
    let mut index = match old {
        None => serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}),
        Some(bytes) => {
            let Document::Index(_) = Document::parse(bytes, None)? else {
                return Err(Failure::user(format!("{} is not an index", layout::INDEX_FILE)));
            };
            serde_json::from_slice(bytes).map_err(bug)?
        }
    };
    // As values: fields that we do not know are others'.
    let Some(listed) = index.get_mut("manifests").filter(|listed| listed.is_array() || listed.is_null()) else {
        return Err(Failure::user(format!("{} has no list of manifests", layout::INDEX_FILE)));
    };
    let mut kept: Vec<Value> = listed.as_array_mut().map(std::mem::take).unwrap_or_default();
    for entry in entries {
        let new = serde_json::to_value(entry).map_err(bug)?;
        let digest = entry.digest.to_string();
        let is_same = |old: &Value| old.get("digest").and_then(Value::as_str) == Some(&digest);
        match entry.annotations.get(layout::FULL_NAME) {
            Some(name) => {
                kept.retain(|old| !(is_named(old, name) || is_same(old) && is_nameless(old)));
                kept.push(new);
            }
            None if kept.iter().any(is_same) => {}
            None => kept.push(new),
        }
    }
    *listed = Value::Array(kept);
    let bytes = serde_json::to_vec(&index).map_err(bug)?;
    if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
        return Err(Failure::user(format!("the layout would list more than {} bytes", limits::MANIFEST_BYTES_MAX)));
    }
    Ok(bytes)
}

fn annotation<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get("annotations")?.get(key)?.as_str()
}

/// Whether an entry is what `name` stands for, to us or to other tools.
fn is_named(entry: &Value, name: &str) -> bool {
    match annotation(entry, layout::FULL_NAME) {
        Some(full) => full == name,
        None => annotation(entry, layout::REF_NAME) == Some(name),
    }
}

fn is_nameless(entry: &Value) -> bool {
    annotation(entry, layout::FULL_NAME).is_none() && annotation(entry, layout::REF_NAME).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::descriptor::OCI_MANIFEST;
    use crate::image::reference::Reference;

    fn entry(content: &str, name: Option<&str>) -> Descriptor {
        let name = name.map(|name| Reference::parse(name).unwrap());
        layout::entry(&Descriptor::of(OCI_MANIFEST, content.as_bytes()), name.as_ref())
    }

    fn names(index: &[u8]) -> Vec<(String, String)> {
        let index: Value = serde_json::from_slice(index).unwrap();
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let entries = index["manifests"].as_array().unwrap().iter();
        entries.map(|entry| (text(annotation(entry, layout::FULL_NAME)), text(entry["digest"].as_str()))).collect()
    }

    #[test]
    fn names_move_and_the_rest_stays() {
        let first = merged(None, &[entry("a", Some("a:1")), entry("b", Some("b:1")), entry("c", None)]).unwrap();
        let again = merged(Some(&first), &[entry("a", Some("a:1")), entry("c", None)]).unwrap();
        assert_eq!(names(&again).len(), 3);
        let moved = merged(Some(&again), &[entry("x", Some("a:1")), entry("c", Some("c:1"))]).unwrap();
        let digest = |content: &str| Digest::of(content.as_bytes()).to_string();
        let expected = [("b:1", "b"), ("a:1", "x"), ("c:1", "c")];
        let expected = expected.map(|(name, content)| (format!("docker.io/library/{name}"), digest(content)));
        assert_eq!(names(&moved), expected);
    }

    #[test]
    fn what_others_wrote_is_kept() {
        let old = serde_json::json!({"schemaVersion": 2, "annotations": {"x": "y"}, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": Digest::of(b"u"), "size": 1, "artifactType": "z",
             "annotations": {"org.opencontainers.image.ref.name": "1.2"}}]});
        let new = merged(Some(old.to_string().as_bytes()), &[entry("a", Some("a:1"))]).unwrap();
        let new: Value = serde_json::from_slice(&new).unwrap();
        assert_eq!(new["annotations"], old["annotations"]);
        assert_eq!(new["manifests"][0], old["manifests"][0]);
        assert!(merged(Some(b"{}"), &[]).is_err());
        assert!(merged(Some(b"[]"), &[]).is_err());
    }
}
