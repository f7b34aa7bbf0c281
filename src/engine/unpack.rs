//! Layers of an image as directories: the unpack stage is given blobs and empty
//! directories, and what it has filled is published here.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::manifest::Manifest;
use crate::image::registry::Progress;
use crate::kernel::open;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::launch::{self, Launched};
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

/// The directories of an image's layers for one id mapping, topmost first;
/// those that are missing are unpacked. `id_map` is the container's, onto the
/// base namespace.
pub fn layers(
    paths: &Paths,
    base: &mut Base,
    id_map: &IdMap,
    image: &Image,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let ids = layer_ids(base, id_map, &image.config)?;
    let missing: Vec<(&LayerId, &Descriptor)> =
        ids.iter().zip(&image.manifest.layers).filter(|(id, _)| layers::find(paths, id).is_none()).collect();
    let blobs = Blobs::open(paths)?;
    for batch in missing.chunks(limits::LAYER_BATCH) {
        let mut unpacking = Unpacking::start(base, id_map, batch.len())?;
        for (id, blob) in batch {
            unpacking.add(paths, id, blob, blobs.file(&blob.digest)?, None, progress)?;
        }
        let unpacked = unpacking.finish(progress).doing(|| "unpack image");
        let unpacked = unpacked.map_err(|failure| {
            match batch.iter().find_map(|(_, blob)| blobs.store_of(&blob.digest)) {
            Some(store) => failure.hint(format!(
                "layers of it are read from the store \"{}\"; if they are damaged, who writes it can save them again",
                store.path().display()
            )),
            None => failure,
        }
        })?;
        blobs.write_out()?;
        publish(paths, unpacked)?;
    }
    let found = ids.iter().rev().map(|id| layers::find(paths, id).ok_or_else(|| lost(id)));
    found.collect()
}

/// A layer was unpacked and is not there: its place is taken by something else,
/// or it was removed since.
fn lost(id: &LayerId) -> Failure {
    Failure::host(format!("layer {} is not where it was unpacked to", id.diff_id()))
        .hint("kelp system check --repair unpacks damaged layers again")
}

/// Where those directories are or would be, topmost first.
pub fn layer_paths(paths: &Paths, base: &Base, id_map: &IdMap, image: &Image) -> Result<Vec<PathBuf>> {
    Ok(layer_ids(base, id_map, &image.config)?.iter().rev().map(|id| layers::root(paths, id)).collect())
}

/// The names of an image's unpacked layers, lowest first.
pub(super) fn layer_ids(base: &Base, id_map: &IdMap, config: &ImageConfig) -> Result<Vec<LayerId>> {
    config.rootfs.diff_ids.iter().map(|diff_id| layer_id(base, id_map, diff_id)).collect()
}

/// The name of one unpacked layer.
pub(super) fn layer_id(base: &Base, id_map: &IdMap, diff_id: &Digest) -> Result<LayerId> {
    LayerId::new(&base.map.compose(id_map).key(), &diff_id.hex())
}

/// An unpack stage at work.
pub(super) struct Unpacking {
    launched: Launched,
    layers: Vec<Unpacked>,
}

/// A layer's directory that is ours until it is published.
pub(super) struct Unpacked {
    id: LayerId,
    staged: Staged,
    /// What the user sees it called.
    shown: String,
    is_whole: bool,
}

impl Unpacking {
    /// Starts a stage that waits for `count` layers. The caller is
    /// single-threaded.
    pub(super) fn start(base: &mut Base, id_map: &IdMap, count: usize) -> Result<Self> {
        let launched = launch::launch(Stage::Unpack, base, "", &[])?;
        launched.channel.send_if_open(&Request { id_map: id_map.clone(), layers: count }, &[])?;
        Ok(Self { launched, layers: Vec::new() })
    }

    /// Gives it a layer: `file` is its blob, which is followed as it grows if
    /// it comes with a bell (image/partial.rs).
    pub(super) fn add(
        &mut self,
        paths: &Paths,
        id: &LayerId,
        blob: &Descriptor,
        file: File,
        bell: Option<OwnedFd>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let staged = layers::stage_dir(paths)?;
        let directory = open::open_dir(&staged.root())?;
        let message = Layer { diff_id: id.diff_id().to_owned(), size: blob.size };
        let descriptors = [Some(file.as_fd()), Some(directory.as_fd()), bell.as_ref().map(OwnedFd::as_fd)];
        let descriptors: Vec<_> = descriptors.into_iter().flatten().collect();
        self.launched.channel.send_if_open(&message, &descriptors)?;
        let shown = format!("unpack {}", blob.digest.short());
        progress.start(&shown, 0);
        self.layers.push(Unpacked { id: id.clone(), staged, shown, is_whole: false });
        Ok(())
    }

    /// Waits until all layers are whole, their diff ids verified. They are not
    /// written out to the disk.
    pub(super) fn finish(self, progress: &dyn Progress) -> Result<Vec<Unpacked>> {
        let Self { launched, mut layers } = self;
        while let Some(received) = launched.channel.receive::<FromUnpack>()? {
            match received.message {
                FromUnpack::Failed(failure) => return Err(failure),
                FromUnpack::Unpacked { index, summary } => {
                    let Some(layer) = layers.get_mut(index) else {
                        return Err(Failure::bug("a layer was unpacked that nobody asked for"));
                    };
                    layers::seal(&layer.staged, &summary)?;
                    layer.is_whole = true;
                    progress.done(&layer.shown);
                }
            }
        }
        if layers.iter().any(|layer| !layer.is_whole) {
            return Err(Failure::host("the process that unpacks was killed"));
        }
        Ok(layers)
    }
}

/// Gives unpacked layers their names. The caller has had the file system
/// written out.
pub(super) fn publish(paths: &Paths, unpacked: Vec<Unpacked>) -> Result<()> {
    unpacked.into_iter().try_for_each(|layer| layers::publish(paths, layer.staged, &layer.id).map(drop))
}
