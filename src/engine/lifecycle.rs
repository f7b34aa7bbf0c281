//! What happens to a container after it was made: its end, its pauses, other
//! names, removal.
//!
//! A container that lives is asked through its supervisor; of one that does
//! not, the record is changed under its lock.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::start;
use crate::container::attach::Observer;
use crate::container::control::{self, FromSupervisor, Stop, ToSupervisor};
use crate::container::events::{self, Action};
use crate::container::processes;
use crate::container::record::{Record, Status};
use crate::container::store::{self, Container, Locked};
use crate::container::uses;
use crate::error::{Context, Failure, Kind, Result};
use crate::failpoint;
use crate::host;
use crate::image::registry::Progress;
use crate::kernel::process;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::channel::Channel;
use crate::process::launch;
use crate::process::stage::Stage;

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long a supervisor without a socket is waited for: it is starting or
/// ending, or somebody has emptied the runtime directory.
const REACH_PATIENCE: Duration = Duration::from_secs(2);

/// All containers, newest first. Those whose supervisor was killed are
/// repaired on the way, and what they left is deleted.
/// The failures are those of containers that could not be read.
pub fn list(paths: &Paths) -> Result<(Vec<Container>, Vec<Failure>)> {
    let found = store::list(paths)?;
    store::remove_orphans_beside(paths, &found.0)?;
    delete_removed(paths)?;
    Ok(found)
}

/// The container called `name`: by name, by id or by the unique start of an id.
pub fn find(paths: &Paths, name: &str) -> Result<Container> {
    store::find(paths, name)
}

/// What would end the container called `name`, or take it out of reach, though
/// it is to go on behind the command; `None` where nothing is known of it.
pub fn session_warning(paths: &Paths, name: &str) -> Option<String> {
    let Status::Running { supervisor, .. } = store::find(paths, name).ok()?.record.status else { return None };
    let cgroups = processes::read_text(supervisor.pid, "cgroup")?;
    host::session::warning(&paths.run, &cgroups)
}

pub(super) fn not_running(record: &Record) -> Failure {
    Failure::user("it is not running").hint(way_to_run(record))
}

/// What makes a container run that does not.
pub(super) fn way_to_run(record: &Record) -> String {
    match record.status {
        Status::Restarting { .. } => "it ended, and is started again in a moment".to_owned(),
        _ => format!("kelp start {} starts it", record.name),
    }
}

/// Asks a live container's supervisor; `None` where it does not live (any more).
fn ask(paths: &Paths, container: &Container, message: &ToSupervisor) -> Result<Option<FromSupervisor>> {
    match reach(paths, container, message)? {
        Some(channel) => control::answer(&channel),
        None => Ok(None),
    }
}

/// The same, without waiting for the answer: it comes over the channel.
fn reach(paths: &Paths, container: &Container, message: &ToSupervisor) -> Result<Option<Channel>> {
    // The lock is the truth: a record may be damaged, and says nothing of a start under way.
    if !container.record.status.is_live() && !store::is_alive(&container.directory) {
        return Ok(None);
    }
    let channel = control::connect(paths, &container.record.id)?;
    channel.iter().try_for_each(|channel| channel.send_if_open(message, &[]))?;
    Ok(channel)
}

/// A container that was asked to end. Several are asked before the first is
/// waited for: one that takes its time does not hold the others up.
pub struct Stopping {
    paths: Paths,
    message: ToSupervisor,
    container: Container,
    /// Where the answer comes from; `None` where it did not live.
    channel: Option<Channel>,
}

/// Asks the container called `name` to end. One that does not run is no failure.
pub fn ask_to_stop(paths: &Paths, name: &str, stop: Stop) -> Result<Stopping> {
    ask_for_end(paths, name, ToSupervisor::Stop(stop), stopping)
}

fn ask_for_end(paths: &Paths, name: &str, message: ToSupervisor, doing: fn(&str) -> String) -> Result<Stopping> {
    let container = store::find(paths, name)?;
    let channel = reach(paths, &container, &message).doing(|| doing(name))?;
    Ok(Stopping { paths: paths.clone(), message, container, channel })
}

impl Stopping {
    /// Waits until it has ended.
    pub fn wait(self) -> Result<()> {
        // Another may have started it since: that is not waited for.
        self.answer().map(drop).doing(|| stopping(&self.container.record.name))
    }

    /// `None` where it did not live.
    fn answer(&self) -> Result<Option<FromSupervisor>> {
        match self.channel.as_ref().map(control::answer).transpose()?.flatten() {
            Some(answer) => Ok(Some(answer)),
            // It was ending already, or is being started.
            None => ask_or_see_dead(&self.paths, self.container.clone(), &self.message),
        }
    }
}

fn stopping(name: &str) -> String {
    format!("stop container \"{name}\"")
}

/// The same as [`ask`], but `None` only where it is dead: one that is being
/// started is asked as soon as it runs.
fn ask_or_see_dead(paths: &Paths, mut container: Container, message: &ToSupervisor) -> Result<Option<FromSupervisor>> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask(paths, &container, message)? {
            return Ok(Some(answer));
        }
        if !store::is_alive(&container.directory) {
            return Ok(None);
        }
        if start.elapsed() > REACH_PATIENCE {
            return Err(Failure::host("it is alive, but its supervisor cannot be reached")
                .hint("kelp rm --force ends it whatever it does"));
        }
        std::thread::sleep(Duration::from_millis(2));
        container = match store::find(paths, &container.record.id) {
            Err(failure) if failure.kind == Kind::NotFound => container,
            result => result?,
        };
    }
}

/// A container that was asked to end and to be started again.
pub struct Restarting(Stopping);

/// Asks the container called `name` to end, if it runs, and to start again.
pub fn ask_to_restart(paths: &Paths, name: &str, stop: Stop) -> Result<Restarting> {
    ask_for_end(paths, name, ToSupervisor::Restart(stop), restarting).map(Restarting)
}

impl Restarting {
    /// Waits until it runs again; starts it where it did not run.
    pub fn wait(self, progress: &dyn Progress, observer: &mut dyn Observer) -> Result<()> {
        let Self(stopping) = self;
        let record = &stopping.container.record;
        if stopping.answer().doing(|| restarting(&record.name))?.is_none() {
            start::start(&stopping.paths, &record.name, None, progress, observer)?;
        }
        events::tell(&stopping.paths, record, Action::Restart);
        Ok(())
    }
}

fn restarting(name: &str) -> String {
    format!("restart container \"{name}\"")
}

/// Sends a signal to the program of the container called `name`.
pub fn kill(paths: &Paths, name: &str, signal: i32) -> Result<()> {
    let container = store::find(paths, name)?;
    request(paths, &container, &ToSupervisor::Signal(signal)).doing(|| format!("kill container \"{name}\""))
}

/// Stops all processes of the container called `name`, or lets them go on.
/// Returns what the user should know about that.
pub fn pause(paths: &Paths, name: &str, wanted: bool) -> Result<Option<&'static str>> {
    let container = store::find(paths, name)?;
    let (message, verb) = if wanted { (ToSupervisor::Pause, "pause") } else { (ToSupervisor::Unpause, "unpause") };
    request(paths, &container, &message).doing(|| format!("{verb} container \"{name}\""))?;
    let is_noticed = wanted && container.record.cgroup.is_none();
    Ok(is_noticed.then_some(
        "it is stopped by signals, which programs can notice: it has no cgroup of its own, since none is delegated to \
         you where it was started (a service of yours, or systemd-run --user --scope -p Delegate=yes, has one)",
    ))
}

/// Asks the container called `name` now whether it is well; returns the
/// probe's exit status, −1 where it gave none.
pub fn check_health(paths: &Paths, name: &str) -> Result<i32> {
    let container = store::find(paths, name)?;
    let doing = || format!("check the health of container \"{name}\"");
    match ask(paths, &container, &ToSupervisor::CheckHealth).doing(doing)? {
        Some(FromSupervisor::Exited(code)) => Ok(code),
        _ => Err(not_running(&container.record)).doing(doing),
    }
}

/// Asks for something that only a running container can do.
fn request(paths: &Paths, container: &Container, message: &ToSupervisor) -> Result<()> {
    ask(paths, container, message)?.map(drop).ok_or_else(|| not_running(&container.record))
}

/// What a `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// That it does not run; at once if it does not.
    NotRunning,
    /// Its next end.
    NextExit,
    /// That it is removed.
    Removed,
}

/// Waits for the container called `name`; returns its exit status.
pub fn wait(paths: &Paths, name: &str, condition: Condition) -> Result<i32> {
    let container = store::find(paths, name)?;
    let mut code = match container.record.status {
        Status::Exited { code, .. } => Some(code),
        Status::Created => Some(container.record.start_failure.as_ref().map_or(0, |failure| failure.code)),
        _ => None,
    };
    if condition == Condition::NextExit {
        wait_until(&container, |container| container.record.status.is_live(), paths)?;
        code = None;
    }
    if code.is_none() {
        let container = store::find(paths, name)?;
        code = match ask(paths, &container, &ToSupervisor::Wait).doing(|| format!("wait for \"{name}\""))? {
            Some(FromSupervisor::Exited(code)) => Some(code),
            _ => None,
        };
    }
    if condition == Condition::Removed {
        wait_until(&container, |_| false, paths)?;
    }
    match code {
        Some(code) => Ok(code),
        // Its supervisor was ending, or was killed: the record says how.
        None => match store::find(paths, &container.record.id)?.record.status {
            Status::Exited { code, .. } => Ok(code),
            _ => wait(paths, name, condition),
        },
    }
}

/// Looks until the container is as it should be, or removed. There is nobody
/// who could tell: it has no supervisor.
fn wait_until(container: &Container, is_so: impl Fn(&Container) -> bool, paths: &Paths) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match store::find(paths, &container.record.id) {
            Ok(container) if is_so(&container) => return Ok(()),
            Ok(_) => std::thread::sleep(PAUSE),
            Err(failure) if failure.kind == Kind::NotFound => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

/// Calls the container called `name` otherwise.
pub fn rename(paths: &Paths, name: &str, new: &str) -> Result<()> {
    let container = store::find(paths, name)?;
    let doing = || format!("rename container \"{name}\"");
    change(paths, &container, &ToSupervisor::Rename(new.to_owned()), |Container { directory, record }| {
        store::rename(paths, directory, record, new)
    })
    .doing(doing)?;
    let renamed = Record { name: new.to_owned(), ..container.record.clone() };
    events::tell(paths, &renamed, Action::Rename(&container.record.name));
    Ok(())
}

/// Asks the supervisor for a change, or makes it where there is none.
pub(super) fn change(
    paths: &Paths,
    container: &Container,
    message: &ToSupervisor,
    mut make: impl FnMut(&mut Container) -> Result<()>,
) -> Result<()> {
    for _ in 0..2 {
        if ask(paths, container, message)?.is_some() {
            return Ok(());
        }
        if let Some(mut locked) = store::lock(paths, container)? {
            return make(&mut locked.container);
        }
        // It was started between the two.
    }
    Err(Failure::user("it is being started and stopped by somebody else"))
}

/// Removes the container called `name`; one that runs only with `force`. The
/// volumes that nobody named go with it if `volumes` says so, as with docker.
pub fn remove(paths: &Paths, name: &str, force: bool, volumes: bool) -> Result<()> {
    let doing = || format!("remove container \"{name}\"");
    let container = match store::find(paths, name) {
        Err(failure) if force => {
            let Some(damaged) = store::find_damaged(paths, name) else { return Err(failure) };
            kill_for_good(paths, &damaged).doing(doing)?;
            return store::remove_damaged(paths, &damaged).doing(doing)?.then_some(()).ok_or(failure);
        }
        result => result?,
    };
    if force {
        kill_for_good(paths, &container).doing(doing)?;
    }
    match store::lock(paths, &container) {
        Ok(Some(locked)) => remove_locked(paths, &locked, volumes).doing(doing),
        Ok(None) => {
            let word = store::find(paths, name).map_or("running", |container| container.record.status.word());
            Err(Failure::user(format!("container \"{name}\" is {word}")).hint("rm --force kills it first"))
        }
        // Its own supervisor has removed it.
        Err(failure) if failure.kind == Kind::NotFound && (container.record.auto_remove || force) => Ok(()),
        Err(failure) => Err(failure).doing(doing),
    }
}

/// Removes a container that does not run, and leaves its volumes; false where
/// it does by now, or is gone.
pub(super) fn remove_idle(paths: &Paths, container: &Container) -> Result<bool> {
    let doing = || format!("remove container \"{}\"", container.record.name);
    match store::lock(paths, container) {
        Ok(Some(locked)) => remove_locked(paths, &locked, false).map(|()| true).doing(doing),
        Ok(None) => Ok(false),
        Err(failure) if failure.kind == Kind::NotFound => Ok(false),
        Err(failure) => Err(failure).doing(doing),
    }
}

fn remove_locked(paths: &Paths, Locked { container, .. }: &Locked, volumes: bool) -> Result<()> {
    let record = &container.record;
    if !volumes {
        uses::keep_own(paths, &record.anonymous_volumes)?;
        failpoint::reach(paths, "remove: volumes kept");
        return store::remove(paths, container);
    }
    store::remove(paths, container)?;
    uses::remove_own(paths, &record.id, &record.anonymous_volumes)
}

/// Ends a container whatever it does, so that nothing starts it again.
fn kill_for_good(paths: &Paths, container: &Container) -> Result<()> {
    let stop = Stop { signal: Some(libc::SIGKILL), timeout_s: Some(0) };
    // Whatever the record says: who listens is its supervisor.
    let channel = control::connect(paths, &container.record.id)?;
    let supervisor = channel.as_ref().and_then(control::supervisor).or(match &container.record.status {
        Status::Running { supervisor, .. } | Status::Restarting { supervisor, .. } => Some(*supervisor),
        Status::Created | Status::Exited { .. } => None,
    });
    let patience = match channel {
        // Nobody is to wait for what hears nothing.
        _ if supervisor.is_some_and(|supervisor| supervisor.is_stopped()) => Duration::ZERO,
        Some(channel) => {
            channel.send_if_open(&ToSupervisor::Stop(stop), &[])?;
            // Its answer comes when it has let go of the lock.
            channel.wait(KILL_PATIENCE)?;
            KILL_PATIENCE
        }
        None if supervisor.is_none() => KILL_PATIENCE,
        None => REACH_PATIENCE,
    };
    if wait_until_dead(container, Some(patience)).is_ok() {
        return Ok(());
    }
    // It does not listen: without it, the kernel ends the rest.
    if let Some(pidfd) = supervisor.and_then(|supervisor| supervisor.open()) {
        process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
    }
    wait_until_dead(container, Some(KILL_PATIENCE))
}

/// The supervisor lets go of the lock when it has written the end down.
fn wait_until_dead(container: &Container, patience: Option<Duration>) -> Result<()> {
    let start = Instant::now();
    while store::is_alive(&container.directory) {
        if patience.is_some_and(|patience| start.elapsed() > patience) {
            return Err(Failure::host("it was killed but does not end"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Deletes what was removed, in a stage that maps all of its owners. The
/// stage goes on by itself: nobody has to wait for it.
pub fn delete_removed(paths: &Paths) -> Result<()> {
    let has_some = |path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if !has_some(paths.trash()) && !has_some(paths.staging()) {
        return Ok(());
    }
    let mut base = Base::find(paths)?;
    let launched = launch::launch(Stage::Sweep, &mut base, "", &[])?;
    launched.channel.send(paths, &[])
}
