//! Asking a container whether it is well: one probe at a time, when it is due.
//!
//! A probe is a program that joins the container as those of `exec` do
//! ([`Session`]), with a pipe for what it says. It is never waited for: its
//! end, its output and its deadline are turns of the supervisor's loop. While
//! the container is paused or is ending, nobody asks; what a probe says that
//! was on its way then does not count.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::super::control::FromSupervisor;
use super::super::events::Action;
use super::super::exec::Exec;
use super::super::health::{Attempt, Check, Health, Log, NO_ANSWER};
use super::super::record::{Status, now_ns};
use super::Supervisor;
use super::exec::Session;
use crate::error::{Failure, Result};
use crate::kernel::file;
use crate::limits;
use crate::sandbox::start::Started;

/// What there is to do about a container's health.
#[derive(Default)]
pub(super) struct Prober {
    watch: Option<Watch>,
}

/// From one start to the next end.
struct Watch {
    check: Check,
    log: Log,
    began: Instant,
    /// When the next probe is begun.
    due: Instant,
    probe: Option<Probe>,
    /// Commands that want to know what comes of the probe.
    clients: Vec<u64>,
}

/// A probe on its way.
struct Probe {
    session: Session,
    output: Captured,
    began: Instant,
    started_ns: i64,
    /// It took too long and was killed.
    is_late: bool,
    /// What it says does not count any more.
    is_dropped: bool,
}

/// What a probe says, as far as it is kept.
struct Captured {
    pipe: OwnedFd,
    bytes: Vec<u8>,
    has_ended: bool,
    has_more: bool,
}

impl Supervisor {
    /// The program runs: what the record says of its health.
    pub(super) fn begin_health(&mut self) -> Option<Health> {
        let now = Instant::now();
        let check = Check::of(&self.request.record.config)?;
        let due = due(now, &check, Health::STARTING, Duration::ZERO);
        let log = Log::load(&self.request.directory);
        self.prober.watch = Some(Watch { check, log, began: now, due, probe: None, clients: Vec::new() });
        Some(Health::STARTING)
    }

    /// The program has ended, and with it all that ran beside it.
    pub(super) fn end_health(&mut self) {
        let Some(mut watch) = self.prober.watch.take() else { return };
        if let Some(probe) = &mut watch.probe {
            probe.session.kill(&mut self.clients);
        }
        self.answer_checks(watch.clients, &FromSupervisor::Failed(Failure::user("the container is stopping")));
    }

    /// The container was paused, or goes on.
    pub(super) fn pause_health(&mut self) {
        let (is_paused, health) = (self.is_paused(), self.health());
        let Some(watch) = &mut self.prober.watch else { return };
        let now = Instant::now();
        watch.due = due(now, &watch.check, health, now - watch.began);
        let Some(probe) = watch.probe.as_mut().filter(|_| is_paused) else { return };
        probe.is_dropped = true;
        probe.session.kill_now();
        let clients = std::mem::take(&mut watch.clients);
        self.answer_checks(clients, &FromSupervisor::Failed(Failure::user("it has been paused")));
    }

    /// Asks now; `client` is told the probe's exit status.
    pub(super) fn check_health(&mut self, client: u64, payload: Option<&Started>) -> Result<()> {
        let Some(started) = payload else { return Err(Failure::user("it is not running")) };
        if self.is_paused() {
            return Err(Failure::user("it is paused").hint("kelp unpause lets it go on"));
        }
        let Some(watch) = &mut self.prober.watch else {
            let failure = Failure::user("it has no health check");
            return Err(failure.hint("--health-cmd of run and create, or HEALTHCHECK of its image, is one"));
        };
        watch.clients.push(client);
        if watch.probe.is_none() {
            self.begin_probe(started);
        }
        Ok(())
    }

    /// Looks after the probe, and begins one that is due.
    pub(super) fn turn_health(&mut self, payload: Option<&Started>) {
        let is_quiet = self.is_paused() || self.stopping.is_some();
        let Some(watch) = &mut self.prober.watch else { return };
        let now = Instant::now();
        if let Some(probe) = &mut watch.probe {
            probe.output.turn();
            probe.session.turn(&mut self.clients);
            if !probe.is_late && now >= probe.began + watch.check.timeout {
                probe.is_late = true;
                probe.session.kill_now();
            }
            if probe.session.is_over() {
                self.conclude_probe(payload);
            }
        } else if let Some(started) = payload.filter(|_| !is_quiet && now >= watch.due) {
            self.begin_probe(started);
        }
    }

    fn begin_probe(&mut self, started: &Started) {
        let Some(watch) = &self.prober.watch else { return };
        let (began, started_ns) = (Instant::now(), now_ns());
        let exec = Exec {
            arguments: watch.check.arguments.clone(),
            variables: Vec::new(),
            directory: None,
            user: None,
            terminal: false,
            size: None,
            detached: true,
        };
        match self.join_probe(started, &exec) {
            Ok((session, output)) => {
                let probe = Probe { session, output, began, started_ns, is_late: false, is_dropped: false };
                if let Some(watch) = &mut self.prober.watch {
                    watch.probe = Some(probe);
                }
            }
            Err(failure) => {
                let attempt = Attempt { started_ns, ended_ns: now_ns(), code: NO_ANSWER, output: failure.to_string() };
                self.take_answer(attempt, began);
            }
        }
    }

    fn join_probe(&self, started: &Started, exec: &Exec) -> Result<(Session, Captured)> {
        let program = exec.program(&self.request.spec.process)?;
        let (read, write) = super::files::pipe()?;
        file::set_nonblocking(read.as_fd())?;
        let session = Session::join(&self.request.spec, started, &program, write.as_fd())?;
        Ok((session, Captured { pipe: read, bytes: Vec::new(), has_ended: false, has_more: false }))
    }

    /// The probe is over.
    fn conclude_probe(&mut self, payload: Option<&Started>) {
        let Some(watch) = &mut self.prober.watch else { return };
        let Some(mut probe) = watch.probe.take() else { return };
        probe.output.turn();
        let (code, failure) = probe.session.outcome();
        let timeout = watch.check.timeout;
        if let (None, None, Some(started)) = (code, &failure, payload) {
            self.end_strays(started);
        }
        if probe.is_dropped || payload.is_none_or(is_ending) {
            return;
        }
        let said = probe.output.text();
        let (code, output) = match (code, failure) {
            // Docker's sentences.
            _ if probe.is_late && said.is_empty() => {
                (NO_ANSWER, format!("Health check exceeded timeout ({timeout:?})"))
            }
            _ if probe.is_late => (NO_ANSWER, format!("Health check exceeded timeout ({timeout:?}): {said}")),
            (_, Some(failure)) => (NO_ANSWER, failure.to_string()),
            (Some(code), None) => (code, said),
            (None, None) => (NO_ANSWER, "its process was killed before it had begun".to_owned()),
        };
        self.take_answer(Attempt { started_ns: probe.started_ns, ended_ns: now_ns(), code, output }, probe.began);
    }

    /// Keeps an answer and what follows from it.
    fn take_answer(&mut self, attempt: Attempt, asked: Instant) {
        let old = self.health();
        let Some(watch) = &mut self.prober.watch else { return };
        let (code, now) = (attempt.code, Instant::now());
        watch.log.push(attempt);
        // On a full disk, the next one is written with this one.
        watch.log.save(&self.request.directory).ok();
        let new = watch.check.judge(old, code, asked - watch.began);
        watch.due = due(now, &watch.check, new, now - watch.began);
        let clients = std::mem::take(&mut watch.clients);
        if new != old {
            if let Status::Running { health, .. } = &mut self.request.record.status {
                *health = Some(new);
            }
            self.save().ok();
        }
        if new.state != old.state {
            self.tell(Action::Health(new.state.word()));
        }
        self.answer_checks(clients, &FromSupervisor::Exited(code));
    }

    fn answer_checks(&mut self, clients: Vec<u64>, answer: &FromSupervisor) {
        clients.into_iter().for_each(|client| self.clients.tell(client, answer, &[]));
    }

    fn health(&self) -> Health {
        match &self.request.record.status {
            Status::Running { health: Some(health), .. } => *health,
            _ => Health::STARTING,
        }
    }
}

/// Whether the program is on its way out and takes along what is in its pid
/// namespace: its end shows only when they are gone. It has no memory any more
/// then, and so no executable (do_exit of the kernel: exit_mm, exit_notify).
fn is_ending(started: &Started) -> bool {
    let executable = std::fs::read_link(format!("/proc/{}/exe", started.pid));
    executable.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// When to ask next. A time of the config is at most 292 years (2^63 ns), far
/// from the end of the clock.
fn due(now: Instant, check: &Check, health: Health, running: Duration) -> Instant {
    now + check.wait(health, running)
}

impl Prober {
    /// When something has to be done, if nothing happens; `is_quiet` while
    /// nobody is to be asked.
    pub(super) fn deadline(&self, is_quiet: bool) -> Option<Instant> {
        let watch = self.watch.as_ref()?;
        match &watch.probe {
            Some(probe) if probe.is_late => None,
            Some(probe) => Some(probe.began + watch.check.timeout),
            None => (!is_quiet).then_some(watch.due),
        }
    }

    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let Some(probe) = self.probe() else { return Vec::new() };
        let output = (!probe.output.has_ended).then(|| PollFd::new(probe.output.pipe.as_fd(), PollFlags::POLLIN));
        probe.session.interests().into_iter().chain(output).collect()
    }

    /// Whether `client` waits for an answer.
    pub(super) fn has(&self, client: u64) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.clients.contains(&client))
    }

    /// The processes of a probe.
    pub(super) fn children(&self) -> impl Iterator<Item = &OwnedFd> {
        self.probe().into_iter().flat_map(|probe| probe.session.children())
    }

    fn probe(&self) -> Option<&Probe> {
        self.watch.as_ref()?.probe.as_ref()
    }
}

impl Captured {
    /// Takes what is there; what is too much is thrown away.
    fn turn(&mut self) {
        let mut buffer = [0_u8; limits::HEALTH_OUTPUT_BYTES_MAX];
        while !self.has_ended {
            match nix::unistd::read(self.pipe.as_fd(), &mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    let room = limits::HEALTH_OUTPUT_BYTES_MAX - self.bytes.len();
                    self.bytes.extend(buffer.iter().take(count.min(room)));
                    self.has_more |= count > room;
                    if count > room {
                        // A probe that never stops talking does not hold the loop.
                        return;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => self.has_ended = true,
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.has_more {
            text.push_str("...");
        }
        text
    }
}
