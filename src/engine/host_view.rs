//! What the image `hello` is told about the outside: one generated file, for
//! what cannot be seen from inside. No other image gets it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::namespaces;
use crate::error::{Failure, Result};
use crate::host::{self, Facts, Level, Shortfall};
use crate::kernel::{file, open};
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::subids::{self, Rung};
use crate::sandbox::spec::{Attributes, ContainerPath, HostPath, Mount, Root, Source, Step};
use crate::storage::overlay;

/// Where it is, inside.
pub const PATH: &str = "/run/kelp/host.json";

/// Version of [`HostView`] that this kelp writes.
const VERSION: u32 = 1;

/// The outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Version of this document.
    pub version: u32,
    /// The caller's uid and gid.
    pub user: (u32, u32),
    /// The caller's namespaces: kind and inode.
    pub namespaces: Vec<(String, u64)>,
    /// The base namespace's ids onto the host's.
    pub base_map: IdMap,
    /// Directories of the layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// The file system of `upper`.
    pub upper_file_system: String,
    /// What the host is like.
    pub facts: Facts,
    /// What it does not give.
    pub shortfalls: Vec<Shortfall>,
}

/// The step that shows the outside to the container; its bytes are kept in
/// `file` on the host.
pub fn step(file: HostPath, base: &Base, root: &Root) -> Result<Step> {
    let content = serde_json::to_string(&view(base, root)).map_err(|error| Failure::bug(error.to_string()))?;
    let source = Source::Content { path: file, content };
    let attributes = Attributes { read_only: true, no_suid: true, no_dev: true, no_exec: true };
    Ok(Step::Mount(Mount { target: ContainerPath::new(PATH), source, attributes }))
}

fn view(base: &Base, root: &Root) -> HostView {
    let user = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let facts = host::facts();
    let mut shortfalls: Vec<Shortfall> = single_id(base, user).into_iter().collect();
    shortfalls.extend(host::shortfalls(&facts));
    shortfalls.extend(space(root.upper.as_path()));
    let inode = |kind: &str| Some((kind.to_owned(), namespaces::inode_of_self(kind)?));
    HostView {
        version: VERSION,
        user,
        namespaces: namespaces::KINDS.into_iter().filter_map(inode).collect(),
        base_map: base.map.clone(),
        layers: root.lowers.iter().map(|lower| lower.0.clone()).collect(),
        upper: root.upper.0.clone(),
        upper_file_system: file_system(root.upper.as_path()).unwrap_or_else(|| "unknown".to_owned()),
        facts,
        shortfalls,
    }
}

/// Why only one id is mapped, if it is so.
fn single_id(base: &Base, (uid, gid): (u32, u32)) -> Option<Shortfall> {
    if !base.map.is_single() {
        return None;
    }
    let rung = subids::find(uid, gid);
    no_range(&rung).or_else(|| {
        // The range is there, the helpers are there, but they did not do it.
        let Rung::Full(full) = rung else { return None };
        let refused = || format!("{} refused the range", full.newuidmap.display());
        let why = base.helpers_said.clone().unwrap_or_else(refused);
        Some(only_own_id("D04", why, "an admin gives newuidmap and newgidmap their rights: reinstall uidmap"))
    })
}

/// That there is no range to map, if it is so.
pub(super) fn no_range(rung: &Rung) -> Option<Shortfall> {
    match rung {
        Rung::Single { cause, remedy } => Some(only_own_id("D01", cause.clone(), remedy)),
        Rung::Full(_) => None,
    }
}

fn only_own_id(id: &str, why: String, remedy: &str) -> Shortfall {
    let effect = "all owners of files look like root inside; programs cannot change to other users";
    let one = Shortfall::new(id, Level::Warn, "only your own id is mapped").why(why).effect(effect);
    one.remedy(remedy.replacen("an admin", "admin", 1))
}

/// Less room than an image of a distribution takes is worth a word.
pub(super) fn space(directory: &Path) -> Option<Shortfall> {
    const ROOM_BYTES: u64 = 1 << 30;
    let room = nix::sys::statvfs::statvfs(directory).ok()?;
    let (free, left) = (room.blocks_available().saturating_mul(room.fragment_size()), room.files_available());
    (free < ROOM_BYTES).then(|| {
        Shortfall::new("D24", Level::Warn, "little space for images and containers")
            .why(format!("{} MiB and {left} files are free at {}", free >> 20, directory.display()))
            .effect("pulls and writes may fail")
            .remedy("remove what is not needed, or set KELP_DATA to a larger disk")
    })
}

/// The name of the file system that `directory` is on.
pub(super) fn file_system(directory: &Path) -> Option<String> {
    use std::os::fd::AsFd;
    let directory = open::open_dir(directory).ok()?;
    let magic = file::file_system_magic(directory.as_fd()).ok()?;
    Some(overlay::no_upper(magic).or_else(|| local(magic)).map_or_else(|| format!("{magic:#x}"), str::to_owned))
}

/// Names of file systems that hold an upper layer, by magic number (statfs(2)).
fn local(magic: i64) -> Option<&'static str> {
    Some(match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0xF2F5_2010 => "f2fs",
        0x2FC1_2FC1 => "zfs",
        0xCA45_1A4E => "bcachefs",
        _ => return None,
    })
}
