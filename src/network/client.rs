//! A supervisor's side of a network: finding its process, or launching it.
//!
//! Who launches holds `networks/NAME/lock`, opens the socket that the process
//! is to listen at and hands it over: from the first moment others can connect,
//! and none of it depends on the process being quick. A process that has just
//! ended, for want of containers or by a kill, leaves a socket at which nobody
//! listens: whoever meets it launches a new one.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::control::{self, Attach, FromNetwork, SOCKET, Serve, Sockets, ToNetwork};
use super::lease::{Lease, Subnets, parse_routes};
use crate::error::{Context, Failure, Result};
use crate::paths::{self, Paths};
use crate::process::channel::{Channel, Incoming, Taken};
use crate::process::stage::Stage;
use crate::process::{launch, meeting};

/// How often a process is looked for that ends just when it is found.
const TRIES: usize = 5;

/// A connection to a network's process. The container is attached as long as
/// it is open.
pub struct Client {
    channel: Channel,
    incoming: Incoming,
}

/// What [`Client::hear`] found.
pub enum Heard {
    /// Something was said.
    Said(FromNetwork),
    /// Nothing.
    Nothing,
    /// The process is gone.
    Closed,
}

impl Client {
    /// Connects to the process of the network `name`, or launches it with the
    /// addresses of `lease`, if there is one, and asks it to take `attach` in.
    /// What it says to that is to be heard. The caller is a supervisor: it has
    /// one thread and is in the base user namespace.
    pub fn ask(paths: &Paths, name: &str, attach: &Attach) -> Result<Self> {
        let directory = paths.network_run(name);
        let channel = match meeting::connect(&directory, SOCKET)? {
            Some(channel) => channel,
            None => connect_or_launch(&directory, name, attach.wish.previous.as_ref())?,
        };
        channel.send_if_open(&ToNetwork::Attach(Box::new(attach.clone())), &[])?;
        Ok(Self { channel, incoming: Incoming::default() })
    }

    /// Waits for the answer; `None` where the process has ended instead.
    fn answer(&self) -> Result<Option<Lease>> {
        match control::answer(&self.channel)? {
            Some(FromNetwork::Attached(lease)) => Ok(Some(lease)),
            Some(FromNetwork::Failed(failure)) => Err(failure),
            Some(_) => Err(Failure::bug("a network's process answered another question")),
            None => Ok(None),
        }
    }

    /// Hands over the other end of the container's device. A process that is
    /// gone gets it when it is there again.
    pub fn hand_over(&self, device: BorrowedFd<'_>) -> Result<()> {
        self.channel.send_if_open(&ToNetwork::Device, &[device])
    }

    /// Hands over sockets of the container's network namespace.
    pub fn give_sockets(&self, sockets: Sockets, made: &[OwnedFd]) -> Result<()> {
        let made: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        self.channel.send_if_open(&ToNetwork::Sockets(sockets), &made)
    }

    /// Tells what the host's resolv.conf says now.
    pub fn tell_resolver(&self, text: String) -> Result<()> {
        self.channel.send_if_open(&ToNetwork::Resolver(text), &[])
    }

    /// What the process has said meanwhile, without waiting for it.
    pub fn hear(&mut self) -> Heard {
        match self.incoming.take(&self.channel) {
            Ok(Taken::Message(received)) => Heard::Said(received.message),
            Ok(Taken::Nothing) => Heard::Nothing,
            Ok(Taken::Closed) | Err(_) => Heard::Closed,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// Waits for the answer to what `client` has just asked ([`Client::ask`] with
/// the same arguments). The process may have ended just then: another one is
/// asked.
pub fn attach(mut client: Client, paths: &Paths, name: &str, attach: &Attach) -> Result<(Client, Lease)> {
    for _ in 0..TRIES {
        if let Some(lease) = client.answer()? {
            return Ok((client, lease));
        }
        client = Client::ask(paths, name, attach)?;
    }
    Err(Failure::host("its process ends as soon as it was started"))
}

fn connect_or_launch(directory: &Path, name: &str, previous: Option<&Lease>) -> Result<Channel> {
    paths::make_private(directory)?;
    let path = directory.join("lock");
    let lock = File::create(&path).doing(|| format!("open {}", path.display()))?;
    lock.lock().doing(|| format!("lock {}", path.display()))?;
    // Somebody may have launched one while we waited for the lock.
    if let Some(channel) = meeting::connect(directory, SOCKET)? {
        return Ok(channel);
    }
    let listener: OwnedFd = meeting::listen(directory, SOCKET).doing(|| "open the network's socket")?;
    let subnets = previous.map_or_else(free_subnets, |lease| lease.subnets);
    let channel = launch::launch_beside(Stage::Network, name, &[listener.as_fd()])?;
    channel.send_if_open(&ToNetwork::Serve(Serve { subnets }), &[])?;
    Ok(channel)
}

/// Addresses that lead nowhere else on this host.
fn free_subnets() -> Subnets {
    Subnets::choose(&parse_routes(&fs::read_to_string("/proc/net/route").unwrap_or_default()))
}
