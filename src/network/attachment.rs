//! One container on the router: its device, its addresses, what it may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dns;
use super::egress::{Policy, Verdict};
use super::frame::Frame;
use super::link::{Link, Transport};
use super::poller::Token;
use super::refusal::{Quote, Reason};
use super::slots::{Key, Slots};
use super::tcp;

/// Addresses of one container and of the router in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The container's.
    pub v4: Ipv4Addr,
    /// The router's.
    pub gateway_v4: Ipv4Addr,
    /// The container's; IPv6 is carried only with it.
    pub v6: Ipv6Addr,
    /// The router's.
    pub gateway_v6: Ipv6Addr,
}

impl Addresses {
    /// Whether a packet may come from the container with this source.
    pub fn owns(&self, source: IpAddr) -> bool {
        source == IpAddr::V4(self.v4) || source == IpAddr::V6(self.v6)
    }

    /// The router's address of the same family as `other`.
    pub fn gateway(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.gateway_v4.into() } else { self.gateway_v6.into() }
    }

    /// Whether `address` is the router's own.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        address == self.gateway(address)
    }
}

/// What the router has to know of a container.
pub struct Attachment {
    /// Its addresses and the router's.
    pub addresses: Addresses,
    /// What it may reach.
    pub policy: Policy,
    /// Its device's MTU, from 1,280 to 65,520.
    pub mtu: u16,
    /// Its device.
    pub link: Link,
    /// What names mean to it.
    pub dns: dns::Client,
}

/// A container on the router.
pub struct Attached {
    /// Its addresses and the router's.
    pub addresses: Addresses,
    /// What it may reach.
    pub policy: Policy,
    /// Its device's MTU.
    pub mtu: u16,
    /// Its device.
    pub link: Link,
    /// What TCP keeps for each container.
    pub tcp: tcp::Stack,
    /// What the resolver keeps for each container.
    pub dns: dns::Client,
    /// `None` once the device is gone.
    pub(super) token: Option<Token>,
    /// Packets that were dropped because they were no packets of this
    /// container's: malformed, or with another's source.
    pub refused: u64,
}

/// All containers on the router, by the key that handlers know them by.
pub type Attachments = Slots<Attached>;

/// The key of an [`Attached`].
pub type AttachmentKey = Key;

impl Attached {
    /// Tells the container why `frame` went nowhere. Says nothing where nothing
    /// may be said ([`Quote::of`]).
    pub fn refuse(&mut self, frame: &Frame<'_>, reason: Reason) {
        if let Some(quote) = Quote::of(frame) {
            self.refuse_quoted(&quote, frame.source, reason);
        }
    }

    /// The same for a packet that is gone but for its quote.
    pub fn refuse_quoted(&mut self, quote: &Quote, source: IpAddr, reason: Reason) {
        self.link.send(&quote.answer(self.addresses.gateway(source), reason), None);
    }

    /// Passes on what `from`, somebody on the way, said of a packet.
    pub fn report(&mut self, quote: &Quote, from: IpAddr, reason: Reason) {
        self.link.send(&quote.answer(from, reason), None);
    }

    /// Gives a packet to the container ([`Link::send`]).
    pub fn send(&mut self, packet: &[u8], transport: Option<Transport>) {
        self.link.send(packet, transport);
    }
}

/// What a container is told of a destination that it does not reach; `None`
/// where it is told nothing.
pub fn reason(verdict: Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Prohibited => Some(Reason::Prohibited),
        Verdict::Nothing => Some(Reason::Host),
        Verdict::Reach(_) | Verdict::Ignored => None,
    }
}
