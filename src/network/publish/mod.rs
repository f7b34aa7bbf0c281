//! Published ports: connections from the host into containers.
//!
//! ```text
//!   host's network                   here                    container's network
//!   ---------------                  ----                    -------------------
//!   0.0.0.0:8080, [::]:8080 -- accept -- connection
//!                                        |      \-- a socket of the container's -- 10.87.0.2:80
//!                                      stock            from the client's address
//!                                        ^
//!                                        |  sockets, some ahead of need
//!                                    supervisor (container/supervisor/network.rs)
//! ```
//! A port is an ordinary listening socket of this user's on the host. What is
//! accepted there goes on over a socket that was made in the container's own
//! network namespace, which no router lies before: the container's kernel sees
//! a connection from within, and bytes go from one socket to the other by
//! splice(2). This process cannot enter that namespace. The container's
//! supervisor makes the sockets, a few ahead of need, so that no connection
//! waits for one; they are transparent (ip(7), IP_TRANSPARENT), so that they
//! can be bound to the client's address, and marked ([`MARK`]), so that
//! answers to that address stay in the container.
//!
//! Ports are bound when the container attaches and taken up when it has its
//! device: who connects in between waits in the kernel's queue.

mod connection;
mod listen;
pub mod ports;
mod source;
mod stream;

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

pub use self::connection::Side;
pub use self::listen::Around;
pub use self::source::Transparent;

use self::connection::{Connection, Next};
use self::ports::{Bound, Publish};
use self::stream::Pipes;
use super::attachment::Addresses;
use super::poller::{Interest, Readiness, Source, Token};
use super::router::Turn;
use super::slots::{Key, Slots};
use crate::error::Result;
use crate::kernel::{Errno, socket};
use crate::limits;

/// The mark (SO_MARK) of connections that are passed on, and the number of the
/// table that routes their answers: "kelp", as bytes.
pub const MARK: u32 = 0x6b65_6c70;

/// The published ports of one container, by the key that others know them by.
pub type SiteKey = Key;

/// Sockets that are asked of a container's supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// For whom.
    pub site: SiteKey,
    /// AF_INET.
    pub ipv4: usize,
    /// AF_INET6.
    pub ipv6: usize,
}

/// Sockets in stock of one family.
#[derive(Default)]
struct Stock {
    sockets: Vec<OwnedFd>,
    /// How many there should be.
    target: usize,
}

impl Stock {
    /// How many to ask for now.
    fn lack(&self) -> usize {
        match self.sockets.len() < self.target.div_ceil(2) {
            true => self.target - self.sockets.len(),
            false => 0,
        }
    }

    /// Takes one. Who runs out of them asks for more of them at once.
    fn take(&mut self) -> Option<OwnedFd> {
        let socket = self.sockets.pop();
        if self.sockets.is_empty() {
            self.target = (self.target * 2).min(limits::PUBLISHED_STOCK_MAX);
        }
        socket
    }
}

/// The published ports of one container.
struct Site {
    addresses: Addresses,
    transparent: Transparent,
    listeners: Vec<Key>,
    ipv4: Stock,
    ipv6: Stock,
    /// It has its network: connections are taken up.
    is_open: bool,
    /// Sockets were asked for and have not come yet.
    is_asked: bool,
    connections: usize,
    /// Connections that wait for sockets.
    starved: Vec<Key>,
    /// Ports that somebody else has taken while there was no process.
    lost: Vec<Bound>,
    token: Option<Token>,
}

impl Site {
    fn stock(&mut self, family: i32) -> &mut Stock {
        if family == libc::AF_INET { &mut self.ipv4 } else { &mut self.ipv6 }
    }
}

/// One open port.
struct Listener {
    site: SiteKey,
    bound: Bound,
    socket: TcpListener,
    token: Option<Token>,
    /// Somebody may be waiting.
    readable: bool,
    is_dirty: bool,
}

/// All published ports.
pub struct Ports {
    sites: Slots<Site>,
    listeners: Slots<Listener>,
    connections: Slots<Connection>,
    /// Connections with something to do.
    dirty: VecDeque<Key>,
    /// Listeners at which somebody may be taken in.
    knocked: VecDeque<Key>,
    /// Containers that may want sockets.
    wanting: Vec<SiteKey>,
    pipes: Pipes,
    room: Vec<u8>,
    /// Connections that there may be.
    most: usize,
}

impl Ports {
    /// No ports, and so many descriptors for their connections.
    pub fn new(descriptors: usize) -> Self {
        // A third of them for two sockets each, a third for pipes; the rest is stock and listeners.
        let pipes = Pipes::bounded(descriptors / 6);
        Self {
            sites: Slots::default(),
            listeners: Slots::default(),
            connections: Slots::default(),
            dirty: VecDeque::new(),
            knocked: VecDeque::new(),
            wanting: Vec::new(),
            pipes,
            room: vec![0; limits::PUBLISHED_PIECE_BYTES],
            most: descriptors / 6,
        }
    }

    /// Binds the ports of a container; says where. Those of `previous` are
    /// bound again: it lives with them already.
    pub fn open(
        &mut self,
        addresses: Addresses,
        wishes: &[Publish],
        previous: Option<&[Bound]>,
        around: &Around<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(SiteKey, Vec<Bound>)> {
        let (mut open, mut lost) = (Vec::new(), Vec::new());
        match previous {
            Some(previous) => {
                for bound in previous {
                    match listen::open_again(bound) {
                        Some(again) => open.push(again),
                        None => lost.push(*bound),
                    }
                }
            }
            None => {
                for wish in wishes {
                    open.extend(listen::open(wish, around)?);
                }
            }
        }
        let mut bound: Vec<Bound> = open.iter().map(|open| open.bound).chain(lost.iter().copied()).collect();
        bound.sort();
        let stock = |target| Stock { sockets: Vec::new(), target };
        let site = self.sites.insert(Site {
            addresses,
            transparent: Transparent::default(),
            listeners: Vec::new(),
            ipv4: stock(limits::PUBLISHED_STOCK),
            ipv6: stock(limits::PUBLISHED_STOCK / 2),
            is_open: false,
            is_asked: false,
            connections: 0,
            starved: Vec::new(),
            lost,
            token: None,
        });
        for listen::Open { bound, socket } in open {
            self.listen(site, bound, socket, turn)?;
        }
        self.look_after(site, turn);
        Ok((site, bound))
    }

    fn listen(&mut self, site: SiteKey, bound: Bound, socket: TcpListener, turn: &mut Turn<'_>) -> Result<()> {
        let key =
            self.listeners.insert(Listener { site, bound, socket, token: None, readable: false, is_dirty: false });
        let Some(listener) = self.listeners.get_mut(key) else { return Ok(()) };
        let watched = turn.poller.watch(&listener.socket, Interest::Changes, Source::Port(key));
        match watched {
            Ok(token) => listener.token = Some(token),
            Err(failure) => {
                self.listeners.remove(key);
                return Err(failure);
            }
        }
        if let Some(site) = self.sites.get_mut(site) {
            site.listeners.push(key);
        }
        Ok(())
    }

    /// Ports that were lost are tried again after a while.
    fn look_after(&mut self, key: SiteKey, turn: &mut Turn<'_>) {
        let Some(site) = self.sites.get_mut(key) else { return };
        if !site.lost.is_empty() || site.is_asked {
            let token = *site.token.get_or_insert_with(|| turn.poller.add(Source::Site(key)));
            turn.poller.wake_at(token, turn.now + limits::PUBLISHED_AGAIN);
        }
    }

    /// Takes a container's connections up: it has a network, a new one maybe.
    pub fn attach(&mut self, key: SiteKey) {
        let Some(site) = self.sites.get_mut(key) else { return };
        // What there was belongs to a network namespace that is gone.
        site.ipv4.sockets.clear();
        site.ipv6.sockets.clear();
        (site.is_open, site.is_asked) = (true, false);
        want(&mut self.wanting, key);
    }

    /// Sockets of the container's have come.
    pub fn stock(&mut self, key: SiteKey, ipv4: Vec<OwnedFd>, ipv6: Vec<OwnedFd>, transparent: Transparent) {
        let Some(site) = self.sites.get_mut(key) else { return };
        // An empty answer is asked again later, by the clock.
        site.is_asked = ipv4.is_empty() && ipv6.is_empty();
        site.transparent = transparent;
        for (stock, sockets) in [(&mut site.ipv4, ipv4), (&mut site.ipv6, ipv6)] {
            let free = limits::PUBLISHED_STOCK_MAX.saturating_sub(stock.sockets.len());
            stock.sockets.extend(sockets.into_iter().take(free));
        }
        for connection in std::mem::take(&mut site.starved) {
            if let Some(starved) = self.connections.get_mut(connection) {
                mark(connection, starved, &mut self.dirty);
            }
        }
        let listeners = site.listeners.clone();
        for listener in listeners {
            self.knock(listener);
        }
        want(&mut self.wanting, key);
    }

    /// What is wanted of supervisors since it was last asked.
    pub fn take_wanted(&mut self, turn: &mut Turn<'_>) -> Vec<Wanted> {
        let mut all = Vec::new();
        for key in std::mem::take(&mut self.wanting) {
            let Some(site) = self.sites.get_mut(key) else { continue };
            let wanted = Wanted { site: key, ipv4: site.ipv4.lack(), ipv6: site.ipv6.lack() };
            if site.is_open && !site.is_asked && wanted.ipv4 + wanted.ipv6 > 0 {
                site.is_asked = true;
                all.push(wanted);
                self.look_after(key, turn);
            }
        }
        all
    }

    /// Somebody may be waiting at a port.
    pub fn ready_port(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            listener.readable = true;
        }
        self.knock(key);
    }

    /// One of a connection's sockets is ready, or its time has come.
    pub fn ready(&mut self, key: Key, side: Side, readiness: Readiness) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.note(side, readiness);
            mark(key, connection, &mut self.dirty);
        }
    }

    /// What was lost or not answered is tried again.
    pub fn ready_site(&mut self, key: SiteKey, turn: &mut Turn<'_>) {
        let Some(site) = self.sites.get_mut(key) else { return };
        site.is_asked = false;
        let lost = std::mem::take(&mut site.lost);
        let listeners = site.listeners.clone();
        want(&mut self.wanting, key);
        for bound in lost {
            let again = listen::open_again(&bound).and_then(|open| self.listen(key, bound, open.socket, turn).ok());
            if again.is_none()
                && let Some(site) = self.sites.get_mut(key)
            {
                site.lost.push(bound);
            }
        }
        for listener in listeners {
            self.knock(listener);
        }
        self.look_after(key, turn);
    }

    /// Whether there is something to do without waiting.
    pub fn has_more(&self) -> bool {
        !(self.dirty.is_empty() && self.knocked.is_empty())
    }

    fn knock(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key)
            && listener.readable
            && !listener.is_dirty
        {
            listener.is_dirty = true;
            self.knocked.push_back(key);
        }
    }

    /// Does what has come up in this turn.
    pub fn settle(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..self.knocked.len() {
            let Some(key) = self.knocked.pop_front() else { break };
            self.accept(key, turn);
        }
        // Those that have more to do after it wait for the next turn.
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop_front() else { break };
            self.work(key, turn);
        }
    }

    /// Takes a few in at one port. While there is no socket to pass them on
    /// with, or no room, they wait in the kernel's queue.
    fn accept(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        listener.is_dirty = false;
        for _ in 0..limits::PUBLISHED_ACCEPTS_A_TURN {
            let (Some(listener), count) = (self.listeners.get_mut(key), self.connections.len()) else { return };
            let (site_key, port) = (listener.site, listener.bound.port.number);
            let Some(site) = self.sites.get_mut(site_key) else { return };
            let family = if listener.bound.host.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            let is_full = count >= self.most || site.connections >= limits::PUBLISHED_CONNECTIONS_A_CONTAINER;
            if !site.is_open || is_full || site.stock(family).sockets.is_empty() {
                want(&mut self.wanting, site_key);
                return;
            }
            let client = match socket::accept_tcp(listener.socket.as_fd()) {
                Ok(Some(client)) => client,
                Ok(None) => {
                    listener.readable = false;
                    return;
                }
                Err(error) if is_short(error.errno) => return self.accept_later(key, turn),
                // It went away again before it was taken in.
                Err(_) => continue,
            };
            // Who is gone already has no address.
            let Ok(from) = client.peer_addr() else { continue };
            let ways = source::ways(from, port, &site.addresses, site.transparent);
            site.connections += 1;
            let connection = self.connections.insert(Connection::new(site_key, client, ways, turn.now));
            self.begin(connection, turn);
        }
        self.knock(key);
    }

    /// There is no descriptor, and nobody will tell when there is one again.
    fn accept_later(&self, key: Key, turn: &mut Turn<'_>) {
        if let Some(Listener { token: Some(token), .. }) = self.listeners.get(key) {
            turn.poller.wake_at(*token, turn.now + limits::PUBLISHED_AGAIN);
        }
    }

    fn begin(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match turn.poller.watch(connection.client(), Interest::Changes, Source::Published(key, Side::Client)) {
            Ok(token) => connection.client_token = Some(token),
            Err(_) => {
                connection.abort();
                return self.remove(key, turn);
            }
        }
        self.work(key, turn);
    }

    /// Does what can be done for one connection.
    fn work(&mut self, key: Key, turn: &mut Turn<'_>) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_dirty = false;
        }
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            match connection.work(&mut self.pipes, &mut self.room, turn.now) {
                Next::Wait => return self.wait(key, turn),
                Next::More => return mark(key, connection, &mut self.dirty),
                Next::Ended => return self.remove(key, turn),
                Next::Socket(family) => {
                    if let Some(token) = connection.container_token.take() {
                        turn.poller.forget(token);
                    }
                    let Some(site) = self.sites.get_mut(connection.site) else { return };
                    let Some(socket) = site.stock(family).take() else {
                        site.starved.push(key);
                        want(&mut self.wanting, connection.site);
                        return self.wait(key, turn);
                    };
                    want(&mut self.wanting, connection.site);
                    connection.enter(socket);
                }
            }
        }
    }

    /// Waits for the sockets and the time of a connection.
    fn wait(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let source = Source::Published(key, Side::Container);
        let watched = connection.unwatched().map(|container| turn.poller.watch(container, Interest::Changes, source));
        if let Some(watched) = watched {
            match watched {
                Ok(token) => connection.container_token = Some(token),
                Err(_) => {
                    connection.abort();
                    return self.remove(key, turn);
                }
            }
        }
        let idle_at = connection.idle_at();
        if let Some(token) = connection.client_token
            && connection.wakes_at.is_none_or(|set| idle_at < set)
        {
            connection.wakes_at = Some(idle_at);
            turn.poller.wake_at(token, idle_at);
        }
    }

    fn remove(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        connection.release(&mut self.pipes);
        for token in [connection.client_token, connection.container_token].into_iter().flatten() {
            turn.poller.forget(token);
        }
        let was_full = self.connections.len() + 1 >= self.most;
        let Some(site) = self.sites.get_mut(connection.site) else { return };
        let site_was_full = site.connections >= limits::PUBLISHED_CONNECTIONS_A_CONTAINER;
        site.connections = site.connections.saturating_sub(1);
        let listeners: Vec<Key> = match (was_full, site_was_full) {
            (true, _) => self.listeners.iter().map(|(key, _)| key).collect(),
            (false, true) => site.listeners.clone(),
            (false, false) => return,
        };
        for listener in listeners {
            self.knock(listener);
        }
    }

    /// A container is gone: its ports are free, its connections reset.
    pub fn close(&mut self, key: SiteKey, turn: &mut Turn<'_>) {
        let Some(site) = self.sites.remove(key) else { return };
        if let Some(token) = site.token {
            turn.poller.forget(token);
        }
        for listener in site.listeners {
            if let Some(Listener { token: Some(token), .. }) = self.listeners.remove(listener) {
                turn.poller.forget(token);
            }
        }
        let of_it = |(connection, at): (Key, &Connection)| (at.site == key).then_some(connection);
        let connections: Vec<Key> = self.connections.iter().filter_map(of_it).collect();
        for connection in connections {
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.abort();
            }
            self.remove(connection, turn);
        }
    }
}

/// Whether there is not enough of something that others may give back.
fn is_short(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
}

fn want(wanting: &mut Vec<SiteKey>, key: SiteKey) {
    if wanting.last() != Some(&key) {
        wanting.push(key);
    }
}

fn mark(key: Key, connection: &mut Connection, dirty: &mut VecDeque<Key>) {
    if !connection.is_dirty {
        connection.is_dirty = true;
        dirty.push_back(key);
    }
}
