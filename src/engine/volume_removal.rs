//! Removing volumes, never one that a container uses, running or not.

use super::options::filter::VolumeFilter;
use super::volume_inventory::{find, refresh};
use crate::container::events::{self, Event, Kind as EventKind};
use crate::container::uses::{self, User};
use crate::error::{Context, Failure, Kind, Result};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::census::Counter;
use crate::storage::volumes::{self, Volume, VolumeName};

/// Removes the volume called `name`. With `force` one that is not there is
/// none to complain of, as with docker.
pub fn remove(paths: &Paths, name: &str, force: bool) -> Result<()> {
    let removed = find(paths, name).and_then(|volume| remove_unused(paths, &volume.name));
    match removed {
        Err(failure) if force && failure.kind == Kind::NotFound => Ok(()),
        result => result.doing(|| format!("remove volume \"{name}\"")),
    }
}

fn remove_unused(paths: &Paths, name: &VolumeName) -> Result<()> {
    let in_use = || Ok::<_, Failure>(uses::of_volumes(paths)?.remove(name.as_str()).unwrap_or_default());
    if !in_use()?.is_empty() {
        // It may be that of a container whose supervisor was killed.
        refresh(paths)?;
    }
    let _guard = volumes::hold_alone(paths)?;
    let users = in_use()?;
    if !users.is_empty() {
        return Err(used(&users));
    }
    volumes::remove(paths, name)?;
    events::write(paths, &[Event::of_volume("destroy", name.as_str())]);
    Ok(())
}

fn used(users: &[User]) -> Failure {
    let shown = |user: &User| format!("{} ({})", user.name, user.id.get(..12).unwrap_or(&user.id));
    let named: Vec<String> = users.iter().map(shown).collect();
    let (word, are) = if users.len() == 1 { ("container", "it") } else { ("containers", "them") };
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    Failure::user(format!("it is in use by {word} {}", named.join(", ")))
        .hint(format!("kelp rm {} removes {are}; the volume stays until then", names.join(" ")))
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of volumes that are gone.
    pub removed: Vec<String>,
    /// Bytes of the files in them.
    pub freed: u64,
    /// Why some could not be looked at.
    pub failures: Vec<Failure>,
}

/// Removes the volumes that no container uses and that `filter` accepts: those
/// that nobody named, or with `all` all of them.
pub fn prune(paths: &Paths, all: bool, filter: &VolumeFilter) -> Result<Pruned> {
    refresh(paths)?;
    let (mut chosen, failures) = volumes::list(paths)?;
    chosen.retain(|volume| {
        let is_meant = all || volume.is_anonymous();
        is_meant && filter.accepts(volume.name.as_str(), &volume.labels)
    });
    let mut pruned = Pruned { failures, ..Pruned::default() };
    let used = uses::of_volumes(paths)?;
    chosen.retain(|volume| !used.contains_key(volume.name.as_str()));
    if !chosen.is_empty() {
        remove_all(paths, &chosen, &mut pruned)?;
    }
    events::write(paths, &[Event::of_prune(EventKind::Volume, pruned.freed)]);
    Ok(pruned)
}

/// Removes those of `chosen` that no container uses by now.
fn remove_all(paths: &Paths, chosen: &[Volume], pruned: &mut Pruned) -> Result<()> {
    // Counted before the lock is taken: large volumes take their time.
    let sizes = sizes(paths, chosen)?;
    let _guard = volumes::hold_alone(paths)?;
    let used = uses::of_volumes(paths)?;
    for (volume, size) in chosen.iter().zip(sizes).filter(|(volume, _)| !used.contains_key(volume.name.as_str())) {
        match volumes::remove(paths, &volume.name) {
            Err(failure) if failure.kind == Kind::NotFound => continue,
            result => result?,
        }
        events::write(paths, &[Event::of_volume("destroy", volume.name.as_str())]);
        pruned.removed.push(volume.name.as_str().to_owned());
        pruned.freed = pruned.freed.saturating_add(size);
    }
    Ok(())
}

/// The bytes of the files in each volume, as far as they can be counted.
fn sizes(paths: &Paths, volumes: &[Volume]) -> Result<Vec<u64>> {
    let mut base = Base::find(paths)?;
    let counter = Counter::start(&mut base)?;
    let measured = counter.measure(volumes.iter().map(|volume| volume.data.clone()).collect())?;
    Ok(measured.into_iter().map(|measured| measured.bytes).collect())
}
