//! A container's own network: its device, its names, and the process that
//! carries its packets, which may be killed like any other.

use std::io::Write;
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::harness::needs::needs;
use super::harness::{Home, eventually, is_running};

/// Whether a user may make network devices: all distributions' udev sees to it.
fn has_tun() -> bool {
    kelp::host::no_tun().is_none()
}

const NO_TUN: &str = "no /dev/net/tun that a user can open";

/// What `kelp network inspect default` says.
fn inspect(home: &Home) -> Value {
    let text = home.kelp(&["network", "inspect", "default"]).succeed();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// The network's process; 0 where there is none.
fn process(home: &Home) -> i32 {
    i32::try_from(inspect(home)["Pid"].as_i64().unwrap()).unwrap()
}

fn detached(home: &Home, name: &str, options: &[&str], words: &[&str]) {
    home.run_kept(&[&["-d", "--rm", "--name", name], options].concat(), words).succeed();
}

fn address_of(home: &Home, name: &str) -> String {
    home.kelp(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", name]).succeed().trim().to_owned()
}

#[test]
fn it_is_there_when_nothing_is_said() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let words = [
        "addresses",
        "+",
        "read",
        "/sys/class/net/eth0/mtu",
        "+",
        "read",
        "/proc/net/route",
        "+",
        "read",
        "/proc/net/ipv6_route",
        "+",
        "read",
        "/proc/sys/net/ipv4/ping_group_range",
    ];
    let output = home.run(&[], &words).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next(), Some("eth0 10.87.0.2, eth0 fd6b:656c:7000::2"));
    assert_eq!(lines.next(), Some("65520"));
    // The default routes lead to the gateways.
    let text = output.stdout;
    assert!(text.contains("eth0\t00000000\t0100570A"), "{text}");
    assert!(
        text.contains(
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd6b656c700000000000000000000001"
        ),
        "{text}"
    );
    assert!(text.trim_end().lines().last().unwrap().starts_with("0\t"), "{text}");
}

#[test]
fn its_names_are_in_its_files() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let options = [
        "--name",
        "shop",
        "--hostname",
        "front",
        "--add-host",
        "db:192.0.2.7",
        "--add-host",
        "me:host-gateway",
        "--dns-search",
        "corp.example",
        "--dns-option",
        "ndots:3",
    ];
    let output = home.run(&options, &["read", "/etc/hosts", "+", "read", "/etc/resolv.conf"]).succeed();
    for line in [
        "127.0.0.1\tlocalhost",
        "192.0.2.7\tdb",
        "10.87.0.1\tme",
        "10.87.0.1\thost.kelp.internal host.docker.internal",
        "10.87.0.2\tfront shop",
        "fd6b:656c:7000::2\tfront shop",
        "nameserver 10.87.0.1",
        "search corp.example",
        "options ndots:3",
    ] {
        assert!(output.lines().any(|found| found == line), "no {line:?} in:\n{output}");
    }
}

#[test]
fn each_container_has_addresses_of_its_own() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    detached(&home, "one", &[], &["forever"]);
    detached(&home, "two", &["--ip", "10.87.3.4", "--ip6", "fd6b:656c:7000::77"], &["forever"]);
    detached(&home, "three", &[], &["forever"]);
    let addresses = ["one", "two", "three"].map(|name| address_of(&home, name));
    assert_eq!(addresses, ["10.87.0.2", "10.87.3.4", "10.87.0.3"]);
    let network = inspect(&home);
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "10.87.0.0/16");
    assert_eq!(network["Containers"].as_object().unwrap().len(), 3);
    assert!(
        network["Containers"].as_object().unwrap().values().any(|one| one["IPv6Address"] == "fd6b:656c:7000::77/64")
    );
    home.run(&["--ip", "10.87.0.3"], &[]).refuse(125, &["10.87.0.3 is taken"]);
    home.run(&["--ip", "192.0.2.1"], &[]).refuse(125, &["cannot be given out", "10.87.0.0/16"]);
    // What has ended has none, and what it had is given out again.
    home.kelp(&["rm", "-f", "one"]).succeed();
    assert!(eventually(|| home.lines(&[], &["addresses"])[0].starts_with("eth0 10.87.0.2,")));
    home.kelp(&["rm", "-f", "two", "three"]).succeed();
}

#[test]
fn a_killed_process_is_replaced_and_nobody_loses_an_address() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (first, second) = ("one", "two");
    detached(&home, first, &["--allow-host-loopback"], &["forever"]);
    detached(&home, second, &[], &["forever"]);
    let before = process(&home);
    let addresses = [first, second].map(|name| address_of(&home, name));
    let programs = home.containers();
    for _ in 0..2 {
        let old = process(&home);
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        assert!(eventually(|| !is_running(old)));
        // Both are back, at one new process.
        assert!(eventually(|| inspect(&home)["Containers"].as_object().unwrap().len() == 2));
    }
    assert_ne!(process(&home), before);
    assert_eq!([first, second].map(|name| address_of(&home, name)), addresses);
    for program in programs {
        assert!(is_running(i32::try_from(program["payload"]["pid"].as_i64().unwrap()).unwrap()));
    }
    // A new container gets what is free, and packets flow again.
    assert!(home.lines(&[], &["addresses"])[0].starts_with("eth0 10.87.0.4,"));
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n").unwrap());
    assert_eq!(home.kelp(&["exec", first, "/probe", "connect", &format!("10.87.0.1:{port}")]).succeed(), "hello\n");
    server.join().unwrap();
    home.kelp(&["rm", "-f", first, second]).succeed();
}

#[test]
fn the_process_ends_after_the_last_container() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    detached(&home, "one", &[], &["forever"]);
    let first = process(&home);
    assert!(is_running(first));
    home.kelp(&["rm", "-f", "one"]).succeed();
    // The next one finds it, if it comes soon.
    detached(&home, "two", &[], &["forever"]);
    assert_eq!(process(&home), first);
    home.kelp(&["rm", "-f", "two"]).succeed();
    assert!(eventually(|| !is_running(first)));
    assert_eq!(process(&home), 0);
    assert!(home.lines(&[], &["addresses"])[0].starts_with("eth0 10.87.0.2,"));
}

#[test]
fn the_process_is_confined() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    detached(&home, "one", &[], &["forever"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process(&home))).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 0, "{set}");
    }
    assert_eq!([field("NoNewPrivs"), field("Seccomp"), field("Threads")], ["1", "2", "1"]);
    // It holds devices and sockets, and no file of anybody's.
    for entry in std::fs::read_dir(format!("/proc/{}/fd", process(&home))).unwrap() {
        let link = std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string();
        // Of a device, the part of its path within its file system.
        let known = ["socket:", "anon_inode:[eventpoll]", "/dev/null", "/null", "/dev/net/tun", "/net/tun"];
        assert!(known.iter().any(|known| link.starts_with(known)), "{link}");
    }
    home.kelp(&["rm", "-f", "one"]).succeed();
}

#[test]
fn two_data_directories_share_one_network() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let other = home.make_dir("other");
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    detached(&home, "one", &[], &["forever"]);
    home.run(&["-d", "--name", "one"], &["forever"]).env("KELP_DATA", &other).succeed();
    assert_eq!(inspect(&home)["Containers"].as_object().unwrap().len(), 2);
    home.kelp(&["rm", "-f", "one"]).succeed();
    home.kelp(&["rm", "-f", "one"]).env("KELP_DATA", &other).succeed();
}

#[test]
fn the_hosts_own_ports_are_closed_unless_they_are_opened() {
    let home = Home::new();
    needs!(has_tun(), NO_TUN);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            listener.accept().unwrap().0.write_all(b"hello\n").unwrap();
        }
    });
    let words = ["connect".to_owned(), format!("10.87.0.1:{port}")];
    let words = words.each_ref().map(String::as_str);
    let (this, another) = (format!("--allow-host-loopback={port}"), "--allow-host-loopback=1".to_owned());
    for refused in [&[][..], &[another.as_str()]] {
        let line = home.lines(refused, &words).remove(0);
        assert!(line.starts_with("error: "), "{refused:?}: {line}");
    }
    for allowed in [["--allow-host-loopback"], [this.as_str()]] {
        assert_eq!(home.lines(&allowed, &words), ["hello"], "{allowed:?}");
    }
    server.join().unwrap();
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let home = Home::new();
    for (options, word) in [
        (&["--mac-address", "02:42:ac:11:00:02"][..], "IP, not Ethernet"),
        (&["--network", "pasta"], "kelp needs no such program"),
        (&["--network", "none", "--ip", "10.87.0.2"], "--ip has no effect with --network none"),
        (&["--add-host", "db"], "NAME:ADDRESS"),
        (&["--dns", "x"], "not an IP address"),
        (&["--egress", "some"], "unknown value of --egress"),
    ] {
        home.run(options, &[]).refuse(125, &[word]);
    }
    home.kelp(&["network", "inspect", "mynet"]).refuse(1, &["there is no network \"mynet\""]);
    assert_eq!(home.kelp(&["network", "ls", "-q"]).succeed(), "default\nhost\nnone\n");
}
