//! All containers of a user: making, finding, listing, removing.
//!
//! A container is a directory `containers/ID`; its name is a symbolic link
//! `names/NAME` to the id, which the file system keeps unique without a lock.
//! Removal is one rename into the trash; what is in there is deleted by a
//! stage in the base namespace, where all its owners are mapped.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::{self, FromSupervisor, ToSupervisor};
use super::events::{self, Action};
use super::record::{self, Record, Status, now_ns};
use super::spent::Spent;
use super::uses;
use crate::error::{Context, Failure, Result};
use crate::failpoint;
use crate::kernel::process;
use crate::paths::{self, Paths};
use crate::sandbox::cgroup;
use crate::storage::{sweep, volumes};

/// What a container whose supervisor was killed is said to have returned:
/// 128 + SIGKILL, for that is how its processes ended.
const KILLED: i32 = 137;

/// How often a lock is tried that somebody holds who is no supervisor: a start
/// takes some milliseconds, a look at the lock some microseconds.
const LOCK_TRIES: u32 = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long a supervisor may take to write its record: it does one thing at a
/// time, none of which takes long.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

/// A container on disk.
#[derive(Debug, Clone)]
pub struct Container {
    /// `containers/ID`.
    pub directory: PathBuf,
    /// What is known of it.
    pub record: Record,
}

/// A container that was just made; its lock is held.
pub struct Made {
    /// The container.
    pub container: Container,
    /// Held for as long as it lives: handed to the supervisor.
    pub lock: File,
}

/// Makes the directories of a new container with a fresh id. `name` must be
/// legal; a name that is taken is an error that says by whom.
pub fn create(paths: &Paths, name: &str) -> Result<Made> {
    let id = process::random_hex::<32>()?;
    // Made where the sweep respects the same lock, and moved when it is held:
    // a container that shows is alive or its maker is dead, never between.
    let staged = paths.staging().join(&id);
    in_parent(paths, &paths.staging(), || DirBuilder::new().mode(0o700).create(&staged))
        .doing(|| format!("make {}", staged.display()))?;
    let lock = File::create(staged.join("lock")).doing(|| format!("make {}/lock", staged.display()))?;
    lock.lock().doing(|| format!("lock {}/lock", staged.display()))?;
    for part in ["upper", "work"] {
        DirBuilder::new()
            .mode(0o755)
            .create(staged.join(part))
            .doing(|| format!("make {}/{part}", staged.display()))?;
    }
    failpoint::reach(paths, "create: staged");
    let directory = paths.containers().join(&id);
    in_parent(paths, &paths.containers(), || fs::rename(&staged, &directory))
        .doing(|| format!("make {}", directory.display()))?;
    failpoint::reach(paths, "create: in place");
    if let Err(failure) = take_name(paths, name, &id) {
        fs::remove_dir_all(&directory).ok();
        return Err(failure);
    }
    failpoint::reach(paths, "create: named");
    Ok(Made { container: Container { directory, record: Record::new(id, name.to_owned()) }, lock })
}

/// Does what makes an entry of `parent`; makes the parent only if that is what
/// was missing: it is there in all starts but the first.
fn in_parent(paths: &Paths, parent: &Path, make: impl Fn() -> io::Result<()>) -> Result<()> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            paths::make_private(parent)?;
            // There before the disk is full: a removal makes room by way of it.
            paths::make_private(&paths.trash())?;
            Ok(make()?)
        }
        result => Ok(result?),
    }
}

fn take_name(paths: &Paths, name: &str, id: &str) -> Result<()> {
    let link = paths.names().join(name);
    for _ in 0..2 {
        match symlink(id, &link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                paths::make_private(&paths.names())?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match holder(paths, &link) {
                    Some(holder) => {
                        let short = holder.get(..12).unwrap_or(&holder);
                        let taken = Failure::user(format!("the name \"{name}\" is taken by container {short}"));
                        return Err(taken
                            .errno(libc::EEXIST)
                            .hint(format!("remove it with kelp rm {name}, or choose another name")));
                    }
                    // A container that is gone left its name behind.
                    None => fs::remove_file(&link).or_else(ignore_missing).doing(|| "remove a stale name")?,
                }
            }
            Err(error) => return Err(Failure::from(error).doing(format!("take the name \"{name}\""))),
        }
    }
    Err(Failure::user(format!("the name \"{name}\" is being taken by somebody else")))
}

/// Calls a container `name`. The caller holds its lock. Killed in between, the
/// container has its old name or the new one, and the link of the other one is
/// in its record: [`end_rename`] removes it.
pub fn rename(paths: &Paths, directory: &Path, record: &mut Record, name: &str) -> Result<()> {
    paths::check_name(name)?;
    if record.name == name {
        return Err(Failure::user(format!("it is called \"{name}\" already")));
    }
    record.other_name = Some(name.to_owned());
    record.save(directory)?;
    take_name(paths, name, &record.id)?;
    failpoint::reach(paths, "rename: link made");
    let old = std::mem::replace(&mut record.name, name.to_owned());
    record.other_name = Some(old.clone());
    if let Err(failure) = record.save(directory) {
        free_name(paths, name, &record.id)?;
        record.name = old;
        return Err(failure);
    }
    failpoint::reach(paths, "rename: record saved");
    free_name(paths, &old, &record.id)
}

/// Takes away the link that a killed rename left, if there is one.
fn end_rename(paths: &Paths, directory: &Path, record: &Record) -> Result<()> {
    let is_left = |name: &String| fs::read_link(paths.names().join(name)).is_ok_and(|id| id.as_os_str() == &*record.id);
    if !record.other_name.as_ref().is_some_and(is_left) {
        return Ok(());
    }
    // Whoever is renaming it has the lock.
    match control::lock_file(directory) {
        Ok(lock) if lock.try_lock().is_ok() => free_other_name(paths, &Record::load(directory)?),
        _ => Ok(()),
    }
}

/// The same, by who holds the container's lock.
fn free_other_name(paths: &Paths, record: &Record) -> Result<()> {
    match record.other_name.as_ref().filter(|other| **other != record.name) {
        Some(other) => free_name(paths, other, &record.id),
        None => Ok(()),
    }
}

/// Takes a name from the container `id`; if it is another's by now, it stays.
fn free_name(paths: &Paths, name: &str, id: &str) -> Result<()> {
    let link = paths.names().join(name);
    if fs::read_link(&link).is_ok_and(|holder| holder.as_os_str() == id) {
        fs::remove_file(&link).or_else(ignore_missing).doing(|| format!("free the name \"{name}\""))?;
    }
    Ok(())
}

/// A container that nobody looks after, and its lock: while it is held, nobody
/// else starts, changes or removes it.
pub struct Locked {
    /// The container, its record up to date.
    pub container: Container,
    /// Its lock.
    pub lock: File,
}

/// Takes the lock of `container`; `None` where its supervisor has it, EBUSY where
/// another command has it for long.
pub fn lock(paths: &Paths, container: &Container) -> Result<Option<Locked>> {
    let id = &container.record.id;
    let gone = || Failure::not_found(format!("no container \"{}\"", container.record.name));
    for _ in 0..LOCK_TRIES {
        let file = match control::lock_file(&container.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            result => result.doing(|| "open its lock")?,
        };
        match file.try_lock() {
            Ok(()) => {
                // Whoever removes it has the lock too, and renames: that decides.
                let record = match load_locked(paths, id)? {
                    Some(container) => container.record,
                    None => return Err(gone()),
                };
                // Once it runs, nobody else can tell.
                free_other_name(paths, &record)?;
                let container = Container { directory: container.directory.clone(), record };
                return Ok(Some(Locked { container, lock: file }));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::from(error).doing("take its lock")),
            Err(TryLockError::WouldBlock) => {}
        }
        // Who only looks whether it is locked holds it for a moment, too.
        let record = Record::load(&container.directory)?;
        if let Status::Running { supervisor, .. } | Status::Restarting { supervisor, .. } = record.status
            && supervisor.is_current()
        {
            return Ok(None);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(Failure::user("another command is starting, changing or removing it").errno(libc::EBUSY))
}

/// Whether a name belongs to anybody, alive or not.
pub fn is_name_taken(paths: &Paths, name: &str) -> bool {
    paths.names().join(name).is_symlink()
}

/// The id of the container that a name belongs to, if there is one: also one
/// that is being started and has no record yet.
fn holder(paths: &Paths, link: &Path) -> Option<String> {
    let id = fs::read_link(link).ok()?.to_str()?.to_owned();
    // One that cannot be read keeps its name.
    let is_there = is_alive(&paths.containers().join(&id)) || load(paths, &id).map_or(true, |found| found.is_some());
    // A rename that was killed may have left it; then it is gone now.
    (is_there && link.is_symlink()).then_some(id)
}

/// All containers that are whole, repaired where their supervisor died, newest
/// first; and why others could not be read. One that cannot be read is left as
/// it is: the cause may be passing (EMFILE) or a newer kelp's record.
pub fn list(paths: &Paths) -> Result<(Vec<Container>, Vec<Failure>)> {
    let entries = match fs::read_dir(paths.containers()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        result => result.doing(|| format!("read {}", paths.containers().display()))?,
    };
    let (mut containers, mut damaged) = (Vec::new(), Vec::new());
    for id in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        match load(paths, &id) {
            Ok(container) => containers.extend(container),
            Err(failure) => damaged.push(failure.doing(format!("read container {}", id.get(..12).unwrap_or(&id)))),
        }
    }
    containers.sort_by_key(|container| std::cmp::Reverse(container.record.created_ns));
    Ok((containers, damaged))
}

/// The container named `text`: by name, by id or by the unique start of an id.
pub fn find(paths: &Paths, text: &str) -> Result<Container> {
    // A text with a slash is a path, and its link could name anything.
    if !text.contains('/')
        && let Ok(id) = fs::read_link(paths.names().join(text))
        && let Some(container) = id.to_str().and_then(|id| load(paths, id).transpose()).transpose()?
        // Else it was killed while it was being renamed.
        && container.record.name == text
    {
        return true_one(paths, container);
    }
    let (containers, _) = list(paths)?;
    let names: Vec<String> = containers.iter().map(|container| container.record.name.clone()).collect();
    let mut matching =
        containers.into_iter().filter(|container| !text.is_empty() && container.record.id.starts_with(text));
    match (matching.next(), matching.next()) {
        (Some(container), None) => true_one(paths, container),
        (Some(_), Some(_)) => Err(Failure::user(format!("more than one container's id starts with \"{text}\""))),
        (None, _) => Err(Failure::not_found(format!("no container \"{text}\""))
            .did_you_mean(text, names.iter().map(String::as_str))
            .hint("kelp ps --all lists all containers")),
    }
}

/// Whether a supervisor looks after the container at `directory`.
pub fn is_alive(directory: &Path) -> bool {
    // Who cannot tell does not say that it is dead.
    is_locked(directory).unwrap_or(true)
}

/// The same; an error where the lock cannot be tried.
fn is_locked(directory: &Path) -> Result<bool> {
    let lock = match control::lock_file(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result.doing(|| "open its lock")?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(Failure::from(error).doing("try its lock")),
    }
}

/// Whether a container is on its way: its maker is alive, but there is no
/// record yet that says what it needs.
pub fn is_one_being_made(paths: &Paths) -> Result<bool> {
    let entries = match fs::read_dir(paths.containers()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result.doing(|| format!("read {}", paths.containers().display()))?,
    };
    let mut directories = entries.flatten().map(|entry| entry.path());
    // The record is looked at last: it comes before the maker lets go.
    Ok(directories.any(|directory| is_alive(&directory) && !directory.join("record.json").exists()))
}

/// Throws a container away. It must not be alive.
pub fn remove(paths: &Paths, container: &Container) -> Result<()> {
    remove_run_files(paths, &container.record.id);
    failpoint::reach(paths, "remove: runtime files gone");
    discard(paths, &container.directory, &container.record.id, Some(&container.record.name))?;
    events::tell(paths, &container.record, Action::Destroy);
    Ok(())
}

/// Removes what a container needs only while it lives. What cannot be removed
/// now is an orphan.
fn remove_run_files(paths: &Paths, id: &str) {
    for directory in [paths.container_run(id), paths.earlier_container_run(id)] {
        fs::remove_dir_all(directory).ok();
    }
}

/// Renames a container's directory into the trash and frees its name.
pub fn discard(paths: &Paths, directory: &Path, id: &str, name: Option<&str>) -> Result<()> {
    sweep::trash(paths, directory)
        .or_else(|failure| if failure.is_errno(libc::ENOENT) { Ok(()) } else { Err(failure) })?;
    failpoint::reach(paths, "remove: in the trash");
    let Some(name) = name else { return Ok(()) };
    free_name(paths, name, id)
}

/// Loads one container and brings its record up to date with the truth.
/// `None` where there is none (any more).
fn load(paths: &Paths, id: &str) -> Result<Option<Container>> {
    // What is no id is nothing of ours, to be read or thrown away.
    if !is_id(id) {
        return Ok(None);
    }
    let directory = paths.containers().join(id);
    match Record::load(&directory) {
        // Most containers have ended: a list of many is not to look further.
        Ok(record) if record.is_at_rest() => {
            end_rename(paths, &directory, &record)?;
            return Ok(Some(Container { directory, record }));
        }
        // It was so when it was read, and its supervisor was alive after that.
        Ok(record) if record.status.is_live() && is_locked(&directory)? => {
            return Ok(Some(Container { directory, record }));
        }
        _ => {}
    }
    // Who repairs holds the lock meanwhile: a start may come at the same time.
    match try_lock(&directory)? {
        Lock::Taken => match Record::load(&directory).or_else(|failure| load_anew(paths, id, &directory, failure)) {
            // Its maker or its supervisor writes the record; before that there is nothing to show.
            Err(failure) if failure.is_errno(libc::ENOENT) => Ok(None),
            record => Ok(Some(Container { directory, record: record? })),
        },
        Lock::Ours(_file) => load_locked(paths, id),
        Lock::Missing => load_locked(paths, id),
    }
}

/// The record of a container that somebody looks after, where it cannot be
/// read: the supervisor knows what is true.
fn load_anew(paths: &Paths, id: &str, directory: &Path, failure: Failure) -> Result<Record> {
    if write_down(paths, id) { Record::load(directory) } else { Err(failure) }
}

/// Has the supervisor of a container write its record anew; false where there
/// is none, or it does not listen.
fn write_down(paths: &Paths, id: &str) -> bool {
    let asked = control::connect(paths, id).ok().flatten().filter(|channel| {
        channel.send_if_open(&ToSupervisor::WriteDown, &[]).is_ok() && channel.wait(ANSWER_PATIENCE).unwrap_or(false)
    });
    asked.is_some_and(|channel| matches!(control::answer(&channel), Ok(Some(FromSupervisor::Done))))
}

/// What is true of a container that was asked for by name: a record that says
/// that nobody looks after it is believed only where nobody does.
fn true_one(paths: &Paths, container: Container) -> Result<Container> {
    let is_true = !container.record.is_at_rest() || !is_alive(&container.directory);
    if is_true || !write_down(paths, &container.record.id) {
        return Ok(container);
    }
    Ok(load(paths, &container.record.id)?.unwrap_or(container))
}

enum Lock {
    Ours(File),
    Taken,
    Missing,
}

fn try_lock(directory: &Path) -> Result<Lock> {
    let file = match control::lock_file(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Missing),
        result => result.doing(|| "open its lock")?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Lock::Ours(file)),
        Err(TryLockError::WouldBlock) => Ok(Lock::Taken),
        Err(TryLockError::Error(error)) => Err(Failure::from(error).doing("try its lock")),
    }
}

/// A container whose record cannot be read, by its name or whole id, with a
/// record that says no more than these; `None` where there is none.
pub fn find_damaged(paths: &Paths, text: &str) -> Option<Container> {
    let link = (!text.contains('/')).then(|| fs::read_link(paths.names().join(text)).ok()).flatten();
    let id = match link.as_deref().and_then(Path::to_str) {
        Some(id) => id.to_owned(),
        None => only_id(paths, text)?,
    };
    let directory = paths.containers().join(&id);
    if !is_id(&id) || !directory.join("record.json").exists() {
        return None;
    }
    let name = name_of(paths, &id);
    Some(Container { directory, record: Record::new(id, name) })
}

/// The only id that starts with `text`.
fn only_id(paths: &Paths, text: &str) -> Option<String> {
    let entries = fs::read_dir(paths.containers()).ok()?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut matching = ids.filter(|id| !text.is_empty() && id.starts_with(text));
    matching.next().filter(|_| matching.next().is_none())
}

/// The name that leads to the container `id`; empty where there is none.
fn name_of(paths: &Paths, id: &str) -> String {
    let links = fs::read_dir(paths.names()).into_iter().flatten().flatten();
    let mut own = links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target.as_os_str() == id));
    own.next().and_then(|link| link.file_name().into_string().ok()).unwrap_or_default()
}

/// Throws away a container that was found so; false where somebody looks after
/// it.
pub fn remove_damaged(paths: &Paths, Container { directory, record }: &Container) -> Result<bool> {
    let (Lock::Ours(_) | Lock::Missing) = try_lock(directory)? else { return Ok(false) };
    remove_run_files(paths, &record.id);
    discard(paths, directory, &record.id, Some(&record.name).filter(|name| !name.is_empty()).map(String::as_str))?;
    Ok(true)
}

/// The same, of a container that no supervisor looks after.
fn load_locked(paths: &Paths, id: &str) -> Result<Option<Container>> {
    let directory = paths.containers().join(id);
    let mut record = match Record::load(&directory) {
        Err(failure) if failure.is_errno(libc::ENOENT) => {
            // Never finished being made, and its maker is dead.
            discard(paths, &directory, id, None)?;
            return Ok(None);
        }
        record => record?,
    };
    let ended = match &record.status {
        Status::Running { payload, started_ns, .. } => {
            // Its supervisor was killed. The kernel has killed the payload with
            // it, unless a change of credentials had cleared the death signal.
            if let Some(pidfd) = payload.open() {
                use std::os::fd::AsFd;
                // It may end at this very moment.
                process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            }
            Some((KILLED, *started_ns, now_ns()))
        }
        Status::Restarting { code, started_ns, finished_ns, .. } => Some((*code, *started_ns, *finished_ns)),
        Status::Created | Status::Exited { .. } => None,
    };
    let left = record.cgroup.take();
    if let Some(path) = &left {
        record.spent = ended.map(|_| Spent::of_cgroup(path)).or(record.spent.take());
        // What is left in it dies; an empty one goes with the cgroup around it.
        cgroup::remove(path, id).ok();
        failpoint::reach(paths, "repair: cgroup removed");
    }
    if let Some((code, started_ns, finished_ns)) = ended {
        record.status = Status::Exited { code, started_ns, finished_ns, error: None };
        // On a full disk the next reader does it: removing must stay possible.
        record.save(&directory).ok();
        failpoint::reach(paths, "repair: end written down");
        events::tell(paths, &record, Action::Die(code));
    } else if left.is_some() {
        record.save(&directory).ok();
    }
    if record.unfinished || record.auto_remove && !matches!(record.status, Status::Created) {
        uses::remove_own(paths, id, &record.anonymous_volumes)?;
        failpoint::reach(paths, "repair: volumes removed");
        remove_run_files(paths, id);
        discard(paths, &directory, id, Some(&record.name))?;
        events::tell(paths, &record, Action::Destroy);
        return Ok(None);
    }
    end_rename(paths, &directory, &record)?;
    Ok(Some(Container { directory, record }))
}

/// Sees records that were written lately to the disk, where a power cut leaves
/// them whole. Waits for the disk: for who has nothing else to do.
pub(super) fn settle(paths: &Paths) {
    /// The kernel has written what is older (`dirty_expire_centisecs` and
    /// `dirty_writeback_centisecs` of vm: 35 seconds).
    const LATELY: Duration = Duration::from_secs(60);
    for entry in fs::read_dir(paths.containers()).into_iter().flatten().flatten() {
        record::settle(&entry.path(), LATELY);
    }
}

/// Removes what belonged to containers that are gone: names, generated files,
/// anonymous volumes. Each is made after its container's directory, so what has
/// none is an orphan.
pub fn remove_orphans(paths: &Paths) -> Result<()> {
    remove_orphans_beside(paths, &[])
}

/// The same, where `containers` are known to be there.
pub fn remove_orphans_beside(paths: &Paths, containers: &[Container]) -> Result<()> {
    let ids: BTreeSet<&str> = containers.iter().map(|container| container.record.id.as_str()).collect();
    let names: BTreeSet<&str> = containers.iter().map(|container| container.record.name.as_str()).collect();
    let is_gone = |id: &str| !ids.contains(id) && !paths.containers().join(id).exists();
    for entry in fs::read_dir(paths.names()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
            continue;
        }
        if fs::read_link(entry.path()).is_ok_and(|id| id.to_str().is_some_and(is_gone)) {
            fs::remove_file(entry.path()).or_else(ignore_missing).doing(|| "remove a stale name")?;
        }
    }
    // Its directory is made before these files are, and all here are of this data directory.
    for entry in fs::read_dir(paths.containers_run()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_gone) {
            fs::remove_dir_all(entry.path()).or_else(ignore_missing).doing(|| "remove stale files")?;
        }
    }
    remove_earlier_orphans(paths, is_gone)?;
    for (name, owner) in volumes::owned(paths)?.into_iter().filter(|(_, owner)| is_gone(owner)) {
        uses::remove_own(paths, &owner, &[name.as_str().to_owned()])?;
    }
    Ok(())
}

/// The same of runtime files in the place that an earlier kelp had, where those
/// of all data directories were together.
fn remove_earlier_orphans(paths: &Paths, is_gone: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(paths.run.join("containers")).into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().into_string() else { continue };
        if !is_id(&id) || !is_gone(&id) {
            continue;
        }
        // Another data directory's container may live here, or be on its way.
        let is_stale = || entry.metadata().ok()?.modified().ok()?.elapsed().ok().map(|age| age > sweep::STALE);
        let lives = || control::connect_in(&entry.path()).map_or(true, |channel| channel.is_some());
        if is_stale() == Some(true) && !lives() {
            fs::remove_dir_all(entry.path()).or_else(ignore_missing).doing(|| "remove stale files")?;
        }
    }
    Ok(())
}

/// Whether `text` is a container's whole id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_being_made_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        let made = create(&paths, "web").unwrap();
        assert_eq!(fs::read_dir(paths.staging()).unwrap().count(), 0);
        assert!(list(&paths).unwrap().0.is_empty() && made.container.directory.exists());
        assert!(create(&paths, "web").is_err());
        // Its maker dies.
        drop(made.lock);
        assert!(list(&paths).unwrap().0.is_empty() && !made.container.directory.exists());
        remove_orphans(&paths).unwrap();
        assert!(!paths.names().join("web").is_symlink());
    }
}
