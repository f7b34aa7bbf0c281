//! Containers as a user asks for them: chosen by filters, with what they take;
//! and removed all at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::inventory::LayerSizes;
use super::lifecycle;
use super::options::container_filter::ContainerFilter;
use crate::container::events::{self, Event, Kind as EventKind};
use crate::container::record::Record;
use crate::container::restart::RestartPolicy;
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::lookup;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::census::Counter;
use crate::storage::measure::Measured;

/// Of which containers is told.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those that do not run, too.
    pub all: bool,
    /// At most so many, whether they run or not: those that were made last.
    pub last: Option<usize>,
    /// Only such.
    pub filter: ContainerFilter,
}

/// The containers that are wanted, newest first; and why others could not be
/// read.
pub fn containers(paths: &Paths, wanted: &Wanted) -> Result<(Vec<Container>, Vec<Failure>)> {
    let (mut containers, damaged) = lifecycle::list(paths)?;
    choose(paths, &mut containers, &wanted.filter)?;
    if !wanted.all && wanted.last.is_none() && !wanted.filter.asks_for_state() {
        containers.retain(|container| container.record.status.is_live());
    }
    containers.truncate(wanted.last.unwrap_or(usize::MAX));
    Ok((containers, damaged))
}

/// Keeps of all containers those that `filter` accepts.
fn choose(paths: &Paths, containers: &mut Vec<Container>, filter: &ContainerFilter) -> Result<()> {
    let made = |name: &String| Ok(store::find(paths, name)?.record.created_ns);
    let before = filter.before.iter().map(made).collect::<Result<Vec<_>>>().doing(|| "use filter \"before\"")?;
    let since = filter.since.iter().map(made).collect::<Result<Vec<_>>>().doing(|| "use filter \"since\"")?;
    let mut ancestry = Ancestry::of(paths, &filter.ancestors)?;
    containers.retain(|Container { record, .. }| {
        filter.accepts(record)
            && before.iter().all(|other| record.created_ns < *other)
            && since.iter().all(|other| record.created_ns > *other)
            && ancestry.accepts(record)
    });
    Ok(())
}

/// Images that containers may be made of.
struct Ancestry<'a> {
    names: &'a [String],
    images: Vec<(Digest, Vec<Digest>)>,
    blobs: Option<Blobs>,
    /// What was found out, by image.
    known: BTreeMap<String, bool>,
}

impl<'a> Ancestry<'a> {
    fn of(paths: &Paths, names: &'a [String]) -> Result<Self> {
        let mut ancestry = Self { names, images: Vec::new(), blobs: None, known: BTreeMap::new() };
        for name in names {
            match lookup::find(paths, name) {
                Ok(image) => ancestry.images.push((image.id, image.config.rootfs.diff_ids)),
                // Containers outlive the image's name.
                Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Usage) => {}
                Err(failure) => return Err(failure.doing("use filter \"ancestor\"")),
            }
        }
        if !names.is_empty() {
            ancestry.blobs = Some(Blobs::open(paths)?);
        }
        Ok(ancestry)
    }

    fn accepts(&mut self, record: &Record) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let hex = record.image_id.strip_prefix("sha256:").unwrap_or(&record.image_id);
        let is_named = |name: &String| {
            record.image == *name || !hex.is_empty() && hex.starts_with(name.strip_prefix("sha256:").unwrap_or(name))
        };
        if self.names.iter().any(is_named) {
            return true;
        }
        let known = self.known.get(&record.image_id).copied();
        known.unwrap_or_else(|| {
            let is_descendant = self.is_descendant(&record.image_id).unwrap_or(false);
            self.known.insert(record.image_id.clone(), is_descendant);
            is_descendant
        })
    }

    /// Whether an image begins with all the layers of one of ours.
    fn is_descendant(&self, image_id: &str) -> Option<bool> {
        let id: Digest = image_id.parse().ok()?;
        let layers = layers_of(self.blobs.as_ref()?, &id).ok()?;
        let is_below = |ancestor: &[Digest]| !ancestor.is_empty() && layers.starts_with(ancestor);
        Some(self.images.iter().any(|(own, ancestor)| *own == id || is_below(ancestor)))
    }
}

/// The layers of an image of which perhaps only the config is left.
fn layers_of(blobs: &Blobs, id: &Digest) -> Result<Vec<Digest>> {
    let bytes = blobs.read_verified(id, limits::CONFIG_BYTES_MAX)?;
    Ok(ImageConfig::parse(&bytes)?.rootfs.diff_ids)
}

/// What a container takes, in bytes of content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What it changed or added.
    pub own: u64,
    /// The same with its image's layers; those it shares with others.
    pub all: u64,
}

/// What each of `containers` takes; what cannot be counted is left out. The
/// caller is single-threaded.
pub fn sizes(paths: &Paths, containers: &[Container]) -> Result<Vec<Sizes>> {
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    let mut base = Base::find(paths)?;
    let measured = Counter::start(&mut base)?.measure(changes(containers))?;
    let (layers, blobs) = (LayerSizes::read(paths)?, Blobs::open(paths)?);
    let mut images: BTreeMap<String, u64> = BTreeMap::new();
    let size = |(Container { record, .. }, measured): (&Container, Measured)| {
        let own = measured.bytes;
        let image = images.entry(record.image_id.clone()).or_insert_with(|| image_size(&layers, &blobs, record));
        Sizes { own, all: own.saturating_add(*image) }
    };
    Ok(containers.iter().zip(together(&measured)).map(size).collect())
}

/// Where the changes of each container are, two directories for each.
pub(super) fn changes(containers: &[Container]) -> Vec<PathBuf> {
    // `changes` are those of the overlays of --rootfs /.
    let parts = |container: &Container| ["upper", "changes"].map(|part| container.directory.join(part));
    containers.iter().flat_map(parts).collect()
}

/// What was measured in those, by container.
pub(super) fn together(measured: &[Measured]) -> impl Iterator<Item = Measured> {
    measured.chunks(2).map(|parts| parts.iter().fold(Measured::default(), |sum, part| sum.plus(*part)))
}

/// Bytes of what a container said, as far as kelp keeps it.
pub(super) fn log_bytes(Container { directory, record }: &Container) -> u64 {
    let name = format!("{}-json.log", record.id);
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with(&name));
    logs.filter_map(|file| Some(file.metadata().ok()?.len())).fold(0, u64::saturating_add)
}

/// Bytes of the unpacked layers of a container's image, which stay as long as
/// the container does.
fn image_size(layers: &LayerSizes, blobs: &Blobs, record: &Record) -> u64 {
    let Ok(id) = record.image_id.parse() else { return 0 };
    let mut all = layers_of(blobs, &id).unwrap_or_default();
    all.sort_unstable();
    all.dedup();
    all.iter().filter_map(|layer| layers.unpacked(layer)).fold(0, u64::saturating_add)
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of containers that are gone.
    pub removed: Vec<String>,
    /// Bytes of what they had changed.
    pub freed: u64,
    /// Why others could not be removed.
    pub failures: Vec<Failure>,
}

/// Removes all containers that do not run and that `filter` accepts. Their
/// volumes stay.
pub fn prune(paths: &Paths, filter: &ContainerFilter) -> Result<Pruned> {
    let (mut containers, failures) = lifecycle::list(paths)?;
    choose(paths, &mut containers, filter)?;
    containers.retain(|container| container.record.is_idle());
    let mut pruned = Pruned { failures, ..Pruned::default() };
    let sizes = sizes(paths, &containers)?;
    for (container, size) in containers.iter().zip(sizes) {
        let freed = size.own.saturating_add(log_bytes(container));
        match lifecycle::remove_idle(paths, container) {
            Ok(true) => {
                pruned.removed.push(container.record.id.clone());
                pruned.freed = pruned.freed.saturating_add(freed);
            }
            // Started meanwhile, or removed by somebody else.
            Ok(false) => {}
            Err(failure) => pruned.failures.push(failure),
        }
    }
    events::write(paths, &[Event::of_prune(EventKind::Container, pruned.freed)]);
    Ok(pruned)
}

/// The names of containers that `start --all` starts: of those that do not run
/// all that `filter` accepts, but for `unless-stopped` ones that a person had
/// stopped. Oldest first, as they came.
pub fn to_start(paths: &Paths, filter: &ContainerFilter) -> Result<(Vec<String>, Vec<Failure>)> {
    let wanted = Wanted { all: true, last: None, filter: filter.clone() };
    let (containers, damaged) = containers(paths, &wanted)?;
    let is_idle = |record: &Record| {
        let stays = record.restart == RestartPolicy::UnlessStopped && record.stopped_by_user;
        record.is_idle() && !stays
    };
    let idle = containers.into_iter().rev().filter(|container| is_idle(&container.record));
    Ok((idle.map(|container| container.record.name).collect(), damaged))
}
