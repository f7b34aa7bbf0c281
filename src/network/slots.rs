//! A table whose keys are never mistaken: each tells which use of its slot it
//! means, so that an event for what was there before finds nothing.

/// Names one entry of one [`Slots`]; as a number, `generation << 32 | slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// As epoll carries it (epoll_ctl(2), `data`).
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From [`Key::number`].
    pub fn from_number(number: u64) -> Self {
        let (generation, slot) = ((number >> 32) as u32, (number & u64::from(u32::MAX)) as u32);
        Self { slot, generation }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

/// Entries by [`Key`]. Slots are used again, keys are not.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry.
    pub fn insert(&mut self, entry: T) -> Key {
        if let Some(slot) = self.free.pop()
            && let Some(free) = self.slots.get_mut(slot as usize)
        {
            free.entry = Some(entry);
            return Key { slot, generation: free.generation };
        }
        // Bounded long before by descriptors: each entry stands for one or is one of few.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, entry: Some(entry) });
        Key { slot, generation: 0 }
    }

    /// The entry of `key`, unless it was removed.
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.entry.as_ref() } else { None }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.entry.as_mut() } else { None }
    }

    /// Takes the entry out; its key is dead from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(entry)
    }

    /// The entries of `count` slots from slot `from` on, which goes around.
    pub fn sample(&self, from: usize, count: usize) -> impl Iterator<Item = (Key, &T)> {
        let all = self.slots.len().max(1);
        let places = (0..count.min(self.slots.len())).map(move |step| (from % all + step) % all);
        places.filter_map(|place| {
            let Slot { generation, entry } = self.slots.get(place)?;
            let slot = u32::try_from(place).ok()?;
            entry.as_ref().map(|entry| (Key { slot, generation: *generation }, entry))
        })
    }

    /// All entries with their keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0u32..).zip(&self.slots).filter_map(|(slot, Slot { generation, entry })| {
            entry.as_ref().map(|entry| (Key { slot, generation: *generation }, entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_entry() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(Key::from_number(first.number()), first);
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!((slots.get(second), slots.len()), (Some(&"second"), 1));
        assert_eq!(Key::from_number(second.number()), second);
    }
}
