//! Health checks: `--health-cmd` and what goes with it, `--no-healthcheck`.
//!
//! What is not said is the image's (moby runconfig, merge.go).

use crate::error::{Context, Failure, Result};
use crate::image::config::Healthcheck;
use crate::limits;

/// The options as typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Typed<'a> {
    /// `--health-cmd`.
    pub command: Option<&'a str>,
    /// `--health-interval`.
    pub interval: Option<&'a str>,
    /// `--health-timeout`.
    pub timeout: Option<&'a str>,
    /// `--health-start-period`.
    pub start_period: Option<&'a str>,
    /// `--health-start-interval`.
    pub start_interval: Option<&'a str>,
    /// `--health-retries`.
    pub retries: Option<i64>,
    /// `--no-healthcheck`.
    pub none: bool,
}

/// Reads them; `None` where there are none.
pub fn parse(typed: &Typed<'_>) -> Result<Option<Healthcheck>> {
    let Typed { command, interval, timeout, start_period, start_interval, retries, none } = *typed;
    let others = [command, interval, timeout, start_period, start_interval];
    let is_said = retries.is_some() || others.iter().any(Option::is_some);
    match (none, is_said) {
        (true, true) => return Err(Failure::usage("--no-healthcheck and --health options exclude each other")),
        (true, false) => return Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() })),
        (false, false) => return Ok(None),
        (false, true) => {}
    }
    let time = |name: &str, text: Option<&str>| match text {
        Some(text) => nanoseconds(text).doing(|| format!("use --health-{name} \"{text}\"")),
        None => Ok(0),
    };
    if retries.is_some_and(|retries| retries < 0) {
        return Err(Failure::usage("--health-retries cannot be negative"));
    }
    Ok(Some(Healthcheck {
        test: command.map(test).transpose()?.unwrap_or_default(),
        interval: time("interval", interval)?,
        timeout: time("timeout", timeout)?,
        start_period: time("start-period", start_period)?,
        start_interval: time("start-interval", start_interval)?,
        retries: retries.unwrap_or(0),
    }))
}

/// A line for a shell, a list of words as JSON, or podman's `none`.
fn test(text: &str) -> Result<Vec<String>> {
    let with = |kind: &str, words: Vec<String>| std::iter::once(kind.to_owned()).chain(words).collect();
    match text {
        "" => Err(Failure::usage("--health-cmd has no command").hint("--no-healthcheck asks nothing")),
        "none" => Ok(with("NONE", Vec::new())),
        _ => match serde_json::from_str::<Vec<String>>(text) {
            Ok(words) if words.is_empty() => Err(Failure::usage("--health-cmd is an empty list")),
            Ok(words) => Ok(with("CMD", words)),
            Err(_) => Ok(with("CMD-SHELL", vec![text.to_owned()])),
        },
    }
}

/// A time as Go writes it (`1m30s`); 0 is the image's.
fn nanoseconds(text: &str) -> Result<i64> {
    let wrong = || Failure::usage("it is not a time such as 30s or 1m30s");
    let time: jiff::SignedDuration = text
        .parse()
        .or_else(|error| match text {
            "0" => Ok(jiff::SignedDuration::ZERO),
            _ => Err(error),
        })
        .map_err(|_| wrong())?;
    let time = i64::try_from(time.as_nanos()).map_err(|_| wrong())?;
    match time {
        0 => Ok(0),
        time if time < limits::HEALTH_TIME_MIN.as_nanos() as i64 => Err(Failure::usage("it is less than 1ms")),
        time => Ok(time),
    }
}

/// What was asked for over what the image has.
pub fn merge(wanted: Option<&Healthcheck>, image: Option<&Healthcheck>) -> Result<Option<Healthcheck>> {
    let Some(wanted) = wanted else { return Ok(image.cloned()) };
    let image = image.cloned().unwrap_or_default();
    if wanted.test.is_empty() && image.test.is_empty() {
        return Err(Failure::user("the image has no health check to change").hint("--health-cmd is one"));
    }
    let or = |wanted: i64, image: i64| if wanted == 0 { image } else { wanted };
    Ok(Some(Healthcheck {
        test: if wanted.test.is_empty() { image.test } else { wanted.test.clone() },
        interval: or(wanted.interval, image.interval),
        timeout: or(wanted.timeout, image.timeout),
        start_period: or(wanted.start_period, image.start_period),
        start_interval: or(wanted.start_interval, image.start_interval),
        retries: or(wanted.retries, image.retries),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is the test's words, then all that is not 0.
    fn check(typed: Typed<'_>, expected: Result<Option<&str>, &str>) {
        let result = parse(&typed).map_err(|failure| failure.to_string());
        let shown = result.map(|check| {
            check.map(|check| {
                let times = [check.interval, check.timeout, check.start_period, check.start_interval, check.retries];
                let times = times.iter().filter(|time| **time != 0).map(i64::to_string);
                check.test.iter().cloned().chain(times).collect::<Vec<_>>().join("|")
            })
        });
        assert_eq!(shown, expected.map(|text| text.map(str::to_owned)).map_err(str::to_owned), "{typed:?}");
    }

    #[test]
    fn reads_dockers_options() {
        let none = Typed::default();
        check(none, Ok(None));
        check(Typed { none: true, ..none }, Ok(Some("NONE")));
        check(Typed { command: Some("curl -f x || exit 1"), ..none }, Ok(Some("CMD-SHELL|curl -f x || exit 1")));
        check(Typed { command: Some("[\"curl\", \"-f\"]"), ..none }, Ok(Some("CMD|curl|-f")));
        check(Typed { command: Some("[ -f /x ]"), ..none }, Ok(Some("CMD-SHELL|[ -f /x ]")));
        check(Typed { command: Some("none"), ..none }, Ok(Some("NONE")));
        check(Typed { interval: Some("1m30s"), retries: Some(2), ..none }, Ok(Some("90000000000|2")));
        check(Typed { timeout: Some("500ms"), start_period: Some("0"), ..none }, Ok(Some("500000000")));
    }

    #[test]
    fn refuses_by_name() {
        let none = Typed::default();
        let both = "--no-healthcheck and --health options exclude each other";
        check(Typed { none: true, command: Some("x"), ..none }, Err(both));
        check(Typed { retries: Some(-1), ..none }, Err("--health-retries cannot be negative"));
        check(
            Typed { timeout: Some("5"), ..none },
            Err("use --health-timeout \"5\": it is not a time such as 30s or 1m30s"),
        );
        check(Typed { interval: Some("1us"), ..none }, Err("use --health-interval \"1us\": it is less than 1ms"));
        check(Typed { interval: Some("-1s"), ..none }, Err("use --health-interval \"-1s\": it is less than 1ms"));
        check(Typed { command: Some(""), ..none }, Err("--health-cmd has no command"));
    }

    #[test]
    fn what_is_not_said_is_the_images() {
        let of = |test: &[&str], interval, retries| Healthcheck {
            test: test.iter().map(|word| (*word).to_owned()).collect(),
            interval,
            retries,
            ..Healthcheck::default()
        };
        let image = of(&["CMD", "a"], 5, 2);
        assert_eq!(merge(None, Some(&image)).unwrap(), Some(image.clone()));
        assert_eq!(merge(None, None).unwrap(), None);
        assert_eq!(merge(Some(&of(&[], 7, 0)), Some(&image)).unwrap(), Some(of(&["CMD", "a"], 7, 2)));
        assert_eq!(merge(Some(&of(&["CMD", "b"], 0, 0)), Some(&image)).unwrap(), Some(of(&["CMD", "b"], 5, 2)));
        assert_eq!(merge(Some(&of(&["CMD", "b"], 0, 0)), None).unwrap(), Some(of(&["CMD", "b"], 0, 0)));
        assert!(merge(Some(&of(&[], 7, 0)), None).is_err());
    }
}
