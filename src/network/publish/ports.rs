//! Published ports as data: what is asked for, what came of it, and how docker
//! shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port of a container, as docker writes it: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// What it carries.
    pub protocol: Protocol,
}

impl Port {
    /// Reads what an image's EXPOSE has become; `None` for what cannot be
    /// published (sctp) or is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        number.parse().ok().filter(|number| *number != 0).map(|number| Self { number, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// Ports of the host, of which one is wanted: the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Range(pub u16, pub u16);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(first, last) if first == last => write!(f, "{first}"),
            Self(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// A port that is to be reached from the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// The container's.
    pub port: Port,
    /// At which address of the host; `None` is all of them, of both families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// At which port: the first of these that is free; `None` is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Range>,
}

impl Publish {
    /// The addresses that this is about.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.address {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        }
    }
}

/// As it is typed: `[IP:]HOST:PORT/PROTOCOL`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        match (self.host, self.address) {
            (Some(range), _) => write!(f, "{range}:")?,
            (None, Some(_)) => f.write_str(":")?,
            (None, None) => {}
        }
        self.port.fmt(f)
    }
}

/// A port that can be reached from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bound {
    /// The container's.
    pub port: Port,
    /// Where.
    pub host: SocketAddr,
}

/// `docker ps`' column: ports of one number on both sides in a row as a range,
/// then those whose number changes. `exposed` are shown where they are not
/// published.
pub fn column(published: &[Bound], exposed: impl IntoIterator<Item = Port>) -> String {
    let exposed = exposed.into_iter().filter(|port| !published.iter().any(|bound| bound.port == *port));
    let mut all: Vec<(Port, Option<SocketAddr>)> = exposed.map(|port| (port, None)).collect();
    all.extend(published.iter().map(|bound| (bound.port, Some(bound.host))));
    all.sort_by_key(|(port, host)| (port.number, host.map(|host| (host.ip(), host.port())), port.protocol));
    let mut groups: BTreeMap<(Option<IpAddr>, Protocol), Range> = BTreeMap::new();
    let (mut order, mut rows, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for (port, host) in all {
        if let Some(host) = host.filter(|host| host.port() != port.number) {
            changed.push(format!("{host}->{port}"));
            continue;
        }
        let key = (host.map(|host| host.ip()), port.protocol);
        match groups.get_mut(&key) {
            Some(Range(_, last)) if last.checked_add(1) == Some(port.number) => *last = port.number,
            Some(range) => {
                rows.push(row(key, *range));
                *range = Range(port.number, port.number);
            }
            None => {
                groups.insert(key, Range(port.number, port.number));
                order.push(key);
            }
        }
    }
    rows.extend(order.into_iter().filter_map(|key| Some(row(key, *groups.get(&key)?))));
    rows.extend(changed);
    rows.join(", ")
}

fn row((address, protocol): (Option<IpAddr>, Protocol), range: Range) -> String {
    match address {
        Some(IpAddr::V4(address)) => format!("{address}:{range}->{range}/{protocol}"),
        Some(IpAddr::V6(address)) => format!("[{address}]:{range}->{range}/{protocol}"),
        None => format!("{range}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(port: &str, host: &str) -> Bound {
        Bound { port: Port::parse(port).unwrap(), host: host.parse().unwrap() }
    }

    #[test]
    fn the_column_is_dockers() {
        let both = [bound("80/tcp", "0.0.0.0:8080"), bound("80/tcp", "[::]:8080")];
        assert_eq!(column(&both, []), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let exposed = ["80/tcp", "443/tcp"].map(|port| Port::parse(port).unwrap());
        assert_eq!(column(&both[..1], exposed), "443/tcp, 0.0.0.0:8080->80/tcp");
        let row = [80, 81, 82, 90].map(|port| bound(&format!("{port}/tcp"), &format!("127.0.0.1:{port}")));
        assert_eq!(column(&row, []), "127.0.0.1:80-82->80-82/tcp, 127.0.0.1:90->90/tcp");
        assert_eq!(column(&[bound("53/udp", "0.0.0.0:53")], []), "0.0.0.0:53->53/udp");
    }

    #[test]
    fn ports_are_what_expose_says() {
        assert_eq!(Port::parse("53/udp").unwrap().to_string(), "53/udp");
        assert_eq!(Port::parse("80").unwrap().to_string(), "80/tcp");
        for text in ["", "0/tcp", "70000/tcp", "80/sctp", "x"] {
            assert_eq!(Port::parse(text), None, "{text}");
        }
    }
}
