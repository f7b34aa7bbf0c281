//! A container's network: `--network`, `--dns`, `--add-host` and the like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::field::unknown;
use super::{name, publish};
use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::network::egress::{Loopback, Outside};
use crate::network::publish::ports::{Port, Publish};
use crate::network::terms::HostAddress;

/// Which network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing was said: the default network, or the next best that the host
    /// gives.
    #[default]
    Unsaid,
    /// The user's default network, and no other will do.
    Default,
    /// The host's own.
    Host,
    /// A loopback device and no more.
    None,
    /// That of another container, by name or id.
    Container(String),
}

impl Mode {
    /// As docker's API has it; where nothing was said, nothing.
    pub fn docker_word(&self) -> String {
        match self {
            Self::Unsaid => String::new(),
            Self::Default => "default".to_owned(),
            Self::Host => "host".to_owned(),
            Self::None => "none".to_owned(),
            Self::Container(name) => format!("container:{name}"),
        }
    }
}

/// What `--network` knows.
const KNOWN: [&str; 4] = ["default", "host", "none", "container:NAME"];

/// Reads `--network`.
pub fn mode(text: &str) -> Result<Mode> {
    read_mode(text).map_err(|failure| failure.doing(format!("use --network \"{text}\"")))
}

fn read_mode(text: &str) -> Result<Mode> {
    if let Some(other) = text.strip_prefix("container:") {
        return Ok(Mode::Container(name::parse(other)?));
    }
    match text {
        // Docker's word, podman's and older docker's.
        "" | "default" | "bridge" | "private" => Ok(Mode::Default),
        "host" => Ok(Mode::Host),
        "none" => Ok(Mode::None),
        "container" => Err(Failure::usage("it needs a container: container:NAME")),
        "pasta" | "slirp4netns" => Err(Failure::usage("kelp needs no such program")
            .hint("--network default has what it does; see --allow-host-loopback for the host's own ports")),
        _ if text.starts_with("ns:") => Err(Failure::usage("namespaces by path are not supported")),
        _ => Err(unknown("network", text, &KNOWN).hint(format!("known are {}", KNOWN.join(", ")))),
    }
}

/// The rest of what is said of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Servers to ask instead of the host's (`--dns`).
    pub dns: Vec<IpAddr>,
    /// Domains that a short name is looked up in; `None` are the host's.
    pub dns_search: Option<Vec<String>>,
    /// Options of resolv.conf(5); none given are the host's.
    pub dns_options: Vec<String>,
    /// Names with fixed addresses.
    pub hosts: Vec<(String, HostAddress)>,
    /// This address and no other.
    pub ipv4: Option<Ipv4Addr>,
    /// This address and no other.
    pub ipv6: Option<Ipv6Addr>,
    /// Which of the host's loopback ports it reaches.
    pub host_loopback: Loopback,
    /// What it reaches of the world outside.
    pub egress: Outside,
    /// Ports that are reached from the host.
    pub publish: Vec<Publish>,
    /// So are all that the image or `--expose` names.
    pub publish_all: bool,
    /// Ports that it listens at, beside the image's.
    pub expose: Vec<Port>,
}

/// Docker's word for the host's address, whatever it is.
const HOST_GATEWAY: &str = "host-gateway";

/// What is typed, each option as often as it may be.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'a> {
    /// `--dns`.
    pub dns: &'a [String],
    /// `--dns-search`.
    pub dns_search: &'a [String],
    /// `--dns-option`.
    pub dns_options: &'a [String],
    /// `--add-host`.
    pub hosts: &'a [String],
    /// `--ip`.
    pub ipv4: Option<&'a str>,
    /// `--ip6`.
    pub ipv6: Option<&'a str>,
    /// `--allow-host-loopback`; empty means all.
    pub host_loopback: Option<&'a str>,
    /// `--egress`.
    pub egress: Option<&'a str>,
    /// `--publish`.
    pub publish: &'a [String],
    /// `--publish-all`.
    pub publish_all: bool,
    /// `--expose`.
    pub expose: &'a [String],
}

/// Reads all of them for a network of this mode; one that would have no effect
/// is refused.
pub fn parse(mode: &Mode, typed: &Typed<'_>) -> Result<Options> {
    let options = Options {
        dns: each(typed.dns, "--dns", address)?,
        dns_search: match typed.dns_search {
            [] => None,
            // Docker's way to say that there is none.
            [one] if one == "." => Some(Vec::new()),
            domains => Some(each(domains, "--dns-search", domain)?),
        },
        dns_options: each(typed.dns_options, "--dns-option", word)?,
        hosts: each(typed.hosts, "--add-host", host)?,
        ipv4: typed.ipv4.map(|text| text.parse().map_err(|_| no_address(text)).doing(|| "use --ip")).transpose()?,
        ipv6: typed.ipv6.map(|text| text.parse().map_err(|_| no_address(text)).doing(|| "use --ip6")).transpose()?,
        host_loopback: match typed.host_loopback {
            None => Loopback::Closed,
            Some("") => Loopback::Open,
            Some(text) => Loopback::Ports(ports(text).doing(|| "use --allow-host-loopback")?),
        },
        egress: match typed.egress {
            None | Some("all") => Outside::All,
            Some("none") => Outside::None,
            Some(other) => return Err(unknown("value of --egress", other, &["all", "none"])),
        },
        publish: publish::parse(typed.publish)?,
        publish_all: typed.publish_all,
        expose: publish::expose(typed.expose)?,
    };
    check(mode, &options).map(|()| options)
}

/// Refuses what this network has no place for.
fn check(mode: &Mode, options: &Options) -> Result<()> {
    let words = match mode {
        Mode::Unsaid | Mode::Default => return check_servers(options),
        Mode::Host => "--network host",
        Mode::None => "--network none",
        Mode::Container(_) => "--network container:NAME",
    };
    let own = [
        ("--ip", options.ipv4.is_some()),
        ("--ip6", options.ipv6.is_some()),
        ("--allow-host-loopback", options.host_loopback != Loopback::Closed),
        ("--egress", options.egress != Outside::All),
    ];
    // Files that are another container's are not changed.
    let is_joined = matches!(mode, Mode::Container(_));
    // Docker's words; with host and none it says so and goes on.
    for (what, is_said) in
        [("publishing", options.publish_all || !options.publish.is_empty()), ("exposing", !options.expose.is_empty())]
    {
        if is_joined && is_said {
            let cause = format!("conflicting options: port {what} and the container type network mode");
            return Err(Failure::usage(cause).hint("publish the ports of the container whose network it is"));
        }
    }
    let names = [
        ("--add-host", is_joined && !options.hosts.is_empty()),
        ("--dns", is_joined && !options.dns.is_empty()),
        ("--dns-search", is_joined && options.dns_search.is_some()),
        ("--dns-option", is_joined && !options.dns_options.is_empty()),
    ];
    match own.into_iter().chain(names).find(|(_, is_said)| *is_said) {
        Some((option, _)) => Err(Failure::usage(format!("{option} has no effect with {words}"))),
        None => Ok(()),
    }
}

/// The servers are asked by the network's process, on the host: one on loopback
/// is the host's, and never the container's own.
fn check_servers(options: &Options) -> Result<()> {
    let is_shut = |server: &&IpAddr| server.is_loopback() && !options.host_loopback.is_open(DNS_PORT);
    match options.dns.iter().find(is_shut) {
        Some(server) => Err(Failure::usage("it is on the host's loopback, which the container does not reach")
            .hint(format!("add --allow-host-loopback={DNS_PORT}"))
            .doing(format!("use --dns {server}"))),
        None => Ok(()),
    }
}

/// RFC 1035, section 4.2.
const DNS_PORT: u16 = 53;

fn each<T>(texts: &[String], option: &str, read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    if texts.len() > limits::NETWORK_NAMES_MAX {
        return Err(Failure::usage(format!("more than {} of {option}", limits::NETWORK_NAMES_MAX)));
    }
    texts.iter().map(|text| read(text).doing(|| format!("use {option} \"{}\"", text.escape_debug()))).collect()
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| no_address(text))
}

fn no_address(text: &str) -> Failure {
    Failure::usage(format!("\"{}\" is not an IP address", text.escape_debug()))
}

/// A domain as it may stand in a line of resolv.conf(5).
fn domain(text: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !text.is_empty() && text.len() <= DOMAIN_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(Failure::usage("it is not a domain: letters, digits, \"-\" and \"_\", in parts divided by dots")),
    }
}

/// RFC 1035, section 2.3.4, as text.
const DOMAIN_BYTES_MAX: usize = 253;

/// One word of printing characters.
fn word(text: &str) -> Result<String> {
    match !text.is_empty() && text.len() <= DOMAIN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Failure::usage("it is not one word such as ndots:2")),
    }
}

/// `NAME:ADDRESS`, also `NAME=ADDRESS` and with an IPv6 address in brackets.
fn host(text: &str) -> Result<(String, HostAddress)> {
    let (name, address) = match text.split_once('=') {
        Some(pair) => pair,
        None => text.split_once(':').ok_or_else(|| Failure::usage("it must be NAME:ADDRESS"))?,
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = match bare {
        HOST_GATEWAY => HostAddress::Gateway,
        _ => HostAddress::Ip(self::address(bare)?),
    };
    Ok((domain(name)?, address))
}

/// The same as it is typed.
pub fn host_text((name, address): &(String, HostAddress)) -> String {
    match address {
        HostAddress::Ip(address) => format!("{name}:{address}"),
        HostAddress::Gateway => format!("{name}:{HOST_GATEWAY}"),
    }
}

/// `PORT[,PORT…]`.
fn ports(text: &str) -> Result<Vec<u16>> {
    let port = |word: &str| {
        let port = word.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| Failure::usage(format!("\"{}\" is not a port", word.escape_debug())))
    };
    text.split(',').map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Typed<'static> = Typed {
        dns: &[],
        dns_search: &[],
        dns_options: &[],
        hosts: &[],
        ipv4: None,
        ipv6: None,
        host_loopback: None,
        egress: None,
        publish: &[],
        publish_all: false,
        expose: &[],
    };

    fn refusal(mode: &Mode, typed: &Typed<'_>) -> String {
        parse(mode, typed).unwrap_err().to_string()
    }

    #[test]
    fn reads_modes() {
        for (text, expected) in [
            ("", Mode::Default),
            ("default", Mode::Default),
            ("bridge", Mode::Default),
            ("host", Mode::Host),
            ("none", Mode::None),
            ("container:web", Mode::Container("web".to_owned())),
        ] {
            assert_eq!(mode(text).unwrap(), expected, "{text}");
        }
        assert_eq!(mode("mynet").unwrap_err().to_string(), "use --network \"mynet\": unknown network \"mynet\"");
        for text in ["pasta", "slirp4netns", "container", "container:../x", "ns:/proc/1/ns/net"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_names_and_addresses() {
        let [hosts, search, ports] = ["db:10.0.0.7", "corp.example", "80,443"].map(str::to_owned);
        let hosts = [hosts, "six=[fd00::1]".to_owned(), "six:fd00::2".to_owned(), "me:host-gateway".to_owned()];
        let typed = Typed {
            dns: &["192.0.2.53".to_owned()],
            dns_search: &[search],
            hosts: &hosts,
            ipv4: Some("10.87.0.9"),
            host_loopback: Some(&ports),
            egress: Some("none"),
            ..NOTHING
        };
        let options = parse(&Mode::Unsaid, &typed).unwrap();
        let shown: Vec<String> = options.hosts.iter().map(host_text).collect();
        assert_eq!(shown, ["db:10.0.0.7", "six:fd00::1", "six:fd00::2", "me:host-gateway"]);
        assert_eq!(options.dns_search.as_deref(), Some(&["corp.example".to_owned()][..]));
        assert_eq!(options.host_loopback, Loopback::Ports(vec![80, 443]));
        assert_eq!(options.egress, Outside::None);
        let none = Typed { dns_search: &[".".to_owned()], host_loopback: Some(""), ..NOTHING };
        let options = parse(&Mode::Default, &none).unwrap();
        assert_eq!((options.dns_search, options.host_loopback), (Some(Vec::new()), Loopback::Open));
    }

    #[test]
    fn refuses_what_is_none() {
        for bad in ["db", "db:x", ":10.0.0.1", "a b:10.0.0.1", "a\nb:10.0.0.1", "db:10.0.0.1\n10.0.0.2 x"] {
            assert!(parse(&Mode::Unsaid, &Typed { hosts: &[bad.to_owned()], ..NOTHING }).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "x\nnameserver 192.0.2.1"] {
            assert!(parse(&Mode::Unsaid, &Typed { dns_search: &[bad.to_owned()], ..NOTHING }).is_err(), "{bad:?}");
            assert!(parse(&Mode::Unsaid, &Typed { dns_options: &[bad.to_owned()], ..NOTHING }).is_err(), "{bad:?}");
        }
        for bad in ["0", "65536", "80,", "http"] {
            assert!(parse(&Mode::Unsaid, &Typed { host_loopback: Some(bad), ..NOTHING }).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refuses_servers_that_are_not_reached() {
        let dns = Typed { dns: &["192.0.2.1".to_owned(), "127.0.0.53".to_owned()], ..NOTHING };
        assert!(refusal(&Mode::Unsaid, &dns).starts_with("use --dns 127.0.0.53: it is on the host's loopback"));
        assert!(parse(&Mode::Host, &dns).is_ok());
        for allowed in ["", "80,53"] {
            assert!(parse(&Mode::Default, &Typed { host_loopback: Some(allowed), ..dns }).is_ok());
        }
    }

    #[test]
    fn refuses_what_has_no_effect() {
        let ip = Typed { ipv4: Some("10.87.0.9"), ..NOTHING };
        assert_eq!(refusal(&Mode::Host, &ip), "--ip has no effect with --network host");
        let dns = Typed { dns: &["192.0.2.1".to_owned()], ..NOTHING };
        assert!(parse(&Mode::Host, &dns).is_ok() && parse(&Mode::None, &dns).is_ok());
        let joined = Mode::Container("web".to_owned());
        assert_eq!(refusal(&joined, &dns), "--dns has no effect with --network container:NAME");
    }
}
