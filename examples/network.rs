//! What the network is tested and measured with, without a container: a router
//! for a network namespace of its own, and traffic through it.
//!
//! ```text
//! network route [--mtu N] [--closed] [--stats] -- PROGRAM ARGUMENTS...
//!     runs PROGRAM in new user and network namespaces whose only way out is a
//!     router in this process; it may reach the host's loopback, by the gateway
//!     10.87.0.1 and fd6b:656c:7000::1, unless --closed
//! network serve ADDRESS:PORT
//!     a server for the following; prints its address (port 0: a free one)
//! network up|down|after|slow|dawdle|reset|quit ADDRESS:PORT BYTES
//!     one connection: bytes to the server, from it, from it once the client
//!     has ended, to one that reads 64 KiB a ms, from it to one that does; or
//!     the server resets it, or the client does; what is received is compared,
//!     and the longest time that a reader waited is told
//! network many ADDRESS:PORT COUNT
//!     so many connections at once, each used and then held, then all used again
//! network refused|unreachable|prohibited ADDRESS:PORT
//!     nobody listens there, nobody is there, or it is not allowed (IPv6 says so)
//! network rate ADDRESS:PORT CLIENTS SECONDS
//!     connections a second: connect, one byte to and fro, and the server
//!     closes, so that the ports of clients are free again
//! network delay ADDRESS:PORT SECONDS
//!     round trips of one byte: p50 and p99 in microseconds
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kelp::kernel::socket::{self, Patience};
use kelp::kernel::{process, tun};
use kelp::network::attachment::{Addresses, Attachment};
use kelp::network::dns;
use kelp::network::egress::{Loopback, Network, Outside, Policy};
use kelp::network::link::Link;
use kelp::network::poller::{Interest, Source};
use kelp::network::router::{Config, Router};
use kelp::network::terms::Dns;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["route", rest @ ..] => route(rest),
        ["inside", mtu, program @ ..] => inside(mtu, program),
        ["serve", address] => serve(address),
        ["many", address, count] => many(address, count.parse().unwrap()),
        ["refused", address] => refused(address, ErrorKind::ConnectionRefused),
        ["unreachable", address] => refused(address, ErrorKind::HostUnreachable),
        ["prohibited", address] => refused(address, ErrorKind::PermissionDenied),
        ["rate", address, clients, seconds] => rate(address, clients.parse().unwrap(), seconds.parse().unwrap()),
        ["delay", address, seconds] => delay(address, seconds.parse().unwrap()),
        [kind @ ("up" | "down" | "after" | "slow" | "dawdle" | "reset" | "quit"), address, bytes] => {
            one(kind, address, bytes.parse().unwrap());
        }
        _ => panic!("network: see its first lines for how it is called"),
    }
}

const ADDRESSES: [&str; 4] = ["10.87.0.2", "10.87.0.1", "fd6b:656c:7000::2", "fd6b:656c:7000::1"];

fn route(arguments: &[&str]) {
    let split = arguments.iter().position(|word| *word == "--").unwrap();
    let (options, program) = arguments.split_at(split);
    let has = |option: &str| options.contains(&option);
    let mtu = options.iter().position(|word| *word == "--mtu").map_or("65520", |at| options[at + 1]);

    let (ours, theirs) = socket::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["inside", mtu])
        .args(&program[1..])
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    let mut descriptors = Vec::new();
    socket::receive(ours.as_fd(), &mut [0], &mut descriptors, Patience::Wait).unwrap();
    let device = descriptors.pop().expect("the namespace could not be set up");

    let soft_to_hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft_to_hard, soft_to_hard).unwrap();
    let network = Network {
        subnets: vec!["10.87.0.0/16".parse().unwrap(), "fd6b:656c:7000::/64".parse().unwrap()],
        gateways: vec![ADDRESSES[1].parse().unwrap(), ADDRESSES[3].parse().unwrap()],
        host: Vec::new(),
    };
    let mut router = Router::new(Config { network, flows_max: soft_to_hard as usize - 64, published_max: 0 }).unwrap();
    let loopback = if has("--closed") { Loopback::Closed } else { Loopback::Open };
    let addresses = Addresses {
        v4: ADDRESSES[0].parse().unwrap(),
        gateway_v4: ADDRESSES[1].parse().unwrap(),
        v6: ADDRESSES[2].parse().unwrap(),
        gateway_v6: ADDRESSES[3].parse().unwrap(),
    };
    let key = router
        .add(Attachment {
            addresses,
            policy: Policy { outside: Outside::All, loopback },
            mtu: mtu.parse().unwrap(),
            link: Link::new(device).unwrap(),
            dns: dns::Client::new(&Dns::default(), addresses, "inside"),
        })
        .unwrap();
    drop(ours);
    let pidfd = process::pidfd_open(child.id() as i32).unwrap();
    router.poller().watch(&pidfd, Interest::Readable, Source::Outside(1)).unwrap();
    let mut most = 0;
    while router.turn(None).unwrap().is_empty() {
        most = most.max(router.tcp_flows());
    }
    let status = child.wait().unwrap();
    if has("--stats") {
        let attached = router.attached(key).unwrap();
        eprintln!("out {:?}\nin {:?}\nrefused {}", attached.link.sent, attached.link.received, attached.refused);
        eprintln!("flows at most {most}, at the end {}", router.tcp_flows());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).for_each(|line| {
            eprintln!("{line}");
        });
    }
    std::process::exit(status.code().unwrap_or(1));
}

/// In the namespaces: makes the device, hands it over, becomes the program.
fn inside(mtu: &str, program: &[&str]) {
    use nix::sched::CloneFlags;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    let device: OwnedFd = tun::create("eth0").unwrap();
    let [v4, gateway_v4, v6, gateway_v6] = ADDRESSES;
    for line in [
        "link set lo up".to_owned(),
        format!("link set eth0 mtu {mtu} up"),
        format!("address add {v4}/16 dev eth0"),
        format!("address add {v6}/64 dev eth0 nodad"),
        format!("route add default via {gateway_v4}"),
        format!("-6 route add default via {gateway_v6}"),
    ] {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }
    socket::send(std::io::stdin().as_fd(), b"x", &[device.as_fd()], Patience::Wait).unwrap();
    drop(device);
    let failed = Command::new(program[0]).args(&program[1..]).stdin(Stdio::null()).exec();
    panic!("{}: {failed}", program[0]);
}

/// Bytes that tell where in a stream they belong.
fn fill(buffer: &mut [u8], position: u64) {
    for (at, byte) in (position..).zip(buffer) {
        *byte = ((at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (8 * (at & 7))) as u8;
    }
}

fn send_pattern(stream: &mut TcpStream, bytes: u64) {
    let mut buffer = vec![0; 1 << 20];
    fill(&mut buffer, 0);
    let mut sent = 0;
    while sent < bytes {
        // The pattern repeats with the buffer: 1 MiB is no multiple of any window or ring.
        let at = (sent % buffer.len() as u64) as usize;
        let most = (buffer.len() - at).min((bytes - sent) as usize);
        sent += stream.write(&buffer[at..at + most]).unwrap() as u64;
    }
}

/// Reads to the end; how many bytes it was, all as they should be, and the
/// longest time that nothing came.
fn expect_pattern(stream: &mut TcpStream, pause: Option<Duration>) -> (u64, Duration) {
    let mut pattern = vec![0; 1 << 20];
    fill(&mut pattern, 0);
    let mut buffer = vec![0; 64 << 10];
    let (mut received, mut stall) = (0u64, Duration::ZERO);
    loop {
        let start = Instant::now();
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return (received, stall);
        }
        stall = stall.max(start.elapsed());
        let at = (received % pattern.len() as u64) as usize;
        let first = read.min(pattern.len() - at);
        assert!(buffer[..first] == pattern[at..at + first], "wrong bytes at {received}");
        assert!(buffer[first..read] == pattern[..read - first], "wrong bytes at {received}");
        received += read as u64;
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
}

fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        // More than there is room for: the client sees it.
        let Ok(stream) = stream else { continue };
        drop(std::thread::Builder::new().stack_size(128 << 10).spawn(move || answer(stream)));
    }
}

/// One connection: a letter, a number, and what they ask for.
fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut head = [0; 9];
    // A connection without a word is a probe.
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    let bytes = u64::from_be_bytes(head[1..].try_into().unwrap());
    match head[0] {
        b'u' | b's' => {
            let pause = (head[0] == b's').then_some(Duration::from_millis(1));
            let (received, stall) = expect_pattern(&mut stream, pause);
            let stall_us = stall.as_micros() as u64;
            stream.write_all(&[received.to_be_bytes(), stall_us.to_be_bytes()].concat()).unwrap();
        }
        b'd' => send_pattern(&mut stream, bytes),
        b'a' => {
            let (received, _) = expect_pattern(&mut stream, None);
            assert_eq!(received, bytes);
            send_pattern(&mut stream, bytes);
        }
        b'r' => {
            socket::reset_on_close(stream.as_fd()).unwrap();
        }
        b'q' => {
            let failed = stream.read(&mut [0; 1]);
            println!("{:?}", failed.map_err(|error| error.kind()));
        }
        b'o' => {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
        b'e' => {
            let mut buffer = [0; 4096];
            while let Ok(read) = stream.read(&mut buffer) {
                if read == 0 || stream.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
        }
        _ => {}
    }
}

fn ask(address: &str, letter: u8, bytes: u64) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[&[letter], &bytes.to_be_bytes()[..]].concat()).unwrap();
    stream
}

fn one(kind: &str, address: &str, bytes: u64) {
    let letter = kind.as_bytes()[0];
    let start = Instant::now();
    let mut stream = ask(address, letter, bytes);
    let mut stall_us = 0;
    match kind {
        "up" | "slow" => {
            send_pattern(&mut stream, bytes);
            stream.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            let (count, stall) = received.split_at(8);
            assert_eq!(count, bytes.to_be_bytes());
            stall_us = u64::from_be_bytes(stall.try_into().unwrap());
        }
        "down" | "dawdle" => {
            let pause = (kind == "dawdle").then_some(Duration::from_millis(1));
            let (received, stall) = expect_pattern(&mut stream, pause);
            assert_eq!(received, bytes);
            stall_us = stall.as_micros() as u64;
        }
        "after" => {
            send_pattern(&mut stream, bytes);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(expect_pattern(&mut stream, None).0, bytes);
        }
        "reset" => assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset),
        _ => {
            // The server has to have accepted it, or it would be reset in its queue.
            std::thread::sleep(Duration::from_millis(100));
            socket::reset_on_close(stream.as_fd()).unwrap();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 * 8e-9 / seconds;
    println!("{kind} {bytes} bytes, {seconds:.3} s, {rate:.3} Gbit/s, stall {stall_us} us");
}

fn many(address: &str, count: usize) {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    let echo = |stream: &mut TcpStream, number: usize| {
        let sent = (number as u32).to_be_bytes();
        stream.write_all(&sent).unwrap();
        let mut received = [0; 4];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, sent);
    };
    let mut streams: Vec<TcpStream> = Vec::new();
    for number in 0..count {
        let mut stream = ask(address, b'e', 0);
        echo(&mut stream, number);
        streams.push(stream);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        echo(stream, number);
    }
    println!("{count} connections");
    // For measurements beside them: until the reader of this is told to go.
    if std::env::var_os("HOLD").is_some() {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn refused(address: &str, expected: ErrorKind) {
    let address: SocketAddr = address.parse().unwrap();
    let failed = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap_err();
    assert_eq!(failed.kind(), expected, "{failed}");
    println!("{failed}");
}

fn rate(address: &str, clients: usize, seconds: f64) {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let client = || {
        let mut count = 0u64;
        while Instant::now() < end {
            let mut stream = ask(address, b'o', 0);
            stream.write_all(b"x").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"x");
            count += 1;
        }
        count
    };
    let total: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{:.0}", total as f64 / seconds);
}

fn delay(address: &str, seconds: f64) {
    let mut stream = ask(address, b'e', 0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{:.1} {:.1}", times[times.len() / 2], times[times.len() * 99 / 100]);
}
