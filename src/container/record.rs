//! The record of one container: `containers/ID/record.json`, replaced by
//! rename, version 1.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::image::config::RunConfig;
use crate::limits;
use crate::process::identity::Identity;
use crate::process::idmap::IdMap;
use crate::sandbox::spec::Mount;

/// The version this kelp writes.
const VERSION: u32 = 1;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this document.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among this user's containers.
    pub name: String,
    /// The image's name as the user gave it, or the directory of `--rootfs`.
    pub image: String,
    /// The image's config digest; empty for `--rootfs`.
    pub image_id: String,
    /// argv.
    pub command: Vec<String>,
    /// User-defined labels.
    pub labels: Vec<(String, String)>,
    /// Seconds after the epoch.
    pub created_s: i64,
    /// Removed when it ends (`--rm`).
    pub auto_remove: bool,
    /// Volumes that belong to it alone.
    #[serde(default)]
    pub anonymous_volumes: Vec<String>,
    /// The signal that asks its program to end; `None` is SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// What a commit makes its image's config of: the image's own, with what
    /// was asked for at the start.
    #[serde(default)]
    pub config: RunConfig,
    /// Its files; `None` in a record that an older kelp wrote.
    #[serde(default)]
    pub files: Option<Files>,
    /// Where in its life it is.
    pub status: Status,
}

/// What it takes to read a container's files as the container sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The directory of `--rootfs`, absolute; `None` for the layers of an image.
    pub rootfs: Option<PathBuf>,
    /// The container's ids onto the base namespace's.
    pub id_map: IdMap,
    /// The key of the same map onto the host's ids: its layers are kept under
    /// it, and it tells whether the user's ids are still what they were.
    pub id_map_key: String,
    /// What was mounted on; kelp made what was missing there.
    pub mount_points: Vec<String>,
    /// What belongs to its files besides its own: volumes, binds, and the
    /// directories of `--rootfs /`.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// `/` cannot be written.
    #[serde(default)]
    pub read_only: bool,
}

/// Where in its life a container is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Status {
    /// Made, not started.
    Created,
    /// The image's program runs.
    Running {
        /// The process that looks after it.
        supervisor: Identity,
        /// Its first process.
        payload: Identity,
        /// Seconds after the epoch.
        started_s: i64,
    },
    /// The program ended.
    Exited {
        /// 0–255; 128+n for a signal.
        code: i32,
        /// Seconds after the epoch.
        finished_s: i64,
    },
}

impl Record {
    /// A new container's record.
    pub fn new(id: String, name: String) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            image: String::new(),
            image_id: String::new(),
            command: Vec::new(),
            labels: Vec::new(),
            created_s: now_s(),
            auto_remove: false,
            anonymous_volumes: Vec::new(),
            stop_signal: None,
            config: RunConfig::default(),
            files: None,
            status: Status::Created,
        }
    }

    /// The first twelve digits of the id, as people see it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Reads the record of the container at `directory`.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("record.json");
        let bytes = limits::read_file(&path, limits::RECORD_BYTES_MAX).doing(|| format!("read {}", path.display()))?;
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::host(error.to_string()))
            .doing(|| format!("read {}", path.display()))?;
        if record.version > VERSION {
            return Err(Failure::host(format!("container {} was made by a newer kelp", record.short_id())));
        }
        Ok(record)
    }

    /// Writes the record: beside it, then renamed over it.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let (path, new) = (directory.join("record.json"), directory.join("record.json.new"));
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::bug(error.to_string()))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).doing(|| format!("write {}", path.display()))
    }
}

/// The wall clock, in seconds after the epoch.
pub fn now_s() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |duration| duration.as_secs() as i64)
}
