//! What is said between a network's process and those who use it.
//!
//! ```text
//!      supervisor                       network process
//!  1   connect                   ->     networks/NAME/control in the runtime directory
//!      (or launch it: Serve, over the channel it was launched with)
//!  2   Attach                    ->
//!  3                             <-     Attached(lease)    | Failed(Failure)
//!  4   Device(fd)                ->     as often as the container gets a new one
//!  5                             <-     WatchResolver (to one of them)
//!  6   Resolver                  ->     when the host's resolv.conf has changed
//!  7                             <-     WantSockets (with published ports, and whenever there are few)
//!  8   Sockets(fds)              ->
//!
//!      command                          network process
//!  1   Describe                  ->
//!                                <-     Description
//! ```
//!
//! A container is attached as long as its supervisor's connection is open. The
//! process waits for nobody: who does not listen is cut off.

use serde::{Deserialize, Serialize};

use super::lease::{Lease, Subnets, Wish};
use super::publish::Transparent;
use super::terms::Terms;
use crate::error::{Failure, Result};
use crate::paths::Paths;
use crate::process::channel::Channel;
use crate::process::meeting;

/// The name of the socket in a network's runtime directory.
pub(super) const SOCKET: &str = "control";

/// The network that every user has.
pub const DEFAULT: &str = "default";

/// The largest packet in a container: of what IP can carry (65,535 bytes) the
/// largest that is a multiple of 16. Large packets are what makes a network in
/// user space fast.
pub const MTU: u16 = 65_520;

/// What is said to a network's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNetwork {
    /// Be this network; the socket to listen at was handed over at launch.
    Serve(Serve),
    /// Take this container in.
    Attach(Box<Attach>),
    /// The other end of the container's device comes along.
    Device,
    /// Unconnected sockets of the container's network namespace come along.
    Sockets(Sockets),
    /// The host's resolv.conf, as it is now.
    Resolver(String),
    /// Tell what there is.
    Describe,
}

/// Sockets of a container's, for connections through its published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// How many of them are for IPv4: those come first.
    pub ipv4: usize,
    /// Which can be bound to anybody's address.
    pub transparent: Transparent,
}

/// What a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// Its addresses.
    pub subnets: Subnets,
}

/// One container that wants in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Addresses it would like to have.
    pub wish: Wish,
    /// What it may do.
    pub terms: Terms,
    /// The host's resolv.conf, as it is now.
    pub resolver: String,
    /// The first port that users may bind, where ports are published
    /// (net.ipv4.ip_unprivileged_port_start).
    #[serde(default)]
    pub unprivileged_from: Option<u16>,
}

/// What a network's process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNetwork {
    /// It is in.
    Attached(Lease),
    /// From now on, tell when the host's resolv.conf changes.
    WatchResolver,
    /// So many more sockets of the container's are wanted.
    WantSockets {
        /// For IPv4.
        ipv4: usize,
        /// For IPv6.
        ipv6: usize,
    },
    /// What there is.
    Description(Description),
    /// It could not be done.
    Failed(Failure),
}

/// A network and who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The process.
    pub pid: u32,
    /// Its addresses.
    pub subnets: Subnets,
    /// Its containers.
    pub containers: Vec<Attached>,
}

/// One container of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its id.
    pub id: String,
    /// Its name when it was started.
    pub name: String,
    /// What it has.
    pub lease: Lease,
}

/// Asks the process of the network `name` what there is; `None` where there is
/// none, for nothing runs in it.
pub fn describe(paths: &Paths, name: &str) -> Result<Option<Description>> {
    let Some(channel) = meeting::connect(&paths.network_run(name), SOCKET)? else { return Ok(None) };
    channel.send_if_open(&ToNetwork::Describe, &[])?;
    match answer(&channel)? {
        Some(FromNetwork::Description(description)) => Ok(Some(description)),
        Some(FromNetwork::Failed(failure)) => Err(failure),
        Some(_) => Err(Failure::bug("a network's process answered another question")),
        // It has just ended.
        None => Ok(None),
    }
}

/// The next that the process says; a failure where it says nothing in time.
pub(super) fn answer(channel: &Channel) -> Result<Option<FromNetwork>> {
    if !channel.wait(PATIENCE)? {
        return Err(Failure::host(format!("the network's process does not answer within {} s", PATIENCE.as_secs()))
            .hint("end the process kelp-network: containers that run get a new one"));
    }
    Ok(channel.receive::<FromNetwork>()?.map(|received| received.message))
}

/// It answers within a millisecond, or, under a load that nobody should have,
/// within seconds.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
