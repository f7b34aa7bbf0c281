//! `kelp top`: the processes of a container, as ps(1) shows them.

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::{Session, output};
use crate::container::processes;
use crate::container::procfs::Stat;
use crate::engine::options::columns::{self, Column, Headed};
use crate::engine::top::{self, Listing, Process};
use crate::error::Result;

/// Arguments of `kelp top`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Columns: -ef (the default), aux, -o LIST, or podman's descriptors such as hpid
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Prints a line for each process.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let columns = columns::parse(&arguments.options)?;
    let listing = top::list(&session.paths, &arguments.container)?;
    let headings: Vec<&str> = columns.iter().map(|(_, heading)| *heading).collect();
    output::table(&headings, rows(&listing, &columns, &ZonedDateTime::now()));
    Ok(0)
}

fn rows(listing: &Listing, columns: &[Headed], now: &ZonedDateTime) -> Vec<Vec<String>> {
    let row = |process| columns.iter().map(|(column, _)| cell(*column, process, listing, now)).collect();
    listing.processes.iter().map(row).collect()
}

fn cell(column: Column, process: &Process, listing: &Listing, now: &ZonedDateTime) -> String {
    let (stat, clock) = (&process.stat, &listing.clock);
    match column {
        Column::User => user(process.uid),
        Column::HostUser => process.host_uid.to_string(),
        Column::HostPid => stat.pid.to_string(),
        Column::Pid => process.pid.to_string(),
        Column::HostParent => stat.parent.to_string(),
        Column::Parent => process.parent.to_string(),
        Column::HostGroup => stat.group.to_string(),
        Column::HostSession => stat.session.to_string(),
        Column::Share => format!("{:.0}", clock.cpu_percent(stat).floor().min(99.0)),
        Column::SharePrecise => format!("{:.1}", clock.cpu_percent(stat)),
        Column::MemoryShare => {
            let share = resident_kib(stat) as f64 * 1024.0 / listing.memory_bytes.max(1) as f64;
            format!("{:.1}", share * 100.0)
        }
        Column::Virtual => (stat.virtual_bytes / 1024).to_string(),
        Column::Resident => resident_kib(stat).to_string(),
        Column::Terminal => terminal(stat.terminal),
        Column::State => stat.state.to_string(),
        Column::Status => status(stat),
        Column::Start => start(&began(clock.age_s(stat), now), now),
        Column::StartWhole => began(clock.age_s(stat), now).strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Column::Elapsed => elapsed(clock.age_s(stat) as u64),
        Column::ElapsedSeconds => (clock.age_s(stat) as u64).to_string(),
        Column::Time => time(clock.cpu_s(stat)),
        Column::TimeShort => format!("{}:{:02}", clock.cpu_s(stat) / 60, clock.cpu_s(stat) % 60),
        Column::Nice => stat.nice.to_string(),
        Column::Threads => stat.threads.to_string(),
        Column::Name => harmless(&stat.name),
        Column::Command => command(process),
    }
}

/// As ps has it on a system without the container's accounts, whose files are
/// not to be trusted with an answer.
fn user(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { uid.to_string() }
}

fn resident_kib(stat: &Stat) -> u64 {
    stat.resident_pages.saturating_mul(processes::page_bytes()) / 1024
}

/// A terminal by its device number (proc_pid_stat(5), `tty_nr`): the
/// container's pseudo terminals, by its own numbers.
fn terminal(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// ps(1), "PROCESS STATE CODES".
fn status(stat: &Stat) -> String {
    let mut codes = stat.state.to_string();
    let marks = [
        (stat.nice < 0, '<'),
        (stat.nice > 0, 'N'),
        (stat.session == stat.pid, 's'),
        (stat.threads > 1, 'l'),
        (stat.foreground == stat.group, '+'),
    ];
    codes.extend(marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark));
    codes
}

fn began(age_s: f64, now: &ZonedDateTime) -> ZonedDateTime {
    let ago = jiff::SignedDuration::try_from_secs_f64(age_s).unwrap_or_default();
    now.checked_sub(ago).unwrap_or_else(|_| Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC))
}

/// The time on the same day, else the day, else the year.
fn start(began: &ZonedDateTime, now: &ZonedDateTime) -> String {
    let form = match () {
        () if began.date() == now.date() => "%H:%M",
        () if began.year() == now.year() => "%b%d",
        () => "%Y",
    };
    began.strftime(form).to_string()
}

/// `[DD-]HH:MM:SS`.
fn time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days:02}-") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(seconds: u64) -> String {
    if seconds >= 3600 { time(seconds) } else { format!("{:02}:{:02}", seconds / 60, seconds % 60) }
}

fn command(process: &Process) -> String {
    let words = String::from_utf8_lossy(&process.command_line);
    let words = words.trim_end_matches('\0').replace('\0', " ");
    let name = harmless(&process.stat.name);
    match process.stat.state {
        'Z' => format!("[{name}] <defunct>"),
        _ if words.is_empty() => format!("[{name}]"),
        _ => harmless(&words),
    }
}

/// A program's own words in one line of a table: what could move the cursor,
/// begin a line or turn the writing around becomes a question mark, as with ps.
fn harmless(text: &str) -> String {
    let is_invisible = |character: char| {
        character.is_control()
            // Widths and directions of writing, separators of lines, marks of byte order.
            || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|character| if is_invisible(character) { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::top::Clock;
    use proptest::prelude::*;

    fn listing(line: &str, command_line: &[u8]) -> Listing {
        let process = Process {
            stat: Stat::parse(line.as_bytes()).unwrap(),
            uid: 33,
            host_uid: 100_032,
            pid: 7,
            parent: 1,
            command_line: command_line.to_vec(),
        };
        Listing { processes: vec![process], clock: Clock { ticks: 100, uptime_s: 9000.0 }, memory_bytes: 1 << 30 }
    }

    /// Began at 899000 ticks: 10 seconds before now; 7.5 s of processor time.
    const LINE: &str = "4242 (sh) S 4200 4242 4200 34816 4242 0 0 0 0 0 700 50 0 0 25 5 9 0 899000 10485760 2560";

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let now: ZonedDateTime = "2026-03-04T12:00:05+00:00[UTC]".parse().unwrap();
        let rows = rows(&listing(LINE, b"/bin/sh\0-c\0sleep 1\0"), &columns::parse(&words).unwrap(), &now);
        assert_eq!(rows[0].join("|"), expected);
    }

    #[test]
    fn cells_read_as_those_of_ps() {
        check("-ef", "33|4242|4200|75|11:59|pts/0|00:00:07|/bin/sh -c sleep 1");
        check("aux", "33|4242|75.0|1.0|10240|10240|pts/0|SNl+|11:59|0:07|/bin/sh -c sleep 1");
        check("-o etime,etimes,comm,nlwp,pgid,sid", "00:10|10|sh|9|4242|4200");
        check("-o lstart", "Wed Mar  4 11:59:55 2026");
        check("pid ppid hpid huser user", "7|1|4242|100032|33");
    }

    #[test]
    fn times_grow_by_units() {
        for (seconds, long, short) in
            [(0, "00:00:00", "00:00"), (3599, "00:59:59", "59:59"), (93_784, "01-02:03:04", "01-02:03:04")]
        {
            assert_eq!((time(seconds).as_str(), elapsed(seconds).as_str()), (long, short));
        }
        let at = |text: &str| text.parse::<ZonedDateTime>().unwrap();
        let now = at("2026-03-04T12:00:05+00:00[UTC]");
        for (began, shown) in
            [("2026-03-04T00:00:00", "00:00"), ("2026-03-03T23:00:00", "Mar03"), ("2025-12-31T23:00:00", "2025")]
        {
            assert_eq!(start(&at(&format!("{began}+00:00[UTC]")), &now), shown);
        }
    }

    #[test]
    fn terminals_have_the_containers_numbers() {
        for (device, name) in [(0, "?"), (34816, "pts/0"), (35072, "pts/256"), (1_083_393, "pts/257"), (1025, "tty1")] {
            assert_eq!(terminal(device), name, "{device}");
        }
    }

    #[test]
    fn names_are_made_harmless() {
        let shown = |line: &str, words: &[u8]| command(&listing(line, words).processes[0]);
        assert_eq!(shown(LINE, b"a\x1b[2J\nroot 1\r\0\0"), "a?[2J?root 1?");
        assert_eq!(shown(LINE, "x\u{202e}y\u{9b}z".as_bytes()), "x?y?z");
        assert_eq!(shown(LINE, b""), "[sh]");
        assert_eq!(shown(LINE, &[b'x'; 4096]).len(), 4096);
        assert_eq!(shown(&LINE.replace("(sh) S", "(\u{7}) Z"), b"gone"), "[?] <defunct>");
    }

    proptest! {
        #[test]
        fn a_process_is_one_line(words: Vec<u8>, name in "[^\0]{0,15}") {
            let line = LINE.replacen("(sh)", &format!("({name})"), 1);
            let shown = command(&listing(&line, &words).processes[0]);
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
        }
    }
}
