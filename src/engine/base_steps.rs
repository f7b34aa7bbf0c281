//! The mounts that every container has, and the paths it may not see.
//!
//! The list is the OCI runtime spec's ("Default Filesystems", "Default
//! Devices") and Docker's default mounts and masks, as a table.

use crate::process::identity::Identity;
use crate::sandbox::spec::{Attributes, ContainerPath, HostPath, Mount, Namespace, Namespaces, Source, Step};

/// Device nodes of every container: the OCI runtime spec's default devices.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in /dev: the OCI runtime spec's, and /dev/core as Docker has it.
const LINKS: [(&str, &str); 6] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// Hidden: they tell of the host or reach its hardware.
pub const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Readable, not writable.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const QUIET: Attributes = Attributes { read_only: false, no_suid: true, no_dev: true, no_exec: true };
const QUIET_READ_ONLY: Attributes = Attributes { read_only: true, ..QUIET };

/// What the table depends on.
pub struct Choices<'a> {
    /// The namespaces.
    pub namespaces: &'a Namespaces,
    /// Size of a /dev/shm of its own; `None` is no /dev/shm (`--ipc none`).
    pub shm_bytes: Option<u64>,
    /// Whether there is a terminal for /dev/console.
    pub terminal: bool,
    /// Whether the container may make cgroups in its own.
    pub writable_cgroups: bool,
    /// Whether the host has /dev/mqueue, for `--ipc host`.
    pub host_mqueue: bool,
}

/// /proc, /sys and /dev with all that is in them, in order.
pub fn steps(choices: &Choices<'_>) -> Vec<Step> {
    let mut steps = vec![proc(&choices.namespaces.pid), sys(&choices.namespaces.network)];
    steps.extend(cgroup(choices));
    let dev = Source::Tmpfs { size_bytes: Some(64 << 10), mode: 0o755, owner: None };
    steps.push(mount("/dev", dev, Attributes { no_suid: true, no_exec: true, ..Attributes::default() }));
    for name in DEVICES {
        let path = format!("/dev/{name}");
        steps.push(mount(&path, Source::Device { path: HostPath(path.clone().into()) }, Attributes::default()));
    }
    for (path, target) in LINKS {
        steps.push(Step::Symlink { path: ContainerPath::new(path), target: target.to_owned() });
    }
    let pts = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
    steps.push(mount("/dev/pts", Source::Devpts, pts));
    steps.extend(ipc(choices));
    if choices.terminal {
        steps.push(mount("/dev/console", Source::Console, Attributes::default()));
    }
    steps
}

fn mount(target: &str, source: Source, attributes: Attributes) -> Step {
    Step::Mount(Mount { target: ContainerPath::new(target), source, attributes })
}

fn proc(pid: &Namespace) -> Step {
    let source = match pid {
        Namespace::Private => Source::Proc,
        Namespace::Host => Source::HostProc,
        Namespace::Join(identity) => Source::Shared(*identity),
    };
    mount("/proc", source, QUIET)
}

/// A sysfs shows the network devices of its namespace, and only that
/// namespace's owner may mount it: a joined one is shared.
fn sys(network: &Namespace) -> Step {
    let source = match network {
        Namespace::Private => Source::Sysfs,
        Namespace::Host => Source::HostSys,
        Namespace::Join(identity) => Source::Shared(*identity),
    };
    mount("/sys", source, QUIET_READ_ONLY)
}

/// A cgroup tree can be mounted only in a cgroup namespace of one's own; the
/// host's comes with its /sys, if that is shared too.
fn cgroup(choices: &Choices<'_>) -> Option<Step> {
    let namespaces = choices.namespaces;
    let source = match &namespaces.cgroup {
        Namespace::Private => Source::Cgroup2,
        Namespace::Join(identity) => Source::Shared(*identity),
        Namespace::Host if namespaces.network == Namespace::Host => return None,
        Namespace::Host => Source::Bind { path: HostPath("/sys/fs/cgroup".into()), recursive: true, propagation: None },
    };
    let attributes = if choices.writable_cgroups { QUIET } else { QUIET_READ_ONLY };
    Some(mount("/sys/fs/cgroup", source, attributes))
}

/// POSIX shared memory and message queues follow the IPC namespace.
fn ipc(choices: &Choices<'_>) -> Vec<Step> {
    let shared = |identity: &Identity, target| mount(target, Source::Shared(*identity), QUIET);
    let host = |path: &str| {
        let source = Source::Bind { path: HostPath(path.into()), recursive: true, propagation: None };
        mount(path, source, QUIET)
    };
    match &choices.namespaces.ipc {
        Namespace::Private => {
            let memory = |size| Source::Tmpfs { size_bytes: Some(size), mode: 0o1777, owner: None };
            let shm = choices.shm_bytes.map(|size| mount("/dev/shm", memory(size), QUIET));
            shm.into_iter().chain([mount("/dev/mqueue", Source::Mqueue, QUIET)]).collect()
        }
        Namespace::Join(identity) => vec![shared(identity, "/dev/shm"), shared(identity, "/dev/mqueue")],
        Namespace::Host if choices.host_mqueue => vec![host("/dev/shm"), host("/dev/mqueue")],
        Namespace::Host => vec![host("/dev/shm")],
    }
}
