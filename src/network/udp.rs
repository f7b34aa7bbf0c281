//! UDP between containers and the host's sockets: one socket for each port of
//! a container ([`mapping`]), ICMP errors in both directions, and several
//! datagrams in one packet where both kernels can.
//!
//! ```text
//!   container                        here                              destination
//!       datagram ------> decide, find or make the socket -- sendmsg --> datagram
//!       USO packet ----> the same --- sendmsg with UDP_SEGMENT -------> datagrams
//!       ICMP error <---- the host's kernel cannot send it
//!       datagram <------ of somebody that was sent to? <-- recvmsg ---- datagram
//!       USO packet <---- the same <-------- recvmsg with UDP_GRO ------ datagrams
//!       ICMP error <---- of something that was sent? <-- MSG_ERRQUEUE - ICMP error
//! ```
//! Nothing is queued here: what the host's socket does not take is lost, as on
//! any wire.

use std::net::SocketAddr;

use super::attachment::{Attached, AttachmentKey, Attachments, reason};
use super::datagram::{self, Datagram, Inbound, Incoming};
use super::egress::Verdict;
use super::frame::{Frame, Segments, protocol};
use super::mapping::{self, Bounds, Client, Mapping, Mappings, Sent};
use super::peers::Peers;
use super::poller::{Readiness, Source};
use super::refusal::Quote;
use super::router::Turn;
use super::slots::Key;
use crate::error::Result;
use crate::kernel::Errno;
use crate::kernel::datagram::{Family, Marks, Origin, Reported, udp};
use crate::limits;

/// All UDP ports of containers that have sent something.
pub struct Flows {
    mappings: Mappings,
    inbound: Inbound,
}

impl Flows {
    /// None, and room for `most`.
    pub fn new(most: usize) -> Result<Self> {
        let bounds = Bounds {
            a_container: limits::UDP_FLOWS_A_CONTAINER,
            in_all: most,
            idle: limits::UDP_IDLE,
            idle_answered: limits::UDP_IDLE_ANSWERED,
        };
        Ok(Self { mappings: Mappings::new(bounds, Source::Udp), inbound: Inbound::new()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.mappings.count()
    }

    /// A container sent a datagram, or several in one packet.
    pub fn receive(&mut self, key: AttachmentKey, from: &mut Attached, frame: &Frame<'_>, turn: &mut Turn<'_>) {
        let Some(Datagram { client, server, payload }) = Datagram::parse(frame) else {
            from.refused += 1;
            return;
        };
        let segment = match frame.segments {
            Segments::Udp(bytes) if usize::from(bytes) < payload.len() => Some(bytes),
            _ => None,
        };
        if segment.is_some_and(|bytes| payload.len().div_ceil(usize::from(bytes)) > limits::DATAGRAM_SEGMENTS_MAX) {
            from.refused += 1;
            return;
        }
        let destination = match turn.decide(server, from) {
            Verdict::Reach(destination) => destination,
            refused => {
                if let Some(reason) = reason(refused) {
                    from.refuse(frame, reason);
                }
                return;
            }
        };
        let client = Client { attachment: key, address: client };
        let Some(flow) = self.find_or_open(client, turn) else {
            from.link.sent.dropped += 1;
            return;
        };
        self.mappings.note_sent(flow, destination.ip(), server.ip(), turn.now);
        let Some(mapping) = self.mappings.get_mut(flow) else { return };
        let report = &mut |peers: &mut Peers, reported: Reported, payload: &[u8]| {
            pass_on(client.address, peers, &reported, payload, from, turn);
        };
        match mapping.send(destination, payload, segment, marks(frame), report) {
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
        let mut has_come = false;
        for _ in 0..limits::DATAGRAMS_A_TURN {
            match mapping.receive(self.inbound.room()) {
                Ok(Some(received)) => {
                    let Some(from) = mapping.sender(received.from, attached, turn) else { continue };
                    has_come = true;
                    let incoming = Incoming {
                        from,
                        to: mapping.client.address,
                        // It has passed the router; and it is here, so it is not too late for it.
                        hop_limit: received.hop_limit.map_or(64, |hops| hops.saturating_sub(1).max(1)),
                        traffic_class: received.traffic_class,
                        segment: received.segment,
                    };
                    self.inbound.deliver(attached, received.length, &incoming);
                }
                Ok(None) => {}
                Err(error) if error.errno == Errno::EAGAIN => break,
                // That of a datagram that was sent.
                Err(_) => take_errors(mapping, attached, turn),
            }
        }
        if has_come {
            self.mappings.note_answered(key, turn.now);
        }
    }

    /// A container is gone.
    pub fn detach(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        self.mappings.detach(attachment, turn);
    }

    fn find_or_open(&mut self, client: Client, turn: &mut Turn<'_>) -> Option<Key> {
        if let Some(key) = self.mappings.find(&client) {
            return Some(key);
        }
        self.mappings.make_room(client.attachment, turn);
        let socket = udp(Family::of(client.address.ip()), limits::DATAGRAM_RECEIVE_BYTES).ok()?;
        self.mappings.insert(client, socket, turn)
    }
}

/// How a packet is marked that goes on behind the router.
pub(super) fn marks(frame: &Frame<'_>) -> Marks {
    Marks {
        // To the host itself it may come with its last hop.
        hop_limit: frame.hop_limit.saturating_sub(1).max(1),
        traffic_class: frame.traffic_class(),
        dont_fragment: frame.dont_fragment,
    }
}

fn take_errors(mapping: &mut Mapping, attached: &mut Attached, turn: &Turn<'_>) {
    let client = mapping.client.address;
    mapping.take_errors(&mut |peers, reported, payload| pass_on(client, peers, &reported, payload, attached, turn));
}

/// Tells the container of an ICMP error about a datagram of its own.
fn pass_on(
    client: SocketAddr,
    peers: &mut Peers,
    reported: &Reported,
    payload: &[u8],
    attached: &mut Attached,
    turn: &Turn<'_>,
) {
    let (Origin::Icmp { from, .. }, Some(reason)) = (reported.origin, mapping::reason(reported)) else { return };
    // Anybody can send one: it has to be about somewhere that the container has sent to.
    let Some(server) = mapping::known(peers, reported.destination, attached, turn) else { return };
    let datagram = datagram::quoted(client, server, payload);
    if let Some(quote) = Quote::rebuilt(client.ip(), server.ip(), protocol::UDP, &datagram) {
        attached.report(&quote, mapping::reporter(from, attached, turn), reason);
    }
}
