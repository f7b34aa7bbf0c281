//! Images on their way out: what `kelp save` writes.
//!
//! First the plan: the documents of the format and the blobs behind them, each
//! once, all known to be here. Then they are written (`tarball`, `directory`),
//! byte for byte as they are kept: what is loaded again has the digests that
//! it had. The same images give the same bytes.
//!
//! A docker-archive is an OCI layout with docker's `manifest.json` beside it,
//! as docker save writes it since 25: `docker load` of any age, podman and
//! skopeo read it, and who knows OCI finds the real manifests.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::{directory, tarball};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::descriptor::{Descriptor, OCI_INDEX, Role};
use crate::image::digest::Digest;
use crate::image::layout;
use crate::image::lookup;
use crate::image::manifest::{Document, Index};
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::image::tags::Tag;
use crate::limits;

/// How images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar that is an OCI layout and has docker's `manifest.json`.
    DockerArchive,
    /// A tar of an OCI layout.
    OciArchive,
    /// An OCI layout as a directory; images are added to one that is there.
    OciDirectory,
}

/// Where they are written to.
pub enum Output<'a> {
    /// A file that appears whole or not at all; a directory for
    /// [`Format::OciDirectory`].
    Path(&'a Path),
    /// An open pipe, file or device.
    Stream(&'a File),
}

/// An image to be saved, with the name under which; without one where the
/// person gave an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// What the store has.
    pub tag: Tag,
    /// Its name there.
    pub name: Option<Reference>,
}

/// Writes images. `modified_s` is the time of all entries of a tar, in seconds
/// since 1970.
pub fn save(
    blobs: &Blobs,
    images: &[Chosen],
    format: Format,
    output: &Output<'_>,
    modified_s: u64,
    progress: &dyn Progress,
) -> Result<()> {
    let contents = plan(blobs, images)?;
    match (format, output) {
        (Format::OciDirectory, Output::Path(path)) => directory::write(blobs, &contents, path, progress),
        (Format::OciDirectory, Output::Stream(_)) => Err(Failure::bug("a directory in a stream")),
        (_, Output::Path(path)) => {
            let documents = documents(&contents, format)?;
            tarball::write_file(blobs, &documents, &contents.blobs, path, modified_s, progress)
        }
        (_, Output::Stream(file)) => {
            let documents = documents(&contents, format)?;
            tarball::write(blobs, &documents, &contents.blobs, file, modified_s, progress)
        }
    }
}

/// What is saved, before it has a form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Entries of `index.json`.
    pub(super) entries: Vec<Descriptor>,
    /// Entries of docker's `manifest.json`.
    items: Vec<Item>,
    /// Digests and lengths, documents of an image before its layers.
    pub(super) blobs: Vec<(Digest, u64)>,
}

/// An image in docker's `manifest.json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The documents of a tar, by name.
type Documents = Vec<(&'static str, Vec<u8>)>;

fn documents(contents: &Contents, format: Format) -> Result<Documents> {
    let json = |result: serde_json::Result<Vec<u8>>| result.map_err(|error| Failure::bug(error.to_string()));
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": contents.entries});
    // Before the blobs: who reads a pipe knows what will come.
    let mut documents =
        vec![(layout::MARKER_FILE, layout::MARKER.to_vec()), (layout::INDEX_FILE, json(serde_json::to_vec(&index))?)];
    if format == Format::DockerArchive {
        documents.push(("manifest.json", json(serde_json::to_vec(&contents.items))?));
    }
    Ok(documents)
}

fn plan(blobs: &Blobs, images: &[Chosen]) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut seen = BTreeSet::new();
    for Chosen { tag, name } in images {
        let shown = || name.as_ref().map_or_else(|| tag.config.short(), Reference::familiar);
        add(blobs, &mut contents, &mut seen, tag, name.as_ref()).doing(|| format!("save image \"{}\"", shown()))?;
    }
    // A place without a name says nothing beside one with a name.
    let named: BTreeSet<Digest> =
        contents.entries.iter().filter(|entry| !entry.annotations.is_empty()).map(|entry| entry.digest).collect();
    let mut unnamed = BTreeSet::new();
    contents.entries.retain(|entry| {
        !entry.annotations.is_empty() || (!named.contains(&entry.digest) && unnamed.insert(entry.digest))
    });
    if contents.entries.len() > limits::ARCHIVE_IMAGES_MAX {
        return Err(Failure::user(format!("one archive holds at most {} images", limits::ARCHIVE_IMAGES_MAX)));
    }
    Ok(contents)
}

fn add(
    blobs: &Blobs,
    contents: &mut Contents,
    seen: &mut BTreeSet<Digest>,
    tag: &Tag,
    name: Option<&Reference>,
) -> Result<()> {
    let (manifest, _) = lookup::documents(blobs, &tag.manifest)?;
    let indexes = indexes(blobs, tag);
    let image = indexes.first().unwrap_or(&tag.manifest);
    // A name at a digest is one for these bytes alone.
    let name = name.filter(|name| name.digest().is_none_or(|digest| *digest == image.digest));
    let entry = layout::entry(image, name);
    if !contents.entries.contains(&entry) {
        contents.entries.push(entry);
    }
    let parts = [&tag.manifest, &manifest.config].into_iter().chain(&manifest.layers);
    for blob in indexes.iter().chain(parts) {
        if seen.insert(blob.digest) {
            // Before the first byte is written: what is missing is told now.
            let size = blobs.file(&blob.digest)?.metadata()?.len();
            if size != blob.size {
                return Err(crate::image::blobs::damaged(&blob.digest));
            }
            contents.blobs.push((blob.digest, size));
        }
    }
    let config = layout::blob_path(&manifest.config.digest);
    let layers: Vec<String> = manifest.layers.iter().map(|layer| layout::blob_path(&layer.digest)).collect();
    // The whole name: podman would make localhost/alpine of docker's "alpine".
    let repo_tag = name.filter(|name| name.tag().is_some()).map(Reference::to_string);
    match contents.items.iter_mut().find(|item| item.config == config && item.layers == layers) {
        Some(item) => {
            let tags = item.repo_tags.get_or_insert_default();
            tags.extend(repo_tag.filter(|tag| !tags.contains(tag)));
        }
        None => contents.items.push(Item { config, repo_tags: repo_tag.map(|tag| vec![tag]), layers }),
    }
    Ok(())
}

/// The index that the image's name stood for, and those within it on the way
/// to the image, if they are all here: then the name keeps its digest.
fn indexes(blobs: &Blobs, tag: &Tag) -> Vec<Descriptor> {
    let Some(source) = tag.source.filter(|source| *source != tag.manifest.digest) else { return Vec::new() };
    let mut seen = BTreeSet::new();
    let mut read = |digest: &Digest| -> Option<(Descriptor, Index)> {
        // Once each: an index may list another a thousand times.
        if !seen.insert(*digest) {
            return None;
        }
        let bytes = blobs.read_verified(digest, limits::MANIFEST_BYTES_MAX).ok()?;
        match Document::parse(&bytes, None).ok()? {
            Document::Index(index) => {
                let media_type = index.media_type.as_deref().unwrap_or(OCI_INDEX);
                Some((Descriptor::of(media_type, &bytes), index))
            }
            Document::Manifest(_) => None,
        }
    };
    way(&mut read, &source, &tag.manifest.digest, limits::INDEX_DEPTH_MAX).unwrap_or_default()
}

/// The indexes from `from` to the one that lists `to`.
fn way(
    read: &mut dyn FnMut(&Digest) -> Option<(Descriptor, Index)>,
    from: &Digest,
    to: &Digest,
    depth: usize,
) -> Option<Vec<Descriptor>> {
    let (descriptor, index) = (depth > 0).then(|| read(from)).flatten()?;
    if index.manifests.iter().any(|entry| entry.digest == *to) {
        return Some(vec![descriptor]);
    }
    let mut inner = index.manifests.iter().filter(|entry| entry.role() == Role::Index);
    let rest = inner.find_map(|entry| way(read, &entry.digest, to, depth - 1))?;
    Some(std::iter::once(descriptor).chain(rest).collect())
}
