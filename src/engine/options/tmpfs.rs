//! Memory file systems: `--tmpfs TARGET[:OPTIONS]`.
//!
//! Without options to the contrary no programs, devices or set-user-ID: Docker's
//! defaults.

use super::field::{mode, once, required, target, unknown};
use super::mount::{Mount, TMPFS_MODE, What};
use super::size;
use crate::error::{Failure, Result};
use crate::sandbox::spec::Attributes;

const WORDS: &[&str] = &["size", "mode", "uid", "gid", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"];

#[derive(Default)]
struct Options {
    size_bytes: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    read_only: Option<bool>,
    no_exec: Option<bool>,
    no_suid: Option<bool>,
    no_dev: Option<bool>,
}

/// Reads one `--tmpfs`.
pub fn parse(text: &str) -> Result<Mount> {
    read(text).map_err(|failure| failure.doing(format!("use --tmpfs \"{text}\"")))
}

fn read(text: &str) -> Result<Mount> {
    let (at, words) = text.split_once(':').unwrap_or((text, ""));
    let mut options = Options::default();
    for word in words.split(',').filter(|_| !words.is_empty()) {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        take(&mut options, key, value)?;
    }
    let owner = match (options.uid, options.gid) {
        (None, None) => None,
        (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
    };
    Ok(Mount {
        target: target(at)?,
        what: What::Tmpfs { size_bytes: options.size_bytes, mode: options.mode.unwrap_or(TMPFS_MODE), owner },
        attributes: Attributes {
            read_only: options.read_only.unwrap_or(false),
            no_suid: options.no_suid.unwrap_or(true),
            no_dev: options.no_dev.unwrap_or(true),
            no_exec: options.no_exec.unwrap_or(true),
        },
        relabel: false,
    })
}

fn take(options: &mut Options, key: &str, value: Option<&str>) -> Result<()> {
    match (key, value) {
        ("size", _) => {
            let text = required(key, value)?;
            if text.ends_with('%') {
                return Err(Failure::usage("a size in percent is not supported").hint("give it in bytes: size=64m"));
            }
            once(&mut options.size_bytes, size::parse(text)?, key)
        }
        ("mode", _) => once(&mut options.mode, mode(required(key, value)?)?, key),
        ("uid", _) => once(&mut options.uid, id(key, required(key, value)?)?, key),
        ("gid", _) => once(&mut options.gid, id(key, required(key, value)?)?, key),
        ("ro" | "rw", None) => once(&mut options.read_only, key == "ro", key),
        ("exec" | "noexec", None) => once(&mut options.no_exec, key == "noexec", key),
        ("suid" | "nosuid", None) => once(&mut options.no_suid, key == "nosuid", key),
        ("dev" | "nodev", None) => once(&mut options.no_dev, key == "nodev", key),
        ("nr_inodes" | "nr_blocks" | "mpol" | "huge", _) => {
            Err(Failure::usage(format!("option \"{key}\" is not supported")))
        }
        ("", None) => Err(Failure::usage("an option is empty")),
        (_, Some(_)) if WORDS.contains(&key) => Err(Failure::usage(format!("{key} has no value"))),
        _ => Err(unknown("option", key, WORDS)),
    }
}

fn id(key: &str, text: &str) -> Result<u32> {
    match text.parse() {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Failure::usage(format!("{key} \"{text}\" is not an id"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKED: &str = " nosuid nodev noexec";

    /// `expected` is target, size, mode, owner and attributes.
    fn check(text: &str, expected: Result<&str, &str>) {
        let result = parse(text).map_err(|failure| failure.to_string()).map(|mount| {
            let What::Tmpfs { size_bytes, mode, owner } = mount.what else { panic!("not a tmpfs") };
            let size = size_bytes.map(|bytes| format!(" {bytes}")).unwrap_or_default();
            let owner = owner.map(|(uid, gid)| format!(" {uid}:{gid}")).unwrap_or_default();
            let Attributes { read_only, no_suid, no_dev, no_exec } = mount.attributes;
            let flags = [(read_only, " ro"), (no_suid, " nosuid"), (no_dev, " nodev"), (no_exec, " noexec")];
            let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            format!("{}{size} {mode:o}{owner}{flags}", mount.target)
        });
        let expected = expected.map(str::to_owned).map_err(|cause| format!("use --tmpfs \"{text}\": {cause}"));
        assert_eq!(result, expected);
    }

    #[test]
    fn reads_options() {
        check("/run", Ok(&format!("/run 1777{LOCKED}")));
        check("/run:size=64m,mode=755,uid=5", Ok(&format!("/run 67108864 755 5:0{LOCKED}")));
        check("/run:rw,exec,suid,dev", Ok("/run 1777"));
        check("/run:ro,noexec", Ok("/run 1777 ro nosuid nodev noexec"));
    }

    #[test]
    fn refuses_by_name() {
        check("run", Err("the path in the container must be absolute, not \"run\""));
        check("/run:sze=1", Err("unknown option \"sze\""));
        check("/run:size=50%", Err("a size in percent is not supported"));
        check("/run:ro=1", Err("ro has no value"));
        check("/run:exec,noexec", Err("\"noexec\" repeats or contradicts what was said before it"));
        check("/run:uid=-1", Err("uid \"-1\" is not an id"));
        check("/run:size", Err("size needs a value"));
        check("/run:huge=always", Err("option \"huge\" is not supported"));
        check("/run:ro,", Err("an option is empty"));
    }
}
