//! The format of `docker save`: `manifest.json` names configs and layers.
//!
//! There is no manifest to keep, so one is made; the config keeps its bytes
//! and with them the image its id. Layers are checked against the config's
//! diff ids.

use serde::Deserialize;

use super::incoming::{Content, Documents, Image, Layer};
use super::source::Source;
use crate::error::{Failure, Result};
use crate::image::config::ImageConfig;
use crate::image::descriptor::null_is_default;
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

/// Reads the config of every image that `manifest.json` names.
pub(super) fn read(source: &Source<'_>, manifest_json: &[u8]) -> Result<Vec<Image>> {
    let items: Vec<Item> = serde_json::from_slice(manifest_json)
        .map_err(|error| Failure::user(format!("manifest.json is not valid: {error}")))?;
    if items.iter().map(|item| item.repo_tags.len().max(1)).sum::<usize>() > limits::ARCHIVE_IMAGES_MAX {
        return Err(Failure::user(format!("the archive has more than {} images", limits::ARCHIVE_IMAGES_MAX)));
    }
    items.iter().map(|item| read_image(source, item)).collect()
}

fn read_image(source: &Source<'_>, item: &Item) -> Result<Image> {
    let bytes = source.read(&item.config, limits::CONFIG_BYTES_MAX)?.ok_or_else(|| lacks(&item.config))?;
    let config = ImageConfig::parse(&bytes)?;
    let (layers, ids) = (item.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(Failure::user(format!("the archive lists {layers} layers but the image config names {ids}")));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in item.layers.iter().zip(&config.rootfs.diff_ids) {
        let size = source.member(name)?.ok_or_else(|| lacks(name))?.size();
        layers.push(Layer { diff_id: *diff_id, size, name: name.clone(), content: Content::Tar });
    }
    let documents = Documents::Made { config: bytes };
    Ok(Image { references: names(item)?, source: None, documents, config, layers })
}

pub(super) fn lacks(name: &str) -> Failure {
    Failure::user(format!("the archive has no file {}", quoted(name)))
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
