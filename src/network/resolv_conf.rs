//! resolv.conf(5): which servers answer questions about names, and how they
//! are asked. Read as glibc reads it: what makes no sense is passed over.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::limits;

/// Where it is.
pub const PATH: &str = "/etc/resolv.conf";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order in which they are asked. An IPv6 address with a zone
    /// (`fe80::1%eth0`) is not among them.
    pub servers: Vec<IpAddr>,
    /// Domains that a short name is looked up in.
    pub search: Vec<String>,
    /// `ndots:1`, `rotate` and the like.
    pub options: Vec<String>,
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
                "nameserver" => found.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                // The last one counts.
                "search" => found.search = owned(words),
                "domain" => found.search = words.next().map(str::to_owned).into_iter().collect(),
                "options" => found.options.extend(owned(words)),
                _ => {}
            }
        }
        found
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
                    nameserver 2001:db8::1\nnameserver x\ndomain a.example\nsearch b.example c.example\n\
                    options edns0 trust-ad\noptions ndots:2\nsortlist 1.2.3.4\n\n";
        let conf = ResolvConf::parse(text);
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53", "10.0.0.1", "2001:db8::1"]);
        let expected = "search b.example c.example\noptions edns0 trust-ad ndots:2\n";
        assert_eq!(conf.lines_without_servers(), expected);
        assert_eq!(ResolvConf::parse("").lines_without_servers(), "");
        assert_eq!(ResolvConf::parse("search a\ndomain b.example c\n").search, ["b.example"]);
    }
}
