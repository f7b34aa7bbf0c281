//! What the one thread waits for: descriptors and times, each under a token
//! that names who is to be told. A token that was forgotten tells nobody.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::publish::Side;
use super::slots::{Key, Slots};
use super::timers::Timers;
use crate::error::{Failure, Result};
use crate::kernel;
use crate::limits;

/// Who is told, and which of theirs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The device of an attachment.
    Link(Key),
    /// A TCP flow.
    Tcp(Key),
    /// A published port: somebody knocks.
    Port(Key),
    /// One side of a connection through a published port.
    Published(Key, Side),
    /// The published ports of a container: their time has come.
    Site(Key),
    /// TCP as a whole: it has been quiet for a while.
    TcpQuiet,
    /// A question about a name that servers are asked.
    DnsQuery(Key),
    /// A connection of a container to the resolver.
    DnsStream(Key),
    /// A UDP port of a container.
    Udp(Key),
    /// An identifier of a container's echo requests.
    Echo(Key),
    /// Fragments: some have waited for too long.
    Fragments,
    /// Something that is not the router's own: it comes back from
    /// [`super::router::Router::turn`].
    Outside(u64),
}

/// A registration with a [`Poller`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(Key);

/// When a descriptor is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// As long as it can be read.
    Readable,
    /// As long as it can be written.
    Writable,
    /// Whenever it becomes readable or writable anew (EPOLLET): who is told
    /// goes on until EAGAIN.
    Changes,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Readable => EpollFlags::EPOLLIN,
            Self::Writable => EpollFlags::EPOLLOUT,
            Self::Changes => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
        }
    }
}

/// Why a source is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Reading would give something: data, the end or an error.
    pub readable: bool,
    /// Writing would go on, or fail.
    pub writable: bool,
    /// There is an error to fetch: SO_ERROR, or the error queue.
    pub failed: bool,
    /// The other side has ended its stream (EPOLLRDHUP), or all of it has.
    pub ended: bool,
    /// Its time has come.
    pub due: bool,
}

impl Readiness {
    fn of(flags: EpollFlags) -> Self {
        let ended = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        Self {
            readable: flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | ended),
            writable: flags.intersects(EpollFlags::EPOLLOUT | ended),
            failed: flags.contains(EpollFlags::EPOLLERR),
            ended: flags.intersects(EpollFlags::EPOLLRDHUP | ended),
            due: false,
        }
    }
}

/// Descriptors and times that are waited for together.
pub struct Poller {
    epoll: Epoll,
    sources: Slots<Source>,
    timers: Timers,
    events: Vec<EpollEvent>,
}

impl Poller {
    /// One that waits for nothing yet.
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| refused("epoll_create1", errno))?;
        let events = vec![EpollEvent::empty(); limits::EVENTS_A_TURN];
        Ok(Self { epoll, sources: Slots::default(), timers: Timers::default(), events })
    }

    /// A token without a descriptor: only its time comes.
    pub fn add(&mut self, source: Source) -> Token {
        Token(self.sources.insert(source))
    }

    /// Tells `source` when `descriptor` is as `interest` says. What is ready
    /// already is told of, too.
    pub fn watch(&mut self, descriptor: impl AsFd, interest: Interest, source: Source) -> Result<Token> {
        let token = self.add(source);
        let event = EpollEvent::new(interest.flags(), token.0.number());
        if let Err(errno) = self.epoll.add(descriptor, event) {
            self.sources.remove(token.0);
            return Err(refused("epoll_ctl", errno));
        }
        Ok(token)
    }

    /// Another interest in the descriptor of `token`.
    pub fn change(&self, descriptor: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        let mut event = EpollEvent::new(interest.flags(), token.0.number());
        self.epoll.modify(descriptor, &mut event).map_err(|errno| refused("epoll_ctl", errno))
    }

    /// The token tells nobody any more. Its descriptor leaves the epoll set
    /// when it is closed (epoll(7)), which the caller does.
    pub fn forget(&mut self, token: Token) {
        self.timers.clear(token.0);
        self.sources.remove(token.0);
    }

    /// [`Poller::forget`] for a descriptor that somebody else still has open,
    /// so that closing it here would not end its events.
    pub fn forget_shared(&mut self, descriptor: impl AsFd, token: Token) {
        // Where it is not in the set, all is well.
        self.epoll.delete(descriptor).ok();
        self.forget(token);
    }

    /// The one time at which the token's source is told ([`Readiness::due`]).
    pub fn wake_at(&mut self, token: Token, at: Instant) {
        self.timers.set(token.0, at);
    }

    /// No time is waited for any more.
    pub fn wake_never(&mut self, token: Token) {
        self.timers.clear(token.0);
    }

    /// Waits for `timeout` (`None`: without end) or until there is something,
    /// and appends it to `ready`.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<(Source, Readiness)>) -> Result<()> {
        let first = self.timers.first().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = match (timeout, first) {
            (Some(timeout), Some(first)) => Some(timeout.min(first)),
            (timeout, first) => timeout.or(first),
        };
        let found = match self.epoll.wait(&mut self.events, epoll_timeout(timeout)) {
            Ok(found) => found,
            Err(nix::Error::EINTR) => 0,
            Err(errno) => return Err(refused("epoll_wait", errno)),
        };
        for event in self.events.iter().take(found) {
            if let Some(source) = self.sources.get(Key::from_number(event.data())) {
                ready.push((*source, Readiness::of(event.events())));
            }
        }
        let now = Instant::now();
        while let Some(key) = self.timers.take_due(now) {
            if let Some(source) = self.sources.get(key) {
                ready.push((*source, Readiness { due: true, ..Readiness::default() }));
            }
        }
        Ok(())
    }
}

fn refused(call: &'static str, errno: kernel::Errno) -> Failure {
    kernel::Error::new(call, "", errno).into()
}

/// Whole milliseconds, rounded up: a time that has not come yet is not asked
/// for again and again.
fn epoll_timeout(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(ms).ok().and_then(|ms| EpollTimeout::try_from(ms).ok()).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::kernel::socket;

    #[test]
    fn tokens_tell_of_descriptors_and_times_until_they_are_forgotten() {
        let mut poller = Poller::new().unwrap();
        let (one, other) = socket::pair().unwrap();
        let token = poller.watch(&one, Interest::Readable, Source::Outside(7)).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, []);

        std::fs::File::from(other.try_clone().unwrap()).write_all(b"x").unwrap();
        poller.wake_at(token, Instant::now());
        poller.wait(None, &mut ready).unwrap();
        let readable = Readiness { readable: true, ..Readiness::default() };
        let due = Readiness { due: true, ..Readiness::default() };
        assert_eq!(ready, [(Source::Outside(7), readable), (Source::Outside(7), due)]);

        ready.clear();
        poller.forget_shared(&one, token);
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, []);
    }
}
