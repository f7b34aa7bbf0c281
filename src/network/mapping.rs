//! What stands for one port of a container on the host: a socket of the
//! host's, for all that the port talks to.
//!
//! ```text
//!   10.87.0.2:5000 -> 192.0.2.1:53    \                                    / 192.0.2.1:53
//!   10.87.0.2:5000 -> 198.51.100.7:9   >  one socket, 203.0.113.4:40001  -<  198.51.100.7:9
//!   (any other)    <- x               /                                    \ x  (any other)
//! ```
//! - Mapping is endpoint-independent (RFC 4787, REQ-1): whoever is talked to
//!   sees the port under the same address, so that peers can find each other.
//! - Filtering is address-dependent (REQ-8): what comes is taken from hosts
//!   that the port has sent to, from any port of theirs, and from no others.
//!   The socket is bound to no peer, so everybody who can reach this host can
//!   reach it; without the filter, a container that asks for a name would be a
//!   container that anybody talks to.
//! - What comes is asked about as if the container sent there
//!   ([`Turn::decide`]): of the host itself only ports that it may reach are
//!   heard.
//!
//! A mapping ends when it has been idle for long, or when its container wants
//! another one and has no more room: then the one that has been idle for the
//! longest goes. Where there is no room for any container, the one that has
//! most gives it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::attachment::{Attached, AttachmentKey};
use super::egress::Verdict;
use super::peers::Peers;
use super::poller::{Interest, Source, Token};
use super::refusal::Reason;
use super::router::Turn;
use super::slots::{Key, Slots};
use crate::kernel::Errno;
use crate::kernel::datagram::{self, Family, Marks, Origin, Received, Reported};
use crate::limits;

/// One port of one container: an identifier where there are no ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) attachment: AttachmentKey,
    pub(super) address: SocketAddr,
}

/// How long, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one container.
    pub(super) a_container: usize,
    /// Of all.
    pub(super) in_all: usize,
    /// Before an answer has come.
    pub(super) idle: Duration,
    /// Once one has come.
    pub(super) idle_answered: Duration,
}

/// What has become of a datagram that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Yes,
    /// The host had no room for it.
    Dropped,
    /// It does not go, and the container is told why.
    Refused(Reason),
}

/// A port and its socket.
pub(super) struct Mapping {
    pub(super) client: Client,
    socket: OwnedFd,
    token: Option<Token>,
    marks: Option<Marks>,
    peers: Peers,
    last_active: Instant,
    is_answered: bool,
    /// Its neighbours in the order of use, among its container's.
    older: Option<Key>,
    newer: Option<Key>,
}

impl Mapping {
    /// Sends to `to`, marked as `marks`; errors that are known by then are given
    /// to `report`, for they may be those of earlier datagrams.
    pub(super) fn send(
        &mut self,
        to: SocketAddr,
        payload: &[u8],
        segment: Option<u16>,
        marks: Marks,
        report: &mut dyn FnMut(&mut Peers, Reported, &[u8]),
    ) -> Sent {
        let family = Family::of(to.ip());
        if self.marks != Some(marks) {
            // Where the host does not have it, it goes as it can.
            self.marks = datagram::mark(self.socket.as_fd(), family, marks).ok().map(|()| marks);
        }
        let mut first = true;
        loop {
            let Err(error) = datagram::send(self.socket.as_fd(), to, payload, segment) else { return Sent::Yes };
            let mut mtu = None;
            let was_said = self.take_errors(&mut |peers, reported, quoted| match reported.origin {
                Origin::Local { mtu: found } => mtu = Some(found),
                Origin::Icmp { .. } => report(peers, reported, quoted),
            });
            match error.errno {
                Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM => return Sent::Dropped,
                // It was the error of an earlier one (socket(7), SO_ERROR), which is told of now.
                _ if was_said && mtu.is_none() && first => first = false,
                // Cut by the host's kernel, it would have gone in pieces that are too large, or in too many.
                Errno::EMSGSIZE | Errno::EINVAL | Errno::EIO if segment.is_some() => {
                    return self.send_cut(to, payload, segment, marks, report);
                }
                Errno::EMSGSIZE => return Sent::Refused(Reason::TooBig(least_mtu(mtu, family))),
                errno => return refused(errno),
            }
        }
    }

    /// Sends pieces one by one, until one does not go.
    fn send_cut(
        &mut self,
        to: SocketAddr,
        payload: &[u8],
        segment: Option<u16>,
        marks: Marks,
        report: &mut dyn FnMut(&mut Peers, Reported, &[u8]),
    ) -> Sent {
        let segment = segment.map_or(payload.len(), usize::from).max(1);
        let mut pieces = payload.chunks(segment);
        let failed = pieces.find_map(|piece| match self.send(to, piece, None, marks, report) {
            Sent::Yes => None,
            failed => Some(failed),
        });
        failed.unwrap_or(Sent::Yes)
    }

    /// Gives the errors that the kernel keeps for the socket to `report`, and
    /// says whether there was one. A few: what is left makes it ready again.
    pub(super) fn take_errors(&mut self, report: &mut dyn FnMut(&mut Peers, Reported, &[u8])) -> bool {
        let mut quoted = [0; 1280];
        let mut found = false;
        for _ in 0..limits::DATAGRAM_ERRORS_A_TURN {
            match datagram::receive_error(self.socket.as_fd(), &mut quoted) {
                Ok(Some(reported)) => {
                    report(&mut self.peers, reported, quoted.get(..reported.length).unwrap_or_default());
                }
                Ok(None) => {}
                Err(_) => break,
            }
            found = true;
        }
        found
    }

    /// The next datagram; an error where there is none.
    pub(super) fn receive(&self, room: &mut [u8]) -> crate::kernel::Result<Option<Received>> {
        datagram::receive(self.socket.as_fd(), room)
    }

    /// Who `host` is to the container, if what comes from there is for it.
    pub(super) fn sender(&mut self, host: SocketAddr, attached: &Attached, turn: &Turn<'_>) -> Option<SocketAddr> {
        known(&mut self.peers, host, attached, turn)
    }
}

/// [`Mapping::sender`] of these peers.
pub(super) fn known(peers: &mut Peers, host: SocketAddr, attached: &Attached, turn: &Turn<'_>) -> Option<SocketAddr> {
    let seen = SocketAddr::new(peers.seen(host.ip())?, host.port());
    // A socket's IPv6 address may name a device of the host's, too.
    let host = SocketAddr::new(host.ip(), host.port());
    (turn.decide(seen, attached) == Verdict::Reach(host)).then_some(seen)
}

/// What the container is told of who reported an error: a router's own address,
/// but for this host, which is the gateway.
pub(super) fn reporter(from: IpAddr, attached: &Attached, turn: &Turn<'_>) -> IpAddr {
    let is_link_local = match from {
        IpAddr::V4(from) => from.is_link_local(),
        IpAddr::V6(from) => from.is_unicast_link_local(),
    };
    let is_here = from.is_loopback() || from.is_unspecified() || turn.network.host.contains(&from);
    if is_here || is_link_local { attached.addresses.gateway(from) } else { from }
}

/// What an ICMP error of the outside says, as it is passed on.
pub(super) fn reason(reported: &Reported) -> Option<Reason> {
    let Origin::Icmp { kind, code, mtu, .. } = reported.origin else { return None };
    let is_too_big = matches!((reported.destination.is_ipv4(), kind, code), (true, 3, 4) | (false, 2, _));
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    Some(if is_too_big { Reason::TooBig(mtu) } else { Reason::Reported { kind, code } })
}

/// What every path takes, where nothing else is known (RFC 791, RFC 8200).
fn least_mtu(mtu: Option<u32>, family: Family) -> u16 {
    let least = if family == Family::V4 { 576 } else { 1280 };
    mtu.map_or(least, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
}

fn refused(errno: Errno) -> Sent {
    match errno {
        Errno::ENETUNREACH => Sent::Refused(Reason::Network),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::EADDRNOTAVAIL => Sent::Refused(Reason::Host),
        // A firewall of the host's, or a broadcast address of its network.
        Errno::EPERM | Errno::EACCES => Sent::Refused(Reason::Prohibited),
        // Errors of earlier datagrams that came in between, and what nobody can say anything about.
        _ => Sent::Dropped,
    }
}

/// What one container has.
#[derive(Debug, Default)]
struct Owner {
    count: usize,
    /// Addresses in tables of its mappings.
    peers: usize,
    oldest: Option<Key>,
    newest: Option<Key>,
}

/// All mappings of one protocol.
pub(super) struct Mappings {
    table: Slots<Mapping>,
    by_client: HashMap<Client, Key>,
    owners: HashMap<AttachmentKey, Owner>,
    bounds: Bounds,
    source: fn(Key) -> Source,
}

impl Mappings {
    /// None, whose descriptors are waited for as `source`.
    pub(super) fn new(bounds: Bounds, source: fn(Key) -> Source) -> Self {
        Self { table: Slots::default(), by_client: HashMap::new(), owners: HashMap::new(), bounds, source }
    }

    pub(super) fn count(&self) -> usize {
        self.table.len()
    }

    pub(super) fn find(&self, client: &Client) -> Option<Key> {
        self.by_client.get(client).copied()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Mapping> {
        self.table.get_mut(key)
    }

    /// Makes room for one more of a container.
    pub(super) fn make_room(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        let own = self.owners.get(&attachment).map_or(0, |owner| owner.count);
        let from = if own >= self.bounds.a_container.min(self.bounds.in_all) {
            Some(attachment)
        } else if self.table.len() >= self.bounds.in_all {
            self.owners.iter().max_by_key(|(_, owner)| owner.count).map(|(key, _)| *key)
        } else {
            None
        };
        let oldest = from.and_then(|from| self.owners.get(&from)?.oldest);
        if let Some(oldest) = oldest {
            self.remove(oldest, turn);
        }
    }

    /// Takes in a socket, for which there is room; `None` where it cannot be
    /// waited for.
    pub(super) fn insert(&mut self, client: Client, socket: OwnedFd, turn: &mut Turn<'_>) -> Option<Key> {
        let key = self.table.insert(Mapping {
            client,
            socket,
            token: None,
            marks: None,
            peers: Peers::new(turn.now),
            last_active: turn.now,
            is_answered: false,
            older: None,
            newer: None,
        });
        let mapping = self.table.get_mut(key)?;
        let Ok(token) = turn.poller.watch(&mapping.socket, Interest::Readable, (self.source)(key)) else {
            self.table.remove(key);
            return None;
        };
        mapping.token = Some(token);
        turn.poller.wake_at(token, turn.now + self.bounds.idle);
        self.by_client.insert(client, key);
        self.owners.entry(client.attachment).or_default().count += 1;
        self.link_newest(key, client.attachment);
        Some(key)
    }

    /// The container has sent to `seen`, which is `host` to the socket.
    pub(super) fn note_sent(&mut self, key: Key, host: IpAddr, seen: IpAddr, now: Instant) {
        self.touch(key, now);
        let Some(mapping) = self.table.get_mut(key) else { return };
        let Some(owner) = self.owners.get_mut(&mapping.client.attachment) else { return };
        owner.peers -= mapping.peers.tabled();
        if owner.peers + mapping.peers.tabled() >= limits::UDP_PEERS_A_CONTAINER {
            mapping.peers.forget();
        }
        mapping.peers.note(host, seen, now);
        owner.peers += mapping.peers.tabled();
    }

    /// Something came for the container.
    pub(super) fn note_answered(&mut self, key: Key, now: Instant) {
        self.touch(key, now);
        if let Some(mapping) = self.table.get_mut(key) {
            mapping.is_answered = true;
        }
    }

    /// Its time has come: it ends, unless it was used since that was set.
    pub(super) fn due(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(mapping) = self.table.get(key) else { return };
        let idle = if mapping.is_answered { self.bounds.idle_answered } else { self.bounds.idle };
        let ends_at = mapping.last_active + idle;
        match mapping.token.filter(|_| turn.now < ends_at) {
            Some(token) => turn.poller.wake_at(token, ends_at),
            None => self.remove(key, turn),
        }
    }

    /// A container is gone.
    pub(super) fn detach(&mut self, attachment: AttachmentKey, turn: &mut Turn<'_>) {
        while let Some(oldest) = self.owners.get(&attachment).and_then(|owner| owner.oldest) {
            self.remove(oldest, turn);
        }
    }

    fn remove(&mut self, key: Key, turn: &mut Turn<'_>) {
        self.unlink(key);
        let Some(mapping) = self.table.remove(key) else { return };
        if let Some(token) = mapping.token {
            turn.poller.forget(token);
        }
        self.by_client.remove(&mapping.client);
        let attachment = mapping.client.attachment;
        if let Some(owner) = self.owners.get_mut(&attachment) {
            owner.count -= 1;
            owner.peers -= mapping.peers.tabled();
            if owner.count == 0 {
                self.owners.remove(&attachment);
            }
        }
    }

    /// It was used now: it is the last of its container's to go.
    fn touch(&mut self, key: Key, now: Instant) {
        let Some(mapping) = self.table.get_mut(key) else { return };
        mapping.last_active = now;
        if mapping.newer.is_some() {
            let attachment = mapping.client.attachment;
            self.unlink(key);
            self.link_newest(key, attachment);
        }
    }

    fn link_newest(&mut self, key: Key, attachment: AttachmentKey) {
        let Some(owner) = self.owners.get_mut(&attachment) else { return };
        let before = owner.newest.replace(key);
        match before.and_then(|before| self.table.get_mut(before)) {
            Some(before) => before.newer = Some(key),
            None => owner.oldest = Some(key),
        }
        if let Some(mapping) = self.table.get_mut(key) {
            (mapping.older, mapping.newer) = (before, None);
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(mapping) = self.table.get(key) else { return };
        let (older, newer, attachment) = (mapping.older, mapping.newer, mapping.client.attachment);
        let Some(owner) = self.owners.get_mut(&attachment) else { return };
        match older.and_then(|older| self.table.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => owner.oldest = newer,
        }
        match newer.and_then(|newer| self.table.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => owner.newest = older,
        }
    }
}
