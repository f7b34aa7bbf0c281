//! A container's device as smoltcp sees it while one flow is worked on.

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, Ipv4Packet, Ipv6Packet};

use super::super::checksum::Sum;
use super::super::frame::{Segments, protocol};
use super::super::link::{Link, Transport};

/// Where a TCP header has its length, in words, and its checksum.
const LENGTH_AT: usize = 12;
const CHECKSUM_AT: usize = 16;

/// Bytes of a TCP header without options.
const TCP_HEADER_BYTES: usize = 20;

/// What smoltcp is told that the device can do.
fn capabilities(mtu: u16) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = packet_bytes(mtu);
    // The container's kernel fills in what is left open, and what comes from it never left this machine.
    capabilities.checksum = ChecksumCapabilities::ignored();
    // The IP header's has to be there.
    capabilities.checksum.ipv4 = Checksum::Tx;
    let segments = std::num::NonZeroUsize::new(packet_bytes(mtu));
    capabilities.segmentation.tcpv4 = segments;
    capabilities.segmentation.tcpv6 = segments;
    capabilities
}

/// The largest packet that is given to a device with this MTU: as many full
/// segments as go into 64 KiB, so that no last short one is cut off each.
///
/// It is announced as the MTU itself: smoltcp 0.14 drops IPv6 packets above
/// that even where they will be cut (`dispatch_ip`).
fn packet_bytes(mtu: u16) -> usize {
    let headers = IPV4_HEADER_LEN + TCP_HEADER_BYTES;
    let segment = usize::from(mtu).saturating_sub(headers).max(1);
    headers + (usize::from(u16::MAX) - headers) / segment * segment
}

/// The device, for as long as one flow is worked on.
pub(super) struct Port<'a> {
    pub(super) link: &'a mut Link,
    /// What is received next.
    pub(super) packet: Option<&'a [u8]>,
    /// Room for one packet.
    pub(super) sending: &'a mut [u8],
    /// The largest segment that the container takes in this flow.
    pub(super) mss: u16,
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Packet<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Room<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Packet<'_>, Room<'_>)> {
        let packet = Packet(self.packet.take()?);
        Some((packet, Room { link: self.link, sending: self.sending, mss: self.mss }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        Some(Room { link: self.link, sending: self.sending, mss: self.mss })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Asked for at each poll, and its answer is not used: the interface has its own since it was made.
        DeviceCapabilities::default()
    }
}

/// What an interface is made for: the capabilities of a device with this MTU.
pub(super) struct Announced(pub(super) u16);

impl Device for Announced {
    type RxToken<'t> = Packet<'t>;
    type TxToken<'t> = Room<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Packet<'_>, Room<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}

/// One packet that is received.
pub(super) struct Packet<'a>(&'a [u8]);

impl RxToken for Packet<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

/// Room for one packet to be sent.
pub(super) struct Room<'a> {
    link: &'a mut Link,
    sending: &'a mut [u8],
    mss: u16,
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        // The room is for the largest packet that was announced.
        let Some(packet) = self.sending.get_mut(..length) else { return work(&mut vec![0; length]) };
        let result = work(packet);
        let transport = finish(packet, self.mss);
        self.link.send(packet, transport);
        result
    }
}

/// Puts the sum of the pseudo-header where the kernel expects it, and says how
/// the packet is to be cut.
fn finish(packet: &mut [u8], mss: u16) -> Option<Transport> {
    let (starts_at, source, destination) = if packet.first()? >> 4 == 4 {
        let view = Ipv4Packet::new_checked(&*packet).ok()?;
        (IPV4_HEADER_LEN, view.src_addr().into(), view.dst_addr().into())
    } else {
        let view = Ipv6Packet::new_checked(&*packet).ok()?;
        (IPV6_HEADER_LEN, view.src_addr().into(), view.dst_addr().into())
    };
    let tcp = packet.get_mut(starts_at..)?;
    let header_bytes = u16::from(*tcp.get(LENGTH_AT)? >> 4) * 4;
    let length = u16::try_from(tcp.len()).ok()?;
    let sum = Sum::default().pseudo_header(source, destination, protocol::TCP, length).open();
    tcp.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2)?.copy_from_slice(&sum.to_be_bytes());
    let segments = if length.saturating_sub(header_bytes) > mss { Segments::Tcp(mss) } else { Segments::One };
    let checksum_at = CHECKSUM_AT as u16;
    Some(Transport { starts_at: starts_at as u16, checksum_at, header_bytes, segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_whole_segments() {
        assert_eq!(packet_bytes(65_520), 65_520);
        assert_eq!(packet_bytes(1_500), 40 + 44 * 1_460);
        assert!((1_280..=u16::MAX).all(|mtu| packet_bytes(mtu) >= usize::from(mtu)));
    }
}
