//! Patterns of image names, as `--filter reference=` has them: Go's
//! path.Match, which docker uses.
//!
//! ```text
//!   *        any characters but "/"        [a-z]  [^a-z]   one of a class
//!   ?        one character but "/"         \c              the character itself
//! ```

use super::reference::{LOCAL_REGISTRY, Reference};
use crate::error::{Failure, Result};

/// A pattern or a plain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A name without wildcards: all its tags, unless it has a tag or digest.
    Name {
        /// What it may stand for.
        candidates: Vec<Reference>,
        /// The tag or digest was typed, not filled in.
        is_exact: bool,
    },
    /// With wildcards.
    Wildcards(String),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains(['*', '?', '[', '\\']) {
            // A class that does not end is told now and not at the first name.
            matches(text, "")
                .ok_or_else(|| Failure::usage(format!("pattern \"{text}\" has a class without its end")))?;
            return Ok(Self::Wildcards(text.to_owned()));
        }
        let last = text.rsplit('/').next().unwrap_or(text);
        let candidates = Reference::local_candidates(text)?;
        Ok(Self::Name { candidates, is_exact: last.contains([':', '@']) })
    }

    /// Whether it stands for `reference`, or for the same repository at
    /// `source`, the digest it was pulled as.
    pub fn accepts(&self, reference: &Reference, source: Option<&super::Digest>) -> bool {
        match self {
            Self::Wildcards(pattern) => {
                let familiar = [reference.familiar(), reference.familiar_name()];
                let canonical = [reference.to_string(), reference.name()];
                let own = format!("{LOCAL_REGISTRY}/");
                let all = familiar.iter().chain(&canonical);
                all.flat_map(|name| [Some(name.as_str()), name.strip_prefix(&own)])
                    .flatten()
                    .any(|name| matches(pattern, name) == Some(true))
            }
            Self::Name { candidates, is_exact } => {
                candidates.iter().any(|candidate| match (candidate.digest(), is_exact) {
                    (Some(digest), _) => {
                        candidate.name() == reference.name()
                            && (reference.digest() == Some(digest) || source == Some(digest))
                    }
                    (None, true) => candidate == reference,
                    (None, false) => candidate.name() == reference.name(),
                })
            }
        }
    }
}

/// Go's path.Match; `None` for a malformed pattern. Never more than
/// pattern times text steps: a later `*` makes earlier ones final.
fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern = units(pattern)?;
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut place) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while place < text.len() || at < pattern.len() {
        match (pattern.get(at), text.get(place)) {
            (Some(Unit::Any), _) => {
                back = Some((at, place));
                at += 1;
            }
            (Some(unit), Some(&character)) if unit.accepts(character) => {
                at += 1;
                place += 1;
            }
            _ => match back {
                // The last star takes one more, unless that is a slash.
                Some((star, taken)) if text.get(taken).is_some_and(|&next| next != '/') => {
                    back = Some((star, taken + 1));
                    at = star + 1;
                    place = taken + 1;
                }
                _ => return Some(false),
            },
        }
    }
    Some(true)
}

/// One part of a pattern.
enum Unit {
    /// `*`.
    Any,
    /// `?`.
    One,
    /// The character itself.
    Same(char),
    /// `[…]`: ranges, and whether those are meant or all others.
    Class(Vec<(char, char)>, bool),
}

impl Unit {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => character != '/',
            Self::Same(own) => *own == character,
            Self::Class(ranges, meant) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&character)) == *meant,
        }
    }
}

fn units(pattern: &str) -> Option<Vec<Unit>> {
    let mut characters = pattern.chars().peekable();
    let mut units = Vec::new();
    while let Some(character) = characters.next() {
        units.push(match character {
            '*' => Unit::Any,
            '?' => Unit::One,
            '\\' => Unit::Same(characters.next()?),
            '[' => {
                let is_negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                let mut next = || match characters.next()? {
                    '\\' => Some((characters.next()?, true)),
                    other => Some((other, false)),
                };
                let mut ahead = next()?;
                loop {
                    let (from, is_escaped) = ahead;
                    if from == ']' && !is_escaped && !ranges.is_empty() {
                        break;
                    }
                    let mut to = from;
                    ahead = next()?;
                    if ahead == ('-', false) {
                        to = next()?.0;
                        ahead = next()?;
                    }
                    ranges.push((from, to));
                }
                Unit::Class(ranges, !is_negated)
            }
            other => Unit::Same(other),
        });
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::super::Digest;
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let reference = Reference::parse(name).unwrap();
        let accepted = Pattern::parse(pattern).unwrap().accepts(&reference, Some(&Digest::of(b"m")));
        assert_eq!(accepted, expected, "{pattern} {name}");
    }

    #[test]
    fn names_are_found_by_name_tag_and_digest() {
        check("alpine", "alpine:3", true);
        check("alpine:3", "alpine:3", true);
        check("alpine:latest", "alpine:3", false);
        check("web", "localhost/web:1", true);
        check("web", "docker.io/team/web", false);
        check("localhost:5000/web", "localhost:5000/web:2", true);
        check(&format!("alpine@{}", Digest::of(b"m")), "alpine:3", true);
        check(&format!("alpine@{}", Digest::of(b"x")), "alpine:3", false);
        assert!(Pattern::parse("Alpine").is_err());
    }

    #[test]
    fn wildcards_are_those_of_docker() {
        check("al*", "alpine:3", true);
        check("*", "localhost/web:1", true);
        check("*", "quay.io/team/web:1", false);
        check("*/*/web", "quay.io/team/web:1", true);
        check("quay.io/*/web:[0-9]", "quay.io/team/web:1", true);
        check("quay.io/*/web:[^0-9]", "quay.io/team/web:1", false);
        check("alpine:?.2?", "alpine:3.20", true);
        check("docker.io/library/al*", "alpine", true);
        check("al\\pine:*", "alpine:3", true);
        for pattern in ["[", "[]", "a[b-", "x\\", "[a", "*[^"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn matches_as_gos_path_match() {
        // From the table of Go's own test (path/match_test.go).
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^e-g]", "abc", true),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
        ] {
            assert_eq!(matches(pattern, text), Some(expected), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_nor_takes_long(pattern in "[*?\\[\\]\\\\a^/-]{0,40}", text in "[a/]{0,200}") {
            let said = matches(&pattern, &text);
            prop_assert_eq!(said.is_none(), units(&pattern).is_none());
        }

        #[test]
        fn a_text_matches_itself(text in "[a-z/:.]{0,40}") {
            prop_assert_eq!(matches(&text, &text), Some(true));
        }
    }
}
