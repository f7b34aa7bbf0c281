//! The way of packets, without a container: a network namespace whose only way
//! out is the router (`examples/network.rs`), and a server on the host. What
//! arrives is compared byte by byte at both ends.

use std::path::{Path, PathBuf};

use super::harness::needs::needs;
use super::harness::{Home, Running, kelp_binary};

fn network_binary() -> PathBuf {
    let path = kelp_binary().parent().unwrap().join("examples/network");
    assert!(path.exists(), "{} is missing: cargo build --example network", path.display());
    path
}

/// A server on the host's loopback, reached through the gateway.
struct Server {
    home: Home,
    running: Running,
    v4: String,
    v6: String,
}

impl Server {
    fn new() -> Self {
        let home = Home::new();
        let mut running = home.call(&network_binary(), &["serve", "[::]:0"]).start();
        let address = running.line();
        let port = address.trim().rsplit_once(':').unwrap().1;
        let (v4, v6) = (format!("10.87.0.1:{port}"), format!("[fd6b:656c:7000::1]:{port}"));
        Self { home, running, v4, v6 }
    }

    /// Runs one kind of traffic in a network namespace of its own.
    fn try_out(&self, options: &[&str], traffic: &[&str]) -> String {
        let binary = network_binary();
        let mut call = self.home.call(&binary, &["route"]);
        call.args(options).args(&["--", binary.to_str().unwrap()]).args(traffic);
        call.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        call.succeed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.signal(nix::sys::signal::Signal::SIGKILL);
    }
}

fn has_tun() -> bool {
    let device = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    device.is_ok() && ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].iter().any(|ip| Path::new(ip).exists())
}

macro_rules! needs_tun {
    () => {
        needs!(has_tun(), "no /dev/net/tun for this user, or no ip(8)");
    };
}

#[test]
fn bytes_arrive_whole_in_both_directions() {
    needs_tun!();
    let server = Server::new();
    for mtu in ["65520", "1500", "1280"] {
        for address in [&server.v4, &server.v6] {
            for kind in ["up", "down", "after"] {
                // No multiple of any segment, ring or page.
                server.try_out(&["--mtu", mtu], &[kind, address, "7654321"]);
            }
        }
    }
}

#[test]
fn ends_and_resets_are_passed_on() {
    needs_tun!();
    let mut server = Server::new();
    for address in [server.v4.clone(), server.v6.clone()] {
        server.try_out(&[], &["reset", &address, "1"]);
        server.try_out(&[], &["quit", &address, "1"]);
        assert_eq!(server.running.line().trim(), "Err(ConnectionReset)");
        // Nothing but an end, either way: no byte is made up.
        for kind in ["up", "down", "after"] {
            server.try_out(&[], &[kind, &address, "0"]);
        }
    }
}

#[test]
fn what_is_not_reached_is_said() {
    needs_tun!();
    let server = Server::new();
    for nobody in ["10.87.0.1:1", "[fd6b:656c:7000::1]:1"] {
        server.try_out(&[], &["refused", nobody]);
    }
    // No other container is there, and would not be reached.
    for nowhere in ["10.87.3.3:80", "[fd6b:656c:7000::3]:80"] {
        server.try_out(&[], &["unreachable", nowhere]);
    }
    // The metadata service of a cloud, and the host, are not for containers.
    server.try_out(&[], &["unreachable", "169.254.169.254:80"]);
    server.try_out(&["--closed"], &["unreachable", &server.v4]);
    server.try_out(&["--closed"], &["prohibited", &server.v6]);
}

#[test]
fn a_slow_reader_gets_every_byte() {
    needs_tun!();
    let server = Server::new();
    for address in [&server.v4, &server.v6] {
        server.try_out(&[], &["slow", address, "5000000"]);
    }
}

#[test]
fn hundreds_of_flows_at_once() {
    needs_tun!();
    let server = Server::new();
    server.try_out(&[], &["many", &server.v4, "400"]);
}
