//! `start` and `attach`: a container that was made before.

use std::os::fd::AsFd;

use super::make::{self, Planned};
use super::request::Stored;
use super::run::hand_over;
use crate::container::attach::{self, Attachment, End, Observer};
use crate::container::control::{self, Request, StreamsWanted, ToSupervisor};
use crate::container::record::{Record, Status};
use crate::container::store::{self, Container, Locked};
use crate::error::{Context, Failure, Kind, Result};
use crate::failpoint;
use crate::image::registry::Progress;
use crate::kernel::terminal;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::launch;
use crate::process::stage::Stage;
use crate::sandbox::cgroup::scope;

/// Starts the container called `name`; with `attachment`, stays with it. One
/// that runs already is no failure.
pub fn start(
    paths: &Paths,
    name: &str,
    attachment: Option<&Attachment>,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<End> {
    let container = store::find(paths, name)?;
    let doing = || format!("start container \"{name}\"");
    let Some(locked) = store::lock(paths, &container).doing(doing)? else {
        return match (attachment, container.record.status) {
            (_, Status::Running { paused: true, .. }) => {
                Err(Failure::user("it is paused").hint(format!("kelp unpause {name} lets it go on"))).doing(doing)
            }
            (Some(attachment), _) => attach(paths, name, attachment, observer),
            (None, _) => Ok(End::Detached),
        };
    };
    start_locked(paths, locked, attachment, progress, observer).map_err(|failure| match failure.kind {
        // The program's own failure says it all.
        Kind::NoSuchProgram | Kind::NotExecutable => failure,
        _ => failure.doing(doing()),
    })
}

fn start_locked(
    paths: &Paths,
    Locked { container, lock }: Locked,
    attachment: Option<&Attachment>,
    progress: &dyn Progress,
    observer: &mut dyn Observer,
) -> Result<End> {
    if attachment.is_some_and(|attachment| attachment.stdin) {
        check_input(&container.record)?;
    }
    let stored = stored(&container)?;
    let mut base = Base::find(paths)?;
    let launched = launch::launch(Stage::Supervisor, &mut base, &container.record.name, &[])?;
    if let Some(notice) = &base.notice {
        observer.notice(notice);
    }
    let Planned { spec, record, network } =
        make::prepare(paths, &stored, &mut base, &container, true, progress, observer)?;
    let scoped = scope::make(&spec.placement, &spec.limits, &record.id, &record.name, launched.pid);
    failpoint::reach(paths, "start: scope made");
    let streams = match attachment {
        Some(Attachment { stdin, .. }) => StreamsWanted::Attached { stdin: *stdin && record.interactive },
        None => StreamsWanted::Kept,
    };
    let request = Request {
        spec,
        record,
        directory: container.directory,
        paths: paths.clone(),
        streams,
        scoped,
        foreground: false,
        is_new: false,
        size: terminal::size(std::io::stdin().as_fd()).ok(),
        debug: observer.wants_steps(),
        network,
    };
    hand_over(&launched, request, lock)?;
    failpoint::reach(paths, "start: handed over");
    match attachment {
        None => attach::follow_start(&launched.channel, observer).map(|()| End::Detached),
        Some(attachment) => attach::attach(&launched.channel, attachment, observer),
    }
}

pub(super) fn stored(container: &Container) -> Result<Stored> {
    Stored::load(&container.directory).map_err(older)
}

/// Explains why a request cannot be read.
pub(super) fn older(failure: Failure) -> Failure {
    match failure.is_errno(libc::ENOENT) {
        true => Failure::user("it was made by an older kelp, which did not write down what was asked for")
            .hint("run its image anew"),
        false => failure,
    }
}

/// As Docker: the end of an input that is no terminal would be typed into the
/// program's terminal, and end it.
fn check_input(record: &Record) -> Result<()> {
    match record.terminal && record.interactive && !terminal::is_terminal(std::io::stdin().as_fd()) {
        true => Err(Failure::user("the input is not a terminal")
            .hint("--no-stdin of attach, or start -a without -i, leave the input out")),
        false => Ok(()),
    }
}

/// Stays with the running container called `name`.
pub fn attach(paths: &Paths, name: &str, attachment: &Attachment, observer: &mut dyn Observer) -> Result<End> {
    let container = store::find(paths, name)?;
    let doing = || format!("attach to container \"{name}\"");
    let record = &container.record;
    match &record.status {
        Status::Running { paused: true, .. } => {
            let failure = Failure::user("it is paused").hint(format!("kelp unpause {name} lets it go on"));
            return Err(failure).doing(doing);
        }
        status if !status.is_live() => return Err(super::lifecycle::not_running(record)).doing(doing),
        _ => {}
    }
    if attachment.stdin {
        check_input(record).doing(doing)?;
    }
    let Some(channel) = control::connect(paths, &record.id)? else {
        return Err(super::lifecycle::not_running(record)).doing(doing);
    };
    let stdin = attachment.stdin && record.interactive;
    channel.send_if_open(&ToSupervisor::Attach { stdin }, &[])?;
    let forwards_signals = attachment.forwards_signals && !record.terminal;
    let attachment = Attachment { stdin, forwards_signals, ..attachment.clone() };
    attach::attach(&channel, &attachment, observer).doing(doing)
}
