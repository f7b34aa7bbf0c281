//! Capability names, sets and the arithmetic of `--cap-add` and `--cap-drop`.
//!
//! A set is a `u64`, bit n for capability n of capabilities(7). Which of them
//! the kernel lets us have is not asked here.

use crate::error::{Failure, Result};

/// Every capability, in the order of their numbers (linux/capability.h).
const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// All capabilities that have a name.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// Docker's default set: what images are tested with. CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub const DEFAULT: u64 = bit(0)
    | bit(1)
    | bit(3)
    | bit(4)
    | bit(5)
    | bit(6)
    | bit(7)
    | bit(8)
    | bit(10)
    | bit(13)
    | bit(18)
    | bit(27)
    | bit(29)
    | bit(31);

/// The set of one capability.
pub const fn bit(capability: u32) -> u64 {
    1 << capability
}

/// The set that a name stands for: one capability, or `ALL`. Upper or lower
/// case, with or without `CAP_`.
pub fn parse(name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper == "CAP_ALL" {
        return Ok(ALL);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    match (0..).zip(NAMES).find(|(_, known)| **known == full) {
        Some((number, _)) => Ok(bit(number)),
        None => {
            Err(Failure::usage(format!("unknown capability \"{name}\"")).did_you_mean(&full, NAMES.iter().copied()))
        }
    }
}

/// `base` with `add` and without `drop`, as Docker combines them: `ALL` among
/// the added wins over `base` (and drops are taken from it), `ALL` among the
/// dropped leaves only the added; else a capability in both lists is added.
pub fn select(base: u64, add: &[String], drop: &[String]) -> Result<u64> {
    let is_all = |name: &String| matches!(parse(name), Ok(ALL));
    let union = |names: &[String]| names.iter().try_fold(0, |set, name| Ok::<_, Failure>(set | parse(name)?));
    let (added, dropped) = (union(add)?, union(drop)?);
    if add.iter().any(is_all) {
        let single: Vec<String> = drop.iter().filter(|name| !is_all(name)).cloned().collect();
        return Ok(ALL & !union(&single)?);
    }
    Ok(base & !dropped | added)
}

/// The names in a set, in the order of their numbers.
pub fn names(set: u64) -> Vec<&'static str> {
    (0..).zip(NAMES).filter(|(number, _)| set & bit(*number) != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Space-separated lists; `expected` as names without `CAP_`.
    fn check(add: &str, drop: &str, expected: Result<&str, &str>) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let result = select(bit(0) | bit(5), &words(add), &words(drop));
        let result = result.map(|set| names(set).join(" ").replace("CAP_", "")).map_err(|e| e.to_string());
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned), "+{add} -{drop}");
    }

    #[test]
    fn adds_and_drops_as_docker_does() {
        check("", "", Ok("CHOWN KILL"));
        check("sys_ptrace CAP_NET_ADMIN", "cap_kill", Ok("CHOWN NET_ADMIN SYS_PTRACE"));
        check("NET_RAW", "all", Ok("NET_RAW"));
        check("KILL", "KILL", Ok("CHOWN KILL"));
        check("", "ALL", Ok(""));
        check("SYS_ADMN", "", Err("unknown capability \"SYS_ADMN\""));
        check("", "é", Err("unknown capability \"é\""));
    }

    #[test]
    fn all_is_everything_but_the_dropped() {
        let all = |drop: &[&str]| {
            select(0, &["ALL".to_owned()], &drop.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(all(&["ALL"]).unwrap(), (1 << 41) - 1);
        assert_eq!(all(&["MKNOD"]).unwrap(), ALL & !bit(27));
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(DEFAULT, 0xa804_25fb);
    }

    #[test]
    fn suggests_the_nearest_name() {
        assert_eq!(parse("SYS_ADMN").unwrap_err().hints, ["did you mean \"CAP_SYS_ADMIN\"?"]);
    }
}
