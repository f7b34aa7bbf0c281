//! An image made from another one: its layers, one more, and a config that
//! says how it came to be. What `commit` writes, and each step of a build.
//!
//! The result is an OCI image whatever the base is: its layers keep their
//! digests and get OCI's names for what they are, since some programs refuse a
//! manifest that mixes both dialects.

use super::blobs::Blobs;
use super::config::{History, ImageConfig, RootFs, RunConfig};
use super::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use super::digest::Digest;
use super::manifest::{Document, Manifest};
use super::platform::Platform;
use crate::error::{Failure, Result};
use crate::limits;

/// An image in the making.
#[derive(Debug, Clone)]
pub struct Derived {
    /// Its config so far; may be changed until it is stored.
    pub config: ImageConfig,
    layers: Vec<Descriptor>,
}

/// One more step in an image's history.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// When it was made; also the image's own date.
    pub created: jiff::Timestamp,
    /// The command that made it.
    pub created_by: String,
    /// Who made it.
    pub author: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// What it added to the files: the blob and its diff id.
    pub layer: Option<(Descriptor, Digest)>,
}

impl Derived {
    /// Begins with the image of `manifest` and `config`, which is to run as
    /// `run` says.
    pub fn from(manifest: &Manifest, config: &ImageConfig, run: RunConfig) -> Self {
        let layers = manifest.layers.iter().map(as_oci).collect();
        // Its author is whoever makes it, and may say so.
        Self { config: ImageConfig { config: run, author: None, ..config.clone() }, layers }
    }

    /// Begins with nothing.
    pub fn from_scratch(platform: &Platform, run: RunConfig) -> Self {
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: run,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
            ..ImageConfig::default()
        };
        Self { config, layers: Vec::new() }
    }

    /// Adds a step.
    pub fn add(&mut self, step: Step) -> Result<()> {
        let created = Some(step.created.to_string());
        self.config.created.clone_from(&created);
        self.config.author.clone_from(&step.author);
        self.config.history.push(History {
            created,
            created_by: Some(step.created_by).filter(|text| !text.is_empty()),
            author: step.author,
            comment: step.comment,
            empty_layer: step.layer.is_none(),
        });
        if let Some((descriptor, diff_id)) = step.layer {
            if self.layers.len() >= limits::LAYERS_MAX {
                return Err(Failure::user(format!("an image cannot have more than {} layers", limits::LAYERS_MAX))
                    .hint("kelp export CONTAINER | kelp import - NAME makes one layer of all"));
            }
            self.layers.push(descriptor);
            self.config.rootfs.diff_ids.push(diff_id);
        }
        Ok(())
    }

    /// Stores its documents; returns the manifest's descriptor and the image's
    /// id. The layers are in the store already.
    pub fn store(self, blobs: &Blobs) -> Result<(Descriptor, Digest)> {
        let config = self.config.to_bytes()?;
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &config), self.layers).to_bytes()?;
        // What we write must be what we read.
        ImageConfig::parse(&config)?;
        Document::parse(&manifest, Some(OCI_MANIFEST))?;
        let id = blobs.put(&config)?;
        blobs.put(&manifest)?;
        Ok((Descriptor::of(OCI_MANIFEST, &manifest), id))
    }
}

/// The same content under OCI's media type.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar"
        }
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..layer.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::compression::Compression;
    use crate::image::descriptor::DOCKER_CONFIG;
    use crate::paths::Paths;

    fn step(comment: &str, layer: Option<&[u8]>) -> Step {
        let layer = layer.map(|bytes| (Descriptor::of(Compression::None.layer_media_type(), bytes), Digest::of(bytes)));
        let created_by = "sh -c true".to_owned();
        Step { created_by, comment: Some(comment.to_owned()), author: Some("me".to_owned()), layer, ..Step::default() }
    }

    #[test]
    fn layers_and_history_grow() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&Paths::new(dir.path().join("data"), dir.path().join("run"))).unwrap();
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let manifest = Manifest::new(Descriptor::of(DOCKER_CONFIG, b"{}"), vec![Descriptor::of(docker, b"base")]);
        let mut base = Derived::from_scratch(&Platform::host(), RunConfig::default()).config;
        base.author = Some("somebody else".to_owned());
        base.rootfs.diff_ids.push(Digest::of(b"base"));
        let run = RunConfig { cmd: vec!["sh".to_owned()], ..RunConfig::default() };
        let mut derived = Derived::from(&manifest, &base, run);
        derived.add(step("one", Some(b"layer"))).unwrap();
        derived.add(step("two", None)).unwrap();
        let (descriptor, id) = derived.store(&blobs).unwrap();
        let (manifest, config) = crate::image::lookup::documents(&blobs, &descriptor).unwrap();
        assert_eq!(manifest.config.digest, id);
        let types: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        assert_eq!(types, ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"]);
        assert_eq!(config.rootfs.diff_ids, [Digest::of(b"base"), Digest::of(b"layer")]);
        let empty: Vec<_> = config.history.iter().map(|step| step.empty_layer).collect();
        assert_eq!((empty, config.author.as_deref()), (vec![false, true], Some("me")));
        assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(config.config.cmd, ["sh"]);
    }

    #[test]
    fn an_image_does_not_grow_for_ever() {
        let mut derived = Derived::from_scratch(&Platform::host(), RunConfig::default());
        for _ in 0..limits::LAYERS_MAX {
            derived.add(step("", Some(b"x"))).unwrap();
        }
        assert!(derived.add(step("", None)).is_ok());
        assert!(derived.add(step("", Some(b"x"))).unwrap_err().to_string().contains("500 layers"));
    }
}
