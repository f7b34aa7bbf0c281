//! The device that a container's packets come through, by its descriptor: a
//! tun device with `IFF_VNET_HDR` (`kernel/tun.rs`).
//!
//! In front of each packet stands a `virtio_net_hdr` of 10 bytes in the
//! machine's byte order (include/uapi/linux/virtio_net.h; virtio 1.2, section
//! 5.1.6). With it, TCP crosses in pieces of up to 64 KiB whatever the MTU, and
//! nobody computes a checksum for a copy within one machine.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::frame::Segments;
use crate::error::{Context, Failure, Result};
use crate::kernel::{Errno, tun};

/// Bytes of the header in front of each packet.
const HEADER_BYTES: usize = 10;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum field holds the sum of the
/// pseudo-header only.
const NEEDS_CHECKSUM: u8 = 1;

/// VIRTIO_NET_HDR_GSO_*.
mod gso {
    pub(super) const TCP_V4: u8 = 1;
    pub(super) const TCP_V6: u8 = 4;
    pub(super) const UDP_L4: u8 = 5;
    /// A bit beside the type: the packet has ECN's CWR set.
    pub(super) const ECN: u8 = 0x80;
}

/// What the receiver of a packet has to know beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// Where the transport header begins.
    pub starts_at: u16,
    /// Where its checksum field is, from there: 16 in TCP, 6 in UDP.
    pub checksum_at: u16,
    /// Bytes of the transport header itself.
    pub header_bytes: u16,
    /// How it is to be cut.
    pub segments: Segments,
}

/// What came off the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A packet, so many bytes of the buffer.
    Packet {
        /// Bytes of the buffer.
        length: usize,
        /// Whether it stands for several.
        segments: Segments,
        /// Whether its checksum holds the sum of its pseudo-header only.
        is_sum_open: bool,
    },
    /// Nothing now.
    Empty,
    /// The device is gone, with its network namespace.
    Gone,
}

/// Packets and bytes in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets, as they crossed the device: up to 64 KiB each.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// A device by its descriptor.
pub struct Link {
    device: File,
    /// Whether it takes several UDP datagrams in one packet.
    takes_cut_datagrams: bool,
    /// From the container.
    pub sent: Traffic,
    /// To the container.
    pub received: Traffic,
}

impl Link {
    /// Takes the descriptor of a device that [`tun::create`] made, and has the
    /// kernel leave it as much of the work as it can.
    pub fn new(device: OwnedFd) -> Result<Self> {
        for offload in [tun::Offload::TcpAndUdp, tun::Offload::Tcp, tun::Offload::Checksum, tun::Offload::None] {
            match tun::set_offload(device.as_fd(), offload) {
                Ok(()) => {
                    // A kernel that gives them takes them, too.
                    let takes_cut_datagrams = offload == tun::Offload::TcpAndUdp;
                    return Ok(Self { takes_cut_datagrams, ..Self::as_it_is(device) });
                }
                Err(error) if error.errno == Errno::EINVAL => {}
                Err(error) => return Err(error).doing(|| "set up the network device"),
            }
        }
        Err(Failure::host("the kernel takes no setting of a network device"))
    }

    /// Takes a descriptor that carries packets behind the same header and was
    /// set up by who made it.
    pub fn as_it_is(device: OwnedFd) -> Self {
        let (sent, received) = (Traffic::default(), Traffic::default());
        Self { device: File::from(device), takes_cut_datagrams: false, sent, received }
    }

    /// Whether several UDP datagrams may go in one packet ([`Segments::Udp`]).
    pub fn takes_cut_datagrams(&self) -> bool {
        self.takes_cut_datagrams
    }

    /// Reads one packet into `buffer`, which has room for the largest.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let mut header = [0; HEADER_BYTES];
        let read = (&self.device).read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)]);
        match read {
            Ok(length) => {
                let packet = length.saturating_sub(HEADER_BYTES);
                self.sent.packets += 1;
                self.sent.bytes += packet as u64;
                Received::Packet {
                    length: packet,
                    segments: segments(&header),
                    is_sum_open: header[0] & NEEDS_CHECKSUM != 0,
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Received::Empty,
            // EBADFD, or EIO while the device is down: there is nothing to be had, and nothing will come.
            Err(_) => Received::Gone,
        }
    }

    /// Gives a packet to the container's kernel, which takes it or drops it at
    /// once. `transport`: its checksum field holds the sum of its pseudo-header
    /// ([`super::checksum::Sum::open`]); `None`: it is complete.
    pub fn send(&mut self, packet: &[u8], transport: Option<Transport>) {
        let header = transport.map_or([0; HEADER_BYTES], |transport| header(transport, packet));
        // A device takes a packet whole or not at all. What it does not take is lost as on any wire: who sent it sends
        // it again, or did not care.
        let written = (&self.device).write_vectored(&[IoSlice::new(&header), IoSlice::new(packet)]);
        if written.is_ok_and(|written| written == HEADER_BYTES + packet.len()) {
            self.received.packets += 1;
            self.received.bytes += packet.len() as u64;
        } else {
            self.received.dropped += 1;
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn segments(header: &[u8; HEADER_BYTES]) -> Segments {
    let [_, kind, _, _, size_0, size_1, ..] = *header;
    let size = u16::from_ne_bytes([size_0, size_1]);
    match kind & !gso::ECN {
        _ if size == 0 => Segments::One,
        gso::TCP_V4 | gso::TCP_V6 => Segments::Tcp(size),
        gso::UDP_L4 => Segments::Udp(size),
        _ => Segments::One,
    }
}

fn header(transport: Transport, packet: &[u8]) -> [u8; HEADER_BYTES] {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let (kind, size) = match transport.segments {
        Segments::One => (0, 0),
        Segments::Tcp(size) if is_v4 => (gso::TCP_V4, size),
        Segments::Tcp(size) => (gso::TCP_V6, size),
        Segments::Udp(size) => (gso::UDP_L4, size),
    };
    let headers = if kind == 0 { 0 } else { transport.starts_at.saturating_add(transport.header_bytes) };
    let [[a, b], [c, d], [e, f], [g, h]] =
        [headers, size, transport.starts_at, transport.checksum_at].map(u16::to_ne_bytes);
    [NEEDS_CHECKSUM, kind, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_the_kernel_is_to_finish() {
        let transport = Transport { starts_at: 20, checksum_at: 16, header_bytes: 20, segments: Segments::Tcp(0x0102) };
        let v4 = header(transport, &[0x45]);
        assert_eq!(v4[..2], [1, 1]);
        assert_eq!(u16::from_ne_bytes([v4[2], v4[3]]), 40);
        assert_eq!(segments(&v4), Segments::Tcp(0x0102));
        assert_eq!(header(transport, &[0x60])[1], 4);
        let one = header(Transport { segments: Segments::One, ..transport }, &[0x45]);
        assert_eq!((one[1], segments(&one)), (0, Segments::One));
    }
}
