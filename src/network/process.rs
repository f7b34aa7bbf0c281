//! The process of one network: a loop that waits for nobody.
//!
//! It is born by the first container that wants in, and ends some seconds after
//! the last has left. It holds nothing that matters: if it is killed, the
//! supervisors launch another one and give it what they kept, their leases and
//! the ends of their devices. Only flows are lost.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::confine;
use super::control::{Attach, Attached, Description, FromNetwork, Serve, ToNetwork};
use super::lease::{Lease, Leases};
use crate::error::{Context, Failure, Result};
use crate::kernel::{process, signal, socket};
use crate::limits;
use crate::process::channel::{Channel, Incoming, Received, Taken};
use crate::process::meeting;
use crate::process::stage::{self, CHANNEL_FD};

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    process::set_name(c"kelp-network")?;
    process::new_session()?;
    signal::ignore_broken_pipe()?;
    let listener = socket::take(CHANNEL_FD + 1).ok_or_else(|| Failure::bug("a network without a socket"))?;
    let Some(first) = channel.receive::<ToNetwork>()? else { return Ok(()) };
    let ToNetwork::Serve(serve) = first.message else {
        return Err(Failure::bug("a network's process was not told what to be"));
    };
    let made =
        confine::confine().doing(|| "confine the network's process").and_then(|()| Network::new(&serve, listener));
    match made {
        Ok(mut network) => {
            network.let_in(channel)?;
            network.serve()
        }
        // Who launched it is told why.
        Err(failure) => channel.send_if_open(&FromNetwork::Failed(failure), &[]),
    }
}

/// The listening socket's number among the descriptors that are waited for.
const LISTENER: u64 = 0;

struct Network {
    listener: OwnedFd,
    /// Nobody else is let in until somebody leaves.
    is_full: bool,
    epoll: Epoll,
    leases: Leases,
    serve: Serve,
    peers: BTreeMap<u64, Peer>,
    next: u64,
    /// The host's resolv.conf, and who tells of changes.
    resolver: String,
    watcher: Option<u64>,
    /// When the last container left, or the process began.
    idle_since: Instant,
}

/// Somebody who is connected: a supervisor or a command.
struct Peer {
    channel: Channel,
    incoming: Incoming,
    container: Option<Container>,
}

/// A container that is attached.
struct Container {
    attach: Box<Attach>,
    lease: Lease,
    device: Option<OwnedFd>,
}

impl Network {
    fn new(serve: &Serve, listener: OwnedFd) -> Result<Self> {
        let network = Self {
            listener,
            is_full: false,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(std::io::Error::from)?,
            leases: Leases::new(serve.subnets),
            serve: serve.clone(),
            peers: BTreeMap::new(),
            next: LISTENER + 1,
            resolver: String::new(),
            watcher: None,
            idle_since: Instant::now(),
        };
        network.watch(network.listener.as_fd(), LISTENER)?;
        Ok(network)
    }

    fn watch(&self, fd: std::os::fd::BorrowedFd<'_>, number: u64) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        Ok(self.epoll.add(fd, event).map_err(std::io::Error::from)?)
    }

    /// Until nobody has been attached for a while.
    fn serve(&mut self) -> Result<()> {
        const EVENTS: usize = 64;
        let linger = Duration::from_millis(limits::NETWORK_LINGER_MS);
        loop {
            let timeout = match self.peers.values().any(|peer| peer.container.is_some()) {
                true => EpollTimeout::NONE,
                false if self.idle_since.elapsed() >= linger => return Ok(()),
                false => {
                    EpollTimeout::try_from(linger.saturating_sub(self.idle_since.elapsed()) + Duration::from_millis(1))
                        .unwrap_or(EpollTimeout::ZERO)
                }
            };
            let mut events = [EpollEvent::empty(); EVENTS];
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                result => result.map_err(std::io::Error::from).doing(|| "wait for packets")?,
            };
            for event in events.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept()?,
                    number => self.hear(number),
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        while !self.is_full {
            match socket::accept(self.listener.as_fd()) {
                Ok(Some(socket)) if meeting::is_own(&socket) => self.let_in(Channel::new(socket))?,
                Ok(Some(_)) => {}
                Ok(None) => break,
                // EMFILE: who waits gets in when somebody has left.
                Err(_) => self.set_full(true)?,
            }
            if self.peers.len() >= limits::NETWORK_PEERS_MAX {
                self.set_full(true)?;
            }
        }
        Ok(())
    }

    /// One that is full does not look at who knocks: it would look for ever.
    fn set_full(&mut self, is_full: bool) -> Result<()> {
        if self.is_full != is_full {
            let interest = if is_full { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
            let mut event = EpollEvent::new(interest, LISTENER);
            self.epoll.modify(&self.listener, &mut event).map_err(std::io::Error::from)?;
            self.is_full = is_full;
        }
        Ok(())
    }

    fn let_in(&mut self, channel: Channel) -> Result<()> {
        let number = self.next;
        self.next += 1;
        self.watch(channel.as_fd(), number)?;
        self.peers.insert(number, Peer { channel, incoming: Incoming::default(), container: None });
        Ok(())
    }

    /// At most one message of a peer: who talks without end does not keep
    /// others waiting.
    fn hear(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match peer.incoming.take(&peer.channel) {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Message(received)) => self.heed(number, received),
            // What makes no sense is the last that is heard of it.
            Ok(Taken::Closed) | Err(_) => self.see_off(number),
        }
    }

    fn heed(&mut self, number: u64, Received { message, descriptors }: Received<ToNetwork>) {
        match message {
            ToNetwork::Attach(attach) => self.attach(number, attach),
            ToNetwork::Device => {
                if let Some(container) = self.container(number) {
                    container.device = descriptors.into_iter().next();
                }
            }
            ToNetwork::Resolver(text) => self.resolver = text,
            ToNetwork::Describe => {
                let description = self.describe();
                self.tell(number, &FromNetwork::Description(description));
            }
            ToNetwork::Serve(_) => self.see_off(number),
        }
    }

    fn attach(&mut self, number: u64, attach: Box<Attach>) {
        if self.container(number).is_some() {
            return self.see_off(number);
        }
        let lease = match self.leases.take(&attach.wish) {
            Ok(lease) => lease,
            Err(failure) => return self.tell(number, &FromNetwork::Failed(failure)),
        };
        self.resolver.clone_from(&attach.resolver);
        let Some(peer) = self.peers.get_mut(&number) else { return };
        peer.container = Some(Container { attach, lease: lease.clone(), device: None });
        self.tell(number, &FromNetwork::Attached(lease));
        self.choose_watcher();
    }

    /// One of the supervisors tells when the host's resolv.conf changes: this
    /// process opens no file, and one of them is enough.
    fn choose_watcher(&mut self) {
        while self.watcher.is_none() {
            let mut attached = self.peers.iter().filter(|(_, peer)| peer.container.is_some());
            let Some((number, _)) = attached.next() else { return };
            self.watcher = Some(*number);
            // Who cannot be told is seen off, and the next one asked.
            self.tell(*number, &FromNetwork::WatchResolver);
        }
    }

    fn container(&mut self, number: u64) -> Option<&mut Container> {
        self.peers.get_mut(&number)?.container.as_mut()
    }

    fn describe(&self) -> Description {
        let containers = self.peers.values().filter_map(|peer| {
            let Container { attach, lease, .. } = peer.container.as_ref()?;
            Some(Attached { id: attach.id.clone(), name: attach.name.clone(), lease: lease.clone() })
        });
        Description { subnets: self.serve.subnets, containers: containers.collect() }
    }

    /// Tells; who cannot take it is cut off.
    fn tell(&mut self, number: u64, message: &FromNetwork) {
        let is_told = self.peers.get(&number).is_some_and(|peer| peer.channel.send_now(message, &[]).is_ok());
        if !is_told {
            self.see_off(number);
        }
    }

    fn see_off(&mut self, number: u64) {
        let Some(peer) = self.peers.remove(&number) else { return };
        if let Some(container) = peer.container {
            self.leases.release(&container.lease);
            self.idle_since = Instant::now();
        }
        if self.watcher == Some(number) {
            self.watcher = None;
            self.choose_watcher();
        }
        // There is room again. What fails here fails again when it is full.
        self.set_full(false).ok();
    }
}
