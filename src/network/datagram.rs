//! Datagrams as packets: what a container sends as UDP, checked, and what it
//! gets, with the headers that it expects in front.
//!
//! Several datagrams that came together go on together where the device takes
//! them (USO), as they came; what is larger than the device's MTU goes as
//! fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::attachment::Attached;
use super::checksum::Sum;
use super::frame::{Frame, Segments, protocol};
use super::link::Transport;
use crate::error::Result;
use crate::kernel::process;
use crate::limits;

/// Bytes of UDP's header (RFC 768).
const UDP_HEADER: usize = 8;

/// Room for the headers in front of a payload: IPv6's, and UDP's or a
/// fragment's.
const HEADROOM: usize = 48;

/// An IP packet's length has 16 bits; IPv6's is without its header.
const PACKET_MAX: usize = 65_535;

/// A UDP datagram of a container's, or several ([`Frame::segments`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it is to go.
    pub server: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks what a packet carries; `None` for what is no datagram, or was
    /// changed on its way.
    pub fn parse(frame: &Frame<'a>) -> Option<Self> {
        let [from_0, from_1, to_0, to_1, length_0, length_1, sum_0, sum_1] = *frame.payload().first_chunk::<8>()?;
        let length = u16::from_be_bytes([length_0, length_1]);
        let datagram = frame.payload().get(..usize::from(length))?;
        let (from, to) = (u16::from_be_bytes([from_0, from_1]), u16::from_be_bytes([to_0, to_1]));
        if from == 0 || to == 0 {
            return None;
        }
        if !frame.is_sum_open {
            let has_sum = [sum_0, sum_1] != [0, 0];
            let sum = || Sum::default().pseudo_header(frame.source, frame.destination, protocol::UDP, length);
            // Without a sum: as the sender likes it in IPv4 (RFC 768), never in IPv6 (RFC 8200 section 8.1).
            if if has_sum { sum().bytes(datagram).finish() != 0 } else { frame.source.is_ipv6() } {
                return None;
            }
        }
        Some(Self {
            client: SocketAddr::new(frame.source, from),
            server: SocketAddr::new(frame.destination, to),
            payload: datagram.get(UDP_HEADER..)?,
        })
    }
}

/// A UDP datagram for a container, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it, as the container knows them.
    pub from: SocketAddr,
    /// The container's.
    pub to: SocketAddr,
    /// Hops that are left to it.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Where there are several: bytes of each but the last.
    pub segment: Option<u16>,
}

/// What stands in the IP header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Who sent it, as the container knows them.
    pub from: IpAddr,
    /// The container's, of the same family.
    pub to: IpAddr,
    /// What it carries.
    pub protocol: u8,
    /// Hops that are left to it.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

/// Where a packet belongs that is not whole.
#[derive(Debug, Clone, Copy)]
struct Part {
    identification: u32,
    offset: u16,
    more: bool,
}

/// Where payloads are received, and leave as packets.
pub struct Inbound {
    /// One payload behind room for its headers.
    room: Vec<u8>,
    /// That of the next packet that goes in fragments.
    identification: u32,
}

impl Inbound {
    /// With room for the largest payload.
    pub fn new() -> Result<Self> {
        let identification = u32::from_ne_bytes(process::random()?);
        Ok(Self { room: vec![0; HEADROOM + limits::PACKET_BYTES_MAX], identification })
    }

    /// Room for one payload.
    pub fn room(&mut self) -> &mut [u8] {
        self.room.get_mut(HEADROOM..).unwrap_or_default()
    }

    /// Gives the container the first `length` bytes of [`Inbound::room`] as
    /// UDP. What is in the room is spent.
    pub fn deliver(&mut self, attached: &mut Attached, length: usize, incoming: &Incoming) {
        let headers = ip_header_bytes(incoming.to.ip()) + UDP_HEADER;
        let segment = incoming.segment.map_or(length, usize::from).max(1);
        let fits = headers + segment <= usize::from(attached.mtu) && headers + length <= PACKET_MAX;
        if length <= segment || attached.link.takes_cut_datagrams() && fits {
            return self.deliver_at(attached, HEADROOM, length, incoming);
        }
        let mut at = HEADROOM;
        while at < HEADROOM + length {
            let length = segment.min(HEADROOM + length - at);
            // The headers of the second and further ones take the place of what has gone.
            self.deliver_at(attached, at, length, &Incoming { segment: None, ..*incoming });
            at += length;
        }
    }

    /// One packet of the payload that begins at `at`.
    fn deliver_at(&mut self, attached: &mut Attached, at: usize, length: usize, incoming: &Incoming) {
        let Incoming { from, to, hop_limit, traffic_class, .. } = *incoming;
        let head = Head { from: from.ip(), to: to.ip(), protocol: protocol::UDP, hop_limit, traffic_class };
        let segments = match incoming.segment {
            Some(segment) if usize::from(segment) < length => Segments::Udp(segment),
            _ => Segments::One,
        };
        let header = ip_header_bytes(head.to);
        let Ok(datagram_length) = u16::try_from(UDP_HEADER + length) else { return };
        let sum = Sum::default().pseudo_header(head.from, head.to, protocol::UDP, datagram_length);
        let is_whole = segments != Segments::One || header + UDP_HEADER + length <= usize::from(attached.mtu);
        let Some(datagram) = self.room.get_mut(at - UDP_HEADER..at + length) else { return };
        write_udp(datagram, from.port(), to.port(), datagram_length, sum.open());
        if !is_whole {
            // The sum so far, at its place, is part of what is summed.
            let sum = match Sum::default().bytes(datagram).finish() {
                0 => 0xffff,
                sum => sum,
            };
            write_udp(datagram, from.port(), to.port(), datagram_length, sum);
            return fragment(attached, &head, datagram, next(&mut self.identification));
        }
        let Some(packet) = self.room.get_mut(at - UDP_HEADER - header..at + length) else { return };
        write_ip(packet, &head, None);
        let starts_at = header as u16;
        let transport = Transport { starts_at, checksum_at: 6, header_bytes: UDP_HEADER as u16, segments };
        attached.send(packet, Some(transport));
    }

    /// Gives the container `message`, complete with its checksum.
    pub fn deliver_message(&mut self, attached: &mut Attached, head: &Head, message: &[u8]) {
        let header = ip_header_bytes(head.to);
        if header + message.len() > usize::from(attached.mtu) {
            return fragment(attached, head, message, next(&mut self.identification));
        }
        attached.send(&packet(head, message), None);
    }
}

/// A whole packet with this payload, which has to fit into one.
pub fn packet(head: &Head, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ip_header_bytes(head.to)];
    packet.extend(payload);
    write_ip(&mut packet, head, None);
    packet
}

/// A whole UDP datagram without a checksum, as errors quote one.
pub fn quoted(client: SocketAddr, server: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; UDP_HEADER];
    datagram.extend(payload);
    let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    write_udp(&mut datagram, client.port(), server.port(), length, 0);
    datagram
}

fn next(identification: &mut u32) -> u32 {
    *identification = identification.wrapping_add(1);
    *identification
}

fn ip_header_bytes(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

fn write_udp(datagram: &mut [u8], from: u16, to: u16, length: u16, sum: u16) {
    if let Some(header) = datagram.first_chunk_mut::<UDP_HEADER>() {
        let [[a, b], [c, d], [e, f], [g, h]] = [from, to, length, sum].map(u16::to_be_bytes);
        *header = [a, b, c, d, e, f, g, h];
    }
}

/// Sends what is larger than the MTU in pieces that are not (RFC 791 section
/// 3.2, RFC 8200 section 4.5).
fn fragment(attached: &mut Attached, head: &Head, payload: &[u8], identification: u32) {
    let header = if head.to.is_ipv4() { 20 } else { 48 };
    let most = (usize::from(attached.mtu).saturating_sub(header) & !7).max(8);
    let mut packet = Vec::with_capacity(header + most);
    for (number, piece) in payload.chunks(most).enumerate() {
        let Ok(offset) = u16::try_from(number * most) else { return };
        packet.clear();
        packet.resize(header, 0);
        packet.extend(piece);
        let more = usize::from(offset) + piece.len() < payload.len();
        write_ip(&mut packet, head, Some(Part { identification, offset, more }));
        attached.send(&packet, None);
    }
}

/// Writes the header of a packet at its beginning; its length is the packet's.
fn write_ip(packet: &mut [u8], head: &Head, part: Option<Part>) {
    let length = packet.len();
    match (head.from, head.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = header_v4(head, [from, to], length, part);
            if let Some(place) = packet.first_chunk_mut() {
                *place = header;
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = header_v6(head, [from, to], length, part.is_some());
            if let Some(place) = packet.first_chunk_mut() {
                *place = header;
            }
            if let Some(part) = part
                && let Some(place) = packet.get_mut(40..).and_then(|rest| rest.first_chunk_mut())
            {
                let [offset_0, offset_1] = (part.offset | u16::from(part.more)).to_be_bytes();
                let [a, b, c, d] = part.identification.to_be_bytes();
                *place = [head.protocol, 0, offset_0, offset_1, a, b, c, d];
            }
        }
        // A container's address and its peer's are of one family.
        _ => {}
    }
}

fn header_v4(head: &Head, [from, to]: [Ipv4Addr; 2], length: usize, part: Option<Part>) -> [u8; 20] {
    // No more than PACKET_MAX, as its callers see to.
    let [length_0, length_1] = (length as u16).to_be_bytes();
    let (identification, flags) = match part {
        // The lower half: it is a counter.
        Some(part) => (part.identification as u16, (part.offset / 8) | if part.more { 0x2000 } else { 0 }),
        // DF: it will not be fragmented, and so has no need of a name (RFC 6864).
        None => (0, 0x4000),
    };
    let ([id_0, id_1], [flags_0, flags_1]) = (identification.to_be_bytes(), flags.to_be_bytes());
    let ([a, b, c, d], [e, f, g, h]) = (from.octets(), to.octets());
    let (class, hops, carried) = (head.traffic_class, head.hop_limit, head.protocol);
    let fields = [0x45, class, length_0, length_1, id_0, id_1, flags_0, flags_1, hops, carried];
    let sum = Sum::default().bytes(&fields).bytes(&from.octets()).bytes(&to.octets());
    let [sum_0, sum_1] = sum.finish().to_be_bytes();
    let [v, class, l0, l1, i0, i1, f0, f1, hops, carried] = fields;
    [v, class, l0, l1, i0, i1, f0, f1, hops, carried, sum_0, sum_1, a, b, c, d, e, f, g, h]
}

fn header_v6(head: &Head, [from, to]: [Ipv6Addr; 2], length: usize, is_part: bool) -> [u8; 40] {
    // No more than 65,535, as its callers see to.
    let [length_0, length_1] = (length.saturating_sub(40) as u16).to_be_bytes();
    let next = if is_part { 44 } else { head.protocol };
    let (class_0, class_1) = (0x60 | head.traffic_class >> 4, head.traffic_class << 4);
    let mut header = [0; 40];
    let fields = [class_0, class_1, 0, 0, length_0, length_1, next, head.hop_limit];
    let all = fields.into_iter().chain(from.octets()).chain(to.octets());
    header.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
    header
}
