//! A connection of a container to the resolver: messages behind their lengths
//! (RFC 1035 section 4.2.2), several at once (RFC 7766 section 6.2.1.1).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::super::attachment::AttachmentKey;
use super::super::poller::{Readiness, Token};
use crate::limits;

/// One connection. `socket` is the resolver's end of a pair; the other one is
/// what TCP has for the host's side of the flow.
pub(super) struct Stream {
    pub(super) attachment: AttachmentKey,
    pub(super) socket: TcpStream,
    pub(super) token: Option<Token>,
    /// Questions that servers are being asked.
    pub(super) open: usize,
    /// It stands in the list of those that have something to do.
    pub(super) is_dirty: bool,
    pub(super) last_active: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    readable: bool,
    writable: bool,
    /// The container sends nothing more.
    has_ended: bool,
    /// It cannot be used any more.
    is_broken: bool,
}

impl Stream {
    pub(super) fn new(attachment: AttachmentKey, socket: TcpStream, now: Instant) -> Self {
        Self {
            attachment,
            socket,
            token: None,
            open: 0,
            is_dirty: false,
            last_active: now,
            input: Vec::new(),
            output: Vec::new(),
            readable: false,
            writable: true,
            has_ended: false,
            is_broken: false,
        }
    }

    /// Something is known of its socket.
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
    }

    /// The next message, if more may be asked now. What was answered is sent
    /// first: who does not read is not read from.
    pub(super) fn next(&mut self, buffer: &mut [u8], now: Instant) -> Option<Vec<u8>> {
        self.flush(now);
        while self.output.is_empty() && self.open < limits::DNS_STREAM_QUERIES && !self.is_broken {
            if let Some((length, rest)) = self.input.split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                // Nobody asks so much.
                self.is_broken = length > limits::DNS_QUERY_BYTES_MAX;
                if let Some(message) = rest.get(..length) {
                    let message = message.to_vec();
                    self.input.drain(..2 + length);
                    self.last_active = now;
                    return Some(message);
                }
            }
            if !self.readable || self.is_broken {
                break;
            }
            let most = buffer.len().min(limits::DNS_QUERY_BYTES_MAX);
            match self.socket.read(buffer.get_mut(..most).unwrap_or_default()) {
                Ok(0) => (self.readable, self.has_ended) = (false, true),
                Ok(read) => self.input.extend(buffer.get(..read).unwrap_or_default()),
                Err(error) => self.readable = self.would_go_on(error.kind()),
            }
        }
        None
    }

    /// Answers.
    pub(super) fn push(&mut self, answer: &[u8], now: Instant) {
        // Servers' answers come as messages with a length of 16 bits, and our own are short.
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.output.extend(length.to_be_bytes());
        self.output.extend(answer);
        self.flush(now);
    }

    /// Whether there is no more to be done with it.
    pub(super) fn is_over(&self) -> bool {
        self.is_broken || self.has_ended && self.open == 0 && self.output.is_empty()
    }

    /// Whether it has been quiet for too long, or does not take its answers.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.open == 0 && now >= self.last_active + limits::DNS_STREAM_IDLE
    }

    fn flush(&mut self, now: Instant) {
        let mut sent = 0;
        while self.writable && sent < self.output.len() {
            match self.socket.write(self.output.get(sent..).unwrap_or_default()) {
                Ok(written) => {
                    sent += written;
                    self.last_active = now;
                }
                Err(error) => self.writable = self.would_go_on(error.kind()),
            }
        }
        self.output.drain(..sent);
    }

    fn would_go_on(&mut self, kind: ErrorKind) -> bool {
        self.is_broken |= !matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted);
        kind == ErrorKind::Interrupted
    }
}

#[cfg(test)]
impl Stream {
    /// What it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.input.len() + self.output.len()
    }
}
