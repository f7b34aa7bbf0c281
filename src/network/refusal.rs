//! ICMP errors to a container, as the router in front of it would send them
//! (RFC 792, RFC 4443): why a packet of its did not get where it was to go.

use std::net::IpAddr;

use super::checksum::Sum;
use super::datagram::{self, Head};
use super::frame::{Frame, Segments, protocol};

/// What went wrong, as far as a router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No route (ENETUNREACH).
    Network,
    /// A route but no host (EHOSTUNREACH).
    Host,
    /// Nobody listens; the host itself said so.
    Port,
    /// A protocol that is not carried.
    Protocol,
    /// Somebody forbids it: a firewall, or the container's policy.
    Prohibited,
    /// It may pass no further router.
    HopLimit,
    /// It is larger than this many bytes and may not be fragmented.
    TooBig(u16),
    /// Its fragments did not all come in time.
    Reassembly,
    /// What somebody on the way said, of the same family.
    Reported {
        /// ICMP's type.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

impl Reason {
    /// Type, code and second word of ICMP for IPv4 (RFC 792; 13: RFC 1812; the
    /// MTU: RFC 1191).
    fn v4(self) -> (u8, u8, u16) {
        match self {
            Self::Network => (3, 0, 0),
            Self::Host => (3, 1, 0),
            Self::Protocol => (3, 2, 0),
            Self::Port => (3, 3, 0),
            Self::TooBig(mtu) => (3, 4, mtu),
            Self::Prohibited => (3, 13, 0),
            Self::HopLimit => (11, 0, 0),
            Self::Reassembly => (11, 1, 0),
            Self::Reported { kind, code } => (kind, code, 0),
        }
    }

    /// The same for IPv6 (RFC 4443 section 3). The pointer of a parameter
    /// problem names the last next-header field that is there.
    fn v6(self) -> (u8, u8, u16) {
        match self {
            Self::Network => (1, 0, 0),
            Self::Prohibited => (1, 1, 0),
            Self::Host => (1, 3, 0),
            Self::Port => (1, 4, 0),
            Self::TooBig(mtu) => (2, 0, mtu),
            Self::HopLimit => (3, 0, 0),
            Self::Reassembly => (3, 1, 0),
            Self::Reported { kind, code } => (kind, code, 0),
            Self::Protocol => (4, 1, 6),
        }
    }
}

/// The beginning of a packet, as errors about it quote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    source: IpAddr,
    packet: Box<[u8]>,
}

impl Quote {
    /// Of a packet that may be answered; `None` for those that may not: errors
    /// themselves and later fragments (RFC 1122 section 3.2.2).
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        let kind = frame.payload().first().copied();
        let is_error = match (frame.protocol, kind) {
            (protocol::ICMP, kind) => !matches!(kind, Some(0 | 8)),
            (protocol::ICMPV6, kind) => !matches!(kind, Some(128..)),
            _ => false,
        };
        if is_error || frame.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return None;
        }
        // As much as keeps the error below the least MTU: 576 (RFC 1812 section 4.3.2.3) and 1,280.
        let most = if frame.source.is_ipv4() { 576 - 28 } else { 1280 - 48 };
        let packet = frame.packet();
        Some(Self { source: frame.source, packet: packet.get(..most).unwrap_or(packet).into() })
    }

    /// Of a packet that is gone, but for what an error of the outside told of
    /// it.
    pub fn rebuilt(client: IpAddr, server: IpAddr, protocol: u8, payload: &[u8]) -> Option<Self> {
        let head = Head { from: client, to: server, protocol, hop_limit: 1, traffic_class: 0 };
        Self::of(&Frame::parse(&datagram::packet(&head, payload), Segments::One).ok()?)
    }

    /// The error packet, complete with its checksums, to who sent what is
    /// quoted: from the gateway, or from who said so.
    pub fn answer(&self, from: IpAddr, reason: Reason) -> Vec<u8> {
        let is_v4 = self.source.is_ipv4();
        let (kind, code, word) = if is_v4 { reason.v4() } else { reason.v6() };
        let mut body = vec![kind, code, 0, 0, 0, 0];
        body.extend(word.to_be_bytes());
        body.extend(&self.packet);
        // A quote has at most 1,232 bytes.
        let length = body.len() as u16;
        let (protocol, sum) = if is_v4 {
            (protocol::ICMP, Sum::default())
        } else {
            (protocol::ICMPV6, Sum::default().pseudo_header(from, self.source, protocol::ICMPV6, length))
        };
        let checksum = sum.bytes(&body).finish().to_be_bytes();
        if let Some(field) = body.get_mut(2..4) {
            field.copy_from_slice(&checksum);
        }
        // Internetwork control, which is what errors are marked as (RFC 1812 section 4.3.2.5).
        datagram::packet(&Head { from, to: self.source, protocol, hop_limit: 64, traffic_class: 0xc0 }, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 87, 0, 2];
        packet.extend([192, 0, 2, 1]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn an_error_quotes_what_it_is_about_and_its_sums_are_right() {
        let bytes = packet(protocol::TCP, &[7; 20]);
        let quote = Quote::of(&Frame::parse(&bytes, Segments::One).unwrap()).unwrap();
        let answer = quote.answer("10.87.0.1".parse().unwrap(), Reason::Host);
        let frame = Frame::parse(&answer, Segments::One).unwrap();
        assert_eq!((frame.protocol, frame.destination.to_string()), (protocol::ICMP, "10.87.0.2".to_owned()));
        assert_eq!((frame.payload()[..2].to_vec(), frame.payload()[8..].to_vec()), (vec![3, 1], bytes));
        assert_eq!(Sum::default().bytes(frame.header()).finish(), 0);
        assert_eq!(Sum::default().bytes(frame.payload()).finish(), 0);
    }

    #[test]
    fn errors_are_not_answered() {
        let quoted = |protocol, payload: &[u8]| {
            Quote::of(&Frame::parse(&packet(protocol, payload), Segments::One).unwrap()).is_some()
        };
        assert!(quoted(protocol::ICMP, &[8, 0]) && quoted(protocol::UDP, &[]));
        assert!(!quoted(protocol::ICMP, &[3, 1]) && !quoted(protocol::ICMP, &[]));
    }
}
