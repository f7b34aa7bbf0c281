//! Which servers are asked, in which order, and how long each is waited for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use super::super::egress::{Outside, Policy, Verdict};
use super::super::resolv_conf::{ResolvConf, Server};
use super::PORT;
use crate::limits;

/// The host's servers and how they are asked, as its resolv.conf(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Servers {
    pub(super) addresses: Vec<SocketAddr>,
    /// How long the first round takes (`timeout:`).
    pub(super) patience: Duration,
    /// Rounds (`attempts:`).
    pub(super) rounds: u32,
    /// Whether the first server is another one each time (`rotate`).
    pub(super) rotate: bool,
}

impl Servers {
    /// From the text of the file. Where it names no server, the host itself is
    /// one (resolv.conf(5)).
    pub(super) fn parse(text: &str) -> Self {
        let conf = ResolvConf::parse(text);
        let mut addresses: Vec<SocketAddr> = conf.servers.iter().filter_map(socket_address).collect();
        if conf.servers.is_empty() {
            addresses.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        addresses.truncate(limits::DNS_SERVERS_MAX);
        let number = |key: &str| {
            let found = conf.options.iter().rev().find_map(|option| option.strip_prefix(key));
            found.and_then(|number| number.parse::<u32>().ok())
        };
        Self {
            addresses,
            // The defaults and bounds of glibc: RES_TIMEOUT, RES_MAXRETRANS, RES_DFLRETRY, RES_MAXRETRY.
            patience: Duration::from_secs(number("timeout:").unwrap_or(5).clamp(1, 30).into()),
            rounds: number("attempts:").unwrap_or(2).clamp(1, 5),
            rotate: conf.options.iter().any(|option| option == "rotate"),
        }
    }
}

fn socket_address(server: &Server) -> Option<SocketAddr> {
    match (server.address, server.zone.as_deref()) {
        (IpAddr::V6(address), Some(zone)) => Some(SocketAddrV6::new(address, PORT, 0, zone.parse().ok()?).into()),
        (address, None) => Some(SocketAddr::new(address, PORT)),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

/// Chooses servers, and remembers which of them do not answer.
pub(super) struct Choice {
    pub(super) host: Servers,
    silent_until: HashMap<SocketAddr, Instant>,
    turns: usize,
}

impl Choice {
    pub(super) fn new(host: Servers) -> Self {
        Self { host, silent_until: HashMap::new(), turns: 0 }
    }

    /// The servers to ask for a container, the first first: `own` are those
    /// that its user named instead of the host's. None, where it may ask none.
    pub(super) fn choose(
        &mut self,
        own: &[IpAddr],
        policy: &Policy,
        decide: impl Fn(SocketAddr) -> Verdict,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let mut chosen: Vec<SocketAddr> = match own {
            [] if policy.outside == Outside::None => Vec::new(),
            [] => self.host.addresses.clone(),
            // What the container itself may not reach is not reached for it.
            _ => own.iter().filter_map(|server| reach(SocketAddr::new(*server, PORT), policy, &decide)).collect(),
        };
        chosen.truncate(limits::DNS_SERVERS_MAX);
        if self.host.rotate && !chosen.is_empty() {
            self.turns = self.turns.wrapping_add(1);
            let first = self.turns % chosen.len();
            chosen.rotate_left(first);
        }
        // Stable: among those that answer, and those that do not, the order stays.
        chosen.sort_by_key(|server| self.silent_until.get(server).is_some_and(|until| now < *until));
        chosen
    }

    /// A server did not answer in time: others are asked first for a while.
    pub(super) fn note_silent(&mut self, server: SocketAddr, now: Instant) {
        if self.silent_until.len() >= limits::DNS_SILENT_MAX {
            self.silent_until.clear();
        }
        self.silent_until.insert(server, now + limits::DNS_SILENT);
    }

    /// It did.
    pub(super) fn note_answer(&mut self, server: SocketAddr) {
        self.silent_until.remove(&server);
    }
}

/// Where a server that the user named is asked. On loopback only where the
/// container may reach the host's.
fn reach(server: SocketAddr, policy: &Policy, decide: &impl Fn(SocketAddr) -> Verdict) -> Option<SocketAddr> {
    if server.ip().is_loopback() {
        return policy.loopback.is_open(PORT).then_some(server);
    }
    match decide(server) {
        Verdict::Reach(address) => Some(address),
        Verdict::Prohibited | Verdict::Nothing | Verdict::Ignored => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::egress::Loopback;
    use super::*;

    fn shown(servers: &[SocketAddr]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_hosts_file_says_who_is_asked_and_how() {
        let text = "nameserver 192.0.2.1\nnameserver fe80::1%3\nnameserver fe80::2%eth0\nnameserver 127.0.0.53\n\
                    nameserver 192.0.2.4\noptions timeout:3 attempts:9 rotate timeout:x\noptions timeout:2\n";
        let servers = Servers::parse(text);
        assert_eq!(shown(&servers.addresses), ["192.0.2.1:53", "[fe80::1%3]:53", "127.0.0.53:53"]);
        assert_eq!((servers.patience, servers.rounds, servers.rotate), (Duration::from_secs(2), 5, true));
        let unsaid = Servers::parse("# nothing\n");
        assert_eq!(shown(&unsaid.addresses), ["127.0.0.1:53"]);
        assert_eq!((unsaid.patience, unsaid.rounds, unsaid.rotate), (Duration::from_secs(5), 2, false));
    }

    #[test]
    fn servers_that_are_silent_are_asked_last_for_a_while() {
        let (now, policy) = (Instant::now(), Policy::default());
        let mut choice = Choice::new(Servers::parse("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"));
        let first = |choice: &mut Choice, now| choice.choose(&[], &policy, |_| Verdict::Nothing, now)[0].to_string();
        assert_eq!(first(&mut choice, now), "192.0.2.1:53");
        choice.note_silent("192.0.2.1:53".parse().unwrap(), now);
        assert_eq!(first(&mut choice, now), "192.0.2.2:53");
        assert_eq!(first(&mut choice, now + limits::DNS_SILENT), "192.0.2.1:53");
        choice.note_answer("192.0.2.1:53".parse().unwrap());
        assert_eq!(first(&mut choice, now), "192.0.2.1:53");
        choice.host.rotate = true;
        assert_ne!(first(&mut choice, now), first(&mut choice, now));
    }

    #[test]
    fn servers_that_the_user_named_are_reached_as_the_container_reaches_them() {
        let now = Instant::now();
        let mut choice = Choice::new(Servers::parse("nameserver 192.0.2.1\n"));
        let own = ["192.0.2.9", "127.0.0.53", "10.0.0.1"].map(|server| server.parse().unwrap());
        let decide = |server: SocketAddr| match server.ip().to_string().as_str() {
            "192.0.2.9" => Verdict::Prohibited,
            _ => Verdict::Reach(server),
        };
        let mut check = |own: &[IpAddr], policy: &Policy, expected: &[&str]| {
            assert_eq!(shown(&choice.choose(own, policy, decide, now)), expected, "{own:?} {policy:?}");
        };
        let closed = Policy::default();
        let alone = Policy { outside: Outside::None, ..Policy::default() };
        check(&[], &closed, &["192.0.2.1:53"]);
        check(&[], &alone, &[]);
        check(&own, &closed, &["10.0.0.1:53"]);
        for loopback in [Loopback::Open, Loopback::Ports(vec![53])] {
            check(&own, &Policy { loopback, ..Policy::default() }, &["127.0.0.53:53", "10.0.0.1:53"]);
        }
        check(&own, &Policy { loopback: Loopback::Ports(vec![54]), ..Policy::default() }, &["10.0.0.1:53"]);
    }
}
