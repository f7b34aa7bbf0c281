//! smoltcp's time, which runs faster than that on the wall.
//!
//! smoltcp 0.14 waits at least a second before it sends anything again
//! (RTTE_MIN_RTO), as RFC 6298 section 2.4 has it; Linux waits 200 ms
//! (TCP_RTO_MIN), and a container's device loses next to nothing but delays
//! nothing either. Its time is an argument of each call: five of its seconds
//! are one of ours. Round trips are measured by the same clock, so they agree.

use std::time::{Duration, Instant};

/// How much faster.
const RATE: u32 = 5;

/// From our time to smoltcp's and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// smoltcp's time at `now`.
    pub(super) fn at(self, now: Instant) -> smoltcp::time::Instant {
        let passed = now.saturating_duration_since(self.start) * RATE;
        smoltcp::time::Instant::from_micros(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
    }

    /// When smoltcp's time is `at`.
    pub(super) fn real(self, at: smoltcp::time::Instant) -> Instant {
        self.start + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0)) / RATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seconds_in_one() {
        let clock = Clock::new();
        let second = clock.start + Duration::from_secs(1);
        assert_eq!(clock.at(second).total_millis(), 5_000);
        assert_eq!(clock.real(clock.at(second)), second);
        assert_eq!(clock.real(smoltcp::time::Instant::ZERO), clock.start);
    }
}
