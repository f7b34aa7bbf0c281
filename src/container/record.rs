//! The record of one container: `containers/ID/record.json`, replaced by
//! rename, version 2. Who holds `containers/ID/lock` writes it, nobody else:
//! the supervisor while the container lives, else a command for a moment.
//! Nobody waits for the disk: what a power cut may do to it, and how long it
//! may, is in docs/architecture.md.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::log;
use super::oom::OutOfMemory;
use super::restart::RestartPolicy;
use super::spent::Spent;
use crate::error::{Context, Failure, Result};
use crate::image::config::RunConfig;
use crate::limits;
use crate::network::lease::Lease;
use crate::network::publish::ports::Bound;
use crate::process::identity::Identity;
use crate::process::idmap::IdMap;
use crate::sandbox::enforcement::Enforced;
use crate::sandbox::spec::Mount;

/// The version this kelp writes.
const VERSION: u32 = 2;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this document.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among this user's containers.
    pub name: String,
    /// Its name before it was renamed; while that is done, the one it gets. A
    /// link of that name may be left of a rename that was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_name: Option<String>,
    /// The image's name as the user gave it, or the directory of `--rootfs`.
    pub image: String,
    /// The image's config digest; empty for `--rootfs`.
    pub image_id: String,
    /// argv.
    pub command: Vec<String>,
    /// User-defined labels.
    pub labels: Vec<(String, String)>,
    /// Nanoseconds after the epoch.
    pub created_ns: i64,
    /// Removed when it ends (`--rm`).
    pub auto_remove: bool,
    /// A terminal of its own (`-t`).
    #[serde(default)]
    pub terminal: bool,
    /// Its standard input is open (`-i`).
    #[serde(default)]
    pub interactive: bool,
    /// Volumes that belong to it alone.
    #[serde(default)]
    pub anonymous_volumes: Vec<String>,
    /// Volumes and directories of the host that it sees.
    #[serde(default)]
    pub mounts: Vec<Mounted>,
    /// The signal that asks its program to end; `None` is SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How long a stop waits before it kills, in seconds; negative for ever.
    #[serde(default)]
    pub stop_timeout_s: Option<i64>,
    /// What happens when its program ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How often that has happened since it was started.
    #[serde(default)]
    pub restarts: u32,
    /// A person ended it, so a policy does not bring it back.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// Why it could not be started; only of one that never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<StartFailure>,
    /// Its network, in docker's words: `default`, `none`, `host`,
    /// `container:NAME`.
    #[serde(default)]
    pub network: String,
    /// Its addresses there while it lives, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// What a commit makes its image's config of: the image's own, with what
    /// was asked for at the start.
    #[serde(default)]
    pub config: RunConfig,
    /// Where its log goes.
    #[serde(default)]
    pub log: log::Config,
    /// Its files; `None` in a record that an older kelp wrote.
    #[serde(default)]
    pub files: Option<Files>,
    /// It is being made: once nobody holds its lock, it is nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Its own cgroup while it lives, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Processes of it that were killed for want of memory since it was last
    /// started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<OutOfMemory>,
    /// Its limits, and who holds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enforced: Vec<Enforced>,
    /// What it had taken when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// Where in its life it is.
    pub status: Status,
}

/// Something that the user, another container or the image had mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Of a volume, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// What and where.
    #[serde(flatten)]
    pub mount: Mount,
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

/// What came of the last try to start a container that never ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// 125, 126 or 127, as `run` ended.
    pub code: i32,
    /// What `run` said.
    pub error: String,
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
        /// Nanoseconds after the epoch.
        started_ns: i64,
        /// All its processes are stopped (`pause`).
        #[serde(default)]
        paused: bool,
        /// How it is, where it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        health: Option<Health>,
    },
    /// The program ended and will be started again.
    Restarting {
        /// The process that looks after it.
        supervisor: Identity,
        /// What it ended with.
        code: i32,
        /// Nanoseconds after the epoch.
        started_ns: i64,
        /// Nanoseconds after the epoch.
        finished_ns: i64,
    },
    /// The program ended.
    Exited {
        /// 0–255; 128+n for a signal.
        code: i32,
        /// Nanoseconds after the epoch.
        started_ns: i64,
        /// Nanoseconds after the epoch.
        finished_ns: i64,
        /// Why it could not be started, if that was its end.
        #[serde(default)]
        error: Option<String>,
    },
}

impl Status {
    /// The word that docker and podman use.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { paused: true, .. } => "paused",
            Self::Running { .. } => "running",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } => "exited",
        }
    }

    /// How it is, where it runs and is asked.
    pub fn health(&self) -> Option<Health> {
        match self {
            Self::Running { health, .. } => *health,
            _ => None,
        }
    }

    /// Whether a supervisor looks after it, as far as the record knows.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Restarting { .. })
    }
}

impl Record {
    /// Its published ports, while it lives.
    pub fn published(&self) -> &[Bound] {
        match &self.lease {
            Some(lease) if self.status.is_live() => &lease.published,
            _ => &[],
        }
    }

    /// A new container's record.
    pub fn new(id: String, name: String) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            other_name: None,
            image: String::new(),
            image_id: String::new(),
            command: Vec::new(),
            labels: Vec::new(),
            created_ns: now_ns(),
            auto_remove: false,
            terminal: false,
            interactive: false,
            anonymous_volumes: Vec::new(),
            mounts: Vec::new(),
            stop_signal: None,
            stop_timeout_s: None,
            restart: RestartPolicy::default(),
            restarts: 0,
            stopped_by_user: false,
            start_failure: None,
            network: String::new(),
            lease: None,
            config: RunConfig::default(),
            log: log::Config::default(),
            files: None,
            unfinished: false,
            cgroup: None,
            oom: None,
            enforced: Vec::new(),
            spent: None,
            status: Status::Created,
        }
    }

    /// The first twelve digits of the id, as people see it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The image's labels and the user's.
    pub fn all_labels(&self) -> Cow<'_, BTreeMap<String, String>> {
        match self.config.labels.is_empty() {
            // An older kelp wrote no config.
            true => Cow::Owned(self.labels.iter().cloned().collect()),
            false => Cow::Borrowed(&self.config.labels),
        }
    }

    /// Whether nobody looks after it, as far as the record knows.
    pub fn is_idle(&self) -> bool {
        !self.status.is_live() && !self.unfinished
    }

    /// Why a program ended with exit status `code`, if memory was the reason,
    /// or what became of others of the container.
    pub fn out_of_memory(&self, code: i32) -> Option<String> {
        let is_program = code == 128 + libc::SIGKILL && !self.stopped_by_user;
        Some(self.oom?.sentence(is_program))
    }

    /// Whether it says all there is to know, whoever looks after the container.
    pub(super) fn is_at_rest(&self) -> bool {
        match self.status {
            // With a cgroup, a start of it was killed.
            Status::Created => !self.unfinished && self.cgroup.is_none(),
            Status::Exited { .. } => !self.unfinished && !self.auto_remove && self.cgroup.is_none(),
            _ => false,
        }
    }

    /// The names of the volumes that it uses.
    pub fn volumes(&self) -> BTreeSet<&str> {
        let named = self.mounts.iter().filter_map(|mounted| mounted.volume.as_deref());
        named.chain(self.anonymous_volumes.iter().map(String::as_str)).collect()
    }

    /// Reads the record of the container at `directory`.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let bytes = limits::read_file(&path, limits::RECORD_BYTES_MAX).doing(|| format!("read {}", path.display()))?;
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&bytes, &error, directory))
            .doing(|| format!("read {}", path.display()))?;
        if record.version > VERSION {
            return Err(Failure::host(format!("container {} was made by a newer kelp", record.short_id())));
        }
        Ok(record)
    }

    /// Writes the record: beside it, then renamed over it. Where there is no
    /// lock file any more, two may do so at once: each beside it for itself.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let (path, new) = (directory.join(FILE), directory.join(format!("{FILE}.new-{}", std::process::id())));
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::bug(error.to_string()))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).doing(|| format!("write {}", path.display()))
    }
}

/// The record's name in a container's directory.
const FILE: &str = "record.json";

/// Sees a record to the disk that was written lately, and takes away what a
/// killed writer left beside it. Waits for the disk.
pub(super) fn settle(directory: &Path, lately: Duration) {
    let is_new = |status: fs::Metadata| status.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < lately));
    let Ok(file) = fs::File::open(directory.join(FILE)) else { return };
    if !file.metadata().is_ok_and(is_new) {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|name| name.strip_prefix(FILE)?.strip_prefix(".new-")?.parse().ok());
        if writer.is_some_and(|writer| Identity::of(writer).is_err()) {
            fs::remove_file(entry.path()).ok();
        }
    }
    // The name lasts with the directory. What cannot be done now, the kernel does in half a minute.
    file.sync_all().and_then(|()| fs::File::open(directory)?.sync_all()).ok();
}

/// What is said of a record that is none.
fn damaged(bytes: &[u8], error: &serde_json::Error, directory: &Path) -> Failure {
    let id = directory.file_name().unwrap_or_default().to_string_lossy();
    let short = id.get(..12).unwrap_or(&id);
    let failure = match bytes.iter().all(|byte| *byte == 0) || error.is_eof() {
        true => Failure::host("it is cut off, as a power cut may leave what was just written"),
        false => Failure::host(error.to_string()),
    };
    let files = directory.join("upper");
    failure.hint(format!("what the container changed is in {}; kelp rm --force {short} removes it", files.display()))
}

/// The wall clock, in nanoseconds after the epoch.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |duration| duration.as_nanos() as i64)
}
