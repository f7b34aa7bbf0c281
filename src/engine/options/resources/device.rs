//! `DEVICE:VALUE` of the options about single disks.

use std::path::{Path, PathBuf};

use super::number;
use crate::error::{Context, Failure, Result};
use crate::sandbox::cgroup::limits::Bound;

/// Reads all values of one option; a disk comes once.
pub(super) fn each<T>(flag: &str, texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<(PathBuf, T)>> {
    let mut all: Vec<(PathBuf, T)> = Vec::new();
    for text in texts {
        let doing = || format!("use {flag} \"{text}\"");
        let (path, value) = split(text).doing(doing)?;
        if all.iter().any(|(other, _)| other == path) {
            return Err(Failure::usage(format!("two values for {}", path.display()))).doing(doing);
        }
        all.push((path.to_owned(), parse(value).doing(doing)?));
    }
    Ok(all)
}

fn split(text: &str) -> Result<(&Path, &str)> {
    match text.rsplit_once(':') {
        Some((path, value)) if path.starts_with("/dev/") => Ok((Path::new(path), value)),
        Some((path, _)) => Err(Failure::usage(format!("bad format for device path: \"{path}\" is not below /dev"))),
        None => Err(Failure::usage("bad format: it must be DEVICE:VALUE, such as /dev/sda:1mb")),
    }
}

/// Docker's 10..1000.
pub(super) fn weight(text: &str) -> Result<u64> {
    number::within_or_zero(text, 10, 1000)
}

/// Bytes a second.
pub(super) fn bytes(text: &str) -> Result<Bound> {
    number::bytes(text)
}

/// Operations a second.
pub(super) fn operations(text: &str) -> Result<Bound> {
    number::count(text)
}
