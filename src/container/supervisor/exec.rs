//! Programs that commands run in the container beside its own: each is a
//! session of a joiner, a process and a command that waits for it.
//!
//! ```text
//!      command                    supervisor                  joiner, program
//!  1   Exec, streams       ->     fork          ------------> enter, clone
//!  2                                                     <-   Cloned(pidfd)
//!  3                       <-     Streams(master)        <-   Console(master)      with a terminal
//!  4                       <-     Started                <-   EOF: it executes     with -d
//!  5   Signal, Hangup      ->     ...
//!  6                       <-     Exited(code) | Failed  <-   its end
//! ```
//!
//! Nothing here waits for the container: what is inside can stop a process
//! before it executes. A command that goes away leaves its program running, as
//! docker does; one that does not execute by then, or takes too long to, is
//! killed. Every child is reaped as soon as it has ended: while one is
//! left, the kernel does not let the container's first process end
//! (pid_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::super::control::FromSupervisor;
use super::super::events::Action;
use super::super::exec::Exec;
use super::Supervisor;
use super::clients::Clients;
use super::files::Files;
use crate::error::{Failure, Result};
use crate::kernel::{file, process};
use crate::limits;
use crate::process::channel::{Channel, Incoming, Taken};
use crate::sandbox::join::{self, Joining, Target};
use crate::sandbox::spec::{Namespace, Process, SandboxSpec};
use crate::sandbox::stage::init::Streams;
use crate::sandbox::stage::join::FromJoin;
use crate::sandbox::start::Started;

/// Bytes of a terminal's output thrown away at once.
const CHUNK: usize = 16 << 10;

/// All programs beside the container's own.
#[derive(Default)]
pub(super) struct Sessions {
    running: Vec<Session>,
    /// Files that what an ended program left behind still writes to.
    files: Vec<Files>,
    /// What is to be told (`kelp events`).
    pub(super) happened: Vec<Happened>,
}

/// Something that is told of a program.
pub(super) enum Happened {
    /// It executes: what names it, and its argv.
    Started(String, Vec<String>),
    /// It ended with this exit status.
    Ended(String, i32),
}

/// One of them.
pub(super) struct Session {
    /// Names it in events, where it is told of; as random as a container's.
    id: String,
    /// Its argv, until it is told that it executes.
    command: Option<Vec<String>>,
    /// Who waits for it; `None` when the command is gone.
    client: Option<u64>,
    /// The command waits for the start only.
    is_detached: bool,
    joiner: Option<OwnedFd>,
    program: Option<OwnedFd>,
    /// When it was begun.
    began: Instant,
    /// Until the program executes.
    channel: Option<Channel>,
    incoming: Incoming,
    /// Signals for a process that is not there yet.
    signals: Vec<i32>,
    failure: Option<Failure>,
    code: Option<i32>,
    files: Files,
    /// A copy of the terminal's master, so that it is not hung up when the
    /// command goes away.
    terminal: Option<OwnedFd>,
}

impl Supervisor {
    /// Begins to run a program for `client`, who is told what comes of it.
    pub(super) fn exec(
        &mut self,
        client: u64,
        exec: &Exec,
        streams: &[OwnedFd],
        payload: Option<&Started>,
    ) -> Result<()> {
        let Some(started) = payload else { return Err(Failure::user("it is not running")) };
        if self.is_paused() {
            return Err(Failure::user("it is paused").hint("kelp unpause lets it go on"));
        }
        if self.sessions.len() >= limits::EXEC_SESSIONS_MAX {
            let most = limits::EXEC_SESSIONS_MAX;
            return Err(Failure::user(format!("{most} programs run beside the container's own already")));
        }
        let spec = &self.request.spec;
        let program = exec.program(&spec.process)?;
        let (files, ends) = match streams {
            [stdin, stdout, stderr] => Files::between(Some(stdin.as_fd()), stdout.as_fd(), stderr.as_fd())?,
            _ if exec.terminal => Default::default(),
            _ => return Err(Failure::bug("a program without standard streams")),
        };
        // The end of a pipe where it was a file, else what the command sent.
        let streams = Streams {
            stdin: ends.stdin.as_ref().or(streams.first()).map(AsFd::as_fd),
            stdout: ends.stdout.as_ref().or(streams.get(1)).map(AsFd::as_fd),
            stderr: ends.stderr.as_ref().or(streams.get(2)).map(AsFd::as_fd),
            size: exec.size,
        };
        let joining = join::join(&target(spec, started), &program, streams)?;
        let id = process::random_hex::<32>()?;
        self.tell(Action::ExecCreate { id: &id, command: &program.arguments });
        self.sessions.running.push(Session {
            id,
            command: Some(program.arguments),
            client: Some(client),
            is_detached: exec.detached,
            files,
            ..Session::new(joining)
        });
        Ok(())
    }

    /// Looks after all programs beside the container's own.
    pub(super) fn turn_sessions(&mut self, payload: Option<&Started>) {
        if !self.is_paused() {
            self.sessions.end_late();
        }
        let is_whole = self.sessions.turn(&mut self.clients);
        self.tell_of_sessions();
        if let (false, Some(started)) = (is_whole, payload) {
            self.end_strays(started);
        }
    }

    /// Ends children that nobody knows of: with one of them left, the
    /// container's first process could never be reaped.
    pub(super) fn end_strays(&self, payload: &Started) {
        if self.request.spec.namespaces.pid != Namespace::Private {
            // There are other children, which are right to be there.
            return;
        }
        let known = self.sessions.running.iter().flat_map(Session::children).chain(self.prober.children());
        let mut known: Vec<i32> = known.filter_map(|child| process::pid_of(child.as_fd()).ok()).collect();
        known.push(payload.pid);
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in children.filter(|pid| !known.contains(pid)) {
            if let Ok(child) = process::pidfd_open(pid) {
                process::pidfd_send_signal(child.as_fd(), libc::SIGKILL).ok();
                process::wait_pidfd(child.as_fd()).ok();
            }
        }
    }
}

impl Sessions {
    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let files = self.files.iter().flat_map(Files::interests);
        self.running.iter().flat_map(Session::interests).chain(files).collect()
    }

    fn len(&self) -> usize {
        self.running.len() + self.files.len()
    }

    /// Moves what can move and tells the commands. False where a joiner was
    /// killed: it may have cloned and not have said so.
    fn turn(&mut self, clients: &mut Clients) -> bool {
        let mut is_whole = true;
        for session in &mut self.running {
            session.turn(clients);
            let executes = session.channel.is_none() && session.failure.is_none();
            let command = session.command.take_if(|_| executes);
            self.happened.extend(command.map(|command| Happened::Started(session.id.clone(), command)));
        }
        for mut session in self.running.extract_if(.., |session| session.is_over()) {
            is_whole &= session.code.is_some() || session.failure.is_some();
            let code = session.code.filter(|_| session.command.is_none());
            self.happened.extend(code.map(|code| Happened::Ended(session.id.clone(), code)));
            session.conclude(clients);
            self.files.push(session.files);
        }
        self.files.iter_mut().for_each(Files::turn);
        self.files.retain(|files| !files.is_over());
        is_whole
    }

    /// Whether `client` waits for a program.
    pub(super) fn has(&self, client: u64) -> bool {
        self.running.iter().any(|session| session.client == Some(client))
    }

    /// Sends a signal to the program that `client` waits for.
    pub(super) fn signal(&mut self, client: u64, number: i32) {
        for session in self.of(client) {
            match &session.program {
                // It may end at this very moment.
                Some(program) => drop(process::pidfd_send_signal(program.as_fd(), number)),
                None => session.signals.push(number),
            }
        }
    }

    /// Nobody reads what the program writes to its terminal.
    pub(super) fn hang_up(&mut self, client: u64) {
        for session in self.of(client) {
            // The last copy of the master: the kernel hangs up the terminal.
            session.terminal = None;
        }
    }

    /// A command is gone for good: its program goes on, if there is one yet.
    pub(super) fn abandon(&mut self, client: u64, clients: &mut Clients) {
        for session in self.of(client) {
            // It may execute, and not have been heard of.
            session.hear(clients);
            if session.channel.is_some() {
                session.failure.get_or_insert_with(|| Failure::user("its command has gone away"));
                session.kill_now();
            }
        }
        self.leave(client);
    }

    /// When one that does not execute is to be ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.running.iter().filter(|session| session.channel.is_some() && session.failure.is_none());
        waiting.map(|session| session.began + limits::EXEC_PATIENCE).min()
    }

    /// The container goes on after a pause, which is nobody's fault.
    pub(super) fn renew(&mut self) {
        self.running.iter_mut().for_each(|session| session.began = Instant::now());
    }

    /// Ends those that do not execute.
    fn end_late(&mut self) {
        let is_late = |session: &&mut Session| {
            session.channel.is_some() && session.failure.is_none() && session.began.elapsed() >= limits::EXEC_PATIENCE
        };
        for session in self.running.iter_mut().filter(is_late) {
            let seconds = limits::EXEC_PATIENCE.as_secs();
            session.failure = Some(Failure::host(format!("it has not become its program in {seconds} seconds")));
            session.kill_now();
        }
    }

    /// A command is gone; its program goes on.
    pub(super) fn leave(&mut self, client: u64) {
        for session in self.of(client) {
            session.client = None;
            if let Some(terminal) = &session.terminal {
                file::set_nonblocking(terminal.as_fd()).ok();
            }
        }
    }

    fn of(&mut self, client: u64) -> impl Iterator<Item = &mut Session> {
        self.running.iter_mut().filter(move |session| session.client == Some(client))
    }

    /// The container is over, and all that ran in it.
    pub(super) fn end(&mut self, clients: &mut Clients) {
        for mut session in self.running.drain(..) {
            session.kill(clients);
            if session.code.is_none() {
                session.failure.get_or_insert_with(|| Failure::user("the container is stopping"));
            }
            session.conclude(clients);
        }
        for mut files in self.files.drain(..) {
            files.drain();
        }
    }
}

impl Session {
    fn new(joining: Joining) -> Self {
        Self {
            id: String::new(),
            command: None,
            client: None,
            is_detached: false,
            joiner: Some(joining.joiner),
            program: None,
            began: Instant::now(),
            channel: Some(joining.channel),
            incoming: Incoming::default(),
            signals: Vec::new(),
            failure: None,
            code: None,
            files: Files::default(),
            terminal: None,
        }
    }

    /// A program that no command waits for, with `output` for what it says and
    /// nothing to read.
    pub(super) fn join(
        spec: &SandboxSpec,
        started: &Started,
        program: &Process,
        output: BorrowedFd<'_>,
    ) -> Result<Self> {
        // Our own standard input is /dev/null.
        let streams = Streams { stdin: None, stdout: Some(output), stderr: Some(output), size: None };
        Ok(Self::new(join::join(&target(spec, started), program, streams)?))
    }

    /// Its processes that have not ended.
    pub(super) fn children(&self) -> impl Iterator<Item = &OwnedFd> {
        self.joiner.iter().chain(&self.program)
    }

    /// Kills it and all that it has started in its process group; waits for
    /// nobody.
    pub(super) fn kill_now(&self) {
        if let Some(program) = &self.program {
            // It is not reaped yet, so the number is its own; it may lead no group yet.
            process::pid_of(program.as_fd()).and_then(|pid| process::kill(-pid, libc::SIGKILL)).ok();
        }
        self.children().for_each(|child| drop(process::pidfd_send_signal(child.as_fd(), libc::SIGKILL)));
    }

    /// The exit status, or why there is none; neither where its joiner was killed.
    pub(super) fn outcome(&mut self) -> (Option<i32>, Option<Failure>) {
        (self.code, self.failure.take())
    }

    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let children = self.children().map(AsFd::as_fd);
        // With a command, the terminal's output is the command's to read.
        let terminal = self.terminal.iter().filter(|_| self.client.is_none()).map(AsFd::as_fd);
        let all = children.chain(self.channel.iter().map(AsFd::as_fd)).chain(terminal);
        let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        fds.extend(self.files.interests());
        fds
    }

    /// Moves what can move.
    pub(super) fn turn(&mut self, clients: &mut Clients) {
        self.hear(clients);
        if self.joiner.as_ref().is_some_and(|joiner| ended(joiner).is_some()) {
            self.joiner = None;
        }
        if let Some(code) = self.program.as_ref().and_then(ended) {
            (self.code, self.program) = (Some(code), None);
        }
        self.files.turn();
        if self.client.is_none() && self.terminal.as_ref().is_some_and(|terminal| !throw_away(terminal)) {
            self.terminal = None;
        }
    }

    /// Takes what joiner and program say, until the program executes.
    fn hear(&mut self, clients: &mut Clients) {
        while let Some(channel) = &self.channel {
            let received = match self.incoming.take::<FromJoin>(channel) {
                Ok(Taken::Nothing) => return,
                Ok(Taken::Message(received)) => received,
                Ok(Taken::Closed) => {
                    self.channel = None;
                    self.tell_start(clients);
                    return;
                }
                Err(failure) => {
                    self.failure.get_or_insert(failure);
                    self.channel = None;
                    return;
                }
            };
            let descriptor = received.descriptors.into_iter().next();
            match (received.message, descriptor) {
                (FromJoin::Cloned, Some(program)) => self.take_program(program),
                (FromJoin::Console, Some(master)) => self.take_terminal(master, clients),
                (FromJoin::Failed(failure), _) => drop(self.failure.get_or_insert(failure)),
                (FromJoin::Cloned | FromJoin::Console, None) => {
                    self.failure.get_or_insert(Failure::bug("a descriptor is missing"));
                }
            }
        }
    }

    fn take_program(&mut self, program: OwnedFd) {
        for number in self.signals.drain(..) {
            process::pidfd_send_signal(program.as_fd(), number).ok();
        }
        self.program = Some(program);
    }

    fn take_terminal(&mut self, master: OwnedFd, clients: &mut Clients) {
        if self.is_detached || self.client.is_none() {
            file::set_nonblocking(master.as_fd()).ok();
        } else if let (Some(client), Ok(one), Ok(other)) = (self.client, master.try_clone(), master.try_clone()) {
            clients.tell(client, &FromSupervisor::Streams { terminal: true }, &[one, other]);
        }
        self.terminal = Some(master);
    }

    /// A command that waits for no more than that goes now.
    fn tell_start(&mut self, clients: &mut Clients) {
        if self.is_detached
            && self.failure.is_none()
            && let Some(client) = self.client.take()
        {
            clients.tell(client, &FromSupervisor::Started, &[]);
        }
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_over(&self) -> bool {
        self.joiner.is_none() && self.program.is_none() && self.channel.is_none()
    }

    /// Kills and reaps it.
    pub(super) fn kill(&mut self, clients: &mut Clients) {
        let kill = |child: OwnedFd| -> Option<i32> {
            process::pidfd_send_signal(child.as_fd(), libc::SIGKILL).ok();
            Some(process::wait_pidfd(child.as_fd()).ok()?.status())
        };
        self.joiner.take().and_then(kill);
        // It may have cloned and said so.
        self.hear(clients);
        if let Some(program) = self.program.take() {
            self.code = kill(program);
        }
    }

    /// Tells the command of the end.
    fn conclude(&mut self, clients: &mut Clients) {
        self.files.drain();
        let Some(client) = self.client else { return };
        let message = match (self.failure.take(), self.code) {
            (Some(failure), _) => FromSupervisor::Failed(failure),
            (None, Some(code)) => FromSupervisor::Exited(code),
            (None, None) => FromSupervisor::Failed(Failure::host("its process was killed before it had begun")),
        };
        clients.tell(client, &message, &[]);
    }
}

fn target<'a>(spec: &'a SandboxSpec, started: &'a Started) -> Target<'a> {
    Target {
        pidfd: started.pidfd.as_fd(),
        namespaces: &spec.namespaces,
        single: spec.id_map.is_single(),
        cgroup: started.cgroup.as_ref(),
        pid: started.pid,
    }
}

/// The exit status of a child that has ended.
fn ended(child: &OwnedFd) -> Option<i32> {
    process::reap(child.as_fd()).ok().flatten().map(process::Exit::status)
}

/// Reads what nobody wants; false at its end.
fn throw_away(terminal: &OwnedFd) -> bool {
    let mut buffer = [0_u8; CHUNK];
    match nix::unistd::read(terminal.as_fd(), &mut buffer) {
        Ok(count) => count > 0,
        Err(errno) => matches!(errno, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR),
    }
}
