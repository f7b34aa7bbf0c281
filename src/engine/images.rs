//! Images in the store: listed and named for people. fetch.rs and transfer.rs
//! bring them in, unpack.rs unpacks them, removal.rs removes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup::{self, StoredImage};
use crate::image::manifest::Manifest;
use crate::image::reference::Reference;
use crate::image::stores;
use crate::image::tags::{self, Tag};
use crate::paths::Paths;
use crate::storage::layers;

/// A name in the store, or an image that has none.
#[derive(Debug)]
pub struct Listed {
    /// The name and what it stands for.
    pub tag: Tag,
    /// The image's config; a failure where it is damaged.
    pub config: Result<ImageConfig>,
    /// Bytes on disk: unpacked if it is, else as received.
    pub size: u64,
}

/// Every tag with its image.
pub fn list(paths: &Paths) -> Result<Vec<Listed>> {
    let blobs = Blobs::open(paths)?;
    let sizes = Sizes::read(paths)?;
    let listed = tags::list(paths)?.into_iter().map(|tag| match lookup::documents(&blobs, &tag.manifest) {
        Ok((manifest, config)) => {
            let size = sizes.of(&config).unwrap_or_else(|| packed_size(&tag.manifest, &manifest));
            Listed { tag, config: Ok(config), size }
        }
        Err(failure) => Listed { tag, config: Err(failure), size: 0 },
    });
    Ok(listed.collect())
}

/// The image that `text` names, with its size as [`list`] tells it.
pub fn inspect(paths: &Paths, text: &str) -> Result<(StoredImage, u64)> {
    let image = lookup::find(paths, text)?;
    let size = Sizes::read(paths)?.of(&image.config).unwrap_or_else(|| image.size());
    Ok((image, size))
}

/// Gives the image `source` the name `target` as well; a name without a
/// registry is one of our own.
pub fn tag(paths: &Paths, source: &str, target: &str) -> Result<Reference> {
    let reference = Reference::parse_local(target)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("the new name \"{target}\" cannot have a digest"))
            .hint("a digest comes from the content; give NAME or NAME:TAG"));
    }
    let _guard = garbage::hold(paths)?;
    let found = lookup::find_tag(paths, source)?;
    if found.store.is_some() {
        stores::adopt(&Blobs::open(paths)?, &found)?;
    }
    let tag = Tag::new(Some(reference.clone()), found.manifest, found.config);
    tags::set(paths, &tag)?;
    Ok(reference)
}

/// Bytes of unpacked layers.
struct Sizes {
    by_id_map: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Sizes {
    fn read(paths: &Paths) -> Result<Self> {
        let mut by_id_map: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for layer in layers::list(paths)? {
            let sizes = by_id_map.entry(layer.id.id_map().to_owned()).or_default();
            sizes.insert(layer.id.diff_id().to_owned(), layer.summary.bytes);
        }
        Ok(Self { by_id_map })
    }

    /// `None` unless all layers are unpacked for one id map. A layer that is
    /// in the image twice is on disk once.
    fn of(&self, config: &ImageConfig) -> Option<u64> {
        let layers: BTreeSet<String> = config.rootfs.diff_ids.iter().map(Digest::hex).collect();
        self.by_id_map.values().find_map(|sizes| layers.iter().map(|layer| sizes.get(layer)).sum())
    }
}

fn packed_size(descriptor: &Descriptor, manifest: &Manifest) -> u64 {
    let layers = manifest.layers.iter().map(|layer| layer.size);
    layers.fold(descriptor.size.saturating_add(manifest.config.size), u64::saturating_add)
}
