//! Namespaces: private by default, the host's or another container's on request.

use nix::sys::signal::Signal;

use super::harness::{Home, Inside};

const KINDS: [&str; 8] = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"];

fn own(kind: &str) -> u64 {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    link.to_str().unwrap().split_once('[').unwrap().1.trim_end_matches(']').parse().unwrap()
}

#[test]
fn each_is_private_by_default() {
    let home = Home::new();
    let (first, second) = (home.inside(&[]), home.inside(&[]));
    for kind in KINDS {
        assert_ne!(first.namespace(kind), own(kind), "{kind} is the host's");
    }
    // Inode numbers are used again, so the two are compared while both live.
    drop(second);
}

#[test]
fn two_containers_share_nothing() {
    let home = Home::new();
    let mut one = home.start(&["--name", "one"], &["inside", "+", "signals"]);
    let mut two = home.start(&["--name", "two"], &["inside", "+", "signals"]);
    let listing = home.kelp(&["ns", "--format", "json"]).succeed();
    let listing: Vec<serde_json::Value> = serde_json::from_str(&listing).unwrap();
    assert_eq!(listing.len(), 2);
    for kind in KINDS {
        let inodes: Vec<u64> = listing
            .iter()
            .map(|row| {
                let entries = row["namespaces"].as_array().unwrap();
                entries.iter().find(|entry| entry["kind"] == kind).unwrap()["inode"].as_u64().unwrap()
            })
            .collect();
        assert_ne!(inodes[0], inodes[1], "{kind}");
    }
    for running in [&mut one, &mut two] {
        assert_eq!(running.line(), "ready");
        running.signal(Signal::SIGTERM);
        assert_eq!(running.wait().code, 40);
    }
}

#[test]
fn the_hosts_are_shared_on_request() {
    let home = Home::new();
    for (option, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")]
    {
        let inside = home.inside(&[option, "host"]);
        for each in ["pid", "ipc", "uts", "net", "cgroup"] {
            assert_eq!(inside.namespace(each) == own(each), each == kind, "{option} host: {each}");
        }
    }
}

#[test]
fn another_containers_are_joined_and_seen_from_outside() {
    let home = Home::new();
    let mut first = home.start(&["--name", "first"], &["echo", "begin", "+", "inside", "+", "signals"]);
    let theirs = Inside::read(&first.line());
    assert_eq!(first.line(), "ready");
    let options =
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")];
    for (option, kind) in options {
        let inside = home.inside(&[option, "container:first"]);
        for each in ["pid", "ipc", "uts", "net", "cgroup"] {
            assert_eq!(inside.namespace(each) == theirs.namespace(each), each == kind, "{option}: {each}");
        }
        assert_ne!(inside.namespace("mnt"), theirs.namespace("mnt"));
    }
    // `kelp ns` has the numbers that the container sees itself.
    let listing = home.kelp(&["ns", "first", "--format", "json"]).succeed();
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    for entry in listing[0]["namespaces"].as_array().unwrap() {
        let kind = entry["kind"].as_str().unwrap();
        assert_eq!(entry["inode"].as_u64(), Some(theirs.namespace(kind)), "{kind}");
        assert_eq!(entry["shared_with_host"], false, "{kind}");
    }
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait().code, 40);
    home.run(&["--pid", "container:first"], &[]).refuse(125, &["\"first\" is not running"]);
    home.run(&["--pid", "container:nobody"], &[]).refuse(125, &["nobody"]);
}

#[test]
fn a_joined_pid_namespace_shows_its_processes() {
    let home = Home::new();
    let mut first = home.start(&["--name", "first"], &["signals"]);
    let inside = home.inside(&["--pid", "container:first"]);
    assert!(inside.0["processes"].as_object().unwrap().contains_key("1"));
    assert_ne!(inside.number("pid"), 1);
    first.signal(Signal::SIGTERM);
    first.wait();
}

#[test]
fn a_joined_ipc_namespace_shares_its_memory() {
    let home = Home::new();
    let mut first = home.start(&["--name", "first"], &["write", "/dev/shm/x", "shared", "+", "signals"]);
    assert_eq!(first.line(), "ready");
    assert_eq!(home.lines(&["--ipc", "container:first"], &["read", "/dev/shm/x"]), ["shared"]);
    assert_eq!(home.lines(&[], &["read", "/dev/shm/x"]), ["error: ENOENT"]);
    first.signal(Signal::SIGTERM);
    first.wait();
}

#[test]
fn only_its_own_processes_are_seen() {
    let home = Home::new();
    let inside = home.inside(&[]);
    assert_eq!(inside.0["processes"].as_object().unwrap().len(), 1);
    assert_eq!(inside.number("pid"), 1);
}

#[test]
fn the_host_name_is_the_containers_own() {
    let home = Home::new();
    let outside = nix::unistd::gethostname().unwrap();
    assert_eq!(home.inside(&["--hostname", "web-1.example.org"]).text("hostname"), "web-1.example.org");
    let inside = home.inside(&[]);
    assert_eq!(inside.text("hostname").len(), 12, "the short id");
    assert_eq!(home.inside(&["--uts", "host"]).text("hostname"), outside.to_str().unwrap());
    home.run(&["--uts", "host", "--hostname", "x"], &[]).refuse(125, &["--hostname"]);
    assert_eq!(nix::unistd::gethostname().unwrap(), outside);
}

#[test]
fn clocks_are_moved() {
    let home = Home::new();
    let here = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap().tv_sec();
    let inside = home.inside(&["--time-offset", "monotonic=86400", "--time-offset", "boottime=-7"]);
    let moved = inside.number("monotonic_s") - here;
    assert!((86_400..86_460).contains(&moved), "moved by {moved} s");
    let there = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().tv_sec();
    assert!((-8..60).contains(&(inside.number("boottime_s") - there + 7)));
    assert_ne!(inside.namespace("time"), own("time"));
}

#[test]
fn kernel_parameters_are_set_where_they_are_the_containers_own() {
    let home = Home::new();
    let options = ["--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--sysctl", "kernel.shmmni=1000"];
    let words = ["read", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "+", "read", "/proc/sys/kernel/shmmni"];
    assert_eq!(home.lines(&options, &words), ["80", "1000"]);
    home.run(&["--sysctl", "kernel.core_pattern=x"], &[]).refuse(125, &["kernel.core_pattern"]);
    home.run(&["--sysctl", "net.ipv4.x=1", "--network", "host"], &[]).refuse(125, &["net.ipv4.x"]);
}

#[test]
fn no_network_is_loopback_alone() {
    let home = Home::new();
    let devices = &home.lines(&["--network", "none"], &["list", "/sys/class/net"])[0];
    assert!(devices.split(' ').any(|name| name == "lo"), "{devices}");
    assert!(!devices.contains("eth") && !devices.contains("en"), "{devices}");
}
