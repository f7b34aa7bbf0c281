//! The documents of an OCI image layout: `oci-layout`, `index.json`, and blobs
//! by digest (image spec, image-layout.md). Where its files are, in an archive
//! or a directory, is the caller's business.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::descriptor::{Descriptor, Role};
use super::digest::Digest;
use super::manifest::{Document, Index, Manifest};
use super::platform::Platform;
use super::quote::quoted;
use super::reference::Reference;
use crate::error::{Failure, Result};
use crate::limits;

/// Says that a directory is a layout.
pub(super) const MARKER_FILE: &str = "oci-layout";
/// What [`MARKER_FILE`] holds.
pub(super) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The images and their names.
pub(super) const INDEX_FILE: &str = "index.json";
/// Where blobs are.
pub(super) const BLOBS: &str = "blobs/sha256";

/// A full name, written by containerd, docker save and us.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or a full name where a tool had one.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Refuses a layout of another version than ours.
pub(super) fn check_marker(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = serde_json::from_slice(bytes)
        .map_err(|error| Failure::user(format!("the file {MARKER_FILE} is not valid: {error}")))?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    Err(Failure::user(format!("image layout version {} is not supported", quoted(&marker.image_layout_version))))
}

/// Where the blob lies below the layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// An image of an index, or an index of images, with all its names.
pub(super) struct Named {
    pub(super) entry: Descriptor,
    pub(super) names: Vec<Reference>,
}

/// The images that `index.json` lists. One image with two names is listed
/// twice there and once here.
pub(super) fn images(index_json: &[u8]) -> Result<Vec<Named>> {
    let Document::Index(index) = Document::parse(index_json, None)? else {
        return Err(Failure::user(format!("{INDEX_FILE} is not an index")));
    };
    let Index { manifests, .. } = index;
    let mut images: Vec<Named> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    for entry in manifests.into_iter().filter(is_image) {
        let name = name(&entry);
        match places.get(&entry.digest).and_then(|place| images.get_mut(*place)) {
            Some(image) => image.names.extend(name),
            None => {
                places.insert(entry.digest, images.len());
                images.push(Named { entry, names: name.into_iter().collect() });
            }
        }
    }
    Ok(images)
}

/// An image or an index of images, not an attestation beside one.
fn is_image(entry: &Descriptor) -> bool {
    matches!(entry.role(), Role::Manifest | Role::Index)
        && !entry.annotations.contains_key("vnd.docker.reference.type")
        && entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// The entry's name. One without a registry is ours: a layout's author does
/// not speak for docker.io. What is no name is no name, and neither is one
/// with the digest of something else.
fn name(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(FULL_NAME).and_then(|name| Reference::parse(name).ok());
    let name = full.or_else(|| entry.annotations.get(REF_NAME).and_then(|name| Reference::parse_local(name).ok()))?;
    match name.digest() {
        None => Some(name),
        Some(digest) if *digest == entry.digest => Some(name.at(entry.digest)),
        Some(_) => None,
    }
}

/// From an entry to the image that `platform` runs; `read` gives the verified
/// bytes of a manifest or an index.
pub(super) fn resolve(
    entry: &Descriptor,
    platform: &Platform,
    read: &dyn Fn(&Descriptor) -> Result<Vec<u8>>,
) -> Result<(Descriptor, Manifest)> {
    let mut entry = entry.clone();
    for _ in 0..limits::INDEX_DEPTH_MAX {
        if entry.size > limits::MANIFEST_BYTES_MAX {
            return Err(Failure::user(format!("the manifest is larger than {} bytes", limits::MANIFEST_BYTES_MAX)));
        }
        let bytes = read(&entry)?;
        match Document::parse(&bytes, Some(&entry.media_type))? {
            Document::Manifest(manifest) => return Ok((Descriptor::of(entry.media_type, &bytes), manifest)),
            Document::Index(index) => entry = platform.select(&index.manifests)?.clone(),
        }
    }
    Err(Failure::user(format!("indexes lie within each other more than {} deep", limits::INDEX_DEPTH_MAX)))
}

/// An entry of `index.json` under `name`; an image without names is listed
/// without.
pub(super) fn entry(image: &Descriptor, name: Option<&Reference>) -> Descriptor {
    let mut entry = Descriptor::new(image.media_type.clone(), image.digest, image.size);
    if let Some(name) = name {
        // The whole name twice: a tag alone would be ambiguous as soon as a
        // second image is beside it (podman save writes it so, too).
        for annotation in [FULL_NAME, REF_NAME] {
            entry.annotations.insert(annotation.to_owned(), name.to_string());
        }
    }
    entry
}

/// More than this many entries are refused.
pub(super) fn check_count(images: &[Named]) -> Result<()> {
    let names = images.iter().map(|image| image.names.len().max(1)).sum::<usize>();
    if names > limits::ARCHIVE_IMAGES_MAX {
        return Err(Failure::user(format!("the archive has more than {} images", limits::ARCHIVE_IMAGES_MAX)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::descriptor::OCI_MANIFEST;

    #[test]
    fn names_are_read_as_they_are_written() {
        let image = Descriptor::of(OCI_MANIFEST, b"image");
        let named = |name: &str| {
            let name = Reference::parse(name).unwrap();
            let entry = entry(&image, Some(&name));
            let json = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
            let images = images(json.as_bytes()).unwrap();
            (images[0].names.clone(), name)
        };
        for text in ["web", "quay.io/a/b:1", "localhost/x", &format!("web@{}", image.digest)] {
            let (read, written) = named(text);
            assert_eq!(read, [written]);
        }
        // A digest that is not the image's own would be a lie.
        assert_eq!(named(&format!("web@{}", Digest::of(b"other"))).0, []);
    }

    #[test]
    fn attestations_and_artifacts_are_no_images() {
        let json = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": Digest::of(b"1"), "size": 1},
            {"mediaType": OCI_MANIFEST, "digest": Digest::of(b"1"), "size": 1, "annotations": {REF_NAME: "1.2"}},
            {"mediaType": OCI_MANIFEST, "digest": Digest::of(b"2"), "size": 1,
                "platform": {"os": "unknown", "architecture": "unknown"}},
            {"mediaType": "application/vnd.x", "digest": Digest::of(b"3"), "size": 1},
        ]});
        let images = images(json.to_string().as_bytes()).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].names[0].to_string(), "localhost/1.2:latest");
        assert!(check_marker(MARKER).is_ok());
        assert!(check_marker(br#"{"imageLayoutVersion": "2.0.0"}"#).is_err());
    }
}
