//! Docker's shares and weights in the kernel's numbers, and quotas.

use crate::sandbox::cgroup::limits::{Bound, CpuMax};

/// The period where none is given, in microseconds, as the kernel's.
pub const PERIOD_US: u64 = 100_000;

/// What `cpu.weight` is where nobody has written it.
const CPU_WEIGHT_USUAL: u64 = 100;

/// What `io.weight` is where nobody has written it.
const IO_WEIGHT_USUAL: u64 = 100;

/// `cpu.weight` for `--cpu-shares`: 2 becomes 1, 1024 becomes 100, 262144
/// becomes 10000, and what lies between follows a curve through these three
/// (opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value since 0.0.4; before,
/// a straight line made 1024 to 39). 0 is the usual.
pub fn of_shares(shares: u64) -> u64 {
    match shares {
        0 => CPU_WEIGHT_USUAL,
        1 | 2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil().clamp(1.0, 10_000.0) as u64
        }
    }
}

/// `io.weight` for `--blkio-weight`: 10 becomes 1, 1000 becomes 10000
/// (opencontainers/cgroups, ConvertBlkIOToIOWeightValue). 0 is the usual.
pub fn of_block(weight: u64) -> u64 {
    match weight {
        0 => IO_WEIGHT_USUAL,
        weight => 1 + weight.saturating_sub(10).saturating_mul(9_999) / 990,
    }
}

/// `cpu.max` for `--cpus`, in billionths; 0 is no limit.
pub fn of_cpus(nano: u64) -> CpuMax {
    let quota_us = match nano {
        0 => Bound::MAX,
        // A billionth of 100,000 microseconds is a ten-thousandth of one.
        nano => Bound::At(nano / (1_000_000_000 / PERIOD_US)),
    };
    CpuMax { quota_us, period_us: PERIOD_US }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_at_the_ends_and_in_the_middle() {
        for (shares, weight) in [
            (0, 100),
            (1, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (512, 59),
            (1023, 100),
            (1024, 100),
            (1025, 101),
            (2048, 174),
            (10_000, 627),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn block_weights_at_the_ends_and_in_the_middle() {
        for (docker, kernel) in [(0, 100), (10, 1), (11, 11), (500, 4950), (505, 5000), (999, 9989), (1000, 10_000)] {
            assert_eq!(of_block(docker), kernel, "{docker}");
        }
    }

    #[test]
    fn processors_are_a_quota_of_a_tenth_of_a_second() {
        for (nano, line) in [
            (0, "max"),
            (10_000_000, "1000"),
            (500_000_000, "50000"),
            (1_000_000_000, "100000"),
            (1_500_000_000, "150000"),
            (333_333_333, "33333"),
            (128_000_000_000, "12800000"),
        ] {
            assert_eq!(of_cpus(nano).quota_us.to_string(), line);
        }
    }

    proptest! {
        #[test]
        fn more_shares_are_never_less_weight(shares in 1_u64..300_000, weight in 10_u64..1000) {
            prop_assert!(of_shares(shares) <= of_shares(shares + 1));
            prop_assert!((1..=10_000).contains(&of_shares(shares)));
            prop_assert!(of_block(weight) < of_block(weight + 1));
        }
    }
}
