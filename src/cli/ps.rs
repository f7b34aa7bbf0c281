//! `kelp ps`: the containers there are.

use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use super::{Session, units};
use crate::container::record::{Record, Status, now_s};
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
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
        .filter(|record| arguments.all || matches!(record.status, Status::Running { .. }))
        .collect();
    let id = |record: &Record| if arguments.no_trunc { record.id.clone() } else { record.short_id().to_owned() };
    if arguments.quiet {
        records.iter().for_each(|record| output::line(id(record)));
    } else if arguments.format == Format::Json {
        output::json(&records.iter().map(|record| row(record)).collect::<Vec<_>>())?;
    } else {
        let rows = records
            .iter()
            .map(|record| {
                let command = shown_command(&record.command, arguments.no_trunc);
                let created = format!("{} ago", units::duration(now_s() - record.created_s));
                vec![id(record), record.image.clone(), command, created, shown_status(record), record.name.clone()]
            })
            .collect();
        output::table(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"], rows);
    }
    Ok(0)
}

fn row(record: &Record) -> Row<'_> {
    Row {
        id: &record.id,
        name: &record.name,
        image: &record.image,
        command: &record.command,
        created: record.created_s,
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
        Status::Running { started_s, .. } => format!("Up {}", units::duration(now_s() - started_s)),
        Status::Exited { code, finished_s } => format!("Exited ({code}) {} ago", units::duration(now_s() - finished_s)),
    }
}
