//! Removes all that nobody needs: containers that have ended, then what only
//! they held, volumes and images.

use super::options::prune_filter::PruneFilter;
use super::removal::{self, Collected, Removed};
use super::{list, volume_removal};
use crate::error::{Failure, Result};
use crate::paths::Paths;

/// What became of it.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Ids of containers that are gone.
    pub containers: Vec<String>,
    /// Names of volumes that are gone.
    pub volumes: Vec<String>,
    /// What happened to images.
    pub images: Vec<Removed>,
    /// What was collected with them.
    pub collected: Collected,
    /// Bytes of all that.
    pub freed: u64,
    /// What could not be done; the rest was.
    pub failures: Vec<Failure>,
}

/// Prunes. Images are those without a name, with `all` those that no container
/// was made from; volumes those that nobody named.
pub fn prune(paths: &Paths, all: bool, filter: &PruneFilter) -> Pruned {
    let mut pruned = Pruned::default();
    if let Some(done) = pruned.kept(list::prune(paths, &filter.containers)) {
        pruned.containers = done.removed;
        pruned.add(done.freed, done.failures);
    }
    if let Some(volumes) = &filter.volumes
        && let Some(done) = pruned.kept(volume_removal::prune(paths, false, volumes))
    {
        pruned.volumes = done.removed;
        pruned.add(done.freed, done.failures);
    }
    if let Some((images, collected)) = pruned.kept(removal::prune(paths, all, &filter.images)) {
        pruned.images = images;
        pruned.add(collected.freed, Vec::new());
        pruned.collected = collected;
    }
    pruned
}

impl Pruned {
    fn kept<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|failure| self.failures.push(failure)).ok()
    }

    fn add(&mut self, freed: u64, failures: Vec<Failure>) {
        self.freed = self.freed.saturating_add(freed);
        self.failures.extend(failures);
    }
}
