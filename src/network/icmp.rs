//! Echo requests of containers, by sockets that the host lets its users have
//! for them (icmp(7), net.ipv4.ping_group_range). Where it does not, a request
//! is refused as prohibited; no reply is ever made up. The gateway is the
//! router itself, and answers for itself.
//!
//! An identifier is to echo requests what a port is to UDP ([`mapping`]): the
//! host's kernel gives each socket one of its own, and here it is put back into
//! what comes.

use std::net::SocketAddr;

use super::attachment::{Attached, AttachmentKey, Attachments, reason};
use super::checksum::Sum;
use super::datagram::{Head, Inbound};
use super::egress::Verdict;
use super::frame::{Frame, protocol};
use super::mapping::{self, Bounds, Client, Mapping, Mappings, Sent};
use super::peers::Peers;
use super::poller::{Readiness, Source};
use super::refusal::{Quote, Reason};
use super::router::Turn;
use super::slots::Key;
use super::udp::marks;
use crate::error::Result;
use crate::kernel::Errno;
use crate::kernel::datagram::{Family, Origin, Reported, ping};
use crate::limits;

/// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443).
mod kind {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const ECHO: u8 = 8;
    pub(super) const ECHO_V6: u8 = 128;
    pub(super) const ECHO_REPLY_V6: u8 = 129;
}

/// Where an identifier stands: behind type, code and checksum.
const IDENTIFIER_AT: usize = 4;

/// All identifiers of containers' echo requests.
pub struct Echoes {
    mappings: Mappings,
    inbound: Inbound,
}

impl Echoes {
    /// None, and room for `most`.
    pub fn new(most: usize) -> Result<Self> {
        let bounds = Bounds {
            a_container: limits::ECHO_FLOWS_A_CONTAINER,
            in_all: most,
            idle: limits::ECHO_IDLE,
            idle_answered: limits::ECHO_IDLE,
        };
        Ok(Self { mappings: Mappings::new(bounds, Source::Echo), inbound: Inbound::new()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.mappings.count()
    }

    /// A container sent an ICMP message.
    pub fn receive(&mut self, key: AttachmentKey, from: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        let message = frame.payload();
        let Some([kind, code, _, _, id_0, id_1, _, _]) = message.first_chunk::<8>().copied() else {
            from.refused += 1;
            return;
        };
        let is_of_family = frame.source.is_ipv4() == (frame.protocol == protocol::ICMP);
        if !is_of_family || !frame.is_sum_open && sum(frame.source.is_ipv4(), frame, message).finish() != 0 {
            from.refused += 1;
            return;
        }
        if !matches!(
            (frame.protocol, kind, code),
            (protocol::ICMP, kind::ECHO, 0) | (protocol::ICMPV6, kind::ECHO_V6, 0)
        ) {
            return from.refuse(frame, Reason::Prohibited);
        }
        if from.addresses.is_gateway(frame.destination) {
            return self.answer(from, frame);
        }
        let server = SocketAddr::new(frame.destination, 0);
        let destination = match turn.decide(server, from) {
            Verdict::Reach(destination) => destination,
            refused => {
                if let Some(reason) = reason(refused) {
                    from.refuse(frame, reason);
                }
                return;
            }
        };
        let address = SocketAddr::new(frame.source, u16::from_be_bytes([id_0, id_1]));
        let client = Client { attachment: key, address };
        let flow = match self.find_or_open(client, turn) {
            Ok(flow) => flow,
            Err(Errno::EACCES | Errno::EPERM) => return from.refuse(frame, Reason::Prohibited),
            Err(_) => {
                from.link.sent.dropped += 1;
                return;
            }
        };
        self.mappings.note_sent(flow, destination.ip(), server.ip(), turn.now);
        let Some(mapping) = self.mappings.get_mut(flow) else { return };
        let report = &mut |peers: &mut Peers, reported: Reported, message: &[u8]| {
            pass_on(address, peers, &reported, message, from, turn);
        };
        match mapping.send(destination, message, None, marks(frame), report) {
            Sent::Yes => {}
            Sent::Dropped => from.link.sent.dropped += 1,
            Sent::Refused(reason) => from.refuse(frame, reason),
        }
    }

    /// A socket has something, or its time has come.
    pub fn ready(&mut self, key: Key, readiness: Readiness, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        if readiness.due {
            return self.mappings.due(key, turn);
        }
        let Some(mapping) = self.mappings.get_mut(key) else { return };
        let Some(attached) = attachments.get_mut(mapping.client.attachment) else { return };
        if readiness.failed {
            take_errors(mapping, attached, turn);
        }
        for _ in 0..limits::DATAGRAMS_A_TURN {
            let received = match mapping.receive(self.inbound.room()) {
                Ok(Some(received)) => received,
                Ok(None) => continue,
                Err(error) if error.errno == Errno::EAGAIN => break,
                Err(_) => {
                    take_errors(mapping, attached, turn);
                    continue;
                }
            };
            let Some(from) = mapping.sender(portless(received.from), attached, turn) else { continue };
            let client = mapping.client.address;
            let head = Head {
                from: from.ip(),
                to: client.ip(),
                protocol: if client.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 },
                hop_limit: received.hop_limit.map_or(64, |hops| hops.saturating_sub(1).max(1)),
                traffic_class: received.traffic_class,
            };
            let Some(mut reply) = self.inbound.room().get(..received.length).map(<[u8]>::to_vec) else { continue };
            set_identifier(&mut reply, client.port());
            close(&mut reply, &head);
            self.inbound.deliver_message(attached, &head, &reply);
        }
    }

    /// A container is gone.
    pub fn detach(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        self.mappings.detach(attachment, turn);
    }

    fn find_or_open(&mut self, client: Client, turn: &mut Turn<'_>) -> Result<Key, Errno> {
        if let Some(key) = self.mappings.find(&client) {
            return Ok(key);
        }
        let socket = ping(Family::of(client.address.ip())).map_err(|error| error.errno)?;
        self.mappings.make_room(client.attachment, turn);
        self.mappings.insert(client, socket, turn).ok_or(Errno::ENOMEM)
    }

    /// The router's own reply.
    fn answer(&mut self, from: &mut Attached, frame: &Frame<'_>) {
        let is_v4 = frame.source.is_ipv4();
        let mut reply = frame.payload().to_vec();
        if let Some(kind) = reply.first_mut() {
            *kind = if is_v4 { kind::ECHO_REPLY } else { kind::ECHO_REPLY_V6 };
        }
        let head = Head {
            from: frame.destination,
            to: frame.source,
            protocol: frame.protocol,
            hop_limit: 64,
            traffic_class: frame.traffic_class(),
        };
        close(&mut reply, &head);
        self.inbound.deliver_message(from, &head, &reply);
    }
}

/// The kernel tells the identifier where it tells ports.
fn portless(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

/// The sum of a message: ICMPv6's has the addresses in it (RFC 4443 section
/// 2.3).
fn sum(is_v4: bool, frame: &Frame<'_>, message: &[u8]) -> Sum {
    if is_v4 {
        return Sum::default().bytes(message);
    }
    // A packet's payload has 16 bits of length.
    Sum::default().pseudo_header(frame.source, frame.destination, protocol::ICMPV6, message.len() as u16).bytes(message)
}

fn set_identifier(message: &mut [u8], identifier: u16) {
    if let Some(place) = message.get_mut(IDENTIFIER_AT..IDENTIFIER_AT + 2) {
        place.copy_from_slice(&identifier.to_be_bytes());
    }
}

/// Writes the checksum of a message.
fn close(message: &mut [u8], head: &Head) {
    if let Some(place) = message.get_mut(2..4) {
        place.fill(0);
    }
    let start = if head.protocol == protocol::ICMP {
        Sum::default()
    } else {
        Sum::default().pseudo_header(head.from, head.to, protocol::ICMPV6, message.len() as u16)
    };
    let sum = start.bytes(message).finish();
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

fn take_errors(mapping: &mut Mapping, attached: &mut Attached, turn: &Turn<'_>) {
    let client = mapping.client.address;
    mapping.take_errors(&mut |peers, reported, message| pass_on(client, peers, &reported, message, attached, turn));
}

/// Tells the container of an ICMP error about a request of its own.
fn pass_on(
    client: SocketAddr,
    peers: &mut Peers,
    reported: &Reported,
    message: &[u8],
    attached: &mut Attached,
    turn: &Turn<'_>,
) {
    let (Origin::Icmp { from, .. }, Some(reason)) = (reported.origin, mapping::reason(reported)) else { return };
    let Some(server) = mapping::known(peers, portless(reported.destination), attached, turn) else { return };
    let mut message = message.to_vec();
    set_identifier(&mut message, client.port());
    let protocol = if client.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    if let Some(quote) = Quote::rebuilt(client.ip(), server.ip(), protocol, &message) {
        attached.report(&quote, mapping::reporter(from, attached, turn), reason);
    }
}
