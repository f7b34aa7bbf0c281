//! The loop: one thread, one epoll, and no step in it that waits or goes on
//! without end.
//!
//! A turn is: wait; tell each source what it waited for; read a few packets
//! from each device that has some and give them to the handler of their
//! protocol; then let each handler do what has come up. What is left over
//! makes the next turn not wait.
//!
//! A handler of a protocol is a struct here with these methods, called in this
//! order within a turn:
//!
//! ```text
//!   ready(key, readiness, attachments, turn)      a descriptor or time of one of its flows
//!   receive(attachment key, attached, frame, turn)   a packet of a container
//!   settle(attachments, turn)                     once, after all of them: do what is due
//!   has_more()                                    whether the next turn must not wait
//!   detach(attachment key, turn)                  a container is gone
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::attachment::{Attached, Attachment, AttachmentKey, Attachments};
use super::dns;
use super::egress::{self, Network, Verdict};
use super::fragments::Fragments;
use super::frame::{Frame, Segments, protocol};
use super::icmp;
use super::link::Received;
use super::poller::{Interest, Poller, Readiness, Source};
use super::publish;
use super::refusal::Reason;
use super::tcp;
use super::udp;
use crate::error::Result;
use crate::limits;

/// What the router is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network that all its containers are on.
    pub network: Network,
    /// Descriptors that flows may take together.
    pub flows_max: usize,
    /// Descriptors that connections through published ports may take together.
    pub published_max: usize,
}

/// What a handler works with in a turn, beside its own.
pub struct Turn<'a> {
    /// Where flows register their descriptors and times.
    pub poller: &'a mut Poller,
    /// The network, for [`Turn::decide`].
    pub network: &'a Network,
    /// When the turn began.
    pub now: Instant,
}

impl Turn<'_> {
    /// Whether and where a container reaches `destination`.
    pub fn decide(&self, destination: SocketAddr, from: &Attached) -> Verdict {
        egress::decide(destination, &from.policy, self.network)
    }
}

/// Something that is not the router's own and is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// The number that it was registered with ([`Source::Outside`]).
    pub number: u64,
    /// What it is ready for.
    pub readiness: Readiness,
}

/// One in so many descriptors is for a question about a name.
const DNS_SHARE: usize = 16;

/// The handler of each protocol.
struct Handlers {
    dns: dns::Resolver,
    fragments: Fragments,
    icmp: icmp::Echoes,
    ports: publish::Ports,
    tcp: tcp::Flows,
    udp: udp::Flows,
}

/// One in so many descriptors is for a UDP port.
const UDP_SHARE: usize = 4;

/// One in so many is for echo requests.
const ECHO_SHARE: usize = 32;

impl Handlers {
    fn new(flows_max: usize, published_max: usize) -> Result<Self> {
        let dns = dns::Resolver::new(flows_max / DNS_SHARE);
        let udp = (flows_max / UDP_SHARE).min(limits::UDP_FLOWS_MAX);
        let echoes = (flows_max / ECHO_SHARE).min(limits::ECHO_FLOWS_MAX);
        let tcp = flows_max - dns.descriptors_max() - udp - echoes;
        Ok(Self {
            dns,
            fragments: Fragments::default(),
            icmp: icmp::Echoes::new(echoes)?,
            ports: publish::Ports::new(published_max),
            tcp: tcp::Flows::new(tcp)?,
            udp: udp::Flows::new(udp)?,
        })
    }
}

/// Containers' devices and the host's sockets, and what goes between them.
pub struct Router {
    network: Network,
    poller: Poller,
    attachments: Attachments,
    handlers: Handlers,
    ready: Vec<(Source, Readiness)>,
    /// Containers whose device went away since it was last asked.
    gone: Vec<AttachmentKey>,
    /// One packet.
    buffer: Vec<u8>,
}

impl Router {
    /// A router without containers.
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self {
            network: config.network,
            poller: Poller::new()?,
            attachments: Attachments::default(),
            handlers: Handlers::new(config.flows_max, config.published_max)?,
            ready: Vec::new(),
            gone: Vec::new(),
            buffer: vec![0; limits::PACKET_BYTES_MAX],
        })
    }

    /// Where others may wait for descriptors of their own in the same loop,
    /// under [`Source::Outside`].
    pub fn poller(&mut self) -> &mut Poller {
        &mut self.poller
    }

    /// Takes a container on.
    pub fn add(&mut self, attachment: Attachment) -> Result<AttachmentKey> {
        let Attachment { addresses, policy, mtu, link, dns } = attachment;
        let tcp = tcp::Stack::new(mtu)?;
        let attached = Attached { addresses, policy, mtu, link, tcp, dns, token: None, refused: 0 };
        let key = self.attachments.insert(attached);
        if let Some(attached) = self.attachments.get_mut(key) {
            match self.poller.watch(&attached.link, Interest::Readable, Source::Link(key)) {
                Ok(token) => attached.token = Some(token),
                Err(failure) => {
                    self.attachments.remove(key);
                    return Err(failure);
                }
            }
        }
        Ok(key)
    }

    /// Lets a container go: its flows are reset on the host's side.
    pub fn remove(&mut self, key: AttachmentKey) {
        let mut turn = Turn { poller: &mut self.poller, network: &self.network, now: Instant::now() };
        self.handlers.fragments.detach(key);
        self.handlers.icmp.detach(key, &mut turn);
        self.handlers.tcp.detach(key, &mut turn);
        self.handlers.dns.detach(key, &mut turn);
        self.handlers.udp.detach(key, &mut turn);
        if let Some(attached) = self.attachments.remove(key) {
            stop_reading(&attached, &mut self.poller);
        }
    }

    /// The published ports, and what they are worked on with.
    pub fn ports(&mut self) -> (&mut publish::Ports, Turn<'_>) {
        let turn = Turn { poller: &mut self.poller, network: &self.network, now: Instant::now() };
        (&mut self.handlers.ports, turn)
    }

    /// The container of a key.
    pub fn attached(&self, key: AttachmentKey) -> Option<&Attached> {
        self.attachments.get(key)
    }

    /// How many TCP flows there are.
    pub fn tcp_flows(&self) -> usize {
        self.handlers.tcp.count()
    }

    /// How many UDP ports of containers are mapped.
    pub fn udp_flows(&self) -> usize {
        self.handlers.udp.count()
    }

    /// The host's addresses have changed.
    pub fn set_host_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.network.host = addresses;
    }

    /// The host's resolv.conf(5), as it is now.
    pub fn set_resolver(&mut self, text: &str) {
        self.handlers.dns.set_host(text);
    }

    /// Containers whose device is gone since this was last asked. They stay on
    /// the router, silent, until they are removed.
    pub fn take_gone(&mut self) -> Vec<AttachmentKey> {
        std::mem::take(&mut self.gone)
    }

    /// Waits until there is something to do, for `timeout` at most, and does
    /// it. Returns what others registered and is ready.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Vec<Outside>> {
        let timeout = if self.handlers.has_more() { Some(Duration::ZERO) } else { timeout };
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(timeout, &mut ready)?;
        let mut outside = Vec::new();
        let mut turn = Turn { poller: &mut self.poller, network: &self.network, now: Instant::now() };
        for (source, readiness) in ready.iter().copied() {
            match source {
                Source::Link(_) => {}
                Source::Port(key) => self.handlers.ports.ready_port(key),
                Source::Published(key, side) => self.handlers.ports.ready(key, side, readiness),
                Source::Site(key) => self.handlers.ports.ready_site(key, &mut turn),
                Source::Tcp(key) => self.handlers.tcp.ready(key, readiness),
                Source::TcpQuiet => self.handlers.tcp.quiet(turn.poller),
                Source::DnsQuery(key) => self.handlers.dns.ready(key, readiness, &mut self.attachments, &mut turn),
                Source::DnsStream(key) => self.handlers.dns.stream_ready(key, readiness),
                Source::Udp(key) => self.handlers.udp.ready(key, readiness, &mut self.attachments, &mut turn),
                Source::Echo(key) => self.handlers.icmp.ready(key, readiness, &mut self.attachments, &mut turn),
                Source::Fragments => self.handlers.fragments.due(&mut self.attachments, &mut turn),
                Source::Outside(number) => outside.push(Outside { number, readiness }),
            }
        }
        for (source, _) in ready.drain(..) {
            if let Source::Link(key) = source
                && let Some(attached) = self.attachments.get_mut(key)
                && !self.handlers.read(key, attached, &mut self.buffer, &mut turn)
            {
                stop_reading(attached, turn.poller);
                attached.token = None;
                self.gone.push(key);
            }
        }
        self.handlers.dns.settle(&mut self.attachments, &mut turn);
        self.handlers.tcp.settle(&mut self.attachments, &mut turn);
        self.handlers.ports.settle(&mut turn);
        self.ready = ready;
        Ok(outside)
    }
}

/// Others may hold the device open: closing it here does not end its events.
fn stop_reading(attached: &Attached, poller: &mut Poller) {
    if let Some(token) = attached.token {
        poller.forget_shared(&attached.link, token);
    }
}

impl Handlers {
    /// Whether there is something to do without waiting.
    fn has_more(&self) -> bool {
        self.dns.has_more() || self.tcp.has_more() || self.ports.has_more()
    }

    /// Reads a few packets of a container; says whether its device is there.
    fn read(&mut self, key: AttachmentKey, attached: &mut Attached, buffer: &mut [u8], turn: &mut Turn<'_>) -> bool {
        for _ in 0..limits::PACKETS_A_TURN {
            let (length, segments, is_sum_open) = match attached.link.receive(buffer) {
                Received::Packet { length, segments, is_sum_open } => (length, segments, is_sum_open),
                Received::Empty => return true,
                Received::Gone => return false,
            };
            match Frame::parse(buffer.get(..length).unwrap_or_default(), segments) {
                Ok(mut frame) if attached.addresses.owns(frame.source) => {
                    frame.is_sum_open = is_sum_open;
                    self.dispatch(key, attached, &frame, turn);
                }
                _ => attached.refused += 1,
            }
        }
        true
    }

    fn dispatch(&mut self, key: AttachmentKey, attached: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        // Nobody is in a group here: router solicitations, reports of group members and the like.
        if frame.destination.is_multicast() {
            return;
        }
        if frame.hop_limit <= 1 && !attached.addresses.is_gateway(frame.destination) {
            return attached.refuse(frame, Reason::HopLimit);
        }
        match (frame.protocol, frame.fragment) {
            (protocol::UDP, None) if dns::is_query(frame, &attached.addresses) => {
                self.dns.receive(key, attached, frame, turn);
            }
            (protocol::TCP, None) => {
                self.tcp.receive(key, attached, frame, turn);
                self.dns.accept(key, attached, turn);
            }
            (protocol::UDP, None) => self.udp.receive(key, attached, frame, turn),
            (protocol::ICMP | protocol::ICMPV6, None) => self.icmp.receive(key, attached, frame, turn),
            (protocol::UDP | protocol::ICMP | protocol::ICMPV6, Some(_)) => {
                if let Some(packet) = self.fragments.add(key, attached, frame, turn)
                    && let Ok(mut whole) = Frame::parse(&packet, Segments::One)
                {
                    // Who sent it in fragments does not mind that it goes on in some.
                    whole.dont_fragment = false;
                    self.dispatch(key, attached, &whole, turn);
                }
            }
            _ => attached.refuse(frame, Reason::Protocol),
        }
    }
}
