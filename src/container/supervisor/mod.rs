//! The supervisor: one small single-threaded process for each container.
//!
//! It is born in the base user namespace, starts the sandbox, tells the
//! command what becomes of it, writes the record and cleans up. It holds the
//! container's lock: while it lives, so does the container. For a container in
//! the foreground the reverse holds too: when the command is gone, so is its
//! container.
//!
//! ```text
//!      command                          supervisor
//!  1   Start(request, lock)      ->
//!  2   Signal, Resize            ->     (at any time from here)
//!  3                             <-     Notice, Console(fd), Steps
//!  4                             <-     Started        | Failed(Failure)
//!  5                             <-     Exited(code)
//! ```

mod files;
mod linger;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize};

use self::files::Files;
use super::record::{Record, Status, now_s};
use super::{store, uses};
use crate::error::{Context, Failure, Result};
use crate::kernel::terminal::{self, Size};
use crate::kernel::{self, process, signal};
use crate::paths::Paths;
use crate::process::base;
use crate::process::channel::Channel;
use crate::process::identity::Identity;
use crate::process::stage;
use crate::process::steps::{self, Steps};
use crate::sandbox::spec::{HostPath, Namespace, SandboxSpec};
use crate::sandbox::stage::init::{FromInit, Streams};
use crate::sandbox::start::{self, Started};
use crate::storage::overlay;

/// What a container is started from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sandbox.
    pub spec: SandboxSpec,
    /// The record, in state Created.
    pub record: Record,
    /// `containers/ID`.
    pub directory: PathBuf,
    /// The user's directories.
    pub paths: Paths,
    /// Tell how long each step took.
    pub debug: bool,
    /// Standard input is the command's own (`-i`); else it is /dev/null.
    pub stdin: bool,
    /// Size of the command's terminal, if it has one.
    pub size: Option<Size>,
}

/// What the command says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSupervisor {
    /// Start this; the container's lock comes along.
    Start(Box<Request>),
    /// Pass on a signal.
    Signal(i32),
    /// Nobody looks at the terminal any more: hang it up.
    Hangup,
    /// The terminal has a new size.
    Resize(Size),
}

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSupervisor {
    /// One line for the user.
    Notice(String),
    /// The terminal's master comes along.
    Console,
    /// What was done and how long it took.
    Steps(Vec<steps::Step>),
    /// The image's program runs.
    Started,
    /// It ended, and all that had to be cleaned before the user looks again is.
    Exited(i32),
    /// It could not be started; nothing is left of it.
    Failed(Failure),
}

/// The stage's whole life.
pub fn main() -> Result<()> {
    let mut steps = Steps::new("supervisor");
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-supervisor")?;
    process::new_session()?;
    signal::ignore_broken_pipe()?;
    let Some(first) = channel.receive::<ToSupervisor>()? else { return Ok(()) };
    let ToSupervisor::Start(request) = first.message else {
        return Err(Failure::bug("a supervisor was not told what to start"));
    };
    let paths = request.paths.clone();
    let lock = first.descriptors;
    steps.mark("receive the plan");
    let mut supervisor = Supervisor {
        channel,
        request: *request,
        paths: paths.clone(),
        lock,
        steps,
        files: Files::default(),
        terminal: None,
        mounts: None,
    };
    let result = supervisor.live();
    // Only now the mounts go: taking them down may sync the container's changes.
    drop(supervisor);
    linger::linger(&paths);
    base::unregister(&paths);
    result
}

struct Supervisor {
    channel: Channel,
    request: Request,
    paths: Paths,
    /// The container's lock, held while it lives.
    lock: Vec<OwnedFd>,
    steps: Steps,
    /// Standard streams that are files, to which the program has only pipes.
    files: Files,
    /// A copy of the terminal's master, to resize it.
    terminal: Option<OwnedFd>,
    /// The container's mount namespace, held so that taking it down (a
    /// millisecond of the kernel's time) does not delay the user.
    mounts: Option<File>,
}

/// Why waiting ended.
enum Woken {
    Payload,
    Command,
    Files,
}

impl Supervisor {
    fn live(&mut self) -> Result<()> {
        let started = match self.start() {
            Ok(started) => started,
            Err(failure) => {
                let failure = self.explain(failure);
                self.discard()?;
                self.lock.clear();
                return self.channel.send(&FromSupervisor::Failed(failure), &[]);
            }
        };
        let code = self.stay(&started)?;
        self.steps.mark("wait for the end");
        self.finish(code)?;
        self.steps.mark("write the end down");
        if self.request.debug {
            self.channel.send(&FromSupervisor::Steps(std::mem::take(&mut self.steps.done)), &[]).ok();
        }
        // First the lock: what the user does next must find the container ended.
        self.lock.clear();
        // A command that is gone needs no answer.
        self.channel.send(&FromSupervisor::Exited(code), &[]).ok();
        Ok(())
    }

    /// Starts the sandbox and waits until the image's program runs.
    fn start(&mut self) -> Result<Started> {
        let spec = &self.request.spec;
        if spec.namespaces.pid != Namespace::Private {
            // No pid namespace ends with the program: its orphans come to us.
            process::become_subreaper()?;
        }
        let null = File::options().read(true).write(true).open("/dev/null").doing(|| "open /dev/null")?;
        // With a terminal, all three are that terminal.
        let (files, ends) = match spec.process.terminal {
            true => Default::default(),
            false => Files::take(self.request.stdin)?,
        };
        let nothing = (!self.request.stdin).then(|| null.as_fd());
        // Not the container's own directory: what is in it is still needed.
        let mount_point = HostPath(self.paths.container_run(&spec.id));
        if let Some(top) = spec.root.lowers.first() {
            overlay::take_mode(spec.root.upper.as_path(), top.as_path())?;
        }
        let streams = Streams {
            stdin: ends.stdin.as_ref().map(AsFd::as_fd).or(nothing),
            stdout: ends.stdout.as_ref().map(AsFd::as_fd),
            stderr: ends.stderr.as_ref().map(AsFd::as_fd),
            size: self.request.size,
        };
        let mut started = start::start(spec, &mount_point, streams, self.request.debug)?;
        self.steps.mark("clone and map ids");
        self.mounts = started.mounts.take();
        self.files = files;
        drop(ends);
        if let Err(failure) = self.watch_the_start(&started) {
            // Nothing may go on that nobody looks after. It may have ended by itself.
            process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGKILL).ok();
            process::wait_pidfd(started.pidfd.as_fd())?;
            return Err(failure);
        }
        self.channel.send(&FromSupervisor::Started, &[]).ok();
        Ok(started)
    }

    fn watch_the_start(&mut self, started: &Started) -> Result<()> {
        // Not before: the payload would inherit it, and sudo in an image must work.
        process::set_no_new_privileges()?;
        // The command's streams and directory are the program's now; holding
        // them would keep pipes open and file systems busy.
        process::silence_standard_streams()?;
        std::env::set_current_dir("/").doing(|| "enter /")?;
        self.follow_init(started)?;
        self.request.record.status = Status::Running {
            supervisor: Identity::of(nix::unistd::getpid().as_raw())?,
            payload: Identity::of(started.pid)?,
            started_s: now_s(),
        };
        self.steps.mark("follow init until it executes");
        self.request.record.save(&self.request.directory)?;
        self.steps.mark("write the record");
        Ok(())
    }

    /// Passes on what init says until it has become the image's program.
    fn follow_init(&mut self, started: &Started) -> Result<()> {
        while let Some(received) = started.channel.receive::<FromInit>()? {
            match received.message {
                FromInit::Notice(notice) => self.channel.send(&FromSupervisor::Notice(notice), &[])?,
                FromInit::Console => {
                    let master = received.descriptors.into_iter().next();
                    let master = master.ok_or_else(|| Failure::bug("a terminal without a descriptor"))?;
                    self.channel.send(&FromSupervisor::Console, &[master.as_fd()])?;
                    self.terminal = Some(master);
                }
                FromInit::Steps(steps) => self.steps.done.extend(steps),
                FromInit::Failed(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Waits for the program to end; returns its exit status.
    fn stay(&mut self, started: &Started) -> Result<i32> {
        loop {
            match self.wait(started)? {
                Woken::Payload => break,
                Woken::Files => {
                    self.files.turn();
                    continue;
                }
                Woken::Command => {}
            }
            match self.channel.receive::<ToSupervisor>()?.map(|received| received.message) {
                Some(ToSupervisor::Signal(number)) => {
                    // It may end at this very moment.
                    process::pidfd_send_signal(started.pidfd.as_fd(), number).ok();
                }
                Some(ToSupervisor::Resize(size)) => {
                    if let Some(terminal) = &self.terminal {
                        terminal::resize(terminal.as_fd(), size).ok();
                    }
                }
                // The last copy of the master: the kernel hangs up the terminal.
                Some(ToSupervisor::Hangup) => self.terminal = None,
                Some(ToSupervisor::Start(_)) => return Err(Failure::bug("a supervisor was told twice to start")),
                None => {
                    process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGKILL).ok();
                    break;
                }
            }
        }
        let exit = process::wait_pidfd(started.pidfd.as_fd())?;
        if self.request.spec.namespaces.pid != Namespace::Private {
            kill_orphans();
        }
        self.files.drain();
        Ok(exit.status())
    }

    fn wait(&self, started: &Started) -> Result<Woken> {
        let mut fds = vec![
            PollFd::new(started.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.files.interests());
        loop {
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(Failure::from(std::io::Error::from(errno)).doing("wait for the container")),
                Ok(_) => {
                    let is_up = |index: usize| fds.get(index).and_then(PollFd::any) == Some(true);
                    return Ok(if is_up(0) {
                        Woken::Payload
                    } else if is_up(1) {
                        Woken::Command
                    } else {
                        Woken::Files
                    });
                }
            }
        }
    }

    fn finish(&mut self, code: i32) -> Result<()> {
        if self.request.record.auto_remove {
            return self.discard();
        }
        self.request.record.status = Status::Exited { code, finished_s: now_s() };
        self.request.record.save(&self.request.directory)
    }

    /// EINVAL of an overlay says little; where it lies says it all.
    fn explain(&self, failure: Failure) -> Failure {
        let directory = kernel::open::open_dir(&self.request.directory);
        match directory.map(|directory| overlay::check_file_system(directory.as_fd())) {
            Ok(Err(unfit)) if failure.is_errno(libc::EINVAL) => unfit.doing("mount root"),
            _ => failure,
        }
    }

    fn discard(&self) -> Result<()> {
        let Record { id, name, anonymous_volumes, .. } = &self.request.record;
        store::discard(&self.paths, &self.request.directory, id, Some(name))?;
        uses::remove_own(&self.paths, id, anonymous_volumes)
    }
}

/// Kills what a program outside of a pid namespace left behind: every orphan
/// is our child (PR_SET_CHILD_SUBREAPER), and so is every orphan of those.
fn kill_orphans() {
    loop {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            process::kill(pid, libc::SIGKILL).ok();
        }
        match process::wait_any_child() {
            Ok(Some(_)) => {}
            // ECHILD: nobody is left.
            _ => return,
        }
    }
}
