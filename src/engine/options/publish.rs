//! Published ports: `-p`, `-P` and `--expose`, as docker reads them.

use std::net::IpAddr;

use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::network::publish::ports::{Port, Protocol, Publish, Range};

/// Reads all of `-p`, each `[IP:][HOST[-HOST]:]PORT[-PORT][/tcp|udp]`; what is
/// said twice counts once.
pub fn parse(texts: &[String]) -> Result<Vec<Publish>> {
    let mut all: Vec<Publish> = Vec::new();
    for text in texts {
        let ports = one(text).doing(|| format!("use --publish \"{}\"", text.escape_debug()))?;
        all.extend(ports);
        check_count(all.len())?;
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|publish| seen.insert(publish.clone()));
    Ok(all)
}

/// Refuses more ports than one container may publish.
pub fn check_count(count: usize) -> Result<()> {
    if count > limits::PUBLISHED_PORTS_MAX {
        return Err(Failure::usage(format!("a container publishes at most {} ports", limits::PUBLISHED_PORTS_MAX))
            .hint("--network host shares the host's network, and with it all ports"));
    }
    Ok(())
}

/// Reads `--expose`: `PORT[-PORT][/tcp|udp]`.
pub fn expose(texts: &[String]) -> Result<Vec<Port>> {
    let mut all = Vec::new();
    for text in texts {
        let ports = || -> Result<_> {
            let (ports, protocol) = protocol(text)?;
            let Range(first, last) = range(ports)?;
            Ok((first..=last).map(move |number| Port { number, protocol }))
        };
        all.extend(ports().doing(|| format!("use --expose \"{}\"", text.escape_debug()))?);
    }
    Ok(all)
}

fn one(text: &str) -> Result<Vec<Publish>> {
    let (text, protocol) = protocol(text)?;
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let container = range(container)?;
    // The last colon of an address in brackets is none of ours.
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) if !host.contains(']') => (Some(address), host),
        _ => (None, rest),
    };
    let address = address.map(self::address).transpose()?;
    let host = match host {
        "" | "0" => None,
        host => Some(range(host)?),
    };
    let Range(first, last) = container;
    let publish = |number: u16, host| Publish { port: Port { number, protocol }, address, host };
    match host {
        None => Ok((first..=last).map(|number| publish(number, None)).collect()),
        Some(range) if first == last => Ok(vec![publish(first, Some(range))]),
        Some(Range(from, to)) if to - from == last - first => {
            Ok((first..=last).zip(from..=to).map(|(number, host)| publish(number, Some(Range(host, host)))).collect())
        }
        Some(range) => Err(Failure::usage(format!(
            "the ranges {range} of the host and {container} of the container are not of one length"
        ))),
    }
}

fn address(text: &str) -> Result<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        // Docker takes IPv6 without brackets, too.
        None => text.parse().ok(),
    };
    address.ok_or_else(|| {
        let failure = Failure::usage(format!("\"{}\" is not an IP address", text.escape_debug()));
        if text == "localhost" { failure.hint("127.0.0.1:8080:80 is reached from this host alone") } else { failure }
    })
}

/// What stands behind the slash, which is tcp if there is none.
fn protocol(text: &str) -> Result<(&str, Protocol)> {
    let Some((ports, protocol)) = text.split_once('/') else { return Ok((text, Protocol::Tcp)) };
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((ports, Protocol::Tcp)),
        "udp" => Ok((ports, Protocol::Udp)),
        "sctp" => Err(Failure::usage("sctp is not carried: its packets need a socket that only root can have")),
        _ => Err(Failure::usage(format!("\"{}\" is neither tcp nor udp", protocol.escape_debug()))),
    }
}

fn range(text: &str) -> Result<Range> {
    let wrong = || Failure::usage(format!("\"{}\" is not a port or a range of ports", text.escape_debug()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // No sign, which parse would take.
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number != 0 && !text.starts_with('+'));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Range(first, last)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let shown = parse(&[text.to_owned()]).map(|all| all.iter().map(Publish::to_string).collect::<Vec<_>>());
        match (shown, expected) {
            (Ok(shown), Ok(expected)) => assert_eq!(shown, expected, "{text}"),
            (Err(failure), Err(word)) => assert!(failure.to_string().contains(word), "{text}: {failure}"),
            (shown, _) => panic!("{text}: {shown:?}"),
        }
    }

    #[test]
    fn reads_what_docker_reads() {
        check("8080:80", Ok(&["8080:80/tcp"]));
        check("80", Ok(&["80/tcp"]));
        check("0:80", Ok(&["80/tcp"]));
        check(":80", Ok(&["80/tcp"]));
        check("53:53/udp", Ok(&["53:53/udp"]));
        check("53:53/UDP", Ok(&["53:53/udp"]));
        check("127.0.0.1:8080:80/tcp", Ok(&["127.0.0.1:8080:80/tcp"]));
        check("127.0.0.1::80", Ok(&["127.0.0.1::80/tcp"]));
        check("[::1]:8080:80", Ok(&["[::1]:8080:80/tcp"]));
        check("[::1]::80", Ok(&["[::1]::80/tcp"]));
        check("::1:8080:80", Ok(&["[::1]:8080:80/tcp"]));
        check("8000-8002:80-82", Ok(&["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"]));
        check("8000-8010:80", Ok(&["8000-8010:80/tcp"]));
        check("80-81", Ok(&["80/tcp", "81/tcp"]));
        check("65535:65535", Ok(&["65535:65535/tcp"]));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "x", "0", "65536", "80-79", "+80", "80:", "8080:80:", "-80", "80/", "1-2-3"] {
            assert!(parse(&[text.to_owned()]).is_err(), "{text}");
        }
        check("8000-8002:80-81", Err("not of one length"));
        check("8000:80-81", Err("not of one length"));
        check("80/sctp", Err("sctp is not carried"));
        check("80/icmp", Err("neither tcp nor udp"));
        check("localhost:8080:80", Err("\"localhost\" is not an IP address"));
        check("[127.0.0.1]:8080:80", Err("not an IP address"));
        check("1-2000", Err("at most 1024"));
    }

    #[test]
    fn what_is_said_twice_counts_once() {
        let texts = ["80:80", "80:80/tcp", "81:80"].map(str::to_owned);
        assert_eq!(parse(&texts).unwrap().len(), 2);
        assert_eq!(expose(&["80-81/udp".to_owned()]).unwrap().len(), 2);
    }
}
