//! Images from files: what `docker save`, `podman save`, `skopeo copy` and
//! `umoci` write, and plain root file systems; and images into files.
//!
//! An archive is a stranger's from its first byte to its last. Its files are
//! read where they lie and streamed into content-addressed blobs; no name in
//! it is ever a path of ours. Tags are set last ([`keep`]), when all images are
//! whole and unpacked: until then a name stands for what it stood for.
//!
//! `source` finds files in a directory or a tar (`headers`), `docker` and
//! `layout` know the two formats, `incoming` has them loaded; `rootfs` makes an
//! image of a tar. `save` decides what is
//! written, `tarball` and `directory` write it by way of `output`.

mod directory;
mod docker;
mod headers;
mod incoming;
mod layer;
mod layout;
mod output;
mod rootfs;
mod save;
mod source;
mod tarball;

#[cfg(test)]
mod tests;

pub use incoming::{Archive, Layer};
pub use output::write_file;
pub use rootfs::{ImportOptions, import};
pub use save::{Chosen, Format, Output, save};
pub use source::Input;

use super::descriptor::Descriptor;
use super::digest::Digest;
use super::reference::{LOCAL_REGISTRY, Reference};
use super::tags::{self, Tag};
use crate::error::Result;
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
