//! The columns of `kelp top`: options of ps(1) as docker passes them on, or
//! podman's descriptors.
//!
//! ```text
//!   (nothing), -ef     UID PID PPID C STIME TTY TIME CMD
//!   aux, -aux          USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND
//!   -o LIST, -eo LIST  columns of one's own: ps's names, pids of the host
//!   NAME...            podman's descriptors: pids of the container
//! ```
//!
//! ps itself is never run, so what is not here is refused by name.

use super::field;
use crate::error::{Failure, Result};

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The user in the container.
    User,
    /// The user id on the host.
    HostUser,
    /// Pid on the host.
    HostPid,
    /// Pid in the container.
    Pid,
    /// Pid of the parent on the host.
    HostParent,
    /// The same in the container.
    Parent,
    /// Process group on the host.
    HostGroup,
    /// Session on the host.
    HostSession,
    /// Share of one processor since it began, in whole percent, up to 99.
    Share,
    /// The same to a tenth of a percent.
    SharePrecise,
    /// Share of the machine's memory.
    MemoryShare,
    /// Address space in KiB.
    Virtual,
    /// Memory in KiB.
    Resident,
    /// Controlling terminal.
    Terminal,
    /// One letter.
    State,
    /// That and how it is scheduled.
    Status,
    /// When it began: the time, or the day.
    Start,
    /// When it began, whole.
    StartWhole,
    /// How long ago that was.
    Elapsed,
    /// The same in seconds.
    ElapsedSeconds,
    /// Time it had a processor for: `[DD-]HH:MM:SS`.
    Time,
    /// The same: `M:SS`.
    TimeShort,
    /// Nice value.
    Nice,
    /// Threads.
    Threads,
    /// The program's name.
    Name,
    /// Its command line.
    Command,
}

/// A column and its heading.
pub type Headed = (Column, &'static str);

/// Docker's `-ef`.
const FULL: &[Headed] = &[
    (Column::User, "UID"),
    (Column::HostPid, "PID"),
    (Column::HostParent, "PPID"),
    (Column::Share, "C"),
    (Column::Start, "STIME"),
    (Column::Terminal, "TTY"),
    (Column::Time, "TIME"),
    (Column::Command, "CMD"),
];

/// BSD's `aux`.
const BSD: &[Headed] = &[
    (Column::User, "USER"),
    (Column::HostPid, "PID"),
    (Column::SharePrecise, "%CPU"),
    (Column::MemoryShare, "%MEM"),
    (Column::Virtual, "VSZ"),
    (Column::Resident, "RSS"),
    (Column::Terminal, "TTY"),
    (Column::Status, "STAT"),
    (Column::Start, "START"),
    (Column::TimeShort, "TIME"),
    (Column::Command, "COMMAND"),
];

/// Names of `-o` (ps(1), "STANDARD FORMAT SPECIFIERS").
const NAMES: &[(&str, Headed)] = &[
    ("%cpu", (Column::SharePrecise, "%CPU")),
    ("%mem", (Column::MemoryShare, "%MEM")),
    ("args", (Column::Command, "COMMAND")),
    ("c", (Column::Share, "C")),
    ("cmd", (Column::Command, "CMD")),
    ("comm", (Column::Name, "COMMAND")),
    ("command", (Column::Command, "COMMAND")),
    ("cputime", (Column::Time, "TIME")),
    ("etime", (Column::Elapsed, "ELAPSED")),
    ("etimes", (Column::ElapsedSeconds, "ELAPSED")),
    ("euid", (Column::User, "EUID")),
    ("euser", (Column::User, "EUSER")),
    ("lstart", (Column::StartWhole, "STARTED")),
    ("ni", (Column::Nice, "NI")),
    ("nice", (Column::Nice, "NI")),
    ("nlwp", (Column::Threads, "NLWP")),
    ("pcpu", (Column::SharePrecise, "%CPU")),
    ("pgid", (Column::HostGroup, "PGID")),
    ("pgrp", (Column::HostGroup, "PGRP")),
    ("pid", (Column::HostPid, "PID")),
    ("pmem", (Column::MemoryShare, "%MEM")),
    ("ppid", (Column::HostParent, "PPID")),
    ("rss", (Column::Resident, "RSS")),
    ("s", (Column::State, "S")),
    ("sess", (Column::HostSession, "SESS")),
    ("sid", (Column::HostSession, "SID")),
    ("start", (Column::Start, "STARTED")),
    ("start_time", (Column::Start, "START")),
    ("stat", (Column::Status, "STAT")),
    ("state", (Column::State, "S")),
    ("stime", (Column::Start, "STIME")),
    ("thcount", (Column::Threads, "THCNT")),
    ("time", (Column::Time, "TIME")),
    ("tname", (Column::Terminal, "TTY")),
    ("tt", (Column::Terminal, "TT")),
    ("tty", (Column::Terminal, "TT")),
    ("uid", (Column::User, "UID")),
    ("uname", (Column::User, "USER")),
    ("user", (Column::User, "USER")),
    ("vsize", (Column::Virtual, "VSZ")),
    ("vsz", (Column::Virtual, "VSZ")),
];

/// Podman's descriptors (podman-top(1)), those that say the same here.
const DESCRIPTORS: &[(&str, Headed)] = &[
    ("args", (Column::Command, "COMMAND")),
    ("comm", (Column::Name, "COMMAND")),
    ("etime", (Column::Elapsed, "ELAPSED")),
    ("hpid", (Column::HostPid, "HPID")),
    ("huser", (Column::HostUser, "HUSER")),
    ("nice", (Column::Nice, "NI")),
    ("pcpu", (Column::SharePrecise, "%CPU")),
    ("pid", (Column::Pid, "PID")),
    ("ppid", (Column::Parent, "PPID")),
    ("rss", (Column::Resident, "RSS")),
    ("state", (Column::State, "STATE")),
    ("stime", (Column::Start, "STIME")),
    ("time", (Column::Time, "TIME")),
    ("tty", (Column::Terminal, "TTY")),
    ("user", (Column::User, "USER")),
    ("vsz", (Column::Virtual, "VSZ")),
];

/// Reads what was typed behind the container's name.
pub fn parse(words: &[String]) -> Result<Vec<Headed>> {
    let mut columns = None;
    let mut list: Vec<Headed> = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if let Some(names) = option_o(word)? {
            let names = match names {
                "" => words.next().ok_or_else(|| Failure::usage("-o needs a list of columns"))?,
                names => names,
            };
            for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
                list.push(find("column", name, NAMES)?);
            }
        } else if let Some(fixed) = fixed(word) {
            columns = fixed.or(columns);
        } else if word.starts_with('-') {
            return Err(refused(word));
        } else {
            for name in word.split([',', ' ']).filter(|name| !name.is_empty()) {
                list.push(find("descriptor", name, DESCRIPTORS)?);
            }
        }
    }
    Ok(match list.is_empty() {
        true => columns.unwrap_or(FULL).to_vec(),
        false => list,
    })
}

/// `-o`, `-oLIST` or `-eo`: what follows in the same word.
fn option_o(word: &str) -> Result<Option<&str>> {
    if word == "--format" {
        return Ok(Some(""));
    }
    if let Some(list) = word.strip_prefix("--format=") {
        return Ok(Some(list));
    }
    let Some((before, list)) = word.strip_prefix('-').and_then(|letters| letters.split_once('o')) else {
        return Ok(None);
    };
    match before.bytes().all(|letter| b"eA".contains(&letter)) {
        true => Ok(Some(list)),
        false => Err(refused(word)),
    }
}

/// A word that chooses columns, or one that changes nothing: all processes of
/// the container are shown anyway.
fn fixed(word: &str) -> Option<Option<&'static [Headed]>> {
    let letters = word.strip_prefix('-').unwrap_or(word);
    if letters.is_empty() {
        return None;
    }
    let only = |known: &[u8]| letters.bytes().all(|letter| known.contains(&letter));
    match letters {
        _ if only(b"aux") && letters.contains('u') => Some(Some(BSD)),
        _ if word.starts_with('-') && only(b"eAf") => Some(letters.contains('f').then_some(FULL)),
        "ax" => Some(None),
        _ => None,
    }
}

fn refused(word: &str) -> Failure {
    Failure::usage(format!("the ps option \"{word}\" is not known"))
        .hint("ps is not run: there are -ef, aux, -o LIST and podman's descriptors such as hpid")
}

fn find(what: &str, name: &str, known: &[(&'static str, Headed)]) -> Result<Headed> {
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, column)) => Ok(*column),
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Err(field::unknown(what, name, &names).hint(format!("there are {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headings(words: &str) -> Result<String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Ok(parse(&words)?.iter().map(|(_, heading)| *heading).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn reads_what_docker_and_podman_take() {
        for (words, expected) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("-A", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-o pid,cmd", "PID CMD"),
            ("-opid -o %cpu", "PID %CPU"),
            ("-eo pid,user,args", "PID USER COMMAND"),
            ("ax -o pid", "PID"),
            ("--format=pid,ni", "PID NI"),
            ("pid hpid user,args", "PID HPID USER COMMAND"),
        ] {
            assert_eq!(headings(words).unwrap(), expected, "{words}");
        }
        let pid = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!((pid(&["-o", "pid"])[0].0, pid(&["pid"])[0].0), (Column::HostPid, Column::Pid));
        assert_eq!(pid(&["-o", "pid comm"]).len(), 2);
    }

    #[test]
    fn refuses_the_rest_by_name() {
        for words in ["-L", "-efL", "-C sh", "--sort=pid", "-p 1", "-lo pid", "-"] {
            let said = headings(words).unwrap_err();
            assert!(said.to_string().contains(words.split(' ').next().unwrap()), "{words}: {said}");
        }
        assert!(headings("-o").unwrap_err().to_string().contains("-o needs"));
        assert_eq!(headings("-o pidd").unwrap_err().hints[0], "did you mean \"pid\"?");
        assert!(headings("-o pid=X").unwrap_err().to_string().contains("pid=X"));
        assert!(headings("seccomp").unwrap_err().to_string().contains("descriptor \"seccomp\""));
    }

    #[test]
    fn tables_are_in_order() {
        for table in [NAMES, DESCRIPTORS] {
            assert!(table.is_sorted_by_key(|(name, _)| *name));
        }
    }

    proptest! {
        #[test]
        fn never_panics(words in proptest::collection::vec("[-a-zA-Z%,= \u{e4}]{0,8}", 0..4)) {
            drop(parse(&words));
        }
    }
}
