//! `--detach-keys`: what takes a user away from a container's terminal.

use crate::container::attach::DetachKeys;
use crate::error::{Failure, Result};

/// docker's and podman's default.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Reads keys separated by commas: a character, or `ctrl-` and a letter or one
/// of `@ [ \\ ] ^ _`. An empty text turns detaching off.
pub fn parse(text: &str) -> Result<DetachKeys> {
    if text.is_empty() {
        return Ok(DetachKeys(Vec::new()));
    }
    let key = |word: &str| {
        let unknown = || Failure::usage(format!("--detach-keys: no key \"{word}\"")).hint("ctrl-p,ctrl-q, for example");
        match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                // As a terminal sends it: the lower five bits.
                [byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Ok(byte & 0x1f),
                _ => Err(unknown()),
            },
            (None, [byte]) if byte.is_ascii_graphic() || *byte == b' ' => Ok(*byte),
            _ => Err(unknown()),
        }
    };
    text.split(',').map(key).collect::<Result<_>>().map(DetachKeys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys() {
        for (text, expected) in [
            (DEFAULT, Some(vec![16, 17])),
            ("ctrl-a,d", Some(vec![1, b'd'])),
            ("ctrl-@,ctrl-[,ctrl-_", Some(vec![0, 27, 31])),
            ("", Some(vec![])),
            ("ctrl-", None),
            ("ctrl-P", None),
            ("ab", None),
            ("a,,b", None),
        ] {
            assert_eq!(parse(text).ok().map(|keys| keys.0), expected, "{text}");
        }
        assert_eq!(parse(DEFAULT).unwrap(), DetachKeys::default());
    }
}
