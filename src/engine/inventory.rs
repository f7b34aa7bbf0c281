//! What images there are: all of them with their names, documents and sizes,
//! chosen by filters.
//!
//! Nothing is locked: other commands may bring and remove images meanwhile. An
//! image that goes while it is being read is not there; only one whose tag
//! still stands and whose documents cannot be read is damaged.
//!
//! **Sizes** are bytes of content: a layer counts what its unpacked files hold
//! (holes not counted), or, where it is not unpacked, what its blob has. A
//! layer that is in an image twice is on disk once. `shared` is what other
//! images have as well; it is freed only with the last of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::options::filter::ImageFilter;
use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::lookup::{self, StoredImage};
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::stores;
use crate::image::tags::{self, Tag};
use crate::paths::Paths;
use crate::storage::layers;

/// Everything there is.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The images, newest first; those that do not tell their age last.
    pub images: Vec<Item>,
    /// Why tags could not be read.
    pub damaged: Vec<Failure>,
}

/// One image, however many names it has.
#[derive(Debug)]
pub struct Item {
    /// The config's digest.
    pub id: Digest,
    /// Its names, and what each stands for; one without a name for an image
    /// that has none.
    pub tags: Vec<Tag>,
    /// Its documents; a failure where they are damaged.
    pub documents: Result<(Manifest, ImageConfig)>,
    /// What it takes.
    pub sizes: Sizes,
}

/// What an image takes, in bytes of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// All its layers.
    pub size: u64,
    /// Those of them that other images have as well.
    pub shared: u64,
    /// Its blobs as they were received: layers, config and manifest.
    pub packed: u64,
}

impl Sizes {
    /// What no other image has.
    pub fn unique(&self) -> u64 {
        self.size - self.shared
    }
}

impl Item {
    /// When its author says it was made.
    pub fn created(&self) -> Option<Timestamp> {
        self.documents.as_ref().ok().and_then(|(_, config)| created(config))
    }

    /// Its names.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.tags.iter().filter_map(|tag| tag.reference.as_ref())
    }

    /// Its layers with their diff ids, lowest first; none where it is damaged.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, &Digest)> {
        let documents = self.documents.as_ref().ok();
        documents.into_iter().flat_map(|(manifest, config)| manifest.layers.iter().zip(&config.rootfs.diff_ids))
    }

    /// How people are told which it is: by a name, else by its id.
    pub fn shown_name(&self) -> String {
        self.references().next().map_or_else(|| self.id.short(), Reference::familiar)
    }
}

/// When an image was made; an author may leave it out or write anything.
pub fn created(config: &ImageConfig) -> Option<Timestamp> {
    config.created.as_deref().and_then(|text| text.parse().ok())
}

/// All images of our own.
pub fn read(paths: &Paths) -> Result<Inventory> {
    let (all, damaged) = tags::list_readable(paths)?;
    let images = gather(paths, all)?;
    Ok(Inventory { images, damaged: damaged.into_iter().map(|damaged| damaged.failure).collect() })
}

/// The same with those of the read-only stores. A store that cannot be read is
/// a failure beside the rest.
pub fn read_all(paths: &Paths) -> Result<Inventory> {
    let (mut all, damaged) = tags::list_readable(paths)?;
    let mut failures: Vec<Failure> = damaged.into_iter().map(|damaged| damaged.failure).collect();
    let blobs = Blobs::open(paths)?;
    for store in &paths.image_stores {
        match stores::list(store, &blobs, &Platform::host()) {
            Ok((tags, damaged)) => {
                all.extend(tags);
                failures.extend(damaged);
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok(Inventory { images: gather(paths, all)?, damaged: failures })
}

/// The images that tags stand for which were read a moment ago.
fn gather(paths: &Paths, all: Vec<Tag>) -> Result<Vec<Item>> {
    let blobs = Blobs::open(paths)?;
    let mut images: Vec<Item> = Vec::new();
    for tag in all {
        if let Some(image) = images.iter_mut().find(|image| image.id == tag.config && image.documents.is_ok()) {
            image.tags.push(tag);
            continue;
        }
        let documents = lookup::documents(&blobs, &tag.manifest);
        if documents.is_err() && !tags::is_current(paths, &tag) {
            // Removed since the tags were read. Replaced by another image: its
            // old one has lost this name, and the new one is seen next time.
            continue;
        }
        match images.iter_mut().find(|image| image.id == tag.config) {
            // The same config in another manifest, which can be read.
            Some(image) => {
                image.tags.push(tag);
                image.documents = documents;
            }
            None => images.push(Item { id: tag.config, tags: vec![tag], documents, sizes: Sizes::default() }),
        }
    }
    measure(&mut images, &LayerSizes::read(paths)?);
    let key = |image: &Item| (std::cmp::Reverse(image.created()), image.references().next().cloned());
    images.sort_by_cached_key(key);
    Ok(images)
}

/// Those images, and of them those names, that pass the filter; each name is
/// an entry of its own.
pub fn choose<'a>(inventory: &'a Inventory, filter: &ImageFilter, paths: &Paths) -> Result<Vec<(&'a Item, &'a Tag)>> {
    let times = |names: &[String]| names.iter().map(|name| time_of(inventory, paths, name)).collect::<Result<Vec<_>>>();
    let (before, since) = (times(&filter.before)?, times(&filter.since)?);
    let passes = |image: &Item| {
        let labels = image.documents.as_ref().map(|(_, config)| config.config.labels.clone()).unwrap_or_default();
        let created = image.created();
        let is_made = |check: &dyn Fn(Timestamp) -> bool| created.is_some_and(check);
        filter.accepts_labels(&labels)
            && before.iter().all(|other| is_made(&|time| time < *other))
            && since.iter().all(|other| is_made(&|time| time > *other))
            && filter.until.is_none_or(|until| is_made(&|time| time < until))
            && filter.dangling.is_none_or(|dangling| image.references().next().is_none() == dangling)
    };
    let is_named = |tag: &Tag| {
        let named = |reference| filter.references.iter().any(|name| name.accepts(reference, tag.source.as_ref()));
        filter.references.is_empty() || tag.reference.as_ref().is_some_and(named)
    };
    let images = inventory.images.iter().filter(|image| passes(image));
    Ok(images.flat_map(|image| image.tags.iter().filter(|tag| is_named(tag)).map(move |tag| (image, tag))).collect())
}

fn time_of(inventory: &Inventory, paths: &Paths, name: &str) -> Result<Timestamp> {
    let tag = lookup::find_tag(paths, name)?;
    let image = inventory.images.iter().find(|image| image.id == tag.config);
    image
        .and_then(Item::created)
        .ok_or_else(|| Failure::user(format!("image \"{name}\" does not tell when it was made")))
}

/// The image that `text` names, and what it takes.
pub fn find(paths: &Paths, text: &str) -> Result<(StoredImage, Sizes)> {
    let image = lookup::find(paths, text)?;
    let all = read_all(paths)?;
    let sizes = all.images.iter().find(|other| other.id == image.id).map(|other| other.sizes);
    // Removed since it was found: what it took is known all the same.
    Ok((image, sizes.unwrap_or_default()))
}

fn measure(images: &mut [Item], layers: &LayerSizes) {
    let mut owners: BTreeMap<Digest, u64> = BTreeMap::new();
    for image in images.iter() {
        let distinct: BTreeSet<&Digest> = image.layers().map(|(_, id)| id).collect();
        distinct.into_iter().for_each(|id| *owners.entry(*id).or_default() += 1);
    }
    for image in images {
        let Ok((manifest, _)) = &image.documents else { continue };
        let mut sizes = Sizes::default();
        let mut seen = BTreeSet::new();
        for (blob, id) in image.layers().filter(|(_, id)| seen.insert(**id)) {
            let size = layers.of(blob, id);
            sizes.size = sizes.size.saturating_add(size);
            if owners.get(id).is_some_and(|owners| *owners > 1) {
                sizes.shared = sizes.shared.saturating_add(size);
            }
        }
        let documents = image.tags.first().map_or(0, |tag| tag.manifest.size).saturating_add(manifest.config.size);
        let mut seen = BTreeSet::new();
        let blobs = manifest.layers.iter().filter(|layer| seen.insert(layer.digest)).map(|layer| layer.size);
        sizes.packed = blobs.fold(documents, u64::saturating_add);
        image.sizes = sizes;
    }
}

/// Bytes of unpacked layers, by diff id.
#[derive(Debug, Default)]
pub struct LayerSizes(BTreeMap<String, u64>);

impl LayerSizes {
    /// Reads the records of all that is unpacked, for whichever ids. Records
    /// that cannot be read are passed over: `system check` tells of them.
    pub fn read(paths: &Paths) -> Result<Self> {
        let layers = layers::survey(paths)?.into_iter();
        Ok(Self(layers.filter_map(|(id, summary)| Some((id.diff_id().to_owned(), summary.ok()?.bytes))).collect()))
    }

    /// Bytes of a layer's files, or of its blob where it is not unpacked.
    pub fn of(&self, blob: &Descriptor, diff_id: &Digest) -> u64 {
        self.unpacked(diff_id).unwrap_or(blob.size)
    }

    /// Bytes of a layer's files.
    pub fn unpacked(&self, diff_id: &Digest) -> Option<u64> {
        self.0.get(&diff_id.hex()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::removal;
    use crate::image::archive::{self, ImportOptions};

    fn import(paths: &Paths, name: &str) {
        let reference = Some(Reference::parse_local(name).unwrap());
        let (message, changes, platform) = (Some(name.to_owned()), Vec::new(), Platform::host());
        let options = ImportOptions { reference, message, changes, platform };
        let image = archive::import(paths, &mut [0; 1024].as_slice(), &options).unwrap();
        archive::keep(paths, &image).unwrap();
    }

    #[test]
    fn what_goes_meanwhile_is_not_there_and_what_is_damaged_is() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        import(&paths, "goes");
        import(&paths, "stays");
        let all = tags::list(&paths).unwrap();
        removal::remove(&paths, "goes", false).unwrap();
        let images = gather(&paths, all).unwrap();
        assert_eq!(images.iter().map(Item::shown_name).collect::<Vec<_>>(), ["localhost/stays:latest"]);
        assert_eq!(images[0].sizes.shared, 0);
        std::fs::write(paths.blobs().join(images[0].id.hex()), "x").unwrap();
        let inventory = read(&paths).unwrap();
        assert!(inventory.images[0].documents.is_err() && inventory.damaged.is_empty());
        std::fs::write(paths.tags().join("localhost%2Fstays%3Alatest"), "x").unwrap();
        let inventory = read(&paths).unwrap();
        assert_eq!((inventory.images.len(), inventory.damaged.len()), (0, 1));
    }
}
