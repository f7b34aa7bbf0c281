//! Digests: the names of content.
//!
//! A [`Digest`] is parsed once and is a value from then on; nothing that came
//! from outside as a string is ever part of a path (CVE-2024-3727: an
//! unvalidated digest was a path traversal). Only sha256 is spoken; sha512,
//! which the image spec registers too, is refused by name.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use super::quote::quoted;
use crate::error::Failure;

/// A sha256 digest. Prints as `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another algorithm, possibly a legal one.
    #[error("digest {0} is not a sha256 digest; other algorithms are not supported")]
    Algorithm(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("digest {0} is not \"sha256:\" and 64 lower-case hexadecimal digits")]
    Malformed(String),
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Self::user(error.to_string())
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without the algorithm: the name of a blob's file.
    pub fn hex(&self) -> String {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
    }

    /// The first twelve digits: how people are shown an id.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }

    /// A digest from its 64 digits alone.
    pub fn from_hex(hex: &str) -> Result<Self, ParseError> {
        let malformed = || ParseError::Malformed(quoted(hex));
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(malformed());
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().as_chunks::<2>().0) {
            let [high, low] = pair.map(nibble);
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(malformed)?;
        }
        Ok(Self(bytes))
    }
}

/// The value of a lower-case hexadecimal digit. Upper case is refused: two
/// spellings of one digest would be two names of one blob (image spec,
/// descriptor.md "Digests": the encoded portion is lower case).
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex).map_err(|_| ParseError::Malformed(quoted(text))),
            Some((algorithm, _)) if !algorithm.is_empty() => Err(ParseError::Algorithm(quoted(text))),
            _ => Err(ParseError::Malformed(quoted(text))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest in the making; counts the bytes too.
#[derive(Clone, Default)]
pub struct Hasher {
    state: sha2::Sha256,
    bytes: u64,
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes were added.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes a stream on and hashes it on the way.
pub struct Verifier<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Verifier<R> {
    /// Hashes what is read through it.
    pub fn new(reader: R) -> Self {
        Self { reader, hasher: Hasher::new() }
    }

    /// Reads on to the end, at most `max` bytes in all, and returns the digest
    /// and the length of the whole stream.
    pub fn finish(mut self, max: u64) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; 64 << 10];
        while self.hasher.bytes() <= max {
            if self.read(&mut buffer)? == 0 {
                let bytes = self.hasher.bytes();
                return Ok((self.hasher.finish(), bytes));
            }
        }
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max} bytes")))
    }
}

impl<R: Read> Read for Verifier<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn knows_the_empty_text() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_what_could_be_a_path_or_a_second_name() {
        for text in [
            "",
            ":",
            "sha256:",
            "sha256:../../etc/passwd",
            &EMPTY.to_uppercase(),
            &EMPTY.replace('e', "E"),
            &format!("{EMPTY}0"),
            EMPTY.trim_start_matches("sha256:"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let sha512 = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().unwrap_err();
        assert!(matches!(sha512, ParseError::Algorithm(_)));
    }

    #[test]
    fn hashes_streams() {
        let of = |bytes: &'static [u8]| Verifier::new(bytes);
        assert_eq!(of(b"abc").finish(3).unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!(of(b"abc").finish(4).unwrap(), (Digest::of(b"abc"), 3));
        assert!(of(b"abc").finish(2).is_err());
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(bytes in any::<[u8; 32]>()) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn never_panics(text in ".{0,100}") {
            drop(text.parse::<Digest>());
        }
    }
}
