//! Whom a port of a container has sent to, as the host's socket names them,
//! and who they are to the container.
//!
//! They are forgotten by halves: when one half is full, or old, the other half
//! goes. Who is heard from or sent to stays.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::limits;

/// The addresses that one port talks to.
#[derive(Debug)]
pub(super) struct Peers {
    /// The last one; most ports have no other, and need no table.
    last: Option<Peer>,
    recent: HashMap<IpAddr, IpAddr>,
    before: HashMap<IpAddr, IpAddr>,
    /// When `recent` began.
    since: Instant,
}

/// An address as the host's socket names it, and as the container does.
type Peer = (IpAddr, IpAddr);

impl Peers {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: None, recent: HashMap::new(), before: HashMap::new(), since: now }
    }

    /// How many stand in tables.
    pub(super) fn tabled(&self) -> usize {
        self.recent.len() + self.before.len()
    }

    /// The container has sent to `seen`, which is `host` to the socket.
    pub(super) fn note(&mut self, host: IpAddr, seen: IpAddr, now: Instant) {
        let Some(last) = self.last.replace((host, seen)).filter(|last| *last != (host, seen)) else { return };
        let is_old = now.saturating_duration_since(self.since) >= limits::UDP_IDLE_ANSWERED;
        if is_old || self.recent.len() >= limits::UDP_PEERS_A_FLOW / 2 {
            self.before = std::mem::take(&mut self.recent);
            self.since = now;
        }
        self.before.remove(&last.0);
        self.recent.insert(last.0, last.1);
    }

    /// Who `host` is to the container; `None` where it has not sent there.
    pub(super) fn seen(&mut self, host: IpAddr) -> Option<IpAddr> {
        if let Some((_, seen)) = self.last.filter(|last| last.0 == host) {
            return Some(seen);
        }
        if self.recent.len() < limits::UDP_PEERS_A_FLOW / 2
            && let Some(seen) = self.before.remove(&host)
        {
            self.recent.insert(host, seen);
        }
        self.recent.get(&host).or_else(|| self.before.get(&host)).copied()
    }

    /// Forgets all but the last.
    pub(super) fn forget(&mut self) {
        (self.recent, self.before) = (HashMap::new(), HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from(0x0b00_0000 + number as u32).into()
    }

    #[test]
    fn those_that_were_sent_to_are_known_and_no_others() {
        let now = Instant::now();
        let mut peers = Peers::new(now);
        assert_eq!(peers.seen(address(1)), None);
        peers.note(address(1), address(101), now);
        peers.note(address(2), address(2), now);
        assert_eq!([1, 2, 3].map(|number| peers.seen(address(number))), [Some(address(101)), Some(address(2)), None]);
    }

    #[test]
    fn they_are_bounded_and_the_ones_in_use_stay() {
        let now = Instant::now();
        let mut peers = Peers::new(now);
        for number in 0..10 * limits::UDP_PEERS_A_FLOW {
            peers.note(address(number), address(number), now);
            assert!(peers.tabled() <= limits::UDP_PEERS_A_FLOW + 1);
            assert_eq!(peers.seen(address(0)), Some(address(0)));
        }
        assert_eq!(peers.seen(address(1)), None);
        peers.forget();
        assert_eq!((peers.tabled(), peers.seen(address(0))), (0, None));
    }

    #[test]
    fn who_is_silent_for_long_is_forgotten() {
        let start = Instant::now();
        let mut peers = Peers::new(start);
        for number in 0..4 {
            let now = start + limits::UDP_IDLE_ANSWERED * number + Duration::from_secs(1);
            peers.note(address(number as usize), address(0), now);
        }
        assert_eq!(peers.seen(address(0)), None);
        assert!(peers.seen(address(2)).is_some());
    }
}
