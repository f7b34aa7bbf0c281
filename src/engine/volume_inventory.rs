//! Volumes as a user asks for them: which there are, and one of them.

use std::collections::BTreeMap;

use super::options::filter::VolumeFilter;
use crate::container::events::{self, Event};
use crate::container::{store, uses};
use crate::error::{Failure, Result};
use crate::paths::Paths;
use crate::storage::volumes::{self, Description, Volume, VolumeName};

/// Makes a volume; one that is there already is left as it is. Without a name
/// it gets one of its own. Returns its name.
pub fn create(paths: &Paths, name: Option<&str>, mut labels: BTreeMap<String, String>) -> Result<String> {
    let name = match name {
        Some(name) => VolumeName::parse(name)?,
        None => {
            labels.insert(volumes::ANONYMOUS.to_owned(), String::new());
            VolumeName::random()?
        }
    };
    if volumes::create(paths, &name, Description { labels, owner: None })? {
        events::write(paths, &[Event::of_volume("create", name.as_str())]);
    }
    Ok(name.as_str().to_owned())
}

/// The volumes that `filter` accepts, by name; and why others could not be
/// read.
pub fn list(paths: &Paths, filter: &VolumeFilter) -> Result<(Vec<Volume>, Vec<Failure>)> {
    // What containers left that are gone without a word is not shown.
    refresh(paths)?;
    let (mut volumes, failures) = volumes::list(paths)?;
    volumes.retain(|volume| filter.accepts(volume.name.as_str(), &volume.labels));
    if let Some(dangling) = filter.dangling {
        let users = uses::of_volumes(paths)?;
        volumes.retain(|volume| users.contains_key(volume.name.as_str()) != dangling);
    }
    Ok((volumes, failures))
}

/// The volume called `name`.
pub fn find(paths: &Paths, name: &str) -> Result<Volume> {
    match VolumeName::parse(name) {
        Ok(name) => match volumes::get(paths, &name)? {
            Some(volume) => Ok(volume),
            None => Err(guess(paths, volumes::missing(&name), name.as_str())),
        },
        // What cannot be a name is none.
        Err(_) => Err(Failure::not_found(format!("there is no volume \"{name}\""))),
    }
}

fn guess(paths: &Paths, failure: Failure, name: &str) -> Failure {
    let volumes = volumes::list(paths).map(|(volumes, _)| volumes).unwrap_or_default();
    failure.did_you_mean(name, volumes.iter().map(|volume| volume.name.as_str()))
}

/// Brings the records of containers that died up to date.
pub(super) fn refresh(paths: &Paths) -> Result<()> {
    store::list(paths)?;
    store::remove_orphans(paths)
}
