//! Messages between two kelp processes, with descriptors.
//!
//! A frame is four bytes of length (native order: both ends are the same
//! executable), then that many bytes of JSON. Descriptors ride on the length.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Failure, Result};
use crate::kernel::Errno;
use crate::kernel::socket::{self, Patience};
use crate::limits;

/// One end of a connected pair.
pub struct Channel(OwnedFd);

/// A message and the descriptors that came with it.
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Its descriptors, in the order they were sent.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends of a new channel, close-on-exec.
    pub fn pair() -> Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        Ok((Self(one), Self(other)))
    }

    /// Takes over a connected socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends one message. EPIPE where the other end is gone.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(message, descriptors, Patience::Wait)
    }

    /// Sends one message to somebody who may not listen: EAGAIN where there is
    /// no room for all of it. What is sent after that makes no sense.
    pub fn send_now<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(message, descriptors, Patience::Now)
    }

    fn send_with<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>], patience: Patience) -> Result<()> {
        let mut frame = vec![0_u8; 4];
        serde_json::to_writer(&mut frame, message).map_err(|error| Failure::bug(error.to_string()))?;
        let length = frame.len() - 4;
        if length > limits::FRAME_BYTES_MAX {
            return Err(Failure::user(format!("{length} bytes of arguments, environment and mounts are too many"))
                .hint(format!("keep them below {} bytes", limits::FRAME_BYTES_MAX)));
        }
        frame.splice(..4, (length as u32).to_ne_bytes());
        let mut descriptors = descriptors;
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let sent = socket::send(self.0.as_fd(), rest, descriptors, patience)?;
            descriptors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether the other end is gone.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        // POLLHUP is reported whether it is asked for or not.
        matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Waits until there is something to receive or the other end is gone;
    /// false where neither is so within `patience`.
    pub fn wait(&self, patience: Duration) -> Result<bool> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_millis();
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(count) => return Ok(count > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(Failure::from(std::io::Error::from(errno)).doing("wait for another stage")),
            }
        }
    }

    /// Sends one message, unless the other end is gone: what it said before
    /// is there to be read, and says why.
    pub fn send_if_open<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(message, descriptors)
            .or_else(|failure| if failure.is_errno(libc::EPIPE) { Ok(()) } else { Err(failure) })
    }

    /// Receives one message; `None` where the other end is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>> {
        let mut descriptors = Vec::new();
        let mut length = [0_u8; 4];
        if !self.fill(&mut length, &mut descriptors)? {
            return Ok(None);
        }
        let length = u32::from_ne_bytes(length) as usize;
        if length > limits::FRAME_BYTES_MAX {
            return Err(Failure::bug(format!("a message of {length} bytes between two stages")));
        }
        let mut body = vec![0_u8; length];
        if !self.fill(&mut body, &mut descriptors)? {
            return Ok(None);
        }
        let message = serde_json::from_slice(&body)
            .map_err(|error| Failure::bug(error.to_string()))
            .doing(|| "read a message of another stage")?;
        Ok(Some(Received { message, descriptors }))
    }

    /// Fills `buffer`; false where the other end is gone. A peer that died
    /// with unread data makes ECONNRESET, which is the same to us.
    fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match socket::receive(self.0.as_fd(), rest, descriptors, Patience::Wait) {
                Ok(0) => return Ok(false),
                Ok(count) => filled += count,
                Err(error) if error.errno == Errno::ECONNRESET => return Ok(false),
                Err(error) if error.errno == Errno::EINTR => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// Messages from somebody who is not waited for: what has come of the next one.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What [`Incoming::take`] found.
pub enum Taken<T> {
    /// A whole message.
    Message(Received<T>),
    /// It has not come yet.
    Nothing,
    /// The other end is gone.
    Closed,
}

impl Incoming {
    /// The next message from `channel`, if all of it is there. A message that
    /// makes no sense is a failure; nothing behind it can be read.
    pub fn take<T: DeserializeOwned>(&mut self, channel: &Channel) -> Result<Taken<T>> {
        const HEAD: usize = 4;
        loop {
            let length = match self.bytes.first_chunk::<HEAD>() {
                Some(head) => u32::from_ne_bytes(*head) as usize,
                None => 0,
            };
            if length > limits::FRAME_BYTES_MAX {
                return Err(Failure::user(format!("a message of {length} bytes")));
            }
            let whole = HEAD + length;
            if length > 0 && self.bytes.len() == whole {
                let body = self.bytes.split_off(HEAD);
                self.bytes.clear();
                let message = serde_json::from_slice(&body).map_err(|error| Failure::user(error.to_string()))?;
                return Ok(Taken::Message(Received { message, descriptors: std::mem::take(&mut self.descriptors) }));
            }
            // Never beyond one frame: the next one's descriptors are its own.
            let mut buffer = vec![0_u8; (whole - self.bytes.len()).min(64 << 10)];
            match socket::receive(channel.as_fd(), &mut buffer, &mut self.descriptors, Patience::Now) {
                Ok(0) => return Ok(Taken::Closed),
                Ok(count) => self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.errno == Errno::EAGAIN => return Ok(Taken::Nothing),
                Err(error) if error.errno == Errno::EINTR => {}
                Err(error) if error.errno == Errno::ECONNRESET => return Ok(Taken::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
