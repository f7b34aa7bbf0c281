//! Which containers use which volumes.
//!
//! ```text
//!   shared      a container being made: from the moment its volumes are there
//!               until its record names them
//!   exclusive   a removal of volumes: from reading the records until all are gone
//! ```
//!
//! The lock is storage/volumes.rs's. So a removal never takes a volume that a
//! start has just found. A record that cannot be read is a failure: what its
//! container uses is not known then.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::events::{self, Event};
use super::record::Record;
use super::store;
use crate::error::{Context, Failure, Kind, Result};
use crate::failpoint;
use crate::paths::Paths;
use crate::storage::volumes::{self, VolumeName};

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

/// By the names of their volumes.
type Users = BTreeMap<String, Vec<User>>;

/// All users, by the names of their volumes. Looks at records only, and
/// repairs nothing.
pub fn of_volumes(paths: &Paths) -> Result<BTreeMap<String, Vec<User>>> {
    let (users, unknown) = known_users(paths)?;
    match unknown.into_iter().next() {
        Some(failure) => Err(failure.doing("find out which volumes containers use")),
        None => Ok(users),
    }
}

/// The same as far as it is known, and why it is not of the others.
fn known_users(paths: &Paths) -> Result<(Users, Vec<Failure>)> {
    let mut users = Users::new();
    let mut unknown = Vec::new();
    let entries = match fs::read_dir(paths.containers()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((users, unknown)),
        result => result.doing(|| format!("read {}", paths.containers().display()))?,
    };
    for entry in entries {
        let directory = entry.doing(|| "read containers")?.path();
        let record = match Record::load(&directory) {
            // Being made, or gone meanwhile.
            Err(failure) if failure.is_errno(libc::ENOENT) => continue,
            Err(failure) => {
                unknown.push(failure);
                continue;
            }
            Ok(record) => record,
        };
        let is_running = store::is_alive(&directory);
        for volume in record.volumes() {
            let all = users.entry(volume.to_owned()).or_default();
            if all.last().is_none_or(|user| user.id != record.id) {
                all.push(User { id: record.id.clone(), name: record.name.clone(), is_running });
            }
        }
    }
    Ok((users, unknown))
}

/// Removes the volumes that belong to the container `id` alone; one that
/// others use as well, or may, outlives it: a record that cannot be read keeps
/// no other container from being removed.
pub fn remove_own(paths: &Paths, id: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let _guard = volumes::hold_alone(paths)?;
    let (users, unknown) = known_users(paths)?;
    for name in names {
        failpoint::reach(paths, "volumes: one to go");
        let has_others =
            !unknown.is_empty() || users.get(name).is_some_and(|users| users.iter().any(|user| user.id != id));
        let name = VolumeName::parse(name)?;
        match if has_others { volumes::disown(paths, &name) } else { volumes::remove(paths, &name) } {
            Err(failure) if failure.kind == Kind::NotFound => {}
            Ok(()) if !has_others => events::write(paths, &[Event::of_volume("destroy", name.as_str())]),
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
    fn what_a_container_uses_is_in_its_record() {
        let (_dir, paths) = paths();
        assert!(of_volumes(&paths).unwrap().is_empty());
        let mut made = store::create(&paths, "web").unwrap();
        let directory = made.container.directory.clone();
        assert!(of_volumes(&paths).unwrap().is_empty());
        made.container.record.anonymous_volumes = vec!["own".to_owned()];
        made.container.record.save(&directory).unwrap();
        assert!(of_volumes(&paths).unwrap()["own"][0].is_running);
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
