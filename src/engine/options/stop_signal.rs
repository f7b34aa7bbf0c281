//! `--stop-signal`, `--signal`: signals by name or number.

use nix::sys::signal::Signal;

use crate::container::signals;
use crate::error::{Failure, Result};

/// A signal by name, with or without SIG, or by number; as its name.
pub fn parse(text: &str) -> Result<String> {
    number(text).map(signals::name)
}

/// The same, as its number.
pub fn number(text: &str) -> Result<i32> {
    signals::number(text).ok_or_else(|| {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        Failure::usage(format!("no signal \"{text}\"")).did_you_mean(&name, Signal::iterator().map(Signal::as_str))
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
        check("rtmin+3", Some("SIGRTMIN+3"));
        for bad in ["", "0", "-1", "999", "SIG", "SIGSIGINT"] {
            check(bad, None);
        }
    }
}
