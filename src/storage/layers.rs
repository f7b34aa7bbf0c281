//! Unpacked layers, one directory each.
//!
//! ```text
//! layers/IDMAP/HEX/          0700, the user's own
//!   root/                    what overlayfs stacks: the layer's root with its own owner and mode
//!   layer.json               what the unpack made
//! ```
//!
//! IDMAP is the key of the id mapping that the files were made under
//! (process/idmap.rs), HEX the diff id. A layer is unpacked in `staging/` and
//! appears here by rename(2), complete; after that it is never written to.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::{self, Paths};

use super::sweep;
use super::unpack::Summary;

const ROOT_NAME: &str = "root";
const RECORD_NAME: &str = "layer.json";
const RECORD_VERSION: u32 = 1;

/// Names one unpacked layer. Both parts are safe as file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId {
    id_map: String,
    diff_id: String,
}

impl LayerId {
    /// `id_map` is `IdMap::key()`, `diff_id` the 64 hex digits of a SHA-256.
    /// Anything else is a bug of the caller's: image documents are checked
    /// where they are parsed.
    pub fn new(id_map: &str, diff_id: &str) -> Result<Self> {
        if !is_key(id_map) || !is_hex(diff_id) {
            return Err(Failure::bug(format!("\"{id_map}\" and {diff_id:?} do not name a layer")));
        }
        Ok(Self { id_map: id_map.to_owned(), diff_id: diff_id.to_owned() })
    }

    /// The key of the id mapping.
    pub fn id_map(&self) -> &str {
        &self.id_map
    }

    /// The diff id, as hex.
    pub fn diff_id(&self) -> &str {
        &self.diff_id
    }

    fn dir(&self, paths: &Paths) -> PathBuf {
        paths.layers().join(&self.id_map).join(&self.diff_id)
    }
}

/// A layer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// What its unpack made; gives its size.
    pub summary: Summary,
}

/// A directory below `staging/` that is ours until it is published or dropped.
#[derive(Debug)]
pub struct Staged {
    paths: Paths,
    dir: PathBuf,
    /// Held until the directory has its final name (sweep.rs, `LOCK_NAME`).
    _lock: File,
}

impl Staged {
    /// The directory to unpack into: it becomes the layer's root.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT_NAME)
    }

    /// The whole directory, with the lock in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staged {
    /// What was not published goes at once: it may be what fills the disk.
    fn drop(&mut self) {
        if self.dir.exists() {
            // If this fails, a sweep collects it in a minute.
            sweep::trash(&self.paths, &self.dir).ok();
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    #[serde(flatten)]
    summary: Summary,
}

/// Where the root of an unpacked layer is, if it is there.
pub fn root(paths: &Paths, id: &LayerId) -> PathBuf {
    id.dir(paths).join(ROOT_NAME)
}

/// The root of an unpacked layer, if it is there.
pub fn find(paths: &Paths, id: &LayerId) -> Option<PathBuf> {
    let root = root(paths, id);
    root.symlink_metadata().is_ok_and(|status| status.is_dir()).then_some(root)
}

/// A new directory to unpack into.
pub fn stage_dir(paths: &Paths) -> Result<Staged> {
    let staged = stage(paths)?;
    paths::make_private(&staged.root())?;
    Ok(staged)
}

/// Writes down what the unpack made: the last thing before the layer is
/// written out to the disk and published.
pub fn seal(staged: &Staged, summary: &Summary) -> Result<()> {
    write_record(&staged.dir.join(RECORD_NAME), &Record { version: RECORD_VERSION, summary: summary.clone() })
}

/// Makes a layer appear under its name; returns its root. If somebody else
/// was faster, theirs stays and ours goes to the trash: they are the same.
/// The caller has compared the diff id and had the file system written out;
/// that the name is on the disk too is not waited for: a layer that is missing
/// after a power cut is unpacked again.
pub fn publish(paths: &Paths, staged: Staged, id: &LayerId) -> Result<PathBuf> {
    let dir = id.dir(paths);
    paths::make_private(&paths.layers().join(&id.id_map))?;
    publish_dir(paths, &staged.dir, &dir).doing(|| format!("publish layer \"{}\"", id.diff_id))?;
    Ok(dir.join(ROOT_NAME))
}

/// All layers that are there, of all id mappings.
pub fn list(paths: &Paths) -> Result<Vec<Layer>> {
    let layers = survey(paths)?.into_iter();
    layers.map(|(id, summary)| Ok(Layer { id, summary: summary? })).collect()
}

/// The same, with the failures of those whose record cannot be read.
pub fn survey(paths: &Paths) -> Result<Vec<(LayerId, Result<Summary>)>> {
    let mut layers = Vec::new();
    for id_map in names(&paths.layers())? {
        for diff_id in names(&paths.layers().join(&id_map))? {
            let Ok(id) = LayerId::new(&id_map, &diff_id) else { continue };
            match read_summary(&id.dir(paths)) {
                // Removed since the directory was read.
                Err(failure) if failure.is_errno(libc::ENOENT) && !id.dir(paths).exists() => {}
                summary => layers.push((id, summary)),
            }
        }
    }
    layers.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(layers)
}

/// Moves a layer into the trash. The caller knows that no container uses it.
pub fn remove(paths: &Paths, id: &LayerId) -> Result<()> {
    sweep::trash(paths, &id.dir(paths)).map_err(|failure| failure.doing(format!("remove layer \"{}\"", id.diff_id)))
}

/// A new directory in `staging/` with its lock held.
pub(super) fn stage(paths: &Paths) -> Result<Staged> {
    let dir = paths.staging().join(sweep::unique_name());
    paths::make_private(&dir)?;
    let lock = File::create_new(dir.join(sweep::LOCK_NAME))
        .and_then(|lock| lock.try_lock().map_err(io::Error::from).map(|()| lock))
        .doing(|| format!("lock \"{}\"", dir.display()))?;
    Ok(Staged { paths: paths.clone(), dir, _lock: lock })
}

/// Renames a staged directory to its place; `false` and into the trash if the
/// place is taken.
pub(super) fn publish_dir(paths: &Paths, staged: &Path, place: &Path) -> Result<bool> {
    std::fs::remove_file(staged.join(sweep::LOCK_NAME))?;
    match std::fs::rename(staged, place) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY)) => {
            sweep::trash(paths, staged)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a record as JSON, to be published with its directory.
pub(super) fn write_record(path: &Path, record: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec(record).map_err(|error| Failure::bug(error.to_string()))?;
    std::fs::write(path, json).doing(|| format!("write \"{}\"", path.display()))
}

fn read_summary(dir: &Path) -> Result<Summary> {
    let path = dir.join(RECORD_NAME);
    let doing = || format!("read \"{}\"", path.display());
    let json = limits::read_file(&path, limits::RECORD_BYTES_MAX).doing(doing)?;
    let record: Record =
        serde_json::from_slice(&json).map_err(|error| Failure::host(error.to_string())).doing(doing)?;
    if record.version != RECORD_VERSION {
        return Err(Failure::host(format!("version {} is not known", record.version))).doing(doing);
    }
    Ok(record.summary)
}

/// The names in a directory of ours; none if it does not exist yet.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let doing = || format!("read \"{}\"", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.doing(doing)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.doing(doing)?.file_name().into_string());
    }
    Ok(names)
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Keys are letters, digits, `-`, `_` and `+`, so never `..` or a path.
fn is_key(text: &str) -> bool {
    const FILE_NAME_BYTES_MAX: usize = 255;
    !text.is_empty()
        && text.len() <= FILE_NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    #[test]
    fn refuses_names_that_are_paths() {
        assert!(LayerId::new("b0-1000-1", HEX).is_ok());
        assert!(LayerId::new("u0-1000-1_1-100000-65536+g0-1000-1", HEX).is_ok());
        for (id_map, diff_id) in
            [("..", HEX), ("", HEX), ("a/b", HEX), ("b", ".."), ("b", &HEX[1..]), ("b", &HEX.to_uppercase())]
        {
            assert!(LayerId::new(id_map, diff_id).is_err(), "{id_map} {diff_id}");
        }
    }

    #[test]
    fn what_is_not_published_goes() {
        let (_dir, paths) = paths();
        let staged = stage_dir(&paths).unwrap();
        std::fs::write(staged.root().join("half"), "").unwrap();
        drop(staged);
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
        assert_eq!(sweep::empty_trash(&paths).unwrap(), 1);
    }

    #[test]
    fn publishes_once() {
        let (_dir, paths) = paths();
        let id = LayerId::new("b0-1000-1", HEX).unwrap();
        assert_eq!(find(&paths, &id), None);
        let (first, second) = (stage_dir(&paths).unwrap(), stage_dir(&paths).unwrap());
        std::fs::write(first.root().join("first"), "").unwrap();
        let summary = Summary { entries: 1, ..Summary::default() };
        seal(&first, &summary).unwrap();
        seal(&second, &Summary::default()).unwrap();
        let root = publish(&paths, first, &id).unwrap();
        assert_eq!(publish(&paths, second, &id).unwrap(), root);
        assert_eq!(find(&paths, &id), Some(root.clone()));
        assert!(root.join("first").exists());
        assert_eq!(list(&paths).unwrap(), [Layer { id: id.clone(), summary }]);
        remove(&paths, &id).unwrap();
        assert_eq!(find(&paths, &id), None);
        assert_eq!(std::fs::read_dir(paths.staging()).unwrap().count(), 0);
        assert_eq!(sweep::empty_trash(&paths).unwrap(), 2);
    }
}
