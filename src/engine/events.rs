//! `events`: what happened, and what happens.

use std::time::Duration;

use super::options::event_filter::EventFilter;
use crate::container::events::{Event, Reader};
use crate::container::log::Watch;
use crate::container::record::now_ns;
use crate::error::Result;
use crate::paths::{self, Paths};

/// How long nobody looks whether something has happened of which the kernel
/// does not tell: writers on other machines, with a home on the network.
const PAUSE: Duration = Duration::from_secs(1);

/// Which events, in nanoseconds after the epoch.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Not those before.
    pub since_ns: Option<i64>,
    /// Not those after; without it, all that come.
    pub until_ns: Option<i64>,
    /// Only such.
    pub filter: EventFilter,
}

impl Wanted {
    fn accepts(&self, event: &Event) -> bool {
        self.since_ns.is_none_or(|since| event.time_ns >= since)
            && self.until_ns.is_none_or(|until| event.time_ns <= until)
            && self.filter.accepts(event)
    }
}

/// Passes on what happened, if a time is named, oldest first; then what
/// happens, as it comes, until the time that was named or for ever.
pub fn follow(paths: &Paths, wanted: &Wanted, mut pass_on: impl FnMut(&Event) -> Result<()>) -> Result<()> {
    let from_now = wanted.since_ns.is_none() && wanted.until_ns.is_none();
    let mut reader = Reader::open(paths, from_now)?;
    let mut watch = None;
    loop {
        // Asked before: what happens until then is written by now.
        let is_over = wanted.until_ns.is_some_and(|until| until <= now_ns());
        let mut found = Vec::new();
        reader.read(&mut |event| {
            if wanted.accepts(&event) {
                found.push(event);
            }
        })?;
        found.sort_by_key(|event| event.time_ns);
        found.iter().try_for_each(&mut pass_on)?;
        if is_over {
            return Ok(());
        }
        match &watch {
            None => {
                paths::make_private(&paths.events())?;
                // What is written before it watches is read before it waits.
                watch = Some(Watch::new([paths.events().as_path()]));
            }
            Some(watch) => {
                let left = wanted.until_ns.map(|until| until.saturating_sub(now_ns()).max(0).unsigned_abs());
                watch.wait(&[], left.map_or(PAUSE, |left| PAUSE.min(Duration::from_nanos(left))));
            }
        }
    }
}
