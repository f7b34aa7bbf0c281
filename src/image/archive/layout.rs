//! An OCI image layout, as a directory or in a tar.

use std::collections::BTreeMap;

use super::source::{self, Source};
use super::{Found, Loaded};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::layout::{self, INDEX_FILE, Named};
use crate::image::manifest::Manifest;
use crate::image::parallel;
use crate::image::platform::Platform;
use crate::limits;

/// Brings in every image of `index.json` that `platform` can run.
pub(super) fn load(blobs: &Blobs, source: &Source<'_>, marker: &[u8], platform: &Platform) -> Result<Vec<Found>> {
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
    let wanted = images.iter().filter(|image| runs_here(image));
    let found: Vec<(Found, Manifest)> =
        wanted.map(|image| read_documents(blobs, source, image, platform)).collect::<Result<_>>()?;
    // Images of one archive often share layers.
    let layers: BTreeMap<(Digest, u64), &Descriptor> = found
        .iter()
        .flat_map(|(_, manifest)| &manifest.layers)
        .map(|layer| ((layer.digest, layer.size), layer))
        .collect();
    let layers: Vec<&Descriptor> = layers.into_values().collect();
    parallel::each(&layers, super::threads(), |layer| copy_blob(blobs, source, layer))?;
    Ok(found.into_iter().map(|(found, _)| found).collect())
}

/// An image's documents, verified and kept.
fn read_documents(blobs: &Blobs, source: &Source<'_>, image: &Named, platform: &Platform) -> Result<(Found, Manifest)> {
    let (descriptor, manifest) = layout::resolve(&image.entry, platform, &|entry| {
        copy_blob(blobs, source, entry)?;
        blobs.read_verified(&entry.digest, limits::MANIFEST_BYTES_MAX)
    })?;
    copy_blob(blobs, source, &manifest.config)?;
    let id = manifest.config.digest;
    let config = ImageConfig::parse(&blobs.read_verified(&id, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    let (source, references) = (Some(image.entry.digest), image.names.clone());
    Ok((Found { image: Loaded { manifest: descriptor, id, references, source }, config }, manifest))
}

/// Brings a blob into the store, verified.
fn copy_blob(blobs: &Blobs, source: &Source<'_>, blob: &Descriptor) -> Result<()> {
    if blobs.has(blob)? {
        return Ok(());
    }
    let Some(member) = source.member(&layout::blob_path(&blob.digest))? else {
        return Err(Failure::user(format!("the archive has no blob {}", blob.digest)));
    };
    let writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
    source::keep(member, writer).doing(|| format!("read blob {}", blob.digest)).map(drop)
}
