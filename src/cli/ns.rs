//! `kelp ns`: the namespaces of every running container, as lsns(8) would.

use clap::Args;
use serde::Serialize;

use super::Session;
use super::output::{self, Format};
use crate::container::namespaces::{self, Entry};
use crate::container::record::Status;
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp ns`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only these containers, by name or id
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One container for programs.
#[derive(Serialize)]
struct Row {
    id: String,
    name: String,
    pid: i32,
    command: Vec<String>,
    namespaces: Vec<Entry>,
}

/// Prints the list.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let containers = if arguments.containers.is_empty() {
        lifecycle::list(&session.paths)?.0
    } else {
        arguments.containers.iter().map(|name| lifecycle::find(&session.paths, name)).collect::<Result<Vec<_>>>()?
    };
    let rows: Vec<Row> = containers
        .into_iter()
        .filter_map(|container| {
            let namespaces = namespaces::of(&container.record);
            let Status::Running { payload, .. } = container.record.status else { return None };
            let record = container.record;
            Some(Row { id: record.id, name: record.name, pid: payload.pid, command: record.command, namespaces })
        })
        .collect();
    if arguments.format == Format::Json {
        output::json(&rows)?;
    } else {
        output::table(&["NS", "TYPE", "PID", "CONTAINER", "SHARED", "COMMAND"], lines(&rows));
    }
    Ok(0)
}

fn lines(rows: &[Row]) -> Vec<Vec<String>> {
    let line = |row: &Row, entry: &Entry| {
        vec![
            entry.inode.to_string(),
            entry.kind.to_owned(),
            row.pid.to_string(),
            row.name.clone(),
            if entry.shared_with_host { "host" } else { "-" }.to_owned(),
            row.command.join(" "),
        ]
    };
    rows.iter().flat_map(|row| row.namespaces.iter().map(move |entry| line(row, entry))).collect()
}
