//! Binding published ports on the host.
//!
//! All addresses means both families, and one port number for both. A port
//! that any will do for is the kernel's choice (net.ipv4.ip_local_port_range).

use std::net::{IpAddr, SocketAddr, TcpListener};

use super::ports::{Bound, Port, Protocol, Publish, Range};
use crate::error::{Context, Failure, Result};
use crate::kernel::{self, Errno, socket};
use crate::limits;

/// A port that is open.
pub(super) struct Open {
    pub(super) bound: Bound,
    pub(super) socket: TcpListener,
}

/// What an error can be explained with.
pub struct Around<'a> {
    /// The container that has this port already, by its name.
    pub holder: &'a dyn Fn(&Bound) -> Option<String>,
    /// The first port that users may bind (net.ipv4.ip_unprivileged_port_start).
    pub unprivileged_from: Option<u16>,
}

/// Opens one port; at all addresses it is several.
pub(super) fn open(wish: &Publish, around: &Around<'_>) -> Result<Vec<Open>> {
    let doing = || format!("publish {wish}");
    if wish.port.protocol == Protocol::Udp {
        return Err(Failure::user("UDP cannot be published yet")).doing(doing);
    }
    let Some(Range(first, last)) = wish.host else { return open_any(wish, around).doing(doing) };
    let mut refused = None;
    for number in first..=last {
        match open_at(wish, number) {
            Ok(open) => return Ok(open),
            Err(refusal) if refusal.errno == Errno::EADDRINUSE => refused = Some(refusal),
            Err(refusal) => return Err(refusal.explain(around)).doing(doing),
        }
    }
    let Some(refusal) = refused else { return Err(Failure::bug("no ports to choose from")) };
    match first == last {
        true => Err(refusal.explain(around)),
        false => Err(Failure::user(format!("all ports of {first}-{last} are taken"))),
    }
    .doing(doing)
}

/// Opens what was open before, in another process.
pub(super) fn open_again(bound: &Bound) -> Option<Open> {
    open_one(*bound).ok()
}

/// The kernel chooses for the first address; where another one's is taken, it
/// chooses again.
fn open_any(wish: &Publish, around: &Around<'_>) -> Result<Vec<Open>> {
    let mut refused = None;
    for _ in 0..limits::PUBLISH_TRIES {
        match open_at(wish, 0) {
            Ok(open) => return Ok(open),
            Err(refusal) if refusal.errno == Errno::EADDRINUSE => refused = Some(refusal),
            Err(refusal) => return Err(refusal.explain(around)),
        }
    }
    Err(refused.map_or_else(|| Failure::bug("no port was tried"), |refusal| refusal.explain(around)))
}

/// Opens a port of this number at all addresses that are wished for; 0 is any,
/// the same for all.
fn open_at(wish: &Publish, number: u16) -> Result<Vec<Open>, Refusal> {
    let mut all: Vec<Open> = Vec::new();
    for address in wish.addresses() {
        let number = all.first().map_or(number, |open| open.bound.host.port());
        match open_one(Bound { port: wish.port, host: SocketAddr::new(address, number) }) {
            Ok(open) => all.push(open),
            // A host without IPv6, where nobody asked for it.
            Err(Refusal { errno: Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL, .. }) if !all.is_empty() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(all)
}

fn open_one(bound: Bound) -> Result<Open, Refusal> {
    let refused = |error: kernel::Error| Refusal { bound, errno: error.errno };
    let socket = socket::listen_tcp(bound.host).map_err(refused)?;
    let host = socket.local_addr().unwrap_or(bound.host);
    Ok(Open { bound: Bound { host, ..bound }, socket })
}

/// Why a port cannot be bound.
struct Refusal {
    bound: Bound,
    errno: Errno,
}

impl Refusal {
    fn explain(&self, around: &Around<'_>) -> Failure {
        let Self { bound: Bound { host, port: Port { .. } }, errno } = self;
        let number = host.port();
        let shown = |address: IpAddr| if address.is_unspecified() { String::new() } else { format!(" at {address}") };
        let what = format!("port {number}{} cannot be bound", shown(host.ip()));
        let failure = match *errno {
            Errno::EADDRINUSE => match (around.holder)(&self.bound) {
                Some(name) => Failure::user(format!("{what}: the container \"{name}\" has it"))
                    .hint("choose another one, or let kelp: -p PORT without one of the host's"),
                None => Failure::user(format!("{what}: it is taken"))
                    .hint(format!("ss -ltnp \"sport = {number}\" tells by whom; -p PORT without one of the host's takes one that is free")),
            },
            Errno::EACCES => {
                let cause = match around.unprivileged_from {
                    Some(first) => format!("{what}: permission denied: net.ipv4.ip_unprivileged_port_start is {first}"),
                    None => format!("{what}: permission denied"),
                };
                let above = number.saturating_add(8000);
                Failure::host(cause).hint(format!(
                    "publish a higher one such as {above}, or have an admin set sysctl net.ipv4.ip_unprivileged_port_start={number}"
                ))
            }
            Errno::EADDRNOTAVAIL => Failure::user(format!("{} is no address of this host", host.ip())),
            Errno::EMFILE | Errno::ENFILE => Failure::host(format!("{what}: too many open files"))
                .hint("ulimit -Hn bounds what all your containers' connections and ports take together"),
            errno => Failure::host(format!("{what}: {}", errno.desc())),
        };
        failure.errno(*errno as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Around<'static> = Around { holder: &|_| None, unprivileged_from: Some(1024) };

    fn wish(address: Option<&str>, host: Option<Range>) -> Publish {
        let address = address.map(|address| address.parse().unwrap());
        Publish { port: Port::parse("80/tcp").unwrap(), address, host }
    }

    #[test]
    fn all_addresses_have_one_port() {
        let open = open(&wish(None, None), &NOBODY).unwrap();
        let hosts: Vec<SocketAddr> = open.iter().map(|open| open.bound.host).collect();
        assert!(hosts.iter().all(|host| host.ip().is_unspecified() && host.port() == hosts[0].port()), "{hosts:?}");
        assert_ne!(hosts[0].port(), 0);
    }

    #[test]
    fn the_first_free_one_is_taken_and_who_has_it_is_named() {
        let address = Some("127.0.0.1");
        let first = open(&wish(address, None), &NOBODY).unwrap().remove(0);
        let number = first.bound.host.port();
        let one = wish(address, Some(Range(number, number)));
        let refused = open(&one, &NOBODY).err().unwrap();
        assert!(refused.to_string().contains(&format!("port {number} at 127.0.0.1 cannot be bound: it is taken")));
        let web = Around { holder: &|_| Some("web".to_owned()), ..NOBODY };
        assert!(open(&one, &web).err().unwrap().to_string().ends_with("the container \"web\" has it"));
        if let Some(last) = number.checked_add(20) {
            let next = open(&wish(address, Some(Range(number, last))), &NOBODY).unwrap().remove(0);
            assert!(next.bound.host.port() > number);
        }
        assert!(open_again(&first.bound).is_none());
        let bound = first.bound;
        drop(first);
        assert_eq!(open_again(&bound).unwrap().bound, bound);
    }

    #[test]
    fn an_address_of_somebody_else_is_refused() {
        let refused = open(&wish(Some("192.0.2.1"), None), &NOBODY).err().unwrap();
        assert!(refused.to_string().ends_with("192.0.2.1 is no address of this host"), "{refused}");
    }
}
