//! Reads seccomp profiles in Docker's JSON, as moby, containers-common and
//! their users write them.
//!
//! As in Docker, a call whose name is unknown is skipped (profiles name the
//! calls of all architectures), the `includes` and `excludes` of an entry are
//! decided here, and several conditions on the same argument are alternatives
//! (runc#2735). Unlike Docker, nothing else that is not understood is passed
//! over. Calls newer than the newest that the profile names get ENOSYS, unless
//! it allows by default: its author cannot have meant to refuse them (runc#2750).
//!
//! Architecture lists are checked but change nothing: the filter is for the
//! native architecture, and calls of others get ENOSYS ([`super::default`]).

use std::borrow::Cow;

use serde::Deserialize;

use super::profile::{Action, Architecture, Comparison, Condition, Profile, Rule, When};
use super::table::Call;
use crate::error::{Context, Failure, Result};
use crate::limits::USER_FILE_BYTES_MAX;
use crate::sandbox::capabilities;

/// What `includes` and `excludes` are compared with, beside capabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) architecture: Architecture,
    pub(super) kernel: (u32, u32),
}

/// Version and patch level of the running kernel.
pub(super) fn running_kernel() -> Result<(u32, u32)> {
    let name = nix::sys::utsname::uname().map_err(|errno| Failure::host(format!("uname: {}", errno.desc())))?;
    let release = name.release().to_string_lossy();
    version(&release).ok_or_else(|| Failure::host(format!("the kernel calls its version \"{release}\"")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureEntry>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureEntry {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Selector>,
    #[serde(default)]
    excludes: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];

const OPERATORS: &[&str] =
    &["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// Largest errno that a filter can return (MAX_ERRNO of linux/err.h).
const ERRNO_MAX: u32 = 4095;

/// Reads a profile, keeping what counts on this machine with these capabilities.
pub(super) fn read(json: &[u8], machine: Machine, capabilities: u64) -> Result<Profile> {
    if json.len() as u64 > USER_FILE_BYTES_MAX {
        return Err(Failure::user(format!("it is larger than {USER_FILE_BYTES_MAX} bytes")).doing(DOING));
    }
    let document: Document =
        serde_json::from_slice(json).map_err(|error| Failure::user(error.to_string()).doing(DOING))?;
    convert(&document, machine, capabilities).map_err(|failure| failure.doing(DOING))
}

const DOING: &str = "read seccomp profile";

fn convert(document: &Document, machine: Machine, capabilities: u64) -> Result<Profile> {
    check_architectures(document)?;
    check_flags(document)?;
    let errno = errno(document.default_errno_ret, document.default_errno.as_deref());
    let default = errno.and_then(|errno| action(&document.default_action, errno)).doing(|| "default action")?;
    let mut newest = 0;
    let mut rules = Vec::new();
    for (index, entry) in document.syscalls.iter().flatten().enumerate() {
        let doing = || match entry.names.first() {
            Some(name) => format!("entry {index} of \"syscalls\" (\"{name}\" …)"),
            None => format!("entry {index} of \"syscalls\" (\"{}\")", entry.name),
        };
        let (calls, entry_rules) = read_entry(entry).doing(doing)?;
        newest = calls.iter().filter_map(|call| call.number(machine.architecture)).fold(newest, u16::max);
        if counts(entry, machine, capabilities).doing(doing)? {
            rules.extend(entry_rules);
        }
    }
    let nosys = Action::Errno(libc::ENOSYS as u16);
    let open = matches!(default, Action::Allow | Action::Log);
    Ok(Profile {
        default,
        unknown: if open { default } else { nosys },
        foreign: nosys,
        newest: if open { u16::MAX } else { newest },
        rules: Cow::Owned(rules),
    })
}

/// The calls that an entry names and its rules.
fn read_entry(entry: &Entry) -> Result<(Vec<Call>, Vec<Rule>)> {
    let names: &[String] = match (entry.name.is_empty(), entry.names.is_empty()) {
        (false, false) => return Err(Failure::user("it has both \"name\" and \"names\"")),
        (true, _) => &entry.names,
        (false, true) => std::slice::from_ref(&entry.name),
    };
    let calls: Vec<Call> = names.iter().filter_map(|name| Call::named(name)).collect();
    let action = action(&entry.action, errno(entry.errno_ret, entry.errno.as_deref())?)?;
    let conditions = entry.args.iter().flatten().map(condition).collect::<Result<Vec<_>>>()?;
    let rule = |conditions: Vec<Condition>| Rule {
        calls: Cow::Owned(calls.clone()),
        conditions: Cow::Owned(conditions),
        action,
        when: When::ALWAYS,
    };
    let mut arguments: Vec<u8> = conditions.iter().map(|condition| condition.argument).collect();
    arguments.sort_unstable();
    let repeated = !arguments.is_sorted_by(|a, b| a < b);
    let rules = if repeated {
        conditions.iter().map(|condition| rule(vec![*condition])).collect()
    } else {
        vec![rule(conditions)]
    };
    Ok((calls, rules))
}

/// Whether an entry's `includes` and `excludes` let it count.
fn counts(entry: &Entry, machine: Machine, held: u64) -> Result<bool> {
    let none = Selector::default();
    let (includes, excludes) = (entry.includes.as_ref().unwrap_or(&none), entry.excludes.as_ref().unwrap_or(&none));
    let caps = |selector: &Selector| {
        let names = selector.caps.iter().flatten();
        names.map(|name| known_capability(name)).collect::<Result<Vec<u64>>>()
    };
    let is_this = |arch: &String| arch == machine.architecture.go_name();
    let at_least = |text: &String| match version(text) {
        Some(wanted) => Ok(machine.kernel >= wanted),
        None => Err(Failure::user(format!("\"minKernel\" is \"{text}\", not a version like 4.8"))),
    };
    let included = caps(includes)?.iter().all(|cap| *cap != 0 && held & cap == *cap)
        && includes.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(is_this))
        && includes.min_kernel.as_ref().map_or(Ok(true), at_least)?;
    let excluded = caps(excludes)?.iter().any(|cap| held & cap != 0)
        || excludes.arches.iter().flatten().any(is_this)
        || excludes.min_kernel.as_ref().map_or(Ok(false), at_least)?;
    Ok(included && !excluded)
}

/// A capability of the profile; one of a newer kernel is one that nobody holds (0).
fn known_capability(name: &str) -> Result<u64> {
    match name.strip_prefix("CAP_") {
        Some("ALL") | None => Err(Failure::user(format!("\"{name}\" is not a capability, such as \"CAP_SYS_ADMIN\""))),
        Some(_) => Ok(capabilities::parse(name).unwrap_or(0)),
    }
}

fn action(name: &str, errno: u16) -> Result<Action> {
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_NOTIFY" => {
            return Err(Failure::user(
                "action \"SCMP_ACT_NOTIFY\" needs an agent that answers for each call, which kelp does not start",
            ));
        }
        _ => {
            let failure = Failure::user(format!("unknown action \"{name}\""));
            return Err(failure.did_you_mean(name, ACTIONS.iter().copied()));
        }
    })
}

/// Docker's default is EPERM. containers-common has a name beside the number.
fn errno(number: Option<u32>, name: Option<&str>) -> Result<u16> {
    let number = match (number, name) {
        (Some(number), _) => number,
        (None, None | Some("" | "EPERM")) => libc::EPERM as u32,
        (None, Some("ENOSYS")) => libc::ENOSYS as u32,
        (None, Some("EINVAL")) => libc::EINVAL as u32,
        (None, Some("EACCES")) => libc::EACCES as u32,
        (None, Some(name)) => {
            return Err(Failure::user(format!("unknown errno \"{name}\"")).hint("give its number as \"errnoRet\""));
        }
    };
    if number > ERRNO_MAX {
        return Err(Failure::user(format!("errno {number} is larger than {ERRNO_MAX}")));
    }
    Ok(number as u16)
}

fn condition(argument: &Argument) -> Result<Condition> {
    let Argument { index, value, value_two, .. } = *argument;
    let comparison = match argument.op.as_str() {
        "SCMP_CMP_NE" => Comparison::Ne(value),
        "SCMP_CMP_LT" => Comparison::Lt(value),
        "SCMP_CMP_LE" => Comparison::Le(value),
        "SCMP_CMP_EQ" => Comparison::Eq(value),
        "SCMP_CMP_GE" => Comparison::Ge(value),
        "SCMP_CMP_GT" => Comparison::Gt(value),
        "SCMP_CMP_MASKED_EQ" => Comparison::MaskedEq { mask: value, value: value_two },
        other => {
            let failure = Failure::user(format!("unknown operator \"{other}\""));
            return Err(failure.did_you_mean(other, OPERATORS.iter().copied()));
        }
    };
    match u8::try_from(index) {
        Ok(argument @ 0..=5) => Ok(Condition { argument, comparison }),
        _ => Err(Failure::user(format!("argument {index} is not one of a system call's, 0 to 5"))),
    }
}

fn check_architectures(document: &Document) -> Result<()> {
    let lists = (document.architectures.as_deref().unwrap_or(&[]), document.arch_map.as_deref().unwrap_or(&[]));
    let (plain, mapped) = lists;
    if !plain.is_empty() && !mapped.is_empty() {
        return Err(Failure::user("it has both \"architectures\" and \"archMap\""));
    }
    let below = mapped.iter().flat_map(|entry| entry.sub_architectures.iter().flatten());
    let all = plain.iter().chain(mapped.iter().map(|entry| &entry.architecture)).chain(below);
    match all.into_iter().find(|name| !name.starts_with("SCMP_ARCH_")) {
        Some(name) => Err(Failure::user(format!("unknown architecture \"{name}\""))),
        None => Ok(()),
    }
}

fn check_flags(document: &Document) -> Result<()> {
    if document.listener_path.as_deref().is_some_and(|path| !path.is_empty()) {
        return Err(Failure::user("\"listenerPath\" needs action \"SCMP_ACT_NOTIFY\", which kelp does not do"));
    }
    for flag in document.flags.iter().flatten() {
        match flag.as_str() {
            // One thread at that time; and since Linux 5.16 speculation is not mitigated by default.
            "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => {}
            _ => return Err(Failure::user(format!("flag \"{flag}\" is not supported"))),
        }
    }
    Ok(())
}

/// `4.8`, and what may follow in a kernel's release: `6.18.44-x`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.splitn(3, '.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor.get(..digits)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::capabilities::bit;

    const MACHINE: Machine = Machine { architecture: Architecture::X86_64, kernel: (6, 1) };

    /// `entry` is the one entry of a profile that denies by default; the
    /// result is how many rules it makes, or the failure.
    fn check(entry: &str, capabilities: u64, expected: Result<usize, &str>) {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{entry}]}}"#);
        let result = read(json.as_bytes(), MACHINE, capabilities);
        let result = result.map(|profile| profile.rules.len()).map_err(|failure| failure.to_string());
        let expected = expected.map_err(|cause| format!("read seccomp profile: entry 0 of \"syscalls\" {cause}"));
        assert_eq!(result, expected, "{entry}");
    }

    #[test]
    fn reads_entries() {
        check(r#"{"names":["read","nosuchcall"],"action":"SCMP_ACT_ALLOW"}"#, 0, Ok(1));
        check(r#"{"name":"read","action":"SCMP_ACT_ALLOW","args":null,"comment":"x"}"#, 0, Ok(1));
        let caps = r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}}"#;
        check(caps, 0, Ok(0));
        check(caps, bit(39), Ok(1));
        let caps = r#"{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_BPF"]}}"#;
        check(caps, 0, Ok(1));
        check(caps, bit(39), Ok(0));
        check(r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}"#, 0, Ok(0));
        check(r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64"]}}"#, 0, Ok(1));
        check(r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}}"#, 0, Ok(0));
        check(r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}}"#, 0, Ok(1));
        check(r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_FROM_THE_FUTURE"]}}"#, 0, Ok(0));
    }

    #[test]
    fn repeated_arguments_are_alternatives() {
        let args = r#""args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]"#;
        check(&format!(r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW",{args}}}"#), 0, Ok(2));
    }

    #[test]
    fn names_what_it_does_not_understand() {
        let name = "(\"bpf\" …)";
        let notify = "action \"SCMP_ACT_NOTIFY\" needs an agent that answers for each call, which kelp does not start";
        for (rest, cause) in [
            (r#""action":"SCMP_ACT_ALOW""#, r#"unknown action "SCMP_ACT_ALOW""#),
            (r#""action":"SCMP_ACT_NOTIFY""#, notify),
            (r#""action":"SCMP_ACT_ERRNO","errnoRet":70000"#, "errno 70000 is larger than 4095"),
            (
                r#""action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]"#,
                "argument 6 is not one of a system call's, 0 to 5",
            ),
            (r#""action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"EQ"}]"#, r#"unknown operator "EQ""#),
            (r#""action":"SCMP_ACT_ALLOW","name":"x""#, r#"it has both "name" and "names""#),
        ] {
            check(&format!(r#"{{"names":["bpf"],{rest}}}"#), 0, Err(&format!("{name}: {cause}")));
        }
    }

    #[test]
    fn refuses_what_is_not_a_profile() {
        for json in ["", "[]", "{}", r#"{"defaultAction":"ALLOW"}"#, "\u{0}"] {
            assert!(read(json.as_bytes(), MACHINE, 0).is_err(), "{json}");
        }
    }

    #[test]
    fn calls_newer_than_the_profile_are_unknown() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["mseal","fsopen"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}}]}"#;
        assert_eq!(read(json.as_bytes(), MACHINE, 0).unwrap().newest, 462);
    }
}
