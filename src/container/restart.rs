//! Whether and when an ended program is started again (`--restart`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first wait; each further one is twice as long (moby
/// restartmanager/restartmanager.go: defaultTimeout, backoffMultiplier).
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait (maxRestartTimeout there).
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A program that ran this long starts with the first wait again.
const LONG_RUN: Duration = Duration::from_secs(10);

/// What happens when a container's program ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again unless it ended with 0.
    OnFailure {
        /// At most so often; `None` is for ever.
        max: Option<u32>,
    },
    /// It is started again, also after a reboot (`kelp start --all`).
    Always,
    /// The same, unless a person had stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// As docker and podman call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a program that ended with `code` after `restarts` starts by
    /// this policy is started once more. Nothing is where a person stopped it.
    pub fn wants(self, code: i32, restarts: u32, stopped_by_user: bool) -> bool {
        match self {
            _ if stopped_by_user => false,
            Self::No => false,
            Self::OnFailure { max } => code != 0 && max.is_none_or(|max| restarts < max),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How long to wait before the next start.
#[derive(Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The wait after a program that ran for `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if ran < LONG_RUN => (last * 2).min(WAIT_MAX),
            _ => WAIT_MIN,
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (policy, code, restarts, stopped, wanted) in [
            (No, 1, 0, false, false),
            (OnFailure { max: None }, 0, 0, false, false),
            (OnFailure { max: None }, 1, 9, false, true),
            (OnFailure { max: Some(2) }, 1, 1, false, true),
            (OnFailure { max: Some(2) }, 1, 2, false, false),
            (Always, 0, 0, false, true),
            (Always, 0, 0, true, false),
            (UnlessStopped, 137, 0, false, true),
            (UnlessStopped, 137, 0, true, false),
        ] {
            assert_eq!(policy.wants(code, restarts, stopped), wanted, "{policy:?} {code} {restarts} {stopped}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(backoff.next(Duration::from_secs(11)).as_millis(), 100);
    }
}
