//! Which network a container gets on this host, and what its programs read of
//! it in /etc. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::options;
use super::options::network::{Mode, Options};
use super::plan::HostFacts;
use crate::container::control::Join;
use crate::error::{Failure, Result};
use crate::image::config::RunConfig;
use crate::network::control::{DEFAULT, MTU};
use crate::network::egress::Policy;
use crate::network::lease::Wish;
use crate::network::publish;
use crate::network::publish::ports::{Port, Publish};
use crate::network::resolv_conf::{ResolvConf, Server};
use crate::network::terms::{Dns, HostAddress, Terms};
use crate::sandbox::spec::Link;

/// The device's name in a container, as docker and podman have it.
const DEVICE: &str = "eth0";

/// What was asked for, as this host can give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Never [`Mode::Unsaid`].
    pub mode: Mode,
    /// One line for the user where it is less than the default network.
    pub notice: Option<String>,
}

/// Chooses the network. Where nothing was said, the next best is taken, and
/// said; what was asked for by name is had or refused.
pub fn choose(mode: &Mode, host: &HostFacts) -> Result<Chosen> {
    let chosen = |mode: Mode, notice: Option<String>| Ok(Chosen { mode, notice });
    let said = match mode {
        Mode::Unsaid => false,
        Mode::Default => true,
        other => return chosen(other.clone(), None),
    };
    match (&host.no_network_namespaces, &host.no_tun) {
        (None, None) => chosen(Mode::Default, None),
        (Some(cause), _) if said => Err(Failure::host(cause.clone()).hint("--network host shares the host's network")),
        // A container without a network namespace of its own cannot be without a network either.
        (Some(cause), _) => chosen(
            Mode::Host,
            Some(format!("the container shares the host's network: {cause}; --network host says so for good")),
        ),
        (None, Some(failure)) if said => Err(crate::host::explain_tun(failure.clone())),
        (None, Some(failure)) => chosen(
            Mode::None,
            Some(format!(
                "the container has no network: {failure}; --network host shares the host's, --network none says so for good"
            )),
        ),
    }
}

/// The ports that are published: those that were asked for, and with `-P` the
/// rest of those that the image or `--expose` names.
pub(super) fn published(options: &Options, image: &RunConfig) -> Result<Vec<Publish>> {
    let mut all = options.publish.clone();
    if options.publish_all {
        for port in exposed(options, image) {
            if !all.iter().any(|publish| publish.port == port) {
                all.push(Publish { port, address: None, host: None });
            }
        }
    }
    options::publish::check_count(all.len()).map(|()| all)
}

/// Ports that a container listens at, as far as anybody said.
fn exposed(options: &Options, image: &RunConfig) -> BTreeSet<Port> {
    let image = image.exposed_ports.iter().filter_map(|text| Port::parse(text));
    options.expose.iter().copied().chain(image).collect()
}

/// What the user is told of ports that are published to no effect; docker's
/// words, where it has some.
pub(super) fn discarded(mode: &Mode, options: &Options) -> Option<String> {
    let is_said = options.publish_all || !options.publish.is_empty();
    match mode {
        Mode::Host if is_said => Some("Published ports are discarded when using host network mode".to_owned()),
        Mode::None if is_said => Some("Published ports are discarded: the container has no network".to_owned()),
        _ => None,
    }
}

/// The device of a container of this mode, which publishes ports or not.
pub(super) fn link(mode: &Mode, publishes: bool) -> Option<Link> {
    (*mode == Mode::Default).then(|| Link {
        device: DEVICE.to_owned(),
        mtu: MTU.into(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        inbound_mark: publishes.then_some(publish::MARK),
    })
}

/// What its supervisor asks of the network's process.
pub(super) fn join(mode: &Mode, options: &Options, image: &RunConfig) -> Result<Option<Join>> {
    if *mode != Mode::Default {
        return Ok(None);
    }
    Ok(Some(Join {
        network: DEFAULT.to_owned(),
        wish: Wish { ipv4: options.ipv4, ipv6: options.ipv6, previous: None },
        terms: Terms {
            reach: Policy { loopback: options.host_loopback.clone(), outside: options.egress },
            dns: Dns { servers: options.dns.clone(), hosts: options.hosts.clone() },
            publish: published(options, image)?,
        },
    }))
}

/// /etc/hosts. With a device of the container's own, its supervisor adds what
/// is known with the lease: its own names, the host's and those of `options`.
pub(super) fn hosts(mode: &Mode, options: &Options, host: &HostFacts, hostname: Option<&str>) -> String {
    const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let added = || -> String {
        let address = |address: &HostAddress| match address {
            HostAddress::Ip(address) => *address,
            HostAddress::Gateway => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        options.hosts.iter().map(|(name, of)| format!("{}\t{name}\n", address(of))).collect()
    };
    match mode {
        Mode::Host => format!("{}{}", end_line(&host.hosts), added()),
        Mode::Unsaid | Mode::Default => LOCAL.to_owned(),
        _ => {
            let own = hostname.map(|name| format!("127.0.0.1\t{name}\n")).unwrap_or_default();
            format!("{LOCAL}{}{own}", added())
        }
    }
}

/// /etc/resolv.conf. With a device of the container's own, the one server is
/// the network's process: the supervisor adds its address, and the servers are
/// what that asks.
pub(super) fn resolv_conf(mode: &Mode, options: &Options, host: &HostFacts) -> String {
    let is_said = !options.dns.is_empty() || options.dns_search.is_some() || !options.dns_options.is_empty();
    if *mode == Mode::Host && !is_said {
        return host.resolv_conf.clone();
    }
    let ResolvConf { mut servers, mut search, options: mut words } = match mode {
        Mode::None => ResolvConf::default(),
        _ => ResolvConf::parse(&host.resolv_conf),
    };
    if !options.dns.is_empty() {
        servers = options.dns.iter().copied().map(Server::from).collect();
    }
    if let Some(domains) = &options.dns_search {
        search.clone_from(domains);
    }
    if !options.dns_options.is_empty() {
        words.clone_from(&options.dns_options);
    }
    let conf = ResolvConf { servers, search, options: words };
    let servers = match mode {
        Mode::Unsaid | Mode::Default => String::new(),
        _ => conf.server_lines(),
    };
    servers + &conf.lines_without_servers()
}

fn end_line(text: &str) -> String {
    match text.is_empty() || text.ends_with('\n') {
        true => text.to_owned(),
        false => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: Mode, host: &HostFacts, expected: Result<(Mode, bool), &str>) {
        let chosen = choose(&mode, host).map(|chosen| (chosen.mode, chosen.notice.is_some()));
        assert_eq!(chosen.map_err(|failure| failure.to_string()), expected.map_err(str::to_owned), "{mode:?}");
    }

    #[test]
    fn the_next_best_is_taken_where_nothing_was_said() {
        let good = HostFacts::default();
        let no_tun = HostFacts { no_tun: Some(Failure::host("open /dev/net/tun: nothing")), ..HostFacts::default() };
        let closed = HostFacts { no_network_namespaces: Some("they are closed".to_owned()), ..no_tun.clone() };
        check(Mode::Unsaid, &good, Ok((Mode::Default, false)));
        check(Mode::Unsaid, &no_tun, Ok((Mode::None, true)));
        check(Mode::Unsaid, &closed, Ok((Mode::Host, true)));
        check(Mode::Default, &good, Ok((Mode::Default, false)));
        check(Mode::Default, &no_tun, Err("make a network device: open /dev/net/tun: nothing"));
        check(Mode::Default, &closed, Err("they are closed"));
        for mode in [Mode::Host, Mode::None, Mode::Container("x".to_owned())] {
            check(mode.clone(), &closed, Ok((mode, false)));
        }
    }

    #[test]
    fn names_come_from_the_host_unless_others_are_given() {
        let text = "nameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n";
        let host =
            HostFacts { hosts: "127.0.0.1 host".to_owned(), resolv_conf: text.to_owned(), ..HostFacts::default() };
        let nothing = Options::default();
        let server = Options { dns: vec!["192.0.2.9".parse().unwrap()], ..Options::default() };
        let search = Options { dns_search: Some(Vec::new()), ..Options::default() };
        for (mode, options, expected) in [
            (Mode::Host, &nothing, text),
            (Mode::Host, &server, "nameserver 192.0.2.9\nsearch a.example\noptions ndots:2\n"),
            (Mode::Host, &search, "nameserver 192.0.2.1\noptions ndots:2\n"),
            (Mode::Default, &nothing, "search a.example\noptions ndots:2\n"),
            (Mode::Default, &server, "search a.example\noptions ndots:2\n"),
            (Mode::Default, &search, "options ndots:2\n"),
            (Mode::None, &nothing, ""),
            (Mode::None, &server, "nameserver 192.0.2.9\n"),
        ] {
            assert_eq!(resolv_conf(&mode, options, &host), expected, "{mode:?} {options:?}");
        }
        let db = Options { hosts: vec![("db".to_owned(), HostAddress::Gateway)], ..Options::default() };
        assert_eq!(hosts(&Mode::Host, &db, &host, Some("web")), "127.0.0.1 host\n127.0.0.1\tdb\n");
        assert!(hosts(&Mode::None, &db, &host, Some("web")).ends_with("127.0.0.1\tdb\n127.0.0.1\tweb\n"));
        assert!(!hosts(&Mode::Default, &db, &host, Some("web")).contains("db"));
    }
}
