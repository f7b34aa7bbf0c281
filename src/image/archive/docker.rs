//! The format of `docker save`: `manifest.json` names configs and layers.
//!
//! There is no manifest to keep, so one is made; the config keeps its bytes
//! and with them the image its id. Layers are checked against the config's
//! diff ids.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use serde::Deserialize;

use super::layer;
use super::source::{self, Member, Source};
use super::{Found, Loaded};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::compression::Compression;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST, null_is_default};
use crate::image::digest::{Digest, Verifier};
use crate::image::manifest::Manifest;
use crate::image::parallel;
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

/// An image whose documents were read and whose layers were not.
struct Planned<'a> {
    item: &'a Item,
    config: ImageConfig,
    bytes: Vec<u8>,
}

/// Brings in every image that `manifest.json` names.
pub(super) fn load(blobs: &Blobs, source: &Source<'_>, manifest_json: &[u8]) -> Result<Vec<Found>> {
    let items: Vec<Item> = serde_json::from_slice(manifest_json)
        .map_err(|error| Failure::user(format!("manifest.json is not valid: {error}")))?;
    if items.iter().map(|item| item.repo_tags.len().max(1)).sum::<usize>() > limits::ARCHIVE_IMAGES_MAX {
        return Err(Failure::user(format!("the archive has more than {} images", limits::ARCHIVE_IMAGES_MAX)));
    }
    let planned: Vec<Planned<'_>> = items.iter().map(|item| plan(source, item)).collect::<Result<_>>()?;
    // Images of one archive often share layers.
    let layers = planned.iter().flat_map(Planned::layers);
    let wanted: Vec<(&str, Digest)> = layers.collect::<BTreeSet<_>>().into_iter().collect();
    let stored = parallel::each(&wanted, super::threads(), |(name, diff_id)| {
        let member = source.member(name)?.ok_or_else(|| lacks(name))?;
        store_layer(blobs, member, diff_id).doing(|| format!("read layer {}", quoted(name)))
    })?;
    let layers: BTreeMap<(&str, Digest), Descriptor> = wanted.into_iter().zip(stored).collect();
    planned.iter().map(|planned| finish(blobs, planned, &layers)).collect()
}

impl Planned<'_> {
    fn layers(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.item.layers.iter().map(String::as_str).zip(self.config.rootfs.diff_ids.iter().copied())
    }
}

fn lacks(name: &str) -> Failure {
    Failure::user(format!("the archive has no file {}", quoted(name)))
}

fn plan<'a>(source: &Source<'_>, item: &'a Item) -> Result<Planned<'a>> {
    let bytes = source.read(&item.config, limits::CONFIG_BYTES_MAX)?.ok_or_else(|| lacks(&item.config))?;
    let config = ImageConfig::parse(&bytes)?;
    let (layers, ids) = (item.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(Failure::user(format!("the archive lists {layers} layers but the image config names {ids}")));
    }
    Ok(Planned { item, config, bytes })
}

fn finish(blobs: &Blobs, planned: &Planned<'_>, layers: &BTreeMap<(&str, Digest), Descriptor>) -> Result<Found> {
    let descriptors: Vec<Descriptor> = planned.layers().filter_map(|layer| layers.get(&layer).cloned()).collect();
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &planned.bytes), descriptors).to_bytes()?;
    let id = blobs.put(&planned.bytes)?;
    blobs.put(&manifest)?;
    let manifest = Descriptor::of(OCI_MANIFEST, &manifest);
    let image = Loaded { manifest, id, references: names(planned.item)?, source: None };
    Ok(Found { image, config: planned.config.clone() })
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

/// Layers are plain tars by the format's rules; some tools compress them. Each
/// is kept as it came: compressing a plain one here would cost more than all
/// the rest of a load, and a push does it once.
fn store_layer(blobs: &Blobs, member: Member, diff_id: &Digest) -> Result<Descriptor> {
    let (size, stored) = (member.size(), member.stored());
    let (compression, mut reader) = Compression::sniff(member)?;
    let descriptor = |digest| Descriptor::new(compression.layer_media_type(), digest, size);
    let found = match (compression, stored) {
        (Compression::None, Some(digest)) => (descriptor(digest), digest),
        (Compression::None, None) => {
            let descriptor = descriptor(*diff_id);
            if !blobs.has(&descriptor)? {
                source::keep(reader, blobs.writer(Some(*diff_id), Some(size))?)?;
            }
            return Ok(descriptor);
        }
        (_, Some(digest)) => {
            let decoder = compression.decoder(BufReader::with_capacity(128 << 10, &mut reader))?;
            (descriptor(digest), Verifier::new(decoder).finish(limits::LAYER_BYTES_MAX)?.0)
        }
        (_, None) => {
            let stored = layer::store(blobs, reader)?;
            (stored.descriptor, stored.diff_id)
        }
    };
    if found.1 != *diff_id {
        // The blob stays: it may be another image's too. A sweep will see.
        return Err(Failure::user(format!("its content has digest {}, not {diff_id}", found.1)));
    }
    Ok(found.0)
}
