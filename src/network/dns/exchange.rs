//! One question that servers are asked: each in its turn, by a datagram, or by
//! a stream where the answer is larger than one takes.
//!
//! ```text
//!   for each round, for each server that has not failed:
//!       ask it (a socket of its own: the port is random, and so is the identification)
//!       wait:  an answer                     -> to the container
//!              cut short, and asked by TCP   -> ask it by TCP
//!              SERVFAIL, REFUSED, ...        -> the next server, but keep it
//!              an error of the socket        -> the next server
//!              nothing in time               -> the next server; a late answer is still taken
//!   all failed                               -> what the last one said, or SERVFAIL
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::super::attachment::AttachmentKey;
use super::super::poller::{Interest, Poller, Source, Token};
use super::super::slots::Key;
use super::message::Reply;
use crate::kernel::socket;
use crate::limits;

/// Who asked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// By a datagram from `client` to the resolver at `resolver`.
    Datagram { client: SocketAddr, resolver: SocketAddr },
    /// By a stream.
    Stream(Key),
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet.
    Wait,
    /// A server's message, with the identification that the server was sent.
    Answer(Vec<u8>),
    /// Nobody answers, or those who do do not repeat the question.
    Failed,
}

/// How a server is being asked.
enum Way {
    /// It is not.
    Unasked,
    Datagram(UdpSocket, Token),
    Stream(Box<Talk>, Token),
    /// It cannot answer.
    Failed,
}

/// A query by TCP (RFC 1035 section 4.2.2).
struct Talk {
    socket: TcpStream,
    /// What is still to be sent, from `sent` on.
    query: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

struct Candidate {
    server: SocketAddr,
    way: Way,
    /// It was waited for in vain.
    was_silent: bool,
}

/// A question and the servers that are asked.
pub(super) struct Exchange {
    pub(super) attachment: AttachmentKey,
    pub(super) asker: Asker,
    /// The client's identification of it.
    pub(super) client_id: u16,
    /// The query as servers get it.
    pub(super) query: Vec<u8>,
    pub(super) began: Instant,
    /// It is to be answered by a failure, to make room.
    pub(super) is_given_up: bool,
    candidates: Vec<Candidate>,
    /// The one that is waited for.
    at: usize,
    rounds: u32,
    /// How long each is waited for.
    patience: Duration,
    /// Its time.
    token: Option<Token>,
    /// A server's message that it failed.
    failure: Option<Vec<u8>>,
}

/// What a question is made of.
pub(super) struct Parts {
    pub(super) attachment: AttachmentKey,
    pub(super) asker: Asker,
    pub(super) client_id: u16,
    pub(super) query: Vec<u8>,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) patience: Duration,
    pub(super) rounds: u32,
}

impl Exchange {
    /// Asks nobody yet.
    pub(super) fn new(parts: Parts, now: Instant) -> Self {
        let Parts { attachment, asker, client_id, query, servers, patience, rounds } = parts;
        // A client waits for a round as its own resolver would for one server.
        let each = patience / u32::try_from(servers.len().max(1)).unwrap_or(1);
        let candidate = |server| Candidate { server, way: Way::Unasked, was_silent: false };
        Self {
            attachment,
            asker,
            client_id,
            query,
            began: now,
            is_given_up: false,
            candidates: servers.into_iter().map(candidate).collect(),
            at: 0,
            rounds,
            patience: each.max(limits::DNS_PATIENCE_MIN),
            token: None,
            failure: None,
        }
    }

    /// Asks the first server; `key` is what the question is known by.
    pub(super) fn start(&mut self, key: Key, poller: &mut Poller, now: Instant) -> Step {
        self.token = Some(poller.add(Source::DnsQuery(key)));
        self.ask(key, poller, now)
    }

    /// Who asked asks again: so does this, without another wait.
    pub(super) fn repeat(&mut self) {
        if let Some(Candidate { way: Way::Datagram(socket, _), .. }) = self.candidates.get(self.at) {
            // What fails is seen when it is read from.
            socket.send(&self.query).ok();
        }
    }

    /// Servers that were waited for in vain.
    pub(super) fn silent(&self) -> impl Iterator<Item = SocketAddr> {
        self.candidates.iter().filter(|candidate| candidate.was_silent).map(|candidate| candidate.server)
    }

    /// The time for the current server is over.
    pub(super) fn due(&mut self, key: Key, poller: &mut Poller, now: Instant) -> Step {
        if let Some(candidate) = self.candidates.get_mut(self.at) {
            candidate.was_silent = true;
            if let Way::Stream(_, token) = &candidate.way {
                poller.forget(*token);
                candidate.way = Way::Failed;
            }
        }
        if now >= self.began + limits::DNS_ANSWER_WITHIN {
            return self.give_up();
        }
        self.at += 1;
        self.ask(key, poller, now)
    }

    /// Reads what servers have said. The answer's server is told beside it.
    pub(super) fn hear(
        &mut self,
        key: Key,
        buffer: &mut [u8],
        poller: &mut Poller,
        now: Instant,
    ) -> (Step, Option<SocketAddr>) {
        let mut has_failed = false;
        for index in 0..self.candidates.len() {
            let Some(candidate) = self.candidates.get_mut(index) else { break };
            let (heard, reply) = match candidate.hear(&self.query, buffer) {
                Ok(Some((heard, reply))) => (heard, reply),
                Ok(None) => continue,
                Err(_) => (Vec::new(), Reply::FailedWithoutQuestion),
            };
            let server = candidate.server;
            match reply {
                Reply::Foreign => {}
                Reply::Truncated if matches!(self.asker, Asker::Stream(_)) => {
                    if candidate.turn_to_stream(&self.query, key, poller).is_err() {
                        candidate.fail(poller);
                        has_failed |= index == self.at;
                    } else {
                        self.at = index;
                        self.wait(poller, now);
                    }
                }
                Reply::Answer | Reply::Truncated => return (Step::Answer(heard), Some(server)),
                Reply::Failed | Reply::FailedWithoutQuestion => {
                    if reply == Reply::Failed {
                        self.failure = Some(heard);
                    }
                    candidate.fail(poller);
                    has_failed |= index == self.at;
                }
            }
        }
        let step = if has_failed { self.ask(key, poller, now) } else { Step::Wait };
        (step, None)
    }

    /// Nothing of it is waited for any more.
    pub(super) fn forget(&mut self, poller: &mut Poller) {
        for candidate in &mut self.candidates {
            candidate.fail(poller);
        }
        if let Some(token) = self.token.take() {
            poller.forget(token);
        }
    }

    /// Asks the next that can be asked, from the current one on.
    fn ask(&mut self, key: Key, poller: &mut Poller, now: Instant) -> Step {
        // Whoever fails does so once; a round in which nobody is left ends it.
        for _ in 0..=self.candidates.len() {
            if self.at >= self.candidates.len() {
                self.at = 0;
                self.rounds = self.rounds.saturating_sub(1);
                if self.rounds == 0 {
                    return self.give_up();
                }
            }
            let Some(candidate) = self.candidates.get_mut(self.at) else { break };
            if candidate.ask(&self.query, key, poller).is_ok() {
                self.wait(poller, now);
                return Step::Wait;
            }
            candidate.fail(poller);
            self.at += 1;
        }
        self.give_up()
    }

    fn wait(&self, poller: &mut Poller, now: Instant) {
        if let Some(token) = self.token {
            let last = self.began + limits::DNS_ANSWER_WITHIN;
            poller.wake_at(token, (now + self.patience).min(last));
        }
    }

    fn give_up(&mut self) -> Step {
        self.failure.take().map_or(Step::Failed, Step::Answer)
    }
}

impl Candidate {
    /// Asks it, or asks it again.
    fn ask(&mut self, query: &[u8], key: Key, poller: &mut Poller) -> io::Result<()> {
        match &self.way {
            Way::Unasked => {
                let socket = socket::connect_udp(self.server).map_err(|error| io::Error::from(error.errno))?;
                socket.send(query)?;
                let token = poller.watch(&socket, Interest::Readable, Source::DnsQuery(key)).map_err(no_room)?;
                self.way = Way::Datagram(socket, token);
                Ok(())
            }
            Way::Datagram(socket, _) => socket.send(query).map(|_| ()),
            Way::Stream(..) => Ok(()),
            Way::Failed => Err(io::Error::from(ErrorKind::NotConnected)),
        }
    }

    fn turn_to_stream(&mut self, query: &[u8], key: Key, poller: &mut Poller) -> io::Result<()> {
        self.fail(poller);
        let socket = socket::connect_tcp(self.server).map_err(|error| io::Error::from(error.errno))?;
        let token = poller.watch(&socket, Interest::Changes, Source::DnsQuery(key)).map_err(no_room)?;
        let length = u16::try_from(query.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let query = [&length.to_be_bytes()[..], query].concat();
        self.way = Way::Stream(Box::new(Talk { socket, query, sent: 0, answer: Vec::new() }), token);
        Ok(())
    }

    fn fail(&mut self, poller: &mut Poller) {
        if let Way::Datagram(_, token) | Way::Stream(_, token) = &self.way {
            poller.forget(*token);
        }
        self.way = Way::Failed;
    }

    /// The next message of its that is one, and what it is; `None` where there
    /// is none now.
    fn hear(&mut self, query: &[u8], buffer: &mut [u8]) -> io::Result<Option<(Vec<u8>, Reply)>> {
        match &mut self.way {
            Way::Unasked | Way::Failed => Ok(None),
            Way::Stream(talk, _) => Ok(talk.go_on(buffer)?.map(|message| {
                // A cut message by TCP is all that there is to be had.
                let reply = match Reply::of(&message, query) {
                    Reply::Truncated => Reply::Answer,
                    Reply::Foreign => Reply::FailedWithoutQuestion,
                    reply => reply,
                };
                (message, reply)
            })),
            Way::Datagram(socket, _) => {
                // Who sends foreign messages without end does not keep others waiting: epoll tells again.
                for _ in 0..limits::PACKETS_A_TURN {
                    match socket.recv(buffer) {
                        Ok(length) => {
                            let message = buffer.get(..length).unwrap_or_default();
                            match Reply::of(message, query) {
                                Reply::Foreign => {}
                                reply => return Ok(Some((message.to_vec(), reply))),
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(None)
            }
        }
    }
}

impl Talk {
    /// Sends and reads as far as it goes; the answer, once it is whole.
    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        while self.sent < self.query.len() {
            match self.socket.write(self.query.get(self.sent..).unwrap_or_default()) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(read) => self.answer.extend(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Some((length, rest)) = self.answer.split_first_chunk()
                && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*length)))
            {
                return Ok(Some(message.to_vec()));
            }
        }
    }
}

/// epoll takes no more descriptors.
fn no_room(_: crate::error::Failure) -> io::Error {
    io::Error::from(ErrorKind::OutOfMemory)
}
