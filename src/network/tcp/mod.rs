//! TCP between containers and the host's sockets: each connection of a
//! container ends here, and another one begins, to where it was to go.
//!
//! The end towards the container is smoltcp's, unchanged; [`flow`] draws a
//! connection's life. smoltcp's interface is asked for one flow at a time
//! ([`rings::End`]), so that no flow pays for others. It sees no packet that is
//! not a TCP segment of a known flow, or the SYN of a new one.

mod clock;
mod device;
mod flow;
mod rings;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{HardwareAddress, IpListenEndpoint, TcpPacket, TcpRepr};

use self::clock::Clock;
use self::device::Port;
use self::flow::{Bench, Flow, Next, Opened, Parts, Stage};
use self::rings::Rings;
use super::attachment::{Attached, AttachmentKey, Attachments, reason};
use super::dns;
use super::egress::Verdict;
use super::frame::Frame;
use super::poller::{Interest, Poller, Readiness, Source, Token};
use super::refusal::Quote;
use super::router::Turn;
use super::slots::{Key, Slots};
use crate::error::Result;
use crate::kernel::{self, memory, process};
use crate::limits;

/// The largest segment of who does not say it (RFC 9293 section 3.7.1).
const MSS_UNSAID: u16 = 536;

/// The smallest that is believed; smoltcp's own bound (`MIN_REMOTE_MSS`).
const MSS_MIN: u16 = 48;

/// What TCP keeps for each container.
pub struct Stack {
    interface: Interface,
    /// How many flows it has.
    flows: usize,
}

impl Stack {
    /// For a device with this MTU.
    pub fn new(mtu: u16) -> Result<Self> {
        let mut config = smoltcp::iface::Config::new(HardwareAddress::Ip);
        // First sequence numbers come from it. Only the container itself sees them.
        config.random_seed = u64::from_ne_bytes(process::random()?);
        let mut interface = Interface::new(config, &mut device::Announced(mtu), smoltcp::time::Instant::ZERO);
        // It speaks for every destination.
        interface.set_any_ip(true);
        Ok(Self { interface, flows: 0 })
    }
}

/// A connection as the container names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tuple {
    attachment: AttachmentKey,
    client: SocketAddr,
    server: SocketAddr,
}

/// All TCP flows.
pub struct Flows {
    table: Slots<Flow>,
    by_tuple: HashMap<Tuple, Key>,
    /// Flows with something to do.
    dirty: VecDeque<Key>,
    rings: Rings,
    /// Room for one packet.
    sending: Vec<u8>,
    clock: Clock,
    /// Flows that there may be.
    most: usize,
    /// Where the search for a flow that can go begins.
    cursor: usize,
    quiet: Option<Token>,
}

/// Where a new flow leads to.
enum Destination {
    /// This address, by a socket of the host's.
    Host(SocketAddr),
    /// The resolver in this process.
    Resolver,
}

/// What a segment says of itself.
struct Segment {
    from: u16,
    to: u16,
    is_first: bool,
    is_reset: bool,
}

impl Segment {
    fn parse(payload: &[u8]) -> Option<Self> {
        let packet = TcpPacket::new_checked(payload).ok()?;
        let is_first = packet.syn() && !(packet.ack() || packet.rst() || packet.fin());
        Some(Self { from: packet.src_port(), to: packet.dst_port(), is_first, is_reset: packet.rst() })
    }
}

impl Flows {
    /// No flows, and room for `most`.
    pub fn new(most: usize) -> Result<Self> {
        // Rings are mappings of their own, and touched pages are small ones: an idle flow costs what it used.
        memory::map_blocks_from(limits::MAPPED_BLOCK_BYTES_MIN)?;
        memory::refuse_huge_pages()?;
        Ok(Self {
            table: Slots::default(),
            by_tuple: HashMap::new(),
            dirty: VecDeque::new(),
            rings: Rings::default(),
            sending: vec![0; limits::PACKET_BYTES_MAX],
            clock: Clock::new(),
            most,
            cursor: 0,
            quiet: None,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// Whether a flow has something to do without waiting.
    pub fn has_more(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// A flow's socket is ready, or its time has come.
    pub fn ready(&mut self, key: Key, readiness: Readiness) {
        if let Some(flow) = self.table.get_mut(key) {
            flow.note(readiness);
            mark(key, flow, &mut self.dirty);
        }
    }

    /// It has been quiet: warm rings go.
    pub fn quiet(&mut self, poller: &mut Poller) {
        if let Some(token) = self.quiet.take() {
            poller.forget(token);
        }
        self.rings.clear_stock();
        memory::give_back();
    }

    /// A container sent a segment.
    pub fn receive(&mut self, key: AttachmentKey, from: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        // Nobody sends TCP behind IP options or extension headers, so they are none of ours.
        let segment = if frame.has_extensions() { None } else { Segment::parse(frame.payload()) };
        let Some(segment) = segment else {
            from.refused += 1;
            return;
        };
        let client = SocketAddr::new(frame.source, segment.from);
        let server = SocketAddr::new(frame.destination, segment.to);
        let tuple = Tuple { attachment: key, client, server };
        if let Some(flow_key) = self.by_tuple.get(&tuple).copied()
            && let Some(flow) = self.table.get_mut(flow_key)
        {
            let bench = &mut bench(from, &mut self.sending, self.clock, turn.now);
            flow.receive(frame.packet(), bench);
            mark(flow_key, flow, &mut self.dirty);
        } else if segment.is_first {
            self.open(tuple, from, frame, turn);
        } else if !segment.is_reset {
            self.reset(from, frame, turn.now);
        }
    }

    /// Does what has come up in this turn.
    pub fn settle(&mut self, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        // Those that have more to do after it wait for the next turn.
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop_front() else { break };
            let Some(flow) = self.table.get_mut(key) else { continue };
            flow.is_dirty = false;
            let Some(attached) = attachments.get_mut(flow.attachment) else { continue };
            let next = flow.work(&mut bench(attached, &mut self.sending, self.clock, turn.now));
            let touches = flow.touches();
            self.rings.touch(touches.saturating_sub(flow.touched));
            flow.touched = touches;
            match next {
                Next::Wait => wait(flow, attached, self.clock, turn),
                Next::More => mark(key, flow, &mut self.dirty),
                Next::Ended => self.remove(key, Some(attached), turn),
                Next::Unreachable(reason) => {
                    if let Stage::Opening(Some(quote)) = &flow.stage {
                        let (quote, source) = (quote.clone(), flow.tuple.client.ip());
                        attached.refuse_quoted(&quote, source, reason);
                    }
                    self.remove(key, Some(attached), turn);
                }
            }
        }
        while self.rings.is_over() && self.evict_largest(attachments, turn) {}
    }

    /// A container is gone.
    pub fn detach(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        let of_it = |(key, flow): (Key, &Flow)| (flow.attachment == attachment).then_some(key);
        let keys: Vec<Key> = self.table.iter().filter_map(of_it).collect();
        for key in keys {
            if let Some(flow) = self.table.get(key) {
                flow.reset_host();
            }
            self.remove(key, None, turn);
        }
    }

    /// A container wants a connection.
    fn open(&mut self, tuple: Tuple, from: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        let destination = match turn.decide(tuple.server, from) {
            _ if dns::is_resolver(tuple.server, &from.addresses) => Destination::Resolver,
            Verdict::Reach(destination) => Destination::Host(destination),
            refused => {
                if let Some(reason) = reason(refused) {
                    from.refuse(frame, reason);
                }
                return;
            }
        };
        let is_full = from.tcp.flows >= limits::TCP_FLOWS_A_CONTAINER.min(self.most) || self.table.len() >= self.most;
        if is_full && !self.evict_for(tuple.attachment, from, turn) {
            return self.reset(from, frame, turn.now);
        }
        match self.connect(tuple, destination, from, frame, turn) {
            Ok(()) => from.tcp.flows += 1,
            Err(Opened::Unreachable(reason)) => from.refuse(frame, reason),
            Err(Opened::Refused) => self.reset(from, frame, turn.now),
            Err(Opened::Yes | Opened::NotYet | Opened::Silence) => {}
        }
    }

    fn connect(
        &mut self,
        tuple: Tuple,
        destination: Destination,
        from: &mut Attached,
        frame: &Frame<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Opened> {
        let mss = mss(frame).ok_or(Opened::Silence)?;
        let host = match destination {
            Destination::Host(address) => kernel::socket::connect_tcp(address),
            Destination::Resolver => from.dns.connect(),
        };
        let host = host.map_err(|error| Opened::failed(error.errno))?;
        let mut end = self.rings.take();
        let listen = IpListenEndpoint { addr: Some(tuple.server.ip().into()), port: tuple.server.port() };
        let socket = end.socket();
        socket.pause_synack(true);
        // Port 0: nobody is there.
        socket.listen(listen).map_err(|_| Opened::Refused)?;
        let parts = Parts { attachment: tuple.attachment, tuple, host, end, quote: Quote::of(frame), mss };
        let mut flow = Flow::new(parts, turn.now);
        flow.receive(frame.packet(), &mut bench(from, &mut self.sending, self.clock, turn.now));
        if flow.end.socket().state() != State::SynReceived {
            self.rings.give(flow.end, 0);
            return Err(Opened::Silence);
        }
        let key = self.table.insert(flow);
        let Some(flow) = self.table.get_mut(key) else { return Err(Opened::Refused) };
        match turn.poller.watch(flow.host(), Interest::Changes, Source::Tcp(key)) {
            Ok(token) => flow.token = Some(token),
            Err(_) => {
                self.table.remove(key);
                return Err(Opened::Refused);
            }
        }
        mark(key, flow, &mut self.dirty);
        self.by_tuple.insert(tuple, key);
        Ok(())
    }

    /// Answers a segment of no flow with a reset, as it asks for.
    fn reset(&mut self, from: &mut Attached, frame: &Frame<'_>, now: Instant) {
        let Bench { interface, link, sending, .. } = bench(from, &mut self.sending, self.clock, now);
        let mut port = Port { link, packet: Some(frame.packet()), sending, mss: MSS_MIN };
        interface.poll_ingress_single(self.clock.at(now), &mut port, &mut SocketSet::new(Vec::new()));
    }

    fn remove(&mut self, key: Key, attached: Option<&mut Attached>, turn: &mut Turn<'_>) {
        let Some(flow) = self.table.remove(key) else { return };
        self.by_tuple.remove(&flow.tuple);
        if let Some(token) = flow.token {
            turn.poller.forget(token);
        }
        if let Some(attached) = attached {
            attached.tcp.flows = attached.tcp.flows.saturating_sub(1);
        }
        self.rings.give(flow.end, flow.touched);
        if self.rings.has_stock() {
            let quiet = *self.quiet.get_or_insert_with(|| turn.poller.add(Source::TcpQuiet));
            turn.poller.wake_at(quiet, turn.now + limits::TCP_QUIET);
        }
    }

    /// Makes room for another flow of this container, at the cost of one of
    /// its own that is being opened, or is idle: of a few that are looked at,
    /// the one that has been quiet the longest.
    fn evict_for(&mut self, key: AttachmentKey, attached: &mut Attached, turn: &mut Turn<'_>) -> bool {
        let can_go = |flow: &Flow| {
            matches!(flow.stage, Stage::Opening(_)) || turn.now >= flow.last_active + limits::TCP_EVICT_AFTER
        };
        let candidates = self.table.sample(self.cursor, limits::TCP_EVICT_SAMPLE);
        let victim = candidates
            .filter(|(_, flow)| flow.attachment == key && can_go(flow))
            .min_by_key(|(_, flow)| flow.last_active)
            .map(|(key, _)| key);
        self.cursor = self.cursor.wrapping_add(limits::TCP_EVICT_SAMPLE);
        victim.is_some_and(|victim| self.end(victim, attached, turn))
    }

    /// Gives memory back at the cost of the flow, of a few, that has the most.
    fn evict_largest(&mut self, attachments: &mut Attachments, turn: &mut Turn<'_>) -> bool {
        let candidates = self.table.sample(self.cursor, limits::TCP_EVICT_SAMPLE);
        let victim = candidates.max_by_key(|(_, flow)| flow.touched).map(|(key, flow)| (key, flow.attachment));
        self.cursor = self.cursor.wrapping_add(limits::TCP_EVICT_SAMPLE);
        let Some((victim, attachment)) = victim else { return false };
        attachments.get_mut(attachment).is_some_and(|attached| self.end(victim, attached, turn))
    }

    /// Ends a flow by resets.
    fn end(&mut self, key: Key, attached: &mut Attached, turn: &mut Turn<'_>) -> bool {
        let Some(flow) = self.table.get_mut(key) else { return false };
        flow.abort(&mut bench(attached, &mut self.sending, self.clock, turn.now));
        self.remove(key, Some(attached), turn);
        true
    }
}

fn bench<'a>(attached: &'a mut Attached, sending: &'a mut [u8], clock: Clock, now: Instant) -> Bench<'a> {
    Bench { interface: &mut attached.tcp.interface, link: &mut attached.link, sending, clock, now }
}

fn mark(key: Key, flow: &mut Flow, dirty: &mut VecDeque<Key>) {
    if !flow.is_dirty {
        flow.is_dirty = true;
        dirty.push_back(key);
    }
}

/// Has the flow worked on again when it is due. A time that was set earlier
/// stays: then it is seen that it is not due yet.
fn wait(flow: &mut Flow, attached: &mut Attached, clock: Clock, turn: &mut Turn<'_>) {
    // What is due already was just tried; it is tried again, but not without end.
    let soonest = turn.now + Duration::from_millis(1);
    let due_at = flow.due_at(&mut attached.tcp.interface, clock, turn.now).max(soonest);
    if let Some(token) = flow.token
        && flow.wakes_at.is_none_or(|set| due_at < set)
    {
        flow.wakes_at = Some(due_at);
        turn.poller.wake_at(token, due_at);
    }
}

/// The largest segment that the sender of a SYN takes; `None` for no SYN at all.
fn mss(frame: &Frame<'_>) -> Option<u16> {
    let packet = TcpPacket::new_checked(frame.payload()).ok()?;
    let (from, to) = (frame.source.into(), frame.destination.into());
    let repr = TcpRepr::parse(&packet, &from, &to, &ChecksumCapabilities::ignored()).ok()?;
    // As smoltcp has it: a 0 says nothing.
    Some(repr.max_seg_size.filter(|mss| *mss != 0).unwrap_or(MSS_UNSAID).max(MSS_MIN))
}
