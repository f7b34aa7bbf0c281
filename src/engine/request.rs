//! What `run` is asked for, parsed and without any effect yet.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::options::device::Device;
use super::options::environment::Variable;
use super::options::mount::{Mount, What};
use super::options::namespaces::{Choice, UserChoice};
use super::options::network;
use super::options::resources::Resources;
use super::options::security::{Seccomp, Security};
use super::options::volumes_from::{ImageVolumes, Lender};
use crate::container::log;
use crate::container::restart::RestartPolicy;
use crate::error::{Context, Failure, Result};
use crate::image::config::Healthcheck;
use crate::image::platform::Platform;
use crate::limits;
use crate::sandbox::cgroup::placement::{Cgroups, Parent};
use crate::sandbox::spec::TimeOffsets;

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootSource {
    /// An image, by any name it goes by.
    Image(String),
    /// A directory of the host (`--rootfs`), `/` included.
    Directory(PathBuf),
}

/// When an image is fetched (`--pull`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When it is not here.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Never.
    Never,
}

/// One container to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRequest {
    /// The root file system.
    pub source: RootSource,
    /// Arguments, or the whole command where there is no entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint; empty for none.
    pub entrypoint: Option<String>,
    /// Standard input is passed on (`-i`).
    pub interactive: bool,
    /// A terminal of its own (`-t`).
    pub terminal: bool,
    /// kelp stays pid 1 (`--init`).
    pub init: bool,
    /// `/` cannot be written (`--read-only`).
    pub read_only: bool,
    /// Wishes on top of the image's environment, in order.
    pub variables: Vec<Variable>,
    /// `USER[:GROUP]`; `None` is the image's.
    pub user: Option<String>,
    /// More groups.
    pub groups: Vec<String>,
    /// Host name; `None` is the short id.
    pub hostname: Option<String>,
    /// Name; `None` is a random one.
    pub name: Option<String>,
    /// Remove the container when it ends (`--rm`).
    pub auto_remove: bool,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Where the id is written.
    pub id_file: Option<PathBuf>,
    /// The pid namespace.
    pub pid: Choice,
    /// The IPC namespace.
    pub ipc: Choice,
    /// The UTS namespace.
    pub uts: Choice,
    /// Which network.
    pub network: network::Mode,
    /// What it does for the container.
    #[serde(default)]
    pub network_options: network::Options,
    /// The cgroup namespace.
    pub cgroup: Choice,
    /// Whether it has a cgroup of its own.
    #[serde(default)]
    pub cgroups: Cgroups,
    /// What its cgroup is made in.
    #[serde(default)]
    pub cgroup_parent: Option<Parent>,
    /// The user namespace's id map.
    pub user_namespace: UserChoice,
    /// Clock offsets.
    pub time_offsets: Option<TimeOffsets>,
    /// Volumes, binds and tmpfs.
    pub mounts: Vec<Mount>,
    /// Containers whose volumes it gets too.
    #[serde(default)]
    pub volumes_from: Vec<Lender>,
    /// What becomes of the image's VOLUMEs.
    #[serde(default)]
    pub image_volumes: ImageVolumes,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Size of /dev/shm; `None` is the usual.
    pub shm_bytes: Option<u64>,
    /// Working directory; `None` is the image's.
    pub directory: Option<String>,
    /// RLIMIT_* number, soft and hard limit.
    pub limits: Vec<(u32, u64, u64)>,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// `NAME=VALUE`, as typed.
    pub sysctls: Vec<String>,
    /// Capabilities to add.
    pub capabilities_added: Vec<String>,
    /// Capabilities to drop.
    pub capabilities_dropped: Vec<String>,
    /// `--security-opt`.
    pub security: Security,
    /// The signal that asks the program to end; `None` is the image's.
    pub stop_signal: Option<String>,
    /// The platform asked for; `None` is the host's.
    pub platform: Option<Platform>,
    /// When to fetch the image.
    pub pull: Pull,
    /// How it is asked whether it is well, over what the image says.
    #[serde(default)]
    pub health: Option<Healthcheck>,
    /// Where its log goes; `None` where nothing was said.
    pub log: Option<log::Config>,
    /// What happens when its program ends by itself.
    pub restart: RestartPolicy,
    /// How long a stop waits before it kills, in seconds; negative for ever.
    pub stop_timeout_s: Option<i64>,
}

/// What a container was asked for, beside its record as `request.json`: each
/// start plans anew from it, on what the host is then.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    version: u32,
    /// The request; what it names on the host, it names by absolute paths.
    pub request: RunRequest,
    /// The seccomp profile's text, where a file was named.
    pub profile: Option<String>,
}

const STORED_NAME: &str = "request.json";
const STORED_VERSION: u32 = 1;

impl Stored {
    /// `request` as it is kept; `directory` is the caller's working directory.
    pub fn new(request: &RunRequest, directory: &Path, profile: Option<String>) -> Result<Self> {
        let mut request = request.clone();
        for mount in &mut request.mounts {
            if let What::Bind { source, .. } = &mut mount.what {
                *source = directory.join(&*source);
            }
        }
        if let Seccomp::File(path) = &mut request.security.seccomp {
            // For who reads it; what counts is the text as it was then.
            *path = std::path::absolute(&*path).doing(|| format!("find \"{}\"", path.display()))?;
        }
        if let RootSource::Directory(root) = &mut request.source {
            *root = fs::canonicalize(&*root).doing(|| format!("find \"{}\"", root.display()))?;
        }
        Ok(Self { version: STORED_VERSION, request, profile })
    }

    /// As it is written.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Failure::bug(error.to_string()))
    }

    /// Writes it into `containers/ID`: beside the old one, then renamed over it.
    pub fn save(&self, container: &Path) -> Result<()> {
        let (path, new) = (container.join(STORED_NAME), container.join("request.json.new"));
        fs::write(&new, self.text()?)
            .and_then(|()| fs::rename(&new, &path))
            .doing(|| format!("write {}", path.display()))
    }

    /// Reads it from `containers/ID`.
    pub fn load(container: &Path) -> Result<Self> {
        Ok(Self::load_with_text(container)?.0)
    }

    /// The same, with the text that it was read from.
    pub fn load_with_text(container: &Path) -> Result<(Self, String)> {
        let path = container.join(STORED_NAME);
        let doing = || format!("read {}", path.display());
        let bytes = limits::read_file(&path, limits::RECORD_BYTES_MAX).doing(doing)?;
        let stored: Self =
            serde_json::from_slice(&bytes).map_err(|error| Failure::host(error.to_string())).doing(doing)?;
        match stored.version <= STORED_VERSION {
            true => Ok((stored, String::from_utf8(bytes).map_err(|_| Failure::bug("JSON that is not UTF-8"))?)),
            false => Err(Failure::host("it was made by a newer kelp")).doing(doing),
        }
    }
}
