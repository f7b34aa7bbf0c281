//! Published ports: connections from the host into containers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::harness::needs::needs;
use super::harness::{Home, eventually, is_running};

fn has_tun() -> bool {
    kelp::host::no_tun().is_none()
}

const NO_TUN: &str = "no /dev/net/tun that a user can open";

/// What a container serves: a port for each kind.
const SERVED: &str = "serve who 80 + serve echo 81 + serve sum 82 + serve pour 83 + serve reset 84 + forever";

fn served() -> Vec<&'static str> {
    SERVED.split(' ').collect()
}

fn detached(home: &Home, name: &str, options: &[&str], words: &[&str]) {
    home.run_kept(&[&["-d", "--rm", "--name", name], options].concat(), words).succeed();
}

/// Where `kelp port` says that a port of a container is, in IPv4.
fn port(home: &Home, name: &str, port: &str) -> u16 {
    let text = home.kelp(&["port", name, port]).succeed();
    let line = text.lines().find(|line| !line.starts_with('[')).unwrap();
    line.parse::<SocketAddr>().unwrap().port()
}

fn connect(address: impl Into<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// What is said at a port until the connection ends.
fn heard(address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let mut said = String::new();
    connect(address, port)?.read_to_string(&mut said)?;
    Ok(said.trim_end().to_owned())
}

/// Waits until the container's program listens.
fn await_service(port: u16) {
    assert!(eventually(|| heard(Ipv4Addr::LOCALHOST, port).is_ok_and(|said| !said.is_empty())));
}

/// Whether nobody listens there.
fn is_closed(port: u16) -> bool {
    connect(Ipv4Addr::LOCALHOST, port).is_err()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn inspect(home: &Home, name: &str) -> Value {
    serde_json::from_str::<Value>(&home.kelp(&["inspect", name]).succeed()).unwrap()[0].clone()
}

#[test]
fn a_port_is_reached_in_both_families_and_by_the_hosts_name_for_itself() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let number = free_port();
    detached(&home, "web", &["-p", &format!("{number}:80")], &served());
    await_service(number);
    // The host's loopback is the gateway: in the container, loopback is the container.
    assert_eq!(heard(Ipv4Addr::LOCALHOST, number).unwrap(), "10.87.0.1");
    assert_eq!(heard(Ipv6Addr::LOCALHOST, number).unwrap(), "fd6b:656c:7000::1");
    let lines = format!("80/tcp -> 0.0.0.0:{number}\n80/tcp -> [::]:{number}\n");
    assert_eq!(home.kelp(&["port", "web"]).succeed(), lines);
    assert_eq!(home.kelp(&["port", "web", "80"]).succeed(), format!("0.0.0.0:{number}\n[::]:{number}\n"));
    home.kelp(&["port", "web", "81"]).refuse(1, &["no public port '81/tcp' published for web"]);
    let shown = home.kelp(&["ps", "--format", "{{.Ports}}"]).succeed();
    assert_eq!(shown.trim(), format!("0.0.0.0:{number}->80/tcp, [::]:{number}->80/tcp"));
    let seen = inspect(&home, "web");
    assert_eq!(seen["NetworkSettings"]["Ports"]["80/tcp"][1]["HostIp"], "::");
    assert_eq!(seen["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], number.to_string());
    assert!(seen["Config"]["ExposedPorts"]["80/tcp"].is_object());
    home.kelp(&["rm", "-f", "web"]).succeed();
    assert!(eventually(|| is_closed(number)));
}

#[test]
fn a_program_sees_who_connects() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    // A host that has no address but loopback has nobody else to show.
    let addresses = nix::ifaddrs::getifaddrs().unwrap().filter_map(|one| {
        let address = one.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    let is_shown = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unicast_link_local()),
    };
    let addresses: Vec<IpAddr> = addresses.filter(is_shown).collect();
    needs!(!addresses.is_empty(), "no address but loopback");
    detached(&home, "web", &["-p", "80"], &served());
    let number = port(&home, "web", "80");
    await_service(number);
    for address in addresses {
        // Who connects to an address of this host comes from the same one.
        assert_eq!(heard(address, number).unwrap(), address.to_string());
    }
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn one_address_is_one_address() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let number = free_port();
    let options = ["-p", &format!("127.0.0.1:{number}:80"), "-p", &format!("[::1]:{number}:81")];
    detached(&home, "web", &options, &served());
    await_service(number);
    assert_eq!(heard(Ipv4Addr::LOCALHOST, number).unwrap(), "10.87.0.1");
    assert!(connect(Ipv4Addr::new(127, 0, 0, 2), number).is_err());
    assert!(connect(Ipv6Addr::LOCALHOST, number).is_ok());
    let lines = format!("80/tcp -> 127.0.0.1:{number}\n81/tcp -> [::1]:{number}\n");
    assert_eq!(home.kelp(&["port", "web"]).succeed(), lines);
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn ranges_and_random_ports_are_what_was_asked_for() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let first = free_port().min(65_000);
    let range = format!("{first}-{}:80", first + 50);
    detached(&home, "one", &["-p", &range], &served());
    detached(&home, "two", &["-p", &range, "-p", "81-82", "--expose", "90"], &served());
    let numbers = ["one", "two"].map(|name| port(&home, name, "80"));
    assert!(numbers.iter().all(|number| (first..=first + 50).contains(number)) && numbers[0] < numbers[1]);
    let random = ["81", "82"].map(|number| port(&home, "two", number));
    assert!(random.iter().all(|number| *number >= 1024) && random[0] != random[1]);
    // What is only exposed is shown, and is not reached.
    assert!(home.kelp(&["ps", "--format", "{{.Ports}}"]).succeed().contains("90/tcp, "));
    assert!(inspect(&home, "two")["NetworkSettings"]["Ports"]["90/tcp"].is_null());
    detached(&home, "all", &["-P", "--expose", "80", "--expose", "81"], &served());
    let all = home.kelp(&["port", "all"]).succeed();
    assert_eq!(all.lines().filter(|line| line.contains("0.0.0.0:")).count(), 2, "{all}");
    await_service(port(&home, "all", "80"));
    home.kelp(&["rm", "-f", "one", "two", "all"]).succeed();
}

#[test]
fn a_port_that_cannot_be_had_is_refused_before_anything_runs() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    home.run(&["-p", &format!("{taken}:80")], &["echo", "ran"]).refuse(125, &["cannot be bound: it is taken"]);
    detached(&home, "web", &["-p", "80"], &served());
    let number = port(&home, "web", "80");
    home.run(&["-p", &format!("{number}:80")], &["echo", "ran"]).refuse(125, &["the container \"web\" has it"]);
    home.run(&["-p", "192.0.2.77:8080:80"], &["echo", "ran"]).refuse(125, &["192.0.2.77 is no address of this host"]);
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() > 81 {
        let words = ["port 81", "permission denied", "net.ipv4.ip_unprivileged_port_start is", "sysctl"];
        home.run(&["-p", "81:80"], &["echo", "ran"]).refuse(125, &words);
    }
    // Nothing is left of those.
    assert_eq!(home.kelp(&["ps", "-aq"]).succeed().lines().count(), 1);
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn with_another_network_there_is_nothing_to_publish() {
    let home = Home::new();
    let output = home.run(&["--network", "none", "-p", "80"], &["echo", "ran"]).output();
    assert!(output.stderr.contains("Published ports are discarded"), "{}", output.stderr);
    assert_eq!(output.stdout, "ran\n");
    let words = "conflicting options: port publishing and the container type network mode";
    home.run(&["--network", "container:web", "-p", "80"], &[]).refuse(125, &[words]);
    for (text, word) in [("80/sctp", "sctp is not carried"), ("8000-8001:80-82", "not of one length"), ("x", "port")] {
        home.run(&["-p", text], &[]).refuse(125, &[word]);
    }
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    detached(&home, "web", &["-p", "80-84"], &served());
    let [who, echo, sum, pour, reset] = ["80", "81", "82", "83", "84"].map(|number| port(&home, "web", number));
    await_service(who);
    // In bulk, with the end on one side first, and the answer after it.
    let block: Vec<u8> = (0..1_000_003_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut up = connect(Ipv4Addr::LOCALHOST, sum).unwrap();
    let mut expected = 0_u64;
    for _ in 0..20 {
        up.write_all(&block).unwrap();
        expected = block.iter().fold(expected, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    }
    up.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    up.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim(), format!("{} {expected}", 20 * block.len()));
    let mut down = connect(Ipv6Addr::LOCALHOST, pour).unwrap();
    down.write_all(b"30000000\n").unwrap();
    let mut bytes = Vec::new();
    down.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 30_000_000);
    assert!(bytes.chunks(1 << 20).all(|chunk| chunk.iter().zip((0..=255).cycle()).all(|(one, other)| *one == other)));
    // Both at once.
    let mut both = connect(Ipv4Addr::LOCALHOST, echo).unwrap();
    let (mut sender, sent) = (both.try_clone().unwrap(), block.clone());
    let sending = std::thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    both.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == block);
    // A reset is a reset.
    let refused = heard(Ipv4Addr::LOCALHOST, reset).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn who_listens_at_one_family_alone_is_found_and_nobody_is_a_reset() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let words = "serve who 80 0.0.0.0 + serve who 81 fd6b:656c:7000::2 + serve who 82 127.0.0.1 + forever";
    detached(&home, "web", &["-p", "80-83"], &words.split(' ').collect::<Vec<_>>());
    let [ipv4, ipv6, own, nobody] = ["80", "81", "82", "83"].map(|number| port(&home, "web", number));
    await_service(ipv4);
    assert_eq!(heard(Ipv6Addr::LOCALHOST, ipv4).unwrap(), "10.87.0.1");
    await_service(ipv6);
    assert_eq!(heard(Ipv4Addr::LOCALHOST, ipv6).unwrap(), "fd6b:656c:7000::1");
    // Its loopback is its own.
    for number in [own, nobody] {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            assert!(heard(address, number).is_err());
        }
    }
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn more_connect_at_once_than_there_are_sockets_ahead() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    detached(&home, "web", &["-p", "80-81"], &served());
    let (who, echo) = (port(&home, "web", "80"), port(&home, "web", "81"));
    await_service(who);
    let mut all: Vec<TcpStream> = (0..200).map(|_| connect(Ipv4Addr::LOCALHOST, echo).unwrap()).collect();
    for (number, stream) in all.iter_mut().enumerate() {
        writeln!(stream, "{number}").unwrap();
    }
    for (number, mut stream) in all.into_iter().enumerate() {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said.trim(), number.to_string());
    }
    home.kelp(&["rm", "-f", "web"]).succeed();
}

#[test]
fn ports_outlive_the_process_that_holds_them_and_end_with_the_container() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    home.run_kept(&["-d", "--name", "web", "-p", "80"], &served()).succeed();
    let number = port(&home, "web", "80");
    await_service(number);
    let text = home.kelp(&["network", "inspect", "default"]).succeed();
    let process = serde_json::from_str::<Value>(&text).unwrap()[0]["Pid"].as_i64().unwrap() as i32;
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    assert!(eventually(|| !is_running(process)));
    await_service(number);
    assert_eq!(port(&home, "web", "80"), number);
    // A new start in the same supervisor.
    home.kelp(&["restart", "-t", "0", "web"]).succeed();
    assert_eq!(port(&home, "web", "80"), number);
    await_service(number);
    home.kelp(&["stop", "-t", "0", "web"]).succeed();
    assert!(eventually(|| is_closed(number)));
    assert_eq!(home.kelp(&["port", "web"]).succeed(), "");
    home.kelp(&["start", "web"]).succeed();
    await_service(port(&home, "web", "80"));
    home.kelp(&["rm", "-f", "web"]).succeed();
}
