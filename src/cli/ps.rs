//! `kelp ps`: the containers there are.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, FormatFlag, Listing};
use super::{Session, output, units};
use crate::container::record::{Record, Status, now_ns};
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp ps`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
}

/// One row for programs.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    command: &'a [String],
    created: i64,
    labels: &'a [(String, String)],
    #[serde(flatten)]
    status: &'a Status,
}

/// Prints the list.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let (containers, damaged) = lifecycle::list(&session.paths)?;
    damaged.iter().for_each(|failure| output::notice(&failure.sentence()));
    let records: Vec<&Record> = containers
        .iter()
        .map(|container| &container.record)
        .filter(|record| arguments.all || record.status.is_live())
        .collect();
    if arguments.quiet {
        records.iter().for_each(|record| output::line(id(record, arguments.no_trunc)));
        return Ok(0);
    }
    let fields = |record: &&Record| fields(record, arguments.no_trunc);
    LISTING.print(&arguments.format.format, &records, fields, |record| row(record))?;
    Ok(0)
}

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Labels", "LABELS"),
    ],
    shown: &["ID", "Image", "Command", "RunningFor", "Status", "Names"],
};

fn fields(record: &Record, whole: bool) -> Fields {
    let labels: Vec<String> = record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        ("ID", id(record, whole)),
        ("Names", record.name.clone()),
        ("Image", record.image.clone()),
        ("Command", shown_command(&record.command, whole)),
        ("CreatedAt", units::moment(record.created_ns / NANOSECONDS)),
        ("RunningFor", ago(record.created_ns)),
        ("State", record.status.word().to_owned()),
        ("Status", shown_status(record)),
        ("Labels", labels.join(",")),
    ]
}

fn id(record: &Record, whole: bool) -> String {
    if whole { record.id.clone() } else { record.short_id().to_owned() }
}

fn row(record: &Record) -> Row<'_> {
    Row {
        id: &record.id,
        name: &record.name,
        image: &record.image,
        command: &record.command,
        created: record.created_ns / NANOSECONDS,
        labels: &record.labels,
        status: &record.status,
    }
}

fn shown_command(command: &[String], whole: bool) -> String {
    const WIDTH: usize = 20;
    let text = command.join(" ");
    let shown: String = text.chars().filter(|character| !character.is_control()).collect();
    if whole || shown.chars().count() <= WIDTH {
        format!("\"{shown}\"")
    } else {
        format!("\"{}…\"", shown.chars().take(WIDTH - 1).collect::<String>())
    }
}

fn shown_status(record: &Record) -> String {
    match &record.status {
        Status::Created => "Created".to_owned(),
        Status::Running { started_ns, paused, .. } => {
            let paused = if *paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", since(*started_ns))
        }
        Status::Restarting { code, finished_ns, .. } => format!("Restarting ({code}) {}", ago(*finished_ns)),
        Status::Exited { code, finished_ns, .. } => format!("Exited ({code}) {}", ago(*finished_ns)),
    }
}

/// A second, in nanoseconds.
const NANOSECONDS: i64 = 1_000_000_000;

fn since(moment_ns: i64) -> String {
    units::duration((now_ns() - moment_ns) / NANOSECONDS)
}

fn ago(moment_ns: i64) -> String {
    format!("{} ago", since(moment_ns))
}
