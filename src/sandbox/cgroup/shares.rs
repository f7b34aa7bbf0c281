//! What systemd is told of a scope: the shares that the container in it has
//! among others (systemd.resource-control(5)).
//!
//! They stand in files of the scope's own cgroup, which is systemd's: whenever
//! it arranges its slice anew, after a `daemon-reload` for example, it writes
//! there what it knows. All other limits are in the container's cgroup below,
//! which is delegated and never touched.

use std::collections::BTreeMap;

use zbus::Variant;

use super::limits::{Disk, Limits};
use crate::error::{Failure, Result};
use crate::host::machine;

/// A property of a unit; its name in D-Bus.
pub(super) type Property = (&'static str, Variant<'static>);

/// No weight, as D-Bus has it: CGROUP_WEIGHT_INVALID of systemd's.
const NO_WEIGHT: u64 = u64::MAX;

/// Whether `file` says a share among siblings (cgroup-v2, "Weights",
/// "Protections").
pub(super) fn is_share(file: &str) -> bool {
    matches!(file, "cpu.weight" | "cpu.idle" | "io.weight" | "io.bfq.weight" | "memory.low" | "memory.min")
}

/// The shares of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// By the property's name.
    numbers: BTreeMap<&'static str, u64>,
    /// `IODeviceWeight`; `None` where none are spoken of.
    disks: Option<Vec<(Disk, u64)>>,
}

impl Shares {
    /// Those in `limits`. Fails where a value that the kernel may take is none
    /// that systemd has.
    pub fn of(limits: &Limits) -> Result<Self> {
        let mut shares = Self::default();
        for (file, value) in limits.files().iter().filter(|(file, _)| is_share(file)) {
            shares.take(file, value).ok_or_else(|| {
                Failure::usage(format!("systemd, whose scope it is in, has no {file} of \"{value}\""))
                    .hint("--cpu-weight, --blkio-weight and --memory-reservation say it in a form that it has")
            })?;
        }
        Ok(shares)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What leads from these to `before`: what that does not speak of is as
    /// usual again.
    #[must_use]
    pub fn back_to(&self, before: &Self) -> Self {
        let usual = |name: &&'static str| (*name, if name.ends_with("Weight") { NO_WEIGHT } else { 0 });
        let mut numbers: BTreeMap<_, _> = self.numbers.keys().map(usual).collect();
        numbers.extend(&before.numbers);
        let disks = before.disks.clone().or(self.disks.as_ref().map(|_| Vec::new()));
        Self { numbers, disks }
    }

    /// As D-Bus has them.
    pub(super) fn properties(&self) -> Vec<Property> {
        let numbers = self.numbers.iter().map(|(name, number)| (*name, Variant::from(*number)));
        let disks = self.disks.iter().flat_map(|disks| {
            let node = |(disk, weight): &(Disk, u64)| {
                (machine::node(disk.major, disk.minor).to_string_lossy().into_owned(), *weight)
            };
            let list: Vec<(String, u64)> = disks.iter().map(node).collect();
            // None at all takes back those that were told before.
            [Vec::new(), list].map(|list| ("IODeviceWeight", Variant::from(list)))
        });
        numbers.chain(disks).collect()
    }

    /// Takes one file's value; `None` where it is none that systemd has.
    fn take(&mut self, file: &str, value: &str) -> Option<()> {
        match file {
            "cpu.weight" => self.put("CPUWeight", weight(value)?),
            // 0 is systemd's "idle" (CGROUP_WEIGHT_IDLE).
            "cpu.idle" if value == "1" => self.put("CPUWeight", 0),
            "cpu.idle" if value == "0" => {}
            "memory.low" => self.put("MemoryLow", bytes(value)?),
            "memory.min" => self.put("MemoryMin", bytes(value)?),
            "io.weight" => self.take_io(value, &|weight| Some(weight))?,
            "io.bfq.weight" => self.take_io(value, &of_bfq)?,
            _ => return None,
        }
        Some(())
    }

    /// `100`, `default 100` or `8:0 100`.
    fn take_io(&mut self, value: &str, scale: &dyn Fn(u64) -> Option<u64>) -> Option<()> {
        let (of, number) = value.split_once(' ').unwrap_or(("default", value));
        let number = scale(weight(number.trim())?)?;
        if of == "default" {
            self.put("IOWeight", number);
            return Some(());
        }
        let (major, minor) = of.split_once(':')?;
        let disk = Disk { major: major.parse().ok()?, minor: minor.parse().ok()? };
        self.disks.get_or_insert_default().push((disk, number));
        Some(())
    }

    fn put(&mut self, name: &'static str, number: u64) {
        self.numbers.insert(name, number);
    }
}

fn weight(text: &str) -> Option<u64> {
    text.parse().ok().filter(|weight| (1..=10_000).contains(weight))
}

/// As the kernel reads it (memparse()), but for numbers to other bases than ten.
fn bytes(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(u64::MAX);
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text.get(number.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        unit => 1 + ["k", "m", "g", "t", "p", "e"].into_iter().position(|known| known == unit)? as u32,
    };
    number.parse::<u64>().ok().filter(|_| !number.starts_with('0') || number == "0")?.checked_mul(1 << (10 * power))
}

/// What systemd makes `weight` for the disk scheduler BFQ of (its
/// BFQ_WEIGHT(), which takes 1..100..10000 to 1..100..1000).
fn of_bfq(weight: u64) -> Option<u64> {
    match weight {
        1..=100 => Some(weight),
        101..=1000 => Some(100 + (weight - 100) * 11),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Bound;
    use super::*;

    fn conf(file: &str, value: &str) -> Limits {
        Limits { conf: vec![(file.to_owned(), value.to_owned())], ..Limits::default() }
    }

    fn numbers(limits: &Limits) -> Vec<(&'static str, u64)> {
        Shares::of(limits).unwrap().numbers.into_iter().collect()
    }

    #[test]
    fn shares_are_properties_of_the_scope() {
        let disk = Disk { major: 8, minor: 16 };
        let limits = Limits {
            memory_max: Some(Bound::At(5)),
            memory_low: Some(Bound::At(1 << 20)),
            cpu_weight: Some(300),
            io_weight: Some(50),
            io_disk_weights: vec![(disk, 7)],
            ..Limits::default()
        };
        assert_eq!(numbers(&limits), [("CPUWeight", 300), ("IOWeight", 50), ("MemoryLow", 1 << 20)]);
        assert_eq!(Shares::of(&limits).unwrap().disks, Some(vec![(disk, 7)]));
        assert!(Shares::of(&Limits { memory_max: Some(Bound::At(5)), ..Limits::default() }).unwrap().is_empty());
    }

    #[test]
    fn files_that_are_named_count_as_well() {
        for (file, value, property) in [
            ("memory.min", "4096", ("MemoryMin", 4096)),
            ("memory.min", "4k", ("MemoryMin", 4096)),
            ("memory.low", "2G", ("MemoryLow", 2 << 30)),
            ("memory.low", "max", ("MemoryLow", u64::MAX)),
            ("cpu.idle", "1", ("CPUWeight", 0)),
            ("io.weight", "default 9", ("IOWeight", 9)),
            ("io.bfq.weight", "100", ("IOWeight", 100)),
            ("io.bfq.weight", "default 1000", ("IOWeight", 10_000)),
        ] {
            assert_eq!(numbers(&conf(file, value)), [property], "{file} {value}");
        }
        assert!(Shares::of(&conf("cpu.idle", "0")).unwrap().is_empty());
        for (file, value) in [
            ("memory.min", "4kb"),
            ("memory.min", "99E"),
            ("memory.low", "0x10"),
            ("memory.low", "010"),
            ("cpu.weight", "0"),
            ("cpu.idle", "2"),
            ("io.weight", "8:0 default"),
            ("io.weight", "x 5"),
            ("io.bfq.weight", "1001"),
        ] {
            let failure = Shares::of(&conf(file, value)).unwrap_err();
            assert!(failure.to_string().contains(file), "{failure}");
        }
    }

    #[test]
    fn there_is_a_way_back() {
        let before = Shares::of(&Limits { cpu_weight: Some(300), ..Limits::default() }).unwrap();
        let disk = Disk { major: 8, minor: 0 };
        let after = Limits {
            cpu_weight: Some(200),
            io_weight: Some(1),
            io_disk_weights: vec![(disk, 7)],
            memory_low: Some(Bound::At(5)),
            ..Limits::default()
        };
        let back = Shares::of(&after).unwrap().back_to(&before);
        let numbers: Vec<_> = back.numbers.into_iter().collect();
        assert_eq!(numbers, [("CPUWeight", 300), ("IOWeight", NO_WEIGHT), ("MemoryLow", 0)]);
        assert_eq!(back.disks, Some(Vec::new()));
    }
}
