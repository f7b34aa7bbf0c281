//! Sizes as Docker writes them: `64m`, `1g`, `1.5GiB`, `4096`.
//!
//! Letters are powers of 1,024, with or without `b` and `ib`, in any case; where
//! Docker counts in thousands, so do we ([`parse_decimal`]).

use crate::error::{Failure, Result};

/// Reads a size into bytes.
pub fn parse(text: &str) -> Result<u64> {
    read(text, 1024).ok_or_else(|| refusal(text))
}

/// The same with letters that are powers of 1,000, as Docker has it where
/// files are meant (`max-size` of a log).
pub fn parse_decimal(text: &str) -> Result<u64> {
    read(text, 1000).ok_or_else(|| refusal(text))
}

fn refusal(text: &str) -> Failure {
    Failure::usage(format!("\"{text}\" is not a size: a number with b, k, m, g, t or p, such as 64m"))
}

fn read(text: &str, unit_bytes: u128) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        _ => match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return None,
        },
    };
    let scale = unit_bytes.pow(power);
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let bytes = whole.parse::<u64>().ok()?;
    // 15 digits are finer than a byte of 2^50; more would only overflow.
    let part = match fraction {
        Some(digits) if digits.len() <= 15 => {
            u128::from(digits.parse::<u64>().ok()?) * scale / 10_u128.pow(digits.len() as u32)
        }
        Some(_) => return None,
        None => 0,
    };
    u64::try_from(u128::from(bytes) * scale + part).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text).ok(), expected, "{text}");
    }

    #[test]
    fn reads_dockers_sizes() {
        check("0", Some(0));
        check("32", Some(32));
        check("32b", Some(32));
        check("64m", Some(64 << 20));
        check("64 MB", Some(64 << 20));
        check("1GiB", Some(1 << 30));
        check("1.5g", Some(3 << 29));
        check("15p", Some(15 << 50));
        for bad in ["", "m", "-1", "1x", "1.5.5g", ".5g", "1.", "1ib", "1  m", "16384p", "99999999999999999999", "1é"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn decimal_sizes_are_powers_of_a_thousand() {
        for (text, bytes) in [("20m", 20_000_000), ("1.5k", 1500), ("7", 7), ("1gib", 1_000_000_000)] {
            assert_eq!(parse_decimal(text).ok(), Some(bytes), "{text}");
        }
        assert!(parse_decimal("1x").is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_whole_numbers_are_themselves(text in ".{0,30}", bytes: u64) {
            let _checked = parse(&text).is_ok();
            prop_assert_eq!(parse(&bytes.to_string()).ok(), Some(bytes));
        }
    }
}
