//! Datagrams, echo requests and fragments: through the router alone, around
//! which `examples/datagrams.rs` puts hosts that do not answer, a narrow link
//! and hostile senders; and through kelp, whose network process is confined.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use super::harness::needs::needs;
use super::harness::{Home, kelp_binary};

fn datagrams_binary() -> PathBuf {
    let path = kelp_binary().parent().unwrap().join("examples/datagrams");
    assert!(path.exists(), "{} is missing: cargo build --example datagrams", path.display());
    path
}

fn has_all() -> bool {
    let has_ip = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].iter().any(|ip| Path::new(ip).exists());
    kelp::host::no_tun().is_none() && has_ip
}

macro_rules! needs_tun {
    () => {
        needs!(has_all(), "no /dev/net/tun for this user, or no ip(8)");
    };
}

/// Runs one kind of traffic, which ends well or panics.
fn try_out(options: &[&str], traffic: &[&str]) {
    let home = Home::new();
    let mut call = home.call(&datagrams_binary(), &["try"]);
    // Shown where it fails.
    call.args(&["--stats"]).args(options).args(&["--"]).args(traffic).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    call.succeed();
}

#[test]
fn datagrams_of_every_size_come_back() {
    needs_tun!();
    for mtu in ["65520", "1500", "1280"] {
        try_out(&["--mtu", mtu], &["echo"]);
    }
}

#[test]
fn errors_name_the_datagram_and_who_says_so() {
    needs_tun!();
    try_out(&[], &["errors"]);
}

#[test]
fn a_narrow_way_is_learnt_of() {
    needs_tun!();
    try_out(&[], &["path-mtu"]);
}

#[test]
fn hop_limit_and_traffic_class_go_through() {
    needs_tun!();
    try_out(&[], &["marks"]);
}

#[test]
fn a_port_is_one_port_to_everybody_and_hears_no_strangers() {
    needs_tun!();
    try_out(&[], &["mapping"]);
    try_out(&[], &["strangers"]);
}

#[test]
fn echo_requests_are_answered_by_who_is_asked_or_by_nobody() {
    needs_tun!();
    try_out(&[], &["ping"]);
    try_out(&["--mtu", "1500"], &["ping"]);
    try_out(&["--no-ping"], &["no-ping"]);
}

#[test]
fn fragments_make_one_packet_or_none() {
    needs_tun!();
    try_out(&[], &["fragments"]);
}

#[test]
fn a_flood_of_ports_leaves_others_alone() {
    needs_tun!();
    try_out(&[], &["flood", "10000"]);
}

#[test]
fn a_confined_process_carries_datagrams() {
    let home = Home::new();
    needs!(kelp::host::no_tun().is_none(), "no /dev/net/tun that a user can open");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    let (here, nobody) = (format!("10.87.0.1:{port}"), "[fd6b:656c:7000::1]:1");
    let words = ["datagram", &here, "hello", "+", "datagram", nobody, "hello", "+", "ping", "10.87.0.1"];
    let words = [&words[..], &["+", "ping", "fd6b:656c:7000::1"]].concat();
    let said = home.lines(&["--allow-host-loopback"], &words);
    assert_eq!(said, ["hello", "error: ECONNREFUSED", "10.87.0.1 answers", "fd6b:656c:7000::1 answers"]);
    let refused = home.lines(&[], &["datagram", &here, "hello", "+", "datagram", nobody, "hello"]);
    assert_eq!(refused, ["error: EHOSTUNREACH", "error: EACCES"]);
}
