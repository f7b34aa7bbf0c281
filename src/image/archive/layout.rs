//! An OCI image layout, as a directory or in a tar.

use std::io;

use super::source::Source;
use super::{Found, Loaded};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::layout::{self, INDEX_FILE, Named};
use crate::image::manifest::{Document, Manifest};
use crate::image::platform::Platform;
use crate::limits;

/// Brings in every image of `index.json` that `platform` can run.
pub(super) fn load(blobs: &Blobs, source: &Source, marker: &[u8], platform: &Platform) -> Result<Vec<Found>> {
    layout::check_marker(marker)?;
    let bytes = source.read(INDEX_FILE, limits::MANIFEST_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| Failure::user(format!("the archive has no file \"{INDEX_FILE}\"")))?;
    let images = layout::images(&bytes)?;
    layout::check_count(&images)?;
    let runs_here = |image: &Named| image.entry.platform.as_ref().is_none_or(|other| platform.accepts(other));
    if !images.is_empty() && !images.iter().any(runs_here) {
        let entries: Vec<Descriptor> = images.into_iter().map(|image| image.entry).collect();
        return Err(platform.select(&entries).err().unwrap_or_else(|| Failure::bug("an image runs here after all")));
    }
    images.iter().filter(|image| runs_here(image)).map(|image| load_image(blobs, source, image, platform)).collect()
}

fn load_image(blobs: &Blobs, source: &Source, image: &Named, platform: &Platform) -> Result<Found> {
    let (descriptor, manifest) = resolve(blobs, source, &image.entry, platform)?;
    copy_blob(blobs, source, &manifest.config)?;
    let id = manifest.config.digest;
    let config = ImageConfig::parse(&blobs.read_verified(&id, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    for layer in &manifest.layers {
        copy_blob(blobs, source, layer)?;
    }
    let (source, references) = (Some(image.entry.digest), image.names.clone());
    Ok(Found { image: Loaded { manifest: descriptor, id, references, source }, config })
}

fn resolve(blobs: &Blobs, source: &Source, entry: &Descriptor, platform: &Platform) -> Result<(Descriptor, Manifest)> {
    let mut entry = entry.clone();
    for _ in 0..limits::INDEX_DEPTH_MAX {
        if entry.size > limits::MANIFEST_BYTES_MAX {
            return Err(Failure::user(format!("the manifest is larger than {} bytes", limits::MANIFEST_BYTES_MAX)));
        }
        copy_blob(blobs, source, &entry)?;
        let bytes = blobs.read_verified(&entry.digest, limits::MANIFEST_BYTES_MAX)?;
        match Document::parse(&bytes, Some(&entry.media_type))? {
            Document::Manifest(manifest) => return Ok((Descriptor::of(entry.media_type, &bytes), manifest)),
            Document::Index(index) => entry = platform.select(&index.manifests)?.clone(),
        }
    }
    Err(Failure::user(format!("indexes lie within each other more than {} deep", limits::INDEX_DEPTH_MAX)))
}

/// Brings a blob into the store, verified.
fn copy_blob(blobs: &Blobs, source: &Source, blob: &Descriptor) -> Result<()> {
    if blobs.has(blob)? {
        return Ok(());
    }
    let Some(mut member) = source.member(&layout::blob_path(&blob.digest))? else {
        return Err(Failure::user(format!("the archive has no blob {}", blob.digest)));
    };
    let mut writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
    io::copy(&mut member, &mut writer).doing(|| format!("read blob {}", blob.digest))?;
    writer.finish().map(drop)
}
