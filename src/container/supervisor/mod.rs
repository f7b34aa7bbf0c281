//! The supervisor: one small single-threaded process for each container.
//!
//! It is born in the base user namespace, starts the sandbox, tells the
//! command what becomes of it, writes the record, starts the program again
//! where a policy says so, and cleans up. It holds the container's lock: while
//! it lives, so does the container, and nobody else writes the record. It does
//! one thing at a time and waits for nobody: one loop ([`Supervisor::serve`])
//! looks after the program, its output, the commands that talk to it
//! ([`super::control`]) and the clock.
//!
//! ```text
//!   start -> stay ----> end: record, lock, clients, linger
//!     ^        |  the program ended, and a policy or a command wants it again
//!     +- rest <+
//! ```

mod cgroup;
mod clients;
mod events;
mod exec;
mod files;
mod health;
mod linger;
mod memory;
mod network;
mod output;
mod pause;
mod requests;
mod starting;
mod streams;
mod substitutes;
mod update;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use self::clients::{Clients, FIRST, Said};
use self::exec::Sessions;
use self::files::Files;
use self::health::Prober;
use self::memory::MemoryWatch;
use self::network::Attachment;
use self::output::Output;
use self::requests::Stopping;
use self::starting::Starting;
use self::substitutes::MemoryLimit;
use super::control::{self, FromSupervisor, Lock, Request, StreamsWanted, ToSupervisor};
use super::events::Action;
use super::log::{Stream, Subject, Writer};
use super::record::{Record, StartFailure, Status, now_ns};
use super::restart::Backoff;
use super::{store, uses};
use crate::error::{Context, EXIT_OWN_FAILURE, Failure, Kind, Result};
use crate::failpoint;
use crate::kernel::{self, process, signal};
use crate::paths::Paths;
use crate::process::base;
use crate::process::channel::Channel;
use crate::process::identity::Identity;
use crate::process::stage;
use crate::process::steps::Steps;
use crate::sandbox::cgroup::{Group, tree};
use crate::sandbox::spec::{HostPath, Namespace, SandboxSpec, Source, Step};
use crate::sandbox::start::{self, Started};
use crate::storage::overlay;

/// The stage's whole life.
pub fn main() -> Result<()> {
    let steps = Steps::new("supervisor");
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-supervisor")?;
    process::new_session()?;
    signal::ignore_broken_pipe()?;
    // A log that may grow no more (`ulimit -f`) is a full disk, not the end.
    signal::ignore_file_size_limit()?;
    let Some(first) = channel.receive::<ToSupervisor>()? else { return Ok(()) };
    let ToSupervisor::Start(request) = first.message else {
        return Err(Failure::bug("a supervisor was not told what to start"));
    };
    let paths = request.paths.clone();
    failpoint::reach(&paths, "supervisor: told to start");
    let mut supervisor = Supervisor::new(*request, first.descriptors, channel, steps);
    let result = supervisor.live();
    // Only now the mounts go: taking them down may sync the container's changes.
    drop(supervisor);
    // Of a start that failed early, they are the command's still: who reads them waits for their end.
    process::silence_standard_streams()?;
    std::env::set_current_dir("/").doing(|| "enter /")?;
    linger::linger(&paths);
    base::unregister(&paths);
    result
}

struct Supervisor {
    request: Request,
    paths: Paths,
    /// The container's lock, held while it lives.
    lock: Lock,
    steps: Steps,
    clients: Clients,
    /// Programs beside the container's own.
    sessions: Sessions,
    prober: Prober,
    /// The command that the container ends with.
    owner: Option<u64>,
    /// Streams of the command's that are files, to which the program has only pipes.
    files: Files,
    output: Output,
    /// The terminal's master, for who attaches.
    terminal: Option<OwnedFd>,
    /// The way to the program's standard input, for who attaches. While it is
    /// here, the program does not see the end of it.
    stdin: Option<OwnedFd>,
    /// The container's mount namespace, held so that taking it down (a
    /// millisecond of the kernel's time) does not delay the user.
    mounts: Option<File>,
    /// The container's own cgroup, where it can have one.
    cgroup: Option<Group>,
    /// Its place in a network, if it is to have one.
    network: Option<Attachment>,
    memory: MemoryWatch,
    /// A limit that its cgroup cannot hold.
    memory_limit: Option<MemoryLimit>,
    stopping: Option<Stopping>,
    starting: Starting,
    backoff: Backoff,
    started_ns: i64,
    /// The command that started it stays with it.
    is_attached: bool,
    /// Before this supervisor.
    has_run_before: bool,
}

/// What [`Supervisor::serve`] came back for.
#[derive(Default)]
struct Happened {
    /// The program has ended.
    has_ended: bool,
    /// The time that was set has come.
    is_late: bool,
}

/// What follows the program's end.
enum Next {
    End,
    Start(Duration),
}

impl Supervisor {
    fn new(request: Request, lock: Lock, channel: Channel, mut steps: Steps) -> Self {
        steps.mark("receive the plan");
        Self {
            paths: request.paths.clone(),
            owner: request.foreground.then_some(FIRST),
            started_ns: 0,
            is_attached: request.streams != StreamsWanted::Kept,
            has_run_before: !matches!(request.record.status, Status::Created),
            request,
            lock,
            steps,
            clients: Clients::new(channel),
            sessions: Sessions::default(),
            prober: Prober::default(),
            files: Files::default(),
            output: Output::default(),
            terminal: None,
            stdin: None,
            mounts: None,
            cgroup: None,
            network: None,
            memory: MemoryWatch::default(),
            memory_limit: None,
            stopping: None,
            starting: Starting::default(),
            backoff: Backoff::default(),
        }
    }

    fn live(&mut self) -> Result<()> {
        let mut started = match self.first_start() {
            Ok(started) => started,
            Err(failure) => return self.give_up(failure),
        };
        self.tell_first_start();
        self.clients.tell_start();
        loop {
            let began = Instant::now();
            self.heed_deferred(&started);
            let code = self.stay(&started)?;
            self.steps.mark("wait for the end");
            failpoint::reach(&self.paths, "end: program gone");
            self.tell_end(code);
            match self.next(code, began.elapsed()) {
                Next::Start(wait) if self.rest(code, wait)? => {}
                _ => return self.end(code, None),
            }
            started = match self.start_again() {
                Ok(started) => started,
                Err(_) if self.starting.is_called_off => return self.end(code, None),
                Err(failure) => {
                    self.clients.tell_failure(&failure);
                    self.tell(Action::Die(start_status(&failure)));
                    return self.end(start_status(&failure), Some(failure.sentence()));
                }
            };
            self.tell_next_start();
            self.clients.tell_start();
        }
    }

    /// Starts the program for the first time; the control socket is there when
    /// the record says that it runs.
    fn first_start(&mut self) -> Result<Started> {
        let listener = control::listen(&self.paths, &self.request.spec.id)?;
        self.clients.listen(listener);
        failpoint::reach(&self.paths, "supervisor: listening");
        tree::step_aside(&self.request.scoped);
        // Before the container's own cgroup: a network's process that is launched here serves others, too.
        let asked = self.ask_network()?;
        self.open_log()?;
        self.enter_cgroup()?;
        self.attach_network(asked)?;
        let started = self.start()?;
        if self.owner == Some(FIRST) {
            self.clients.expect_end(FIRST);
        }
        Ok(started)
    }

    fn open_log(&mut self) -> Result<()> {
        let Record { id, name, image, image_id, labels, config, log, .. } = &self.request.record;
        let subject = Subject { id, name, image, image_id, labels, variables: &config.env };
        let writer = Writer::open(log, &self.request.directory, &subject).doing(|| "open the log")?;
        self.output.log_to(writer);
        Ok(())
    }

    /// The same container once more: its own files, and a new everything else.
    fn start_again(&mut self) -> Result<Started> {
        // The old mounts must be gone before the directories are mounted anew.
        self.mounts = None;
        self.renew_cgroup()?;
        self.start()
    }

    /// Starts the sandbox and waits until the image's program runs.
    fn start(&mut self) -> Result<Started> {
        let spec = &self.request.spec;
        if spec.namespaces.pid != Namespace::Private {
            // No pid namespace ends with the program: its orphans come to us.
            process::become_subreaper()?;
        }
        self.begin_memory();
        self.begin_substitutes()?;
        let ends = self.make_streams()?;
        let spec = &self.request.spec;
        // Also of a start that was killed before it was written down.
        forget_volatile(spec);
        // Not the container's own directory: what is in it is still needed.
        let mount_point = HostPath(self.paths.container_run(&spec.id));
        if let Some(top) = spec.root.lowers.first() {
            overlay::take_mode(spec.root.upper.as_path(), top.as_path())?;
        }
        let mut started = start::start(
            spec,
            &mount_point,
            self.cgroup.as_ref(),
            ends.streams(self.request.size),
            self.request.debug,
        )?;
        self.steps.mark("clone and map ids");
        self.mounts = started.mounts.take();
        if started.cgroup.is_none() {
            self.leave_cgroup();
        }
        drop(ends);
        if let Err(failure) = self.watch_the_start(&started) {
            // Nothing may go on that nobody looks after. It may have ended by itself.
            process::pidfd_send_signal(started.pidfd.as_fd(), libc::SIGKILL).ok();
            process::wait_pidfd(started.pidfd.as_fd())?;
            if self.request.spec.namespaces.pid != Namespace::Private {
                self.kill_cgroup();
                kill_orphans();
            }
            return Err(failure);
        }
        Ok(started)
    }

    fn watch_the_start(&mut self, started: &Started) -> Result<()> {
        // The command's streams and directory are the program's now; holding
        // them would keep pipes open and file systems busy.
        process::silence_standard_streams()?;
        std::env::set_current_dir("/").doing(|| "enter /")?;
        self.follow_init(started)?;
        self.share_streams()?;
        let is_first = self.started_ns == 0;
        self.started_ns = now_ns();
        self.request.record.status = Status::Running {
            supervisor: Identity::of(nix::unistd::getpid().as_raw())?,
            payload: Identity::of(started.pid)?,
            started_ns: self.started_ns,
            paused: false,
            health: self.begin_health(),
        };
        self.request.record.start_failure = None;
        self.steps.mark("follow init until it executes");
        failpoint::reach(&self.paths, "supervisor: program runs");
        // A program that is started again does not end for a full disk.
        self.save().or_else(|failure| if is_first { Err(failure) } else { Ok(()) })?;
        failpoint::reach(&self.paths, "supervisor: start written down");
        self.steps.mark("write the record");
        Ok(())
    }

    /// Stays with the program until it has ended and all that it wrote is
    /// where it should be; returns its exit status.
    fn stay(&mut self, started: &Started) -> Result<i32> {
        while !self.serve(Some(started), None)?.has_ended {}
        let exit = process::wait_pidfd(started.pidfd.as_fd())?;
        self.end_memory();
        self.sessions.end(&mut self.clients);
        self.end_health();
        if self.request.spec.namespaces.pid != Namespace::Private {
            self.kill_cgroup();
            kill_orphans();
        }
        self.files.drain();
        loop {
            while self.output.turn() {}
            // Who was asked to end does not wait for one that does not read.
            let until = self.stopping.as_ref().map(|stopping| stopping.kill_at.unwrap_or_else(Instant::now));
            if !self.output.is_pending() || until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            self.serve(None, until)?;
        }
        self.output.finish_log();
        (self.terminal, self.stdin) = (None, None);
        Ok(exit.status())
    }

    fn next(&mut self, code: i32, ran: Duration) -> Next {
        let is_wanted = self.stopping.take().is_some_and(|stopping| stopping.then_start);
        let record = &mut self.request.record;
        if is_wanted {
            record.stopped_by_user = false;
            return Next::Start(Duration::ZERO);
        }
        if record.restart.wants(code, record.restarts, record.stopped_by_user) {
            record.restarts += 1;
            return Next::Start(self.backoff.next(ran));
        }
        Next::End
    }

    /// Waits before the next start; false where a person does not want it any
    /// more.
    fn rest(&mut self, code: i32, wait: Duration) -> Result<bool> {
        let supervisor = Identity::of(nix::unistd::getpid().as_raw())?;
        let (started_ns, finished_ns) = (self.started_ns, now_ns());
        self.request.record.status = Status::Restarting { supervisor, code, started_ns, finished_ns };
        // On a full disk it goes on; the next change is written down when it can be.
        self.save().ok();
        failpoint::reach(&self.paths, "restart: written down");
        self.tell_reason(code, self.owner);
        for client in self.clients.tell_end(code, self.owner) {
            self.output.untap(client);
        }
        let until = Instant::now() + wait;
        while !self.serve(None, Some(until))?.is_late {
            match &self.stopping {
                Some(stopping) if !stopping.then_start => return Ok(false),
                Some(_) => break,
                None => {}
            }
        }
        self.stopping = None;
        Ok(true)
    }

    /// Waits for something to happen and deals with it. `payload` is the
    /// program, where it runs; at `until` this returns in any case.
    fn serve(&mut self, payload: Option<&Started>, until: Option<Instant>) -> Result<Happened> {
        let kill_at = self.stopping.as_ref().and_then(|stopping| stopping.kill_at).filter(|_| payload.is_some());
        let at_once = self.clients.has_lost().then(Instant::now);
        let probe_at = self.prober.deadline(self.is_paused() || self.stopping.is_some());
        let attach_at = self.network.as_ref().and_then(Attachment::deadline);
        let session_at = self.sessions.deadline().filter(|_| !self.is_paused());
        let room_at = self.clients.deadline(|client| self.is_engaged(client));
        let limit_at = self.substitutes_deadline().filter(|_| payload.is_some());
        let (output_at, memory_at) = (self.output.deadline(), self.memory.deadline());
        let own = [until, kill_at, output_at, at_once, probe_at];
        let timers = own.into_iter().chain([memory_at, limit_at, room_at, session_at, attach_at]);
        let deadline = timers.flatten().min();
        let mut fds: Vec<PollFd<'_>> =
            payload.iter().map(|started| PollFd::new(started.pidfd.as_fd(), PollFlags::POLLIN)).collect();
        let memory_place = fds.len();
        let is_memory_watched = self.memory.interest().map(|interest| fds.push(interest)).is_some();
        fds.extend(self.clients.interests());
        fds.extend(self.sessions.interests());
        fds.extend(self.prober.interests());
        fds.extend(self.files.interests());
        fds.extend(self.output.interests());
        fds.extend(self.network.iter().flat_map(Attachment::interests));
        wait(&mut fds, deadline)?;
        let has_ended = payload.is_some() && fds.first().and_then(PollFd::any) == Some(true);
        let is_memory_told = is_memory_watched && fds.get(memory_place).and_then(PollFd::any) == Some(true);
        drop(fds);
        let now = Instant::now();
        let pidfd = payload.map(|started| started.pidfd.as_fd());
        if let Some(pidfd) = pidfd.filter(|_| kill_at.is_some_and(|kill_at| now >= kill_at)) {
            // It may end at this very moment.
            process::pidfd_send_signal(pidfd, libc::SIGKILL).ok();
            self.tell(Action::Kill(libc::SIGKILL));
            self.stopping.iter_mut().for_each(|stopping| stopping.kill_at = None);
        }
        for (client, said) in self.hear() {
            self.heed(client, said, payload);
        }
        self.turn_memory(is_memory_told);
        self.turn_substitutes(payload);
        self.turn_sessions(payload);
        self.turn_health(payload);
        self.files.turn();
        self.output.turn();
        self.turn_network();
        Ok(Happened { has_ended, is_late: until.is_some_and(|until| now >= until) })
    }

    /// What clients have said.
    fn hear(&mut self) -> Vec<(u64, Said)> {
        let engaged: Vec<u64> = self.clients.ids().filter(|client| self.is_engaged(*client)).collect();
        self.clients.hear(|client| engaged.contains(&client))
    }

    /// Whether something is done for `client`, which it need say nothing about.
    fn is_engaged(&self, client: u64) -> bool {
        self.output.has_tap(client) || self.sessions.has(client) || self.prober.has(client) || self.has_deferred(client)
    }

    /// Tells the command that started the container something for its user.
    fn notice(&mut self, notice: String) {
        self.clients.tell(FIRST, &FromSupervisor::Notice(notice), &[]);
    }

    /// The container is over.
    fn end(&mut self, code: i32, error: Option<String>) -> Result<()> {
        self.count_up();
        self.leave_cgroup();
        self.leave_network();
        let written = self.finish(code, error);
        self.steps.mark("write the end down");
        failpoint::reach(&self.paths, "end: written down");
        if self.request.debug {
            self.tell_steps();
        }
        control::close(&self.paths, &self.request.spec.id);
        // First the lock: what the user does next must find the container ended.
        self.lock.clear();
        failpoint::reach(&self.paths, "end: lock released");
        // Who reads to the end of the pipes is to find it.
        self.output = Output::default();
        self.tell_reason(code, None);
        self.clients.tell_end(code, None);
        self.clients.answer_rest();
        written
    }

    /// It could not even be started.
    fn give_up(&mut self, failure: Failure) -> Result<()> {
        let failure = self.explain(failure);
        self.leave_cgroup();
        self.leave_network();
        control::close(&self.paths, &self.request.spec.id);
        self.tell_failed_start(start_status(&failure));
        let written = match self.request.record.auto_remove {
            true => self.discard(),
            // A new one that nobody wants any more was never there, another is what it was.
            false if self.starting.is_called_off && self.request.is_new => self.discard(),
            false if self.starting.is_called_off => Ok(()),
            false => self.keep_unstarted(&failure),
        };
        failpoint::reach(&self.paths, "supervisor: failed start written down");
        self.lock.clear();
        self.clients.tell_failure(&failure);
        self.clients.tell_end(start_status(&failure), None);
        written
    }

    /// As docker: what never ran is still only created, with the reason, and can
    /// be started again. Killed before this is written down, a container that
    /// was made by `run` is gone: it has no record, or an unfinished one.
    fn keep_unstarted(&mut self, failure: &Failure) -> Result<()> {
        let (code, error) = (start_status(failure), failure.sentence());
        let record = &mut self.request.record;
        if self.has_run_before {
            let (started_ns, finished_ns) = (now_ns(), now_ns());
            record.status = Status::Exited { code, started_ns, finished_ns, error: Some(error) };
        } else {
            record.status = Status::Created;
            record.start_failure = Some(StartFailure { code, error });
        }
        self.save()
    }

    fn finish(&mut self, code: i32, error: Option<String>) -> Result<()> {
        if self.request.record.auto_remove {
            return self.discard();
        }
        self.request.record.status = Status::Exited { code, started_ns: self.started_ns, finished_ns: now_ns(), error };
        self.save()
    }

    fn save(&self) -> Result<()> {
        self.request.record.save(&self.request.directory)
    }

    fn tell_steps(&mut self) {
        let steps = std::mem::take(&mut self.steps.done);
        self.clients.tell(FIRST, &FromSupervisor::Steps(steps), &[]);
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
        failpoint::reach(&self.paths, "end: container removed");
        self.tell(Action::Destroy);
        uses::remove_own(&self.paths, id, anonymous_volumes)
    }
}

/// Waits until one of `fds` has something, at most until `deadline`.
fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<()> {
    match nix::poll::poll(fds, timeout(deadline)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(Failure::from(std::io::Error::from(errno)).doing("wait for the container")),
    }
}

fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // Rounded up: a wait of nothing until the moment has come would spin.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
}

/// What docker and podman end with where a program could not be started.
fn start_status(failure: &Failure) -> i32 {
    match failure.kind {
        Kind::NoSuchProgram => 127,
        Kind::NotExecutable => 126,
        _ => EXIT_OWN_FAILURE,
    }
}

/// An overlay without syncs refuses to be mounted again, since after a crash
/// its content would be in doubt; this machine has been up all the time.
fn forget_volatile(spec: &SandboxSpec) {
    let overlays = spec.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => match &mount.source {
            Source::Overlay(overlay) if overlay.volatile => Some(&overlay.work),
            _ => None,
        },
        _ => None,
    });
    for work in overlays.chain(spec.root.volatile.then_some(&spec.root.work)) {
        std::fs::remove_dir_all(work.as_path().join("work/incompat")).ok();
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
