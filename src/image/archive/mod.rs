//! Images from files: what `docker save`, `podman save`, `skopeo copy` and
//! `umoci` write, and plain root file systems; and images into files.
//!
//! An archive is a stranger's from its first byte to its last. Its files are
//! read where they lie and streamed into content-addressed blobs; no name in
//! it is ever a path of ours. Tags are set last ([`keep`]), when all images are
//! whole and unpacked: until then a name stands for what it stood for.
//!
//! `source` finds files in a directory or a tar (`headers`), `docker` and
//! `layout` know the two formats, `rootfs` makes an image of a tar. `save` decides what is
//! written, `tarball` and `directory` write it by way of `output`.

mod directory;
mod docker;
mod headers;
mod layer;
mod layout;
mod output;
mod rootfs;
mod save;
mod source;
mod tarball;

#[cfg(test)]
mod tests;

pub use output::write_file;
pub use rootfs::{ImportOptions, import};
pub use save::{Chosen, Format, Output, save};
pub use source::Input;

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::descriptor::Descriptor;
use super::digest::Digest;
use super::layout::MARKER_FILE;
use super::platform::Platform;
use super::reference::{LOCAL_REGISTRY, Reference};
use super::tags::{self, Tag};
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::Paths;

/// An image that came from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its id: the digest of its config.
    pub id: Digest,
    /// Its names; it is kept without one too.
    pub references: Vec<Reference>,
    /// What the names stood for: the manifest or an index around it. `None`
    /// where the format does not say.
    pub source: Option<Digest>,
}

/// An image whose blobs are here, before it is tagged.
struct Found {
    image: Loaded,
    config: ImageConfig,
}

/// Brings in all images of an archive that `platform` can run: a
/// docker-archive, an oci-archive or an OCI directory, told by what is in it.
/// They have no names before [`keep`].
pub fn load(paths: &Paths, input: Input<'_>, platform: &Platform) -> Result<Vec<Loaded>> {
    let shown = match &input {
        Input::Path(path) => format!("\"{}\"", path.display()),
        Input::Stream(_) => "images from standard input".to_owned(),
    };
    read(paths, input, platform).doing(|| format!("load {shown}"))
}

fn read(paths: &Paths, input: Input<'_>, platform: &Platform) -> Result<Vec<Loaded>> {
    let blobs = Blobs::open(paths)?;
    let source = source::Source::open(&blobs, input)?;
    // docker save since 25 writes both; the OCI half has the real manifests.
    let found = if let Some(oci_layout) = source.read(MARKER_FILE, limits::TAG_BYTES_MAX)? {
        layout::load(&blobs, &source, &oci_layout, platform)?
    } else if let Some(manifest_json) = source.read("manifest.json", limits::MANIFEST_BYTES_MAX)? {
        docker::load(&blobs, &source, &manifest_json)?
    } else {
        let failure = Failure::user("it holds no image: neither \"oci-layout\" nor \"manifest.json\" is in it");
        if source.member("repositories")?.is_some() {
            return Err(
                failure.hint("docker before 1.10 wrote such archives; load and save it with a newer docker first")
            );
        }
        return Err(match source.is_rootfs() {
            true => failure.hint("it looks like a root file system: kelp import makes an image of it"),
            false => failure,
        });
    };
    if found.is_empty() {
        return Err(Failure::user("it holds no image"));
    }
    for Found { config, .. } in &found {
        let made_for = config.platform();
        if !platform.accepts(&made_for) {
            return Err(Failure::user(format!("the image is for {made_for}, not for {platform}"))
                .hint(format!("--platform {made_for} takes it anyway; it runs only with an emulator")));
        }
    }
    Ok(found.into_iter().map(|found| found.image).collect())
}

/// Layers that are copied at once: hashing is what takes time.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(limits::ARCHIVE_LAYERS_AT_ONCE)
}

/// Gives the image its names, or a place without one.
pub fn keep(paths: &Paths, image: &Loaded) -> Result<()> {
    let names = image.references.iter().cloned().map(Some);
    let unnamed = image.references.is_empty().then_some(None);
    for name in names.chain(unnamed) {
        // What a registry called by this name; ours are our own.
        let source = image.source.filter(|_| name.as_ref().is_some_and(|name| name.registry() != LOCAL_REGISTRY));
        let tag = Tag::new(name, image.manifest.clone(), image.id);
        tags::set(paths, &source.into_iter().fold(tag, Tag::pulled_as))?;
    }
    Ok(())
}
