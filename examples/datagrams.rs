//! What datagrams, echo requests and fragments are tested with, without a
//! container: `examples/network.rs` is the router, and this is a host around it
//! and the traffic through it.
//!
//! ```text
//! datagrams try [--no-ping] [OPTION OF network route]... -- TRAFFIC
//!     makes user and network namespaces that play the host, with a server on
//!     port 5400, and sends TRAFFIC through a router in them
//! ```
//! The traffic: `echo`, `errors`, `path-mtu`, `marks`, `mapping`, `strangers`,
//! `ping`, `no-ping`, `fragments`, `flood COUNT`; see each function. What is
//! not as it should be is a panic.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use kelp::kernel::Errno;
use kelp::kernel::datagram::{self, Family, Marks, Origin};
use kelp::network::checksum::Sum;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{SockaddrStorage, sockopt};

const PORT: u16 = 5400;
/// The gateways stand for the host's loopback.
const GATEWAYS: [&str; 2] = ["10.87.0.1", "fd6b:656c:7000::1"];
/// The way to them takes 1,400 bytes at most.
const NARROW: [&str; 2] = ["192.0.2.5", "2001:db8::5"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["try", rest @ ..] => host(rest),
        ["echo"] => GATEWAYS.iter().for_each(|gateway| echo(gateway)),
        ["errors"] => errors(),
        ["path-mtu"] => NARROW.iter().for_each(|host| path_mtu(host)),
        ["marks"] => GATEWAYS.iter().for_each(|gateway| marks(gateway)),
        ["mapping"] => mapping(),
        ["strangers"] => strangers(),
        ["ping"] => ping(),
        ["no-ping"] => no_ping(),
        ["fragments"] => fragments(),
        ["flood", count] => flood(count.parse().unwrap()),
        _ => panic!("datagrams: see its first lines for how it is called"),
    }
    println!("{} is well", words.join(" "));
}

fn host(arguments: &[&str]) {
    use nix::sched::CloneFlags;
    let split = arguments.iter().position(|word| *word == "--").unwrap();
    let (options, traffic) = arguments.split_at(split);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    for line in [
        "link set lo up",
        "address add 192.0.2.5/32 dev lo",
        "address add 2001:db8::5/128 dev lo nodad",
        "route replace local 192.0.2.5 dev lo table local mtu lock 1400",
        "-6 route replace local 2001:db8::5 dev lo table local mtu lock 1400",
        "route add unreachable 198.51.100.0/24",
        "-6 route add unreachable 2001:db8:1::/48",
        "route add prohibit 203.0.113.0/24",
        "-6 route add prohibit 2001:db8:2::/48",
    ] {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }
    let may_ping = !options.contains(&"--no-ping");
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", if may_ping { "0 0" } else { "1 0" }).unwrap();
    for here in ["0.0.0.0", "::"] {
        let socket = bound(here.parse().unwrap(), PORT);
        std::thread::spawn(move || serve(&socket));
    }
    let own = std::env::current_exe().unwrap();
    let mut route = Command::new(own.with_file_name("network"));
    route.arg("route").args(options.iter().filter(|option| **option != "--no-ping")).arg("--").arg(own);
    let status = route.args(&traffic[1..]).status().unwrap();
    std::process::exit(status.code().unwrap_or(1));
}

fn bound(address: IpAddr, port: u16) -> OwnedFd {
    let socket = datagram::udp(Family::of(address), 4 << 20).unwrap();
    let address = SockaddrStorage::from(SocketAddr::new(address, port));
    nix::sys::socket::bind(socket.as_raw_fd(), &address).unwrap();
    socket
}

fn wait(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, PollTimeout::from(5_000_u16)).unwrap() > 0
}

/// Sends each datagram back, but for a few that ask for something.
fn serve(socket: &OwnedFd) {
    let mut buffer = vec![0; 70_000];
    loop {
        wait(socket);
        let Ok(Some(received)) = datagram::receive(socket.as_fd(), &mut buffer) else { continue };
        let (from, bytes) = (received.from, &buffer[..received.length]);
        let answer = |answer: &str| datagram::send(socket.as_fd(), from, answer.as_bytes(), None).unwrap();
        match bytes {
            b"who am i" => answer(&from.port().to_string()),
            b"how marked" => answer(&format!("{:?} {}", received.hop_limit, received.traffic_class)),
            // Somebody whom the container has not sent to, and another port of who it has.
            b"strangers" => {
                for (host, word) in [("127.0.0.2", "stranger"), ("127.0.0.1", "friend")] {
                    let other = bound(host.parse().unwrap(), 0);
                    datagram::send(other.as_fd(), from, word.as_bytes(), None).unwrap();
                }
            }
            _ => {
                // As they came: many at once. A segment may be as large as the device takes, but not larger.
                let segment = received.segment;
                let sent = datagram::send(socket.as_fd(), from, bytes, segment);
                if let Err(error) = sent {
                    eprintln!("server: {error}, {segment:?} of {}", bytes.len());
                }
            }
        }
    }
}

fn client(to: &str) -> UdpSocket {
    let to: SocketAddr = SocketAddr::new(to.parse().unwrap(), PORT);
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    nix::sys::socket::setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).unwrap();
    socket
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn ask(socket: &UdpSocket, question: &[u8]) -> std::io::Result<Vec<u8>> {
    socket.send(question)?;
    let mut answer = vec![0; 70_000];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// Of every size, alone and many at once, cut by the kernel and not.
fn echo(gateway: &str) {
    let socket = client(gateway);
    for length in [0, 1, 1232, 1233, 1252, 1253, 1472, 1473, 9_000, 40_001, 65_460, 65_492, 65_507] {
        let sent = pattern(length);
        assert_eq!(ask(&socket, &sent).unwrap(), sent, "{length}");
    }
    let to = socket.peer_addr().unwrap();
    for (length, segment) in [(20_500, 1_000), (64_000, 1_000), (1_999, 1_000), (30_000, 1_200), (64, 1)] {
        let sent = pattern(length);
        datagram::send(socket.as_fd(), to, &sent, Some(segment)).unwrap();
        let mut received = Vec::new();
        while received.len() < length {
            let mut buffer = [0; 2_000];
            let bytes = socket.recv(&mut buffer).unwrap();
            assert_eq!(bytes, (length - received.len()).min(usize::from(segment)));
            received.extend_from_slice(&buffer[..bytes]);
        }
        assert_eq!(received, sent, "{length} by {segment}");
    }
}

/// What does not arrive is told, by who says so.
fn errors() {
    for (host, expected) in [
        ("198.51.100.9", Errno::EHOSTUNREACH),
        ("2001:db8:1::9", Errno::EHOSTUNREACH),
        ("203.0.113.9", Errno::EHOSTUNREACH),
        ("2001:db8:2::9", Errno::EACCES),
        ("10.87.3.3", Errno::EHOSTUNREACH),
        ("fd6b:656c:7000::3", Errno::EHOSTUNREACH),
        ("169.254.169.254", Errno::EHOSTUNREACH),
        ("fd00:ec2::254", Errno::EACCES),
    ] {
        let failed = ask(&client(host), b"hello").unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(expected as i32), "{host}: {failed}");
    }
    for gateway in GATEWAYS {
        let socket = datagram::udp(Family::of(gateway.parse().unwrap()), 1 << 20).unwrap();
        let nobody = SocketAddr::new(gateway.parse().unwrap(), 1);
        // One socket, somebody who listens and nobody who does: only the error names whom.
        let somebody = SocketAddr::new(nobody.ip(), PORT);
        for number in 0..10 {
            for to in [nobody, somebody] {
                let sent = datagram::send(socket.as_fd(), to, &[number; 40], None);
                assert!(sent.is_ok() || sent.is_err_and(|error| error.errno == Errno::ECONNREFUSED));
            }
            assert!(wait(&socket));
            let mut buffer = [0; 100];
            let reported = datagram::receive_error(socket.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!((reported.destination, reported.errno), (nobody, Errno::ECONNREFUSED));
            assert_eq!(&buffer[..reported.length], [number; 40]);
            assert!(matches!(reported.origin, Origin::Icmp { from, .. } if from == nobody.ip()));
            while let Err(error) = datagram::receive(socket.as_fd(), &mut buffer) {
                assert!(matches!(error.errno, Errno::EAGAIN | Errno::ECONNREFUSED));
                // The datagram that did arrive is echoed.
                wait(&socket);
            }
        }
    }
}

/// A way that is narrower than the device is learnt of.
fn path_mtu(host: &str) {
    let socket = client(host);
    let family = Family::of(host.parse().unwrap());
    let whole = |dont_fragment| Marks { hop_limit: 64, traffic_class: 0, dont_fragment };
    datagram::mark(socket.as_fd(), family, whole(true)).unwrap();
    let failed = ask(&socket, &pattern(3_000)).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(Errno::EMSGSIZE as i32), "{failed}");
    let headers = if family == Family::V4 { 28 } else { 48 };
    // From now on the container's kernel knows.
    assert_eq!(socket.send(&pattern(1_401 - headers)).unwrap_err().raw_os_error(), Some(Errno::EMSGSIZE as i32));
    let sent = pattern(1_400 - headers);
    assert_eq!(ask(&socket, &sent).unwrap(), sent);
    // Who does not mind sends fragments, which are put together and cut again.
    datagram::mark(socket.as_fd(), family, whole(false)).unwrap();
    for length in [1_401 - headers, 3_000, 40_000] {
        assert_eq!(ask(&socket, &pattern(length)).unwrap(), pattern(length));
    }
}

/// TTL and TOS go through.
fn marks(gateway: &str) {
    let socket = client(gateway);
    for (hop_limit, traffic_class) in [(64, 0), (9, 0xb8), (200, 0x02)] {
        let family = Family::of(gateway.parse().unwrap());
        datagram::mark(socket.as_fd(), family, Marks { hop_limit, traffic_class, dont_fragment: true }).unwrap();
        let seen = String::from_utf8(ask(&socket, b"how marked").unwrap()).unwrap();
        // The router is a hop.
        assert_eq!(seen, format!("Some({}) {traffic_class}", hop_limit - 1));
    }
    let answering = datagram::udp(Family::of(gateway.parse().unwrap()), 1 << 20).unwrap();
    datagram::send(answering.as_fd(), socket.peer_addr().unwrap(), b"hello", None).unwrap();
    wait(&answering);
    let received = datagram::receive(answering.as_fd(), &mut [0; 100]).unwrap().unwrap();
    assert_eq!((received.hop_limit, received.traffic_class), (Some(63), 0));
}

/// Everybody sees a port of the container as one port, and no two as the same.
fn mapping() {
    let sockets = [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap());
    let seen = sockets.each_ref().map(|socket| {
        let seen = [GATEWAYS[0], NARROW[0]].map(|host| {
            socket.connect((host, PORT)).unwrap();
            ask(socket, b"who am i").unwrap()
        });
        assert_eq!(seen[0], seen[1]);
        seen[0].clone()
    });
    assert_ne!(seen[0], seen[1]);
}

/// Only whom the container has sent to is heard, from any port of theirs.
fn strangers() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"strangers", (GATEWAYS[0], PORT)).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"friend");
    assert_eq!(from.ip(), GATEWAYS[0].parse::<IpAddr>().unwrap());
    assert_ne!(from.port(), PORT);
}

/// An echo request with this number, and what came of it.
fn ping_once(host: &str, number: u8, length: usize) -> Result<Vec<u8>, Errno> {
    let host: IpAddr = host.parse().unwrap();
    let family = Family::of(host);
    let socket = datagram::ping(family).unwrap();
    let kind = if family == Family::V4 { 8 } else { 128 };
    let request = [&[kind, 0, 0, 0, 0, 0, 0, number], &pattern(length)[..]].concat();
    datagram::send(socket.as_fd(), SocketAddr::new(host, 0), &request, None).unwrap();
    assert!(wait(&socket), "no answer from {host}");
    let mut buffer = vec![0; 70_000];
    match datagram::receive(socket.as_fd(), &mut buffer) {
        Ok(received) => {
            let received = received.unwrap();
            assert_eq!(received.from.ip(), host);
            buffer.truncate(received.length);
            Ok(buffer)
        }
        Err(error) => Err(error.errno),
    }
}

fn allow_ping() {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
}

fn expect_reply(host: &str, length: usize) {
    let reply = ping_once(host, 7, length).unwrap();
    let kind = if host.contains(':') { 129 } else { 0 };
    assert_eq!((reply[0], reply[7], &reply[8..]), (kind, 7, &pattern(length)[..]), "{host}");
}

/// The router answers for itself, others for themselves.
fn ping() {
    allow_ping();
    for host in GATEWAYS.into_iter().chain(NARROW) {
        for length in [0, 56, 1_300, 4_000, 60_000] {
            if length < 1_400 || GATEWAYS.contains(&host) {
                expect_reply(host, length);
            }
        }
    }
    assert_eq!(ping_once("198.51.100.9", 1, 56), Err(Errno::EHOSTUNREACH));
    assert_eq!(ping_once("2001:db8:1::9", 1, 56), Err(Errno::EHOSTUNREACH));
    assert_eq!(ping_once("10.87.3.3", 1, 56), Err(Errno::EHOSTUNREACH));
    assert_eq!(ping_once("169.254.169.254", 1, 56), Err(Errno::EHOSTUNREACH));
}

/// Where the host's users may not ping, nobody is made up.
fn no_ping() {
    allow_ping();
    GATEWAYS.iter().for_each(|gateway| expect_reply(gateway, 56));
    assert_eq!(ping_once(NARROW[0], 1, 56), Err(Errno::EHOSTUNREACH));
    assert_eq!(ping_once(NARROW[1], 1, 56), Err(Errno::EACCES));
}

/// A part of a packet of UDP: where it begins, its bytes, whether more comes.
type Part<'a> = (u16, &'a [u8], bool);

/// Sends a packet of IPv4 in the parts given, and says whether it was echoed.
fn arrives(identification: u16, parts: &[Part<'_>], expected: &[u8]) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn};
    let raw = nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
        .unwrap();
    let receiver = UdpSocket::bind("10.87.0.2:6000").unwrap();
    // What does not come is not seen to come before what comes behind it.
    let (own, to): (Ipv4Addr, Ipv4Addr) = ("10.87.0.2".parse().unwrap(), GATEWAYS[0].parse().unwrap());
    for (offset, bytes, more) in parts {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + bytes.len() as u16).to_be_bytes());
        packet.extend(identification.to_be_bytes());
        packet.extend(((offset / 8) | if *more { 0x2000 } else { 0 }).to_be_bytes());
        packet.extend([64, 17, 0, 0]);
        packet.extend(own.octets());
        packet.extend(to.octets());
        packet.extend(*bytes);
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        nix::sys::socket::sendto(raw.as_raw_fd(), &packet, &to, nix::sys::socket::MsgFlags::empty()).unwrap();
    }
    receiver.send_to(b"last", (to, PORT)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = vec![0; 70_000];
    let length = receiver.recv(&mut buffer).unwrap();
    if &buffer[..length] == b"last" {
        return false;
    }
    assert_eq!(&buffer[..length], expected);
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"last");
    true
}

/// Fragments that are in order, and such as nobody but an attacker sends.
fn fragments() {
    let payload = pattern(60);
    let mut datagram = [&6000_u16.to_be_bytes()[..], &PORT.to_be_bytes(), &68_u16.to_be_bytes(), &[0, 0]].concat();
    datagram.extend(&payload);
    let (from, to) = ("10.87.0.2".parse().unwrap(), GATEWAYS[0].parse().unwrap());
    let sum = Sum::default().pseudo_header(from, to, 17, 68).bytes(&datagram).finish();
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let d = &datagram[..];
    let changed: Vec<u8> = d[16..32].iter().map(|byte| byte ^ 1).collect();
    let large = vec![7; 1_000];
    let cases: &[(&str, bool, &[Part<'_>])] = &[
        ("in order", true, &[(0, &d[..16], true), (16, &d[16..40], true), (40, &d[40..], false)]),
        ("backwards", true, &[(40, &d[40..], false), (16, &d[16..40], true), (0, &d[..16], true)]),
        ("twice", true, &[(0, &d[..16], true), (0, &d[..16], true), (16, &d[16..], false)]),
        ("overlapping", false, &[(0, &d[..32], true), (16, &d[16..40], true), (32, &d[32..], false)]),
        (
            "two readings",
            false,
            &[(16, &d[16..32], true), (16, &changed, true), (0, &d[..16], true), (32, &d[32..], false)],
        ),
        ("behind the end", false, &[(0, &d[..16], true), (16, &d[16..32], false), (32, &d[32..], false)]),
        ("before the end", false, &[(40, &d[40..], true), (0, &d[..16], true), (16, &d[16..40], false)]),
        ("a hole", false, &[(0, &d[..16], true), (32, &d[32..], false)]),
        ("not in eights", false, &[(0, &d[..13], true), (16, &d[16..], false)]),
        ("above 64 KiB", false, &[(65_528, &large, false), (0, &d[..16], true)]),
        ("no first", false, &[(16, &d[16..], false)]),
    ];
    for (number, (name, whole, parts)) in (1_u16..).zip(cases) {
        assert_eq!(arrives(number, parts, &payload), *whole, "{name}");
    }
    // More packets than there is room for: the last ones are whole all the same.
    for number in 100..200 {
        assert!(!arrives(number, &[(0, &d[..16], true)], &[]));
    }
    assert!(arrives(200, cases[0].2, &payload));
    assert!(arrives(199, &[(16, &d[16..], false)], &payload));
    assert!(!arrives(100, &[(16, &d[16..], false)], &[]));
}

/// So many ports that send once; one that goes on stays.
fn flood(count: usize) {
    let steady = client(GATEWAYS[0]);
    let seen = ask(&steady, b"who am i").unwrap();
    for number in 0..count {
        client(GATEWAYS[0]).send(b"hello").unwrap();
        if number % 256 == 0 {
            assert_eq!(ask(&steady, b"who am i").unwrap(), seen);
        }
    }
    assert_eq!(ask(&steady, b"who am i").unwrap(), seen);
    let other = client(GATEWAYS[1]);
    assert_eq!(ask(&other, b"hello").unwrap(), b"hello");
    std::io::stdout().flush().unwrap();
    let none = client(GATEWAYS[0]);
    none.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let empty = none.recv(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(empty, ErrorKind::WouldBlock | ErrorKind::TimedOut));
}
