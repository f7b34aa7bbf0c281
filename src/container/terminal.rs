//! Between the user's terminal and the container's: bytes each way, neither
//! able to hold up the other.
//!
//! What the user types waits here while the program does not read; what the
//! program prints is thrown away once nobody reads it, so that the program is
//! not stopped by a `head -1` outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::Result;
use crate::kernel::terminal::{self, Raw};
use crate::kernel::{Errno, file};

/// Bytes moved at once.
const CHUNK: usize = 16 << 10;

/// The terminal's end-of-file character, as a person would type it.
const END_OF_TRANSMISSION: u8 = 4;

/// The command's side of a container's terminal.
pub(super) struct Relay {
    /// The master, non-blocking; `None` once the last program has closed it.
    master: Option<OwnedFd>,
    /// Typed, but not taken by the terminal yet.
    typed: Vec<u8>,
    /// Whether standard input still has something for it.
    stdin: bool,
    /// Whether anybody reads standard output.
    stdout: bool,
    /// Puts the user's terminal back when dropped.
    _raw: Option<Raw>,
}

/// Which way something can move.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    pub(super) output: bool,
    pub(super) input: bool,
    pub(super) typed: bool,
}

impl Relay {
    /// Takes over the master; with `stdin`, the user's keys go to it unchanged.
    pub(super) fn new(master: OwnedFd, stdin: bool) -> Result<Self> {
        file::set_nonblocking(master.as_fd())?;
        let keyboard = std::io::stdin();
        let raw = match stdin && terminal::is_terminal(keyboard.as_fd()) {
            true => Some(Raw::enter(keyboard.as_fd())?),
            false => None,
        };
        Ok(Self { master: Some(master), typed: Vec::new(), stdin, stdout: true, _raw: raw })
    }

    /// The descriptors to wait for: the master first, then standard input if
    /// there is room for what it has.
    pub(super) fn interests<'a>(&'a self, keyboard: &'a std::io::Stdin) -> Vec<PollFd<'a>> {
        let Some(master) = &self.master else { return Vec::new() };
        let mut events = PollFlags::POLLIN;
        if !self.typed.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(master.as_fd(), events)];
        if self.stdin && self.typed.is_empty() {
            fds.push(PollFd::new(keyboard.as_fd(), PollFlags::POLLIN));
        }
        fds
    }

    /// What [`Relay::interests`] found, after waiting.
    pub(super) fn ready(fds: &[PollFd<'_>]) -> Ready {
        let events = |index: usize| fds.get(index).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let master = events(0);
        Ready {
            output: master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            typed: master.contains(PollFlags::POLLOUT),
            input: !events(1).is_empty(),
        }
    }

    /// Moves what can move.
    pub(super) fn turn(&mut self, ready: Ready) {
        if ready.output {
            self.copy_output();
        }
        if ready.input {
            self.read_keys();
        }
        if ready.typed || ready.input {
            self.pass_keys();
        }
    }

    /// Passes on what the program wrote right before it ended.
    pub(super) fn drain(&mut self) {
        while let Some(master) = &self.master {
            let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            let has_bytes = matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(1))
                && fds.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLIN)));
            if !has_bytes {
                return;
            }
            self.copy_output();
        }
    }

    /// EIO: the last program on the terminal has closed it.
    fn copy_output(&mut self) {
        let Some(master) = &self.master else { return };
        let mut buffer = [0_u8; CHUNK];
        match nix::unistd::read(master.as_fd(), &mut buffer) {
            Ok(count) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.stdout = self.stdout && write_all(std::io::stdout().as_fd(), bytes);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => self.master = None,
        }
    }

    fn read_keys(&mut self) {
        let mut buffer = [0_u8; CHUNK];
        match nix::unistd::read(std::io::stdin().as_fd(), &mut buffer) {
            Ok(count) if count > 0 => self.typed.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => {
                self.stdin = false;
                self.typed.push(END_OF_TRANSMISSION);
            }
        }
    }

    fn pass_keys(&mut self) {
        let Some(master) = &self.master else { return };
        match nix::unistd::write(master.as_fd(), &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.typed.clear(),
        }
    }
}

/// False where nobody reads any more.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                // Whatever it says, the next write tells.
                nix::poll::poll(&mut fds, PollTimeout::NONE).ok();
            }
            Err(_) => return false,
        }
    }
    true
}
