//! What the program writes, on its way to the log and to those who listen.
//!
//! The program has pipes (or a terminal) whose other ends are here. What is
//! read from them goes to the log and to the pipe of each attached command. Nothing is kept
//! but the part of one chunk that a pipe had no room for: until it goes, that
//! stream is not read any more. So a foreground command's full pipe holds the
//! program up, as if it wrote there itself; any other command that does not
//! read for a while is cut off.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::super::log::{Stream, Writer};
use super::files;
use crate::error::Result;
use crate::kernel::{Errno, file};
use crate::limits;

/// Bytes moved at once: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;

/// The program's ends, the log and the listeners' ends.
#[derive(Default)]
pub(super) struct Output {
    sources: Vec<Source>,
    log: Option<Writer>,
    taps: Vec<Tap>,
}

struct Source {
    fd: OwnedFd,
    stream: Stream,
}

/// One command that listens.
struct Tap {
    client: u64,
    streams: [Option<Listener>; 2],
    /// May hold the program up for ever.
    is_patient: bool,
}

struct Listener {
    pipe: OwnedFd,
    /// Read from the program, but not taken by the pipe yet.
    pending: Vec<u8>,
    /// Since when.
    since: Instant,
}

/// A stream's place among a tap's. A terminal has only the first.
fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Output {
    /// Has all that comes from now on written to `log`, too.
    pub(super) fn log_to(&mut self, log: Writer) {
        self.log = Some(log).filter(|log| !log.is_nothing());
    }

    /// The program has ended: what it left unfinished belongs into the log.
    pub(super) fn finish_log(&mut self) {
        self.log.iter_mut().for_each(Writer::finish);
    }

    /// Pipes for a new program: its own ends, standard output first.
    pub(super) fn pipes(&mut self) -> Result<(OwnedFd, OwnedFd)> {
        let (read, stdout) = files::pipe()?;
        self.add(read, Stream::Stdout)?;
        let (read, stderr) = files::pipe()?;
        self.add(read, Stream::Stderr)?;
        Ok((stdout, stderr))
    }

    /// Takes what comes from `fd` from now on.
    pub(super) fn add(&mut self, fd: OwnedFd, stream: Stream) -> Result<()> {
        file::set_nonblocking(fd.as_fd())?;
        self.sources.push(Source { fd, stream });
        Ok(())
    }

    /// Nobody reads any more what the program writes.
    pub(super) fn hang_up(&mut self) {
        self.sources.clear();
    }

    /// Pipes for `client` to read from: standard output first, then, unless it
    /// is a terminal, standard error.
    pub(super) fn tap(&mut self, client: u64, terminal: bool, is_patient: bool) -> Result<Vec<OwnedFd>> {
        let mut tap = Tap { client, streams: [None, None], is_patient };
        let mut ends = Vec::new();
        for slot in tap.streams.iter_mut().take(if terminal { 1 } else { 2 }) {
            let (read, write) = crate::kernel::process::pipe()?;
            file::set_nonblocking(write.as_fd())?;
            *slot = Some(Listener { pipe: write, pending: Vec::new(), since: Instant::now() });
            ends.push(read);
        }
        self.taps.push(tap);
        Ok(ends)
    }

    /// Ends the pipes of `client`: it sees the end of the file.
    pub(super) fn untap(&mut self, client: u64) {
        self.taps.retain(|tap| tap.client != client);
    }

    /// Whether `client` reads.
    pub(super) fn has_tap(&self, client: u64) -> bool {
        self.taps.iter().any(|tap| tap.client == client)
    }

    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let sources = self.sources.iter().filter(|source| !self.is_held_up(source.stream));
        let sources = sources.map(|source| PollFd::new(source.fd.as_fd(), PollFlags::POLLIN));
        let listeners = self.taps.iter().flat_map(|tap| tap.streams.iter().flatten());
        let full = listeners.filter(|listener| !listener.pending.is_empty());
        sources.chain(full.map(|listener| PollFd::new(listener.pipe.as_fd(), PollFlags::POLLOUT))).collect()
    }

    /// When somebody is to be cut off, if nothing happens until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let hurried = self.taps.iter().filter(|tap| !tap.is_patient);
        let listeners = hurried.flat_map(|tap| tap.streams.iter().flatten());
        listeners.filter(|listener| !listener.pending.is_empty()).map(Listener::deadline).min()
    }

    fn is_held_up(&self, stream: Stream) -> bool {
        let listeners = self.taps.iter().filter_map(|tap| tap.streams.get(index(stream))?.as_ref());
        listeners.into_iter().any(|listener| !listener.pending.is_empty())
    }

    /// Whether something was read that somebody has not got yet.
    pub(super) fn is_pending(&self) -> bool {
        self.is_held_up(Stream::Stdout) || self.is_held_up(Stream::Stderr)
    }

    /// Moves what can move, one chunk of each stream; whether any came.
    pub(super) fn turn(&mut self) -> bool {
        self.flush();
        let mut buffer = Vec::new();
        let mut has_moved = false;
        let mut index = 0;
        while let Some(source) = self.sources.get(index) {
            let stream = source.stream;
            if self.is_held_up(stream) {
                index += 1;
                continue;
            }
            buffer.resize(CHUNK, 0);
            match nix::unistd::read(source.fd.as_fd(), &mut buffer) {
                Ok(count) if count > 0 => {
                    self.pass_on(stream, buffer.get(..count).unwrap_or_default());
                    has_moved = true;
                    index += 1;
                }
                Err(Errno::EINTR | Errno::EAGAIN) => index += 1,
                // The end of the pipe; EIO of a terminal that nobody has open.
                _ => drop(self.sources.remove(index)),
            }
        }
        has_moved
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8]) {
        self.log.iter_mut().for_each(|log| log.write(stream, bytes));
        for tap in &mut self.taps {
            if let Some(slot) = tap.streams.get_mut(index(stream))
                && let Some(listener) = slot
                && !listener.write(bytes)
            {
                *slot = None;
            }
        }
    }

    /// Writes what waits, and cuts off who has not read for too long.
    fn flush(&mut self) {
        let now = Instant::now();
        for tap in &mut self.taps {
            let is_patient = tap.is_patient;
            for slot in &mut tap.streams {
                if let Some(listener) = slot
                    && (!listener.flush() || (!is_patient && listener.is_late(now)))
                {
                    *slot = None;
                }
            }
        }
    }
}

impl Listener {
    fn deadline(&self) -> Instant {
        self.since + Duration::from_millis(limits::LISTENER_PATIENCE_MS)
    }

    fn is_late(&self, now: Instant) -> bool {
        !self.pending.is_empty() && now >= self.deadline()
    }

    /// False where nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        self.since = Instant::now();
        self.flush()
    }

    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match nix::unistd::write(self.pipe.as_fd(), &self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                    self.since = Instant::now();
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return errno == Errno::EAGAIN,
            }
        }
        // A quiet program's supervisor is to be small.
        self.pending = Vec::new();
        true
    }
}
