//! Between the clone and the image's program: what init says, and commands that
//! cannot wait for that.
//!
//! Nothing here waits for init: in a pid namespace that it shares with another
//! container, that one's programs can stop it before it has become the image's
//! program. So the start has a deadline, it ends with the command that asked for
//! it, and with a stop or a kill; whatever else is asked for waits until the
//! program runs. Output is not touched: who started the program is to have all
//! of it, and gets its pipes afterwards.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::super::control::ToSupervisor;
use super::super::record::Record;
use super::Supervisor;
use super::clients::{FIRST, Said};
use crate::error::{Failure, Result};
use crate::limits;
use crate::process::channel::{Channel, Incoming, Received, Taken};
use crate::sandbox::stage::init::FromInit;
use crate::sandbox::start::Started;

/// A start that takes longer shows in lists; one that does not costs no write.
const UNTOLD: Duration = Duration::from_millis(100);

/// A start under way.
#[derive(Default)]
pub(super) struct Starting {
    /// What clients said that is heeded when the program runs.
    deferred: Vec<(u64, Received<ToSupervisor>)>,
    /// Nobody wants it any more.
    pub(super) is_called_off: bool,
}

impl Supervisor {
    /// Passes on what init says until it has become the image's program.
    pub(super) fn follow_init(&mut self, started: &Started) -> Result<()> {
        let mut incoming = Incoming::default();
        let began = Instant::now();
        let (until, mut show_at) = (began + limits::START_PATIENCE, Some(began + UNTOLD));
        loop {
            match incoming.take::<FromInit>(&started.channel)? {
                Taken::Closed if !self.starting.is_called_off => return Ok(()),
                Taken::Closed => {}
                Taken::Message(received) => {
                    self.heed_init(received, started.pid)?;
                    continue;
                }
                Taken::Nothing => {}
            }
            let now = Instant::now();
            if self.starting.is_called_off {
                return Err(Failure::user("it was stopped before its program ran"));
            }
            if now >= until {
                let seconds = limits::START_PATIENCE.as_secs();
                return Err(Failure::host(format!(
                    "its first process has not become its program in {seconds} seconds"
                ))
                .hint("with --pid container:NAME, that container can stop it"));
            }
            if show_at.take_if(|at| now >= *at).is_some() {
                self.show_unfinished();
            }
            self.wait_for_init(&started.channel, show_at.unwrap_or(until))?;
        }
    }

    fn heed_init(&mut self, received: Received<FromInit>, pid: i32) -> Result<()> {
        match received.message {
            FromInit::Notice(notice) => self.notice(notice),
            FromInit::Console => {
                let master = received.descriptors.into_iter().next();
                self.take_terminal(master.ok_or_else(|| Failure::bug("a terminal without a descriptor"))?)?;
            }
            FromInit::Link(marked) => {
                let device = received.descriptors.into_iter().next();
                let device = device.ok_or_else(|| Failure::bug("a network without a descriptor"))?;
                self.take_device(device, pid, marked)?;
            }
            FromInit::Steps(steps) => self.steps.done.extend(steps),
            FromInit::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Waits until init or a client says something, at most until `until`.
    fn wait_for_init(&mut self, init: &Channel, until: Instant) -> Result<()> {
        let at_once = self.clients.has_lost().then(Instant::now);
        let deadline = [Some(until), at_once, self.clients.deadline(|client| self.is_engaged(client))];
        let mut fds = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.clients.interests());
        super::wait(&mut fds, deadline.into_iter().flatten().min())?;
        for (client, said) in self.hear() {
            match said {
                Said::Message(received) => self.heed_early(client, received),
                Said::Left => {
                    // Who asks for a start and goes away does not want it.
                    self.starting.is_called_off |= client == FIRST && self.started_ns == 0;
                    self.see_off(client, None);
                }
            }
        }
        // Between two starts, that is how a container is stopped.
        self.starting.is_called_off |= self.stopping.take().is_some();
        Ok(())
    }

    fn heed_early(&mut self, client: u64, received: Received<ToSupervisor>) {
        match received.message {
            ToSupervisor::Stop(_) | ToSupervisor::Wait => self.heed(client, Said::Message(received), None),
            // What is true will be written when it is.
            ToSupervisor::WriteDown => self.clients.answer(client, Ok(())),
            // That is what is being done.
            ToSupervisor::Restart(_) => self.clients.expect_start(client),
            ToSupervisor::Signal(libc::SIGKILL) => {
                self.starting.is_called_off = true;
                self.clients.answer(client, Ok(()));
            }
            _ if self.starting.deferred.len() < limits::CLIENTS_MAX => self.starting.deferred.push((client, received)),
            _ => self.clients.answer(client, Err(Failure::user("it is being started"))),
        }
    }

    /// Does what was asked for while the program did not run yet.
    pub(super) fn heed_deferred(&mut self, started: &Started) {
        for (client, received) in std::mem::take(&mut self.starting.deferred) {
            self.heed(client, Said::Message(received), Some(started));
        }
    }

    /// Whether `client` asked for something that it waits for still.
    pub(super) fn has_deferred(&self, client: u64) -> bool {
        self.starting.deferred.iter().any(|(asker, _)| *asker == client)
    }

    /// Has a container that was made for this start shown in lists, so that it
    /// can be found and stopped. Where its supervisor is killed, it is nothing.
    fn show_unfinished(&self) {
        if self.request.is_new && self.started_ns == 0 {
            // On a full disk it does not show.
            Record { unfinished: true, ..self.request.record.clone() }.save(&self.request.directory).ok();
        }
    }
}
