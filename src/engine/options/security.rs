//! `--security-opt`: what the user takes from, or adds to, the confinement.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::field::{boolean, once, path, target, unknown};
use crate::error::{Failure, Result};
use crate::sandbox::spec::ContainerPath;

/// All uses of the option together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// No execve(2) gains rights.
    pub no_new_privileges: bool,
    /// Which system calls may be made.
    pub seccomp: Seccomp,
    /// More paths to hide.
    pub mask: Vec<ContainerPath>,
    /// Paths that are hidden or read-only by default and shall not be.
    pub unmask: Unmask,
    /// The container may make cgroups in its own.
    #[serde(default)]
    pub writable_cgroups: bool,
}

/// Where the seccomp profile comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// kelp's own.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A file in Docker's JSON; as typed.
    File(PathBuf),
}

/// Which of the default masks are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmask {
    /// None: all masks stay.
    #[default]
    None,
    /// These.
    Paths(Vec<ContainerPath>),
    /// All.
    All,
}

const KEYS: &[&str] =
    &["no-new-privileges", "seccomp", "mask", "unmask", "systempaths", "writable-cgroups", "apparmor", "label"];

/// Reads all uses of the option.
pub fn parse(texts: &[String]) -> Result<Security> {
    let mut security = Security::default();
    let (mut no_new_privileges, mut seccomp, mut writable_cgroups) = (None, None, None);
    for text in texts {
        // Docker still takes a colon for the first equals sign.
        let end = text.find(['=', ':']);
        let key = end.and_then(|end| text.get(..end)).unwrap_or(text);
        let value = end.and_then(|end| text.get(end + 1..));
        let taken = match key {
            "no-new-privileges" => boolean(key, value).and_then(|on| once(&mut no_new_privileges, on, key)),
            "writable-cgroups" => boolean(key, value).and_then(|on| once(&mut writable_cgroups, on, key)),
            "seccomp" => profile(value.unwrap_or("")).and_then(|profile| once(&mut seccomp, profile, key)),
            _ => take(&mut security, key, value.unwrap_or("")),
        };
        taken.map_err(|failure| failure.doing(format!("use --security-opt \"{text}\"")))?;
    }
    security.no_new_privileges = no_new_privileges.unwrap_or(false);
    security.seccomp = seccomp.unwrap_or_default();
    security.writable_cgroups = writable_cgroups.unwrap_or(false);
    Ok(security)
}

fn take(security: &mut Security, key: &str, value: &str) -> Result<()> {
    match (key, value) {
        ("mask" | "unmask", "") => Err(Failure::usage(format!("{key} needs a path"))),
        ("mask", _) => {
            security.mask.extend(paths(value)?);
            Ok(())
        }
        ("unmask", "ALL" | "all") | ("systempaths", "unconfined") => {
            security.unmask = Unmask::All;
            Ok(())
        }
        ("unmask", _) => {
            let more = paths(value)?;
            match &mut security.unmask {
                Unmask::All => {}
                Unmask::Paths(known) => known.extend(more),
                none @ Unmask::None => *none = Unmask::Paths(more),
            }
            Ok(())
        }
        ("systempaths", _) => Err(unknown("value of systempaths", value, &["unconfined"])),
        // Both say what is so anyway, and stand in many a script.
        ("apparmor", "unconfined") | ("label", "disable") => Ok(()),
        ("apparmor", _) => Err(Failure::usage("only root may put a process under an AppArmor profile")),
        ("label", _) => Err(Failure::usage("kelp does not set SELinux labels")),
        _ => Err(unknown("key", key, KEYS)),
    }
}

fn profile(value: &str) -> Result<Seccomp> {
    match value {
        "unconfined" => Ok(Seccomp::Unconfined),
        "builtin" | "default" => Ok(Seccomp::Default),
        "" => Err(Failure::usage("seccomp needs a file, or \"unconfined\"")),
        file => path(file).map(|()| Seccomp::File(PathBuf::from(file))),
    }
}

fn paths(value: &str) -> Result<Vec<ContainerPath>> {
    if value.contains(['*', '?', '[']) {
        return Err(Failure::usage("patterns are not supported, only paths"));
    }
    value.split(':').map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses divided by spaces.
    fn check(texts: &str, expected: Result<Security, &str>) {
        let texts: Vec<String> = texts.split_whitespace().map(str::to_owned).collect();
        assert_eq!(parse(&texts).map_err(|failure| failure.to_string()), expected.map_err(str::to_owned));
    }

    fn some(paths: &[&str]) -> Vec<ContainerPath> {
        paths.iter().map(ContainerPath::new).collect()
    }

    #[test]
    fn reads_what_docker_and_podman_take() {
        let none = Security::default();
        check("", Ok(none.clone()));
        for text in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            check(text, Ok(Security { no_new_privileges: true, ..none.clone() }));
        }
        check("no-new-privileges:false apparmor=unconfined label=disable", Ok(none.clone()));
        check("seccomp=unconfined", Ok(Security { seccomp: Seccomp::Unconfined, ..none.clone() }));
        check("seccomp:./p=1.json", Ok(Security { seccomp: Seccomp::File("./p=1.json".into()), ..none.clone() }));
        check("mask=/a:/b mask=/c", Ok(Security { mask: some(&["/a", "/b", "/c"]), ..none.clone() }));
        check("unmask=/a:/b", Ok(Security { unmask: Unmask::Paths(some(&["/a", "/b"])), ..none.clone() }));
        check("unmask=ALL unmask=/a", Ok(Security { unmask: Unmask::All, ..none.clone() }));
        check("unmask=/a systempaths=unconfined", Ok(Security { unmask: Unmask::All, ..none }));
    }

    #[test]
    fn refuses_by_name() {
        for (text, cause) in [
            ("apparmor=mine", "only root may put a process under an AppArmor profile"),
            ("label=type:x", "kelp does not set SELinux labels"),
            ("secomp=x", "unknown key \"secomp\""),
            ("seccomp=", "seccomp needs a file, or \"unconfined\""),
            ("mask=", "mask needs a path"),
            ("mask=a", "the path in the container must be absolute, not \"a\""),
            ("unmask=/proc/*", "patterns are not supported, only paths"),
            ("no-new-privileges=yes", "no-new-privileges must be true or false, not \"yes\""),
            ("systempaths=x", "unknown value of systempaths \"x\""),
        ] {
            check(text, Err(&format!("use --security-opt \"{text}\": {cause}")));
        }
    }
}
