//! What commands ask of a supervisor.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::super::control::{Stop, ToSupervisor, Update};
use super::super::events::Action;
use super::super::record::Status;
use super::super::{signals, store};
use super::clients::{FIRST, Said};
use super::{Supervisor, pause};
use crate::error::{Failure, Result};
use crate::kernel::process;
use crate::limits;
use crate::process::channel::Received;
use crate::sandbox::spec::Namespace;
use crate::sandbox::start::Started;

/// A program that was asked to end.
pub(super) struct Stopping {
    /// When it is made to.
    pub(super) kill_at: Option<Instant>,
    /// It is started again then.
    pub(super) then_start: bool,
}

impl Supervisor {
    /// Does what a client said. `payload` is the program, where it runs.
    pub(super) fn heed(&mut self, client: u64, said: Said, payload: Option<&Started>) {
        let Received { message, descriptors } = match said {
            Said::Message(received) => received,
            Said::Left => return self.see_off(client, payload),
        };
        let result = match message {
            ToSupervisor::Start(_) => Err(Failure::bug("a supervisor was told twice to start")),
            ToSupervisor::Attach { stdin } => match self.attach(client, stdin, false) {
                // The pipes are the answer.
                Ok(()) => return self.tell(Action::Attach),
                failed => failed,
            },
            ToSupervisor::Exec(exec) => match self.exec(client, &exec, &descriptors, payload) {
                // What comes of it is the answer.
                Ok(()) => return,
                failed => failed,
            },
            ToSupervisor::Signal(number) if self.sessions.has(client) => return self.sessions.signal(client, number),
            ToSupervisor::Hangup if self.sessions.has(client) => return self.sessions.hang_up(client),
            ToSupervisor::Detach if self.sessions.has(client) => return self.sessions.leave(client),
            ToSupervisor::Detach => {
                self.owner = self.owner.filter(|owner| *owner != client);
                self.output.untap(client);
                self.tell(Action::Detach);
                Ok(())
            }
            ToSupervisor::Signal(number) => self.signal(number, payload),
            ToSupervisor::Hangup => {
                // The last copy of the master: the kernel hangs up the terminal.
                self.terminal = None;
                self.output.hang_up();
                return;
            }
            ToSupervisor::Stop(stop) => {
                self.clients.expect_end(client);
                return self.stop(stop, false, payload);
            }
            ToSupervisor::Restart(stop) => {
                self.clients.expect_start(client);
                return self.stop(stop, true, payload);
            }
            ToSupervisor::Wait => return self.clients.expect_end(client),
            ToSupervisor::CheckHealth => match self.check_health(client, payload) {
                // The probe's exit status is the answer.
                Ok(()) => return,
                failed => failed,
            },
            ToSupervisor::Pause => self.pause(true, payload),
            ToSupervisor::Unpause => self.pause(false, payload),
            ToSupervisor::WriteDown => self.save(),
            ToSupervisor::Rename(name) => self.rename(&name),
            ToSupervisor::Update(update) => self.update(&update),
        };
        // The command that launched us asks for signals without an answer.
        if client != FIRST {
            self.clients.answer(client, result);
        }
    }

    /// A client is gone.
    pub(super) fn see_off(&mut self, client: u64, payload: Option<&Started>) {
        self.output.untap(client);
        self.sessions.abandon(client, &mut self.clients);
        if self.owner == Some(client) {
            self.owner = None;
            // A container in the foreground ends with its command.
            self.stop(Stop { signal: Some(libc::SIGKILL), timeout_s: Some(0) }, false, payload);
        }
    }

    fn signal(&mut self, number: i32, payload: Option<&Started>) -> Result<()> {
        let Some(started) = payload else {
            return Err(Failure::user("it is not running").errno(libc::ESRCH));
        };
        if number == libc::SIGKILL || number == self.stop_signal() {
            // Who asks it to end does not want to see it again.
            self.request.record.stopped_by_user = true;
        }
        process::pidfd_send_signal(started.pidfd.as_fd(), number)?;
        self.tell(Action::Kill(number));
        Ok(())
    }

    fn stop_signal(&self) -> i32 {
        let name = self.request.record.stop_signal.as_deref();
        name.and_then(signals::number).unwrap_or(libc::SIGTERM)
    }

    /// Asks the program to end, and sees to it that it does.
    fn stop(&mut self, stop: Stop, then_start: bool, payload: Option<&Started>) {
        self.request.record.stopped_by_user = true;
        let seconds = stop.timeout_s.or(self.request.record.stop_timeout_s).unwrap_or(limits::STOP_TIMEOUT_S);
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        let Some(started) = payload else {
            // It is between two starts.
            self.stopping = Some(Stopping { kill_at: None, then_start });
            return;
        };
        let pidfd = started.pidfd.as_fd();
        let is_patient = patience != Some(Duration::ZERO);
        let first = if is_patient { stop.signal.unwrap_or_else(|| self.stop_signal()) } else { libc::SIGKILL };
        process::pidfd_send_signal(pidfd, first).ok();
        self.tell(Action::Kill(first));
        if is_patient {
            // A program that is stopped hears nothing else.
            if self.is_paused() {
                self.pause(false, payload).ok();
            }
        }
        // What was killed at once needs no second time.
        let kill_at = patience.filter(|_| is_patient).and_then(|patience| Instant::now().checked_add(patience));
        self.stopping = Some(Stopping { kill_at, then_start });
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.request.record.status, Status::Running { paused: true, .. })
    }

    fn pause(&mut self, wanted: bool, payload: Option<&Started>) -> Result<()> {
        let Some(started) = payload else { return Err(Failure::user("it is not running")) };
        if self.is_paused() == wanted {
            return Err(Failure::user(if wanted { "it is paused already" } else { "it is not paused" }));
        }
        match &self.cgroup {
            Some(group) => group.freeze(wanted)?,
            None if self.request.spec.namespaces.pid != Namespace::Private => {
                let cause = "which processes are its own is known only in a pid namespace or a cgroup of its own";
                return Err(Failure::host(cause).hint("leave out --pid"));
            }
            None => pause::signal_all(started, if wanted { libc::SIGSTOP } else { libc::SIGCONT })?,
        }
        if let Status::Running { paused, .. } = &mut self.request.record.status {
            *paused = wanted;
        }
        self.pause_health();
        self.sessions.renew();
        self.tell(if wanted { Action::Pause } else { Action::Unpause });
        self.save()
    }

    /// All of it, or nothing.
    fn update(&mut self, update: &Update) -> Result<()> {
        let before = self.request.record.clone();
        let undo = update.limits.as_deref().map(|change| self.change_limits(change)).transpose()?;
        update.apply(&mut self.request.record);
        let saved = self.save();
        if saved.is_err() {
            self.request.record = before;
            undo.into_iter().for_each(|undo| self.undo_limits(undo));
        }
        saved
    }

    fn rename(&mut self, name: &str) -> Result<()> {
        store::rename(&self.paths, &self.request.directory, &mut self.request.record, name)
    }
}

impl super::clients::Clients {
    /// Whoever still waits for a start is told that there is none.
    pub(super) fn answer_rest(&mut self) {
        self.tell_failure(&Failure::user("it has been stopped"));
    }
}
