//! Packets of UDP and ICMP that a container sent in fragments, put together
//! again (RFC 791 section 3.2, RFC 8200 section 4.5), within bounds.
//!
//! Fragments that overlap spoil their packet, with all that still comes of it
//! (RFC 5722): two readers of it could see two different packets. So do those
//! that contradict each other in any other way. One that comes twice is passed
//! over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use super::attachment::{Attached, AttachmentKey, Attachments};
use super::datagram::{self, Head};
use super::frame::{Fragment, Frame};
use super::poller::{Source, Token};
use super::refusal::{Quote, Reason};
use super::router::Turn;
use crate::limits;

/// What a packet's fragments have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

/// What the first fragment tells of the packet.
#[derive(Debug)]
struct First {
    head: Head,
    quote: Option<Quote>,
}

/// A packet that is not whole yet.
#[derive(Debug)]
struct Assembly {
    name: Name,
    since: Instant,
    bytes: Vec<u8>,
    /// Which of the bytes have come.
    parts: Vec<Range<usize>>,
    /// How many bytes there will be, as the last fragment says.
    length: Option<usize>,
    first: Option<First>,
    /// It will never be whole.
    is_spoilt: bool,
}

/// What has become of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    /// More has to come.
    NotYet,
    /// The packet is whole.
    Whole,
    /// The packet is spoilt.
    Spoilt,
}

impl Assembly {
    fn new(name: Name, since: Instant) -> Self {
        let (bytes, parts) = (Vec::new(), Vec::new());
        Self { name, since, bytes, parts, length: None, first: None, is_spoilt: false }
    }

    /// Takes the piece of the packet that `frame` is.
    fn add(&mut self, frame: &Frame<'_>, Fragment { offset, more, .. }: Fragment) -> Added {
        let piece = frame.payload();
        let part = usize::from(offset)..usize::from(offset) + piece.len();
        if self.is_spoilt {
            return Added::Spoilt;
        }
        if self.parts.contains(&part) && self.bytes.get(part.clone()) == Some(piece) {
            return Added::NotYet;
        }
        if !self.fits(&part, more) {
            self.spoil();
            return Added::Spoilt;
        }
        if !more {
            self.length = Some(part.end);
        }
        if offset == 0 {
            let (from, to, protocol) = (frame.source, frame.destination, frame.protocol);
            let head = Head { from, to, protocol, hop_limit: frame.hop_limit, traffic_class: frame.traffic_class() };
            self.first = Some(First { head, quote: Quote::of(frame) });
        }
        if self.bytes.len() < part.end {
            self.bytes.resize(part.end, 0);
        }
        if let Some(place) = self.bytes.get_mut(part.clone()) {
            place.copy_from_slice(piece);
        }
        self.parts.push(part);
        let received: usize = self.parts.iter().map(ExactSizeIterator::len).sum();
        if self.length == Some(received) { Added::Whole } else { Added::NotYet }
    }

    /// Whether a piece can be one of this packet's, beside what has come.
    fn fits(&self, part: &Range<usize>, more: bool) -> bool {
        // The header of IPv4 counts, that of IPv6 does not.
        let most = if self.name.source.is_ipv4() { 65_535 - 20 } else { 65_535 };
        let is_behind_end = match self.length {
            // Nothing stands behind the last fragment, which there is one of.
            Some(length) => part.end > length || !more,
            None => !more && self.bytes.len() > part.end,
        };
        let is_aligned = !more || part.len().is_multiple_of(8);
        let overlaps = self.parts.iter().any(|other| part.start < other.end && other.start < part.end);
        !part.is_empty()
            && part.end <= most
            && is_aligned
            && !is_behind_end
            && !overlaps
            && self.parts.len() < limits::FRAGMENTS_A_PACKET
    }

    fn spoil(&mut self) {
        self.is_spoilt = true;
        (self.bytes, self.parts, self.first) = (Vec::new(), Vec::new(), None);
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limits::FRAGMENTS_WAIT
    }
}

/// All packets that are not whole yet.
#[derive(Default)]
pub struct Fragments {
    /// Those of each container, the oldest first.
    assemblies: HashMap<AttachmentKey, Vec<Assembly>>,
    /// The time at which one of them is over.
    timer: Option<Token>,
}

impl Fragments {
    /// Takes a fragment that a container sent; returns the packet that it makes
    /// whole, without extension headers and options.
    pub fn add(
        &mut self,
        key: AttachmentKey,
        from: &mut Attached,
        frame: &Frame<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<Vec<u8>> {
        let fragment = frame.fragment?;
        let (source, destination, protocol) = (frame.source, frame.destination, frame.protocol);
        let name = Name { source, destination, protocol, identification: fragment.identification };
        let own = self.assemblies.entry(key).or_default();
        let place = own.iter().position(|assembly| assembly.name == name).unwrap_or_else(|| {
            if own.len() >= limits::FRAGMENTED_A_CONTAINER {
                own.remove(0);
                from.link.sent.dropped += 1;
            }
            own.push(Assembly::new(name, turn.now));
            own.len() - 1
        });
        let added = own.get_mut(place).map(|assembly| assembly.add(frame, fragment));
        if self.timer.is_none() {
            let timer = turn.poller.add(Source::Fragments);
            turn.poller.wake_at(timer, turn.now + limits::FRAGMENTS_WAIT);
            self.timer = Some(timer);
        }
        match added? {
            Added::NotYet => None,
            Added::Spoilt => {
                from.refused += 1;
                None
            }
            Added::Whole => {
                let assembly = own.remove(place);
                Some(datagram::packet(&assembly.first?.head, &assembly.bytes))
            }
        }
    }

    /// Gives up on what has waited for too long, and says so
    /// (RFC 1122 section 3.3.2).
    pub fn due(&mut self, attachments: &mut Attachments, turn: &mut Turn<'_>) {
        for (key, assemblies) in &mut self.assemblies {
            let is_over = |assembly: &mut Assembly| assembly.is_over(turn.now);
            for assembly in assemblies.extract_if(.., is_over) {
                if let (Some(attached), Some(first)) = (attachments.get_mut(*key), assembly.first)
                    && let Some(quote) = first.quote
                {
                    attached.refuse_quoted(&quote, assembly.name.source, Reason::Reassembly);
                }
            }
        }
        self.assemblies.retain(|_, assemblies| !assemblies.is_empty());
        let next = self.assemblies.values().flatten().map(|assembly| assembly.since).min();
        match (next, self.timer) {
            (Some(since), Some(timer)) => turn.poller.wake_at(timer, since + limits::FRAGMENTS_WAIT),
            (_, timer) => {
                self.timer = None;
                if let Some(timer) = timer {
                    turn.poller.forget(timer);
                }
            }
        }
    }

    /// A container is gone.
    pub fn detach(&mut self, attachment: AttachmentKey) {
        self.assemblies.remove(&attachment);
    }
}
