//! `SandboxSpec`: one confined process tree, as data.
//!
//! Made by engine::plan (pure), printed by `kelp run --dry-run`, sent to the
//! supervisor over its channel and carried out by [`super::stage`]. A step that
//! cannot be done is a failure, with two exceptions that are told to the user:
//! [`Source::Cgroup2`] and [`Source::Overlay`]. A path to mask or to make
//! read-only that is not there is no failure: there is nothing to hide.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::{Limits, Placement};
use super::enforcement::{Enforced, Substitutes};
use crate::kernel::seccomp::Instruction;
use crate::process::identity::Identity;
use crate::process::idmap::IdMap;

/// A path on the host. Never resolved below a container's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPath(pub PathBuf);

impl HostPath {
    /// As a path for host calls.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// An absolute path inside the container, without `.`, `..` and doubled
/// slashes. Only ever resolved below the container's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerPath(PathBuf);

impl ContainerPath {
    /// Cleans `path` as text: relative paths start at `/`, `..` stops there.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let mut clean = PathBuf::from("/");
        for component in path.as_ref().components() {
            match component {
                std::path::Component::Normal(name) => clean.push(name),
                std::path::Component::ParentDir => {
                    clean.pop();
                }
                _ => {}
            }
        }
        Self(clean)
    }

    /// As a path, absolute.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Below the root descriptor: without the leading slash, `.` for the root.
    pub fn relative(&self) -> &Path {
        match self.0.strip_prefix("/") {
            Ok(rest) if !rest.as_os_str().is_empty() => rest,
            _ => Path::new("."),
        }
    }
}

impl std::fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Everything the sandbox stages need to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Version of this document.
    pub version: u32,
    /// The container's id, 64 hexadecimal digits.
    pub id: String,
    /// Host name of a private UTS namespace.
    pub hostname: Option<String>,
    /// One choice a namespace.
    pub namespaces: Namespaces,
    /// What leads out of a private network namespace; `None` is a loopback
    /// device and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The container's ids onto the base namespace's.
    pub id_map: IdMap,
    /// What `/` is.
    pub root: Root,
    /// What is put on top of it, in order.
    pub steps: Vec<Step>,
    /// Written below /proc/sys before the payload starts: `net.ipv4.x` → value.
    pub sysctls: Vec<(String, String)>,
    /// Where its cgroup is made.
    #[serde(default)]
    pub placement: Placement,
    /// What its cgroup may use: written before anything is started in it. A
    /// limit that cannot be written is a failure.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What is done for limits that its cgroup cannot hold.
    #[serde(default, skip_serializing_if = "Substitutes::is_empty")]
    pub substitutes: Substitutes,
    /// Each limit, and who holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enforced: Vec<Enforced>,
    /// The program.
    pub process: Process,
}

/// Where one namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// Its own.
    Private,
    /// The host's.
    Host,
    /// That of another container, by its first process.
    Join(Identity),
}

/// One choice for each namespace. The user and mount namespaces are always
/// the container's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Processes.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Network devices, addresses, routes, ports.
    pub network: Namespace,
    /// The cgroup tree's root.
    pub cgroup: Namespace,
    /// Clocks; `None` shares the host's.
    pub time: Option<TimeOffsets>,
}

/// Offsets of a private time namespace (time_namespaces(7)), in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Added to CLOCK_MONOTONIC.
    pub monotonic_s: i64,
    /// Added to CLOCK_BOOTTIME.
    pub boottime_s: i64,
}

/// A network device in the container whose other end is a descriptor: a tun
/// device, with offloads (docs/reference/network.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The device's name.
    pub device: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its addresses with their prefixes' lengths. A plan has none: the
    /// supervisor adds those of the container's lease.
    #[serde(default)]
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else goes, one for each family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Connections that come in with this mark (SO_MARK) are answered within
    /// the container, whatever address they come from; the routing table for
    /// that has the same number. `None` where none come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_mark: Option<u32>,
}

/// What `/` is: an overlay, or with no lowers the plain directory `upper`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Read-only directories, topmost first.
    pub lowers: Vec<HostPath>,
    /// Where changes go.
    pub upper: HostPath,
    /// Overlayfs' work directory, on the same file system as `upper`.
    pub work: HostPath,
    /// Skip all syncs: right for a container that is removed when it ends.
    pub volatile: bool,
    /// The payload cannot write to `/` itself (`--read-only`).
    pub read_only: bool,
}

/// One thing that is put on top of the root file system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A mount; the target is made where it is missing.
    Mount(Mount),
    /// A symbolic link, e.g. /dev/fd.
    Symlink {
        /// Where the link is made.
        path: ContainerPath,
        /// What it points to, as text.
        target: String,
    },
    /// Hides a file or directory, if there is one (masked path).
    Mask(ContainerPath),
    /// Makes a file or tree read-only, if there is one.
    ReadOnly(ContainerPath),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub target: ContainerPath,
    /// What.
    pub source: Source,
    /// With which rights.
    #[serde(default)]
    pub attributes: Attributes,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A host file or directory.
    Bind {
        /// Which.
        path: HostPath,
        /// With the mounts below it. Without, a directory that has locked
        /// mounts below it is refused by the kernel (EINVAL).
        recursive: bool,
        /// `Some`: exactly this propagation; else private.
        propagation: Option<Propagation>,
    },
    /// An overlay over one host directory: for `--rootfs /`, whose top-level
    /// directories are overlaid one by one, since the kernel refuses a lower
    /// that hides mounts (CVE-2021-3732). A directory with mounts below it is
    /// bound read-only instead, with a notice.
    Overlay(Overlay),
    /// A small file that kelp writes, e.g. /etc/hosts.
    Content {
        /// Where its bytes are on the host: a file in the runtime directory.
        path: HostPath,
        /// The bytes, written when the container starts.
        content: String,
    },
    /// A device node of the host, bound: mknod(2) is refused in a user namespace.
    Device {
        /// Which.
        path: HostPath,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most; `None` is half of the memory, the kernel's default.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
        /// Owner of its root inside, if not 0:0.
        owner: Option<(u32, u32)>,
    },
    /// A procfs of the container's pid namespace.
    Proc,
    /// The host's /proc, when the pid namespace is the host's.
    HostProc,
    /// A sysfs of the container's network namespace.
    Sysfs,
    /// The host's /sys, when the network namespace is the host's.
    HostSys,
    /// The cgroup v2 tree, rooted at the container's cgroup. Skipped with a
    /// notice on a host that has no cgroup v2.
    Cgroup2,
    /// POSIX message queues of the container's IPC namespace.
    Mqueue,
    /// Pseudo-terminals of its own.
    Devpts,
    /// The container's own terminal on /dev/console.
    Console,
    /// What the process has mounted at the same path in its own mount
    /// namespace: /proc of a joined pid namespace, /sys of a joined network one,
    /// /dev/shm of a joined IPC one.
    Shared(Identity),
}

/// An overlay over one host directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The directory to show.
    pub lower: HostPath,
    /// Where changes go.
    pub upper: HostPath,
    /// Overlayfs' work directory, on the same file system as `upper`.
    pub work: HostPath,
    /// Skip all syncs.
    pub volatile: bool,
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Nothing goes either way.
    Private,
    /// Host mounts appear inside.
    Slave,
    /// Both ways; across user namespaces the kernel makes it a slave.
    Shared,
}

/// Rights that a mount takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// No writes.
    pub read_only: bool,
    /// No set-user-ID.
    pub no_suid: bool,
    /// No devices.
    pub no_dev: bool,
    /// No programs.
    pub no_exec: bool,
}

/// The program and its rights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// argv; looked up in PATH of `environment` unless it has a slash.
    pub arguments: Vec<String>,
    /// `NAME=value`, complete: nothing is inherited.
    pub environment: Vec<String>,
    /// Working directory; made where it is missing.
    pub directory: ContainerPath,
    /// `USER[:GROUP]`, names or numbers, looked up in the image's own
    /// /etc/passwd and /etc/group. Empty is 0:0.
    pub user: String,
    /// More groups, names or numbers.
    pub groups: Vec<String>,
    /// Capabilities in the bounding set (bit n is capability n); the same in
    /// effective and permitted when the user is 0.
    pub capabilities: u64,
    /// No execve(2) gains rights.
    pub no_new_privileges: bool,
    /// Resource limits: RLIMIT_* number, soft, hard (`u64::MAX` is unlimited).
    pub limits: Vec<(u32, u64, u64)>,
    /// How willingly the kernel kills it where memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The seccomp filter; `None` is unconfined, and said so by the user.
    pub seccomp: Option<Filter>,
    /// A terminal of its own (`-t`).
    pub terminal: bool,
    /// kelp stays pid 1 and reaps (`--init`).
    pub init: bool,
}

/// A seccomp filter's instructions. In JSON: 16 hexadecimal digits each.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter(pub Vec<Instruction>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.0.len())
    }
}

impl Serialize for Filter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(self.0.len() * 16);
        for instruction in &self.0 {
            let Instruction { code, jt, jf, k } = instruction;
            // Writing to a String cannot fail.
            write!(text, "{code:04x}{jt:02x}{jf:02x}{k:08x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let digits = |part: Option<&str>| part.and_then(|part| u32::from_str_radix(part, 16).ok());
        let one = |chunk: &[u8]| {
            let text = std::str::from_utf8(chunk).ok()?;
            Some(Instruction {
                code: digits(text.get(..4))? as u16,
                jt: digits(text.get(4..6))? as u8,
                jf: digits(text.get(6..8))? as u8,
                k: digits(text.get(8..16))?,
            })
        };
        let instructions: Option<Vec<_>> = text.as_bytes().chunks(16).map(one).collect();
        instructions.map(Filter).ok_or_else(|| serde::de::Error::custom("not a seccomp filter"))
    }
}
