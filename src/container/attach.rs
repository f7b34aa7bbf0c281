//! The command's side of a container that runs before its eyes: forwards
//! signals and streams, and waits for the end.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

use super::control::{FromSupervisor, ToSupervisor};
pub use super::relay::DetachKeys;
use super::relay::{Relay, Turn};
use crate::error::{Failure, Result};
use crate::kernel::Errno;
use crate::kernel::signal::Signals;
use crate::process::channel::Channel;
use crate::process::steps::Step;

/// Signals that are meant for the container's program.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// How often INT or TERM may be ignored by the program before it is killed, or
/// left alone if it is not the command's own, as docker counts it.
const PATIENCE: u32 = 3;

/// What the caller is told while the container runs.
pub trait Observer {
    /// One line for the user.
    fn notice(&mut self, notice: &str);
    /// Whether to tell of steps.
    fn wants_steps(&self) -> bool;
    /// What was done and how long it took.
    fn steps(&mut self, steps: &[Step]);
}

/// How a command stays with a container.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The command's input goes to the program (`-i`).
    pub stdin: bool,
    /// Signals that the command gets are passed on (`--sig-proxy`).
    pub forwards_signals: bool,
    /// The container ends with the command, unless that is detached.
    pub is_owner: bool,
    /// What detaches it.
    pub detach_keys: DetachKeys,
}

impl Attachment {
    fn signals(&self) -> &'static [Signal] {
        if self.forwards_signals { &FORWARDED } else { &[Signal::SIGWINCH] }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The program ended with this exit status.
    Exited(i32),
    /// The container goes on without the command.
    Detached,
}

/// Waits until the program runs.
pub fn follow_start(channel: &Channel, observer: &mut dyn Observer) -> Result<()> {
    loop {
        let Some(received) = channel.receive::<FromSupervisor>()? else { return Err(killed()) };
        match received.message {
            FromSupervisor::Notice(notice) => observer.notice(&notice),
            FromSupervisor::Steps(steps) => observer.steps(&steps),
            FromSupervisor::Failed(failure) => return Err(failure),
            FromSupervisor::Started | FromSupervisor::Exited(_) => return Ok(()),
            FromSupervisor::Streams { .. } | FromSupervisor::Done => {}
        }
    }
}

/// Keeps signals that are to be passed on until [`attach`] reads them. To be
/// called before the program can run: it may be heard of, and be sent one,
/// before its command has got as far as that.
pub fn hold_signals(attachment: &Attachment) -> Result<()> {
    Ok(Signals::block(attachment.signals()).map(drop)?)
}

/// Stays with a container until it ends or the user goes.
pub fn attach(channel: &Channel, attachment: &Attachment, observer: &mut dyn Observer) -> Result<End> {
    let signals = Signals::block(attachment.signals())?;
    let mut session = Session { channel, attachment, relay: None, insisted: 0, notices: Vec::new(), observer };
    loop {
        if let Some(end) = session.turn(&signals)? {
            if let (End::Exited(_), Some(relay)) = (end, &mut session.relay) {
                relay.drain();
            }
            // The user's terminal is as it was, and all that the program said is there.
            session.relay = None;
            session.notices.iter().for_each(|notice| session.observer.notice(notice));
            return Ok(end);
        }
    }
}

struct Session<'a> {
    channel: &'a Channel,
    attachment: &'a Attachment,
    relay: Option<Relay>,
    insisted: u32,
    /// What the user is told afterwards: the program has the terminal.
    notices: Vec<String>,
    observer: &'a mut dyn Observer,
}

/// Which descriptors have something.
#[derive(Default)]
struct Woken {
    channel: bool,
    signals: bool,
    keys: bool,
}

impl Session<'_> {
    /// Waits for one thing to happen and deals with it; `Some` at the end.
    fn turn(&mut self, signals: &Signals) -> Result<Option<End>> {
        let woken = self.wait(signals)?;
        match self.relay.as_mut().map_or(Turn::On, |relay| relay.turn(woken.keys)) {
            Turn::On => {}
            Turn::Unread if !self.attachment.is_owner => return Ok(Some(End::Detached)),
            Turn::Unread => {
                // As if a window had been closed, or a pipe's reader had gone.
                self.relay = None;
                self.tell(&ToSupervisor::Hangup)?;
            }
            Turn::Detached => {
                self.tell(&ToSupervisor::Detach)?;
                return Ok(Some(End::Detached));
            }
        }
        if woken.signals {
            while let Some(number) = signals.next()? {
                self.forward(number)?;
                if self.insisted >= PATIENCE && !self.attachment.is_owner {
                    return Ok(Some(End::Detached));
                }
            }
        }
        if woken.channel { self.hear() } else { Ok(None) }
    }

    fn wait(&self, signals: &Signals) -> Result<Woken> {
        let keyboard = std::io::stdin();
        let mut fds =
            vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(relay) = &self.relay {
            fds.extend(relay.interests(&keyboard));
        }
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Woken::default()),
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        let any = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        let keys = self.relay.as_ref().is_some_and(|relay| relay.has_keys(fds.get(2..).unwrap_or_default()));
        Ok(Woken { channel: any(0), signals: any(1), keys })
    }

    fn hear(&mut self) -> Result<Option<End>> {
        let Some(received) = self.channel.receive::<FromSupervisor>()? else { return Err(killed()) };
        match received.message {
            // There are few: an end has one reason.
            FromSupervisor::Notice(notice) if self.relay.is_some() => self.notices.push(notice),
            FromSupervisor::Notice(notice) => self.observer.notice(&notice),
            FromSupervisor::Steps(steps) => self.observer.steps(&steps),
            FromSupervisor::Started | FromSupervisor::Done => {}
            FromSupervisor::Streams { terminal } => {
                let Attachment { stdin, detach_keys, .. } = self.attachment;
                let relay = Relay::new(received.descriptors, terminal, *stdin, detach_keys)?;
                relay.resize();
                self.relay = Some(relay);
            }
            FromSupervisor::Exited(code) => return Ok(Some(End::Exited(code))),
            FromSupervisor::Failed(failure) => return Err(failure),
        }
        Ok(None)
    }

    fn forward(&mut self, number: i32) -> Result<()> {
        if number == libc::SIGWINCH {
            self.relay.iter().for_each(Relay::resize);
            return Ok(());
        }
        let mut number = number;
        if matches!(number, libc::SIGINT | libc::SIGTERM) {
            self.insisted += 1;
            if self.attachment.is_owner && self.insisted >= PATIENCE {
                number = libc::SIGKILL;
            }
        }
        self.tell(&ToSupervisor::Signal(number))
    }

    /// A supervisor that is ending does not listen any more; what it said
    /// before is read next.
    fn tell(&self, message: &ToSupervisor) -> Result<()> {
        self.channel.send_if_open(message, &[])
    }
}

/// What is said where a supervisor ends without a word.
pub fn killed() -> Failure {
    Failure::host("the container's supervisor was killed; its processes died with it")
}
