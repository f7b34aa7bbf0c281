//! What containers use, again and again.

use crate::container::record::Record;
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

/// One container at one moment.
#[derive(Debug)]
pub struct Row {
    /// The container.
    pub record: Record,
    /// What it uses; nothing where it does not run.
    pub usage: Usage,
    /// Share of one processor that it had since it was looked at before.
    pub cpu_percent: f64,
}

impl Row {
    /// Share of the memory that it may have.
    pub fn memory_percent(&self) -> f64 {
        match self.usage.memory_limit_bytes {
            0 => 0.0,
            limit => self.usage.memory_bytes as f64 / limit as f64 * 100.0,
        }
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
        let row = |Container { record, .. }| {
            let cpu_percent = self.earlier.as_ref().map_or(0.0, |earlier| sample.cpu_percent(earlier, &record));
            Row { usage: sample.of(&record).cloned().unwrap_or_default(), cpu_percent, record }
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
