//! Where a container may send to: a pure decision on addresses.
//!
//! A destination is the outside, the host itself under the gateway's address,
//! or refused. What only this machine or its link reaches (loopback,
//! link-local, the metadata services of clouds, the host's own addresses) is
//! not the outside: services listen there because they trust who can reach
//! them. Containers do not reach each other over the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which of the host's loopback ports a container reaches, by the gateway's
/// address and by the host's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loopback {
    /// None.
    #[default]
    Closed,
    /// These.
    Ports(Vec<u16>),
    /// All.
    Open,
}

impl Loopback {
    /// Whether it reaches this port.
    pub fn is_open(&self, port: u16) -> bool {
        match self {
            Self::Closed => false,
            Self::Ports(ports) => ports.contains(&port),
            Self::Open => true,
        }
    }
}

/// How much of the outside a container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// All of it.
    #[default]
    All,
    /// Nothing.
    None,
}

/// What one container may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The outside.
    pub outside: Outside,
    /// The host's loopback.
    pub loopback: Loopback,
}

/// The network that a container is on, as the decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The addresses that its containers have.
    pub subnets: Vec<IpNet>,
    /// The router's own addresses in them: they stand for the host.
    pub gateways: Vec<IpAddr>,
    /// The host's own addresses, but for loopback. They change while it runs.
    pub host: Vec<IpAddr>,
}

/// What becomes of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host connects to this address for the container.
    Reach(SocketAddr),
    /// Not allowed: the container is told so (ICMP "administratively
    /// prohibited").
    Prohibited,
    /// There is nothing: the container is told so (ICMP "host unreachable").
    Nothing,
    /// No address of one host; no answer is due (RFC 1122 section 3.2.2).
    Ignored,
}

/// What becomes of a packet to `destination` for a stream or a datagram.
pub fn decide(destination: SocketAddr, policy: &Policy, network: &Network) -> Verdict {
    let (address, port) = (destination.ip(), destination.port());
    if is_many(address) || address.is_unspecified() {
        return Verdict::Ignored;
    }
    let here = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    if network.gateways.contains(&address) {
        return if policy.loopback.is_open(port) {
            Verdict::Reach(SocketAddr::new(here, port))
        } else {
            Verdict::Prohibited
        };
    }
    if network.subnets.iter().any(|subnet| subnet.contains(&address)) {
        return Verdict::Nothing;
    }
    if network.host.contains(&address) {
        return if policy.loopback.is_open(port) { Verdict::Reach(destination) } else { Verdict::Prohibited };
    }
    if is_of_this_machine_or_link(address) || policy.outside == Outside::None {
        return Verdict::Prohibited;
    }
    Verdict::Reach(destination)
}

/// Multicast, broadcast, and what is reserved (RFC 1112 section 4).
fn is_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] >= 224,
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Addresses that mean another thing on each machine or link (RFC 6890).
fn is_of_this_machine_or_link(address: IpAddr) -> bool {
    match address {
        // 169.254.169.254, the metadata service of most clouds, is link-local.
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.octets()[0] == 0,
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                // ::ffff:127.0.0.1 is 127.0.0.1 to a socket, ::127.0.0.1 to old ones, and what
                // of IPv4 is reached is reached by IPv4.
                || address.to_ipv4().is_some()
                // The metadata service of Amazon's IPv6-only networks.
                || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            subnets: vec!["10.87.0.0/16".parse().unwrap(), "fd6b:656c:7000::/64".parse().unwrap()],
            gateways: vec!["10.87.0.1".parse().unwrap(), "fd6b:656c:7000::1".parse().unwrap()],
            host: vec!["192.168.7.5".parse().unwrap(), "2001:db8::5".parse().unwrap()],
        }
    }

    fn check(destination: &str, policy: &Policy, expected: Verdict) {
        assert_eq!(decide(destination.parse().unwrap(), policy, &network()), expected, "{destination}");
    }

    fn reach(address: &str) -> Verdict {
        Verdict::Reach(address.parse().unwrap())
    }

    #[test]
    fn the_outside_is_reached_as_it_is() {
        for outside in ["192.0.2.1:443", "[2001:db8::1]:443", "192.168.7.1:53", "10.0.0.1:1"] {
            check(outside, &Policy::default(), reach(outside));
            check(outside, &Policy { outside: Outside::None, ..Policy::default() }, Verdict::Prohibited);
        }
    }

    #[test]
    fn the_machine_and_its_link_are_not_the_outside() {
        let open = Policy { loopback: Loopback::Open, ..Policy::default() };
        for hidden in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "169.254.0.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:192.0.2.1]:80",
            "[::127.0.0.1]:80",
            "[fd00:ec2::254]:80",
        ] {
            check(hidden, &Policy::default(), Verdict::Prohibited);
            check(hidden, &open, Verdict::Prohibited);
        }
        for many in ["224.0.0.1:1", "255.255.255.255:67", "240.0.0.1:1", "[ff02::1]:1", "0.0.0.0:1", "[::]:1"] {
            check(many, &open, Verdict::Ignored);
        }
        for neighbour in ["10.87.0.9:80", "[fd6b:656c:7000::9]:80"] {
            check(neighbour, &open, Verdict::Nothing);
        }
    }

    #[test]
    fn the_host_is_reached_where_it_is_allowed() {
        let ports = |ports: &[u16]| Policy { loopback: Loopback::Ports(ports.to_vec()), ..Policy::default() };
        let alone = Policy { outside: Outside::None, ..ports(&[80]) };
        for (by, is) in [
            ("10.87.0.1:80", "127.0.0.1:80"),
            ("[fd6b:656c:7000::1]:80", "[::1]:80"),
            ("192.168.7.5:80", "192.168.7.5:80"),
            ("[2001:db8::5]:80", "[2001:db8::5]:80"),
        ] {
            check(by, &Policy::default(), Verdict::Prohibited);
            check(by, &ports(&[81]), Verdict::Prohibited);
            check(by, &ports(&[80]), reach(is));
            check(by, &alone, reach(is));
        }
    }
}
