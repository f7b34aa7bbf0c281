//! Images from nothing: layers as lists of entries, served by the registry of
//! the tests.

use sha2::{Digest, Sha256};

use super::probe_binary;
use super::registry::Registry;

/// /etc/passwd and /etc/group of test images.
pub const ACCOUNTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/probe\nweb:x:1000:1000:Web:/home/web:/probe\nbad:x:99999999:0::/:\n"),
    ("etc/group", "root:x:0:\nweb:x:1000:\naudio:x:29:web\nvideo:x:44:web,root\nstaff:x:50:\n"),
];

/// One entry of a layer.
pub enum Entry<'a> {
    /// A directory: mode, owner.
    Directory(&'a str, u32, u64),
    /// A file: mode, owner, content.
    File(&'a str, u32, u64, &'a [u8]),
    /// A symbolic link.
    Link(&'a str, &'a str),
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
        }
    }
    builder.into_inner().unwrap()
}

/// The layer that every test image begins with: the probe and accounts.
pub fn base_layer() -> Vec<u8> {
    let probe = std::fs::read(probe_binary()).unwrap();
    layer(&[
        Entry::Directory("etc", 0o755, 0),
        Entry::Directory("home", 0o755, 0),
        Entry::Directory("home/web", 0o750, 1000),
        Entry::File("probe", 0o755, 0, &probe),
        Entry::File(ACCOUNTS[0].0, 0o644, 0, ACCOUNTS[0].1.as_bytes()),
        Entry::File(ACCOUNTS[1].0, 0o644, 0, ACCOUNTS[1].1.as_bytes()),
    ])
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Puts an image of `layers` with `config` (the OCI config's `config` object)
/// into the registry; returns its reference.
pub fn publish(registry: &Registry, name: &str, layers: &[Vec<u8>], config: &serde_json::Value) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let document = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let document = serde_json::to_vec(&document).unwrap();
    registry.put_blob(&digest(&document), &document);
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            registry.put_blob(&digest(layer), layer);
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(layer), "size": layer.len(),
            })
        })
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&document), "size": document.len(),
        },
        "layers": descriptors,
    }))
    .unwrap();
    registry.put_manifest(name, "latest", &digest(&manifest), media_type, &manifest);
    format!("{}/{name}", registry.host())
}
