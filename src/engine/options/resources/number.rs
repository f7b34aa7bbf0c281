//! Single values of the options about resources.

use super::super::size;
use crate::error::{Context, Failure, Result};
use crate::sandbox::cgroup::limits::Bound;

/// Billionths of a processor in one.
const NANO: u64 = 1_000_000_000;

/// Bytes that the kernel counts as all there are (PAGE_COUNTER_MAX): it would
/// take more for no limit.
const BYTES_MAX: u64 = i64::MAX as u64 - 0xfff;

/// Processes and threads that there can be (PID_MAX_LIMIT); the kernel refuses more.
const PROCESSES_MAX: u64 = 4 << 20;

/// Microseconds of a quota that the kernel takes (max_cfs_runtime: 44 bits).
const QUOTA_US_MAX: u64 = (1 << 44) - 1;

/// Processors and memory nodes that the kernel can count (NR_CPUS is 8,192 at
/// most); a list of them is no longer than that.
const LIST_NUMBER_MAX: u64 = 65_535;

/// Reads options that may not have been given.
pub(super) struct Reader;

impl Reader {
    pub(super) fn with<T>(
        &self,
        flag: &str,
        text: &Option<String>,
        parse: impl Fn(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        text.as_ref().map(|text| parse(text).doing(|| format!("use {flag} \"{text}\""))).transpose()
    }

    pub(super) fn bytes(&self, flag: &str, text: &Option<String>) -> Result<Option<Bound>> {
        self.with(flag, text, bytes)
    }
}

/// A size; 0 and -1 are no limit.
pub(super) fn bytes(text: &str) -> Result<Bound> {
    match text {
        "-1" | "max" => Ok(Bound::MAX),
        _ => match size::parse(text)? {
            0 => Ok(Bound::MAX),
            bytes @ 1..BYTES_MAX => Ok(Bound::At(bytes)),
            _ => Err(Failure::usage("it is more than the kernel can count; -1 is no limit")),
        },
    }
}

/// Memory and swap together; 0 is as if nothing was said, as with docker.
pub(super) fn swap(text: &str) -> Result<Option<Bound>> {
    if text == "0" { Ok(None) } else { bytes(text).map(Some) }
}

fn whole(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Failure::usage(format!("\"{text}\" is not a whole number")))
}

pub(super) fn within(text: &str, min: u64, max: u64) -> Result<u64> {
    match whole(text).map(u64::try_from)? {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Failure::usage(format!("the range is from {min} to {max}"))),
    }
}

/// 0 is what is usual.
pub(super) fn within_or_zero(text: &str, min: u64, max: u64) -> Result<u64> {
    if text == "0" { Ok(0) } else { within(text, min, max) }
}

/// A number of things; 0 and -1 are no limit.
pub(super) fn count(text: &str) -> Result<Bound> {
    match whole(text)? {
        -1 | 0 => Ok(Bound::MAX),
        number => {
            u64::try_from(number).map(Bound::At).map_err(|_| Failure::usage("-1 is no limit; less makes no sense"))
        }
    }
}

/// Processes and threads; 0 and -1 are no limit.
pub(super) fn processes(text: &str) -> Result<Bound> {
    match count(text)? {
        Bound::At(number) if number > PROCESSES_MAX => {
            Err(Failure::usage(format!("there can be no more than {PROCESSES_MAX} processes; -1 is no limit")))
        }
        bound => Ok(bound),
    }
}

/// Microseconds; 0 and -1 are no limit.
pub(super) fn quota(text: &str) -> Result<Bound> {
    match count(text)? {
        Bound::At(number) if number > QUOTA_US_MAX => {
            Err(Failure::usage(format!("the most is {QUOTA_US_MAX}; -1 is no limit")))
        }
        Bound::At(..1000) => Err(Failure::usage("CPU cfs quota can not be less than 1ms (i.e. 1000)")),
        bound => Ok(bound),
    }
}

/// Microseconds; 0 is the usual period.
pub(super) fn period(text: &str) -> Result<u64> {
    within_or_zero(text, 1000, 1_000_000).map_err(|failure| match whole(text) {
        Ok(_) => Failure::usage("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        Err(_) => failure,
    })
}

pub(super) fn oom_score(text: &str) -> Result<i32> {
    match whole(text)? {
        number @ -1000..=1000 => Ok(number as i32),
        number => Err(Failure::usage(format!("invalid value {number}, range for oom score adj is [-1000, 1000]"))),
    }
}

/// Processors with a fraction, such as `1.5`, in billionths; 0 is no limit.
pub(super) fn nano_cpus(text: &str) -> Result<u64> {
    let bad = || Failure::usage(format!("\"{text}\" is not a number of processors, such as 1.5"));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || (whole.is_empty() && part.is_empty()) {
        return Err(bad());
    }
    let part = part.trim_end_matches('0');
    if part.len() > 9 {
        return Err(Failure::usage("value is too precise"));
    }
    let nano = format!("{part:0<9}").parse::<u64>().map_err(|_| bad())?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| bad())? };
    let all = whole.checked_mul(NANO).and_then(|whole| whole.checked_add(nano)).ok_or_else(bad)?;
    match all {
        // A quota of less than a millisecond in 100 is refused by the kernel.
        1..10_000_000 => Err(Failure::usage("the least is 0.01")),
        all => Ok(all),
    }
}

/// A list as the kernel writes it (cpuset(7), "List format"): `0-3,8`.
pub(super) fn list(text: &str) -> Result<String> {
    let bad = || Failure::usage(format!("\"{text}\" is not a list such as 0-3,8"));
    let number = |text: &str| -> Result<u64> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_plain && *number <= LIST_NUMBER_MAX);
        number.ok_or_else(bad)
    };
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if number(first)? > number(last)? {
            return Err(bad());
        }
    }
    Ok(text.to_owned())
}
