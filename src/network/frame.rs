//! A checked view of one IP packet that a container sent.
//!
//! Whoever has a [`Frame`] knows: lengths fit into what was received, and
//! source and destination can be those of a packet between two hosts. What is
//! no such packet is [`Refused`], with the reason that is counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits;

/// IP protocol numbers (IANA, "Protocol Numbers").
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
}

/// Why a packet is dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Lengths or versions that contradict each other.
    Malformed,
    /// Its source is none that one host has: multicast, unspecified, loopback.
    Source,
    /// IPv6 extension headers that nobody sends to a router's other side, or
    /// too many of them.
    Extension,
}

/// The part of a packet that a fragment is (RFC 791, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Which packet, among those of its source, destination and protocol.
    pub identification: u32,
    /// Where it belongs, in bytes.
    pub offset: u16,
    /// Whether more comes behind it.
    pub more: bool,
}

/// What the sender's kernel left to do (virtio 1.2, section 5.1.6: the header
/// in front of each packet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Segments {
    /// One packet.
    #[default]
    One,
    /// TCP to be cut into segments of this many bytes.
    Tcp(u16),
    /// UDP, to be cut into datagrams of this many bytes.
    Udp(u16),
}

/// One packet, checked.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The whole packet: no byte before its header, none behind its end.
    packet: &'a [u8],
    /// Where the transport header begins.
    payload_at: usize,
    /// Who says to have sent it.
    pub source: IpAddr,
    /// Where it is to go.
    pub destination: IpAddr,
    /// What its payload is: one of [`protocol`], or another.
    pub protocol: u8,
    /// How many routers it may still pass.
    pub hop_limit: u8,
    /// IPv4's DF; IPv6 packets are never fragmented on their way.
    pub dont_fragment: bool,
    /// Where it is only a part of a packet.
    pub fragment: Option<Fragment>,
    /// Whether it stands for several packets.
    pub segments: Segments,
    /// Whether the checksum of TCP or UDP is left to who sends it on: it never
    /// left this machine. Who reads it off a device says so.
    pub is_sum_open: bool,
}

impl<'a> Frame<'a> {
    /// Checks what came off a device.
    pub fn parse(bytes: &'a [u8], segments: Segments) -> Result<Self, Refused> {
        let frame = match bytes.first().map(|first| first >> 4) {
            Some(4) => parse_v4(bytes, segments),
            Some(6) => parse_v6(bytes, segments),
            _ => Err(Refused::Malformed),
        }?;
        let source_is_a_host = match frame.source {
            IpAddr::V4(source) => {
                !(source.is_multicast() || source.is_unspecified() || source.is_loopback())
                    && source != Ipv4Addr::BROADCAST
            }
            IpAddr::V6(source) => !(source.is_multicast() || source.is_unspecified() || source.is_loopback()),
        };
        if source_is_a_host { Ok(frame) } else { Err(Refused::Source) }
    }

    /// The packet with its IP header.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// What the packet carries: from the transport header on.
    pub fn payload(&self) -> &'a [u8] {
        self.packet.get(self.payload_at..).unwrap_or_default()
    }

    /// The IP header with its extensions.
    pub fn header(&self) -> &'a [u8] {
        self.packet.get(..self.payload_at).unwrap_or_default()
    }

    /// TOS, or traffic class: DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        match (self.source, self.packet) {
            (IpAddr::V4(_), [_, class, ..]) => *class,
            (IpAddr::V6(_), [first, second, ..]) => first << 4 | second >> 4,
            _ => 0,
        }
    }

    /// Whether IPv6 extension headers stand before the payload, or IPv4 options.
    pub fn has_extensions(&self) -> bool {
        self.payload_at != if self.source.is_ipv4() { 20 } else { 40 }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn parse_v4(bytes: &[u8], segments: Segments) -> Result<Frame<'_>, Refused> {
    let view = || {
        let header_length = usize::from(bytes.first()? & 0xf) * 4;
        let length = usize::from(word(bytes, 2)?);
        if header_length < 20 || length < header_length {
            return None;
        }
        let packet = bytes.get(..length)?;
        let flags = word(packet, 6)?;
        let (offset, more) = ((flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let fragment =
            (offset != 0 || more).then_some(Fragment { identification: u32::from(word(packet, 4)?), offset, more });
        Some(Frame {
            packet,
            payload_at: header_length,
            source: Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?).into(),
            destination: Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?).into(),
            protocol: *packet.get(9)?,
            hop_limit: *packet.get(8)?,
            dont_fragment: flags & 0x4000 != 0,
            fragment,
            segments,
            is_sum_open: false,
        })
    };
    view().ok_or(Refused::Malformed)
}

/// Extension headers that are passed over (RFC 8200 section 4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;
}

fn parse_v6(bytes: &[u8], segments: Segments) -> Result<Frame<'_>, Refused> {
    let view = || {
        let length = 40 + usize::from(word(bytes, 4)?);
        let packet = bytes.get(..length)?;
        Some(Frame {
            packet,
            payload_at: 40,
            source: Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?).into(),
            destination: Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?).into(),
            protocol: *packet.get(6)?,
            hop_limit: *packet.get(7)?,
            dont_fragment: true,
            fragment: None,
            segments,
            is_sum_open: false,
        })
    };
    let mut frame = view().ok_or(Refused::Malformed)?;
    for _ in 0..=limits::EXTENSION_HEADERS_MAX {
        let step = match frame.protocol {
            extension::HOP_BY_HOP | extension::DESTINATION => pass_options(&mut frame),
            extension::FRAGMENT => pass_fragment(&mut frame),
            // A routing header would have the host's kernel asked for one way and the packet go another.
            43 | 51 | 135 | 139 | 140 => return Err(Refused::Extension),
            _ => return Ok(frame),
        };
        step.ok_or(Refused::Malformed)?;
        // What stands behind it is cut, too.
        if frame.fragment.is_some() {
            return Ok(frame);
        }
    }
    Err(Refused::Extension)
}

fn pass_options(frame: &mut Frame<'_>) -> Option<()> {
    let header = frame.payload();
    let length = 8 + usize::from(*header.get(1)?) * 8;
    header.get(..length)?;
    frame.protocol = *header.first()?;
    frame.payload_at += length;
    Some(())
}

fn pass_fragment(frame: &mut Frame<'_>) -> Option<()> {
    let header = frame.payload().first_chunk::<8>()?;
    let [next, _, _, flags, id @ ..] = *header;
    let (offset, more) = (u16::from_be_bytes([header[2], flags & 0xf8]), flags & 1 != 0);
    // Not a part but the whole: an "atomic fragment" (RFC 6946).
    frame.fragment = (offset != 0 || more).then_some(Fragment { identification: u32::from_be_bytes(id), offset, more });
    frame.protocol = next;
    frame.payload_at += 8;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A UDP packet of 4 bytes from 10.87.0.2 to 192.0.2.1.
    const V4: [u8; 32] = [
        0x45, 0, 0, 32, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 87, 0, 2, 192, 0, 2, 1, 0, 7, 0, 7, 0, 12, 0, 0, 1, 2,
        3, 4,
    ];

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        packet.extend("fd6b:656c:7000::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    fn parse(bytes: &[u8]) -> Result<Frame<'_>, Refused> {
        Frame::parse(bytes, Segments::One)
    }

    #[test]
    fn a_packet_is_seen_as_it_is() {
        let frame = parse(&V4).unwrap();
        assert_eq!((frame.source.to_string(), frame.destination.to_string()), ("10.87.0.2".into(), "192.0.2.1".into()));
        assert_eq!((frame.protocol, frame.hop_limit, frame.dont_fragment), (protocol::UDP, 64, true));
        assert_eq!((frame.payload().len(), frame.header().len(), frame.fragment), (12, 20, None));
        // What stands behind the packet's end is not the packet's.
        assert_eq!(parse(&[&V4[..], b"more"].concat()).unwrap().packet(), V4);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut packet = V4;
            packet[at] = byte;
            parse(&packet).map(|frame| frame.packet().len())
        };
        assert_eq!(with(0, 0x55), Err(Refused::Malformed));
        assert_eq!(with(0, 0x44), Err(Refused::Malformed));
        assert_eq!(with(0, 0x4f), Err(Refused::Malformed));
        assert_eq!(with(3, 33), Err(Refused::Malformed));
        assert_eq!(with(3, 19), Err(Refused::Malformed));
        assert_eq!(with(12, 127), Err(Refused::Source));
        assert_eq!(with(12, 224), Err(Refused::Source));
        assert_eq!(parse(&[]).unwrap_err(), Refused::Malformed);
    }

    #[test]
    fn fragments_say_where_they_belong() {
        let mut packet = V4;
        (packet[6], packet[7]) = (0x20, 0x02);
        let expected = Fragment { identification: 0x1234, offset: 16, more: true };
        assert_eq!(parse(&packet).unwrap().fragment, Some(expected));

        let packet = v6(44, &[17, 0, 0x00, 0x11, 0, 0, 0, 9, 1, 2]);
        let frame = parse(&packet).unwrap();
        assert_eq!(frame.fragment, Some(Fragment { identification: 9, offset: 16, more: true }));
        assert_eq!((frame.protocol, frame.payload()), (protocol::UDP, &[1, 2][..]));
        // A fragment that is the whole packet is none.
        assert_eq!(parse(&v6(44, &[17, 0, 0, 0, 0, 0, 0, 9, 1, 2])).unwrap().fragment, None);
    }

    #[test]
    fn extension_headers_are_passed_over_but_not_without_end() {
        let options = [60, 0, 0, 0, 0, 0, 0, 0];
        let last = [6, 0, 0, 0, 0, 0, 0, 0];
        let few = v6(0, &[&options[..], &last, b"tcp"].concat());
        assert_eq!((parse(&few).unwrap().protocol, parse(&few).unwrap().payload()), (protocol::TCP, &b"tcp"[..]));
        let many = v6(0, &[options.repeat(limits::EXTENSION_HEADERS_MAX + 1), last.to_vec()].concat());
        assert_eq!(parse(&many).unwrap_err(), Refused::Extension);
        assert_eq!(parse(&v6(43, &options)).unwrap_err(), Refused::Extension);
        assert_eq!(parse(&v6(0, &[6, 9, 0, 0, 0, 0, 0, 0])).unwrap_err(), Refused::Malformed);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), version in prop::sample::select(vec![4u8, 6])) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            if let Ok(frame) = parse(&bytes) {
                prop_assert_eq!(frame.header().len() + frame.payload().len(), frame.packet().len());
                prop_assert!(frame.packet().len() <= bytes.len());
            }
        }
    }
}
