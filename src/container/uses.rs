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

use super::record::Record;
use super::store;
use crate::error::{Context, Kind, Result};
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
        let record = match Record::load(&directory) {
            // Being made, or gone meanwhile.
            Err(failure) if failure.is_errno(libc::ENOENT) => continue,
            result => result.doing(|| "find out which volumes containers use")?,
        };
        let is_running = store::is_alive(&directory);
        for volume in record.volumes() {
            let all = users.entry(volume.to_owned()).or_default();
            if all.last().is_none_or(|user| user.id != record.id) {
                all.push(User { id: record.id.clone(), name: record.name.clone(), is_running });
            }
        }
    }
    Ok(users)
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
