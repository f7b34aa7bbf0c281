//! The commands that talk to a supervisor: read without waiting, answered
//! without waiting, cut off where they make no sense or do not listen. Where
//! there is no place for one more, whoever is silent and wants nothing makes
//! room, the longest silent first.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::super::control::{FromSupervisor, ToSupervisor};
use crate::error::Failure;
use crate::kernel::socket;
use crate::limits;
use crate::process::channel::{Channel, Incoming, Received, Taken};
use crate::process::meeting;

/// The command that launched this supervisor.
pub(super) const FIRST: u64 = 0;

/// All of them, and the socket that more come through.
pub(super) struct Clients {
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    next: u64,
    /// Nobody else is let in until somebody leaves.
    is_full: bool,
}

struct Client {
    id: u64,
    channel: Channel,
    incoming: Incoming,
    /// When it came, or said something last.
    heard: Instant,
    /// Wants to know when the program has ended.
    waits_for_end: bool,
    /// Wants to know when it runs again.
    waits_for_start: bool,
    /// It could not be told something: it is seen off at the next occasion.
    is_lost: bool,
}

/// What a client did.
pub(super) enum Said {
    Message(Received<ToSupervisor>),
    Left,
}

impl Client {
    /// Whether it waits for nothing that it would be told.
    fn is_idle(&self) -> bool {
        !self.waits_for_end && !self.waits_for_start
    }
}

impl Clients {
    /// Only the command at the other end of `channel`.
    pub(super) fn new(channel: Channel) -> Self {
        let mut clients = Self { listener: None, clients: Vec::new(), next: FIRST, is_full: false };
        clients.add(channel);
        // It is told what comes of the start that it asks for.
        clients.expect_start(FIRST);
        clients
    }

    /// Lets more come.
    pub(super) fn listen(&mut self, listener: OwnedFd) {
        self.listener = Some(listener);
    }

    fn add(&mut self, channel: Channel) {
        let id = self.next;
        self.next += 1;
        let incoming = Incoming::default();
        self.clients.push(Client {
            id,
            channel,
            incoming,
            heard: Instant::now(),
            waits_for_end: false,
            waits_for_start: false,
            is_lost: false,
        });
    }

    /// The descriptors to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let channels = self.clients.iter().map(|client| client.channel.as_fd());
        let listener = self.listener.iter().filter(|_| !self.is_full).map(AsFd::as_fd);
        let all = listener.chain(channels);
        all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect()
    }

    /// Whether somebody is to be seen off.
    pub(super) fn has_lost(&self) -> bool {
        self.clients.iter().any(|client| client.is_lost)
    }

    /// All who are there.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.clients.iter().map(|client| client.id)
    }

    /// When one who is silent is to make room, if nothing happens until then.
    /// Who `is_engaged` is not silent.
    pub(super) fn deadline(&self, is_engaged: impl Fn(u64) -> bool) -> Option<Instant> {
        let heard = self.clients.iter().filter(|client| client.is_idle() && !is_engaged(client.id));
        heard.map(|client| client.heard + limits::SILENCE).min().filter(|_| self.is_full)
    }

    /// Lets in who knocks, and returns what the clients have said, each at
    /// most one message: who talks without end does not keep others waiting.
    pub(super) fn hear(&mut self, is_engaged: impl Fn(u64) -> bool) -> Vec<(u64, Said)> {
        self.let_in();
        self.make_room(is_engaged);
        let mut heard = Vec::new();
        for client in &mut self.clients {
            match client.incoming.take(&client.channel) {
                _ if client.is_lost => heard.push((client.id, Said::Left)),
                Ok(Taken::Nothing) => {}
                Ok(Taken::Message(received)) => {
                    client.heard = Instant::now();
                    heard.push((client.id, Said::Message(received)));
                }
                // What makes no sense is the last that is heard of it.
                Ok(Taken::Closed) | Err(_) => heard.push((client.id, Said::Left)),
            }
        }
        let count = self.clients.len();
        self.clients.retain(|client| !heard.iter().any(|(id, said)| *id == client.id && matches!(said, Said::Left)));
        self.is_full &= self.clients.len() == count;
        heard
    }

    fn let_in(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        while !self.is_full {
            match socket::accept(listener.as_fd()) {
                Ok(Some(socket)) if meeting::is_own(&socket) => self.add(Channel::new(socket)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // EMFILE: who waits gets in when somebody has left.
                Err(_) => self.is_full = true,
            }
            self.is_full |= self.clients.len() >= limits::CLIENTS_MAX;
        }
        self.listener = Some(listener);
    }

    /// Sees off who has been silent for too long, at most one: the next may
    /// speak before it is its turn.
    fn make_room(&mut self, is_engaged: impl Fn(u64) -> bool) {
        if !self.is_full {
            return;
        }
        let silent = self.clients.iter_mut().filter(|client| client.is_idle() && !is_engaged(client.id));
        if let Some(oldest) = silent.min_by_key(|client| client.heard) {
            oldest.is_lost = oldest.is_lost || oldest.heard.elapsed() >= limits::SILENCE;
        }
    }

    /// Tells `id`; who cannot take it is cut off.
    pub(super) fn tell(&mut self, id: u64, message: &FromSupervisor, descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        for client in self.clients.iter_mut().filter(|client| client.id == id && !client.is_lost) {
            client.is_lost = client.channel.send_now(message, &descriptors).is_err();
        }
    }

    /// Tells `id` how it went.
    pub(super) fn answer(&mut self, id: u64, result: Result<(), Failure>) {
        let message = match result {
            Ok(()) => FromSupervisor::Done,
            Err(failure) => FromSupervisor::Failed(failure),
        };
        self.tell(id, &message, &[]);
    }

    /// Notes that `id` wants to know of the end.
    pub(super) fn expect_end(&mut self, id: u64) {
        self.clients.iter_mut().filter(|client| client.id == id).for_each(|client| client.waits_for_end = true);
    }

    /// Notes that `id` wants to know when the program runs again.
    pub(super) fn expect_start(&mut self, id: u64) {
        self.clients.iter_mut().filter(|client| client.id == id).for_each(|client| client.waits_for_start = true);
    }

    /// Tells all who wait for the end, but for `but`; and returns who they were.
    pub(super) fn tell_end(&mut self, code: i32, but: Option<u64>) -> Vec<u64> {
        self.tell_waiting(&FromSupervisor::Exited(code), but, |client| &mut client.waits_for_end)
    }

    /// Tells all who wait for the end, but for `but`, something before it comes.
    pub(super) fn tell_waiting_for_end(&mut self, message: &FromSupervisor, but: Option<u64>) {
        let waiting = self.clients.iter().filter(|client| client.waits_for_end && Some(client.id) != but);
        let ids: Vec<u64> = waiting.map(|client| client.id).collect();
        ids.into_iter().for_each(|id| self.tell(id, message, &[]));
    }

    /// Tells all who wait for a start.
    pub(super) fn tell_start(&mut self) {
        self.tell_waiting(&FromSupervisor::Started, None, |client| &mut client.waits_for_start);
    }

    /// Tells all who wait for a start that there is none.
    pub(super) fn tell_failure(&mut self, failure: &Failure) {
        let message = FromSupervisor::Failed(failure.clone());
        self.tell_waiting(&message, None, |client| &mut client.waits_for_start);
    }

    fn tell_waiting(
        &mut self,
        message: &FromSupervisor,
        but: Option<u64>,
        waits: impl Fn(&mut Client) -> &mut bool,
    ) -> Vec<u64> {
        let waiting = self.clients.iter_mut().filter(|client| Some(client.id) != but);
        let told: Vec<u64> = waiting.filter_map(|client| std::mem::take(waits(client)).then_some(client.id)).collect();
        told.iter().for_each(|id| self.tell(*id, message, &[]));
        told
    }
}
