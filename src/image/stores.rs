//! Read-only stores: OCI image layouts that somebody else writes and we read
//! in place ([`crate::paths::ImageStore`], docs/reference/stores.md).
//!
//! There is no lock in them: a lookup reads `index.json` once, which is
//! replaced by rename and so always whole, and blobs never change. Whoever may
//! write there is not trusted: documents are verified by digest before they
//! are parsed, layers by their diff ids while they are unpacked, no link is
//! followed, and what is no regular file is passed over.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use super::blobs::Blobs;
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::layout::{self, Named};
use super::platform::Platform;
use super::reference::Reference;
use super::tags::Tag;
use crate::error::{Context, Failure, Result};
use crate::kernel::{self, Errno};
use crate::limits;
use crate::paths::ImageStore;

/// The blob, if the store has it and can be read.
pub(super) fn blob(store: &ImageStore, digest: &Digest) -> Option<File> {
    open(store, &layout::blob_path(digest)).ok().flatten()
}

/// The images that a store lists, with the failures of those that cannot be
/// read.
pub fn list(store: &ImageStore, blobs: &Blobs, platform: &Platform) -> Result<(Vec<Tag>, Vec<Failure>)> {
    let (mut tags, mut failures) = (Vec::new(), Vec::new());
    for image in images(store)? {
        match tag(store, blobs, &image, None, platform) {
            Ok(tag) => {
                let unnamed = image.names.is_empty().then_some(None);
                for reference in image.names.into_iter().map(Some).chain(unnamed) {
                    let mut tag = tag.clone();
                    tag.reference = reference;
                    tags.push(tag);
                }
            }
            Err(failure) => failures.push(failure.doing(format!("read an image of \"{}\"", store.path().display()))),
        }
    }
    Ok((tags, failures))
}

/// The image with one of these names, the first that there is; a name at a
/// digest is that of an entry or of the image behind it.
pub(super) fn find_named(
    store: &ImageStore,
    blobs: &Blobs,
    candidates: &[Reference],
    platform: &Platform,
) -> Result<Option<Tag>> {
    let images = images(store)?;
    let doing = || format!("read an image of \"{}\"", store.path().display());
    for wanted in candidates {
        if let Some(image) = images.iter().find(|image| image.names.contains(wanted)) {
            return tag(store, blobs, image, Some(wanted), platform).map(Some).doing(doing);
        }
        let Some(digest) = wanted.digest() else { continue };
        for image in &images {
            let Some(name) = image.names.iter().find(|name| name.name() == wanted.name()) else { continue };
            match tag(store, blobs, image, Some(name), platform) {
                Ok(tag) if image.entry.digest == *digest || tag.manifest.digest == *digest => return Ok(Some(tag)),
                // Another image's damage is not ours.
                Err(failure) if image.entry.digest == *digest => return Err(failure.doing(doing())),
                _ => {}
            }
        }
    }
    Ok(None)
}

fn tag(store: &ImageStore, blobs: &Blobs, image: &Named, name: Option<&Reference>, platform: &Platform) -> Result<Tag> {
    let read = |entry: &Descriptor| blobs.read_verified(&entry.digest, limits::MANIFEST_BYTES_MAX);
    let (manifest, document) = layout::resolve(&image.entry, platform, &read)?;
    let mut tag = Tag::new(name.cloned(), manifest, document.config.digest).pulled_as(image.entry.digest);
    tag.store = Some(store.clone());
    Ok(tag)
}

/// The names that a store lists.
pub(super) fn names(store: &ImageStore) -> Result<Vec<Reference>> {
    Ok(images(store)?.into_iter().flat_map(|image| image.names).collect())
}

/// Copies the documents of an image that a store lists into our own: with
/// them, what its containers and its unpacked layers are is known whatever
/// becomes of the store. Layers stay where they are. The caller holds
/// [`super::garbage::hold`].
pub fn adopt(blobs: &Blobs, tag: &Tag) -> Result<()> {
    let manifest = blobs.read_verified(&tag.manifest.digest, limits::MANIFEST_BYTES_MAX)?;
    let config = blobs.read_verified(&tag.config, limits::CONFIG_BYTES_MAX)?;
    if let Some(source) = tag.source {
        blobs.put(&blobs.read_verified(&source, limits::MANIFEST_BYTES_MAX)?)?;
    }
    blobs.put(&manifest)?;
    blobs.put(&config).map(drop)
}

/// The images of all stores that were adopted: their unpacked layers are kept
/// as long as the store lists them. A store that cannot be read has none.
pub fn adopted(stores: &[ImageStore], blobs: &Blobs, platform: &Platform) -> Vec<Tag> {
    let mut tags = Vec::new();
    for store in stores {
        for image in images(store).unwrap_or_default() {
            // The own store's size: documents of other images are not asked for.
            if blobs.size(&image.entry.digest).is_ok_and(|size| size.is_some()) {
                tags.extend(tag(store, blobs, &image, None, platform));
            }
        }
    }
    tags
}

/// What `index.json` lists.
fn images(store: &ImageStore) -> Result<Vec<Named>> {
    let read = || -> Result<Vec<Named>> {
        let lacks = |name: &str| Failure::user(format!("it is not an image layout: it has no file \"{name}\""));
        let marker = read_document(store, layout::MARKER_FILE, limits::TAG_BYTES_MAX)?;
        layout::check_marker(&marker.ok_or_else(|| lacks(layout::MARKER_FILE))?)?;
        let index = read_document(store, layout::INDEX_FILE, limits::MANIFEST_BYTES_MAX)?;
        layout::images(&index.ok_or_else(|| lacks(layout::INDEX_FILE))?)
    };
    read()
        // Not "no such image": that would have it pulled.
        .map_err(|failure| failure.kind(crate::error::Kind::User))
        .doing(|| format!("look into image store \"{}\"", store.path().display()))
        .hint(|| "a store is what kelp save --format oci-dir writes; --image-store none does without those of the settings")
}

fn read_document(store: &ImageStore, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(store, name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).doing(|| format!("read \"{name}\""))?;
    if bytes.len() as u64 > max {
        return Err(Failure::user(format!("\"{name}\" is larger than {max} bytes")));
    }
    Ok(Some(bytes))
}

/// A regular file below the store.
fn open(store: &ImageStore, name: &str) -> Result<Option<File>> {
    let dir = kernel::open::open_dir(store.path())?;
    // O_NONBLOCK: opening a fifo must not wait for a writer (fifo(7)).
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let resolve = kernel::open::Resolve::BeneathNoLinks;
    let file = match kernel::open::openat2(dir.as_fd(), Path::new(name), flags, 0, resolve) {
        Ok(fd) => File::from(fd),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(error) if error.errno == Errno::ELOOP => {
            return Err(Failure::user(format!("\"{name}\" is a symbolic link, and links in a store are not followed")));
        }
        Err(error) => return Err(Failure::from(error)),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}
