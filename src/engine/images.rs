//! Images for containers: found or fetched, their layers unpacked. transfer.rs
//! brings images in by themselves, inventory.rs lists them, removal.rs removes
//! them.

use std::os::fd::AsFd;

use super::request::Pull;
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::pull::{self, Pulled};
use crate::image::reference::Reference;
use crate::image::registry::{self, Progress, Transport};
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
    let reference = Reference::parse(text)?;
    let credentials = registry::credentials::find(&registry::credentials::files(), &reference)?;
    let transport = if plain_http { Transport::Plain } else { Transport::default() };
    let options = registry::Options { transport, credentials, ..Default::default() };
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let _guard = garbage::hold(paths)?;
    pull::pull(paths, &reference, &platform, &options, progress)
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
