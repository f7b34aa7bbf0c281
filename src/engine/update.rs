//! `update`: what may change of a container, while it lives and for its next
//! starts.
//!
//! What it may use is kept with the request (request.json), so the limits are
//! decided anew from the whole of it. Of one that lives, the command decides
//! for the cgroup that it has, and its supervisor does it: all of it, or
//! nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::lifecycle::change;
use super::limiting::{self, Decision, Surroundings};
use super::make;
use super::options::resources::{Mode, Resources};
use super::plan;
use super::request::Stored;
use super::start::{older, stored};
use crate::container::control::{LimitsChange, ToSupervisor, Update};
use crate::container::events::{self, Action};
use crate::container::record::Record;
use crate::container::restart::RestartPolicy;
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Result};
use crate::host;
use crate::host::machine::{self, Machine};
use crate::paths::Paths;
use crate::sandbox::cgroup::limits::{Disk, Entry};
use crate::sandbox::cgroup::{Limits, Shares, placement, scope};
use crate::sandbox::enforcement::{Enforced, Holder};

/// How often another command may be faster.
const TRIES: u32 = 5;

/// What is to be changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// The restart policy.
    pub restart: Option<RestartPolicy>,
    /// What it may use; what is not spoken of stays.
    pub resources: Resources,
}

/// Changes the container called `name`. Returns what the user should know of
/// limits that its cgroup does not hold.
pub fn update(paths: &Paths, name: &str, wish: &Wish) -> Result<Vec<String>> {
    let container = store::find(paths, name)?;
    let doing = || format!("update container \"{name}\"");
    if container.record.auto_remove && wish.restart.is_some_and(|policy| policy != RestartPolicy::No) {
        return Err(Failure::user("it is removed when it ends (--rm), which excludes a restart policy")).doing(doing);
    }
    // One after the other: systemd and the cgroup must hear of the same one last.
    let _lock = lock(&container.directory).doing(doing)?;
    let mut tries = 1;
    let notices = loop {
        match once(paths, &store::find(paths, &container.record.id)?, wish) {
            Err(failure) if failure.is_errno(libc::EAGAIN) && tries < TRIES => tries += 1,
            result => break result.doing(doing)?,
        }
    };
    events::tell(paths, &container.record, Action::Update);
    Ok(notices)
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("update.lock");
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    opened.and_then(|file| file.lock().map(|()| file)).doing(|| format!("lock {}", path.display()))
}

fn once(paths: &Paths, container: &Container, wish: &Wish) -> Result<Vec<String>> {
    let is_live = container.record.status.is_live() && !wish.resources.is_empty();
    // Of one that does not run, it is decided below, under its lock.
    let (limits, told_shares) = match is_live.then(|| live(container, &wish.resources)).transpose()? {
        Some((limits, shares)) => (Some(Box::new(limits)), shares),
        None => (None, None),
    };
    let update = Update { restart: wish.restart, limits };
    let notices = |enforced: &[Enforced]| enforced.iter().filter_map(Enforced::notice).collect::<Vec<_>>();
    let mut told = update.limits.as_ref().map(|limits| notices(&limits.enforced)).unwrap_or_default();
    let message = ToSupervisor::Update(Box::new(update.clone()));
    // systemd first: that it does not answer, or refuses, is found out before anything is changed.
    told_shares.iter().try_for_each(|shares| shares.tell(&shares.now))?;
    let changed = change(paths, container, &message, |container| {
        update.apply(&mut container.record);
        if !wish.resources.is_empty() {
            container.record.enforced = at_rest(container, &wish.resources)?;
            told = notices(&container.record.enforced);
        }
        container.record.save(&container.directory)
    });
    if changed.is_err() {
        // Why the update failed is what is told.
        told_shares.iter().for_each(|shares| drop(shares.tell(&shares.now.back_to(&shares.before))));
    }
    changed.map(|()| told)
}

/// What the systemd is told whose scope a container is in.
struct ToldShares {
    socket: PathBuf,
    cgroup: PathBuf,
    id: String,
    before: Shares,
    now: Shares,
}

impl ToldShares {
    /// `None` where there is nothing to tell. What was told before is told again:
    /// of an update that was killed on the way, nothing stays.
    fn find(record: &Record, before: &Limits, now: &Limits) -> Result<Option<Self>> {
        let Some(cgroup) = record.cgroup.as_ref().filter(|cgroup| scope::is_in_one(cgroup, &record.id)) else {
            return Ok(None);
        };
        let now = Shares::of(now)?;
        if now.is_empty() {
            return Ok(None);
        }
        let Some(systemd) = host::cgroup::look().manager else {
            return Err(Failure::host("your systemd, whose scope it is in, cannot be reached from here"));
        };
        let (cgroup, id) = (cgroup.clone(), record.id.clone());
        Ok(Some(Self { socket: systemd.socket, cgroup, id, before: Shares::of(before)?, now }))
    }

    fn tell(&self, shares: &Shares) -> Result<()> {
        scope::tell(&self.socket, &self.cgroup, &self.id, shares).doing(|| "tell systemd of its shares")
    }
}

/// Of one that does not run: as its next start will find it, if nothing else
/// changes until then.
fn at_rest(container: &Container, wish: &Resources) -> Result<Vec<Enforced>> {
    let mut stored = stored(container)?;
    let resources = stored.request.resources.changed_by(wish);
    stored.request.resources = resources;
    let request = &stored.request;
    let facts = make::cgroups(request);
    let fits = |limits: &Limits| plan::placement(request, &facts, limits, true).map(drop);
    let around = Surroundings { machine: &Machine::look(), fits: &fits, disk: &disk };
    let decision = limiting::decide(&request.resources, &around)?;
    stored.save(&container.directory)?;
    Ok(decision.enforced)
}

/// Of one that runs, or is between two starts.
fn live(container: &Container, wish: &Resources) -> Result<(LimitsChange, Option<ToldShares>)> {
    let (mut stored, before) = Stored::load_with_text(&container.directory).map_err(older)?;
    let old = &stored.request.resources;
    let new = old.changed_by(wish);
    new.check()?;
    let fits = |limits: &Limits| fits(&container.record, limits);
    let around = Surroundings { machine: &Machine::look(), fits: &fits, disk: &disk };
    let mut decision = limiting::decide(&new, &around)?;
    let other = match new.that_limit().limits(&disk)? == old.that_limit().limits(&disk)? {
        // No limit where there was none needs no cgroup.
        true => Limits::default(),
        false => new.limits(&disk)?.beyond(&old.limits(&disk)?),
    };
    let written = match new.mode {
        Mode::Strict => fits(&other).map(|()| other)?,
        Mode::BestEffort => limiting::most(&other, &fits),
    };
    check_processes(&container.record, old, &new, &decision)?;
    let has = |holder| container.record.enforced.iter().any(|limit| limit.by == holder);
    if has(Holder::Affinity) && decision.substitutes.processors.is_empty() {
        // All of them again.
        decision.substitutes.processors = machine::numbers(&around.machine.processors);
    }
    let told = ToldShares::find(&container.record, &old.limits(&disk)?, &new.limits(&disk)?)?;
    stored.request.resources = new;
    let Decision { substitutes, enforced, .. } = decision;
    Ok((LimitsChange { before, after: stored.text()?, written, substitutes, enforced }, told))
}

/// An rlimit belongs to each process from its start.
fn check_processes(record: &Record, old: &Resources, new: &Resources, decision: &Decision) -> Result<()> {
    let is_held = decision.processes.is_some() || record.enforced.iter().any(|limit| limit.by == Holder::Rlimit);
    match is_held && old.pids != new.pids {
        true => Err(Failure::host("--pids-limit cannot change while it runs: without a cgroup, its processes have it")
            .hint("stop it first")),
        false => Ok(()),
    }
}

/// Whether the cgroup that it has can hold these.
fn fits(record: &Record, limits: &Limits) -> Result<()> {
    let Some(entry) = limits.entries().into_iter().next() else { return Ok(()) };
    let Some(directory) = &record.cgroup else {
        return Err(Failure::host(format!("{} cannot hold: it was started without a cgroup of its own", entry.flag))
            .hint("stop it, update it, start it: with a limit it is started in one, if one can be had"));
    };
    let file = directory.join("cgroup.controllers");
    let text = fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
    let available: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    let lacks = |file: &str| !limits.may_lack(file) && !directory.join(file).exists();
    match limits.missing(&available).first() {
        None => match limits.entries().iter().find(|entry| lacks(&entry.file)) {
            None => Ok(()),
            Some(Entry { flag, file, .. }) => {
                Err(Failure::host(format!("{flag} cannot hold: {}", placement::without(file))))
            }
        },
        Some(entry) => {
            let name = entry.controller.name();
            let cause = format!(
                "{} cannot hold: its cgroup has no controller {name} ({})",
                entry.flag,
                missing_from(&file, &text)
            );
            Err(Failure::host(cause)
                .hint("stop it, update it, start it: then it gets a cgroup with what it needs, if one can be had"))
        }
    }
}

fn missing_from(file: &Path, text: &str) -> String {
    match text.trim() {
        "" => format!("{} is empty", file.display()),
        names => format!("{} has {names}", file.display()),
    }
}

fn disk(path: &Path) -> Result<Disk> {
    machine::disk(path).map(|(major, minor)| Disk { major, minor })
}
