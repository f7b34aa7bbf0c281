//! What a network does for one container, as data: made from what the user
//! typed, kept by the supervisor, carried out in the network process.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What one container may do and is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which ports of the host's loopback it reaches by the gateway's address.
    #[serde(default)]
    pub host_loopback: HostLoopback,
    /// What it reaches of the world outside.
    #[serde(default)]
    pub egress: Egress,
    /// How its names are resolved.
    #[serde(default)]
    pub dns: Dns,
}

/// Access to what listens on the host's loopback addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostLoopback {
    /// None.
    #[default]
    Refused,
    /// These ports, of TCP and UDP.
    Ports(BTreeSet<u16>),
    /// All ports.
    All,
}

impl HostLoopback {
    /// Whether `port` may be reached.
    pub fn allows(&self, port: u16) -> bool {
        match self {
            Self::Refused => false,
            Self::Ports(ports) => ports.contains(&port),
            Self::All => true,
        }
    }
}

/// What a container reaches of the world outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// What the user reaches, but for the host itself, link-local addresses
    /// and other containers.
    #[default]
    All,
    /// Nothing: what it begins is refused. Published ports still lead in, and
    /// names it was told are answered.
    None,
}

/// How a container's names are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers to ask instead of the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Names with fixed addresses (`--add-host`), as they are in /etc/hosts too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, HostAddress)>,
}

/// An address that a name is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAddress {
    /// This one.
    Ip(IpAddr),
    /// The gateway's, which stands for the host.
    Gateway,
}
