//! One direction of a published connection: bytes out of one socket into the
//! other.
//!
//! What comes in small pieces is copied: two calls each. What comes as fast as
//! it can goes through a pipe by splice(2), as pages that nobody copies. At
//! most one piece is under way: who does not take it holds the other up.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::kernel::pipe::Pipe;
use crate::limits;

/// One end of a connection.
pub(super) struct End {
    pub(super) socket: TcpStream,
    /// Reading may give something.
    pub(super) readable: bool,
    /// Writing may go on.
    pub(super) writable: bool,
    /// There is an end or an error behind what is to be read.
    pub(super) ends: bool,
}

impl End {
    /// An end of which nothing is known but that it can be written to.
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, readable: false, writable: true, ends: false }
    }
}

/// What was read and not yet written.
enum Held {
    Nothing,
    /// Bytes, from this one on.
    Bytes(Vec<u8>, usize),
    /// Bytes in the pipe.
    Piped(usize),
}

/// One direction.
pub(super) struct Stream {
    held: Held,
    pipe: Option<Pipe>,
    /// Without a pipe, full pieces in a row; with one, how many small ones it is kept for.
    full: u32,
    /// The source has ended.
    has_ended: bool,
    /// That was passed on.
    is_shut: bool,
    /// Bytes that were passed on.
    pub(super) bytes: u64,
}

/// Pipes that are not in use.
pub(super) struct Pipes {
    free: Vec<Pipe>,
    /// How many there are, those in use included.
    count: usize,
    /// How many there may be.
    most: usize,
}

impl Pipes {
    /// None, and at most so many.
    pub(super) fn bounded(most: usize) -> Self {
        Self { free: Vec::new(), count: 0, most }
    }

    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.count >= self.most {
            return None;
        }
        // Where there are no descriptors left, copying goes on.
        let pipe = Pipe::new(limits::PUBLISHED_PIPE_BYTES).ok()?;
        self.count += 1;
        Some(pipe)
    }

    /// Takes an empty one back.
    fn give(&mut self, pipe: Pipe) {
        if self.free.len() < limits::PUBLISHED_PIPES_IN_STOCK {
            self.free.push(pipe);
        } else {
            self.count -= 1;
        }
    }
}

impl Stream {
    pub(super) fn new() -> Self {
        Self { held: Held::Nothing, pipe: None, full: 0, has_ended: false, is_shut: false, bytes: 0 }
    }

    /// Whether all of it has been passed on, its end included.
    pub(super) fn is_over(&self) -> bool {
        self.is_shut
    }

    /// Whether the source has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Carries on as far as it goes and its turn lasts; false where it would go
    /// on.
    pub(super) fn carry(
        &mut self,
        from: &mut End,
        to: &mut End,
        pipes: &mut Pipes,
        room: &mut [u8],
    ) -> io::Result<bool> {
        let until = self.bytes + limits::TCP_BYTES_A_TURN as u64;
        loop {
            if !self.pass_on(to)? {
                return Ok(true);
            }
            if self.has_ended {
                self.finish(to, pipes);
                return Ok(true);
            }
            if !(from.readable && to.writable) {
                return Ok(true);
            }
            if self.bytes >= until {
                return Ok(false);
            }
            self.take(from, to, pipes, room)?;
        }
    }

    /// Writes what is held; says whether all of it went.
    fn pass_on(&mut self, to: &mut End) -> io::Result<bool> {
        while to.writable {
            let result = match (&mut self.held, &self.pipe) {
                (Held::Bytes(bytes, start), _) => to.socket.write(bytes.get(*start..).unwrap_or_default()),
                (Held::Piped(left), Some(pipe)) => pipe.empty(&to.socket, *left).map_err(io::Error::from),
                _ => return Ok(true),
            };
            match result {
                Ok(written) => self.note_written(written),
                Err(error) => to.writable = goes_on(error)?,
            }
        }
        Ok(matches!(self.held, Held::Nothing))
    }

    fn note_written(&mut self, written: usize) {
        self.bytes += written as u64;
        let is_all = match &mut self.held {
            Held::Nothing => true,
            Held::Bytes(bytes, start) => {
                *start += written;
                *start >= bytes.len()
            }
            Held::Piped(left) => {
                *left = left.saturating_sub(written);
                *left == 0
            }
        };
        if is_all {
            self.held = Held::Nothing;
        }
    }

    /// Reads a piece, and writes what goes at once. Nothing is held.
    fn take(&mut self, from: &mut End, to: &mut End, pipes: &mut Pipes, room: &mut [u8]) -> io::Result<()> {
        if self.pipe.is_none() && self.full >= limits::PUBLISHED_PIECES_COPIED {
            self.pipe = pipes.take();
            self.full = limits::PUBLISHED_PIECES_SPLICED;
        }
        match self.pipe.is_some() {
            true => self.splice(from, to, pipes),
            false => self.copy(from, to, room),
        }
    }

    fn splice(&mut self, from: &mut End, to: &mut End, pipes: &mut Pipes) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let read = match pipe.fill(&from.socket, limits::PUBLISHED_PIPE_BYTES as usize) {
            Ok(read) => read,
            Err(errno) => {
                from.readable = goes_on(errno.into())?;
                return Ok(());
            }
        };
        if read == 0 {
            (from.readable, self.has_ended) = (false, true);
            return Ok(());
        }
        self.held = Held::Piped(read);
        let is_large = read >= limits::PUBLISHED_PIECE_BYTES / 4;
        self.full = if is_large { limits::PUBLISHED_PIECES_SPLICED } else { self.full.saturating_sub(1) };
        // No longer in a hurry: the pipe is for who is.
        if self.pass_on(to)? && self.full == 0 {
            self.release(pipes);
        }
        Ok(())
    }

    fn copy(&mut self, from: &mut End, to: &mut End, room: &mut [u8]) -> io::Result<()> {
        let read = match from.socket.read(room) {
            Ok(read) => read,
            Err(error) => {
                from.readable = goes_on(error)?;
                return Ok(());
            }
        };
        if read == 0 {
            (from.readable, self.has_ended) = (false, true);
            return Ok(());
        }
        let is_full = read == room.len();
        self.full = if is_full { self.full.saturating_add(1) } else { 0 };
        // A short read is an empty buffer, unless an end is behind it (epoll(7), question 9).
        from.readable = is_full || from.ends;
        let bytes = room.get(..read).unwrap_or_default();
        let written = match to.socket.write(bytes) {
            Ok(written) => written,
            Err(error) => {
                to.writable = goes_on(error)?;
                0
            }
        };
        self.bytes += written as u64;
        let rest = bytes.get(written..).unwrap_or_default();
        if !rest.is_empty() {
            self.held = Held::Bytes(rest.to_vec(), 0);
        }
        Ok(())
    }

    fn finish(&mut self, to: &mut End, pipes: &mut Pipes) {
        if !self.is_shut {
            self.is_shut = true;
            // It may have been reset meanwhile: the other direction says so.
            to.socket.shutdown(Shutdown::Write).ok();
        }
        self.release(pipes);
    }

    /// Gives the pipe back; one with bytes in it is thrown away.
    pub(super) fn release(&mut self, pipes: &mut Pipes) {
        let Some(pipe) = self.pipe.take() else { return };
        if matches!(self.held, Held::Piped(_)) { pipes.count -= 1 } else { pipes.give(pipe) }
    }
}

/// Whether a call that failed is to be made again at once (EINTR) or when epoll
/// tells (EAGAIN).
fn goes_on(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}
