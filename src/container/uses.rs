//! Which containers use which volumes.
//!
//! ```text
//!   shared      a container being made: while it looks at its volumes, makes
//!               those that are missing and writes down their names
//!   exclusive   a removal of volumes: from reading the records until all are gone
//! ```
//!
//! The lock is storage/volumes.rs's. A container that has no record yet has the
//! names in a file of their own. So a removal never takes a volume that a
//! start has just found. A record that cannot be read is a failure: what its
//! container uses is not known then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use super::record::Record;
use super::store;
use crate::error::{Context, Failure, Kind, Result};
use crate::limits;
use crate::paths::Paths;
use crate::storage::volumes::{self, VolumeName};

/// Beside a container's record until there is one: names of volumes.
const ANNOUNCED: &str = "volumes.json";

/// A container that uses a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it runs, or is being started.
    pub is_running: bool,
}

/// All users, by the names of their volumes. Looks at records only, and
/// repairs nothing.
pub fn of_volumes(paths: &Paths) -> Result<BTreeMap<String, Vec<User>>> {
    let mut users: BTreeMap<String, Vec<User>> = BTreeMap::new();
    let entries = match fs::read_dir(paths.containers()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(users),
        result => result.doing(|| format!("read {}", paths.containers().display()))?,
    };
    for entry in entries {
        let directory = entry.doing(|| "read containers")?.path();
        let doing = || "find out which volumes containers use";
        let is_running = store::is_alive(&directory);
        let (user, volumes) = match Record::load(&directory) {
            Err(failure) if failure.is_errno(libc::ENOENT) => {
                let id = entry_name(&directory);
                (User { name: id.clone(), id, is_running }, announced(&directory).doing(doing)?)
            }
            record => {
                let record = record.doing(doing)?;
                let volumes = record.volumes().into_iter().map(str::to_owned).collect();
                (User { id: record.id, name: record.name, is_running }, volumes)
            }
        };
        for volume in volumes {
            users.entry(volume).or_default().push(user.clone());
        }
    }
    Ok(users)
}

fn entry_name(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes down which volumes the container at `directory` uses, until its
/// record says it. The caller holds its lock, and the volumes'.
pub fn announce(directory: &Path, names: &[&str]) -> Result<()> {
    if directory.join("record.json").exists() {
        // It says so already: a container does not change its volumes.
        return Ok(());
    }
    let (path, new) = (directory.join(ANNOUNCED), directory.join("volumes.json.new"));
    let bytes = serde_json::to_vec(names).map_err(|error| Failure::bug(error.to_string()))?;
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).doing(|| format!("write {}", path.display()))
}

/// What was written down; nothing if that has not come yet, or all is gone.
fn announced(directory: &Path) -> Result<BTreeSet<String>> {
    match limits::read_file(&directory.join(ANNOUNCED), limits::RECORD_BYTES_MAX) {
        Err(failure) if failure.is_errno(libc::ENOENT) => Ok(BTreeSet::new()),
        bytes => serde_json::from_slice(&bytes?).map_err(|error| Failure::host(error.to_string())),
    }
}

/// Removes the volumes that belong to the container `id` alone; one that
/// others use as well outlives it.
pub fn remove_own(paths: &Paths, id: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let _guard = volumes::hold_alone(paths)?;
    let users = of_volumes(paths)?;
    for name in names {
        let has_others = users.get(name).is_some_and(|users| users.iter().any(|user| user.id != id));
        let name = VolumeName::parse(name)?;
        match if has_others { volumes::disown(paths, &name) } else { volumes::remove(paths, &name) } {
            Err(failure) if failure.kind == Kind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

/// Lets the volumes that belong to a container alone outlive it.
pub fn keep_own(paths: &Paths, names: &[String]) -> Result<()> {
    names.iter().try_for_each(|name| volumes::disown(paths, &VolumeName::parse(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::volumes::Description;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        (dir, paths)
    }

    fn make(paths: &Paths, owner: &str) -> String {
        let name = VolumeName::random().unwrap();
        volumes::create(paths, &name, Description::anonymous(owner)).unwrap();
        name.as_str().to_owned()
    }

    #[test]
    fn a_container_is_a_user_from_its_making_on() {
        let (_dir, paths) = paths();
        assert!(of_volumes(&paths).unwrap().is_empty());
        let mut made = store::create(&paths, "web").unwrap();
        let directory = made.container.directory.clone();
        assert!(of_volumes(&paths).unwrap().is_empty());
        announce(&directory, &["db", "logs"]).unwrap();
        let users = of_volumes(&paths).unwrap();
        assert_eq!(users.keys().collect::<Vec<_>>(), ["db", "logs"]);
        assert!(users["db"][0].is_running);
        made.container.record.anonymous_volumes = vec!["own".to_owned()];
        made.container.record.save(&directory).unwrap();
        announce(&directory, &["db"]).unwrap();
        drop(made.lock);
        let users = of_volumes(&paths).unwrap();
        assert_eq!(users.keys().collect::<Vec<_>>(), ["own"]);
        assert_eq!((users["own"][0].name.as_str(), users["own"][0].is_running), ("web", false));
        // What cannot be read may use anything.
        fs::write(directory.join("record.json"), "{").unwrap();
        assert!(of_volumes(&paths).is_err());
    }

    #[test]
    fn what_others_use_outlives_its_owner() {
        let (_dir, paths) = paths();
        let (shared, own) = (make(&paths, "gone"), make(&paths, "gone"));
        let mut other = store::create(&paths, "other").unwrap().container;
        other.record.anonymous_volumes = vec![shared.clone()];
        other.record.save(&other.directory).unwrap();
        remove_own(&paths, "gone", &[own, shared.clone(), "nope".to_owned()]).unwrap();
        let (left, _) = volumes::list(&paths).unwrap();
        assert_eq!((left.len(), left[0].name.as_str(), &left[0].owner), (1, shared.as_str(), &None));
        store::remove_orphans(&paths).unwrap();
        assert_eq!(volumes::list(&paths).unwrap().0.len(), 1);
    }
}
