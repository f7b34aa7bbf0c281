//! The command's side of a container in the foreground: forwards signals and
//! the terminal, and waits for the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

use super::supervisor::{FromSupervisor, ToSupervisor};
use crate::error::{Failure, Result};
use crate::kernel::Errno;
use crate::kernel::signal::Signals;
use crate::kernel::terminal::{self, Raw};
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

/// Bytes moved at once between the terminals.
const CHUNK: usize = 16 << 10;

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
    let mut session = Session { channel, stdin, console: None, raw: None, insisted: 0, observer };
    loop {
        if let Some(code) = session.turn(&signals)? {
            session.drain();
            return Ok(code);
        }
    }
}

struct Session<'a> {
    channel: &'a Channel,
    /// Whether our standard input still has something for the terminal.
    stdin: bool,
    console: Option<OwnedFd>,
    /// Restores our terminal when dropped.
    raw: Option<Raw>,
    insisted: u32,
    observer: &'a mut dyn Observer,
}

/// Which descriptors have something.
struct Ready {
    channel: bool,
    signals: bool,
    console: bool,
    stdin: bool,
}

impl Session<'_> {
    /// Waits for one thing to happen and deals with it; `Some` at the end.
    fn turn(&mut self, signals: &Signals) -> Result<Option<i32>> {
        let ready = self.wait(signals)?;
        if ready.console {
            self.copy_output();
        }
        if ready.stdin {
            self.copy_input();
        }
        if ready.signals {
            while let Some(number) = signals.next()? {
                self.forward(number)?;
            }
        }
        if ready.channel { self.hear() } else { Ok(None) }
    }

    fn wait(&self, signals: &Signals) -> Result<Ready> {
        let stdin = std::io::stdin();
        let mut fds =
            vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(console) = &self.console {
            fds.push(PollFd::new(console.as_fd(), PollFlags::POLLIN));
            if self.stdin {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready { channel: ready(0), signals: ready(1), console: ready(2), stdin: ready(3) })
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
        self.console = console;
        let stdin = std::io::stdin();
        if terminal::is_terminal(stdin.as_fd()) {
            self.forward_size()?;
            if self.stdin {
                self.raw = Some(Raw::enter(stdin.as_fd())?);
            }
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
            Ok(size) if self.console.is_some() => self.tell(&ToSupervisor::Resize(size)),
            _ => Ok(()),
        }
    }

    /// A supervisor that is ending does not listen any more; what it said
    /// before is read next.
    fn tell(&self, message: &ToSupervisor) -> Result<()> {
        self.channel.send_if_open(message, &[])
    }

    /// Terminal to standard output. EIO: the last program on it has closed it.
    fn copy_output(&mut self) -> bool {
        let Some(console) = &self.console else { return false };
        let copied = copy_once(console.as_fd(), std::io::stdout().as_fd());
        if !copied {
            self.console = None;
        }
        copied
    }

    /// Standard input to the terminal. Its end is passed on as the terminal's
    /// end-of-file character, as a person would type it.
    fn copy_input(&mut self) {
        const END_OF_TRANSMISSION: &[u8] = &[4];
        let Some(console) = &self.console else { return };
        if !copy_once(std::io::stdin().as_fd(), console.as_fd()) {
            self.stdin = false;
            write_all(console.as_fd(), END_OF_TRANSMISSION);
        }
    }

    /// What the program wrote right before it ended is still in the terminal.
    fn drain(&mut self) {
        while let Some(console) = &self.console {
            let mut fds = [PollFd::new(console.as_fd(), PollFlags::POLLIN)];
            let has_bytes = matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(1))
                && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
            if !has_bytes || !self.copy_output() {
                return;
            }
        }
    }
}

/// Moves what is there; false at the end of either side.
fn copy_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0_u8; CHUNK];
    match nix::unistd::read(from, &mut buffer) {
        Ok(count) if count > 0 => write_all(to, buffer.get(..count).unwrap_or_default()),
        Err(Errno::EINTR | Errno::EAGAIN) => true,
        _ => false,
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                nix::poll::poll(&mut fds, PollTimeout::NONE).ok();
            }
            Err(_) => return false,
        }
    }
    true
}
