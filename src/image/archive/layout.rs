//! An OCI image layout, as a directory or in a tar.

use super::incoming::{Content, Documents, Image, Layer};
use super::source::{self, Source};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::layout::{self, INDEX_FILE, Named};
use crate::image::platform::Platform;
use crate::limits;

/// Reads the documents of every image of `index.json` that `platform` can run.
pub(super) fn read(blobs: &Blobs, source: &Source<'_>, marker: &[u8], platform: &Platform) -> Result<Vec<Image>> {
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
    let wanted = images.into_iter().filter(runs_here);
    wanted.map(|image| read_image(blobs, source, image, platform)).collect()
}

/// An image's documents, verified and kept.
fn read_image(blobs: &Blobs, source: &Source<'_>, image: Named, platform: &Platform) -> Result<Image> {
    let (descriptor, manifest) = layout::resolve(&image.entry, platform, &|entry| {
        copy_document(blobs, source, entry)?;
        blobs.read_verified(&entry.digest, limits::MANIFEST_BYTES_MAX)
    })?;
    copy_document(blobs, source, &manifest.config)?;
    let id = manifest.config.digest;
    let config = ImageConfig::parse(&blobs.read_verified(&id, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    let layers = manifest.layers.into_iter().zip(&config.rootfs.diff_ids).map(|(blob, diff_id)| Layer {
        diff_id: *diff_id,
        size: blob.size,
        name: layout::blob_path(&blob.digest),
        content: Content::Blob(blob),
    });
    Ok(Image {
        layers: layers.collect(),
        references: image.names,
        source: Some(image.entry.digest),
        documents: Documents::Kept { manifest: descriptor, id },
        config,
    })
}

/// Brings a document into the store, verified.
fn copy_document(blobs: &Blobs, source: &Source<'_>, blob: &Descriptor) -> Result<()> {
    if blobs.has(blob)? {
        return Ok(());
    }
    let Some(member) = source.member(&layout::blob_path(&blob.digest))? else { return Err(lacks(blob)) };
    let mut writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
    source::pump(member, &mut writer, &|_| ()).doing(|| format!("read blob {}", blob.digest))?;
    writer.finish().map(drop)
}

pub(super) fn lacks(blob: &Descriptor) -> Failure {
    Failure::user(format!("the archive has no blob {}", blob.digest))
}
