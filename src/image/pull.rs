//! Pulling: an image from a registry into the store.
//!
//! ```text
//!   manifest or index   by tag, or by digest and verified
//!   index -> manifest   by platform; verified against the index
//!   config              verified; must be for the platform and fit the layers
//!   layers              some at a time; verified
//!   tag                 last: an image that is visible is whole
//! ```
//!
//! What a broken pull leaves are whole blobs without a tag; the next pull uses
//! them, a sweep removes them. Layers are not unpacked here.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::descriptor::{Descriptor, OCI_INDEX, OCI_MANIFEST};
use super::digest::Digest;
use super::manifest::{Document, Manifest};
use super::platform::Platform;
use super::quote::quoted;
use super::reference::{LOCAL_REGISTRY, Reference};
use super::registry::{self, Client, Options, Progress, Route};
use super::tags::{self, Tag};
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::Paths;

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The name the image has now.
    pub reference: Reference,
    /// What the registry's name stood for: a manifest or an index.
    pub source: Digest,
    /// The image's manifest.
    pub manifest: Digest,
    /// The image's id.
    pub id: Digest,
    /// Whether all of it was here before.
    pub was_current: bool,
}

/// Pulls the image that `reference` names, for `platform`, from wherever
/// `route` leads.
pub fn pull(
    paths: &Paths,
    reference: &Reference,
    platform: &Platform,
    route: &Route,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pulled> {
    if reference.registry() == LOCAL_REGISTRY {
        let shown = quoted(&reference.familiar());
        return Err(Failure::not_found(format!("{shown} is a name for images of this machine, not of a registry"))
            .hint("a registry on this machine is named with its port, as localhost:5000/NAME"));
    }
    route
        .ask(options, |client| fetch(paths, reference, platform, client, progress))
        .doing(|| format!("pull {}", quoted(&reference.familiar())))
}

fn fetch(
    paths: &Paths,
    reference: &Reference,
    platform: &Platform,
    client: &Client,
    progress: &dyn Progress,
) -> Result<Pulled> {
    let blobs = Blobs::open(paths)?;
    let sent = client.manifest(reference)?;
    let source = sent.digest;
    let (descriptor, manifest) = resolve(client, &blobs, reference, platform, sent)?;

    client.blob(&manifest.config, &blobs, &registry::Silent)?;
    let config = ImageConfig::parse(&blobs.read_verified(&manifest.config.digest, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    check_platform(platform, &config)?;

    let reference = match reference.digest() {
        Some(digest) => reference.at(*digest),
        None => reference.clone(),
    };
    let tag = Tag::new(Some(reference.clone()), descriptor.clone(), manifest.config.digest).pulled_as(source);
    let before = tags::get(paths, &reference).ok().flatten();
    let mut was_current = before.is_some_and(|before| before.manifest.digest == descriptor.digest);
    for layer in &manifest.layers {
        was_current = blobs.has(layer)? && was_current;
    }
    fetch_layers(client, &blobs, &manifest, progress)?;
    tags::set(paths, &tag)?;
    Ok(Pulled { reference, source, manifest: descriptor.digest, id: manifest.config.digest, was_current })
}

/// From what the registry sent to the manifest for the platform; documents on
/// the way are kept.
fn resolve(
    client: &Client,
    blobs: &Blobs,
    reference: &Reference,
    platform: &Platform,
    mut sent: registry::Sent,
) -> Result<(Descriptor, Manifest)> {
    for _ in 0..limits::INDEX_DEPTH_MAX {
        let document = Document::parse(&sent.bytes, sent.media_type.as_deref())?;
        let index = match document {
            Document::Manifest(manifest) => {
                blobs.put(&sent.bytes)?;
                let media_type = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
                return Ok((Descriptor::of(media_type, &sent.bytes), manifest));
            }
            Document::Index(index) => index,
        };
        let chosen = platform.select(&index.manifests)?;
        if chosen.size > limits::MANIFEST_BYTES_MAX {
            return Err(Failure::user(format!("the manifest is larger than {} bytes", limits::MANIFEST_BYTES_MAX)));
        }
        blobs.put(&sent.bytes)?;
        sent = client.manifest(&reference.at(chosen.digest))?;
        if sent.bytes.len() as u64 != chosen.size {
            let (real, said) = (sent.bytes.len(), chosen.size);
            return Err(Failure::user(format!("the manifest has {real} bytes; its index says {said}")));
        }
        // What the server says of it must not contradict; what the verified
        // index says counts.
        Document::parse(&sent.bytes, sent.media_type.as_deref())?;
        sent.media_type = Some(chosen.media_type.clone());
    }
    Err(Failure::user(format!("indexes lie within each other more than {} deep", limits::INDEX_DEPTH_MAX))
        .hint(format!("an {OCI_INDEX} usually names manifests directly")))
}

fn check_platform(platform: &Platform, config: &ImageConfig) -> Result<()> {
    let made_for = config.platform();
    if platform.accepts(&made_for) {
        return Ok(());
    }
    Err(Failure::user(format!("the image is for {made_for}, not for {platform}"))
        .hint(format!("--platform {made_for} takes it anyway; it runs only with an emulator")))
}

/// Fetches all layers that are not here, some at a time. The first failure
/// stops the rest: threads finish what they are at and take no more.
fn fetch_layers(client: &Client, blobs: &Blobs, manifest: &Manifest, progress: &dyn Progress) -> Result<()> {
    // The same layer may be in an image twice (an empty one often is).
    let mut seen = BTreeSet::new();
    let mut layers: Vec<&Descriptor> = manifest.layers.iter().filter(|layer| seen.insert(layer.digest)).collect();
    layers.reverse();
    let threads = limits::DOWNLOADS_MAX.min(layers.len());
    let queue = Mutex::new(layers);
    let failed: Mutex<Option<registry::Error>> = Mutex::new(None);
    // A poisoned lock means a panic, and that ends the process (panic = "abort").
    let take = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let stop = |error| {
        queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(layer) = take() {
                    if let Err(error) = client.blob(layer, blobs, progress) {
                        stop(error);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
