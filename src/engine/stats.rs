//! What containers use, again and again.

use crate::container::cgroupfs::Throttling;
use crate::container::record::{Record, Status, now_ns};
use crate::container::store::{self, Container};
use crate::container::usage::{Sample, Usage};
use crate::error::{Kind, Result};
use crate::paths::Paths;

/// Which containers are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// These, by id, until they are removed.
    Ids(Vec<String>),
    /// Those that run, whenever it is looked.
    Running,
    /// All there are, whenever it is looked.
    All,
}

/// Looks at containers from time to time.
#[derive(Debug)]
pub struct Watch {
    choice: Choice,
    earlier: Option<Sample>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Who uses most of the processors.
    Cpu,
    /// Who uses most memory.
    Memory,
    /// Who has most processes and threads.
    Tasks,
    /// Names, by letters.
    Name,
}

impl Order {
    /// Puts rows into this order; those that are alike stay as they are.
    pub fn sort(self, rows: &mut [Row]) {
        match self {
            Self::Cpu => rows.sort_by(|one, other| other.cpu_percent.total_cmp(&one.cpu_percent)),
            Self::Memory => rows.sort_by_key(|row| std::cmp::Reverse(row.usage.memory_bytes)),
            Self::Tasks => rows.sort_by_key(|row| std::cmp::Reverse(row.usage.tasks)),
            Self::Name => rows.sort_by(|one, other| one.record.name.cmp(&other.record.name)),
        }
    }
}

/// One container at one moment.
#[derive(Debug)]
pub struct Row {
    /// The container.
    pub record: Record,
    /// What it uses; nothing where it does not run.
    pub usage: Usage,
    /// Share of one processor that it had since it was looked at before.
    pub cpu_percent: f64,
    /// Share of the periods since then in which it had to stand still for its
    /// limit of processor time; `None` where it can have none.
    pub throttled_percent: Option<f64>,
    /// Nanoseconds since it was started; nothing where it does not run.
    pub up_ns: u64,
}

impl Row {
    /// Share of the memory that it may have.
    pub fn memory_percent(&self) -> f64 {
        match self.usage.memory_limit_bytes {
            0 => 0.0,
            limit => self.usage.memory_bytes as f64 / limit as f64 * 100.0,
        }
    }

    /// Share of one processor that it had since it was started.
    pub fn average_cpu_percent(&self) -> f64 {
        match self.up_ns {
            0 => 0.0,
            up_ns => self.usage.cpu_ns as f64 / up_ns as f64 * 100.0,
        }
    }

    /// When it was started, in nanoseconds after the epoch, if it runs.
    pub fn started_ns(&self) -> Option<i64> {
        started_ns(&self.record)
    }

    /// How a limit of processor time was felt, where it can have one.
    pub fn throttling(&self) -> Option<Throttling> {
        self.usage.readings.cpu?.throttling
    }
}

fn started_ns(record: &Record) -> Option<i64> {
    match record.status {
        Status::Running { started_ns, .. } => Some(started_ns),
        _ => None,
    }
}

impl Watch {
    /// Watches the containers called `names`, or if there are none all that
    /// run, with `all` those that do not, too.
    pub fn new(paths: &Paths, names: &[String], all: bool) -> Result<Self> {
        let ids: Vec<String> =
            names.iter().map(|name| Ok(store::find(paths, name)?.record.id)).collect::<Result<_>>()?;
        let choice = match (ids.is_empty(), all) {
            (false, _) => Choice::Ids(ids),
            (true, false) => Choice::Running,
            (true, true) => Choice::All,
        };
        Ok(Self { choice, earlier: None })
    }

    /// Whether there is nothing left to watch, and never will be.
    pub fn is_over(&self, rows: &[Row]) -> bool {
        matches!(self.choice, Choice::Ids(_)) && rows.is_empty()
    }

    /// How they are now. The first time nobody has used a processor yet: it is
    /// not known since when.
    pub fn look(&mut self, paths: &Paths) -> Result<Vec<Row>> {
        let containers = self.containers(paths)?;
        let sample = Sample::take(containers.iter().map(|container| &container.record))?;
        let now = now_ns();
        let row = |Container { record, .. }| {
            let earlier = self.earlier.as_ref();
            let passed = started_ns(&record).map_or(0, |started_ns| now.saturating_sub(started_ns));
            Row {
                usage: sample.of(&record).cloned().unwrap_or_default(),
                cpu_percent: earlier.map_or(0.0, |earlier| sample.cpu_percent(earlier, &record)),
                throttled_percent: sample.throttled_percent(earlier.unwrap_or(&sample), &record),
                up_ns: u64::try_from(passed).unwrap_or(0),
                record,
            }
        };
        let rows = containers.into_iter().map(row).collect();
        self.earlier = Some(sample);
        Ok(rows)
    }

    fn containers(&self, paths: &Paths) -> Result<Vec<Container>> {
        if let Choice::Ids(ids) = &self.choice {
            let found = ids.iter().filter_map(|id| match store::find(paths, id) {
                Err(failure) if failure.kind == Kind::NotFound => None,
                result => Some(result),
            });
            return found.collect();
        }
        // One whose record cannot be read is told of by ps.
        let (mut containers, _) = store::list(paths)?;
        containers.retain(|container| self.choice == Choice::All || container.record.status.is_live());
        Ok(containers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu_percent: f64, memory_bytes: u64, tasks: u64) -> Row {
        let usage = Usage { cpu_ns: 30, memory_bytes, tasks, ..Usage::default() };
        let record = Record::new("ab".repeat(32), name.to_owned());
        Row { record, usage, cpu_percent, throttled_percent: None, up_ns: 60 }
    }

    #[test]
    fn the_greatest_come_first() {
        let names = |order: Order| {
            let mut rows = [row("b", 1.0, 5, 2), row("a", 250.0, 1, 9), row("d", 0.0, 5, 2), row("c", f64::NAN, 7, 0)];
            order.sort(&mut rows);
            rows.map(|row| row.record.name).concat()
        };
        assert_eq!((names(Order::Memory), names(Order::Tasks)), ("cbda".to_owned(), "abdc".to_owned()));
        assert_eq!((names(Order::Cpu), names(Order::Name)), ("cabd".to_owned(), "abcd".to_owned()));
    }

    #[test]
    fn shares_of_nothing_are_nothing() {
        let mut row = row("a", 0.0, 5, 1);
        assert_eq!((row.average_cpu_percent(), row.memory_percent()), (50.0, 0.0));
        row.up_ns = 0;
        assert_eq!((row.average_cpu_percent(), row.started_ns(), row.throttling()), (0.0, None, None));
    }
}
