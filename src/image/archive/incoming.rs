//! What an archive brings: first the documents, then layers, at last names.
//!
//! Whoever loads gives layers to be unpacked from where they lie in the archive
//! while they are copied into the store here, has all written out to the disk
//! at once, and then gives blobs, unpacked layers and images their names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use super::source::{self, Input, Member, Source};
use super::{Loaded, docker, layer, layout, threads};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::{Blobs, Checked};
use crate::image::compression::Compression;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
use crate::image::digest::{Digest, Verifier};
use crate::image::layout::MARKER_FILE;
use crate::image::manifest::Manifest;
use crate::image::parallel;
use crate::image::platform::Platform;
use crate::image::quote::quoted;
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::limits;

/// An image whose documents were read.
pub(super) struct Image {
    pub(super) references: Vec<Reference>,
    pub(super) source: Option<Digest>,
    pub(super) documents: Documents,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<Layer>,
}

/// Where the manifest comes from.
pub(super) enum Documents {
    /// The archive; manifest and config are in the store.
    Kept { manifest: Descriptor, id: Digest },
    /// Us: the format has none. The config keeps its bytes, and with them the
    /// image its id.
    Made { config: Vec<u8> },
}

/// A layer in the archive.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The digest of the plain tar.
    pub diff_id: Digest,
    /// Bytes as they are in the archive.
    pub size: u64,
    pub(super) name: String,
    pub(super) content: Content,
}

/// What is known of a layer's bytes.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// All.
    Blob(Descriptor),
    /// That they are a tar: plain by the format's rules; some tools compress it.
    Tar,
}

/// An archive that is being loaded.
pub struct Archive<'a> {
    blobs: &'a Blobs,
    source: Source<'a>,
    images: Vec<Image>,
    layers: Vec<Layer>,
    /// What those are in the store that were copied, by name and diff id.
    found: BTreeMap<(String, Digest), Descriptor>,
}

impl<'a> Archive<'a> {
    /// Reads the documents of all images that `platform` can run: of a
    /// docker-archive, an oci-archive or an OCI directory, told by what is in
    /// it.
    pub fn read(blobs: &'a Blobs, input: Input<'_>, platform: &Platform) -> Result<Self> {
        let source = Source::open(blobs, input)?;
        // docker save since 25 writes both; the OCI half has the real manifests.
        let images = if let Some(marker) = source.read(MARKER_FILE, limits::TAG_BYTES_MAX)? {
            layout::read(blobs, &source, &marker, platform)?
        } else if let Some(manifest_json) = source.read("manifest.json", limits::MANIFEST_BYTES_MAX)? {
            docker::read(&source, &manifest_json)?
        } else {
            return Err(holds_none(&source)?);
        };
        if images.is_empty() {
            return Err(Failure::user("it holds no image"));
        }
        for image in &images {
            let made_for = image.config.platform();
            if !platform.accepts(&made_for) {
                return Err(Failure::user(format!("the image is for {made_for}, not for {platform}"))
                    .hint(format!("--platform {made_for} takes it; elsewhere it runs only with an emulator")));
            }
        }
        // Images of one archive often share layers.
        let all = images.iter().flat_map(|image| &image.layers);
        let unique: BTreeMap<(&str, Digest, u64), &Layer> =
            all.map(|layer| ((layer.name.as_str(), layer.diff_id, layer.size), layer)).collect();
        let mut layers: Vec<Layer> = unique.into_values().cloned().collect();
        // What takes longest must not begin last.
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        Ok(Self { blobs, source, images, layers, found: BTreeMap::new() })
    }

    /// The layers, each once, the largest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// A layer's bytes: the file is read from where it stands, so many bytes as
    /// the layer has.
    pub fn open(&self, layer: &Layer) -> Result<File> {
        match &layer.content {
            Content::Blob(blob) if self.blobs.has(blob)? => self.blobs.file(&blob.digest),
            _ => self.member(layer)?.reopen().doing(|| format!("open {}", quoted(&layer.name))),
        }
    }

    fn member(&self, layer: &Layer) -> Result<Member> {
        let lacks = || match &layer.content {
            Content::Blob(blob) => layout::lacks(blob),
            Content::Tar => docker::lacks(&layer.name),
        };
        self.source.member(&layer.name)?.ok_or_else(lacks)
    }

    /// Copies the layers at these places of [`Archive::layers`], verified. The
    /// caller has them written out to the disk, and publishes them.
    pub fn copy(&mut self, places: std::ops::Range<usize>, progress: &dyn Progress) -> Result<Vec<Checked<'a>>> {
        let layers = self.layers.get(places).unwrap_or_default();
        let copied = parallel::each(layers, threads(), |layer| {
            let id = format!("load {}", layer.diff_id.short());
            progress.start(&id, layer.size);
            let copied = self.copy_one(layer, &|bytes| progress.advance(&id, bytes));
            progress.done(&id);
            copied.doing(|| match &layer.content {
                Content::Blob(blob) => format!("read blob {}", blob.digest),
                Content::Tar => format!("read layer {}", quoted(&layer.name)),
            })
        })?;
        let mut checked = Vec::new();
        for (layer, (descriptor, blob)) in layers.iter().zip(copied) {
            self.found.insert((layer.name.clone(), layer.diff_id), descriptor);
            checked.extend(blob);
        }
        Ok(checked)
    }

    /// What a layer is in the store, and what of it has no name yet.
    fn copy_one(&self, layer: &Layer, advance: &dyn Fn(u64)) -> Result<(Descriptor, Option<Checked<'a>>)> {
        let Layer { diff_id, size, content, .. } = layer;
        if let Content::Blob(blob) = content {
            if self.blobs.has(blob)? {
                return Ok((blob.clone(), None));
            }
            let mut writer = self.blobs.writer(Some(blob.digest), Some(blob.size))?;
            source::pump(self.member(layer)?, &mut writer, advance)?;
            return Ok((blob.clone(), Some(writer.check()?)));
        }
        let member = self.member(layer)?;
        let stored = member.stored();
        let (compression, mut reader) = Compression::sniff(member)?;
        let descriptor = |digest| Descriptor::new(compression.layer_media_type(), digest, *size);
        // Each is kept as it came: compressing a plain one here would cost a
        // third of the load, and a push does it once.
        let (descriptor, found, blob) = match (compression, stored) {
            (Compression::None, Some(digest)) => (descriptor(digest), digest, None),
            (Compression::None, None) if self.blobs.has(&descriptor(*diff_id))? => {
                (descriptor(*diff_id), *diff_id, None)
            }
            (Compression::None, None) => {
                let mut writer = self.blobs.writer(Some(*diff_id), Some(*size))?;
                source::pump(reader, &mut writer, advance)?;
                (descriptor(*diff_id), *diff_id, Some(writer.check()?))
            }
            (_, Some(digest)) => {
                let decoder = compression.decoder(BufReader::with_capacity(128 << 10, &mut reader))?;
                (descriptor(digest), Verifier::new(decoder).finish(limits::LAYER_BYTES_MAX)?.0, None)
            }
            (_, None) => {
                let stored = layer::store(self.blobs, reader)?;
                (stored.descriptor, stored.diff_id, Some(stored.blob))
            }
        };
        match found == *diff_id {
            true => Ok((descriptor, blob)),
            false => Err(Failure::user(format!("its content has digest {found}, not {diff_id}"))),
        }
    }

    /// The images, which have no names before [`super::keep`]. All layers were
    /// copied and published.
    pub fn finish(self) -> Result<Vec<Loaded>> {
        self.images.iter().map(|image| self.finish_image(image)).collect()
    }

    fn finish_image(&self, image: &Image) -> Result<Loaded> {
        let layer = |layer: &Layer| self.found.get(&(layer.name.clone(), layer.diff_id)).cloned();
        let layers: Option<Vec<Descriptor>> = image.layers.iter().map(layer).collect();
        let layers = layers.ok_or_else(|| Failure::bug("a layer of an archive was not copied"))?;
        let (manifest, id) = match &image.documents {
            Documents::Kept { manifest, id } => (manifest.clone(), *id),
            Documents::Made { config } => {
                let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, config), layers).to_bytes()?;
                let id = self.blobs.put(config)?;
                self.blobs.put(&manifest)?;
                (Descriptor::of(OCI_MANIFEST, &manifest), id)
            }
        };
        Ok(Loaded { manifest, id, references: image.references.clone(), source: image.source })
    }
}

fn holds_none(source: &Source<'_>) -> Result<Failure> {
    let failure = Failure::user("it holds no image: neither \"oci-layout\" nor \"manifest.json\" is in it");
    if source.member("repositories")?.is_some() {
        return Ok(failure.hint("docker before 1.10 wrote such archives; load and save it with a newer docker first"));
    }
    Ok(match source.is_rootfs() {
        true => failure.hint("it looks like a root file system: kelp import makes an image of it"),
        false => failure,
    })
}
