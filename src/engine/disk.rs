//! What everything that kelp keeps takes on disk, and what of it can go.
//!
//! Images take their unpacked layers, each once however many images share it,
//! and their blobs as received. Containers take what they changed and
//! their logs, volumes what is in them: their directories belong to subordinate ids, so a stage in the
//! base namespace measures them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inventory::{self, Item};
use super::{lifecycle, list, removal};
use crate::container::store::Container;
use crate::container::uses;
use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::digest::Digest;
use crate::image::garbage::Parts;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::census::Counter;
use crate::storage::measure::Measured;
use crate::storage::volumes::{self, Volume};
use crate::storage::{layers, sweep};

/// One kind of thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// How many there are.
    pub count: u64,
    /// How many of them are in use.
    pub active: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of what is not in use.
    pub reclaimable_bytes: u64,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Usage {
    /// Layers and blobs. In use is what a container was made from.
    pub images: Total,
    /// What containers changed and said. In use are those that live.
    pub containers: Total,
    /// In use is what a container has, running or not.
    pub volumes: Total,
    /// Each image and how many containers were made from it.
    pub each_image: Vec<(Item, u64)>,
    /// Each container and what it changed and said.
    pub each_container: Vec<(Container, Measured)>,
    /// Each volume, how many containers have it, and what is in it.
    pub each_volume: Vec<(Volume, u64, Measured)>,
    /// What could not be looked at.
    pub failures: Vec<Failure>,
}

/// Measures everything. The caller must be single-threaded.
pub fn measure(paths: &Paths) -> Result<Usage> {
    let mut usage = Usage::default();
    let (containers, damaged) = lifecycle::list(paths)?;
    usage.failures.extend(damaged);
    let (volumes, damaged) = volumes::list(paths)?;
    usage.failures.extend(damaged);
    add_images(paths, &containers, &mut usage)?;
    let mut roots = list::changes(&containers);
    let of_containers = roots.len();
    roots.extend(volumes.iter().map(|volume| volume.data.clone()));
    let mut measured = match roots.is_empty() {
        true => Vec::new(),
        false => Counter::start(&mut Base::find(paths)?)?.measure(roots)?,
    };
    let of_volumes = measured.split_off(of_containers);
    for (container, mut measured) in containers.into_iter().zip(list::together(&measured)) {
        measured.bytes = measured.bytes.saturating_add(list::log_bytes(&container));
        add(&mut usage.containers, container.record.status.is_live(), measured.bytes);
        usage.each_container.push((container, measured));
    }
    let users = uses::of_volumes(paths)?;
    for (volume, measured) in volumes.into_iter().zip(of_volumes) {
        let links = users.get(volume.name.as_str()).map_or(0, |users| users.len() as u64);
        add(&mut usage.volumes, links > 0, measured.bytes);
        usage.each_volume.push((volume, links, measured));
    }
    Ok(usage)
}

fn add(total: &mut Total, is_active: bool, bytes: u64) {
    total.count += 1;
    total.active += u64::from(is_active);
    total.bytes = total.bytes.saturating_add(bytes);
    if !is_active {
        total.reclaimable_bytes = total.reclaimable_bytes.saturating_add(bytes);
    }
}

fn add_images(paths: &Paths, containers: &[Container], usage: &mut Usage) -> Result<()> {
    let blobs = Blobs::open(paths)?;
    let inventory = inventory::read(paths)?;
    usage.failures.extend(inventory.damaged);
    let mut made: BTreeMap<Digest, u64> = BTreeMap::new();
    for id in containers.iter().filter_map(|container| container.record.image_id.parse().ok()) {
        *made.entry(id).or_default() += 1;
    }
    let mut needed = Parts::default();
    for id in made.keys() {
        usage.failures.extend(removal::add_container(&blobs, &id.to_string(), &mut needed).err());
    }
    for image in inventory.images {
        let users = made.get(&image.id).copied().unwrap_or(0);
        for tag in image.tags.iter().filter(|_| users > 0) {
            // A damaged image has nothing that a prune would keep.
            needed.add(&blobs, tag).ok();
        }
        usage.images.count += 1;
        usage.images.active += u64::from(users > 0);
        usage.each_image.push((image, users));
    }
    let layers = layers::survey(paths)?.into_iter().filter_map(|(id, summary)| {
        let is_needed = Digest::from_hex(id.diff_id()).is_ok_and(|id| needed.diff_ids.contains(&id));
        Some((is_needed, summary.ok()?.bytes))
    });
    let blobs = blobs.list()?.into_iter().map(|(digest, bytes)| (needed.blobs.contains(&digest), bytes));
    let partials = sweep::partials(paths)?.into_iter().map(|(_, bytes)| (false, bytes));
    for (is_needed, bytes) in layers.chain(blobs).chain(partials) {
        usage.images.bytes = usage.images.bytes.saturating_add(bytes);
        if !is_needed {
            usage.images.reclaimable_bytes = usage.images.reclaimable_bytes.saturating_add(bytes);
        }
    }
    Ok(())
}
