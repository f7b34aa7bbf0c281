//! One connection: smoltcp's socket towards the container, the host's towards
//! the destination, and what goes between them.
//!
//! ```text
//!   container's kernel                      here                              destination
//!        SYN ----------------------------> Opening -- connect(2) -----------> SYN
//!                                             |
//!    SYN,ACK <---- the answer is let go -- Open <---- writable, no error ---- SYN,ACK
//!        RST <------------ abort ----------- x  <---- ECONNREFUSED ---------- RST
//!       ICMP <------------------------------ x  <---- EHOSTUNREACH and kin -- ICMP, or nobody
//!
//!       data --> frame --> upward ring ---- send(2) as far as it goes ------> data
//!       data <-- frame <-- downward ring <- recv(2) as far as there is room - data
//!        FIN ----------------- once the ring is empty: shutdown(SHUT_WR) ---> FIN
//!        FIN <--- close(), behind what is in the ring <------- end of file -- FIN
//!        RST -------------------- close with SO_LINGER of 0 ----------------> RST
//!        RST <------------ abort ------------------------------ ECONNRESET -- RST
//! ```
//! A ring that is full is a window that is closed, on either side: nothing is
//! dropped, and whoever sends waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use smoltcp::iface::{Interface, PollResult};
use smoltcp::socket::tcp::State;

use super::super::attachment::AttachmentKey;
use super::super::link::Link;
use super::super::poller::{Readiness, Token};
use super::super::refusal::{Quote, Reason};
use super::Tuple;
use super::clock::Clock;
use super::device::Port;
use super::rings::End;
use crate::kernel::{Errno, socket};
use crate::limits;

/// Whether the destination has answered.
pub(super) enum Stage {
    /// Not yet. The container's SYN, for an error about it.
    Opening(Option<Quote>),
    /// It has.
    Open,
}

/// What is to become of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for a frame, its socket or its time.
    Wait,
    /// It goes on in the next turn.
    More,
    /// It has ended, as both sides know.
    Ended,
    /// It was never there: the container is told why.
    Unreachable(Reason),
}

/// What connect(2) has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// The destination has answered.
    Yes,
    /// Nobody knows yet.
    NotYet,
    /// The destination does not want it, or there is nothing to do it with.
    Refused,
    /// It cannot be reached.
    Unreachable(Reason),
    /// Nobody answered, which is what the container shall see.
    Silence,
}

impl Opened {
    pub(super) fn failed(errno: Errno) -> Self {
        match errno {
            Errno::ENETUNREACH => Self::Unreachable(Reason::Network),
            Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::EINVAL => Self::Unreachable(Reason::Host),
            // What a firewall of the host's says.
            Errno::EACCES | Errno::EPERM => Self::Unreachable(Reason::Prohibited),
            Errno::ETIMEDOUT => Self::Silence,
            _ => Self::Refused,
        }
    }
}

/// One connection.
pub(super) struct Flow {
    pub(super) attachment: AttachmentKey,
    pub(super) tuple: Tuple,
    pub(super) token: Option<Token>,
    pub(super) stage: Stage,
    pub(super) end: End,
    host: TcpStream,
    /// The largest segment that the container takes (its SYN's MSS option).
    mss: u16,
    /// Reading the host's socket may give something.
    readable: bool,
    /// Writing to it may go on.
    writable: bool,
    /// There is an end or an error behind what it has to read.
    host_ends: bool,
    /// Its end was read.
    host_ended: bool,
    /// The container has sent its FIN.
    container_ended: bool,
    /// That was passed on.
    host_shut: bool,
    /// The container's last FIN was answered; smoltcp's last timer must not run
    /// ([`Flow::send_out`]).
    is_over: bool,
    /// It stands in the list of those that have something to do.
    pub(super) is_dirty: bool,
    pub(super) last_active: Instant,
    /// When its token is due at the latest.
    pub(super) wakes_at: Option<Instant>,
    /// Bytes that went to the host, and that came from it.
    up: u64,
    down: u64,
    /// Most bytes that were in the downward ring at once.
    down_high: usize,
    /// How much of its rings is counted as touched.
    pub(super) touched: usize,
}

/// What a flow is made of.
pub(super) struct Parts {
    pub(super) attachment: AttachmentKey,
    pub(super) tuple: Tuple,
    pub(super) host: TcpStream,
    pub(super) end: End,
    pub(super) quote: Option<Quote>,
    pub(super) mss: u16,
}

/// What a flow is worked on with.
pub(super) struct Bench<'a> {
    pub(super) interface: &'a mut Interface,
    pub(super) link: &'a mut Link,
    pub(super) sending: &'a mut [u8],
    pub(super) clock: Clock,
    pub(super) now: Instant,
}

impl Flow {
    /// A flow that is being connected.
    pub(super) fn new(parts: Parts, now: Instant) -> Self {
        let Parts { attachment, tuple, host, end, quote, mss } = parts;
        Self {
            attachment,
            tuple,
            token: None,
            stage: Stage::Opening(quote),
            end,
            host,
            mss,
            readable: false,
            writable: false,
            host_ends: false,
            host_ended: false,
            container_ended: false,
            host_shut: false,
            is_over: false,
            is_dirty: false,
            last_active: now,
            wakes_at: None,
            up: 0,
            down: 0,
            down_high: 0,
            touched: 0,
        }
    }

    /// The host's socket, to wait for.
    pub(super) fn host(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }

    /// Something is known of the host's socket, or its time has come.
    pub(super) fn note(&mut self, readiness: Readiness) {
        if readiness.due {
            self.wakes_at = None;
        }
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.host_ends |= readiness.ended;
    }

    /// Gives smoltcp a segment of the container's.
    pub(super) fn receive(&mut self, packet: &[u8], bench: &mut Bench<'_>) {
        self.last_active = bench.now;
        let mut port = Port { link: bench.link, packet: Some(packet), sending: bench.sending, mss: self.mss };
        bench.interface.poll_ingress_single(bench.clock.at(bench.now), &mut port, &mut self.end.set);
    }

    /// Does all that can be done now.
    pub(super) fn work(&mut self, bench: &mut Bench<'_>) -> Next {
        if self.idle_at() <= bench.now {
            return self.abort(bench);
        }
        if let Stage::Opening(_) = self.stage {
            match self.opened() {
                Opened::Yes => {
                    self.stage = Stage::Open;
                    self.writable = true;
                    self.end.socket().pause_synack(false);
                }
                Opened::NotYet => return self.still_wanted(),
                Opened::Refused => return self.abort(bench),
                Opened::Unreachable(reason) => return Next::Unreachable(reason),
                Opened::Silence => return Next::Ended,
            }
        }
        let before = self.up + self.down;
        let moved = self.send_up().and_then(|()| self.receive_down());
        if self.up + self.down != before {
            self.last_active = bench.now;
        }
        let is_all_out = self.send_out(bench);
        match (moved, self.next()) {
            // What was received before the reset has gone out before it.
            (Err(_), _) => self.abort(bench),
            (Ok(is_all_in), Next::Wait) if !(is_all_in && is_all_out) => Next::More,
            (Ok(_), next) => next,
        }
    }

    /// What has become of connect(2).
    fn opened(&self) -> Opened {
        // First what is the case most often, at once or with the event.
        if socket::is_connected(self.host.as_fd()) {
            return Opened::Yes;
        }
        match self.host.take_error() {
            Ok(None) => Opened::NotYet,
            Ok(Some(error)) | Err(error) => Opened::failed(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }

    /// The container may give up before the destination answers.
    fn still_wanted(&mut self) -> Next {
        if self.end.socket().state() == State::SynReceived {
            return Next::Wait;
        }
        self.reset_host();
        Next::Ended
    }

    /// From the upward ring to the host, as far as it takes it.
    fn send_up(&mut self) -> io::Result<()> {
        let Self { host, end, .. } = self;
        let socket = end.socket();
        while self.writable && socket.can_recv() {
            let step = socket.recv(|bytes| match host.write(bytes) {
                Ok(written) => (written, Ok((written, bytes.len()))),
                Err(error) => (0, Err(error)),
            });
            match step {
                Ok(Ok((written, offered))) => {
                    self.up += written as u64;
                    // A short write is a full buffer: epoll tells when there is room.
                    self.writable = written == offered;
                }
                Ok(Err(error)) => self.writable = would_go_on(error)?,
                // Data before the connection is there: it waits.
                Err(_) => break,
            }
        }
        self.note_end();
        if self.container_ended && !self.host_shut && !self.end.socket().can_recv() {
            self.host_shut = true;
            // It may have been reset meanwhile: reading says so.
            self.host.shutdown(Shutdown::Write).ok();
        }
        Ok(())
    }

    /// From the host into the downward ring, as far as there is room and its
    /// turn goes. Says whether that was all.
    fn receive_down(&mut self) -> io::Result<bool> {
        let Self { host, end, .. } = self;
        let socket = end.socket();
        let mut budget = limits::TCP_BYTES_A_TURN;
        while self.readable && socket.can_send() {
            if budget == 0 {
                return Ok(false);
            }
            let step = socket.send(|room| {
                let asked = room.len().min(budget);
                match host.read(room.get_mut(..asked).unwrap_or_default()) {
                    Ok(read) => (read, Ok((read, asked))),
                    Err(error) => (0, Err(error)),
                }
            });
            match step {
                Ok(Ok((0, _))) => {
                    (self.readable, self.host_ended) = (false, true);
                    socket.close();
                }
                Ok(Ok((read, asked))) => {
                    self.down += read as u64;
                    budget -= read;
                    // A short read is an empty buffer, unless an end is behind it (epoll(7), question 9).
                    self.readable = read == asked || self.host_ends;
                }
                Ok(Err(error)) => self.readable = would_go_on(error)?,
                Err(_) => break,
            }
        }
        self.down_high = self.down_high.max(socket.send_queue());
        Ok(true)
    }

    /// From the downward ring to the container, and acknowledgements. Says
    /// whether that was all.
    fn send_out(&mut self, bench: &mut Bench<'_>) -> bool {
        // smoltcp's TIME-WAIT ends by clearing the ring, though the host may not have taken all of it yet.
        if self.is_over {
            return true;
        }
        let at = bench.clock.at(bench.now);
        let mut port = Port { link: bench.link, packet: None, sending: bench.sending, mss: self.mss };
        let mut is_all = false;
        for _ in 0..limits::TCP_PACKETS_A_TURN {
            if bench.interface.poll_egress(at, &mut port, &mut self.end.set) == PollResult::None {
                is_all = true;
                break;
            }
        }
        self.note_end();
        self.is_over = self.end.socket().state() == State::TimeWait;
        is_all
    }

    fn note_end(&mut self) {
        let state = self.end.socket().state();
        self.container_ended |= matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
    }

    fn next(&mut self) -> Next {
        let (container_ended, host_ended) = (self.container_ended, self.host_ended);
        let socket = self.end.socket();
        let both_ended = match socket.state() {
            State::TimeWait => true,
            // The container has acknowledged our FIN, or has reset.
            State::Closed => container_ended && host_ended && socket.send_queue() == 0,
            State::Listen => false,
            _ => return Next::Wait,
        };
        if !both_ended {
            self.reset_host();
            return Next::Ended;
        }
        // The host may be slower than the container: what it has not taken waits for it.
        if self.host_shut { Next::Ended } else { Next::Wait }
    }

    /// Ends it by a reset on both sides.
    pub(super) fn abort(&mut self, bench: &mut Bench<'_>) -> Next {
        self.end.socket().abort();
        self.is_over = false;
        self.send_out(bench);
        self.reset_host();
        Next::Ended
    }

    /// The host's socket will be closed by a reset.
    pub(super) fn reset_host(&self) {
        // It ends either way.
        socket::reset_on_close(self.host.as_fd()).ok();
    }

    /// When it has been quiet for too long.
    fn idle_at(&self) -> Instant {
        let most = match self.stage {
            Stage::Opening(_) => limits::TCP_OPENING,
            Stage::Open if self.container_ended || self.host_ended => limits::TCP_HALF_CLOSED,
            Stage::Open => limits::TCP_IDLE,
        };
        self.last_active + most
    }

    /// When it is to be worked on even if nothing happens.
    pub(super) fn due_at(&mut self, interface: &mut Interface, clock: Clock, now: Instant) -> Instant {
        let idle_at = self.idle_at();
        if matches!(self.stage, Stage::Opening(_)) || self.is_over {
            return idle_at;
        }
        let polls_at = interface.poll_at(clock.at(now), &self.end.set);
        polls_at.map_or(idle_at, |at| clock.real(at).min(idle_at))
    }

    /// How many bytes of its rings were touched, all in all.
    pub(super) fn touches(&self) -> usize {
        let most = self.end.bytes();
        most.min(usize::try_from(self.up).unwrap_or(most)) + self.down_high.min(most)
    }
}

/// Whether a call that failed is to be made again at once (EINTR) or when epoll
/// tells (EAGAIN).
fn would_go_on(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}
