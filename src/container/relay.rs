//! Between the user's streams and a container's: bytes each way, neither able
//! to hold up the other.
//!
//! What the user types waits here while the program does not read. Typed into
//! a terminal, a sequence of keys takes the user away and leaves the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::{Failure, Result};
use crate::kernel::terminal::{self, Raw};
use crate::kernel::{Errno, file};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;

/// The terminal's end-of-file character, as a person would type it.
const END_OF_TRANSMISSION: u8 = 4;

/// The keys that detach from a terminal; empty for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(pub Vec<u8>);

impl Default for DetachKeys {
    /// Ctrl-P, Ctrl-Q: docker's and podman's.
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

/// The command's side of a container's streams.
pub(super) struct Relay {
    /// What the program writes; the second is its standard error.
    outputs: Vec<(OwnedFd, Target)>,
    /// Where what the user types goes.
    sink: Option<OwnedFd>,
    /// The terminal's master, to tell it its size.
    terminal: Option<OwnedFd>,
    /// Typed, but not taken by the program yet.
    typed: Vec<u8>,
    /// Whether standard input still has something.
    stdin: bool,
    keys: Keys,
    /// Puts the user's terminal back when dropped.
    _raw: Option<Raw>,
}

#[derive(Clone, Copy)]
enum Target {
    Stdout,
    Stderr,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    On,
    /// Nobody reads our standard output any more.
    Unread,
    /// The user has typed the keys that detach.
    Detached,
}

impl Relay {
    /// Takes over what the supervisor sent with its Streams message. With
    /// `stdin`, what the user types goes to the program, unchanged if both
    /// have terminals.
    pub(super) fn new(descriptors: Vec<OwnedFd>, is_terminal: bool, stdin: bool, keys: &DetachKeys) -> Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| Failure::bug("streams without descriptors"));
        let mut outputs = vec![(next()?, Target::Stdout)];
        let mut terminal = None;
        let mut sink = None;
        if is_terminal {
            let master = next()?;
            file::set_nonblocking(master.as_fd())?;
            sink = Some(master.try_clone()?).filter(|_| stdin);
            terminal = Some(master);
        } else {
            outputs.push((next()?, Target::Stderr));
            if stdin {
                sink = descriptors.next();
            }
        }
        for (output, _) in &outputs {
            file::set_nonblocking(output.as_fd())?;
        }
        let keyboard = std::io::stdin();
        let raw = match is_terminal && stdin && terminal::is_terminal(keyboard.as_fd()) {
            true => Some(Raw::enter(keyboard.as_fd())?),
            false => None,
        };
        let keys = Keys { sequence: if raw.is_some() { keys.0.clone() } else { Vec::new() }, matched: 0 };
        Ok(Self { outputs, stdin: sink.is_some(), sink, terminal, typed: Vec::new(), keys, _raw: raw })
    }

    /// The descriptors to wait for: standard input is the last, if there is
    /// room for what it has.
    pub(super) fn interests<'a>(&'a self, keyboard: &'a std::io::Stdin) -> Vec<PollFd<'a>> {
        let mut fds: Vec<_> = self.outputs.iter().map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        if let Some(sink) = self.sink.as_ref().filter(|_| !self.typed.is_empty()) {
            fds.push(PollFd::new(sink.as_fd(), PollFlags::POLLOUT));
        }
        if self.wants_keys() {
            fds.push(PollFd::new(keyboard.as_fd(), PollFlags::POLLIN));
        }
        fds
    }

    fn wants_keys(&self) -> bool {
        self.stdin && self.sink.is_some() && self.typed.is_empty()
    }

    /// Whether [`Relay::interests`] found standard input ready.
    pub(super) fn has_keys(&self, fds: &[PollFd<'_>]) -> bool {
        self.wants_keys() && fds.last().and_then(PollFd::any) == Some(true)
    }

    /// Moves what can move.
    pub(super) fn turn(&mut self, has_keys: bool) -> Turn {
        if !self.copy_outputs() {
            return Turn::Unread;
        }
        if has_keys && self.read_keys() {
            return Turn::Detached;
        }
        self.pass_keys();
        Turn::On
    }

    /// Passes on all that the program wrote; its supervisor has closed the pipes.
    pub(super) fn drain(&mut self) {
        // A terminal itself may be open in other programs still: what is there now is all.
        let is_direct = self.outputs.iter().any(|(fd, _)| terminal::is_terminal(fd.as_fd()));
        let patience = if is_direct { PollTimeout::ZERO } else { PollTimeout::NONE };
        while self.copy_outputs() && !self.outputs.is_empty() {
            let mut fds: Vec<_> =
                self.outputs.iter().map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
            match nix::poll::poll(&mut fds, patience) {
                Ok(1..) | Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Tells the program's terminal the size of the user's.
    pub(super) fn resize(&self) {
        if let (Some(master), Ok(size)) = (&self.terminal, terminal::size(std::io::stdin().as_fd())) {
            terminal::resize(master.as_fd(), size).ok();
        }
    }

    /// One chunk of each; false where nobody reads it.
    fn copy_outputs(&mut self) -> bool {
        let mut buffer = vec![0_u8; CHUNK];
        let mut index = 0;
        while let Some((source, target)) = self.outputs.get(index) {
            match nix::unistd::read(source.as_fd(), &mut buffer) {
                Ok(count) if count > 0 => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let is_read = match target {
                        Target::Stdout => write_all(std::io::stdout().as_fd(), bytes),
                        Target::Stderr => write_all(std::io::stderr().as_fd(), bytes),
                    };
                    if !is_read {
                        return false;
                    }
                    index += 1;
                }
                Err(Errno::EINTR | Errno::EAGAIN) => index += 1,
                _ => drop(self.outputs.remove(index)),
            }
        }
        if self.outputs.is_empty() && self.terminal.is_some() {
            // Nobody has the terminal open: a closed one would wake us for ever.
            self.sink = None;
        }
        true
    }

    /// True where what was typed takes the user away.
    fn read_keys(&mut self) -> bool {
        let mut buffer = [0_u8; 16 << 10];
        match nix::unistd::read(std::io::stdin().as_fd(), &mut buffer) {
            Ok(count) if count > 0 => return self.keys.pass(buffer.get(..count).unwrap_or_default(), &mut self.typed),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => {
                self.stdin = false;
                if self.terminal.is_some() {
                    self.typed.push(END_OF_TRANSMISSION);
                }
            }
        }
        false
    }

    fn pass_keys(&mut self) {
        let Some(sink) = &self.sink else { return };
        while !self.typed.is_empty() {
            match nix::unistd::write(sink.as_fd(), &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The program reads no more.
                Err(_) => {
                    self.typed.clear();
                    self.sink = None;
                    return;
                }
            }
        }
        if !self.stdin {
            // All of it is there: the program sees the end.
            self.sink = None;
        }
    }
}

/// Watches what is typed for the sequence that detaches.
struct Keys {
    sequence: Vec<u8>,
    /// How much of it was typed last, and is not passed on yet.
    matched: usize,
}

impl Keys {
    /// Passes on what is no part of the sequence; true when it is complete.
    fn pass(&mut self, bytes: &[u8], typed: &mut Vec<u8>) -> bool {
        for byte in bytes {
            if self.sequence.get(self.matched) != Some(byte) {
                // What looked like the sequence was not.
                typed.extend_from_slice(self.sequence.get(..self.matched).unwrap_or_default());
                self.matched = 0;
            }
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return true;
                }
            } else {
                typed.push(*byte);
            }
        }
        false
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequence: &[u8], typed: &[&[u8]], passed: &[u8], detached: bool) {
        let mut keys = Keys { sequence: sequence.to_vec(), matched: 0 };
        let mut out = Vec::new();
        let found = typed.iter().any(|bytes| keys.pass(bytes, &mut out));
        assert_eq!((out.as_slice(), found), (passed, detached), "{typed:?}");
    }

    #[test]
    fn keys_that_detach() {
        check(b"\x10\x11", &[b"ls\n\x10\x11more"], b"ls\n", true);
        check(b"\x10\x11", &[b"\x10", b"\x11"], b"", true);
        check(b"\x10\x11", &[b"\x10a"], b"\x10a", false);
        check(b"\x10\x11", &[b"\x10", b"\x10", b"\x11"], b"\x10", true);
        check(b"", &[b"\x10\x11"], b"\x10\x11", false);
    }
}
