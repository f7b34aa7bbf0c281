//! The format of `docker save`: `manifest.json` names configs and layers.
//!
//! There is no manifest to keep, so one is made; the config keeps its bytes
//! and with them the image its id. Layers are checked against the config's
//! diff ids.

use std::io;

use serde::Deserialize;

use super::layer;
use super::source::{Member, Source};
use super::{Found, Loaded};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST, null_is_default};
use crate::image::digest::Digest;
use crate::image::manifest::Manifest;
use crate::image::quote::quoted;
use crate::image::reference::Reference;
use crate::limits;

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

/// Brings in every image that `manifest.json` names.
pub(super) fn load(blobs: &Blobs, source: &Source, manifest_json: &[u8]) -> Result<Vec<Found>> {
    let items: Vec<Item> = serde_json::from_slice(manifest_json)
        .map_err(|error| Failure::user(format!("manifest.json is not valid: {error}")))?;
    if items.len() > limits::ARCHIVE_IMAGES_MAX {
        return Err(Failure::user(format!("the archive has more than {} images", limits::ARCHIVE_IMAGES_MAX)));
    }
    items.iter().map(|item| load_item(blobs, source, item)).collect()
}

fn load_item(blobs: &Blobs, source: &Source, item: &Item) -> Result<Found> {
    let lacks = |name: &str| Failure::user(format!("the archive has no file {}", quoted(name)));
    let bytes = source.read(&item.config, limits::CONFIG_BYTES_MAX)?.ok_or_else(|| lacks(&item.config))?;
    let config = ImageConfig::parse(&bytes)?;
    let (layers, ids) = (item.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(Failure::user(format!("the archive lists {layers} layers but the image config names {ids}")));
    }
    let mut descriptors = Vec::new();
    for (name, diff_id) in item.layers.iter().zip(&config.rootfs.diff_ids) {
        let member = source.member(name)?.ok_or_else(|| lacks(name))?;
        descriptors.push(store_layer(blobs, member, diff_id).doing(|| format!("read layer {}", quoted(name)))?);
    }
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &bytes), descriptors).to_bytes()?;
    let id = blobs.put(&bytes)?;
    blobs.put(&manifest)?;
    Ok(Found {
        image: Loaded { manifest: Descriptor::of(OCI_MANIFEST, &manifest), id, references: names(item)?, source: None },
        config,
    })
}

fn names(item: &Item) -> Result<Vec<Reference>> {
    let named = item.repo_tags.iter().filter(|tag| *tag != "<none>:<none>");
    let name = |tag: &String| match Reference::parse(tag) {
        // The format has no manifest whose digest that could be.
        Ok(name) if name.digest().is_some() => Err(Failure::user(format!("the tag {} has a digest", quoted(tag)))),
        result => result.map_err(|error| Failure::user(error.to_string())),
    };
    named.map(name).collect()
}

/// Layers are plain tars by the format's rules; some tools compress them.
fn store_layer(blobs: &Blobs, member: Member, diff_id: &Digest) -> Result<Descriptor> {
    let size = member.size();
    let (compression, mut reader) = Compression::sniff(member)?;
    if compression == Compression::None {
        let descriptor = Descriptor::new(compression.layer_media_type(), *diff_id, size);
        if !blobs.has(&descriptor)? {
            let mut writer = blobs.writer(Some(*diff_id), Some(size))?;
            io::copy(&mut reader, &mut writer)?;
            writer.finish()?;
        }
        return Ok(descriptor);
    }
    let stored = layer::store(blobs, reader)?;
    if stored.diff_id != *diff_id {
        // The blob stays: it may be another image's too. A sweep will see.
        return Err(Failure::user(format!("its content has digest {}, not {diff_id}", stored.diff_id)));
    }
    Ok(stored.descriptor)
}
