//! Which blobs are needed, and the lock between those who bring images and
//! those who delete what nobody needs.
//!
//! ```text
//!   shared      pull, load, import, tag: from the first blob that is looked
//!               for until the tag that needs it is set; repair and mount,
//!               while they need what is here
//!   exclusive   a collection: from reading the tags until all is deleted
//! ```
//!
//! So a collection never sees blobs whose tag is about to be set. Killed at
//! any point, a process leaves whole blobs, layers and tags, and the kernel
//! lets go of its lock. Running a container takes no lock: it is seen by its
//! own directory (engine/removal.rs).

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};

use super::blobs::Blobs;
use super::descriptor::Role;
use super::digest::Digest;
use super::lists::List;
use super::lookup;
use super::manifest::Document;
use super::tags::Tag;
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::{self, Paths};

/// A held lock; let go when dropped.
#[derive(Debug)]
pub struct Guard {
    _lock: File,
}

/// Keeps collections away while an image is brought or named; waits for one
/// that is under way.
pub fn hold(paths: &Paths) -> Result<Guard> {
    let lock = open(paths)?;
    lock.lock_shared().doing(|| format!("lock \"{}\"", paths.images_lock().display()))?;
    Ok(Guard { _lock: lock })
}

/// Keeps everybody away who brings images; `None` if somebody is at it.
pub fn try_collect(paths: &Paths) -> Result<Option<Guard>> {
    let lock = open(paths)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Guard { _lock: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(Failure::from(error).doing(format!("lock \"{}\"", paths.images_lock().display())))
        }
    }
}

fn open(paths: &Paths) -> Result<File> {
    let path = paths.images_lock();
    paths::make_private(&paths.data)?;
    // Read-write, since NFS maps flock(2) to a lock that needs it.
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(&path).doing(|| format!("open \"{}\"", path.display()))
}

/// What an image is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Indexes, manifests, configs and layers as received.
    pub blobs: BTreeSet<Digest>,
    /// The layers by their diff ids.
    pub diff_ids: BTreeSet<Digest>,
}

impl Parts {
    /// Adds what `tag` needs. A tag whose documents cannot be read is an
    /// error: what it needs is not known then.
    pub fn add(&mut self, blobs: &Blobs, tag: &Tag) -> Result<()> {
        let (manifest, config) = lookup::documents(blobs, &tag.manifest)?;
        self.blobs.extend([tag.manifest.digest, tag.config, manifest.config.digest]);
        self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        self.diff_ids.extend(config.rootfs.diff_ids);
        if let Some(source) = tag.source {
            add_indexes(blobs, source, limits::INDEX_DEPTH_MAX, &mut self.blobs);
        }
        Ok(())
    }

    /// Adds what a list needs: its images' documents, and of their layers what
    /// is here; a list may be of images that are elsewhere.
    pub fn add_list(&mut self, blobs: &Blobs, list: &List) -> Result<()> {
        let contents = list.contents(blobs)?;
        self.blobs.insert(list.index.digest);
        for entry in &contents.manifests {
            let (manifest, _) = lookup::documents(blobs, &entry.descriptor())?;
            self.blobs.extend([entry.digest, manifest.config.digest]);
            self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
        Ok(())
    }
}

/// The index at `digest` and those within it that are here. One that is
/// missing or damaged is not needed to run the image.
fn add_indexes(blobs: &Blobs, digest: Digest, depth: usize, needed: &mut BTreeSet<Digest>) {
    if depth == 0 || !needed.insert(digest) {
        return;
    }
    let bytes = blobs.read_verified(&digest, limits::MANIFEST_BYTES_MAX);
    if let Ok(Document::Index(index)) = bytes.and_then(|bytes| Document::parse(&bytes, None)) {
        for entry in index.manifests.iter().filter(|entry| entry.role() == Role::Index) {
            add_indexes(blobs, entry.digest, depth - 1, needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::ImageConfig;
    use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
    use crate::image::lists;
    use crate::image::manifest::Manifest;

    fn paths(dir: &tempfile::TempDir) -> Paths {
        Paths::new(dir.path().join("data"), dir.path().join("run"))
    }

    #[test]
    fn one_collects_or_many_bring() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let (first, second) = (hold(&paths).unwrap(), hold(&paths).unwrap());
        assert!(try_collect(&paths).unwrap().is_none());
        drop((first, second));
        let collects = try_collect(&paths).unwrap();
        assert!(collects.is_some() && try_collect(&paths).unwrap().is_none());
    }

    /// Keeps an image of one layer: layer, config and manifest.
    fn image(blobs: &Blobs) -> (Descriptor, Descriptor, Descriptor) {
        let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"layer");
        let mut config = ImageConfig::default();
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = vec![layer.digest];
        let config = Descriptor::of(OCI_CONFIG, &blobs_put(blobs, config.to_bytes().unwrap()));
        let manifest = blobs_put(blobs, Manifest::new(config.clone(), vec![layer.clone()]).to_bytes().unwrap());
        (layer, config, Descriptor::of(OCI_MANIFEST, &manifest))
    }

    #[test]
    fn an_image_needs_its_indexes_and_layers() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&paths(&dir)).unwrap();
        let (layer, config, manifest) = image(&blobs);
        let index = |entries: &[&Descriptor]| {
            let json = serde_json::json!({"schemaVersion": 2, "manifests": entries});
            Descriptor::of(OCI_INDEX, &blobs_put(&blobs, json.to_string().into_bytes()))
        };
        let inner = index(&[&manifest]);
        let outer = index(&[&inner]);
        let tag = Tag::new(None, manifest.clone(), config.digest).pulled_as(outer.digest);
        let mut parts = Parts::default();
        parts.add(&blobs, &tag).unwrap();
        let all = [&layer, &config, &manifest, &inner, &outer].map(|descriptor| descriptor.digest);
        assert_eq!(parts.blobs, BTreeSet::from(all));
        assert_eq!(parts.diff_ids, BTreeSet::from([layer.digest]));
        blobs.remove(&manifest.digest).unwrap();
        assert!(Parts::default().add(&blobs, &tag).is_err());
    }

    #[test]
    fn a_list_needs_its_images() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let blobs = Blobs::open(&paths).unwrap();
        let (layer, config, manifest) = image(&blobs);
        let mut contents = lists::Contents::default();
        contents.insert(lists::Entry::new(&manifest, crate::image::platform::Platform::host()));
        let reference = crate::image::reference::Reference::parse_local("web").unwrap();
        let list = List::new(reference).keep(&paths, &contents).unwrap();
        let mut parts = Parts::default();
        parts.add_list(&blobs, &list).unwrap();
        let all = [list.index.digest, manifest.digest, config.digest, layer.digest];
        assert_eq!((parts.blobs, parts.diff_ids.len()), (BTreeSet::from(all), 0));
        blobs.remove(&config.digest).unwrap();
        assert!(Parts::default().add_list(&blobs, &list).is_err(), "what it needs is not known");
    }

    fn blobs_put(blobs: &Blobs, bytes: Vec<u8>) -> Vec<u8> {
        blobs.put(&bytes).unwrap();
        bytes
    }
}
