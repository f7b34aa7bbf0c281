//! Clocks of a private time namespace: `--time-offset monotonic=SECONDS`.

use super::field::{once, unknown};
use crate::error::{Failure, Result};
use crate::sandbox::spec::TimeOffsets;

/// The kernel refuses clocks beyond half of KTIME_SEC_MAX (time_namespaces(7):
/// ERANGE), about 146 years.
const OFFSET_S_MAX: i64 = i64::MAX / 1_000_000_000 / 2;

/// Reads all uses of the option; `None` if there are none.
pub fn parse(texts: &[String]) -> Result<Option<TimeOffsets>> {
    let (mut monotonic, mut boottime) = (None, None);
    for text in texts {
        let doing = |failure: Failure| failure.doing(format!("use --time-offset \"{text}\""));
        let Some((clock, seconds)) = text.split_once('=') else {
            return Err(doing(Failure::usage("it must be monotonic=SECONDS or boottime=SECONDS")));
        };
        let slot = match clock {
            "monotonic" => &mut monotonic,
            "boottime" => &mut boottime,
            "realtime" => return Err(doing(Failure::usage("the kernel has no offset for the time of day"))),
            _ => return Err(doing(unknown("clock", clock, &["monotonic", "boottime"]))),
        };
        let offset = match seconds.parse::<i64>() {
            Ok(offset) if offset.unsigned_abs() <= OFFSET_S_MAX.unsigned_abs() => offset,
            Ok(_) => return Err(doing(Failure::usage(format!("it is more than {OFFSET_S_MAX} seconds")))),
            Err(_) => return Err(doing(Failure::usage(format!("\"{seconds}\" is not a number of seconds")))),
        };
        once(slot, offset, clock).map_err(doing)?;
    }
    if texts.is_empty() {
        return Ok(None);
    }
    Ok(Some(TimeOffsets { monotonic_s: monotonic.unwrap_or(0), boottime_s: boottime.unwrap_or(0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses divided by spaces; expected monotonic and boottime.
    fn check(texts: &str, expected: Result<Option<(i64, i64)>, &str>) {
        let texts: Vec<String> = texts.split_whitespace().map(str::to_owned).collect();
        let result = parse(&texts).map(|offsets| offsets.map(|o| (o.monotonic_s, o.boottime_s)));
        assert_eq!(result.map_err(|failure| failure.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn reads_offsets() {
        check("", Ok(None));
        check("monotonic=86400", Ok(Some((86400, 0))));
        check("boottime=-5 monotonic=+7", Ok(Some((7, -5))));
        check("boottime", Err("use --time-offset \"boottime\": it must be monotonic=SECONDS or boottime=SECONDS"));
        check("bootime=1", Err("use --time-offset \"bootime=1\": unknown clock \"bootime\""));
        check("realtime=1", Err("use --time-offset \"realtime=1\": the kernel has no offset for the time of day"));
        check("boottime=1s", Err("use --time-offset \"boottime=1s\": \"1s\" is not a number of seconds"));
        check(
            "boottime=-9223372036854775808",
            Err("use --time-offset \"boottime=-9223372036854775808\": it is more than 4611686018 seconds"),
        );
        check(
            "boottime=1 boottime=1",
            Err("use --time-offset \"boottime=1\": \"boottime\" repeats or contradicts what was said before it"),
        );
    }
}
