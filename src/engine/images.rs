//! Images in the store: found or fetched for containers, their layers
//! unpacked; listed and named for people. transfer.rs brings them in by
//! themselves, removal.rs removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use super::remote;
use super::request::Pull;
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup::{self, StoredImage};
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::pull::{self, Pulled};
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::image::tags::{self, Tag};
use crate::kernel::open;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::launch;
use crate::process::stage::Stage;
use crate::storage::layers::{self, LayerId, Staged};
use crate::storage::unpack::stage::{FromUnpack, Layer, Request};

/// What a container is made from.
pub struct Image {
    /// The config's digest: the image's id.
    pub id: Digest,
    /// The author's defaults.
    pub config: ImageConfig,
    /// Where the layers' blobs are.
    pub manifest: Manifest,
}

/// The image that `text` names, fetched where `pull` says so, and checked to
/// be for `platform`, or else for this host.
pub fn get(
    paths: &Paths,
    text: &str,
    platform: Option<&Platform>,
    pull: Pull,
    progress: &dyn Progress,
) -> Result<Image> {
    if pull == Pull::Always && !super::embedded::is_meant(text) {
        fetch(paths, text, platform, false, progress)?;
    }
    if super::embedded::is_meant(text) {
        super::embedded::store(paths, text)?;
    }
    let tag = match lookup::find_tag(paths, text) {
        Err(failure) if failure.kind == crate::error::Kind::NotFound && pull != Pull::Never => {
            fetch(paths, text, platform, false, progress)?;
            lookup::find_tag(paths, text)?
        }
        result => result?,
    };
    let (manifest, config) = lookup::documents(&Blobs::open(paths)?, &tag.manifest)
        .doing(|| format!("read image \"{text}\""))
        .hint(|| format!("fetch it again: kelp pull {text}"))?;
    check_platform(text, platform, &config)?;
    Ok(Image { id: manifest.config.digest, config, manifest })
}

/// Fetches the image that `text` names. `plain_http` allows a registry without
/// TLS that is not on this machine.
pub fn fetch(
    paths: &Paths,
    text: &str,
    platform: Option<&Platform>,
    plain_http: bool,
    progress: &dyn Progress,
) -> Result<Pulled> {
    let remote::Remote { reference, route, options } = remote::find(text, plain_http)?;
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let _guard = garbage::hold(paths)?;
    pull::pull(paths, &reference, &platform, &route, &options, progress)
}

fn check_platform(text: &str, asked: Option<&Platform>, config: &ImageConfig) -> Result<()> {
    let image = config.platform();
    let wanted = asked.cloned().unwrap_or_else(Platform::host);
    if wanted.accepts(&image) {
        return Ok(());
    }
    let whose = if asked.is_some() { "you asked for" } else { "this host is" };
    Err(Failure::user(format!("image \"{text}\" is for {image}, but {whose} {wanted}"))
        .hint(format!("kelp pull --platform {wanted} {text}, if the image exists for it")))
}

/// The directories of an image's layers for one id mapping, topmost first;
/// those that are missing are unpacked. `id_map` is the container's, onto the
/// base namespace.
pub fn layers(
    paths: &Paths,
    base: &mut Base,
    id_map: &IdMap,
    image: &Image,
    progress: &dyn Progress,
) -> Result<Vec<std::path::PathBuf>> {
    let ids = layer_ids(base, id_map, image)?;
    let missing: Vec<usize> =
        (0..ids.len()).filter(|&index| ids.get(index).is_some_and(|id| layers::find(paths, id).is_none())).collect();
    if !missing.is_empty() {
        unpack(paths, base, id_map, image, &ids, &missing, progress).doing(|| "unpack image")?;
    }
    let found = ids
        .iter()
        .rev()
        .map(|id| layers::find(paths, id).ok_or_else(|| Failure::host(format!("layer {} disappeared", id.diff_id()))));
    found.collect()
}

/// Where those directories are or would be, topmost first.
pub fn layer_paths(paths: &Paths, base: &Base, id_map: &IdMap, image: &Image) -> Result<Vec<std::path::PathBuf>> {
    Ok(layer_ids(base, id_map, image)?.iter().rev().map(|id| layers::root(paths, id)).collect())
}

fn layer_ids(base: &Base, id_map: &IdMap, image: &Image) -> Result<Vec<LayerId>> {
    let key = base.map.compose(id_map).key();
    image.config.rootfs.diff_ids.iter().map(|digest| LayerId::new(&key, &digest.hex())).collect()
}

/// Has the unpack stage fill a staged directory for each missing layer and
/// publishes each when it is whole.
fn unpack(
    paths: &Paths,
    base: &mut Base,
    id_map: &IdMap,
    image: &Image,
    ids: &[LayerId],
    missing: &[usize],
    progress: &dyn Progress,
) -> Result<()> {
    let blobs = Blobs::open(paths)?;
    let launched = launch::launch(Stage::Unpack, base, "", &[])?;
    let request = Request { id_map: id_map.clone(), layers: missing.len() };
    launched.channel.send_if_open(&request, &[])?;
    let mut staged: Vec<Option<(Staged, &LayerId)>> = Vec::new();
    for &index in missing {
        let (Some(id), Some(layer)) = (ids.get(index), image.manifest.layers.get(index)) else {
            return Err(Failure::bug("an image with more diff ids than layers"));
        };
        let blob = blobs.file(&layer.digest)?;
        let stage = layers::stage_dir(paths)?;
        let directory = open::open_dir(&stage.root())?;
        progress.start(&format!("unpack {}", layer.digest.short()), 0);
        launched
            .channel
            .send_if_open(&Layer { diff_id: id.diff_id().to_owned() }, &[blob.as_fd(), directory.as_fd()])?;
        staged.push(Some((stage, id)));
    }
    while let Some(received) = launched.channel.receive::<FromUnpack>()? {
        match received.message {
            FromUnpack::Failed(failure) => return Err(failure),
            FromUnpack::Unpacked { index, summary } => {
                if let Some((stage, id)) = staged.get_mut(index).and_then(Option::take) {
                    layers::publish(paths, stage, id, &summary)?;
                }
                if let Some(layer) = missing.get(index).and_then(|&place| image.manifest.layers.get(place)) {
                    progress.done(&format!("unpack {}", layer.digest.short()));
                }
            }
        }
    }
    if staged.iter().any(Option::is_some) {
        return Err(Failure::host("the process that unpacks was killed"));
    }
    Ok(())
}

/// A name in the store, or an image that has none.
#[derive(Debug)]
pub struct Listed {
    /// The name and what it stands for.
    pub tag: Tag,
    /// The image's config; a failure where it is damaged.
    pub config: Result<ImageConfig>,
    /// Bytes on disk: unpacked if it is, else as received.
    pub size: u64,
}

/// Every tag with its image.
pub fn list(paths: &Paths) -> Result<Vec<Listed>> {
    let blobs = Blobs::open(paths)?;
    let sizes = Sizes::read(paths)?;
    let listed = tags::list(paths)?.into_iter().map(|tag| match lookup::documents(&blobs, &tag.manifest) {
        Ok((manifest, config)) => {
            let size = sizes.of(&config).unwrap_or_else(|| packed_size(&tag.manifest, &manifest));
            Listed { tag, config: Ok(config), size }
        }
        Err(failure) => Listed { tag, config: Err(failure), size: 0 },
    });
    Ok(listed.collect())
}

/// The image that `text` names, with its size as [`list`] tells it.
pub fn inspect(paths: &Paths, text: &str) -> Result<(StoredImage, u64)> {
    let image = lookup::find(paths, text)?;
    let size = Sizes::read(paths)?.of(&image.config).unwrap_or_else(|| image.size());
    Ok((image, size))
}

/// Gives the image `source` the name `target` as well; a name without a
/// registry is one of our own.
pub fn tag(paths: &Paths, source: &str, target: &str) -> Result<Reference> {
    let reference = Reference::parse_local(target)?;
    if reference.digest().is_some() {
        return Err(Failure::usage(format!("the new name \"{target}\" cannot have a digest"))
            .hint("a digest comes from the content; give NAME or NAME:TAG"));
    }
    let _guard = garbage::hold(paths)?;
    let found = lookup::find_tag(paths, source)?;
    let tag = Tag::new(Some(reference.clone()), found.manifest, found.config);
    tags::set(paths, &tag)?;
    Ok(reference)
}

/// Bytes of unpacked layers.
struct Sizes {
    by_id_map: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Sizes {
    fn read(paths: &Paths) -> Result<Self> {
        let mut by_id_map: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for layer in layers::list(paths)? {
            let sizes = by_id_map.entry(layer.id.id_map().to_owned()).or_default();
            sizes.insert(layer.id.diff_id().to_owned(), layer.summary.bytes);
        }
        Ok(Self { by_id_map })
    }

    /// `None` unless all layers are unpacked for one id map. A layer that is
    /// in the image twice is on disk once.
    fn of(&self, config: &ImageConfig) -> Option<u64> {
        let layers: BTreeSet<String> = config.rootfs.diff_ids.iter().map(Digest::hex).collect();
        self.by_id_map.values().find_map(|sizes| layers.iter().map(|layer| sizes.get(layer)).sum())
    }
}

fn packed_size(descriptor: &Descriptor, manifest: &Manifest) -> u64 {
    let layers = manifest.layers.iter().map(|layer| layer.size);
    layers.fold(descriptor.size.saturating_add(manifest.config.size), u64::saturating_add)
}
