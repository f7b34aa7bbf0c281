//! resolv.conf(5): which servers answer questions about names, and how they
//! are asked. Read as glibc reads it: what makes no sense is passed over.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;

use crate::limits;

/// Where it is.
pub const PATH: &str = "/etc/resolv.conf";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order in which they are asked.
    pub servers: Vec<Server>,
    /// Domains that a short name is looked up in.
    pub search: Vec<String>,
    /// `ndots:1`, `rotate` and the like.
    pub options: Vec<String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: IpAddr,
    /// The device that an IPv6 address of one link is reached by
    /// (`fe80::1%eth0`), or its number.
    pub zone: Option<String>,
}

impl Server {
    fn parse(word: &str) -> Option<Self> {
        let (address, zone) = match word.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (word, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let has_place = zone.is_none_or(|zone| address.is_ipv6() && !zone.is_empty());
        has_place.then(|| Self { address, zone: zone.map(str::to_owned) })
    }
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Self { address, zone: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl ResolvConf {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(key) = words.next() else { continue };
            let owned = |words: std::str::SplitAsciiWhitespace<'_>| words.map(str::to_owned).collect::<Vec<_>>();
            match key {
                "nameserver" => found.servers.extend(words.next().and_then(Server::parse)),
                // The last one counts.
                "search" => found.search = owned(words),
                "domain" => found.search = words.next().map(str::to_owned).into_iter().collect(),
                "options" => found.options.extend(owned(words)),
                _ => {}
            }
        }
        found
    }

    /// Its lines of servers.
    pub fn server_lines(&self) -> String {
        self.servers.iter().map(|server| format!("nameserver {server}\n")).collect()
    }

    /// Its lines without the servers.
    pub fn lines_without_servers(&self) -> String {
        let line = |key: &str, words: &[String]| match words.is_empty() {
            true => String::new(),
            false => format!("{key} {}\n", words.join(" ")),
        };
        line("search", &self.search) + &line("options", &self.options)
    }
}

/// The text of the host's file; empty where there is none, or none of a sane
/// size. glibc then asks the host itself (127.0.0.1).
pub fn read() -> String {
    let bytes = limits::read_file(Path::new(PATH), limits::RESOLV_CONF_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same for a process that can look no device up: each is named by its
/// number. A server that is reached by a device that is not there is left out.
pub fn read_numbered() -> String {
    let mut conf = ResolvConf::parse(&read());
    conf.servers.retain_mut(|server| match &mut server.zone {
        None => true,
        Some(zone) if zone.parse::<u32>().is_ok() => true,
        Some(zone) => match if_nametoindex(zone.as_str()) {
            Ok(number) => {
                *zone = number.to_string();
                true
            }
            Err(_) => false,
        },
    });
    conf.server_lines() + &conf.lines_without_servers()
}

/// Directories in which a change changes what [`read`] reads: that of the file
/// and, where it is a link, of what the link names.
pub fn directories() -> Vec<PathBuf> {
    let mut path = PathBuf::from(PATH);
    let mut found = Vec::new();
    for _ in 0..limits::ENTRY_LINKS_MAX {
        let Some(directory) = path.parent().map(Path::to_owned) else { break };
        let Ok(target) = std::fs::read_link(&path) else {
            found.push(directory);
            break;
        };
        path = directory.join(target);
        found.push(directory);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_resolvers_read() {
        let text = "# made by a program\nnameserver 127.0.0.53\n nameserver\t10.0.0.1 # first\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1\nnameserver x\nnameserver 192.0.2.1%eth0\nnameserver fe80::1%\ndomain a.example\nsearch b.example c.example\n\
                    options edns0 trust-ad\noptions ndots:2\nsortlist 1.2.3.4\n\n";
        let conf = ResolvConf::parse(text);
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53", "10.0.0.1", "fe80::1%eth0", "2001:db8::1"]);
        let expected = "search b.example c.example\noptions edns0 trust-ad ndots:2\n";
        assert_eq!(conf.lines_without_servers(), expected);
        assert_eq!(ResolvConf::parse("").lines_without_servers(), "");
        assert_eq!(ResolvConf::parse("search a\ndomain b.example c\n").search, ["b.example"]);
    }
}
