//! An OCI image layout, as a directory or in a tar: `oci-layout`,
//! `index.json` and blobs by digest (image spec, image-layout.md).

use std::io;

use serde::Deserialize;

use super::source::Source;
use super::{Found, Loaded};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, Role};
use crate::image::digest::Digest;
use crate::image::manifest::{Document, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::limits;

/// A full name, written by containerd and docker save.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or a full name where a tool had one.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// Brings in every image of `index.json` that `platform` can run.
pub(super) fn load(blobs: &Blobs, source: &Source, oci_layout: &[u8], platform: &Platform) -> Result<Vec<Found>> {
    let layout: Layout = serde_json::from_slice(oci_layout)
        .map_err(|error| Failure::user(format!("the file oci-layout is not valid: {error}")))?;
    if !layout.image_layout_version.starts_with("1.") {
        let shown = crate::image::quote::quoted(&layout.image_layout_version);
        return Err(Failure::user(format!("image layout version {shown} is not supported")));
    }
    let bytes = source.read("index.json", limits::MANIFEST_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| Failure::user("the archive has no file \"index.json\""))?;
    let Document::Index(index) = Document::parse(&bytes, None)? else {
        return Err(Failure::user("index.json is not an index"));
    };
    // One image with two names is listed twice.
    let mut images: Vec<(&Descriptor, Vec<Reference>)> = Vec::new();
    for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
        match images.iter_mut().find(|(image, _)| image.digest == entry.digest) {
            Some((_, names)) => names.extend(name(entry)),
            None => images.push((entry, name(entry).into_iter().collect())),
        }
        if images.len() > limits::ARCHIVE_IMAGES_MAX {
            return Err(Failure::user(format!("the archive has more than {} images", limits::ARCHIVE_IMAGES_MAX)));
        }
    }
    let runs_here = |entry: &Descriptor| entry.platform.as_ref().is_none_or(|other| platform.accepts(other));
    if !images.is_empty() && !images.iter().any(|(entry, _)| runs_here(entry)) {
        platform.select(&index.manifests)?;
    }
    let wanted = images.into_iter().filter(|(entry, _)| runs_here(entry));
    wanted.map(|(entry, references)| load_image(blobs, source, entry, references, platform)).collect()
}

/// An image or an index of images, not an attestation beside one.
fn is_image(entry: &Descriptor) -> bool {
    matches!(entry.role(), Role::Manifest | Role::Index)
        && !entry.annotations.contains_key("vnd.docker.reference.type")
        && entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// The entry's name. One without a registry is ours: an archive's author
/// does not speak for docker.io. What is no name is no name.
fn name(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(FULL_NAME).and_then(|name| Reference::parse(name).ok());
    full.or_else(|| entry.annotations.get(REF_NAME).and_then(|name| Reference::parse_local(name).ok()))
}

fn load_image(
    blobs: &Blobs,
    source: &Source,
    entry: &Descriptor,
    references: Vec<Reference>,
    platform: &Platform,
) -> Result<Found> {
    let (descriptor, manifest) = resolve(blobs, source, entry, platform)?;
    copy_blob(blobs, source, &manifest.config)?;
    let id = manifest.config.digest;
    let config = ImageConfig::parse(&blobs.read_verified(&id, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    for layer in &manifest.layers {
        copy_blob(blobs, source, layer)?;
    }
    Ok(Found { image: Loaded { manifest: descriptor, id, references }, config })
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
    let Some(mut member) = source.member(&path(&blob.digest))? else {
        return Err(Failure::user(format!("the archive has no blob {}", blob.digest)));
    };
    let mut writer = blobs.writer(Some(blob.digest), Some(blob.size))?;
    io::copy(&mut member, &mut writer).doing(|| format!("read blob {}", blob.digest))?;
    writer.finish().map(drop)
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
