//! Whether a container's program is well: what is asked, how an answer is
//! judged, and what is kept of the answers.
//!
//! Docker's rules (moby daemon/health.go), with no clock and no process of its
//! own: the supervisor has those (supervisor/health.rs).
//!
//! ```text
//!   starting --- answer 0 ---> healthy <--- answer 0 --- unhealthy
//!      |                          |                          ^
//!      +--- RETRIES failures, ----+--- RETRIES failures -----+
//!           not counting those of the start period
//! ```

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::image::config::RunConfig;
use crate::limits;

/// What a program that is well ends the probe with.
pub const WELL: i32 = 0;

/// What a probe is said to have ended with that could not be run, or took too
/// long.
pub const NO_ANSWER: i32 = -1;

// What an author who says nothing means.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// How a container is, as far as it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has not been well yet since it was started.
    Starting,
    /// It was well when it was asked last, or failed fewer times than counts.
    Healthy,
    /// It failed as often as counts.
    Unhealthy,
}

impl State {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a container's record says of its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it is.
    pub state: State,
    /// How often in a row it has failed, as far as that counts.
    pub streak: u32,
}

impl Health {
    /// Where each start begins.
    pub const STARTING: Self = Self { state: State::Starting, streak: 0 };
}

/// What is asked, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// argv of the probe.
    pub arguments: Vec<String>,
    /// How long the probe may take.
    pub timeout: Duration,
    interval: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Check {
    /// What a container with this config is asked; `None` if nothing, which is
    /// also what docker makes of a kind of probe that it does not know.
    pub fn of(config: &RunConfig) -> Option<Self> {
        let wanted = config.healthcheck.as_ref()?;
        let (kind, words) = wanted.test.split_first()?;
        let arguments = match (kind.as_str(), config.shell.as_slice()) {
            _ if words.is_empty() => return None,
            ("CMD", _) => words.to_vec(),
            ("CMD-SHELL", []) => [&["/bin/sh".to_owned(), "-c".to_owned()], words].concat(),
            ("CMD-SHELL", shell) => [shell, words].concat(),
            _ => return None,
        };
        let or = |nanoseconds: i64, usual: Duration| match u64::try_from(nanoseconds) {
            Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds).max(limits::HEALTH_TIME_MIN),
            _ => usual,
        };
        Some(Self {
            arguments,
            timeout: or(wanted.timeout, TIMEOUT),
            interval: or(wanted.interval, INTERVAL),
            start_period: or(wanted.start_period, Duration::ZERO),
            start_interval: or(wanted.start_interval, START_INTERVAL),
            retries: u32::try_from(wanted.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        })
    }

    /// How long to wait for the next probe, `running` after the start.
    pub fn wait(&self, health: Health, running: Duration) -> Duration {
        match health.state {
            State::Starting if running < self.start_period => self.start_interval,
            _ => self.interval,
        }
    }

    /// How the container is after a probe that was begun `asked` after the
    /// start and ended with `code`.
    pub fn judge(&self, health: Health, code: i32, asked: Duration) -> Health {
        if code == WELL {
            return Health { state: State::Healthy, streak: 0 };
        }
        if health.state == State::Starting && asked < self.start_period {
            return health;
        }
        let streak = health.streak.saturating_add(1);
        let state = if streak >= self.retries { State::Unhealthy } else { health.state };
        Health { state, streak }
    }
}

/// One probe that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Nanoseconds after the epoch.
    pub started_ns: i64,
    /// Nanoseconds after the epoch.
    pub ended_ns: i64,
    /// Its exit status, or [`NO_ANSWER`].
    pub code: i32,
    /// What it said, or why it said nothing.
    pub output: String,
}

/// The last probes, oldest first: `containers/ID/health.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    version: u32,
    /// At most [`limits::HEALTH_LOG_MAX`].
    pub attempts: VecDeque<Attempt>,
}

/// The version this kelp writes.
const VERSION: u32 = 1;

impl Log {
    /// That of the container at `directory`; empty where there is none that can
    /// be read: nothing depends on it.
    pub fn load(directory: &Path) -> Self {
        let bytes = limits::read_file(&directory.join("health.json"), limits::HEALTH_LOG_BYTES_MAX).ok();
        let log = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        log.filter(|log| log.version <= VERSION).unwrap_or_default()
    }

    /// Adds a probe; the oldest goes.
    pub fn push(&mut self, attempt: Attempt) {
        self.attempts.push_back(attempt);
        while self.attempts.len() > limits::HEALTH_LOG_MAX {
            self.attempts.pop_front();
        }
    }

    /// Writes it: beside the old one, then renamed over it.
    pub fn save(&mut self, directory: &Path) -> Result<()> {
        self.version = VERSION;
        let (path, new) = (directory.join("health.json"), directory.join("health.json.new"));
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::bug(error.to_string()))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).doing(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::Healthcheck;

    const HEALTHY: State = State::Healthy;
    const STARTING: State = State::Starting;
    const UNHEALTHY: State = State::Unhealthy;

    fn config(test: &[&str]) -> RunConfig {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        RunConfig { healthcheck: Some(Healthcheck { test, ..Healthcheck::default() }), ..RunConfig::default() }
    }

    fn check(start_period_s: u64) -> Check {
        let check = Check::of(&config(&["CMD", "x"])).unwrap();
        Check { start_period: Duration::from_secs(start_period_s), ..check }
    }

    /// Seconds and exit statuses of probes; what becomes of each.
    fn run(check: &Check, probes: &[(u64, i32, State, u32)]) {
        let mut health = Health::STARTING;
        for (number, (asked_s, code, state, streak)) in probes.iter().enumerate() {
            health = check.judge(health, *code, Duration::from_secs(*asked_s));
            assert_eq!(health, Health { state: *state, streak: *streak }, "probe {number}");
        }
    }

    #[test]
    fn what_is_asked() {
        let arguments = |config: &RunConfig| Check::of(config).map(|check| check.arguments.join("|"));
        assert_eq!(arguments(&RunConfig::default()), None);
        for nothing in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["HTTP", "/"]] {
            assert_eq!(arguments(&config(nothing)), None, "{nothing:?}");
        }
        assert_eq!(arguments(&config(&["CMD", "a", "b c"])).as_deref(), Some("a|b c"));
        assert_eq!(arguments(&config(&["CMD-SHELL", "a | b"])).as_deref(), Some("/bin/sh|-c|a | b"));
        let shell = RunConfig { shell: vec!["bash".to_owned(), "-ec".to_owned()], ..config(&["CMD-SHELL", "a"]) };
        assert_eq!(arguments(&shell).as_deref(), Some("bash|-ec|a"));
    }

    #[test]
    fn times_that_make_no_sense_are_the_usual_ones() {
        let usual = check(0);
        assert_eq!((usual.interval.as_secs(), usual.timeout.as_secs(), usual.retries), (30, 30, 3));
        let of = |interval, retries| {
            let mut config = config(&["CMD", "x"]);
            config.healthcheck = config.healthcheck.map(|check| Healthcheck { interval, retries, ..check });
            let check = Check::of(&config).unwrap();
            (check.interval, check.retries)
        };
        assert_eq!(of(-5, -5), (INTERVAL, RETRIES));
        assert_eq!(of(1, 1), (limits::HEALTH_TIME_MIN, 1));
        assert_eq!(of(i64::MAX, i64::MAX), (Duration::from_nanos(i64::MAX as u64), RETRIES));
    }

    #[test]
    fn three_failures_in_a_row_are_too_many() {
        run(&check(0), &[(1, 0, HEALTHY, 0), (2, 1, HEALTHY, 1), (3, 1, HEALTHY, 2), (4, 0, HEALTHY, 0)]);
        run(&check(0), &[(1, 1, STARTING, 1), (2, 2, STARTING, 2), (3, NO_ANSWER, UNHEALTHY, 3), (4, 1, UNHEALTHY, 4)]);
        run(&check(0), &[(1, 1, STARTING, 1), (2, 1, STARTING, 2), (3, 1, UNHEALTHY, 3), (4, 0, HEALTHY, 0)]);
    }

    #[test]
    fn failures_of_the_start_do_not_count() {
        run(&check(10), &[(1, 1, STARTING, 0), (9, 1, STARTING, 0), (10, 1, STARTING, 1), (11, 1, STARTING, 2)]);
        // Once it was well, the start is over.
        run(&check(10), &[(1, 1, STARTING, 0), (2, 0, HEALTHY, 0), (3, 1, HEALTHY, 1)]);
    }

    #[test]
    fn a_start_is_watched_more_closely() {
        let check = check(10);
        let wait = |state, running_s| check.wait(Health { state, streak: 0 }, Duration::from_secs(running_s)).as_secs();
        assert_eq!((wait(STARTING, 0), wait(STARTING, 10), wait(HEALTHY, 0), wait(UNHEALTHY, 99)), (5, 30, 30, 30));
    }

    #[test]
    fn the_log_keeps_the_last_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::load(directory.path());
        for code in 0..9 {
            log.push(Attempt { started_ns: 1, ended_ns: 2, code, output: "é\u{1}".to_owned() });
        }
        log.save(directory.path()).unwrap();
        let again = Log::load(directory.path());
        assert_eq!(again, log);
        assert_eq!(again.attempts.iter().map(|attempt| attempt.code).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        fs::write(directory.path().join("health.json"), b"{").unwrap();
        assert!(Log::load(directory.path()).attempts.is_empty());
    }

    #[test]
    fn the_longest_log_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::default();
        // What takes the most bytes in JSON.
        let output = "\u{1}".repeat(limits::HEALTH_OUTPUT_BYTES_MAX + 100);
        for _ in 0..limits::HEALTH_LOG_MAX {
            log.push(Attempt { started_ns: i64::MIN, ended_ns: i64::MIN, code: i32::MIN, output: output.clone() });
        }
        log.save(directory.path()).unwrap();
        assert_eq!(Log::load(directory.path()).attempts.len(), limits::HEALTH_LOG_MAX);
    }
}
