//! Standard streams that are regular files of the host, with a pipe between.
//!
//! A program that held the file itself could open it anew through
//! /proc/self/fd with other rights: empty the log it only appends to, write
//! what it only reads. Pipes, sockets and terminals have no such second life
//! and are handed on as they are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};

use crate::error::{Context, Result};
use crate::kernel::{Errno, file, process};

/// Bytes moved at once: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;

/// The pipes' ends for the program, by stream.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// The files, and our ends of the pipes.
#[derive(Default)]
pub(super) struct Files {
    input: Option<Input>,
    outputs: Vec<Output>,
}

struct Input {
    file: OwnedFd,
    pipe: OwnedFd,
    /// Read, but not taken by the pipe yet.
    waiting: Vec<u8>,
}

struct Output {
    pipe: OwnedFd,
    file: OwnedFd,
}

impl Files {
    /// Puts pipes before those of our own streams that are files; standard
    /// input only with `interactive`.
    pub(super) fn take(interactive: bool) -> Result<(Self, Ends)> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        Self::between(interactive.then(|| stdin.as_fd()), stdout.as_fd(), stderr.as_fd())
    }

    /// The same with any streams.
    pub(super) fn between(
        stdin: Option<BorrowedFd<'_>>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<(Self, Ends)> {
        let (mut files, mut ends) = (Self::default(), Ends::default());
        if let Some(stdin) = stdin.filter(|stdin| is_file(*stdin)) {
            let (read, write) = pipe()?;
            file::set_nonblocking(write.as_fd())?;
            files.input = Some(Input { file: copy(stdin)?, pipe: write, waiting: Vec::new() });
            ends.stdin = Some(read);
        }
        if is_file(stdout) {
            ends.stdout = Some(files.add_output(stdout)?);
        }
        if is_file(stderr) {
            // One file for both keeps the order of what is written to it.
            let same = ends.stdout.as_ref().filter(|_| is_same(stdout, stderr));
            ends.stderr = Some(match same {
                Some(end) => copy(end.as_fd())?,
                None => files.add_output(stderr)?,
            });
        }
        Ok((files, ends))
    }

    /// Whether nothing can move any more.
    pub(super) fn is_over(&self) -> bool {
        self.input.is_none() && self.outputs.is_empty()
    }

    fn add_output(&mut self, file: BorrowedFd<'_>) -> Result<OwnedFd> {
        let (read, write) = pipe()?;
        file::set_nonblocking(read.as_fd())?;
        self.outputs.push(Output { pipe: read, file: copy(file)? });
        Ok(write)
    }

    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let outputs = self.outputs.iter().map(|output| PollFd::new(output.pipe.as_fd(), PollFlags::POLLIN));
        let input = self.input.iter().map(|input| PollFd::new(input.pipe.as_fd(), PollFlags::POLLOUT));
        outputs.chain(input).collect()
    }

    /// Moves what can move.
    pub(super) fn turn(&mut self) {
        self.outputs.retain_mut(Output::turn);
        if self.input.as_mut().is_some_and(|input| !input.turn()) {
            self.input = None;
        }
    }

    /// Moves what a program wrote before it ended.
    pub(super) fn drain(&mut self) {
        self.input = None;
        // Each turn moves until the pipe is empty.
        self.outputs.retain_mut(Output::turn);
    }
}

impl Output {
    /// False at the end, and where the file takes no more (ENOSPC): then the
    /// program is told by EPIPE.
    fn turn(&mut self) -> bool {
        let mut buffer = vec![0_u8; CHUNK];
        loop {
            match nix::unistd::read(self.pipe.as_fd(), &mut buffer) {
                Ok(0) => return false,
                Ok(count) if write_all(self.file.as_fd(), buffer.get(..count).unwrap_or_default()) => {}
                Ok(_) => return false,
                Err(Errno::EINTR) => {}
                Err(errno) => return errno == Errno::EAGAIN,
            }
        }
    }
}

impl Input {
    /// False at the end of the file, and where the program reads no more.
    fn turn(&mut self) -> bool {
        if self.waiting.is_empty() {
            let mut buffer = vec![0_u8; CHUNK];
            match nix::unistd::read(self.file.as_fd(), &mut buffer) {
                Ok(count) if count > 0 => self.waiting.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(Errno::EINTR) => return true,
                _ => return false,
            }
        }
        match nix::unistd::write(self.pipe.as_fd(), &self.waiting) {
            Ok(count) => drop(self.waiting.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return false,
        }
        true
    }
}

/// A pipe that every user in the container may open anew (/dev/stdout).
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = process::pipe()?;
    file::set_mode(write.as_fd(), 0o666)?;
    Ok((read, write))
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().doing(|| "copy a standard stream")
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    file::status(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let name = |fd| file::status(fd).map(|status| (status.st_dev, status.st_ino)).ok();
    name(one).is_some() && name(one) == name(other)
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}
