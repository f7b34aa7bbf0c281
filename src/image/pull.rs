//! Pulling: an image from a registry into the store.
//!
//! ```text
//!   plan      manifest or index   by tag, or by digest and verified
//!             index -> manifest   by platform; verified against the index
//!             config              verified; must be for the platform and fit the layers
//!   fetch     layers              some at a time, each into its partial; verified
//!   keep      tag                 last: an image that is visible is whole
//! ```
//!
//! What a broken pull leaves are blobs without a tag and beginnings of blobs;
//! the next pull goes on with them, a sweep removes them. Unpacking goes on
//! beside `fetch` (engine/fetch.rs), which therefore is a step of its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::descriptor::{Descriptor, OCI_INDEX, OCI_MANIFEST};
use super::digest::Digest;
use super::lookup;
use super::manifest::{Document, Manifest};
use super::partial::{Complete, Partial};
use super::platform::Platform;
use super::quote::quoted;
use super::reference::{LOCAL_REGISTRY, Reference};
use super::registry::{self, Client, Progress};
use super::tags::{self, Tag};
use crate::error::{Failure, Result};
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
    /// The id that the name had before.
    pub previous: Option<Digest>,
    /// How many layers it has, and how many of them the image that had the
    /// name before has not.
    pub layers: usize,
    /// See `layers`.
    pub new_layers: usize,
    /// Whether all of it was here before.
    pub was_current: bool,
}

/// An image whose documents are here and whose layers may not be.
pub struct Planned<'a> {
    client: &'a Client,
    tag: Tag,
    source: Digest,
    /// The image's manifest.
    pub manifest: Manifest,
    /// Its config.
    pub config: ImageConfig,
    /// What had the name before.
    before: Option<Tag>,
}

/// Asks for the image that `reference` names, for `platform`, where `client`
/// leads: the registry itself or a mirror.
pub fn plan<'a>(paths: &Paths, reference: &Reference, platform: &Platform, client: &'a Client) -> Result<Planned<'a>> {
    if reference.registry() == LOCAL_REGISTRY {
        let shown = quoted(&reference.familiar());
        return Err(Failure::not_found(format!("{shown} is a name for images of this machine, not of a registry"))
            .hint("a registry on this machine is named with its port, as localhost:5000/NAME"));
    }
    let blobs = Blobs::open(paths)?;
    let sent = client.manifest(reference)?;
    let source = sent.digest;
    let (descriptor, manifest) = resolve(client, &blobs, reference, platform, sent)?;

    client.blob(&manifest.config, &blobs)?;
    let config = ImageConfig::parse(&blobs.read_verified(&manifest.config.digest, limits::CONFIG_BYTES_MAX)?)?;
    config.check_layers(&manifest)?;
    check_platform(platform, &config)?;

    let reference = match reference.digest() {
        Some(digest) => reference.at(*digest),
        None => reference.clone(),
    };
    let before = tags::get(paths, &reference).ok().flatten();
    let tag = Tag::new(Some(reference), descriptor, manifest.config.digest).pulled_as(source);
    Ok(Planned { client, tag, source, manifest, config, before })
}

impl Planned<'_> {
    /// The image's id.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// Fetches partials, some at a time. The first failure stops the rest, as
    /// `stop` does: threads finish the bytes they are at and take no more.
    /// [`registry::Error::Stopped`] is returned only where `stop` was set by
    /// the caller.
    pub fn fetch(
        &self,
        partials: Vec<Partial>,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Vec<Complete>, registry::Error> {
        let threads = limits::DOWNLOADS_MAX.min(partials.len());
        let queue = Mutex::new(VecDeque::from(partials));
        let failed: Mutex<Option<registry::Error>> = Mutex::new(None);
        let complete = Mutex::new(Vec::new());
        // By a function, so that the queue is not locked while a blob is fetched.
        let next = || lock(&queue).pop_front();
        let fetch_queued = || {
            while let Some(partial) = next() {
                match self.client.fetch(partial, progress, stop) {
                    Ok(done) => lock(&complete).push(done),
                    Err(error) => {
                        lock(&failed).get_or_insert(error);
                        stop.store(true, Ordering::Relaxed);
                        lock(&queue).clear();
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            (0..threads).for_each(|_| drop(scope.spawn(fetch_queued)));
        });
        match lock(&failed).take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut lock(&complete))),
        }
    }

    /// Gives the image its name. All layers are here; `has_fetched` tells
    /// whether they were before.
    pub fn keep(self, paths: &Paths, has_fetched: bool) -> Result<Pulled> {
        let layers: BTreeSet<Digest> = self.manifest.layers.iter().map(|layer| layer.digest).collect();
        let blobs = Blobs::open(paths)?;
        let old = self.before.as_ref().and_then(|before| lookup::documents(&blobs, &before.manifest).ok());
        let old: BTreeSet<Digest> =
            old.iter().flat_map(|(manifest, _)| manifest.layers.iter().map(|layer| layer.digest)).collect();
        let is_same = self.before.as_ref().is_some_and(|before| before.manifest.digest == self.tag.manifest.digest);
        tags::set(paths, &self.tag)?;
        let Some(reference) = self.tag.reference else { return Err(Failure::bug("a pulled image without a name")) };
        Ok(Pulled {
            reference,
            source: self.source,
            manifest: self.tag.manifest.digest,
            id: self.manifest.config.digest,
            previous: self.before.map(|before| before.config),
            layers: layers.len(),
            new_layers: layers.difference(&old).count(),
            was_current: is_same && !has_fetched,
        })
    }
}

/// A poisoned lock means a panic, and that ends the process (panic = "abort").
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From what the registry sent to the manifest for the platform; documents on
/// the way are kept, and those that are here are not asked for.
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
        sent = match blobs.read_verified(&chosen.digest, limits::MANIFEST_BYTES_MAX) {
            Ok(bytes) => registry::Sent { bytes, digest: chosen.digest, media_type: None },
            Err(_) => client.manifest(&reference.at(chosen.digest))?,
        };
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
        .hint(format!("--platform {made_for} takes it; elsewhere it runs only with an emulator")))
}
