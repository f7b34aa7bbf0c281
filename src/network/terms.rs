//! What a network does for one container, as data: made from what the user
//! typed, kept by the supervisor, carried out in the network's process.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::egress::Policy;
use super::publish::ports::Publish;

/// What one container may do and is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// What it may reach.
    pub reach: Policy,
    /// How its names are resolved.
    pub dns: Dns,
    /// Which of its ports are reached from the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
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
