//! Which namespaces are shared: `--pid`, `--ipc`, `--uts`, `--cgroupns` and
//! `--userns`. The network is [`super::network`]'s.

use serde::{Deserialize, Serialize};

use super::field::unknown;
use super::name;
use crate::error::{Failure, Result};

/// The choice for one namespace other than the user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// One of its own.
    Private,
    /// The host's.
    Host,
    /// One of its own with nothing in it: no /dev/shm.
    None,
    /// That of another container, by name or id.
    Container(String),
}

impl Choice {
    /// As docker's API has it.
    pub fn docker_word(&self) -> String {
        match self {
            Self::Private => "private".to_owned(),
            Self::Host => "host".to_owned(),
            Self::None => "none".to_owned(),
            Self::Container(name) => format!("container:{name}"),
        }
    }
}

/// The choice for the user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserChoice {
    /// Root inside is the caller, other ids are of the caller's subordinate range.
    Default,
    /// The caller is this user inside; `None` is the caller's own id.
    KeepId {
        /// User id inside.
        uid: Option<u32>,
        /// Group id inside.
        gid: Option<u32>,
    },
    /// The caller is nobody inside: only subordinate ids are mapped.
    NoMap,
}

/// Reads `--pid`.
pub fn pid(text: &str) -> Result<Choice> {
    one_of("pid", text, &["private", "host", "container:NAME"])
}

/// Reads `--ipc`; `none` is a private one without /dev/shm.
pub fn ipc(text: &str) -> Result<Choice> {
    // Any private IPC namespace can be joined here.
    let text = if text == "shareable" { "private" } else { text };
    one_of("ipc", text, &["private", "host", "none", "container:NAME"])
}

/// Reads `--uts`.
pub fn uts(text: &str) -> Result<Choice> {
    one_of("uts", text, &["private", "host", "container:NAME"])
}

/// Reads `--cgroupns`.
pub fn cgroup(text: &str) -> Result<Choice> {
    one_of("cgroupns", text, &["private", "host", "container:NAME"])
}

/// Reads `--userns`.
pub fn user(text: &str) -> Result<UserChoice> {
    read_user(text).map_err(|failure| failure.doing(format!("use --userns \"{text}\"")))
}

fn one_of(option: &str, text: &str, known: &[&str]) -> Result<Choice> {
    read(text, known).map_err(|failure| failure.doing(format!("use --{option} \"{text}\"")))
}

fn read(text: &str, known: &[&str]) -> Result<Choice> {
    if let Some(other) = text.strip_prefix("container:") {
        return Ok(Choice::Container(name::parse(other)?));
    }
    match text {
        // An empty value is Docker's default.
        "private" | "" => Ok(Choice::Private),
        "host" => Ok(Choice::Host),
        "none" if known.contains(&"none") => Ok(Choice::None),
        "container" => Err(Failure::usage("it needs a container: container:NAME")),
        _ if text.starts_with("ns:") => Err(Failure::usage("namespaces by path are not supported")),
        _ => {
            let failure = unknown("namespace", text, known);
            Err(failure.hint(format!("known are {}", known.join(", "))))
        }
    }
}

fn read_user(text: &str) -> Result<UserChoice> {
    let (kind, words) = text.split_once(':').map_or((text, None), |(kind, words)| (kind, Some(words)));
    let numbers = match kind {
        "keep-id" => numbers(words, &["uid", "gid"])?,
        "auto" | "container" => Vec::new(),
        _ if words.is_some() => return Err(unknown("namespace", text, KINDS)),
        _ => Vec::new(),
    };
    let number = |key: &str| numbers.iter().find(|(known, _)| *known == key).map(|(_, number)| *number);
    match kind {
        // Podman's "host" for a user without root: the map in which root is the user.
        "" | "default" | "private" | "host" => Ok(UserChoice::Default),
        "keep-id" => Ok(UserChoice::KeepId { uid: number("uid"), gid: number("gid") }),
        "nomap" => Ok(UserChoice::NoMap),
        "auto" => Err(Failure::usage("ids of its own for each container would mean a copy of each image for each")),
        "container" => Err(Failure::usage("another container's user namespace cannot be joined")),
        _ => {
            let failure = unknown("namespace", text, KINDS);
            Err(failure.hint(format!("known are {}", KINDS.join(", "))))
        }
    }
}

const KINDS: &[&str] = &["host", "keep-id[:uid=UID,gid=GID]", "nomap"];

/// `KEY=NUMBER,…` of these keys, each at most once.
fn numbers<'a>(words: Option<&'a str>, keys: &[&str]) -> Result<Vec<(&'a str, u32)>> {
    let mut numbers: Vec<(&str, u32)> = Vec::new();
    for word in words.iter().flat_map(|words| words.split(',')) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if !keys.contains(&key) {
            return Err(unknown("key", key, keys));
        }
        if numbers.iter().any(|(known, _)| *known == key) {
            return Err(Failure::usage(format!("\"{key}\" is there twice")));
        }
        match value.parse() {
            Ok(number) if number != u32::MAX => numbers.push((key, number)),
            _ => return Err(Failure::usage(format!("{key} \"{value}\" is not an id or count"))),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(result: Result<T>, expected: Result<&str, &str>) {
        let result = result.map(|choice| format!("{choice:?}")).map_err(|failure| failure.to_string());
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn reads_choices() {
        check(pid(""), Ok("Private"));
        check(pid("host"), Ok("Host"));
        check(pid("container:web"), Ok("Container(\"web\")"));
        check(ipc("shareable"), Ok("Private"));
        check(ipc("none"), Ok("None"));
        check(cgroup("private"), Ok("Private"));
        check(uts("host"), Ok("Host"));
    }

    #[test]
    fn refuses_what_a_kind_does_not_know() {
        check(pid("none"), Err("use --pid \"none\": unknown namespace \"none\""));
        check(pid("ns:/proc/1/ns/pid"), Err("use --pid \"ns:/proc/1/ns/pid\": namespaces by path are not supported"));
        check(uts("container"), Err("use --uts \"container\": it needs a container: container:NAME"));
        assert!(pid("container:../x").is_err());
    }

    #[test]
    fn reads_user_namespaces() {
        check(user(""), Ok("Default"));
        check(user("keep-id"), Ok("KeepId { uid: None, gid: None }"));
        check(user("keep-id:uid=200,gid=210"), Ok("KeepId { uid: Some(200), gid: Some(210) }"));
        check(user("nomap"), Ok("NoMap"));
        let copies =
            "use --userns \"auto\": ids of its own for each container would mean a copy of each image for each";
        check(user("auto"), Err(copies));
        check(
            user("container:web"),
            Err("use --userns \"container:web\": another container's user namespace cannot be joined"),
        );
        check(user("keep-id:uid=x"), Err("use --userns \"keep-id:uid=x\": uid \"x\" is not an id or count"));
        check(user("keep-id:size=1"), Err("use --userns \"keep-id:size=1\": unknown key \"size\""));
        check(user("keep-id:"), Err("use --userns \"keep-id:\": unknown key \"\""));
        check(user("nomap:x"), Err("use --userns \"nomap:x\": unknown namespace \"nomap:x\""));
        check(user("host"), Ok("Default"));
    }
}
