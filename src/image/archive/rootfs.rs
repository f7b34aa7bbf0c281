//! An image from a root file system: one layer and a config made up for it
//! (`docker import`).

use std::io::Read;

use super::Loaded;
use super::layer;
use crate::error::{Context, Result};
use crate::image::blobs::Blobs;
use crate::image::config::{History, ImageConfig, RootFs, change};
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use crate::image::manifest::Manifest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::paths::Paths;

/// How to make an image of a tar.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Dockerfile instructions for its config, e.g. `CMD ["sh"]`
    /// ([`change::apply`]).
    pub changes: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
}

/// Makes an image of one layer, a tar of any compression.
pub fn import(paths: &Paths, tar: &mut dyn Read, options: &ImportOptions) -> Result<Loaded> {
    let now = jiff::Timestamp::now().to_string();
    let comment = options.message.clone().unwrap_or_else(|| "imported root file system".to_owned());
    let mut config = ImageConfig {
        created: Some(now.clone()),
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        variant: options.platform.variant.clone(),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
        history: vec![History { created: Some(now), comment: Some(comment), ..History::default() }],
        ..ImageConfig::default()
    };
    // Before the tar, which may be large: a slip is told at once.
    change::apply(&mut config, &options.changes)?;
    let blobs = Blobs::open(paths)?;
    let layer = layer::store(&blobs, tar).doing(|| "import root file system")?;
    blobs.write_out()?;
    layer.blob.publish()?;
    config.rootfs.diff_ids = vec![layer.diff_id];
    let bytes = config.to_bytes()?;
    // What we write must be what we read.
    ImageConfig::parse(&bytes)?;
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &bytes), vec![layer.descriptor]).to_bytes()?;
    let id = blobs.put(&bytes)?;
    blobs.put(&manifest)?;
    let references = options.reference.clone().into_iter().collect();
    let image = Loaded { manifest: Descriptor::of(OCI_MANIFEST, &manifest), id, references, source: None };
    Ok(image)
}
