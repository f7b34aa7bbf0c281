//! What is said between a container's supervisor and commands.
//!
//! ```text
//!      command                          supervisor
//!      (the command has the supervisor put into a scope, if the plan says so)
//!  1   Start(request, lock)      ->     (over the channel it was launched with)
//!  2                             <-     Notice, Steps
//!  3                             <-     Streams(fds), if the command wants them
//!  4                             <-     Started        | Failed(Failure)
//!  5   Signal, Hangup, Detach    ->     (at any time from here)
//!  6                             <-     Exited(code)
//!
//!      command                          supervisor
//!  1   connect                   ->     containers/KEY/ID/control in the runtime directory
//!  2   Attach                    ->
//!                                <-     Streams(fds), later Exited(code)
//!      Stop, Wait, CheckHealth   ->
//!                                <-     Exited(code)
//!      Restart                   ->
//!                                <-     Started
//!      Signal, Rename, WriteDown, ... ->
//!                                <-     Done           | Failed(Failure)
//!      Exec(streams)             ->     (Signal, Hangup and Detach then mean its program)
//!                                <-     Streams(fds), with a terminal
//!                                <-     Started, with -d | Failed(Failure)
//!                                <-     Exited(code)
//! ```
//!
//! A command never holds the supervisor up: it is read and answered without
//! waiting, and cut off where it does not listen.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::exec::Exec;
use super::record::Record;
use super::restart::RestartPolicy;
use crate::error::{Context, Failure, Result};
use crate::kernel::socket;
use crate::kernel::terminal::Size;
use crate::network::lease::Wish;
use crate::network::terms::Terms;
use crate::paths::Paths;
use crate::process::channel::Channel;
use crate::process::identity::Identity;
use crate::process::meeting;
use crate::process::steps;
use crate::sandbox::cgroup::{Limits, Scoped};
use crate::sandbox::enforcement::{Enforced, Substitutes};
use crate::sandbox::spec::SandboxSpec;

/// What a container is started from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sandbox.
    pub spec: SandboxSpec,
    /// The record, in state Created or Exited.
    pub record: Record,
    /// `containers/ID`.
    pub directory: PathBuf,
    /// The user's directories.
    pub paths: Paths,
    /// Tell how long each step took.
    pub debug: bool,
    /// What becomes of the program's standard streams.
    pub streams: StreamsWanted,
    /// What became of the scope that the plan asks for.
    #[serde(default)]
    pub scoped: Scoped,
    /// The container ends with the command that starts it.
    pub foreground: bool,
    /// Throw it away if it cannot be started: it was made for this start.
    pub is_new: bool,
    /// Size of the command's terminal, if it has one.
    pub size: Option<Size>,
    /// What it is to have of the network, if it has a way out of its own.
    #[serde(default)]
    pub network: Option<Join>,
}

/// The network that a container is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its name.
    pub network: String,
    /// Addresses it is to have.
    pub wish: Wish,
    /// What it may do.
    pub terms: Terms,
}

/// What becomes of the program's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamsWanted {
    /// They are the command's own, with standard input only if the record says
    /// so; nobody else sees them.
    Passed,
    /// The supervisor has them; the command wants a copy.
    Attached {
        /// The command's standard input goes to the program.
        stdin: bool,
    },
    /// The supervisor has them.
    Kept,
}

/// How a container is asked to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal to begin with; `None` is the container's own.
    pub signal: Option<i32>,
    /// Seconds until SIGKILL; negative for ever, `None` is the container's own.
    pub timeout_s: Option<i64>,
}

/// What a command says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSupervisor {
    /// Start this; the container's lock comes along.
    Start(Box<Request>),
    /// Give me the program's streams as well.
    Attach {
        /// Its standard input too.
        stdin: bool,
    },
    /// Go on without me, who started it.
    Detach,
    /// Pass on a signal.
    Signal(i32),
    /// Nobody reads what the program writes: let it know.
    Hangup,
    /// End it.
    Stop(Stop),
    /// End it and start it again.
    Restart(Stop),
    /// Tell me when it has ended, once.
    Wait,
    /// Stop all its processes.
    Pause,
    /// Let them go on.
    Unpause,
    /// Call it so.
    Rename(String),
    /// Change what may change.
    Update(Box<Update>),
    /// Run one program more; without a terminal its standard streams come along.
    Exec(Box<Exec>),
    /// Ask the program now whether it is well.
    CheckHealth,
    /// Write the record anew: what is on disk is not true.
    WriteDown,
}

/// What may change while a container lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The restart policy.
    pub restart: Option<RestartPolicy>,
    /// What it may use.
    pub limits: Option<Box<LimitsChange>>,
}

/// Other limits than those it was started with, as a command has decided them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsChange {
    /// request.json as the command has read it; another one means that somebody
    /// else was faster.
    pub before: String,
    /// request.json as it is to be.
    pub after: String,
    /// What is written into the container's cgroup.
    pub written: Limits,
    /// What is done for limits that the cgroup cannot hold.
    pub substitutes: Substitutes,
    /// Each limit, and who holds it.
    pub enforced: Vec<Enforced>,
}

impl Update {
    /// Puts the changes into a record.
    pub fn apply(&self, record: &mut Record) {
        if let Some(restart) = self.restart {
            record.restart = restart;
        }
        if let Some(limits) = &self.limits {
            record.enforced.clone_from(&limits.enforced);
        }
    }
}

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSupervisor {
    /// One line for the user.
    Notice(String),
    /// What was done and how long it took.
    Steps(Vec<steps::Step>),
    /// Pipes come along: the program's output and error, then a way to its
    /// standard input if that was asked for. With a terminal: its output, then
    /// the terminal's master.
    Streams {
        /// It has a terminal.
        terminal: bool,
    },
    /// The image's program runs.
    Started,
    /// It ended, and all that had to be cleaned before the user looks again is.
    Exited(i32),
    /// It could not be done.
    Failed(Failure),
    /// It was done.
    Done,
}

/// The name of the socket in a container's runtime directory.
const SOCKET: &str = "control";

/// Opens the socket that commands connect to. The caller holds the container's
/// lock, so one that is there was left by a supervisor that was killed.
pub(super) fn listen(paths: &Paths, id: &str) -> Result<OwnedFd> {
    meeting::listen(&paths.container_run(id), SOCKET).doing(|| "open the control socket")
}

/// Removes it: nobody listens any more.
pub(super) fn close(paths: &Paths, id: &str) {
    std::fs::remove_file(paths.container_run(id).join(SOCKET)).ok();
}

/// A channel to the supervisor of the container `id`; `None` where there is
/// none (any more).
pub fn connect(paths: &Paths, id: &str) -> Result<Option<Channel>> {
    connect_in(&paths.found_container_run(id))
}

/// The same, where the supervisor's socket is in `directory`.
pub(super) fn connect_in(directory: &Path) -> Result<Option<Channel>> {
    meeting::connect(directory, SOCKET).doing(|| "reach the container's supervisor")
}

/// Sends a message and waits for the answer, as [`answer`] does.
pub fn ask(channel: &Channel, message: &ToSupervisor) -> Result<Option<FromSupervisor>> {
    channel.send_if_open(message, &[])?;
    answer(channel)
}

/// Waits for the answer to what was sent, which is returned where it is no
/// failure; `None` where the supervisor is gone.
pub fn answer(channel: &Channel) -> Result<Option<FromSupervisor>> {
    loop {
        match channel.receive::<FromSupervisor>()?.map(|received| received.message) {
            Some(FromSupervisor::Failed(failure)) => return Err(failure),
            Some(FromSupervisor::Notice(_) | FromSupervisor::Steps(_)) => {}
            answer => return Ok(answer),
        }
    }
}

/// The supervisor at the other end of a channel that was connected: who
/// listens, whether it reads or not.
pub fn supervisor(channel: &Channel) -> Option<Identity> {
    Identity::of(socket::peer_pid(channel.as_fd()).ok()?).ok()
}

/// The container's lock, as it came with a start.
pub(super) type Lock = Vec<OwnedFd>;

/// Opens the lock file of the container at `directory`.
pub(super) fn lock_file(directory: &Path) -> std::io::Result<File> {
    // Read-write, since NFS maps flock(2) to a lock that needs it.
    File::options().read(true).write(true).open(directory.join("lock"))
}
