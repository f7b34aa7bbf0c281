//! Which namespaces a running container lives in: /proc/PID/ns of its first
//! process, seen from the host.

use std::fs;

use serde::Serialize;

use super::record::Record;
use super::record::Status;

/// The eight kinds, as /proc/PID/ns names them.
pub const KINDS: [&str; 8] = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"];

/// One namespace of one container.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// As /proc/PID/ns names it.
    pub kind: &'static str,
    /// Its inode number, as lsns(8) prints it.
    pub inode: u64,
    /// Whether it is the namespace kelp itself was called in.
    pub shared_with_host: bool,
}

/// The namespaces of a container; empty where it does not run.
pub fn of(record: &Record) -> Vec<Entry> {
    let Status::Running { payload, .. } = &record.status else { return Vec::new() };
    let entry = |kind| {
        let inode = inode(&payload.pid.to_string(), kind)?;
        Some(Entry { kind, inode, shared_with_host: inode_of_self(kind) == Some(inode) })
    };
    let entries: Vec<Entry> = KINDS.into_iter().filter_map(entry).collect();
    // Checked after reading, so that a reused pid's namespaces are not shown.
    if payload.is_current() { entries } else { Vec::new() }
}

/// The inode of one of the caller's own namespaces.
pub fn inode_of_self(kind: &str) -> Option<u64> {
    inode("self", kind)
}

/// `/proc/PID/ns/KIND` is a link to `KIND:[INODE]`.
fn inode(pid: &str, kind: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}
