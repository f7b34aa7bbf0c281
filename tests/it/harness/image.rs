//! Images from nothing: layers as lists of entries, served by the registry of
//! the tests.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::probe_binary;
use super::registry::Registry;

/// /etc/passwd and /etc/group of test images.
pub const ACCOUNTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/probe\nweb:x:1000:1000:Web:/home/web:/probe\nbad:x:99999999:0::/:\n"),
    ("etc/group", "root:x:0:\nweb:x:1000:\naudio:x:29:web\nvideo:x:44:web,root\nstaff:x:50:\n"),
];

/// What test images run on.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// One entry of a layer.
pub enum Entry<'a> {
    /// A directory: mode, owner.
    Directory(&'a str, u32, u64),
    /// A file: mode, owner, content.
    File(&'a str, u32, u64, &'a [u8]),
    /// A symbolic link.
    Link(&'a str, &'a str),
    /// One more name of a file of the layer.
    HardLink(&'a str, &'a str),
    /// A fifo.
    Fifo(&'a str),
}

/// An uncompressed layer.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_600_000_000);
        match entry {
            Entry::Directory(path, mode, owner) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_uid(*owner);
                header.set_gid(*owner);
                header.set_size(0);
                builder.append_data(&mut header, path, &[][..]).unwrap();
            }
            Entry::File(path, mode, owner, content) => {
                header.set_mode(*mode);
                header.set_uid(*owner);
                header.set_gid(*owner);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, *content).unwrap();
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Entry::HardLink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_mode(0o644);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Entry::Fifo(path) => {
                header.set_entry_type(tar::EntryType::Fifo);
                header.set_mode(0o644);
                header.set_size(0);
                builder.append_data(&mut header, path, &[][..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// The layer that every test image begins with: the probe and accounts.
pub fn base_layer() -> Vec<u8> {
    let probe = fs::read(probe_binary()).unwrap();
    layer(&[
        Entry::Directory("etc", 0o755, 0),
        Entry::Directory("home", 0o755, 0),
        Entry::Directory("home/web", 0o750, 1000),
        Entry::File("probe", 0o755, 0, &probe),
        Entry::File(ACCOUNTS[0].0, 0o644, 0, ACCOUNTS[0].1.as_bytes()),
        Entry::File(ACCOUNTS[1].0, 0o644, 0, ACCOUNTS[1].1.as_bytes()),
    ])
}

/// The digest of `bytes` as documents have it.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The documents of one image.
struct Documents {
    config: Vec<u8>,
    manifest: Vec<u8>,
}

/// Of the manifests here.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Puts an image of `layers` with `config` (the OCI config's `config` object)
/// into the registry; returns its reference.
pub fn publish(registry: &Registry, name: &str, layers: &[Vec<u8>], config: &serde_json::Value) -> String {
    let Documents { config, manifest } = documents(layers, config);
    registry.put_blob(&digest(&config), &config);
    for layer in layers {
        registry.put_blob(&digest(layer), layer);
    }
    registry.put_manifest(name, "latest", &digest(&manifest), MANIFEST_TYPE, &manifest);
    format!("{}/{name}", registry.host())
}

/// The same for another architecture, with blobs that only this repository has.
pub fn publish_for(registry: &Registry, name: &str, architecture: &str, layers: &[Vec<u8>]) -> String {
    let Documents { config, manifest } = documents_of(layers, &serde_json::json!({"architecture": architecture}));
    for blob in layers.iter().chain([&config]) {
        registry.put_blob_in(name, &digest(blob), blob);
    }
    registry.put_manifest(name, "latest", &digest(&manifest), MANIFEST_TYPE, &manifest);
    format!("{}/{name}", registry.host())
}

/// Writes the same as an OCI image layout with one tag.
pub fn write_layout(directory: &Path, tag: &str, layers: &[Vec<u8>], config: &serde_json::Value) {
    write_layout_of(directory, tag, layers, &serde_json::json!({"config": config}));
}

/// The same, with more of the image config than its `config` object.
pub fn write_layout_of(directory: &Path, tag: &str, layers: &[Vec<u8>], document: &serde_json::Value) {
    let Documents { config, manifest } = documents_of(layers, document);
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in layers.iter().chain([&config, &manifest]) {
        fs::write(blobs.join(digest(blob).strip_prefix("sha256:").unwrap()), blob).unwrap();
    }
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": MANIFEST_TYPE, "digest": digest(&manifest), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
}

/// The manifest of an image that is published or written.
pub fn manifest(layers: &[Vec<u8>], config: &serde_json::Value) -> Vec<u8> {
    documents(layers, config).manifest
}

fn documents(layers: &[Vec<u8>], config: &serde_json::Value) -> Documents {
    documents_of(layers, &serde_json::json!({"config": config}))
}

fn documents_of(layers: &[Vec<u8>], document: &serde_json::Value) -> Documents {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let mut document = document.clone();
    if document["architecture"].is_null() {
        document["architecture"] = ARCHITECTURE.into();
    }
    document["os"] = "linux".into();
    document["rootfs"] = serde_json::json!({"type": "layers", "diff_ids": diff_ids});
    let document = serde_json::to_vec(&document).unwrap();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(layer), "size": layer.len(),
            })
        })
        .collect();
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&document), "size": document.len(),
        },
        "layers": descriptors,
    }))
    .unwrap();
    Documents { config: document, manifest }
}
