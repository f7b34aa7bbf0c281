//! Manifests and indexes, OCI's and Docker's (schema 2); schema 1 is refused.
//!
//! Bytes are verified against their digest before they come here. A document
//! is one thing only: one that could be read as manifest and as index, or
//! whose own media type contradicts the sender's, is refused (CVE-2021-41190:
//! two clients saw two images under one digest).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, OCI_CONFIG, OCI_MANIFEST, Role, null_is_default};
use super::quote::quoted;
use crate::error::{Failure, Result};
use crate::limits;

/// A document under a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images by platform.
    Index(Index),
}

/// Config and layers of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Remarks. Never a source of policy (rule P4 of docs/security.md).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Images by platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
}

/// The outline of a document: enough to tell what it claims to be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a document. `declared` is the media type under which it was sent
    /// or described, if there was one.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self> {
        if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
            return Err(Failure::user(format!("the manifest is larger than {} bytes", limits::MANIFEST_BYTES_MAX)));
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(malformed)?;
        if outline.schema_version == 1 || outline.fs_layers.is_some() {
            return Err(schema1());
        }
        if outline.schema_version != 2 {
            return Err(Failure::user(format!("manifest schema version {} is not supported", outline.schema_version)));
        }
        match outline.role(declared)? {
            Role::Index => Ok(Self::Index(serde_json::from_slice(bytes).map_err(malformed)?)),
            _ => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
                manifest.check()?;
                Ok(Self::Manifest(manifest))
            }
        }
    }
}

impl Outline {
    /// What the document is: what it says, what it was said to be and what it
    /// looks like have to agree.
    fn role(&self, declared: Option<&str>) -> Result<Role> {
        let declared = declared.map(essence).filter(|essence| !is_generic(essence));
        let own = self.media_type.as_deref().filter(|own| !own.is_empty());
        if let (Some(declared), Some(own)) = (&declared, own)
            && declared != own
        {
            return Err(Failure::user(format!(
                "the manifest was sent as {} but says it is {}",
                quoted(declared),
                quoted(own)
            )));
        }
        let is_manifest = self.config.is_some() || self.layers.is_some();
        let is_index = self.manifests.is_some();
        let shape = match (is_manifest, is_index) {
            (true, true) => return Err(Failure::user("the manifest is both an image and an index of images")),
            (true, false) => Role::Manifest,
            (false, true) => Role::Index,
            (false, false) => return Err(Failure::user("the manifest is neither an image nor an index of images")),
        };
        let Some(said) = declared.as_deref().or(own) else { return Ok(shape) };
        match Role::of(said) {
            Role::Schema1 => Err(schema1()),
            role if role == shape => Ok(shape),
            Role::Manifest | Role::Index => {
                Err(Failure::user(format!("the manifest says it is {} but has the fields of another", quoted(said))))
            }
            _ => Err(Failure::user(format!("{} is not an image manifest", quoted(said)))),
        }
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What servers say that do not know what they serve.
fn is_generic(essence: &str) -> bool {
    matches!(essence, "" | "application/json" | "text/plain" | "application/octet-stream" | "binary/octet-stream")
}

impl Manifest {
    /// An OCI manifest of our own making.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
        }
    }

    /// The manifest of an image with a config of `config` bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Failure::bug(format!("serialise manifest: {error}")))
    }

    /// The bounds, and that it is an image at all.
    fn check(&self) -> Result<()> {
        if self.config.role() != Role::Config {
            return Err(Failure::user(format!(
                "it is not an image: its config is {}",
                quoted(&self.config.media_type)
            ))
            .hint(format!("an image's config is {OCI_CONFIG}; this may be a chart, a module or another artifact")));
        }
        if self.config.size > limits::CONFIG_BYTES_MAX {
            let max = limits::CONFIG_BYTES_MAX;
            return Err(Failure::user(format!("the image config has {} bytes, more than {max}", self.config.size)));
        }
        if self.layers.len() > limits::LAYERS_MAX {
            let max = limits::LAYERS_MAX;
            return Err(Failure::user(format!("the image has {} layers, more than {max}", self.layers.len())));
        }
        for layer in &self.layers {
            if layer.role() != Role::Layer {
                let shown = quoted(&layer.media_type);
                return Err(Failure::user(format!("layer {} is of unknown type {shown}", layer.digest.short())));
            }
            if layer.size > limits::LAYER_BYTES_MAX {
                let max = limits::LAYER_BYTES_MAX;
                return Err(Failure::user(format!("layer {} is larger than {max} bytes", layer.digest.short())));
            }
        }
        Ok(())
    }
}

fn schema1() -> Failure {
    Failure::user("the image has a Docker schema 1 manifest, which is not supported")
        .hint("push the image again with any tool of this decade, which makes a schema 2 or OCI manifest")
}

fn malformed(error: serde_json::Error) -> Failure {
    Failure::user(format!("the manifest is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::descriptor::{DOCKER_CONFIG, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX};
    use crate::image::digest::Digest;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": Digest::of(b"x").to_string(), "size": 1, "urls": ["http://evil"]})
    }

    fn image(media_type: Option<&str>) -> Value {
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let mut value = json!({"schemaVersion": 2, "config": descriptor(DOCKER_CONFIG), "layers": [descriptor(layer)]});
        if let Some(media_type) = media_type {
            value["mediaType"] = json!(media_type);
        }
        value
    }

    fn parse(value: &Value, declared: Option<&str>) -> Result<Document> {
        Document::parse(value.to_string().as_bytes(), declared)
    }

    fn refused(value: &Value, declared: Option<&str>, why: &str) {
        let failure = parse(value, declared).unwrap_err().to_string();
        assert!(failure.contains(why), "{failure}");
    }

    #[test]
    fn reads_both_dialects() {
        for (own, declared) in [
            (Some(DOCKER_MANIFEST), Some(DOCKER_MANIFEST)),
            (Some(OCI_MANIFEST), None),
            (None, Some(OCI_MANIFEST)),
            (None, None),
            (Some(OCI_MANIFEST), Some("application/json; charset=utf-8")),
            (None, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")),
        ] {
            assert!(matches!(parse(&image(own), declared), Ok(Document::Manifest(_))), "{own:?} {declared:?}");
        }
        let index =
            json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST, "manifests": [descriptor(DOCKER_MANIFEST)]});
        assert!(matches!(parse(&index, Some(DOCKER_MANIFEST_LIST)), Ok(Document::Index(_))));
    }

    #[test]
    fn refuses_a_document_with_two_meanings() {
        let mut both = image(None);
        both["manifests"] = json!([]);
        refused(&both, Some(OCI_MANIFEST), "both an image and an index");
        refused(&image(Some(OCI_MANIFEST)), Some(OCI_INDEX), "was sent as");
        refused(&image(Some(OCI_MANIFEST)), Some(DOCKER_MANIFEST), "was sent as");
        refused(&image(Some(OCI_INDEX)), None, "fields of another");
        refused(&image(None), Some(OCI_INDEX), "fields of another");
        refused(&image(None), Some("text/html"), "not an image manifest");
        refused(&json!({"schemaVersion": 2}), None, "neither");
        let twice = br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        assert!(Document::parse(twice, None).unwrap_err().to_string().contains("duplicate"));
    }

    #[test]
    fn refuses_what_is_no_image() {
        refused(&json!({"schemaVersion": 1, "fsLayers": []}), None, "schema 1");
        refused(&json!({"schemaVersion": 3, "manifests": []}), None, "version 3");
        let mut chart = image(None);
        chart["config"] = descriptor("application/vnd.cncf.helm.config.v1+json");
        refused(&chart, None, "not an image");
        let mut wide = image(None);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar");
        wide["layers"] = Value::Array(vec![layer; limits::LAYERS_MAX + 1]);
        refused(&wide, None, "501 layers");
        let mut negative = image(None);
        negative["layers"][0]["size"] = json!(-1);
        refused(&negative, None, "not valid");
        let mut path = image(None);
        path["layers"][0]["digest"] = json!("sha256:../../../etc/passwd");
        refused(&path, None, "64 lower-case");
    }

    #[test]
    fn our_own_reads_back() {
        let config = Descriptor::of(OCI_CONFIG, b"{}");
        let manifest = Manifest::new(config, vec![Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"")]);
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Document::parse(&bytes, Some(OCI_MANIFEST)).unwrap(), Document::Manifest(manifest));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), declared in ".{0,20}") {
            drop(Document::parse(&bytes, Some(&declared)));
        }
    }
}
