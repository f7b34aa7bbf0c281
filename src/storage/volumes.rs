//! Named volumes: directories that outlive containers.
//!
//! ```text
//! volumes/NAME/              0700, the user's own
//!   data/                    what is mounted in containers
//!   volume.json              when it was made, labels
//! ```
//!
//! A volume appears complete by rename(2). Its data belongs to whatever ids
//! wrote to it, so only the user namespace can look into all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::{self, Paths};

use super::{layers, sweep};

const DATA_NAME: &str = "data";

/// Label of a volume that belongs to one container alone: that container's id.
/// Only kelp writes it.
pub const ANONYMOUS_OF: &str = "kelp.anonymous-of";
const RECORD_NAME: &str = "volume.json";
const RECORD_VERSION: u32 = 1;

/// The legal name of a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName(String);

impl VolumeName {
    /// Checks a name ([`paths::check_name`]).
    pub fn parse(name: &str) -> Result<Self> {
        paths::check_name(name)?;
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// The directory to mount.
    pub data: PathBuf,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    created_s: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The volume `name`, made now if it is not there.
pub fn ensure(paths: &Paths, name: &VolumeName) -> Result<Volume> {
    match get(paths, name)? {
        Some(volume) => Ok(volume),
        None => {
            create(paths, name, BTreeMap::new())?;
            get(paths, name)?.ok_or_else(|| Failure::not_found(format!("volume \"{}\" was removed", name.0)))
        }
    }
}

/// Where a volume's data is, or would be.
pub fn data_directory(paths: &Paths, name: &VolumeName) -> PathBuf {
    dir(paths, name).join(DATA_NAME)
}

/// Makes a volume; `false` if there is one already, which is left as it is.
pub fn create(paths: &Paths, name: &VolumeName, labels: BTreeMap<String, String>) -> Result<bool> {
    let doing = || format!("make volume \"{}\"", name.0);
    let place = dir(paths, name);
    paths::make_private(&paths.volumes())?;
    let (staged, _lock) = layers::stage(paths)?;
    let data = staged.join(DATA_NAME);
    std::fs::create_dir(&data).doing(doing)?;
    // As Docker's: others in the container may look in. Set after: mkdir(2) applies the umask.
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).doing(doing)?;
    let created_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    layers::write_record(&staged.join(RECORD_NAME), &Record { version: RECORD_VERSION, created_s, labels })?;
    let is_new = layers::publish_dir(paths, &staged, &place).doing(doing)?;
    // The name must survive a power cut as well as the content does.
    File::open(paths.volumes()).and_then(|volumes| volumes.sync_all()).doing(doing)?;
    Ok(is_new)
}

/// The volume `name`, if it is there.
pub fn get(paths: &Paths, name: &VolumeName) -> Result<Option<Volume>> {
    let dir = dir(paths, name);
    let doing = || format!("read volume \"{}\"", name.0);
    let json = match limits::read_file(&dir.join(RECORD_NAME), limits::RECORD_BYTES_MAX) {
        Err(failure) if failure.is_errno(libc::ENOENT) => return Ok(None),
        result => result.doing(doing)?,
    };
    let record: Record =
        serde_json::from_slice(&json).map_err(|error| Failure::host(error.to_string())).doing(doing)?;
    if record.version != RECORD_VERSION {
        return Err(Failure::host(format!("version {} is not known", record.version))).doing(doing);
    }
    let Record { created_s, labels, .. } = record;
    Ok(Some(Volume { name: name.clone(), data: dir.join(DATA_NAME), created_s, labels }))
}

/// All volumes, by name.
pub fn list(paths: &Paths) -> Result<Vec<Volume>> {
    let mut names: Vec<_> =
        layers::names(&paths.volumes())?.iter().filter_map(|name| VolumeName::parse(name).ok()).collect();
    names.sort();
    // One that is gone meanwhile is left out.
    names.iter().filter_map(|name| get(paths, name).transpose()).collect()
}

/// Moves a volume into the trash. The caller knows that no container uses it.
pub fn remove(paths: &Paths, name: &VolumeName) -> Result<()> {
    match sweep::trash(paths, &dir(paths, name)) {
        Err(failure) if failure.is_errno(libc::ENOENT) => {
            Err(Failure::not_found(format!("there is no volume \"{}\"", name.0)))
        }
        result => result,
    }
}

fn dir(paths: &Paths, name: &VolumeName) -> PathBuf {
    paths.volumes().join(Path::new(&name.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_names() {
        for name in ["db", "a1_.-", "0.x"] {
            assert!(VolumeName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "a", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a\0b", "ä1", "../x", &"a".repeat(200)] {
            assert!(VolumeName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn makes_lists_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        assert_eq!(list(&paths).unwrap(), []);
        let name = VolumeName::parse("db").unwrap();
        let volume = ensure(&paths, &name).unwrap();
        assert_eq!(volume.data.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        std::fs::write(volume.data.join("kept"), "").unwrap();
        assert!(!create(&paths, &name, BTreeMap::new()).unwrap());
        assert_eq!(ensure(&paths, &name).unwrap(), volume);
        assert!(volume.data.join("kept").exists());
        assert_eq!(list(&paths).unwrap(), [volume]);
        remove(&paths, &name).unwrap();
        assert_eq!(list(&paths).unwrap(), []);
        assert_eq!(remove(&paths, &name).unwrap_err().kind, crate::error::Kind::NotFound);
    }
}
