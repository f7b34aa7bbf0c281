//! Single fields of options that consist of several: `KEY=VALUE,WORD,…`.

use std::path::Path;

use crate::error::{Failure, Result};
use crate::limits::ENTRY_PATH_BYTES_MAX;
use crate::sandbox::spec::ContainerPath;

/// A boolean as Go's strconv.ParseBool reads it; a bare key is true.
pub(super) fn boolean(key: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Failure::usage(format!("{key} must be true or false, not \"{other}\""))),
    }
}

/// Fills a slot that may be filled once.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, word: &str) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("\"{word}\" repeats or contradicts what was said before it"))),
    }
}

/// The value of a key that must have one.
pub(super) fn required<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| Failure::usage(format!("{key} needs a value")))
}

/// A word that is none of `known`.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> Failure {
    Failure::usage(format!("unknown {what} \"{word}\"")).did_you_mean(word, known.iter().copied())
}

/// A place inside the container: absolute, and not the root itself.
pub(super) fn target(text: &str) -> Result<ContainerPath> {
    path(text)?;
    if !text.starts_with('/') {
        return Err(Failure::usage(format!("the path in the container must be absolute, not \"{text}\"")));
    }
    let target = ContainerPath::new(text);
    if target.as_path() == Path::new("/") {
        return Err(Failure::usage("the path in the container cannot be \"/\""));
    }
    Ok(target)
}

/// What the kernel takes as a path at all.
pub(super) fn path(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Failure::usage("a path is empty"));
    }
    if text.contains('\0') {
        return Err(Failure::usage("a path has a zero byte in it"));
    }
    if text.len() >= ENTRY_PATH_BYTES_MAX {
        return Err(Failure::usage(format!("a path is longer than {} bytes", ENTRY_PATH_BYTES_MAX - 1)));
    }
    Ok(())
}

/// An octal mode, e.g. 1777.
pub(super) fn mode(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o7777) => Ok(mode),
        _ => Err(Failure::usage(format!("mode \"{text}\" is not octal, such as 1777"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let result = target(text).map(|path| path.to_string()).map_err(|failure| failure.to_string());
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn targets_are_absolute_and_below_the_root() {
        check("/a//b/./c/../d", Ok("/a/b/d"));
        check("/../../etc", Ok("/etc"));
        check("a", Err("the path in the container must be absolute, not \"a\""));
        check("/", Err("the path in the container cannot be \"/\""));
        check("/a/..", Err("the path in the container cannot be \"/\""));
        check("/a\0b", Err("a path has a zero byte in it"));
        check(&"/a".repeat(3000), Err("a path is longer than 4095 bytes"));
    }
}
