//! What holds a container's limits: its cgroup, something else, or nothing.

use serde::{Deserialize, Serialize};

/// What is done for a container whose cgroup cannot hold its limits
/// (`--limits best-effort`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Substitutes {
    /// Processors that the supervisor, and all that it starts, keeps to:
    /// sched_setaffinity(2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<u32>,
    /// Bytes above which the supervisor kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Substitutes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who holds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// The kernel, for the cgroup.
    Cgroup,
    /// The kernel, for each process.
    Affinity,
    /// The kernel, for each user of the container.
    Rlimit,
    /// The supervisor.
    Watch,
    /// Nobody.
    Nobody,
}

/// One limit, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The option, with its hyphens.
    pub limit: String,
    /// The file of the cgroup that says it.
    pub file: String,
    /// What was asked for, as that file has it.
    pub asked: String,
    /// Who holds it.
    pub by: Holder,
    /// What holds; `None` where nothing does.
    pub effective: Option<String>,
}

impl Enforced {
    /// How it is held, as a clause.
    pub fn how(&self) -> String {
        match self.by {
            Holder::Cgroup => format!("{} of its cgroup", self.file),
            Holder::Affinity => "processor affinity, which its programs can change".to_owned(),
            Holder::Rlimit => "RLIMIT_NPROC, which counts for each of its users".to_owned(),
            Holder::Watch => "kelp looks several times a second, and kills it above".to_owned(),
            Holder::Nobody => format!("it needs a cgroup with {}", self.file),
        }
    }

    /// What the user is told when the container starts; nothing where all is as
    /// it was asked for.
    pub fn notice(&self) -> Option<String> {
        let what = match self.limit.as_str() {
            "--cgroup-conf" => format!("{} {}={}", self.limit, self.file, self.asked),
            limit => format!("{limit} {}", self.asked),
        };
        match self.by {
            Holder::Cgroup => None,
            Holder::Nobody => Some(format!("{what} is not held: {}", self.how())),
            _ => Some(format!("{what} is held without a cgroup: {}", self.how())),
        }
    }
}
