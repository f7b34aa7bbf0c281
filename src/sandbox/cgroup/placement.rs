//! Where a container's cgroup is made: the ladder, as a decision. Pure.
//!
//! 1. A **scope**, made by the user's own systemd, which has the controllers
//!    that an admin has delegated to it.
//! 2. A **subtree** that is delegated to the user (cgroups(7), "Delegation").
//! 3. **None**: fine where nothing hangs on it.
//!
//! A cgroup that is marked as delegated comes first: who started kelp in it
//! wants the container there. And a scope takes a process out of the cgroup
//! that it was started in, with all that limits, counts and ends it there. So
//! it is asked for only where that is a login's own; a batch system's job is
//! never left.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::{Controller, Entry, Limits};
use crate::error::{Failure, Result};
use crate::host::Cgroup;
use crate::host::cgroup::{self, CgroupVersion};

/// The slice that scopes are put into.
const SLICE: &str = "kelp.slice";

/// What the rungs are called where one failed.
pub(super) const SCOPE: &str = "as a scope of systemd";
pub(super) const SUBTREE: &str = "in a delegated cgroup";

/// What an admin does so that systemd can hand controllers on.
const DELEGATE: &str = "an admin writes the lines [Service] and Delegate=cpu cpuset io memory pids to \
                        /etc/systemd/system/user@.service.d/delegate.conf; it counts from your next login";

/// The controllers that systemd knows in cgroup v2 (systemd.resource-control(5), `Delegate=`).
const SYSTEMDS: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuset, Controller::Io, Controller::Memory, Controller::Pids];

/// Whether a container has a cgroup of its own (`--cgroups`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroups {
    /// Where one can be had for what it is worth.
    #[default]
    Usual,
    /// Always: else it does not start.
    Enabled,
    /// Never.
    Disabled,
}

/// What the user's cgroup is to be made in (`--cgroup-parent`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// A slice of the user's systemd.
    Slice(String),
    /// A cgroup, as /proc/PID/cgroup names it, or by its directory.
    Path(PathBuf),
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// `--cgroups`.
    pub cgroups: Cgroups,
    /// `--cgroup-parent`.
    pub parent: Option<&'a Parent>,
    /// The limits that must hold.
    pub limits: &'a Limits,
    /// The container may make cgroups in its own.
    pub is_writable: bool,
    /// It goes on without the command that starts it.
    pub is_kept: bool,
}

/// Where the cgroup is made: the rungs in the order in which they are tried.
/// With neither, there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// A scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// A delegated subtree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<Subtree>,
    /// Without a cgroup it does not start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_required: bool,
    /// The container may make cgroups in its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_writable: bool,
    /// Rungs that cannot be tried though one is required, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// A scope of the user's systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Where it is asked for.
    pub socket: PathBuf,
    /// What it is put into.
    pub slice: String,
    /// The controllers that it can have.
    pub controllers: Vec<String>,
}

/// A cgroup that is delegated to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtree {
    /// Its directory.
    pub directory: PathBuf,
    /// The controllers that a cgroup made in it can have.
    pub controllers: Vec<String>,
    /// For that, kelp's own processes in it must move to a leaf.
    pub moves_kelp: bool,
}

impl Placement {
    /// The rung that is tried first, by its name.
    pub fn rung(&self) -> &'static str {
        match (&self.scope, &self.subtree) {
            (Some(_), _) => "scope",
            (None, Some(_)) => "subtree",
            (None, None) => "none",
        }
    }

    /// The controllers that are to be had there.
    pub fn controllers(&self) -> &[String] {
        let scope = self.scope.as_ref().map(|scope| &scope.controllers);
        scope.or(self.subtree.as_ref().map(|subtree| &subtree.controllers)).map_or(&[], Vec::as_slice)
    }
}

/// Decides. What cannot be had and must be is a failure that says what is in
/// the way on each rung. `facts` know the parent that was asked for
/// ([`Cgroup::only_below`]).
pub fn decide(facts: &Cgroup, wish: &Wish<'_>) -> Result<Placement> {
    if wish.cgroups == Cgroups::Disabled {
        return match what_needs_one(wish) {
            None => Ok(Placement::default()),
            Some(what) => Err(Failure::usage(format!("{what} needs a cgroup, and --cgroups disabled excludes one"))),
        };
    }
    let is_required = what_needs_one(wish).is_some();
    let subtree = subtree(facts, wish);
    let is_own_first = facts.is_marked || facts.manager.is_none() || matches!(wish.parent, Some(Parent::Path(_)));
    let is_own = |found: &&Subtree| Some(&found.directory) == facts.directory.as_ref() || wish.parent.is_some();
    let scope = match subtree.as_ref().ok().filter(is_own).filter(|_| is_own_first) {
        Some(_) => Err("kelp was started in a cgroup that is delegated already".to_owned()),
        None => scope(facts, wish),
    };
    match (scope, subtree) {
        (Err(no_scope), Err(no_subtree)) if is_required => Err(refuse(facts, wish, &no_scope, &no_subtree)),
        (scope, subtree) => {
            let is_writable = wish.is_writable;
            let reasons = [(SCOPE, scope.as_ref().err()), (SUBTREE, subtree.as_ref().err())];
            let reasons = reasons.into_iter().filter(|_| is_required);
            let refused = reasons.filter_map(|(rung, why)| Some(format!("{rung}: {}", why?))).collect();
            Ok(Placement { scope: scope.ok(), subtree: subtree.ok(), is_required, is_writable, refused })
        }
    }
}

/// What a container gets that asks for a cgroup and for nothing else.
pub fn usual(facts: &Cgroup) -> Placement {
    let limits = Limits::default();
    let wish = Wish { cgroups: Cgroups::Enabled, parent: None, limits: &limits, is_writable: false, is_kept: true };
    // Why not is what the host's shortfalls say.
    decide(facts, &wish).unwrap_or_default()
}

/// The option that cannot do without.
fn what_needs_one(wish: &Wish<'_>) -> Option<String> {
    let flags = wish.limits.entries().into_iter().map(|entry| entry.flag);
    let others = [
        (wish.cgroups == Cgroups::Enabled, "--cgroups enabled"),
        (wish.parent.is_some(), "--cgroup-parent"),
        (wish.is_writable, "--security-opt writable-cgroups"),
    ];
    flags.chain(others.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, flag)| flag)).next().map(str::to_owned)
}

/// Why not, if not.
fn scope(facts: &Cgroup, wish: &Wish<'_>) -> std::result::Result<Scope, String> {
    let slice = match wish.parent {
        Some(Parent::Path(_)) => return Err("--cgroup-parent names another place".to_owned()),
        Some(Parent::Slice(slice)) => Some(slice.as_str()),
        None => None,
    };
    let Some(manager) = &facts.manager else {
        return Err("no systemd of yours runs here, or its socket is not in the runtime directory".to_owned());
    };
    let own = facts.path.as_deref().unwrap_or(Path::new("/"));
    let is_asked = slice.is_some() || what_needs_one(wish).is_some();
    match login(own, &manager.directory, facts) {
        _ if slice.is_some() => {}
        Login::Own if is_asked || wish.is_kept => {}
        Login::Own => return Err("it is not worth its time".to_owned()),
        Login::Service if is_asked => {}
        _ => return Err(format!("it would leave {}, where kelp was started", own.display())),
    }
    lacking(wish.limits, &manager.controllers, &manager.lacks, &manager.directory)?;
    Ok(Scope {
        socket: manager.socket.clone(),
        slice: slice.unwrap_or(SLICE).to_owned(),
        controllers: manager.controllers.clone(),
    })
}

/// Whose the cgroup is that kelp was started in.
enum Login {
    /// In the user's own slice: of a session, or of the user's systemd.
    Own,
    /// A service of the system's that starts processes of many users, such as
    /// sshd or cron; or nobody's.
    Service,
    /// Something that was made for a purpose, such as a batch job.
    Other,
}

fn login(own: &Path, manager: &Path, facts: &Cgroup) -> Login {
    // user@UID.service is in user-UID.slice, where the user's sessions are, too.
    let slice = manager.parent().unwrap_or(manager);
    let directory = facts.directory.as_deref().unwrap_or(Path::new(""));
    if directory.starts_with(slice) {
        return Login::Own;
    }
    let parts: Vec<_> = own.iter().skip(1).map(|part| part.to_string_lossy()).collect();
    match parts.as_slice() {
        [] => Login::Service,
        [slice, service] if slice == "system.slice" && service.ends_with(".service") => Login::Service,
        _ => Login::Other,
    }
}

/// The nearest that will do; why not, if none does.
fn subtree(facts: &Cgroup, wish: &Wish<'_>) -> std::result::Result<Subtree, String> {
    if let Some(Parent::Slice(_)) = wish.parent {
        return Err("--cgroup-parent names a slice".to_owned());
    }
    let mut why = None;
    for found in &facts.subtrees {
        match suitable(found, wish.limits) {
            Ok(()) => {
                let controllers = found.usable().to_vec();
                let is_more = controllers.iter().any(|name| !found.enabled.contains(name));
                let moves_kelp = found.has_kelp && is_more;
                return Ok(Subtree { directory: found.directory.clone(), controllers, moves_kelp });
            }
            Err(reason) => why = why.or(Some(reason)),
        }
    }
    Err(why.unwrap_or_else(|| match (facts.version, &facts.directory) {
        (CgroupVersion::V2 | CgroupVersion::Hybrid, _) if let Some(Parent::Path(path)) = wish.parent => {
            format!("{} is not there, or not delegated to you", path.display())
        }
        (CgroupVersion::None | CgroupVersion::V1, _) | (_, None) => "no cgroup v2 tree is mounted".to_owned(),
        (_, Some(directory)) => {
            format!("neither {} nor a cgroup above it is delegated to you", directory.display())
        }
    }))
}

fn suitable(found: &cgroup::Subtree, limits: &Limits) -> std::result::Result<(), String> {
    match lacking(limits, &found.controllers, &found.lacks, &found.directory) {
        Err(why) => Err(why),
        Ok(()) if limits.missing(found.usable()).is_empty() => Ok(()),
        Ok(()) => {
            let list = found.others.get(..3).unwrap_or(&found.others).join(", ");
            let more = if found.others.len() > 3 { " and others" } else { "" };
            Err(format!(
                "in {} are processes other than kelp's, {list}{more}, with which the kernel enables no controllers there",
                found.directory.display()
            ))
        }
    }
}

fn lacking(
    limits: &Limits,
    controllers: &[String],
    lacks: &[String],
    directory: &Path,
) -> std::result::Result<(), String> {
    let entries = limits.entries();
    let missing = entries.iter().find(|entry| lacks.contains(&entry.file) && !limits.may_lack(&entry.file));
    if let Some(Entry { file, .. }) = missing {
        return Err(format!("there is no {file} in {}: {}", directory.display(), without(file)));
    }
    let mut names: Vec<_> = limits.missing(controllers).iter().map(|entry| entry.controller.name()).collect();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let file = directory.join("cgroup.controllers");
    Err(format!("there is no {} in {} (\"{}\")", names.join(", no "), file.display(), controllers.join(" ")))
}

/// Why a kernel has the controller and not `file`, and what else there is.
pub fn without(file: &str) -> String {
    match file {
        "io.weight" => "this kernel has no weights for disks (CONFIG_BLK_CGROUP_IOCOST); with the scheduler BFQ, \
                        --cgroup-conf io.bfq.weight=NUMBER"
            .to_owned(),
        "memory.swap.max" => "this kernel counts no swap: leave --memory-swap out".to_owned(),
        _ => format!("the cgroup has no file {file}: this kernel does not know it"),
    }
}

fn refuse(facts: &Cgroup, wish: &Wish<'_>, no_scope: &str, no_subtree: &str) -> Failure {
    let mut flags: Vec<_> = wish.limits.entries().iter().map(|entry| entry.flag).collect();
    flags.dedup();
    let what = match flags.is_empty() {
        true => format!("{} needs a cgroup, which cannot be had", what_needs_one(wish).unwrap_or_default()),
        false => format!("{} cannot hold", flags.join(", ")),
    };
    let failure = Failure::host(format!("{what}: {SCOPE}: {no_scope}; {SUBTREE}: {no_subtree}"));
    let failure = way_out(facts, wish).into_iter().fold(failure, Failure::hint);
    match flags.is_empty() {
        true => failure,
        false => failure.hint("--limits best-effort goes without it, or holds it otherwise where that can be"),
    }
}

fn way_out(facts: &Cgroup, wish: &Wish<'_>) -> Vec<String> {
    const UNIFIED: &str = "an admin boots with systemd.unified_cgroup_hierarchy=1 (cgroup v2 alone)";
    let crowded = facts.subtrees.iter().find(|subtree| !subtree.others.is_empty());
    match (facts.version, &facts.manager, crowded) {
        (CgroupVersion::Hybrid, ..) if !wish.limits.is_empty() => vec![
            "cgroup v1 has the controllers here (hybrid), and users cannot use them there".to_owned(),
            UNIFIED.to_owned(),
        ],
        (CgroupVersion::V1 | CgroupVersion::None, ..) => vec![UNIFIED.to_owned()],
        (.., Some(crowded)) => {
            let directory = crowded.directory.display();
            vec![format!(
                "move what is there to a leaf: mkdir {directory}/shell; echo $$ > {directory}/shell/cgroup.procs"
            )]
        }
        (_, Some(manager), _) if !wish.limits.missing(&manager.controllers).is_empty() => {
            let missing = wish.limits.missing(&manager.controllers);
            let unknown = missing.iter().find(|entry| !SYSTEMDS.contains(&entry.controller));
            vec![unknown.map_or(DELEGATE.to_owned(), |entry| {
                format!("systemd gives no {} to anybody; only a host without it can", entry.controller.name())
            })]
        }
        (_, Some(_), _) => {
            vec!["systemd-run --user --scope -p Delegate=yes kelp ... is a place of your own".to_owned()]
        }
        (_, None, _) => {
            vec!["an admin delegates a cgroup to you: kelp's reference page on cgroups says how".to_owned()]
        }
    }
}

#[cfg(test)]
mod tests;
