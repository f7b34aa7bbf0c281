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
    addresses: Vec<SocketAddr>,
    /// How long the first round takes (`timeout:`).
    pub(super) patience: Duration,
    /// Rounds (`attempts:`).
    pub(super) rounds: u32,
    /// Whether the first server is another one each time (`rotate`).
    rotate: bool,
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
