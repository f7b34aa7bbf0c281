//! A container of which a process was killed for want of memory: who did it,
//! at which limit, and the words for it.

use serde::{Deserialize, Serialize};

/// Who kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Killer {
    /// The kernel's OOM killer.
    Kernel,
    /// The supervisor, where the kernel could not be told of a limit.
    Kelp,
}

impl Killer {
    /// As it is named in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Kelp => "kelp",
        }
    }
}

/// What was killed since the container's program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// Who did it.
    pub by: Killer,
    /// The container's limit of memory, in bytes; `None` where it was killed
    /// for another one: of a cgroup around it, or the machine's memory.
    pub limit_bytes: Option<u64>,
    /// Processes that were killed.
    pub kills: u64,
}

impl OutOfMemory {
    /// One line for the user. `is_program`: the container's own program was
    /// killed, not only others that it runs.
    pub fn sentence(&self, is_program: bool) -> String {
        let who = match self.by {
            Killer::Kernel => "the kernel",
            Killer::Kelp => "kelp",
        };
        let whom = match (is_program, self.kills) {
            (true, _) => "it".to_owned(),
            (_, 0 | 1) => "a process of it".to_owned(),
            (_, kills) => format!("{kills} processes of it"),
        };
        match self.limit_bytes {
            Some(limit) => format!("{who} killed {whom}: out of memory at its limit of {}", size(limit)),
            None => format!("{who} killed {whom}: out of memory on the host, or at a limit around the container"),
        }
    }
}

/// Bytes in the largest unit in which they are a whole number, else with two
/// digits.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    if bytes.trailing_zeros() >= shift {
        return format!("{} {unit}", bytes >> shift);
    }
    // A gibibyte and a half is better said in MiB.
    let whole = UNITS.into_iter().find(|(smaller, _)| *smaller < shift && bytes.trailing_zeros() >= *smaller);
    match whole {
        Some((smaller, unit)) if bytes >> smaller < 10_000 => format!("{} {unit}", bytes >> smaller),
        _ => format!("{:.2} {unit}", bytes as f64 / (1_u64 << shift) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_one_line() {
        let oom = OutOfMemory { by: Killer::Kernel, limit_bytes: Some(64 << 20), kills: 1 };
        assert_eq!(oom.sentence(true), "the kernel killed it: out of memory at its limit of 64 MiB");
        assert_eq!(oom.sentence(false), "the kernel killed a process of it: out of memory at its limit of 64 MiB");
        let oom = OutOfMemory { by: Killer::Kelp, limit_bytes: Some(3 << 29), kills: 4 };
        assert_eq!(oom.sentence(true), "kelp killed it: out of memory at its limit of 1536 MiB");
        assert_eq!(oom.sentence(false), "kelp killed 4 processes of it: out of memory at its limit of 1536 MiB");
        let oom = OutOfMemory { limit_bytes: None, ..oom };
        assert!(oom.sentence(true).ends_with("on the host, or at a limit around the container"));
    }

    #[test]
    fn sizes_are_whole_where_they_can_be() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (4096, "4 KiB"),
            (64 << 20, "64 MiB"),
            (1 << 30, "1 GiB"),
            (100_000_000, "95.37 MiB"),
            ((5 << 40) + 4096, "5.00 TiB"),
            (u64::MAX, "16777216.00 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
