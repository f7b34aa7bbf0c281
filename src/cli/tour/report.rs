//! What was seen from inside, understood and put beside the outside. Pure.
//!
//! The document of `hello --json`: fields may be added, never changed.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::seen::Seen;
use crate::engine::host_view::HostView;
use crate::error::Result;
use crate::host::mountinfo::{self, MountInfo};
use crate::host::own_cgroup;
use crate::process::idmap::{Extent, IdMap};
use crate::sandbox::capabilities;

const VERSION: u32 = 1;

/// The tour.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    pub(super) kelp: &'static str,
    pub(super) kernel: String,
    pub(super) hostname: String,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) ids: Ids,
    pub(super) root: Option<Root>,
    pub(super) mounts: Mounts,
    pub(super) cgroup: Cgroup,
    pub(super) limits: Vec<Limit>,
    pub(super) capabilities: Capabilities,
    pub(super) seccomp: Seccomp,
    pub(super) network: Network,
    pub(super) clocks: Vec<Clock>,
    pub(super) processes: Processes,
    /// What kelp told about the outside; `null` where it did not.
    pub(super) host: Option<HostView>,
    /// Why `host` is `null`.
    pub(super) host_unknown: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Namespace {
    pub(super) kind: String,
    pub(super) inode: u64,
    pub(super) outside: Option<u64>,
    /// Whether it is the caller's; `null` where that is not known.
    pub(super) shared_with_host: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    /// Ids here onto ids of the host, or of the parent namespace where `is_host` is false.
    pub(super) map: IdMap,
    /// Whether the map reaches the host's own ids.
    pub(super) is_host: bool,
    pub(super) setgroups_allowed: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Root {
    pub(super) file_system: String,
    pub(super) read_only: bool,
    /// Nothing is synced: the container is removed when it ends.
    pub(super) volatile: bool,
    /// Directories of the host, topmost first.
    pub(super) layers: Vec<PathBuf>,
    pub(super) upper: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
pub(super) struct Mounts {
    pub(super) count: usize,
    /// All but masks and read-only covers.
    pub(super) list: Vec<Mount>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) read_only: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
pub(super) struct Mount {
    pub(super) target: PathBuf,
    pub(super) file_system: String,
    /// Which part of the file system: `/`, or what was bound.
    pub(super) source: String,
    pub(super) read_only: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Cgroup {
    /// As seen from here.
    pub(super) path: Option<String>,
    pub(super) is_mounted: bool,
    /// Name and value of each limit file.
    pub(super) limits: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Limit {
    pub(super) name: String,
    pub(super) soft: String,
    pub(super) hard: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Capabilities {
    pub(super) effective: Vec<&'static str>,
    pub(super) bounding: Vec<&'static str>,
    pub(super) ambient: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Seccomp {
    /// `disabled`, `strict` or `filter`.
    pub(super) mode: &'static str,
    pub(super) filters: u32,
    pub(super) no_new_privileges: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Network {
    pub(super) devices: Vec<String>,
    pub(super) addresses: Vec<String>,
    pub(super) has_default_route: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Clock {
    pub(super) name: String,
    pub(super) offset_s: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct Processes {
    pub(super) pid: u32,
    pub(super) visible: usize,
}

/// Understands what was seen.
pub(super) fn make(seen: &Seen, host: Result<HostView>) -> Report {
    let (host, host_unknown) = match host {
        Ok(host) => (Some(host), None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    let mounts = mountinfo::parse(&seen.mountinfo);
    Report {
        version: VERSION,
        kelp: env!("CARGO_PKG_VERSION"),
        kernel: seen.kernel.trim().to_owned(),
        hostname: seen.hostname.trim().to_owned(),
        namespaces: namespaces(seen, host.as_ref()),
        ids: ids(seen, host.as_ref()),
        root: root(&mounts, host.as_ref()),
        mounts: sorted(&mounts),
        cgroup: Cgroup {
            path: own_cgroup(&seen.cgroup).map(str::to_owned),
            is_mounted: mounts.iter().any(|mount| mount.kind == "cgroup2"),
            limits: seen.cgroup_limits.clone(),
        },
        limits: ["Max open files", "Max processes"].iter().filter_map(|name| limit(&seen.limits, name)).collect(),
        capabilities: Capabilities {
            effective: set(&seen.status, "CapEff"),
            bounding: set(&seen.status, "CapBnd"),
            ambient: set(&seen.status, "CapAmb"),
        },
        seccomp: seccomp(&seen.status),
        network: network(seen),
        clocks: seen.time_offsets.lines().filter_map(clock).collect(),
        processes: Processes { pid: seen.pid, visible: seen.processes },
        host,
        host_unknown,
    }
}

fn namespaces(seen: &Seen, host: Option<&HostView>) -> Vec<Namespace> {
    let outside = |kind: &str| host?.namespaces.iter().find(|(known, _)| known == kind).map(|(_, inode)| *inode);
    let one = |(kind, inode): &(String, u64)| {
        let outside = outside(kind);
        let shared_with_host = outside.map(|outside| outside == *inode);
        Namespace { kind: kind.clone(), inode: *inode, outside, shared_with_host }
    };
    seen.namespaces.iter().map(one).collect()
}

fn ids(seen: &Seen, host: Option<&HostView>) -> Ids {
    let first = |name| numbers(field(&seen.status, name)).first().copied().unwrap_or_default();
    let own = IdMap { uids: extents(&seen.uid_map), gids: extents(&seen.gid_map) };
    Ids {
        uid: first("Uid"),
        gid: first("Gid"),
        groups: numbers(field(&seen.status, "Groups")),
        // What /proc shows is relative to the parent: the base namespace.
        map: host.map_or_else(|| own.clone(), |host| host.base_map.compose(&own)),
        is_host: host.is_some(),
        setgroups_allowed: seen.setgroups.trim() == "allow",
    }
}

/// The lines of /proc/PID/uid_map.
fn extents(text: &str) -> Vec<Extent> {
    let extent = |line: &str| match *numbers(line) {
        [inside, outside, count] => Some(Extent { inside, outside, count }),
        _ => None,
    };
    text.lines().filter_map(extent).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The value of a field of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(value).unwrap_or_default().trim()
}

fn set(status: &str, name: &str) -> Vec<&'static str> {
    capabilities::names(u64::from_str_radix(field(status, name), 16).unwrap_or_default())
}

fn seccomp(status: &str) -> Seccomp {
    Seccomp {
        mode: match field(status, "Seccomp") {
            "1" => "strict",
            "2" => "filter",
            _ => "disabled",
        },
        filters: field(status, "Seccomp_filters").parse().unwrap_or_default(),
        no_new_privileges: field(status, "NoNewPrivs") == "1",
    }
}

/// The last mount on `/` is the one that is seen.
fn root(mounts: &[MountInfo], host: Option<&HostView>) -> Option<Root> {
    let mount = mounts.iter().rfind(|mount| mount.target.as_os_str() == "/")?;
    let value = |name: &str| {
        let option = |option: &String| option.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        mount.file_system_options.iter().find_map(option)
    };
    let listed = || value("lowerdir").map(|all| all.split(':').map(PathBuf::from).collect()).unwrap_or_default();
    Some(Root {
        file_system: mount.kind.clone(),
        read_only: mount.is_read_only(),
        volatile: mount.file_system_options.iter().any(|option| option == "volatile" || option == "fsync=volatile"),
        layers: host.map_or_else(listed, |host| host.layers.clone()),
        upper: host.map(|host| host.upper.clone()).or_else(|| value("upperdir").map(PathBuf::from)),
    })
}

/// Mounts by what they are for. A mask is the null device, or kelp's empty
/// tmpfs of mode 0555, below /proc or /sys; a read-only cover is a part of the
/// same /proc.
fn sorted(mounts: &[MountInfo]) -> Mounts {
    let mut result = Mounts { count: mounts.len(), list: Vec::new(), masked: Vec::new(), read_only: Vec::new() };
    for mount in mounts {
        let target = mount.target.clone();
        let below = |tree: &str| target.starts_with(tree) && target.as_os_str() != tree;
        let is_below = below("/proc") || below("/sys");
        let is_empty = mount.kind == "tmpfs" && mount.file_system_options.iter().any(|option| option == "mode=555");
        if is_below && (mount.root == "/null" || is_empty) {
            result.masked.push(target);
        } else if below("/proc") && mount.kind == "proc" && mount.is_read_only() {
            result.read_only.push(target);
        } else {
            let (file_system, source) = (mount.kind.clone(), mount.root.clone());
            result.list.push(Mount { target, file_system, source, read_only: mount.is_read_only() });
        }
    }
    result
}

/// `Max open files            1024                 524288               files`
fn limit(limits: &str, name: &str) -> Option<Limit> {
    let mut values = limits.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
    let (soft, hard) = (values.next()?.to_owned(), values.next()?.to_owned());
    Some(Limit { name: name.trim_start_matches("Max ").to_owned(), soft, hard })
}

fn network(seen: &Seen) -> Network {
    let device = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    let mut addresses = ipv4_addresses(&seen.ipv4_addresses);
    addresses.extend(seen.ipv6_addresses.lines().filter_map(ipv6_address));
    let is_default = |line: &str| line.split_ascii_whitespace().nth(1) == Some("00000000");
    Network {
        // Two lines of headings.
        devices: seen.devices.lines().skip(2).filter_map(device).collect(),
        addresses,
        has_default_route: seen.ipv4_routes.lines().any(is_default),
    }
}

/// Own addresses in /proc/net/fib_trie: a leaf `|-- ADDRESS`, below it `/32 host LOCAL`.
fn ipv4_addresses(trie: &str) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    let mut leaf = "";
    for line in trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address,
            None if line == "/32 host LOCAL" && !addresses.iter().any(|known| known == leaf) => {
                addresses.push(leaf.to_owned());
            }
            None => {}
        }
    }
    addresses
}

/// `00000000000000000000000000000001 01 80 10 80       lo`
fn ipv6_address(line: &str) -> Option<String> {
    let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
    Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).to_string())
}

/// `monotonic           0         0`
fn clock(line: &str) -> Option<Clock> {
    let mut fields = line.split_ascii_whitespace();
    Some(Clock { name: fields.next()?.to_owned(), offset_s: fields.next()?.parse().ok()? })
}
