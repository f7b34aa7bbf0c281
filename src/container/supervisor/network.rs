//! The container's place in a network.
//!
//! Attached before the program is started, so that its addresses are known when
//! its namespace is made; detached by the end of the connection. The other end
//! of the container's device goes to the network's process, and a copy of it
//! stays here: when the process is gone, another one is launched and gets the
//! same lease and device. The container sees a pause and its connections reset.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Supervisor;
use crate::container::control::Join;
use crate::error::{Context, Failure, Result};
use crate::kernel::{socket, visit};
use crate::network::client::{self, Client, Heard};
use crate::network::control::{Attach, FromNetwork, Sockets};
use crate::network::dns;
use crate::network::lease::{Lease, Wish};
use crate::network::publish::{self, Transparent};
use crate::network::resolv_conf;
use crate::network::terms::{HostAddress, Terms};
use crate::sandbox::spec::{ContainerPath, Mount, SandboxSpec, Source, Step};
use crate::sandbox::stage::init::Marked;

/// How long until a process that could not be launched is launched again:
/// twice as long each time, up to a bound.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// A place in a network.
pub(super) struct Attachment {
    join: Join,
    lease: Lease,
    /// The connection, while the process lives.
    client: Option<Client>,
    /// The other end of the container's device, once it has one.
    device: Option<OwnedFd>,
    /// The container's network namespace, where it has published ports.
    namespace: Option<Namespace>,
    /// When to look for a process again, and how long to wait then.
    again_at: Option<Instant>,
    pause: Duration,
    /// Changes of the host's resolv.conf, if this supervisor tells of them.
    resolver: Option<Inotify>,
}

/// A network namespace that sockets are made in.
struct Namespace {
    file: File,
    transparent: Transparent,
}

impl Namespace {
    /// That of a container's first process; `marked` is what init could set up.
    fn of(pid: i32, marked: Marked) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).doing(|| format!("open {path}"))?;
        Ok(Self { file, transparent: Transparent { ipv4: marked.ipv4, ipv6: marked.ipv6 } })
    }

    /// Makes sockets for the network's process, IPv4 first.
    fn sockets(&self, ipv4: usize, ipv6: usize) -> Result<(Sockets, Vec<OwnedFd>)> {
        let ipv4 = ipv4.min(visit::SOCKETS_MAX);
        let ipv6 = ipv6.min(visit::SOCKETS_MAX - ipv4);
        let families = [vec![libc::AF_INET; ipv4], vec![libc::AF_INET6; ipv6]].concat();
        let made = visit::tcp_sockets(self.file.as_fd(), &families)?;
        for (socket, family) in made.iter().zip(families) {
            let is_transparent = if family == libc::AF_INET { self.transparent.ipv4 } else { self.transparent.ipv6 };
            socket::prepare_inbound(socket.as_fd(), family, is_transparent.then_some(publish::MARK))?;
        }
        Ok((Sockets { ipv4: ipv4.min(made.len()), transparent: self.transparent }, made))
    }
}

/// A place that was asked for.
pub(super) struct Asked {
    join: Join,
    attach: Attach,
    client: Client,
}

impl Attachment {
    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let client = self.client.iter().map(AsFd::as_fd);
        client.chain(self.resolver.iter().map(AsFd::as_fd)).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect()
    }

    /// When there is something to do in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again_at
    }

    /// Looks for the process, or launches it; what it says is heard later.
    fn look_again(&mut self, id: &str, name: &str, paths: &crate::paths::Paths) {
        let wish = Wish { previous: Some(self.lease.clone()), ..Wish::default() };
        let attach = attach_of(&self.join, wish, id, name);
        let client = Client::ask(paths, &self.join.network, &attach).and_then(|client| {
            if let Some(device) = &self.device {
                client.hand_over(device.as_fd())?;
            }
            Ok(client)
        });
        self.resolver = None;
        self.client = client.ok();
        self.again_at = self.client.is_none().then(|| self.next_try());
    }

    fn next_try(&mut self) -> Instant {
        let pause = self.pause;
        self.pause = (pause * 2).min(AGAIN_MAX);
        Instant::now() + pause
    }

    /// Deals with what the process says.
    fn hear(&mut self) {
        loop {
            match self.client.as_mut().map(Client::hear) {
                Some(Heard::Said(FromNetwork::Attached(_))) => self.pause = AGAIN_FIRST,
                Some(Heard::Said(FromNetwork::WantSockets { ipv4, ipv6 })) => self.give_sockets(ipv4, ipv6),
                Some(Heard::Said(FromNetwork::WatchResolver)) => self.resolver = watch_resolver(),
                Some(Heard::Said(_) | Heard::Closed) => {
                    // Gone, or it could not take us in: the container goes on without, until one can.
                    (self.client, self.resolver) = (None, None);
                    self.again_at = Some(self.next_try());
                }
                Some(Heard::Nothing) | None => return,
            }
        }
    }

    /// Makes sockets in the container's network namespace for connections
    /// through its published ports. Where none can be made now, the process
    /// asks again.
    fn give_sockets(&self, ipv4: usize, ipv6: usize) {
        let (Some(client), Some(namespace)) = (&self.client, &self.namespace) else { return };
        if let Ok((sockets, made)) = namespace.sockets(ipv4, ipv6) {
            // A process that is gone is seen to be.
            client.give_sockets(sockets, &made).ok();
        }
    }

    /// Passes changes of the host's resolv.conf on.
    fn turn_resolver(&mut self) {
        let Some(inotify) = &self.resolver else { return };
        let mut has_changed = false;
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {
            has_changed = true;
        }
        if has_changed {
            // A link may lead elsewhere now.
            self.resolver = watch_resolver();
            if let Some(client) = &self.client {
                // A process that is gone is seen to be.
                client.tell_resolver(resolv_conf::read_numbered()).ok();
            }
        }
    }
}

/// `None` where the host gives no inotify(7) any more: then names are asked of
/// the servers that were there at the start.
fn watch_resolver() -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    // A file that is replaced is another inode: the directories are watched.
    let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    for directory in resolv_conf::directories() {
        inotify.add_watch(&directory, flags).ok();
    }
    Some(inotify)
}

fn attach_of(join: &Join, wish: Wish, id: &str, name: &str) -> Attach {
    let (id, name, terms) = (id.to_owned(), name.to_owned(), join.terms.clone());
    let unprivileged_from = if terms.publish.is_empty() { None } else { unprivileged_from() };
    Attach { id, name, wish, terms, resolver: resolv_conf::read_numbered(), unprivileged_from }
}

fn unprivileged_from() -> Option<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?.trim().parse().ok()
}

impl Supervisor {
    /// Asks for a place in the network, if it is to have one.
    pub(super) fn ask_network(&self) -> Result<Option<Asked>> {
        let Some(join) = self.request.network.clone() else { return Ok(None) };
        let attach = attach_of(&join, join.wish.clone(), &self.request.spec.id, &self.request.record.name);
        let client = Client::ask(&self.paths, &join.network, &attach)
            .doing(|| format!("attach to the network \"{}\"", join.network))?;
        Ok(Some(Asked { join, attach, client }))
    }

    /// Takes the place, and tells the plan what it is.
    pub(super) fn attach_network(&mut self, asked: Option<Asked>) -> Result<()> {
        let Some(Asked { join, attach, client }) = asked else { return Ok(()) };
        let doing = || format!("attach to the network \"{}\"", join.network);
        let (client, lease) = client::attach(client, &self.paths, &join.network, &attach).doing(doing)?;
        let spec = &mut self.request.spec;
        let link = spec.link.as_mut().ok_or_else(|| Failure::bug("a place in a network, and no device"))?;
        (link.addresses, link.gateways) = (lease.addresses(), lease.gateways());
        let names = spec.hostname.iter().chain([&self.request.record.name]).cloned().collect::<Vec<_>>();
        write_names(spec, &lease, &names.join(" "), &join.terms).doing(doing)?;
        self.request.record.lease = Some(lease.clone());
        self.network = Some(Attachment {
            join,
            lease,
            client: Some(client),
            device: None,
            namespace: None,
            again_at: None,
            pause: AGAIN_FIRST,
            resolver: None,
        });
        self.steps.mark("attach to the network");
        Ok(())
    }

    /// Keeps the other end of the container's device, and hands it over. `pid`
    /// is the container's first process.
    pub(super) fn take_device(&mut self, device: OwnedFd, pid: i32, marked: Marked) -> Result<()> {
        let Some(network) = &mut self.network else { return Err(Failure::bug("a device without a network")) };
        if !network.join.terms.publish.is_empty() {
            let namespace = Namespace::of(pid, marked)?;
            // It shows here and now whether that can be done at all.
            namespace.sockets(1, 0).doing(|| "publish ports")?;
            network.namespace = Some(namespace);
        }
        let device = network.device.insert(device);
        match &network.client {
            Some(client) => client.hand_over(device.as_fd()).doing(|| "hand the network device over"),
            None => Ok(()),
        }
    }

    /// Gives the place up: the end of the connection says so.
    pub(super) fn leave_network(&mut self) {
        self.request.record.lease = None;
        self.network = None;
    }

    /// Deals with what has happened to the network.
    pub(super) fn turn_network(&mut self) {
        let Some(network) = &mut self.network else { return };
        network.hear();
        network.turn_resolver();
        if network.again_at.is_some_and(|at| Instant::now() >= at) {
            network.look_again(&self.request.spec.id, &self.request.record.name, &self.paths);
        }
    }
}

/// Adds to /etc/hosts and /etc/resolv.conf, where they are kelp's, what is only
/// known with the lease.
fn write_names(spec: &SandboxSpec, lease: &Lease, own: &str, terms: &Terms) -> Result<()> {
    let gateway = lease.subnets.gateway4();
    let address = |address: &HostAddress| match address {
        HostAddress::Ip(address) => *address,
        HostAddress::Gateway => gateway.into(),
    };
    // They lead to its loopback, where that is allowed.
    let host = dns::HOST_NAMES.join(" ");
    let added: String = terms.dns.hosts.iter().map(|(name, of)| format!("{}\t{name}\n", address(of))).collect();
    for step in &spec.steps {
        let Step::Mount(Mount { target, source: Source::Content { path, content }, .. }) = step else { continue };
        let text = if *target == ContainerPath::new("/etc/hosts") {
            format!("{content}{added}{gateway}\t{host}\n{}\t{own}\n{}\t{own}\n", lease.ipv4, lease.ipv6)
        } else if *target == ContainerPath::new("/etc/resolv.conf") {
            format!("nameserver {gateway}\n{content}")
        } else {
            continue;
        };
        // In place: the file has its mode already.
        std::fs::write(path.as_path(), text).doing(|| format!("write {}", path.as_path().display()))?;
    }
    Ok(())
}
