//! `--cgroups` and `--cgroup-parent`: whether a container has a cgroup of its
//! own, and what that is made in. The words are podman's.

use std::path::PathBuf;

use super::field::{path, unknown};
use crate::error::{Failure, Result};
use crate::sandbox::cgroup::placement::{Cgroups, Parent};

/// Reads `--cgroups`.
pub fn parse(text: &str) -> Result<Cgroups> {
    let refused = |cause: &str| Err(Failure::usage(cause));
    let read = match text {
        "enabled" => Ok(Cgroups::Enabled),
        "disabled" => Ok(Cgroups::Disabled),
        "no-conmon" => refused("kelp's own process is never in the container's cgroup: leave the option out"),
        "split" => refused(
            "kelp makes the container's cgroup in its own wherever that is delegated and marked so: \
                            leave the option out, or say enabled",
        ),
        _ => Err(unknown("mode", text, &["enabled", "disabled"])),
    };
    read.map_err(|failure| failure.doing(format!("use --cgroups \"{text}\"")))
}

/// Reads `--cgroup-parent`.
pub fn parse_parent(text: &str) -> Result<Parent> {
    read_parent(text).map_err(|failure| failure.doing(format!("use --cgroup-parent \"{text}\"")))
}

fn read_parent(text: &str) -> Result<Parent> {
    path(text)?;
    if text.ends_with(".slice") && !text.contains('/') {
        // systemd.unit(5): what names of units are made of.
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\');
        return match text.chars().all(is_legal) && text.len() < 256 && text != ".slice" {
            true => Ok(Parent::Slice(text.to_owned())),
            false => Err(Failure::usage("it is no name of a slice")),
        };
    }
    let parent = PathBuf::from(text);
    if !parent.is_absolute() || parent.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Failure::usage("it must be an absolute path, without \"..\", or NAME.slice")
            .hint("/proc/self/cgroup names the cgroup that you are in"));
    }
    Ok(Parent::Path(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_podmans() {
        assert_eq!(parse("enabled").unwrap(), Cgroups::Enabled);
        assert_eq!(parse("disabled").unwrap(), Cgroups::Disabled);
        for text in ["", "no-conmon", "split", "Enabled", "no"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_parent_is_a_slice_or_an_absolute_path() {
        assert_eq!(parse_parent("a-b.slice").unwrap(), Parent::Slice("a-b.slice".to_owned()));
        for text in ["/", "/a.slice/b", "/sys/fs/cgroup/x"] {
            assert_eq!(parse_parent(text).unwrap(), Parent::Path(text.into()), "{text}");
        }
        for text in ["", "a", "a/b.slice", "../x", "/a/../b", ".slice", "a b.slice", "\u{e9}.slice"] {
            assert!(parse_parent(text).is_err(), "{text}");
        }
    }
}
