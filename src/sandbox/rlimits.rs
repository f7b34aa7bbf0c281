//! Resource limits: `--ulimit NAME=SOFT[:HARD]` with Docker's names.
//!
//! Whether the host grants one is not asked here: raising a hard limit is
//! refused to an ordinary user (setrlimit(2)).

use crate::error::{Failure, Result};

/// No limit, as in `SandboxSpec`.
const UNLIMITED: u64 = u64::MAX;

/// Docker's names, and `as`, which it lacks.
const NAMES: &[(&str, u32)] = &[
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Reads one `NAME=SOFT[:HARD]` into RLIMIT_* number, soft and hard limit. One
/// value is both; -1 is unlimited.
pub fn parse(text: &str) -> Result<(u32, u64, u64)> {
    read(text).map_err(|failure| failure.doing(format!("use --ulimit \"{text}\"")))
}

/// The text that [`parse`] reads so.
pub fn text((number, soft, hard): (u32, u64, u64)) -> String {
    let value = |value: u64| if value == UNLIMITED { "-1".to_owned() } else { value.to_string() };
    format!("{}={}:{}", name(number), value(soft), value(hard))
}

/// `limits` with at most so many processes.
pub fn with_processes(limits: &[(u32, u64, u64)], most: Option<u64>) -> Vec<(u32, u64, u64)> {
    let mut limits = limits.to_vec();
    let Some(most) = most else { return limits };
    match limits.iter_mut().find(|(number, ..)| *number == libc::RLIMIT_NPROC) {
        Some((_, soft, hard)) => (*soft, *hard) = ((*soft).min(most), (*hard).min(most)),
        None => limits.push((libc::RLIMIT_NPROC, most, most)),
    }
    limits
}

/// Docker's name of an RLIMIT_* number.
pub fn name(number: u32) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == number).map_or("", |(name, _)| *name)
}

fn read(text: &str) -> Result<(u32, u64, u64)> {
    let Some((name, values)) = text.split_once('=') else {
        return Err(Failure::usage("it must be NAME=SOFT[:HARD], e.g. nofile=1024:4096"));
    };
    let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let failure = Failure::usage(format!("unknown limit \"{name}\""));
        return Err(failure.did_you_mean(name, NAMES.iter().map(|(name, _)| *name)));
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err(Failure::usage("the soft limit is above the hard limit"));
    }
    Ok((*number, soft, hard))
}

fn value(text: &str) -> Result<u64> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(UNLIMITED),
        Ok(value @ 0..) => Ok(value.unsigned_abs()),
        _ => Err(Failure::usage(format!("\"{text}\" is not a limit: a number, or -1 for unlimited"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(u32, u64, u64), &str>) {
        let expected = expected.map_err(|cause| format!("use --ulimit \"{text}\": {cause}"));
        assert_eq!(parse(text).map_err(|failure| failure.to_string()), expected);
    }

    #[test]
    fn reads_limits() {
        check("nofile=1024:4096", Ok((7, 1024, 4096)));
        check("core=0", Ok((4, 0, 0)));
        check("memlock=-1", Ok((8, UNLIMITED, UNLIMITED)));
        check("stack=5:-1", Ok((3, 5, UNLIMITED)));
    }

    #[test]
    fn the_lesser_number_of_processes_counts() {
        assert_eq!(with_processes(&[(7, 1, 2)], None), [(7, 1, 2)]);
        assert_eq!(with_processes(&[(7, 1, 2)], Some(5)), [(7, 1, 2), (libc::RLIMIT_NPROC, 5, 5)]);
        assert_eq!(with_processes(&[(libc::RLIMIT_NPROC, 3, 9)], Some(5)), [(libc::RLIMIT_NPROC, 3, 5)]);
    }

    #[test]
    fn refuses_others() {
        check("nofile", Err("it must be NAME=SOFT[:HARD], e.g. nofile=1024:4096"));
        check("nofiles=1", Err("unknown limit \"nofiles\""));
        check("nofile=-1:5", Err("the soft limit is above the hard limit"));
        check("nofile=2:1", Err("the soft limit is above the hard limit"));
        check("nofile=1:", Err("\"\" is not a limit: a number, or -1 for unlimited"));
        check("nofile=-2", Err("\"-2\" is not a limit: a number, or -1 for unlimited"));
        check("nofile=1:2:3", Err("\"2:3\" is not a limit: a number, or -1 for unlimited"));
    }
}
