//! Control groups as the caller finds them: its own, those above it that are
//! delegated to it (cgroups(7), "Delegation"), and what its own systemd has to
//! give. Nothing here is changed, and nobody is asked.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::AccessFlags;
use serde::{Deserialize, Serialize};

use super::{mountinfo, unit};
use crate::kernel::file;
use crate::limits;

/// Control groups, as the caller finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// Which hierarchies there are.
    pub version: CgroupVersion,
    /// Where the v2 tree is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<CgroupMount>,
    /// The caller's own cgroup in the v2 tree.
    pub path: Option<PathBuf>,
    /// The same as a directory of the host.
    pub directory: Option<PathBuf>,
    /// Controllers of v2 that are open there.
    pub controllers: Vec<String>,
    /// Whether the caller may make cgroups below its own (delegation).
    pub is_delegated: bool,
    /// Whether who made it has marked it so: then all of it is the caller's to
    /// arrange (systemd's attribute `user.delegate`, or `Delegate=` of a unit that
    /// only kelp is in).
    pub is_marked: bool,
    /// Its own and those above it that are delegated, nearest first.
    pub subtrees: Vec<Subtree>,
    /// The user's own systemd, where there is one.
    pub manager: Option<UserSystemd>,
}

/// Which hierarchies there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// None is mounted.
    #[default]
    None,
    /// Only v1.
    V1,
    /// v2 without controllers beside v1, which has them.
    Hybrid,
    /// v2.
    V2,
}

/// A cgroup in which the caller may make others and put processes there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtree {
    /// Its directory.
    pub directory: PathBuf,
    /// Controllers that are open there (`cgroup.controllers`).
    pub controllers: Vec<String>,
    /// Files of theirs that this kernel does not have, of [`OPTIONAL`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lacks: Vec<String>,
    /// Those of them that cgroups in it have (`cgroup.subtree_control`).
    pub enabled: Vec<String>,
    /// Whether processes of kelp are directly in it.
    pub has_kelp: bool,
    /// Other processes that are directly in it, as `PID (NAME)`: while there
    /// are some, no more controllers can be enabled (cgroups(7), "no internal
    /// processes").
    pub others: Vec<String>,
}

impl Subtree {
    /// The controllers that a cgroup made in it can have.
    pub fn usable(&self) -> &[String] {
        if self.others.is_empty() { &self.controllers } else { &self.enabled }
    }
}

/// The user's own systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSystemd {
    /// Where it is spoken to: its own socket, or the user's bus.
    pub socket: PathBuf,
    /// Its cgroup.
    pub directory: PathBuf,
    /// Controllers that were delegated to it.
    pub controllers: Vec<String>,
    /// Files of theirs that this kernel does not have, of [`OPTIONAL`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lacks: Vec<String>,
}

/// What kernels are built without, though they have the controller
/// (CONFIG_BLK_CGROUP_IOCOST, CONFIG_SWAP).
pub const OPTIONAL: [&str; 2] = ["io.weight", "memory.swap.max"];

/// Where the v2 tree is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMount {
    /// Which part of the tree.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
}

impl CgroupMount {
    /// Looks for it.
    pub fn find() -> Option<Self> {
        let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo").ok()?);
        cgroup2(&mounts).cloned().map(Self::of)
    }

    fn of(mount: mountinfo::MountInfo) -> Self {
        Self { root: mount.root.into(), target: mount.target }
    }

    /// The directory of the cgroup at `path`, as /proc/PID/cgroup has it.
    pub fn directory(&self, path: &Path) -> PathBuf {
        // The mount may show a part of the tree only, as in another container.
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/"));
        self.target.join(below.unwrap_or(Path::new("")))
    }
}

/// Looks all of it up.
pub fn look() -> Cgroup {
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let has_v1 = mounts.iter().any(|mount| mount.kind == "cgroup");
    let Some(mount) = cgroup2(&mounts) else {
        let version = if has_v1 { CgroupVersion::V1 } else { CgroupVersion::None };
        return Cgroup { version, ..Cgroup::default() };
    };
    let version = if has_v1 { CgroupVersion::Hybrid } else { CgroupVersion::V2 };
    let read_only = mount.is_read_only();
    let mount = CgroupMount::of(mount.clone());
    let manager = user_systemd(&mount).filter(|_| !read_only);
    let Some(path) = own_cgroup(&own) else {
        return Cgroup { version, manager, mount: Some(mount), ..Cgroup::default() };
    };
    let directory = mount.directory(Path::new(path));
    let above =
        directory.ancestors().take_while(|above| above.starts_with(&mount.target)).filter(|at| !is_systemds(at));
    let subtrees: Vec<Subtree> =
        if read_only { Vec::new() } else { above.take(limits::CGROUP_DEPTH_MAX).filter_map(subtree).collect() };
    Cgroup {
        version,
        path: Some(PathBuf::from(path)),
        controllers: words(&directory.join("cgroup.controllers")),
        is_delegated: subtrees.first().is_some_and(|subtree| subtree.directory == directory),
        is_marked: is_marked(&directory) || is_own_unit(&directory, subtrees.first(), manager.as_ref()),
        subtrees,
        manager,
        mount: Some(mount),
        directory: Some(directory),
    }
}

/// The cgroup at `directory`, if its user may make others in it and put
/// processes there.
pub fn subtree(directory: &Path) -> Option<Subtree> {
    let may_write = |name: &str| nix::unistd::access(&directory.join(name), AccessFlags::W_OK).is_ok();
    // cgroups(7), "Delegation": the directory and these two files are the delegatee's.
    if !["", "cgroup.procs", "cgroup.subtree_control"].into_iter().all(may_write) {
        return None;
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut subtree = Subtree {
        directory: directory.to_owned(),
        controllers: words(&directory.join("cgroup.controllers")),
        lacks: lacks(directory),
        enabled: words(&directory.join("cgroup.subtree_control")),
        ..Subtree::default()
    };
    for pid in processes.lines().take(limits::CGROUP_RESIDENTS_MAX) {
        match resident(pid) {
            Resident::Kelp => subtree.has_kelp = true,
            Resident::Other(name) => subtree.others.push(name),
            Resident::Gone => {}
        }
    }
    Some(subtree)
}

impl Cgroup {
    /// The same, with nothing to make cgroups in but the one at `path`, if that
    /// is delegated: as /proc/PID/cgroup names it, or by its directory.
    #[must_use]
    pub fn only_below(mut self, path: &Path) -> Self {
        let directory = match &self.mount {
            Some(mount) if !path.starts_with(&mount.target) => mount.directory(path),
            _ => path.to_owned(),
        };
        let is_tree = self.mount.as_ref().is_some_and(|mount| directory.starts_with(&mount.target));
        self.subtrees = is_tree.then(|| subtree(&directory)).flatten().into_iter().collect();
        self
    }
}

/// Whose a process in a cgroup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resident {
    /// One of kelp's own, who do not mind which cgroup they are in.
    Kelp,
    /// Another one: `PID (NAME)`.
    Other(String),
    /// It has ended.
    Gone,
}

/// Looks at one line of `cgroup.procs`.
pub fn resident(pid: &str) -> Resident {
    // It is in another pid namespace, and nobody here can move it away.
    if pid == "0" {
        return Resident::Other("one that cannot be seen from here".to_owned());
    }
    let process = Path::new("/proc").join(pid);
    let Ok(name) = fs::read_to_string(process.join("comm")) else { return Resident::Gone };
    // A stage has its name from its first instruction on in argv only.
    let arguments = limits::read_file(&process.join("cmdline"), limits::PROCESS_FILE_BYTES_MAX).unwrap_or_default();
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = Path::new(std::ffi::OsStr::from_bytes(first)).file_name().unwrap_or_default().to_string_lossy();
    let is_self = pid.parse() == Ok(std::process::id());
    match is_self || is_kelp(&name) || is_kelp(&first) {
        true => Resident::Kelp,
        false => Resident::Other(format!("{pid} ({})", name.trim_end().escape_default())),
    }
}

fn is_kelp(name: &str) -> bool {
    let name = name.trim_end();
    name == "kelp" || name.starts_with("kelp-")
}

/// Whether it is one that a user's systemd has units in: the user could write
/// there, but it is systemd's to arrange (systemd, "Control Group APIs and
/// Delegation": a cgroup has a single writer, and slices are never delegated).
fn is_systemds(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".slice") || name.starts_with("user@") && name.ends_with(".service")
}

/// systemd writes it on what it delegates to a user (cg_set_xattr, v251 and later).
fn is_marked(directory: &Path) -> bool {
    let Ok(directory) = File::open(directory) else { return false };
    file::attribute(directory.as_fd(), c"user.delegate").is_ok_and(|value| value.as_deref() == Some(b"1"))
}

/// A user's systemd marks nothing, and all that it has is the user's to write: it
/// is asked, of a unit that has kelp in it and nobody else. Who does not answer
/// has not said so.
fn is_own_unit(directory: &Path, nearest: Option<&Subtree>, manager: Option<&UserSystemd>) -> bool {
    let (Some(nearest), Some(manager)) = (nearest, manager) else { return false };
    let is_alone = nearest.directory == directory && nearest.has_kelp && nearest.others.is_empty();
    let name = directory.file_name().and_then(|name| name.to_str());
    let name = name.filter(|_| is_alone && directory.starts_with(&manager.directory));
    name.is_some_and(|name| unit::delegates(&manager.socket, name).unwrap_or(false))
}

/// It is there if it has a cgroup and a socket: whether it answers is found out
/// by who asks.
fn user_systemd(mount: &CgroupMount) -> Option<UserSystemd> {
    let uid = nix::unistd::getuid();
    let directory = mount.directory(Path::new(&format!("/user.slice/user-{uid}.slice/user@{uid}.service")));
    if !directory.is_dir() {
        return None;
    }
    // Who came by su(1) has none, or another's; systemd's is where it always is.
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtimes = named.into_iter().chain([format!("/run/user/{uid}").into()]);
    // Its own takes half the time: no bus stands between, and none need be installed.
    let mut sockets = runtimes.flat_map(|runtime| ["systemd/private", "bus"].map(|name| runtime.join(name)));
    let socket = sockets.find(|socket| socket.exists())?;
    let (controllers, lacks) = (words(&directory.join("cgroup.controllers")), lacks(&directory));
    Some(UserSystemd { socket, controllers, lacks, directory })
}

/// Of a controller that is there. The tree's own root has none of the files, and
/// what is made in it has them.
fn lacks(directory: &Path) -> Vec<String> {
    let is_there = |file: &str| directory.join(file).exists();
    let stat = |file: &str| file.split_once('.').map(|(controller, _)| format!("{controller}.stat"));
    let is_missing = |file: &&str| stat(file).is_some_and(|stat| is_there(&stat)) && !is_there(file);
    match is_there("cgroup.type") {
        true => OPTIONAL.into_iter().filter(is_missing).map(str::to_owned).collect(),
        false => Vec::new(),
    }
}

fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

/// A mount of the v2 tree that can be seen: another one may lie on top of it.
fn cgroup2(mounts: &[mountinfo::MountInfo]) -> Option<&mountinfo::MountInfo> {
    let is_seen = |mount: &&mountinfo::MountInfo| mount.target.join("cgroup.controllers").exists();
    mounts.iter().filter(|mount| mount.kind == "cgroup2").find(is_seen)
}

/// The path in the v2 tree: the line `0::PATH` of /proc/self/cgroup.
pub fn own_cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_tree_are_directories_of_the_mount() {
        let mount = |root: &str| CgroupMount { root: root.into(), target: "/sys/fs/cgroup".into() };
        let directory = |root: &str, path: &str| mount(root).directory(Path::new(path));
        assert_eq!(directory("/", "/a/b"), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(directory("/a", "/a/b"), Path::new("/sys/fs/cgroup/b"));
        assert_eq!(directory("/", "/"), Path::new("/sys/fs/cgroup"));
        assert_eq!(own_cgroup("5:cpu:/a\n0::/user.slice/x\n"), Some("/user.slice/x"));
    }

    #[test]
    fn what_is_systemds_is_not_taken() {
        for path in ["/x/user@1000.service/app.slice", "/x/user@1000.service", "/x/user.slice"] {
            assert!(is_systemds(Path::new(path)), "{path}");
        }
        for path in ["/x/app.slice/run-1.scope", "/x/app.slice/web.service", "/alice", "/"] {
            assert!(!is_systemds(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn kelps_own_processes_are_known_by_their_names() {
        for name in ["kelp\n", "kelp-supervisor\n", "kelp-sweep"] {
            assert!(is_kelp(name), "{name}");
        }
        for name in ["bash\n", "kelpie\n", "", "sh -c kelp"] {
            assert!(!is_kelp(name), "{name}");
        }
    }

    #[test]
    fn with_others_in_it_a_cgroup_gives_what_is_enabled() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut subtree = Subtree {
            controllers: names(&["memory", "pids"]),
            enabled: names(&["pids"]),
            has_kelp: true,
            ..Subtree::default()
        };
        assert_eq!(subtree.usable(), ["memory", "pids"]);
        subtree.others = names(&["7 (bash)"]);
        assert_eq!(subtree.usable(), ["pids"]);
    }
}
