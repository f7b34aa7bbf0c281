//! The host's own addresses, as they are and as they change: what listens on
//! them trusts that only others than its containers reach it (egress).
//!
//! They are asked of the kernel on a socket that was made before the process
//! was confined (rtnetlink(7)).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use crate::error::{Failure, Result};
use crate::kernel::Errno;
use crate::kernel::netlink::Netlink;

/// The kernel fills datagrams of up to 32 KiB (rtnetlink(7), dumps).
const DATAGRAM_BYTES_MAX: usize = 32 << 10;

/// The addresses, and where changes are heard of.
pub(super) struct HostAddresses {
    socket: Netlink,
    addresses: BTreeSet<IpAddr>,
}

/// What one datagram was.
#[derive(Default)]
struct Heard {
    /// The end of the list that was asked for.
    is_end: bool,
    has_changed: bool,
}

impl HostAddresses {
    /// Asks for them, and waits for the answer, which the kernel has at once.
    pub(super) fn read() -> Result<Self> {
        let mut found = Self { socket: Netlink::open_for_addresses()?, addresses: BTreeSet::new() };
        found.ask()?;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let length = found.socket.receive(&mut buffer)?;
            if found.take(buffer.get(..length).unwrap_or_default())?.is_end {
                return Ok(found);
            }
        }
    }

    fn ask(&mut self) -> Result<()> {
        self.addresses.clear();
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Ok(self.socket.send(&bytes)?)
    }

    /// All of them but for loopback.
    pub(super) fn all(&self) -> Vec<IpAddr> {
        self.addresses.iter().copied().collect()
    }

    /// Hears of changes; whether there were any.
    pub(super) fn hear(&mut self) -> bool {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut has_changed = false;
        loop {
            match self.socket.receive_now(&mut buffer) {
                Ok(length) => {
                    let heard = self.take(buffer.get(..length).unwrap_or_default());
                    has_changed |= heard.is_ok_and(|heard| heard.has_changed);
                }
                Err(error) if error.errno == Errno::EINTR => {}
                // Some were lost: all are asked for again. What cannot be asked now is with the next change.
                Err(error) if error.errno == Errno::ENOBUFS => {
                    self.ask().ok();
                }
                Err(_) => return has_changed,
            }
        }
    }

    /// Takes one datagram: some messages, one behind the other.
    fn take(&mut self, mut datagram: &[u8]) -> Result<Heard> {
        let mut heard = Heard::default();
        while !datagram.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
                .map_err(|error| Failure::host(format!("read the host's addresses: {error}")))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                    heard.has_changed |= own(&address).is_some_and(|address| self.addresses.insert(address));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(address)) => {
                    heard.has_changed |= own(&address).is_some_and(|address| self.addresses.remove(&address));
                }
                NetlinkPayload::Done(_) => heard.is_end = true,
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Failure::from(error.to_io()).doing("ask for the host's addresses"));
                }
                _ => {}
            }
            datagram = datagram.get(length..).unwrap_or_default();
        }
        Ok(heard)
    }
}

impl AsFd for HostAddresses {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The host's own address in a message; of a link between two, the other
/// attribute is the other end's.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    address.filter(|address| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(messages: &[RouteNetlinkMessage]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message.clone()));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
        }
        bytes
    }

    fn message(attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = netlink_packet_route::AddressFamily::Inet;
        message.attributes = attributes;
        message
    }

    #[test]
    fn addresses_come_and_go() {
        let mut found = HostAddresses { socket: Netlink::open().unwrap(), addresses: BTreeSet::new() };
        let (own, peer) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let one = message(vec![AddressAttribute::Address(peer), AddressAttribute::Local(own)]);
        let loopback = message(vec![AddressAttribute::Local("127.0.0.1".parse().unwrap())]);
        let both = [RouteNetlinkMessage::NewAddress(one.clone()), RouteNetlinkMessage::NewAddress(loopback)];
        assert!(found.take(&bytes(&both)).unwrap().has_changed);
        assert_eq!(found.all(), [own]);
        assert!(!found.take(&bytes(&both)).unwrap().has_changed);
        assert!(found.take(&bytes(&[RouteNetlinkMessage::DelAddress(one)])).unwrap().has_changed);
        assert_eq!(found.all(), [] as [IpAddr; 0]);
        assert!(found.take(&[1, 2, 3]).is_err());
    }

    #[test]
    fn the_kernel_answers() {
        assert!(HostAddresses::read().unwrap().all().iter().all(|address| !address.is_loopback()));
    }
}
