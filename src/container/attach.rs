//! The command's side of a container in the foreground: forwards signals and
//! the terminal, and waits for the end.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

use super::supervisor::{FromSupervisor, ToSupervisor};
use super::terminal::{Ready, Relay};
use crate::error::{Failure, Result};
use crate::kernel::Errno;
use crate::kernel::signal::Signals;
use crate::kernel::terminal;
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

/// How often INT or TERM may be ignored by the program before it is killed, as
/// `docker run` counts it.
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

/// Stays with a container until it ends; returns its exit status. `stdin` is
/// whether the caller's input goes to the terminal (`-i`).
pub fn attach(channel: &Channel, stdin: bool, observer: &mut dyn Observer) -> Result<i32> {
    let signals = Signals::block(&FORWARDED)?;
    let mut session = Session { channel, stdin, relay: None, insisted: 0, observer };
    loop {
        if let Some(code) = session.turn(&signals)? {
            if let Some(relay) = &mut session.relay {
                relay.drain();
            }
            return Ok(code);
        }
    }
}

struct Session<'a> {
    channel: &'a Channel,
    /// Whether our standard input goes to the terminal.
    stdin: bool,
    relay: Option<Relay>,
    insisted: u32,
    observer: &'a mut dyn Observer,
}

/// Which descriptors have something.
struct Woken {
    channel: bool,
    signals: bool,
    terminal: Ready,
}

impl Session<'_> {
    /// Waits for one thing to happen and deals with it; `Some` at the end.
    fn turn(&mut self, signals: &Signals) -> Result<Option<i32>> {
        let woken = self.wait(signals)?;
        if let Some(relay) = &mut self.relay {
            relay.turn(woken.terminal);
        }
        if woken.signals {
            while let Some(number) = signals.next()? {
                self.forward(number)?;
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
            Err(Errno::EINTR) => return Ok(Woken { channel: false, signals: false, terminal: Ready::default() }),
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        let any = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        let terminal = Relay::ready(fds.get(2..).unwrap_or_default());
        Ok(Woken { channel: any(0), signals: any(1), terminal })
    }

    fn hear(&mut self) -> Result<Option<i32>> {
        let Some(received) = self.channel.receive::<FromSupervisor>()? else {
            return Err(Failure::host("the container's supervisor was killed; its processes died with it"));
        };
        match received.message {
            FromSupervisor::Notice(notice) => self.observer.notice(&notice),
            FromSupervisor::Steps(steps) => self.observer.steps(&steps),
            FromSupervisor::Started => {}
            FromSupervisor::Console => self.take_console(received.descriptors.into_iter().next())?,
            FromSupervisor::Exited(code) => return Ok(Some(code)),
            FromSupervisor::Failed(failure) => return Err(failure),
        }
        Ok(None)
    }

    fn take_console(&mut self, console: Option<OwnedFd>) -> Result<()> {
        if let Some(master) = console {
            self.relay = Some(Relay::new(master, self.stdin)?);
            self.forward_size()?;
        }
        Ok(())
    }

    fn forward(&mut self, number: i32) -> Result<()> {
        if number == libc::SIGWINCH {
            return self.forward_size();
        }
        let mut number = number;
        if matches!(number, libc::SIGINT | libc::SIGTERM) {
            self.insisted += 1;
            if self.insisted >= PATIENCE {
                number = libc::SIGKILL;
            }
        }
        self.tell(&ToSupervisor::Signal(number))
    }

    fn forward_size(&mut self) -> Result<()> {
        match terminal::size(std::io::stdin().as_fd()) {
            Ok(size) if self.relay.is_some() => self.tell(&ToSupervisor::Resize(size)),
            _ => Ok(()),
        }
    }

    /// A supervisor that is ending does not listen any more; what it said
    /// before is read next.
    fn tell(&self, message: &ToSupervisor) -> Result<()> {
        self.channel.send_if_open(message, &[])
    }
}
