//! The Internet checksum (RFC 1071): the ones' complement sum of 16-bit words.

use std::net::IpAddr;

/// A sum that is added to in pieces; each but the last has an even length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u32);

impl Sum {
    /// Adds bytes. A last odd one stands for a word with a zero behind it.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for pair in bytes.chunks(2) {
            let word = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
            self = self.word(u16::from_be_bytes(word));
        }
        self
    }

    /// Adds one word.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        let sum = self.0 + u32::from(word);
        Self((sum & 0xffff) + (sum >> 16))
    }

    /// Adds the pseudo-header of a packet (RFC 9293 section 3.1, RFC 8200
    /// section 8.1): `length` is that of the transport header and its data.
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: u16) -> Self {
        let addresses = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.bytes(&source.octets()).bytes(&destination.octets()),
            (source, destination) => self.bytes(&octets(source)).bytes(&octets(destination)),
        };
        addresses.word(u16::from(protocol)).word(length)
    }

    /// The sum itself, as a kernel that finishes it wants it (virtio 1.2,
    /// section 5.1.6.2: VIRTIO_NET_HDR_F_NEEDS_CSUM).
    pub fn open(self) -> u16 {
        // Folded after each word: it fits.
        (self.0 & 0xffff) as u16
    }

    /// The checksum: the sum's complement.
    pub fn finish(self) -> u16 {
        !self.open()
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.open(), sum.finish()), (0xddf2, 0x220d));
        assert_eq!(Sum::default().bytes(&[0xab]).open(), 0xab00);
    }
}
