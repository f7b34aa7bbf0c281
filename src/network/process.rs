//! The process of one network: a loop that waits for nobody.
//!
//! It is born by the first container that wants in, and ends some seconds after
//! the last has left. It holds nothing that matters: if it is killed, the
//! supervisors launch another one and give it what they kept, their leases and
//! the ends of their devices. Only flows are lost.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::attachment::{Addresses, Attachment, AttachmentKey};
use super::confine;
use super::control::{Attach, Attached, Description, FromNetwork, MTU, Serve, Sockets, ToNetwork};
use super::dns;
use super::egress;
use super::host_addresses::HostAddresses;
use super::lease::{Lease, Leases, Subnets};
use super::link::Link;
use super::poller::{Interest, Source, Token};
use super::publish::ports::Bound;
use super::publish::{Around, SiteKey};
use super::router::{Config, Router};
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
    match prepare(&serve, listener) {
        Ok(mut network) => {
            network.let_in(channel)?;
            network.serve()
        }
        // Who launched it is told why.
        Err(failure) => channel.send_if_open(&FromNetwork::Failed(failure), &[]),
    }
}

fn prepare(serve: &Serve, listener: OwnedFd) -> Result<Network> {
    let descriptors = usize::try_from(process::raise_descriptor_limit()?).unwrap_or(usize::MAX);
    let network = Network::new(serve.subnets, HostAddresses::read()?, listener, descriptors)?;
    // From here on packets may be looked at.
    confine::confine().doing(|| "confine the network's process")?;
    Ok(network)
}

/// What is ready besides the router's own: these two, and peers from there on.
const LISTENER: u64 = 0;
const HOST: u64 = 1;
const FIRST_PEER: u64 = 2;

/// Descriptors that are neither a flow's nor a peer's.
const OTHER_DESCRIPTORS: usize = 16;

/// What a peer may take: its connection and its container's device.
const PEER_DESCRIPTORS: usize = 2;

struct Network {
    router: Router,
    listener: OwnedFd,
    /// The registration of the listening socket. Without one nobody else is
    /// let in until somebody leaves.
    listens: Option<Token>,
    peers_max: usize,
    host: HostAddresses,
    leases: Leases,
    subnets: Subnets,
    peers: BTreeMap<u64, Peer>,
    next: u64,
    /// Who tells of changes of the host's resolv.conf.
    watcher: Option<u64>,
    /// When the last container left, or the process began.
    idle_since: Instant,
}

/// Somebody who is connected: a supervisor or a command.
struct Peer {
    channel: Channel,
    token: Token,
    incoming: Incoming,
    container: Option<Container>,
}

/// A container that is attached.
struct Container {
    attach: Box<Attach>,
    lease: Lease,
    /// Its device on the router, once it has one.
    device: Option<AttachmentKey>,
    /// Its published ports, if it has some.
    site: Option<SiteKey>,
}

impl Network {
    fn new(subnets: Subnets, host: HostAddresses, listener: OwnedFd, descriptors: usize) -> Result<Self> {
        // An eighth of what there is for peers, and so a quarter of the descriptors; the rest is for flows.
        let peers_max = (descriptors / 8).min(limits::NETWORK_PEERS_MAX);
        let left = descriptors.saturating_sub(peers_max * PEER_DESCRIPTORS + OTHER_DESCRIPTORS);
        let published_max = left / 3;
        let flows_max = left - published_max;
        let network = egress::Network {
            subnets: vec![subnets.ipv4.into(), subnets.ipv6.into()],
            gateways: vec![subnets.gateway4().into(), subnets.gateway6().into()],
            host: host.all(),
        };
        let mut router = Router::new(Config { network, flows_max, published_max })?;
        let listens = Some(router.poller().watch(&listener, Interest::Readable, Source::Outside(LISTENER))?);
        router.poller().watch(&host, Interest::Readable, Source::Outside(HOST))?;
        Ok(Self {
            router,
            listener,
            listens,
            peers_max,
            host,
            leases: Leases::new(subnets),
            subnets,
            peers: BTreeMap::new(),
            next: FIRST_PEER,
            watcher: None,
            idle_since: Instant::now(),
        })
    }

    /// Until nobody has been attached for a while.
    fn serve(&mut self) -> Result<()> {
        let linger = Duration::from_millis(limits::NETWORK_LINGER_MS);
        loop {
            let is_idle = !self.peers.values().any(|peer| peer.container.is_some());
            let left = linger.saturating_sub(self.idle_since.elapsed());
            if is_idle && left.is_zero() {
                return Ok(());
            }
            for outside in self.router.turn(is_idle.then_some(left))? {
                match outside.number {
                    LISTENER => self.accept()?,
                    HOST if self.host.hear() => self.router.set_host_addresses(self.host.all()),
                    HOST => {}
                    number => self.hear(number),
                }
            }
            for key in self.router.take_gone() {
                self.router.remove(key);
            }
            self.ask_for_sockets();
        }
    }

    fn accept(&mut self) -> Result<()> {
        while self.listens.is_some() {
            match socket::accept(self.listener.as_fd()) {
                Ok(Some(socket)) if meeting::is_own(&socket) => self.let_in(Channel::new(socket))?,
                Ok(Some(_)) => {}
                Ok(None) => break,
                // EMFILE: who waits gets in when somebody has left.
                Err(_) => self.listen_no_more(),
            }
            if self.peers.len() >= self.peers_max {
                self.listen_no_more();
            }
        }
        Ok(())
    }

    /// One that is full does not look at who knocks: it would look for ever.
    fn listen_no_more(&mut self) {
        if let Some(token) = self.listens.take() {
            self.router.poller().forget_shared(&self.listener, token);
        }
    }

    fn listen_again(&mut self) {
        if self.listens.is_none() {
            // What fails here is tried again when the next one leaves.
            let watched = self.router.poller().watch(&self.listener, Interest::Readable, Source::Outside(LISTENER));
            self.listens = watched.ok();
        }
    }

    fn let_in(&mut self, channel: Channel) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let token = self.router.poller().watch(&channel, Interest::Readable, Source::Outside(number))?;
        self.peers.insert(number, Peer { channel, token, incoming: Incoming::default(), container: None });
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
            ToNetwork::Device => match descriptors.into_iter().next() {
                Some(device) => self.take_device(number, device),
                None => self.see_off(number),
            },
            ToNetwork::Sockets(sockets) => self.take_sockets(number, sockets, descriptors),
            ToNetwork::Describe => {
                let description = self.describe();
                self.tell(number, &FromNetwork::Description(description));
            }
            ToNetwork::Resolver(text) => self.router.set_resolver(&text),
            ToNetwork::Serve(_) => self.see_off(number),
        }
    }

    fn attach(&mut self, number: u64, attach: Box<Attach>) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.container.is_some() {
            return self.see_off(number);
        }
        let lease = self
            .leases
            .take(&attach.wish)
            .and_then(|lease| self.publish(&attach, lease.clone()).inspect_err(|_| self.leases.release(&lease)));
        let (lease, site) = match lease {
            Ok(leased) => leased,
            Err(failure) => return self.tell(number, &FromNetwork::Failed(failure)),
        };
        self.router.set_resolver(&attach.resolver);
        if let Some(peer) = self.peers.get_mut(&number) {
            peer.container = Some(Container { attach, lease: lease.clone(), device: None, site });
        }
        self.tell(number, &FromNetwork::Attached(lease));
        self.choose_watcher();
    }

    /// Binds the container's ports; `lease` then has them.
    fn publish(&mut self, attach: &Attach, mut lease: Lease) -> Result<(Lease, Option<SiteKey>)> {
        if attach.terms.publish.is_empty() {
            return Ok((lease, None));
        }
        let containers: Vec<&Container> = self.peers.values().filter_map(|peer| peer.container.as_ref()).collect();
        let holder = |wanted: &Bound| {
            let has =
                |bound: &Bound| bound.port.protocol == wanted.port.protocol && bound.host.port() == wanted.host.port();
            let holder = containers.iter().find(|container| container.lease.published.iter().any(has));
            holder.map(|container| container.attach.name.clone())
        };
        let around = Around { holder: &holder, unprivileged_from: attach.unprivileged_from };
        let previous = attach.wish.previous.as_ref().map(|previous| previous.published.as_slice());
        let (ports, mut turn) = self.router.ports();
        let addresses = addresses_of(&lease);
        let (site, bound) = ports.open(addresses, &attach.terms.publish, previous, &around, &mut turn)?;
        lease.published = bound;
        Ok((lease, Some(site)))
    }

    /// Has supervisors asked for what published ports are short of.
    fn ask_for_sockets(&mut self) {
        let (ports, mut turn) = self.router.ports();
        for wanted in ports.take_wanted(&mut turn) {
            let is_its = |peer: &Peer| peer.container.as_ref().is_some_and(|one| one.site == Some(wanted.site));
            let number = self.peers.iter().find_map(|(number, peer)| is_its(peer).then_some(*number));
            if let Some(number) = number {
                self.tell(number, &FromNetwork::WantSockets { ipv4: wanted.ipv4, ipv6: wanted.ipv6 });
            }
        }
    }

    fn take_sockets(&mut self, number: u64, sockets: Sockets, mut ipv4: Vec<OwnedFd>) {
        let container = self.peers.get(&number).and_then(|peer| peer.container.as_ref());
        let Some(site) = container.and_then(|container| container.site) else { return self.see_off(number) };
        let ipv6 = ipv4.split_off(sockets.ipv4.min(ipv4.len()));
        self.router.ports().0.stock(site, ipv4, ipv6, sockets.transparent);
    }

    /// Gives the container's device to the router, in the place of the one it
    /// had before.
    fn take_device(&mut self, number: u64, device: OwnedFd) {
        let Some(container) = self.peers.get_mut(&number).and_then(|peer| peer.container.as_mut()) else {
            return self.see_off(number);
        };
        if let Some(before) = container.device.take() {
            self.router.remove(before);
        }
        if let Some(site) = container.site {
            self.router.ports().0.attach(site);
        }
        let addresses = addresses_of(&container.lease);
        let policy = container.attach.terms.reach.clone();
        let Attach { name, terms, .. } = &*container.attach;
        let dns = dns::Client::new(&terms.dns, addresses, name);
        let added =
            Link::new(device).and_then(|link| self.router.add(Attachment { addresses, policy, mtu: MTU, link, dns }));
        match added {
            Ok(key) => container.device = Some(key),
            Err(failure) => self.tell(number, &FromNetwork::Failed(failure)),
        }
    }

    /// One of the supervisors tells when the host's resolv.conf changes: this
    /// process opens no file, and one of them is enough.
    fn choose_watcher(&mut self) {
        while self.watcher.is_none() {
            let mut attached = self.peers.iter().filter(|(_, peer)| peer.container.is_some());
            let Some((number, _)) = attached.next() else { return };
            let number = *number;
            self.watcher = Some(number);
            // Who cannot be told is seen off, and the next one asked.
            self.tell(number, &FromNetwork::WatchResolver);
        }
    }

    fn describe(&self) -> Description {
        let containers = self.peers.values().filter_map(|peer| {
            let Container { attach, lease, .. } = peer.container.as_ref()?;
            Some(Attached { id: attach.id.clone(), name: attach.name.clone(), lease: lease.clone() })
        });
        Description { pid: std::process::id(), subnets: self.subnets, containers: containers.collect() }
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
        self.router.poller().forget_shared(&peer.channel, peer.token);
        if let Some(container) = peer.container {
            if let Some(device) = container.device {
                self.router.remove(device);
            }
            if let Some(site) = container.site {
                let (ports, mut turn) = self.router.ports();
                ports.close(site, &mut turn);
            }
            self.leases.release(&container.lease);
            self.idle_since = Instant::now();
        }
        if self.watcher == Some(number) {
            self.watcher = None;
            self.choose_watcher();
        }
        self.listen_again();
    }
}

fn addresses_of(Lease { ipv4, ipv6, subnets, .. }: &Lease) -> Addresses {
    Addresses { v4: *ipv4, gateway_v4: subnets.gateway4(), v6: *ipv6, gateway_v6: subnets.gateway6() }
}
