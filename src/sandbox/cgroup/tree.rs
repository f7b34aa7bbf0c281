//! A container's cgroup, made where the placement says: rung after rung, until
//! one holds.

use std::fs;
use std::path::{Path, PathBuf};

use super::group::{Group, enable, words};
use super::limits::Limits;
use super::own;
use super::placement::{Placement, SCOPE, SUBTREE, Subtree};
use super::scope::Scoped;
use crate::error::{Context, Failure, Result};
use crate::host::cgroup::{self, Resident};

/// How often processes are looked for that have to move: new ones may be born
/// meanwhile.
const MOVE_TRIES: u32 = 20;

/// Makes the cgroup of the container `id`. `announce` is told its path before
/// there is anything at it. `None` where there is none and none is required;
/// then `passed` has been told what was in the way.
///
/// The caller is the supervisor; it may be moved to another cgroup.
pub fn make(
    placement: &Placement,
    scoped: &Scoped,
    id: &str,
    limits: &Limits,
    announce: &mut dyn FnMut(&Path) -> Result<()>,
    passed: &mut dyn FnMut(String),
) -> Result<Option<Group>> {
    let mut reasons = Vec::new();
    let mut attempt = |rung: &str, parent: Result<PathBuf>, name: &str, controllers: Option<&[String]>| {
        let made = parent.and_then(|parent| {
            let path = parent.join(name);
            announce(&path)?;
            grow(&parent, controllers, limits)?;
            Group::make(path, id, limits, placement.is_writable)
        });
        made.map_err(|failure| reasons.push(format!("{rung}: {failure}"))).ok()
    };
    let group = match scoped {
        Scoped::Made(unit) => attempt(SCOPE, enter_scope(unit), own::CONTAINER, None),
        Scoped::Refused(why) => attempt(SCOPE, Err(Failure::host(why.as_str())), "", None),
        Scoped::Unasked => None,
    };
    let group = group.or_else(|| {
        let subtree = placement.subtree.as_ref()?;
        attempt(SUBTREE, enter_subtree(subtree), &own::name(id), Some(&subtree.controllers))
    });
    match group {
        None if placement.is_required => {
            let flags = limits.entries().first().map_or("what was asked for", |entry| entry.flag);
            reasons.extend(placement.refused.iter().cloned());
            Err(Failure::host(reasons.join("; ")).doing(format!("make a cgroup, without which {flags} cannot hold")))
        }
        group => {
            reasons.into_iter().for_each(passed);
            Ok(group)
        }
    }
}

/// Moves this process out of the way of the cgroup that [`make`] makes, before
/// it starts others: in the scope's own cgroup, they would be in the way.
pub fn step_aside(scoped: &Scoped) {
    if let Scoped::Made(unit) = scoped {
        // Why not is told by the next attempt.
        enter_scope(unit).ok();
    }
}

/// From the scope's own cgroup, where systemd has put this process, into a leaf
/// of it. Returns the scope's.
fn enter_scope(unit: &str) -> Result<PathBuf> {
    let mount = cgroup::CgroupMount::find().ok_or_else(|| Failure::host("no cgroup v2 tree is mounted"))?;
    let own = fs::read_to_string("/proc/self/cgroup").doing(|| "read /proc/self/cgroup")?;
    let path = Path::new(cgroup::own_cgroup(&own).unwrap_or_default());
    // It may be in the leaf already.
    let scope = if path.ends_with(own::SUPERVISOR) { path.parent().unwrap_or(path) } else { path };
    if scope.file_name().is_none_or(|name| name != unit) {
        return Err(Failure::host(format!("systemd has said so, but {} is not {unit}", path.display())));
    }
    let scope = mount.directory(scope);
    enter(&scope.join(own::SUPERVISOR), "0")?;
    Ok(scope)
}

/// Moves kelp's own processes out of the way, if they are in it.
fn enter_subtree(subtree: &Subtree) -> Result<PathBuf> {
    let directory = &subtree.directory;
    let leaf = directory.join(own::KELP);
    for _ in 0..if subtree.moves_kelp { MOVE_TRIES } else { 0 } {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).doing(|| "read cgroup.procs")?;
        let mut kelps = processes.lines().filter(|pid| cgroup::resident(pid) == Resident::Kelp).peekable();
        if kelps.peek().is_none() {
            break;
        }
        kelps.try_for_each(|pid| enter(&leaf, pid))?;
    }
    Ok(directory.clone())
}

/// Moves a process into the cgroup at `leaf`, which is made where it is missing.
fn enter(leaf: &Path, pid: &str) -> Result<()> {
    match fs::create_dir(leaf) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        result => result.doing(|| format!("make cgroup {}", leaf.display()))?,
    }
    match fs::write(leaf.join("cgroup.procs"), pid) {
        // It has ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.doing(|| format!("move process {pid} to {}", leaf.display())),
    }
}

/// Gives the cgroups in `parent` the controllers `wanted`, or all there are.
/// Only those that a limit needs have to be had.
fn grow(parent: &Path, wanted: Option<&[String]>, limits: &Limits) -> Result<()> {
    let all = match wanted {
        Some(wanted) => wanted.to_vec(),
        None => words(&parent.join("cgroup.controllers"))?,
    };
    let refused = enable(parent, &all)?;
    let enabled = words(&parent.join("cgroup.subtree_control"))?;
    match limits.missing(&enabled).first() {
        None => Ok(()),
        Some(entry) => {
            let why = format!("{} has no controller {}", parent.display(), entry.controller.name());
            Err(refused.unwrap_or_else(|| Failure::host(why)))
        }
    }
}
