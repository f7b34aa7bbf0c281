//! When each key is due: a heap that knows where each key stands in it, so that
//! a key has one entry and the heap never holds more than there are keys.

use std::collections::HashMap;
use std::time::Instant;

use super::slots::Key;

/// Keys by time, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// A binary heap: each is not later than those at 2n+1 and 2n+2.
    heap: Vec<(Instant, Key)>,
    places: HashMap<Key, usize>,
}

impl Timers {
    /// `key` is due at `at`, and at no other time.
    pub(super) fn set(&mut self, key: Key, at: Instant) {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                self.heap.push((at, key));
                self.heap.len() - 1
            }
        };
        if let Some(entry) = self.heap.get_mut(place) {
            entry.0 = at;
        }
        self.places.insert(key, place);
        let place = self.rise(place);
        self.sink(place);
    }

    /// `key` is due no more.
    pub(super) fn clear(&mut self, key: Key) {
        let Some(place) = self.places.remove(&key) else { return };
        self.heap.swap_remove(place);
        if let Some((_, moved)) = self.heap.get(place) {
            self.places.insert(*moved, place);
            let place = self.rise(place);
            self.sink(place);
        }
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes the first out if it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Key> {
        let (at, key) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }

    fn at(&self, place: usize) -> Option<Instant> {
        self.heap.get(place).map(|(at, _)| *at)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            if let Some((_, key)) = self.heap.get(place) {
                self.places.insert(*key, place);
            }
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.at(above) <= self.at(place) {
                break;
            }
            self.exchange(above, place);
            place = above;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2];
            let earliest = below.into_iter().filter_map(|below| Some((self.at(below)?, below))).min();
            match (earliest, self.at(place)) {
                (Some((at, below)), Some(own)) if at < own => {
                    self.exchange(below, place);
                    place = below;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is set, moved and cleared: they come out in order, each once.
        #[test]
        fn keys_come_when_they_are_due(steps in prop::collection::vec((0u64..40, prop::option::of(0u64..1000)), 0..200)) {
            let start = Instant::now();
            let (mut timers, mut model) = (Timers::default(), HashMap::new());
            for (number, at) in steps {
                let key = Key::from_number(number);
                match at {
                    Some(at) => {
                        timers.set(key, start + Duration::from_millis(at));
                        model.insert(key, at);
                    }
                    None => {
                        timers.clear(key);
                        model.remove(&key);
                    }
                }
            }
            let mut last = 0;
            while let Some(first) = timers.first() {
                let due = first.duration_since(start).as_millis() as u64;
                prop_assert!(timers.take_due(first - Duration::from_nanos(1)).is_none());
                let key = timers.take_due(first).unwrap();
                prop_assert_eq!(model.remove(&key), Some(due));
                prop_assert!(due >= last);
                last = due;
            }
            prop_assert!(model.is_empty() && timers.places.is_empty());
        }
    }
}
