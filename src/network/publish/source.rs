//! From which address a connection is passed on to the container. Pure.
//!
//! Its programs are to see who talks to them. Who is on the host itself comes
//! from its loopback, which in the container is the container: for them the
//! gateway's address stands, as it stands for the host everywhere else.

use std::net::{IpAddr, SocketAddr};

use super::super::attachment::Addresses;

/// One way to reach the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The container's address and port.
    pub(super) destination: SocketAddr,
    /// From where; `None` where the container's own kernel chooses.
    pub(super) source: Option<SocketAddr>,
}

/// In which families a connection can come from any address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Transparent {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Transparent {
    fn is_so(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

/// The ways for a connection of `client`'s, the best first: its own address
/// and port, the address with another port, the gateway's address, none. After
/// those, the container's address of the other family: its program may listen
/// on that alone.
pub(super) fn ways(client: SocketAddr, port: u16, addresses: &Addresses, transparent: Transparent) -> Vec<Way> {
    let (same, other) = match client {
        SocketAddr::V4(_) => (IpAddr::from(addresses.v4), IpAddr::from(addresses.v6)),
        SocketAddr::V6(_) => (addresses.v6.into(), addresses.v4.into()),
    };
    let mut sources = Vec::new();
    if transparent.is_so(same) {
        if is_shown(client.ip(), addresses) {
            sources.extend([client, SocketAddr::new(client.ip(), 0)]);
        } else {
            sources.push(SocketAddr::new(addresses.gateway(same), client.port()));
        }
        sources.push(SocketAddr::new(addresses.gateway(same), 0));
    }
    let way = |address: IpAddr| move |source| Way { destination: SocketAddr::new(address, port), source };
    let across = transparent.is_so(other).then(|| SocketAddr::new(addresses.gateway(other), 0));
    let own = sources.into_iter().map(Some).chain([None]).map(way(same));
    own.chain(across.into_iter().map(Some).chain([None]).map(way(other))).collect()
}

/// Whether a program in the container can be shown this address: it must not
/// be taken for one of its own, and answers must find it without a device.
fn is_shown(client: IpAddr, addresses: &Addresses) -> bool {
    let is_link_local = match client {
        IpAddr::V4(_) => false,
        // Means nothing without the host's device.
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_special = client.is_loopback() || client.is_unspecified() || client.is_multicast();
    !(is_special || is_link_local || addresses.owns(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Transparent = Transparent { ipv4: true, ipv6: true };

    fn check(client: &str, transparent: Transparent, expected: &str) {
        let addresses = Addresses {
            v4: "10.87.0.2".parse().unwrap(),
            gateway_v4: "10.87.0.1".parse().unwrap(),
            v6: "fd00::2".parse().unwrap(),
            gateway_v6: "fd00::1".parse().unwrap(),
        };
        let shown = |way: Way| match way.source {
            Some(source) => format!("{source}>{}", way.destination),
            None => format!(">{}", way.destination),
        };
        let ways: Vec<String> =
            ways(client.parse().unwrap(), 80, &addresses, transparent).into_iter().map(shown).collect();
        assert_eq!(ways.join(" "), expected, "{client}");
    }

    #[test]
    fn the_client_is_shown_where_it_can_be() {
        check(
            "203.0.113.7:5000",
            ALL,
            "203.0.113.7:5000>10.87.0.2:80 203.0.113.7:0>10.87.0.2:80 10.87.0.1:0>10.87.0.2:80 >10.87.0.2:80 \
             [fd00::1]:0>[fd00::2]:80 >[fd00::2]:80",
        );
        let across = "10.87.0.1:0>10.87.0.2:80 >10.87.0.2:80";
        check(
            "[2001:db8::7]:5000",
            ALL,
            &format!(
                "[2001:db8::7]:5000>[fd00::2]:80 [2001:db8::7]:0>[fd00::2]:80 [fd00::1]:0>[fd00::2]:80 \
                 >[fd00::2]:80 {across}"
            ),
        );
        for host in ["[::1]:5000", "[fe80::1]:5000", "[fd00::2]:5000"] {
            check(host, ALL, &format!("[fd00::1]:5000>[fd00::2]:80 [fd00::1]:0>[fd00::2]:80 >[fd00::2]:80 {across}"));
        }
    }

    #[test]
    fn without_transparent_sockets_nobody_is_shown() {
        check("203.0.113.7:5000", Transparent::default(), ">10.87.0.2:80 >[fd00::2]:80");
        check(
            "127.0.0.1:5000",
            Transparent { ipv4: true, ipv6: false },
            "10.87.0.1:5000>10.87.0.2:80 10.87.0.1:0>10.87.0.2:80 >10.87.0.2:80 >[fd00::2]:80",
        );
    }
}
