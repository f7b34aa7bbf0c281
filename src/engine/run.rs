//! `run` and `create`: a container from a request.
//!
//! For `run` the supervisor is started first and comes into the base namespace
//! while the image is looked up and the sandbox planned: the two together are
//! half of a start's time.

use std::fs;
use std::os::fd::AsFd;

use super::make::{self, Planned};
use super::options::name;
use super::request::{RunRequest, Stored};
use crate::container::attach::{self, Attachment, DetachKeys, End, Observer};
use crate::container::control::{Request, StreamsWanted, ToSupervisor};
use crate::container::events::{self, Action};
use crate::container::log::Driver;
use crate::container::store::{self, Made};
use crate::error::{Context, Failure, Result};
use crate::failpoint;
use crate::image::registry::Progress;
use crate::kernel::{file, process, terminal};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::launch::{self, Launched};
use crate::process::stage::Stage;
use crate::process::steps::Steps;
use crate::sandbox::cgroup::scope::{self, Scoped};
use crate::sandbox::spec::SandboxSpec;

/// How a container is run.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Before the user's eyes; it ends with the command.
    Foreground {
        /// What takes the user away from its terminal.
        detach_keys: DetachKeys,
        /// Signals that the command gets are passed on.
        forwards_signals: bool,
    },
    /// By itself (`-d`).
    Detached,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It ended with this exit status.
    Exited(i32),
    /// It runs; this is its id.
    Detached(String),
}

/// Runs a new container.
pub fn run(
    paths: &Paths,
    request: &RunRequest,
    mode: &Mode,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<Ran> {
    let mut steps = Steps::new("command");
    let is_kept = matches!(mode, Mode::Detached);
    check_streams()?;
    let stored = make::stored(request)?;
    let mut base = Base::find(paths)?;
    steps.mark("find the base namespace");
    let name = request.name.clone().map_or_else(|| free_name(paths), Ok)?;
    let launched = launch::launch(Stage::Supervisor, &mut base, &name, &[])?;
    // Told now: the launch itself may have had to take a lower rung.
    if let Some(notice) = &base.notice {
        observer.notice(notice);
    }
    steps.mark("launch the supervisor");
    failpoint::reach(paths, "run: supervisor launched");
    let made = make(paths, request, name)?;
    let id = made.container.record.id.clone();
    steps.mark("make the container");
    let prepared = write_down(paths, &stored, &made)
        .and_then(|()| make::prepare(paths, &stored, &mut base, &made.container, is_kept, progress, observer));
    steps.mark("plan");
    failpoint::reach(paths, "run: planned");
    let result = match prepared {
        Ok(planned) => {
            let scoped =
                scope::make(&planned.spec.placement, &planned.spec.limits, &id, &planned.record.name, launched.pid);
            if scoped != Scoped::Unasked {
                steps.mark("have a scope made");
            }
            failpoint::reach(paths, "start: scope made");
            start(paths, mode, &launched, made, (planned, scoped), request.log.is_some(), observer)
        }
        Err(failure) => abandon(paths, &made).and(Err(failure)),
    };
    steps.mark("attach until the end");
    observer.steps(&steps.done);
    if let (Err(_), Some(path)) = (&result, &request.id_file)
        && !paths.containers().join(&id).exists()
    {
        // There is no container of that id.
        fs::remove_file(path).ok();
    }
    Ok(match result? {
        End::Exited(code) => Ran::Exited(code),
        End::Detached => Ran::Detached(id),
    })
}

/// Makes a new container and starts nothing; returns its id.
pub fn create(
    paths: &Paths,
    request: &RunRequest,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<String> {
    let stored = make::stored(request)?;
    let mut base = Base::find(paths)?;
    let name = request.name.clone().map_or_else(|| free_name(paths), Ok)?;
    let made = make(paths, request, name)?;
    let directory = &made.container.directory;
    let done = write_down(paths, &stored, &made)
        .and_then(|()| make::prepare(paths, &stored, &mut base, &made.container, true, progress, observer))
        .and_then(|Planned { record, .. }| {
            record.save(directory).map(|()| events::tell(paths, &record, Action::Create))
        });
    match done {
        Ok(()) => Ok(made.container.record.id),
        Err(failure) => {
            abandon(paths, &made)?;
            if let Some(path) = &request.id_file {
                fs::remove_file(path).ok();
            }
            Err(failure)
        }
    }
}

/// The plan of a container, without making or starting anything.
/// With `is_kept` it would go on without the command.
pub fn dry_run(paths: &Paths, request: &RunRequest, is_kept: bool, progress: &dyn Progress) -> Result<SandboxSpec> {
    make::dry_run(paths, request, is_kept, progress)
}

/// A directory as a standard stream would be a way out of the container
/// (CVE-2024-21626: /proc/self/fd/0/../..).
pub(super) fn check_streams() -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (stream, name) in [(stdin.as_fd(), "input"), (stdout.as_fd(), "output"), (stderr.as_fd(), "error")] {
        // A closed stream is none.
        let Ok(status) = file::status(stream) else { continue };
        if status.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(Failure::user(format!("standard {name} is a directory")));
        }
    }
    Ok(())
}

/// Makes the container; a random name that another start has just taken is
/// exchanged for the next.
fn make(paths: &Paths, request: &RunRequest, name: String) -> Result<Made> {
    const TRIES: usize = 100;
    let mut made = store::create(paths, &name);
    for _ in 0..TRIES {
        match &made {
            Err(failure) if request.name.is_none() && failure.is_errno(libc::EEXIST) => {
                made = store::create(paths, &free_name(paths)?);
            }
            _ => break,
        }
    }
    made
}

/// A random name that nobody has; with a number once the pairs of words run
/// out (a hundred containers share their 3,600 often enough).
fn free_name(paths: &Paths) -> Result<String> {
    for tries in 0_u64.. {
        let random = u64::from_ne_bytes(process::random()?);
        let words = name::random(random);
        let name = if tries < 3 { words } else { format!("{words}_{}", random % 10_000) };
        if !store::is_name_taken(paths, &name) {
            return Ok(name);
        }
    }
    Err(Failure::bug("no name is free"))
}

/// What is there before the container is.
fn write_down(paths: &Paths, stored: &Stored, made: &Made) -> Result<()> {
    let id = &made.container.record.id;
    if let Some(path) = &stored.request.id_file
        && let Err(failure) = write_id_file(path, id)
    {
        abandon(paths, made)?;
        return Err(failure);
    }
    stored.save(&made.container.directory)
}

fn start(
    paths: &Paths,
    mode: &Mode,
    launched: &Launched,
    made: Made,
    (Planned { spec, mut record, network }, scoped): (Planned, Scoped),
    is_logged: bool,
    observer: &mut dyn Observer,
) -> Result<End> {
    let stdin = record.interactive;
    let streams = match mode {
        Mode::Foreground { .. } if record.auto_remove && !record.terminal && !is_logged => {
            record.log.driver = Driver::Passthrough;
            StreamsWanted::Passed
        }
        Mode::Foreground { .. } => StreamsWanted::Attached { stdin },
        Mode::Detached => StreamsWanted::Kept,
    };
    let request = Request {
        spec,
        record,
        directory: made.container.directory,
        paths: paths.clone(),
        streams,
        scoped,
        foreground: matches!(mode, Mode::Foreground { .. }),
        is_new: true,
        size: terminal::size(std::io::stdin().as_fd()).ok(),
        debug: observer.wants_steps(),
        network,
    };
    let attachment = match mode {
        Mode::Detached => None,
        Mode::Foreground { detach_keys, forwards_signals } => {
            let detach_keys = detach_keys.clone();
            Some(Attachment { stdin, forwards_signals: *forwards_signals, is_owner: true, detach_keys })
        }
    };
    attachment.iter().try_for_each(attach::hold_signals)?;
    hand_over(launched, request, made.lock)?;
    failpoint::reach(paths, "start: handed over");
    match attachment {
        None => attach::follow_start(&launched.channel, observer).map(|()| End::Detached),
        Some(attachment) => attach::attach(&launched.channel, &attachment, observer),
    }
}

/// Tells the supervisor what to start. From here on it alone holds the
/// container's lock.
pub(super) fn hand_over(launched: &Launched, request: Request, lock: fs::File) -> Result<()> {
    match launched.channel.send(&ToSupervisor::Start(Box::new(request)), &[lock.as_fd()]) {
        // It is gone already; why is what it said last.
        Err(failure) if failure.is_errno(libc::EPIPE) => Ok(()),
        result => result,
    }
}

fn abandon(paths: &Paths, made: &Made) -> Result<()> {
    let record = &made.container.record;
    store::discard(paths, &made.container.directory, &record.id, Some(&record.name))?;
    store::remove_orphans(paths)
}

fn write_id_file(path: &std::path::Path, id: &str) -> Result<()> {
    use std::io::Write;
    fs::File::create_new(path)
        .and_then(|mut file| file.write_all(id.as_bytes()))
        .doing(|| format!("write container id to \"{}\"", path.display()))
}
