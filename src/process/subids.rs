//! Which ids this user may map: /etc/subuid and /etc/subgid, or what
//! getsubids(1) knows from NSS, and the helpers newuidmap(1), newgidmap(1).
//!
//! The answer is a rung (DESIGN 2.8): a full map, or a single id with the
//! reason why it is no more. The files are read here, never written.

use std::path::PathBuf;
use std::process::Command;

use super::idmap::{Extent, IdMap};

/// What this user can map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// The user and a range of subordinate ids, set by the two helpers.
    Full(Full),
    /// The user alone, and why.
    Single {
        /// The cause, for a notice.
        cause: String,
        /// What an admin does about it.
        remedy: String,
    },
}

/// A full map and the helpers that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// 0 is the user, 1 and up the subordinate ids.
    pub map: IdMap,
    /// Path of newuidmap(1).
    pub newuidmap: PathBuf,
    /// Path of newgidmap(1).
    pub newgidmap: PathBuf,
}

/// The map that `rung` gives `uid` and `gid`.
impl Rung {
    /// The base namespace's id map.
    pub fn map(&self, uid: u32, gid: u32) -> IdMap {
        match self {
            Self::Full(full) => full.map.clone(),
            Self::Single { .. } => IdMap::single(uid, gid),
        }
    }
}

/// Finds the highest rung for this user.
pub fn find(uid: u32, gid: u32) -> Rung {
    let user = user_name(uid);
    let ranges = |file: &str, group: bool| {
        let from_file = read_ranges(&std::fs::read_to_string(file).unwrap_or_default(), &user, uid);
        if from_file.is_empty() { ask_getsubids(&user, group) } else { from_file }
    };
    let uids = ranges("/etc/subuid", false);
    let gids = ranges("/etc/subgid", true);
    let lacking: Vec<_> = [(&uids, "/etc/subuid", "--add-subuids"), (&gids, "/etc/subgid", "--add-subgids")]
        .into_iter()
        .filter(|(found, _, _)| found.is_empty())
        .map(|(_, file, flag)| (file, flag))
        .collect();
    if !lacking.is_empty() {
        return no_range(&user, uid, &lacking);
    }
    match (find_program("newuidmap"), find_program("newgidmap")) {
        (Some(newuidmap), Some(newgidmap)) => {
            let map = IdMap { uids: stack(uid, &uids), gids: stack(gid, &gids) };
            Rung::Full(Full { map, newuidmap, newgidmap })
        }
        _ => Rung::Single {
            cause: "newuidmap and newgidmap are not installed".to_owned(),
            remedy: "an admin installs the package uidmap (Debian) or shadow-utils".to_owned(),
        },
    }
}

/// The range proposed to the admin is free in every file that lacks one: users
/// with the same range could write each other's files.
fn no_range(user: &str, uid: u32, lacking: &[(&str, &str)]) -> Rung {
    let text = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let first = lacking.iter().map(|(file, _)| first_free(&text(file))).max().unwrap_or(FIRST);
    let range = format!("{first}-{}", first.saturating_add(COUNT - 1));
    let files: Vec<&str> = lacking.iter().map(|(file, _)| *file).collect();
    let flags: Vec<String> = lacking.iter().map(|(_, flag)| format!("{flag} {range}")).collect();
    Rung::Single {
        cause: format!("no range for \"{user}\" (uid {uid}) in {}, and none from getsubids", files.join(" and ")),
        remedy: format!("an admin runs: usermod {} {user}", flags.join(" ")),
    }
}

/// First id and length of a range that useradd(8) gives (SUB_UID_MIN,
/// SUB_UID_COUNT of login.defs(5)).
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;

/// The first id above all ranges of a subuid(5) file.
fn first_free(text: &str) -> u32 {
    let end = |line: &str| {
        let mut fields = line.trim().split(':').skip(1);
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        first.checked_add(count)
    };
    text.lines().filter_map(end).fold(FIRST, u32::max)
}

/// The user as 0, then the ranges one after the other from 1 on.
fn stack(own: u32, ranges: &[(u32, u32)]) -> Vec<Extent> {
    let mut extents = vec![Extent { inside: 0, outside: own, count: 1 }];
    let mut inside = 1_u32;
    for &(outside, count) in ranges {
        let count = count.min(u32::MAX - inside).min(u32::MAX - outside);
        if count > 0 {
            extents.push(Extent { inside, outside, count });
            inside += count;
        }
    }
    extents
}

/// The ranges of `user` (by name or by number) in a subuid(5) file.
fn read_ranges(text: &str, user: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == user || owner == number).then_some(range)
    };
    text.lines().filter_map(line).filter(|&(_, count): &(u32, u32)| count > 0).collect()
}

/// Ranges that are not in a file but in LDAP or FreeIPA. getsubids(1) prints
/// `0: alice 100000 65536`.
fn ask_getsubids(user: &str, group: bool) -> Vec<(u32, u32)> {
    let Some(program) = find_program("getsubids") else { return Vec::new() };
    let mut command = Command::new(program);
    if group {
        command.arg("-g");
    }
    let Ok(output) = command.arg(user).output() else { return Vec::new() };
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect()
}

/// A program in PATH, or where distributions put it: PATH may be empty in a
/// batch job.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The user's name from /etc/passwd (never getpwnam(3): a static binary cannot
/// load NSS modules), else USER where it is plausible, else the number.
fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    named.or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty())).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let file = "root:1:1\nalice:100000:65536\n# note\n1001:300000:10\nalice:bad:1\nalice:5:0\n";
        assert_eq!(read_ranges(file, "alice", 1001), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(read_ranges(file, "bob", 7), []);
    }

    #[test]
    fn the_proposed_range_is_nobodys() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("a:1000:5\nb:165536:65536\nbad\nc:100000:65536\n"), 231_072);
        let lacking = [("/nonexistent", "--add-subuids"), ("/nonexistent", "--add-subgids")];
        let Rung::Single { remedy, .. } = no_range("alice", 7, &lacking) else { panic!("a rung too high") };
        let expected = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 alice";
        assert!(remedy.ends_with(expected), "{remedy}");
    }

    #[test]
    fn ranges_are_stacked_above_the_user() {
        let extents = stack(1001, &[(100_000, 10), (300_000, 5)]);
        assert_eq!(IdMap::lines(&extents), "0 1001 1\n1 100000 10\n11 300000 5\n");
    }
}
