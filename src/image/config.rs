//! The image config: how the author wants the program run, and the diff ids
//! of the layers (image spec, config.md; Docker's is a superset).
//!
//! Everything here is a stranger's wish. Nothing in it may lower security
//! (rule P4 of docs/security.md); the plan of a container decides what counts.

pub mod change;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::descriptor::null_is_default;
use super::digest::Digest;
use super::manifest::Manifest;
use super::platform::Platform;
use super::quote::quoted;
use crate::error::{Failure, Result};
use crate::limits;

/// The config of an image. Its digest is the image's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made (RFC 3339); as its author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(default)]
    pub architecture: String,
    /// What it runs on.
    #[serde(default)]
    pub os: String,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The layers, unpacked.
    pub rootfs: RootFs,
    /// How the layers came to be.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The author's defaults for running the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]`.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What to run; arguments follow.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its default arguments, or what to run where there is no entrypoint.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that get a volume of their own.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where it starts.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Remarks.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// The shell of a Dockerfile's RUN in shell form.
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// How to ask whether the program is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from this image.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// How to ask a program whether it is well. Times are in nanoseconds; 0 means
/// "as usual".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD` and arguments, or `CMD-SHELL` and a line.
    #[serde(deserialize_with = "words")]
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: i64,
    /// For one check.
    pub timeout: i64,
    /// While failures do not count.
    pub start_period: i64,
    /// Between two checks in the start period.
    pub start_interval: i64,
    /// Failures until unwell.
    pub retries: i64,
}

/// The layers by the digests of their plain tars, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the layers, decompressed.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads a config whose digest was verified.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
            return Err(Failure::user(format!("the image config is larger than {} bytes", limits::CONFIG_BYTES_MAX)));
        }
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|error| Failure::user(format!("the image config is not valid: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// The same as bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Failure::bug(format!("serialise image config: {error}")))
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant: self.variant.clone() }
    }

    /// Every layer of the manifest needs its diff id here.
    pub fn check_layers(&self, manifest: &Manifest) -> Result<()> {
        let (layers, ids) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        if layers == ids {
            return Ok(());
        }
        Err(Failure::user(format!("the image has {layers} layers but its config names {ids}")))
    }

    fn check(&self) -> Result<()> {
        if self.rootfs.kind != "layers" {
            return Err(Failure::user(format!("root file system of unknown type {}", quoted(&self.rootfs.kind))));
        }
        if self.rootfs.diff_ids.len() > limits::LAYERS_MAX {
            return Err(Failure::user(format!("the image config names more than {} layers", limits::LAYERS_MAX)));
        }
        if self.config.env.len() > limits::ENVIRONMENT_MAX {
            let max = limits::ENVIRONMENT_MAX;
            return Err(Failure::user(format!("the image sets more than {max} environment variables")));
        }
        // An entry without a value would be read as "take it from the host"
        // further on (CVE-2021-3602, CVE-2026-57231).
        for entry in &self.config.env {
            if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(Failure::user(format!(
                    "the image's environment entry {} is not NAME=value",
                    quoted(entry)
                )));
            }
        }
        // execve(2) and open(2) end a text at the first NUL: what is checked
        // and what is used would differ.
        let run = &self.config;
        let texts = [&run.env, &run.entrypoint, &run.cmd, &run.shell].into_iter().flatten();
        let single = [&run.user, &run.working_dir].into_iter().chain(&run.volumes);
        match texts.chain(single).find(|text| text.contains('\0')) {
            Some(text) => Err(Failure::user(format!("the image config has a NUL character in {}", quoted(text)))),
            None => Ok(()),
        }
    }
}

/// `{"a": {}, "b": {}}` is Go's way to write a set.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.into_iter().flatten().map(|(key, _)| key).collect())
}

fn as_keys<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Nothing {}
    serializer.collect_map(set.iter().map(|key| (key, Nothing {})))
}

/// Docker once wrote a single word without the list (its `strslice`).
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::<Words>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Words::Many(words)) => words,
        Some(Words::One(word)) => vec![word],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOCKER: &str = r#"{
        "architecture": "amd64", "os": "linux", "created": "2024-01-27T00:30:48.743965523Z",
        "config": {
            "Hostname": "", "User": "1000:1000", "AttachStdin": false, "Env": ["PATH=/bin", "EMPTY="],
            "Cmd": ["/bin/sh"], "ArgsEscaped": true, "Image": "sha256:0", "Volumes": {"/data": {}},
            "WorkingDir": "/srv", "Entrypoint": null, "OnBuild": null, "Labels": null,
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000, "Retries": 3}
        },
        "container_config": {"Cmd": ["x"]}, "docker_version": "20.10.23",
        "history": [{"created": "2024-01-27T00:30:48Z", "created_by": "/bin/sh -c #(nop) ADD", "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}
    }"#;

    #[test]
    fn reads_what_docker_writes() {
        let config = ImageConfig::parse(DOCKER.as_bytes()).unwrap();
        assert_eq!(config.config.cmd, ["/bin/sh"]);
        assert!(config.config.entrypoint.is_empty());
        assert_eq!(config.config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 30_000_000_000);
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert!(config.history[0].empty_layer);
        assert_eq!(ImageConfig::parse(&config.to_bytes().unwrap()).unwrap(), config);
    }

    fn with(field: &str) -> Result<ImageConfig> {
        ImageConfig::parse(format!(r#"{{"config": {field}, "rootfs": {{"type": "layers"}}}}"#).as_bytes())
    }

    #[test]
    fn takes_the_sparse_and_refuses_the_dangerous() {
        assert!(with("null").is_ok());
        assert_eq!(with(r#"{"Cmd": "sh"}"#).unwrap().config.cmd, ["sh"]);
        for field in [
            r#"{"Env": ["SECRET"]}"#,
            r#"{"Env": ["*"]}"#,
            r#"{"Env": ["=x"]}"#,
            r#"{"Cmd": ["a\u0000b"]}"#,
            r#"{"User": "a\u0000b"}"#,
            r#"{"Env": "PATH"}"#,
        ] {
            assert!(with(field).is_err(), "{field}");
        }
        assert!(ImageConfig::parse(br#"{"rootfs": {"type": "squashfs"}}"#).is_err());
        assert!(ImageConfig::parse(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(ImageConfig::parse(&bytes));
        }
    }
}
