//! The resolver at the gateway's port 53: it answers what it knows itself
//! ([`names`]), and passes every other question on to the servers of the host,
//! or to those that the container's user named ([`servers`]), as they are.
//!
//! ```text
//!   container                  here                                        server
//!     datagram to port 53 -->  Query::parse -- known? -- answer
//!     or a message in a            |
//!     TCP stream (stream)          +--> exchange: asks one after the other -->
//!                        <-- its answer, cut to what the container takes   <--
//! ```
//! It keeps no cache and changes no answer: what servers say of EDNS, DNSSEC
//! and the spelling of names passes as it is. Every question gets an answer,
//! though it be that there is none to be had (SERVFAIL).
//!
//! Messages are parsed and composed by the crate `domain`: it copies nothing to
//! parse, bounds what pointers in names lead to, and brings no threads and no
//! runtime with it (`docs/design/0006-names.md`).

mod exchange;
pub mod message;
mod names;
mod servers;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, TcpStream};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, UDP_HEADER_LEN, UdpPacket, UdpRepr};

use self::exchange::{Asker, Exchange, Parts, Step};
use self::message::{Query, Refused};
use self::names::{Found, Names};
use self::servers::{Choice, Servers};
use self::stream::Stream;
use super::attachment::{Addresses, Attached, AttachmentKey, Attachments};
use super::frame::{Frame, Segments, protocol};
use super::poller::{Interest, Readiness, Source};
use super::router::Turn;
use super::slots::{Key, Slots};
use super::terms::Dns;
use crate::kernel::{self, Errno, process};
use crate::limits;

pub use self::names::HOST_NAMES;

/// RFC 1035 section 4.2.
const PORT: u16 = 53;

/// What the resolver keeps for each container.
pub struct Client {
    /// Servers that its user named.
    servers: Vec<IpAddr>,
    names: Names,
    /// Questions of its that servers are being asked.
    open: usize,
    streams: usize,
    /// Ends of connections that were made for it and are not served yet.
    arrived: Vec<TcpStream>,
}

impl Client {
    /// For a container called `name`.
    pub fn new(dns: &Dns, addresses: Addresses, name: &str) -> Self {
        let names = Names::new(dns, addresses, name);
        Self { servers: dns.servers.clone(), names, open: 0, streams: 0, arrived: Vec::new() }
    }

    /// A connection to the resolver; what TCP has instead of the host's socket.
    pub fn connect(&mut self) -> kernel::Result<TcpStream> {
        if self.streams + self.arrived.len() >= limits::DNS_STREAMS_A_CONTAINER {
            return Err(kernel::Error::new("connect", "the resolver", Errno::ECONNREFUSED));
        }
        let (here, there) = kernel::socket::pair_now()?;
        self.arrived.push(TcpStream::from(here));
        Ok(TcpStream::from(there))
    }
}

/// Whether this is where a container reaches the resolver.
pub fn is_resolver(destination: SocketAddr, addresses: &Addresses) -> bool {
    destination.port() == PORT && addresses.is_gateway(destination.ip())
}

/// Whether a UDP packet is for the resolver.
pub fn is_query(frame: &Frame<'_>, addresses: &Addresses) -> bool {
    addresses.is_gateway(frame.destination)
        && frame.protocol == protocol::UDP
        && frame.payload().get(2..4).is_some_and(|port| port == PORT.to_be_bytes())
}

/// A question as the one who asks knows it.
type Asked = (AttachmentKey, Asker, u16);

/// All questions and connections.
pub struct Resolver {
    choice: Choice,
    exchanges: Slots<Exchange>,
    by_asked: HashMap<Asked, Key>,
    /// Questions that are answered by a failure, to make room.
    given_up: Vec<Key>,
    streams: Slots<Stream>,
    /// Connections with something to do.
    dirty: VecDeque<Key>,
    /// One message.
    buffer: Vec<u8>,
    /// Questions that servers may be asked at the same time.
    most: usize,
}

impl Resolver {
    /// One that asks the host itself until it is told better, and at most so
    /// many questions at the same time.
    pub fn new(most: usize) -> Self {
        Self {
            choice: Choice::new(Servers::parse("")),
            exchanges: Slots::default(),
            by_asked: HashMap::new(),
            given_up: Vec::new(),
            streams: Slots::default(),
            dirty: VecDeque::new(),
            buffer: vec![0; usize::from(u16::MAX)],
            most: most.clamp(1, limits::DNS_QUERIES_MAX),
        }
    }

    /// How many descriptors it takes at most, with the ends that TCP holds.
    pub fn descriptors_max(&self) -> usize {
        self.most * limits::DNS_SERVERS_MAX + self.streams_max() * 2
    }

    fn streams_max(&self) -> usize {
        self.most.div_ceil(4)
    }

    /// The host's resolv.conf(5), as it is now.
    pub fn set_host(&mut self, text: &str) {
        self.choice.host = Servers::parse(text);
    }

    /// Whether a connection has something to do without waiting.
    pub fn has_more(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// A container sent what [`is_query`] says is for the resolver.
    pub fn receive(&mut self, key: AttachmentKey, from: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        let packet = match UdpPacket::new_checked(frame.payload()) {
            // Nobody answers at port 0.
            Ok(packet) if packet.src_port() != 0 => packet,
            _ => {
                from.refused += 1;
                return;
            }
        };
        let client = SocketAddr::new(frame.source, packet.src_port());
        let asker = Asker::Datagram { client, resolver: SocketAddr::new(frame.destination, PORT) };
        let each = match frame.segments {
            Segments::Udp(size) => usize::from(size).max(1),
            Segments::One | Segments::Tcp(_) => packet.payload().len().max(1),
        };
        for message in packet.payload().chunks(each) {
            if let Some(answer) = self.ask(key, asker, message, from, turn) {
                send(from, client, frame.destination, &answer);
            }
        }
    }

    /// Takes over the connections that were made for a container.
    pub fn accept(&mut self, key: AttachmentKey, attached: &mut Attached, turn: &mut Turn<'_>) {
        for socket in std::mem::take(&mut attached.dns.arrived) {
            // Above the bound it is closed, as by a server that has no time.
            if self.streams.len() >= self.streams_max() {
                continue;
            }
            let stream = self.streams.insert(Stream::new(key, socket, turn.now));
            let Some(entry) = self.streams.get_mut(stream) else { continue };
            let Ok(token) = turn.poller.watch(&entry.socket, Interest::Changes, Source::DnsStream(stream)) else {
                self.streams.remove(stream);
                continue;
            };
            entry.token = Some(token);
            turn.poller.wake_at(token, turn.now + limits::DNS_STREAM_IDLE);
            attached.dns.streams += 1;
        }
    }

    /// A server has said something, or was waited for long enough.
    pub fn ready(&mut self, key: Key, readiness: Readiness, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let step = if readiness.due {
            exchange.due(key, turn.poller, turn.now)
        } else {
            let (step, server) = exchange.hear(key, &mut self.buffer, turn.poller, turn.now);
            if let Some(server) = server {
                self.choice.note_answer(server);
            }
            step
        };
        if step != Step::Wait {
            self.finish(key, step, attachments, turn);
        }
    }

    /// A connection can be used, or its time has come.
    pub fn stream_ready(&mut self, key: Key, readiness: Readiness) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.note(readiness);
            mark(key, stream, &mut self.dirty);
        }
    }

    /// Reads and answers what connections have, a few messages of each.
    pub fn settle(&mut self, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        for key in std::mem::take(&mut self.given_up) {
            self.finish(key, Step::Failed, attachments, turn);
        }
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop_front() else { break };
            let Some(attachment) = self.streams.get_mut(key).map(|stream| {
                stream.is_dirty = false;
                stream.attachment
            }) else {
                continue;
            };
            if let Some(attached) = attachments.get_mut(attachment) {
                self.work(key, attachment, attached, turn);
            }
        }
    }

    /// A container is gone.
    pub fn detach(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        let of_it = |(key, exchange): (Key, &Exchange)| (exchange.attachment == attachment).then_some(key);
        for key in self.exchanges.iter().filter_map(of_it).collect::<Vec<_>>() {
            self.remove(key, turn);
        }
        let of_it = |(key, stream): (Key, &Stream)| (stream.attachment == attachment).then_some(key);
        for key in self.streams.iter().filter_map(of_it).collect::<Vec<_>>() {
            self.close(key, None, turn);
        }
    }

    /// A question: the answer, if it can be had at once.
    fn ask(
        &mut self,
        key: AttachmentKey,
        asker: Asker,
        message: &[u8],
        from: &mut Attached,
        turn: &mut Turn<'_>,
    ) -> Option<Vec<u8>> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Refused::Answer(answer)) => return Some(answer),
            Err(Refused::Silence) => return None,
        };
        match from.dns.names.find(&query, &turn.network.subnets) {
            Found::Records(records) => return Some(query.answer(&records)),
            Found::Nothing => return Some(query.no_such_name()),
            Found::Unknown => {}
        }
        let asked = (key, asker, query.id());
        if let Some(exchange) = self.by_asked.get(&asked).and_then(|known| self.exchanges.get_mut(*known))
            && exchange.query.get(2..) == message.get(2..)
        {
            exchange.repeat();
            return None;
        }
        let decide = |server| turn.decide(server, from);
        let servers = self.choice.choose(&from.dns.servers, &from.policy, decide, turn.now);
        // Nobody asks so much as is refused here.
        if servers.is_empty() || message.len() > limits::DNS_QUERY_BYTES_MAX {
            return Some(query.refused());
        }
        let is_full = from.dns.open >= limits::DNS_QUERIES_A_CONTAINER.min(self.most);
        if is_full || self.exchanges.len() >= self.most && !self.make_room(from.dns.open) {
            return Some(query.failed());
        }
        self.forward(asked, &query, servers, from, turn)
    }

    /// Gives up the oldest question of the container that has the most of them
    /// open, for one that has `open`, which is fewer.
    fn make_room(&mut self, open: usize) -> bool {
        let mut counts: HashMap<AttachmentKey, usize> = HashMap::new();
        let waiting = || self.exchanges.iter().filter(|(_, exchange)| !exchange.is_given_up);
        waiting().for_each(|(_, exchange)| *counts.entry(exchange.attachment).or_default() += 1);
        let Some((largest, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return false };
        let of_it = waiting().filter(|(_, exchange)| exchange.attachment == largest);
        let Some(oldest) = of_it.min_by_key(|(_, exchange)| exchange.began).map(|(key, _)| key) else { return false };
        if count <= open + 1 {
            return false;
        }
        if let Some(exchange) = self.exchanges.get_mut(oldest) {
            exchange.is_given_up = true;
            self.given_up.push(oldest);
        }
        true
    }

    /// Has servers asked; the answer, if that cannot be done.
    fn forward(
        &mut self,
        asked: Asked,
        query: &Query<'_>,
        servers: Vec<SocketAddr>,
        from: &mut Attached,
        turn: &mut Turn<'_>,
    ) -> Option<Vec<u8>> {
        let (attachment, asker, client_id) = asked;
        let Ok(id) = process::random() else { return Some(query.failed()) };
        let query_bytes = query.with_id(u16::from_ne_bytes(id));
        let Servers { patience, rounds, .. } = self.choice.host;
        let parts = Parts { attachment, asker, client_id, query: query_bytes, servers, patience, rounds };
        let key = self.exchanges.insert(Exchange::new(parts, turn.now));
        let step = self.exchanges.get_mut(key).map(|exchange| exchange.start(key, turn.poller, turn.now));
        if step != Some(Step::Wait) {
            self.remove(key, turn);
            return Some(query.failed());
        }
        self.by_asked.insert(asked, key);
        from.dns.open += 1;
        if let Asker::Stream(stream) = asker
            && let Some(stream) = self.streams.get_mut(stream)
        {
            stream.open += 1;
        }
        None
    }

    /// Gives the answer to who asked.
    fn finish(&mut self, key: Key, step: Step, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        let Some(exchange) = self.remove(key, turn) else { return };
        for server in exchange.silent() {
            self.choice.note_silent(server, turn.now);
        }
        let Some(attached) = attachments.get_mut(exchange.attachment) else { return };
        attached.dns.open = attached.dns.open.saturating_sub(1);
        let Ok(query) = Query::parse(&exchange.query) else { return };
        let mut answer = match step {
            Step::Answer(answer) => answer,
            Step::Failed | Step::Wait => query.failed(),
        };
        message::set_id(&mut answer, exchange.client_id);
        match exchange.asker {
            Asker::Datagram { client, resolver } => {
                if answer.len() > query.takes {
                    answer = message::truncate(&answer).unwrap_or_else(|| query.failed());
                    message::set_id(&mut answer, exchange.client_id);
                }
                send(attached, client, resolver.ip(), &answer);
            }
            Asker::Stream(stream) => {
                let Some(entry) = self.streams.get_mut(stream) else { return };
                entry.open = entry.open.saturating_sub(1);
                entry.push(&answer, turn.now);
                mark(stream, entry, &mut self.dirty);
            }
        }
    }

    fn remove(&mut self, key: Key, turn: &mut Turn<'_>) -> Option<Exchange> {
        let mut exchange = self.exchanges.remove(key)?;
        exchange.forget(turn.poller);
        let asked = (exchange.attachment, exchange.asker, exchange.client_id);
        if self.by_asked.get(&asked) == Some(&key) {
            self.by_asked.remove(&asked);
        }
        Some(exchange)
    }

    /// Does what there is to do with one connection.
    fn work(&mut self, key: Key, attachment: AttachmentKey, attached: &mut Attached, turn: &mut Turn<'_>) {
        for _ in 0..limits::DNS_STREAM_QUERIES {
            let Some(stream) = self.streams.get_mut(key) else { return };
            let Some(message) = stream.next(&mut self.buffer, turn.now) else {
                if stream.is_over() || stream.is_idle(turn.now) {
                    self.close(key, Some(attached), turn);
                } else if let Some(token) = stream.token {
                    // What is over before is seen to be not idle yet.
                    turn.poller.wake_at(token, (stream.last_active + limits::DNS_STREAM_IDLE).max(turn.now + SECOND));
                }
                return;
            };
            if let Some(answer) = self.ask(attachment, Asker::Stream(key), &message, attached, turn)
                && let Some(stream) = self.streams.get_mut(key)
            {
                stream.push(&answer, turn.now);
            }
        }
        if let Some(stream) = self.streams.get_mut(key) {
            mark(key, stream, &mut self.dirty);
        }
    }

    fn close(&mut self, key: Key, attached: Option<&mut Attached>, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.remove(key) else { return };
        if let Some(token) = stream.token {
            turn.poller.forget(token);
        }
        if let Some(attached) = attached {
            attached.dns.streams = attached.dns.streams.saturating_sub(1);
        }
    }
}

/// How often a connection is looked at whose question takes long.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn mark(key: Key, stream: &mut Stream, dirty: &mut VecDeque<Key>) {
    if !stream.is_dirty {
        stream.is_dirty = true;
        dirty.push_back(key);
    }
}

/// Sends an answer to a container as one packet, which has room for every
/// message: nothing is on its way that a large one would not fit through.
fn send(attached: &mut Attached, client: SocketAddr, resolver: IpAddr, answer: &[u8]) {
    let transport = UdpRepr { src_port: PORT, dst_port: client.port() };
    let length = UDP_HEADER_LEN + answer.len();
    let header = IpRepr::new(resolver.into(), client.ip().into(), IpProtocol::Udp, length, HOP_LIMIT);
    let checksums = ChecksumCapabilities::default();
    let mut packet = vec![0; header.header_len() + length];
    header.emit(&mut packet[..], &checksums);
    let Some(payload) = packet.get_mut(header.header_len()..) else { return };
    let copy = |room: &mut [u8]| room.copy_from_slice(answer);
    let (from, to) = (resolver.into(), client.ip().into());
    transport.emit(&mut UdpPacket::new_unchecked(payload), &from, &to, answer.len(), copy, &checksums);
    attached.send(&packet, None);
}

/// As a host's kernel has it.
const HOP_LIMIT: u8 = 64;
