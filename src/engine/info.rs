//! kelp and its host at a glance, under docker's names where docker has one.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{host_view, inventory, lifecycle};
use crate::container::processes::read_kernel_text;
use crate::container::procfs;
use crate::container::record::Status;
use crate::error::Result;
use crate::host::{self, Cgroup, CgroupVersion, Level, Shortfall};
use crate::image::registry::Registries;
use crate::kernel::{file, landlock, open};
use crate::limits;
use crate::paths::Paths;
use crate::process::idmap::IdMap;
use crate::process::subids::{self, Rung};
use crate::sandbox::cgroup::placement::{self, Placement};
use crate::storage::overlay;

/// What `kelp info` tells. Docker's names first, then kelp's own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// kelp's version.
    pub server_version: &'static str,
    /// All containers.
    pub containers: u64,
    /// Those that run.
    pub containers_running: u64,
    /// Those that are paused.
    pub containers_paused: u64,
    /// All others.
    pub containers_stopped: u64,
    /// Images, those of read-only stores included.
    pub images: u64,
    /// How containers' files are put together.
    pub driver: &'static str,
    /// Who makes control groups.
    pub cgroup_driver: &'static str,
    /// `1`, `2` or nothing.
    pub cgroup_version: &'static str,
    /// Release of the kernel.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// Always linux.
    #[serde(rename = "OSType")]
    pub os_type: &'static str,
    /// As uname(2) has it.
    pub architecture: &'static str,
    /// Processors that kelp may use.
    #[serde(rename = "NCPU")]
    pub processors: u64,
    /// Bytes of memory.
    pub mem_total: u64,
    /// Name of the host.
    pub name: String,
    /// There is none; scripts ask.
    pub swarm: Swarm,
    /// In docker's form: `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
    /// Where everything is kept.
    pub docker_root_dir: PathBuf,
    /// One sentence for each thing that the host does not give and that matters.
    pub warnings: Vec<String>,
    /// The file system of that directory.
    pub backing_filesystem: String,
    /// Whether it holds an overlay's upper layer.
    pub supports_overlay: bool,
    /// Whether it copies files by sharing their blocks.
    pub supports_reflink: bool,
    /// Where sockets and locks are.
    pub runtime_dir: PathBuf,
    /// Read-only image stores.
    pub image_stores: Vec<PathBuf>,
    /// kelp's own cgroup, and what it can be given.
    pub cgroup: Cgroup,
    /// Where a container's is made that needs one: `scope`, `subtree` or `none`.
    pub cgroup_rung: &'static str,
    /// The controllers that it has there.
    pub cgroup_controllers: Vec<String>,
    /// Version of Landlock's interface; 0 where there is none.
    pub landlock_abi: u32,
    /// Security modules of the kernel.
    pub security_modules: Vec<String>,
    /// `full` or `single`.
    pub id_map_rung: &'static str,
    /// The ids that containers can have onto the host's.
    pub id_map: IdMap,
    /// The registry of names without one.
    pub registry_of_short_names: String,
    /// The files that say something of registries.
    pub registries_files: Vec<PathBuf>,
    /// What the host does not give, with remedies.
    pub shortfalls: Vec<Shortfall>,
}

/// Docker's cluster of hosts (moby api/types/swarm, Info).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Swarm {
    /// Always inactive.
    pub local_node_state: &'static str,
}

/// Looks everything up.
pub fn look(paths: &Paths) -> Result<Info> {
    let facts = host::facts();
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let rung = subids::find(uid, gid);
    let mut shortfalls: Vec<Shortfall> = host_view::no_range(&rung).into_iter().collect();
    shortfalls.extend(host::shortfalls(&facts));
    shortfalls.extend(host_view::space(&paths.data));
    let registries = Registries::of_this_user()?;
    let states = States::read(paths)?;
    let placement = placement::usual(&facts.cgroup);
    let landlock_abi = landlock::version().unwrap_or(0);
    let modules = security_modules();
    let memory = read_kernel_text(Path::new("/proc/meminfo")).unwrap_or_default();
    let magic = open::open_dir(&paths.data).and_then(|dir| file::file_system_magic(std::os::fd::AsFd::as_fd(&dir)));
    Ok(Info {
        server_version: env!("CARGO_PKG_VERSION"),
        containers: states.running + states.paused + states.stopped,
        containers_running: states.running,
        containers_paused: states.paused,
        containers_stopped: states.stopped,
        images: inventory::read_all(paths)?.images.len() as u64,
        driver: "overlay",
        cgroup_driver: match &placement {
            Placement { scope: Some(_), .. } => "systemd",
            Placement { subtree: Some(_), .. } => "cgroupfs",
            _ => "none",
        },
        cgroup_version: match facts.cgroup.version {
            CgroupVersion::None => "",
            CgroupVersion::V1 | CgroupVersion::Hybrid => "1",
            CgroupVersion::V2 => "2",
        },
        operating_system: operating_system(),
        os_type: "linux",
        architecture: std::env::consts::ARCH,
        processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        mem_total: procfs::total_memory(&memory).unwrap_or(0),
        name: facts.hostname,
        swarm: Swarm { local_node_state: "inactive" },
        security_options: security_options(&modules, landlock_abi, &rung),
        docker_root_dir: paths.data.clone(),
        warnings: shortfalls
            .iter()
            .filter(|one| one.level != Level::Info)
            .map(|one| format!("{}: {}", one.what, one.effect))
            .collect(),
        backing_filesystem: host_view::file_system(&paths.data).unwrap_or_else(|| "unknown".to_owned()),
        supports_overlay: magic.is_ok_and(|magic| overlay::no_upper(magic).is_none()),
        supports_reflink: supports_reflink(&paths.data),
        runtime_dir: paths.run.clone(),
        image_stores: paths.image_stores.iter().map(|store| store.path().to_owned()).collect(),
        kernel_version: facts.kernel,
        cgroup_rung: placement.rung(),
        cgroup_controllers: placement.controllers().to_vec(),
        cgroup: facts.cgroup,
        landlock_abi,
        security_modules: modules,
        id_map_rung: if matches!(rung, Rung::Full(_)) { "full" } else { "single" },
        id_map: rung.map(uid, gid),
        registry_of_short_names: registries.of_short_names().to_owned(),
        registries_files: registries.files().to_vec(),
        shortfalls,
    })
}

/// How many containers are in which state.
#[derive(Default)]
struct States {
    running: u64,
    paused: u64,
    stopped: u64,
}

impl States {
    fn read(paths: &Paths) -> Result<Self> {
        let mut states = Self::default();
        for container in lifecycle::list(paths)?.0 {
            *match container.record.status {
                Status::Running { paused: true, .. } => &mut states.paused,
                Status::Running { .. } | Status::Restarting { .. } => &mut states.running,
                Status::Created | Status::Exited { .. } => &mut states.stopped,
            } += 1;
        }
        Ok(states)
    }
}

fn security_options(modules: &[String], landlock_abi: u32, rung: &Rung) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    let has = |name: &str| modules.iter().any(|module| module == name);
    options.extend(["apparmor", "selinux"].into_iter().filter(|name| has(name)).map(|name| format!("name={name}")));
    if landlock_abi > 0 {
        options.push(format!("name=landlock,abi={landlock_abi}"));
    }
    options.extend(["name=rootless", "name=cgroupns"].map(str::to_owned));
    if matches!(rung, Rung::Full(_)) {
        options.push("name=userns".to_owned());
    }
    options
}

/// The kernel's list, or what else tells where that is closed to users.
fn security_modules() -> Vec<String> {
    if let Some(list) = read_kernel_text(Path::new("/sys/kernel/security/lsm")) {
        return list.trim().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    let apparmor = read_kernel_text(Path::new("/sys/module/apparmor/parameters/enabled"));
    let apparmor = apparmor.is_some_and(|text| text.trim() == "Y").then(|| "apparmor".to_owned());
    let selinux = Path::new("/sys/fs/selinux/enforce").exists().then(|| "selinux".to_owned());
    apparmor.into_iter().chain(selinux).collect()
}

/// PRETTY_NAME of os-release(5).
fn operating_system() -> String {
    let read = |path| limits::read_file(Path::new(path), limits::USER_FILE_BYTES_MAX).ok();
    let bytes = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

/// Tried with two files that nobody sees: of one file system, some have it and
/// some have not.
fn supports_reflink(directory: &Path) -> bool {
    use std::os::fd::AsFd;
    let scratch = || -> Result<_> {
        let directory = open::open_dir(directory)?;
        Ok(file::open_at(directory.as_fd(), Path::new("."), libc::O_TMPFILE | libc::O_RDWR, 0o600)?)
    };
    match (scratch(), scratch()) {
        (Ok(from), Ok(to)) => file::share_blocks(from.as_fd(), to.as_fd()).is_ok(),
        _ => false,
    }
}
