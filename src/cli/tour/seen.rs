//! What a process can read about itself, as text; nothing is understood here.

use std::fs;

use crate::container::namespaces;

/// Texts of /proc, empty where there was nothing to read.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Kind and inode.
    pub(super) namespaces: Vec<(String, u64)>,
    pub(super) uid_map: String,
    pub(super) gid_map: String,
    pub(super) setgroups: String,
    pub(super) status: String,
    pub(super) mountinfo: String,
    pub(super) cgroup: String,
    /// Name and value of the limits in the container's own cgroup.
    pub(super) cgroup_limits: Vec<(String, String)>,
    pub(super) limits: String,
    pub(super) time_offsets: String,
    pub(super) hostname: String,
    pub(super) kernel: String,
    pub(super) devices: String,
    pub(super) ipv4_addresses: String,
    pub(super) ipv4_routes: String,
    pub(super) ipv6_addresses: String,
    pub(super) pid: u32,
    /// Processes that can be seen.
    pub(super) processes: usize,
}

const CGROUP_LIMITS: [&str; 3] = ["memory.max", "cpu.max", "pids.max"];

/// Looks.
pub(super) fn look() -> Seen {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = |name: &str| read(&format!("/proc/self/{name}"));
    let namespace = |kind: &str| Some((kind.to_owned(), namespaces::inode_of_self(kind)?));
    let limit = |name: &str| {
        let value = fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let is_process = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Seen {
        namespaces: namespaces::KINDS.into_iter().filter_map(namespace).collect(),
        uid_map: own("uid_map"),
        gid_map: own("gid_map"),
        setgroups: own("setgroups"),
        status: own("status"),
        mountinfo: own("mountinfo"),
        cgroup: own("cgroup"),
        cgroup_limits: CGROUP_LIMITS.into_iter().filter_map(limit).collect(),
        limits: own("limits"),
        time_offsets: own("timens_offsets"),
        hostname: read("/proc/sys/kernel/hostname"),
        kernel: read("/proc/sys/kernel/osrelease"),
        devices: own("net/dev"),
        ipv4_addresses: own("net/fib_trie"),
        ipv4_routes: own("net/route"),
        ipv6_addresses: own("net/if_inet6"),
        pid: std::process::id(),
        processes: fs::read_dir("/proc").map_or(0, |entries| entries.flatten().filter(is_process).count()),
    }
}
