//! What a supervisor tells of its container (`kelp events`).
//!
//! A start is told of while the program runs already, so that nobody waits for
//! it; the end before whoever waits for that hears of it, so that the events
//! are complete for who looks next.

use super::super::events::{self, Action, Event};
use super::Supervisor;
use super::exec::Happened;

impl Supervisor {
    /// Tells of one thing.
    pub(super) fn tell(&self, action: Action<'_>) {
        events::tell(&self.paths, &self.request.record, action);
    }

    /// The program runs for the first time since the supervisor was launched.
    pub(super) fn tell_first_start(&self) {
        let record = &self.request.record;
        let mut all = self.told_of_creation();
        if self.is_attached {
            all.push(Event { time_ns: self.started_ns, ..Event::of_container(record, Action::Attach) });
        }
        all.extend(self.mounted());
        all.push(Event { time_ns: self.started_ns, ..Event::of_container(record, Action::Start) });
        events::write(&self.paths, &all);
    }

    /// The program runs once more.
    pub(super) fn tell_next_start(&self) {
        let mut all = self.mounted();
        all.push(Event::of_container(&self.request.record, Action::Start));
        events::write(&self.paths, &all);
    }

    /// A start comes after what it needs, as docker tells it.
    fn mounted(&self) -> Vec<Event> {
        let mounted = Event::of_volumes("mount", &self.request.record).into_iter();
        mounted.map(|event| Event { time_ns: self.started_ns, ..event }).collect()
    }

    /// It could not be started, with this status.
    pub(super) fn tell_failed_start(&self, code: i32) {
        let mut all = self.told_of_creation();
        all.push(Event::of_container(&self.request.record, Action::Die(code)));
        events::write(&self.paths, &all);
    }

    /// The program has ended.
    pub(super) fn tell_end(&self, code: i32) {
        let record = &self.request.record;
        let mut all = vec![Event::of_container(record, Action::Die(code))];
        all.extend(Event::of_volumes("unmount", record));
        all.extend(self.stopping.is_some().then(|| Event::of_container(record, Action::Stop)));
        events::write(&self.paths, &all);
    }

    /// What became of programs beside the container's own.
    pub(super) fn tell_of_sessions(&mut self) {
        let happened = std::mem::take(&mut self.sessions.happened);
        if happened.is_empty() {
            return;
        }
        let record = &self.request.record;
        let event = |happened: &Happened| match happened {
            Happened::Started(id, command) => Event::of_container(record, Action::ExecStart { id, command }),
            Happened::Ended(id, code) => Event::of_container(record, Action::ExecDie { id, code: *code }),
        };
        events::write(&self.paths, &happened.iter().map(event).collect::<Vec<_>>());
    }

    /// Nobody else has told of a container that was made to be started.
    fn told_of_creation(&self) -> Vec<Event> {
        let record = &self.request.record;
        let creation = || Event { time_ns: record.created_ns, ..Event::of_container(record, Action::Create) };
        self.request.is_new.then(creation).into_iter().collect()
    }
}
