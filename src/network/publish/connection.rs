//! One connection through a published port: somebody's to the host, and ours
//! to the container, which its kernel takes for theirs.
//!
//! ```text
//!   client                    here                        container's kernel
//!      SYN ---> host's kernel
//!      SYN,ACK <---  |
//!                 accepted -- bind to the client's address, connect ---> SYN
//!                 Waiting, while there is no socket of the container's
//!                 Opening  <------------------------------------- SYN,ACK
//!                 Open
//!        RST <--- close with SO_LINGER of 0 <--- refused in both families
//!
//!       data <--------- stream.rs, one for each direction ----------> data
//!        FIN <--------- behind the data: shutdown(SHUT_WR) ---------> FIN
//!        RST <--------- close with SO_LINGER of 0 ------------------> RST
//! ```

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::super::poller::{Readiness, Token};
use super::super::slots::Key;
use super::source::Way;
use super::stream::{End, Pipes, Stream};
use crate::kernel::{Errno, socket};
use crate::limits;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// The container.
    Container,
}

/// How far it has come.
enum Stage {
    /// There is no socket for this way in.
    Waiting,
    /// The container has not answered yet.
    Opening(End, Way),
    /// It has.
    Open(End),
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for its sockets or its time.
    Wait,
    /// It goes on in the next turn.
    More,
    /// It wants a socket of the container's, of this family (AF_*).
    Socket(i32),
    /// It has ended, by one FIN or one RST on either side.
    Ended,
}

/// One connection.
pub(super) struct Connection {
    pub(super) site: Key,
    client: End,
    stage: Stage,
    /// Ways in, the next one last.
    ways: Vec<Way>,
    inward: Stream,
    outward: Stream,
    pub(super) client_token: Option<Token>,
    pub(super) container_token: Option<Token>,
    pub(super) is_dirty: bool,
    last_active: Instant,
    /// When its token is due at the latest.
    pub(super) wakes_at: Option<Instant>,
}

impl Connection {
    /// A connection that was accepted; `ways` into the container, the best
    /// first.
    pub(super) fn new(site: Key, client: TcpStream, mut ways: Vec<Way>, now: Instant) -> Self {
        ways.reverse();
        Self {
            site,
            client: End::new(client),
            stage: Stage::Waiting,
            ways,
            inward: Stream::new(),
            outward: Stream::new(),
            client_token: None,
            container_token: None,
            is_dirty: false,
            last_active: now,
            wakes_at: None,
        }
    }

    /// Who connected, to wait for.
    pub(super) fn client(&self) -> BorrowedFd<'_> {
        self.client.socket.as_fd()
    }

    /// The container's end, to wait for, where there is one that was not
    /// registered yet.
    pub(super) fn unwatched(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Opening(end, _) | Stage::Open(end) if self.container_token.is_none() => Some(end.socket.as_fd()),
            _ => None,
        }
    }

    /// Something is known of one of its sockets, or its time has come.
    pub(super) fn note(&mut self, side: Side, readiness: Readiness) {
        if readiness.due {
            self.wakes_at = None;
        }
        let end = match (side, &mut self.stage) {
            (Side::Client, _) => &mut self.client,
            (Side::Container, Stage::Opening(end, _) | Stage::Open(end)) => end,
            (Side::Container, Stage::Waiting) => return,
        };
        end.readable |= readiness.readable;
        end.writable |= readiness.writable;
        end.ends |= readiness.ended;
    }

    /// Tries the next way in with a socket of the container's, of the family
    /// that was asked for.
    pub(super) fn enter(&mut self, socket: OwnedFd) {
        let Some(way) = self.ways.pop() else { return };
        let socket = TcpStream::from(socket);
        match socket::connect_from(socket.as_fd(), way.source, way.destination) {
            // Where it listens, it has answered by now: it is in this machine.
            Ok(()) => self.stage = Stage::Opening(End::new(socket), way),
            Err(error) => self.give_way_up(way, error.errno),
        }
    }

    /// What is left after a way in that failed: refused is refused, wherever
    /// one comes from.
    fn give_way_up(&mut self, failed: Way, errno: Errno) {
        let is_about_source =
            matches!(errno, Errno::EADDRINUSE | Errno::EADDRNOTAVAIL | Errno::EACCES | Errno::EPERM | Errno::EINVAL);
        if !is_about_source {
            self.ways.retain(|way| way.destination.is_ipv4() != failed.destination.is_ipv4());
        }
    }

    /// Does all that can be done now.
    pub(super) fn work(&mut self, pipes: &mut Pipes, room: &mut [u8], now: Instant) -> Next {
        if self.idle_at() <= now {
            return self.abort();
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Opening(end, way) => match opened(&end.socket) {
                Ok(true) => {
                    self.ways = Vec::new();
                    Stage::Open(end)
                }
                Ok(false) => {
                    self.stage = Stage::Opening(end, way);
                    let is_unwanted = self.client.ends && is_reset(&self.client.socket);
                    return if is_unwanted { self.abort() } else { Next::Wait };
                }
                Err(errno) => {
                    self.give_way_up(way, errno);
                    Stage::Waiting
                }
            },
            stage => stage,
        };
        let Stage::Open(container) = &mut self.stage else {
            return match self.ways.last() {
                Some(way) => Next::Socket(if way.destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }),
                None => self.abort(),
            };
        };
        let before = self.inward.bytes + self.outward.bytes;
        let carried = self
            .inward
            .carry(&mut self.client, container, pipes, room)
            .and_then(|is_all_in| Ok(self.outward.carry(container, &mut self.client, pipes, room)? && is_all_in));
        if self.inward.bytes + self.outward.bytes != before {
            self.last_active = now;
        }
        match carried {
            Err(_) => self.abort(),
            Ok(_) if self.inward.is_over() && self.outward.is_over() => Next::Ended,
            Ok(true) => Next::Wait,
            Ok(false) => Next::More,
        }
    }

    /// Ends it by a reset on both sides.
    pub(super) fn abort(&mut self) -> Next {
        // They end either way.
        socket::reset_on_close(self.client.socket.as_fd()).ok();
        if let Stage::Opening(end, _) | Stage::Open(end) = &self.stage {
            socket::reset_on_close(end.socket.as_fd()).ok();
        }
        Next::Ended
    }

    /// Gives its pipes back.
    pub(super) fn release(&mut self, pipes: &mut Pipes) {
        self.inward.release(pipes);
        self.outward.release(pipes);
    }

    /// When it has been quiet for too long.
    pub(super) fn idle_at(&self) -> Instant {
        let most = match self.stage {
            Stage::Waiting | Stage::Opening(..) => limits::TCP_OPENING,
            Stage::Open(_) if self.inward.has_ended() || self.outward.has_ended() => limits::TCP_HALF_CLOSED,
            Stage::Open(_) => limits::TCP_IDLE,
        };
        self.last_active + most
    }
}

/// Whether the container has answered; what it said, where that is no.
fn opened(socket: &TcpStream) -> Result<bool, Errno> {
    if socket.peer_addr().is_ok() {
        return Ok(true);
    }
    match socket.take_error() {
        Ok(None) => Ok(false),
        Ok(Some(error)) | Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    }
}

fn is_reset(socket: &TcpStream) -> bool {
    matches!(socket.take_error(), Ok(Some(_)) | Err(_))
}
