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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{Segments, protocol};
    use super::*;

    const V4: [&str; 2] = ["10.87.0.2", "192.0.2.1"];
    const V6: [&str; 2] = ["fd6b:656c:7000::2", "2001:db8::1"];

    /// A fragment: where it begins, its bytes, whether more comes.
    fn fragment([from, to]: [&str; 2], offset: u16, bytes: &[u8], more: bool) -> Vec<u8> {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let head = Head { from, to, protocol: protocol::UDP, hop_limit: 9, traffic_class: 0x28 };
        let mut packet = Vec::new();
        datagram::fragments(&head, 1280, bytes, 77, |part, _| packet = part.to_vec());
        let place = if from.is_ipv4() { 6 } else { 42 };
        let (shift, flag) = if from.is_ipv4() { (3, 0x2000) } else { (0, 1) };
        let field = offset >> shift | if more { flag } else { 0 };
        packet[place..place + 2].copy_from_slice(&field.to_be_bytes());
        packet
    }

    fn assembly([source, destination]: [&str; 2]) -> Assembly {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let name = Name { source, destination, protocol: protocol::UDP, identification: 77 };
        Assembly::new(name, Instant::now())
    }

    fn add(assembly: &mut Assembly, packet: &[u8]) -> Added {
        let frame = Frame::parse(packet, Segments::One).unwrap();
        assert_eq!(frame.protocol, protocol::UDP);
        frame.fragment.map_or(Added::Whole, |fragment| assembly.add(&frame, fragment))
    }

    #[test]
    fn the_first_fragment_tells_what_the_packet_is() {
        for ends in [V4, V6] {
            let mut whole = assembly(ends);
            assert_eq!(add(&mut whole, &fragment(ends, 16, b"end", false)), Added::NotYet);
            assert_eq!(add(&mut whole, &fragment(ends, 8, b"middle..", true)), Added::NotYet);
            assert_eq!(add(&mut whole, &fragment(ends, 0, b"begins..", true)), Added::Whole);
            assert_eq!(whole.bytes, b"begins..middle..end");
            let packet = datagram::packet(&whole.first.unwrap().head, &whole.bytes);
            let frame = Frame::parse(&packet, Segments::One).unwrap();
            assert_eq!((frame.fragment, frame.hop_limit, frame.traffic_class()), (None, 9, 0x28));
            assert_eq!(frame.payload(), b"begins..middle..end");
        }
    }

    #[test]
    fn what_contradicts_itself_spoils_the_packet_and_frees_its_memory() {
        for ends in [V4, V6] {
            for wrong in [
                fragment(ends, 8, b"12345678", true),
                fragment(ends, 0, b"another.", true),
                fragment(ends, 24, b"1234567", true),
                fragment(ends, 65_528, b"above 64 KiB", false),
                fragment(ends, 16, b"", true),
            ] {
                let mut spoilt = assembly(ends);
                add(&mut spoilt, &fragment(ends, 0, b"begins..then....", true));
                assert_eq!(add(&mut spoilt, &wrong), Added::Spoilt);
                assert!(spoilt.bytes.is_empty() && spoilt.first.is_none());
                assert_eq!(add(&mut spoilt, &fragment(ends, 16, b"end", false)), Added::Spoilt);
            }
        }
    }

    #[test]
    fn no_packet_has_fragments_without_end() {
        let mut many = assembly(V4);
        let added: Vec<Added> =
            (1..300).map(|number| add(&mut many, &fragment(V4, number * 16, b"12345678", true))).collect();
        let first_refused = added.iter().position(|added| *added == Added::Spoilt);
        assert_eq!(first_refused, Some(limits::FRAGMENTS_A_PACKET));
    }

    proptest! {
        /// Whatever comes: what is whole is what was sent, and nothing is larger than a packet.
        #[test]
        fn whole_is_what_has_no_holes(pieces in prop::collection::vec((0u16..12, 1usize..5, any::<bool>()), 1..12)) {
            let original: Vec<u8> = (0..=255).collect();
            let mut assembly = assembly(V6);
            for (place, eights, more) in pieces {
                let (start, length) = (usize::from(place) * 8, eights * 8);
                // The first that is also the last is no fragment.
                let more = more || place == 0;
                match add(&mut assembly, &fragment(V6, place * 8, &original[start..start + length], more)) {
                    Added::Whole => {
                        let mut parts = assembly.parts.clone();
                        parts.sort_by_key(|part| part.start);
                        let mut end = 0;
                        for part in parts {
                            prop_assert_eq!(part.start, end);
                            end = part.end;
                        }
                        prop_assert_eq!(&assembly.bytes[..], &original[..end]);
                        break;
                    }
                    Added::NotYet => prop_assert!(assembly.bytes.len() <= original.len()),
                    Added::Spoilt => prop_assert!(assembly.bytes.is_empty()),
                }
            }
        }
    }
}
