//! `--stop-signal`: what asks the container's program to end.

use nix::sys::signal::Signal;

use crate::error::{Failure, Result};

/// A signal by name, with or without SIG, or by number.
pub fn parse(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let known = match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) => name.parse().ok(),
    };
    known.map(|signal| signal.as_str().to_owned()).ok_or_else(|| {
        Failure::usage(format!("--stop-signal: no signal \"{text}\""))
            .did_you_mean(&name, Signal::iterator().map(Signal::as_str))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse(text).ok().as_deref(), expected, "{text}");
    }

    #[test]
    fn reads_names_and_numbers() {
        check("SIGINT", Some("SIGINT"));
        check("int", Some("SIGINT"));
        check("9", Some("SIGKILL"));
        for bad in ["", "0", "-1", "999", "SIG", "SIGSIGINT"] {
            check(bad, None);
        }
    }
}
