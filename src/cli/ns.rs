//! `kelp ns`: the namespaces of every running container, as lsns(8) would.

use clap::Args;
use serde::Serialize;

use super::format::{Fields, Format, FormatFlag, Listing};
use super::{Session, output};
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
    #[command(flatten)]
    format: FormatFlag,
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
    if let Format::Json = arguments.format.format {
        output::json(&rows)?;
        return Ok(0);
    }
    let lines: Vec<(&Row, &Entry)> =
        rows.iter().flat_map(|row| row.namespaces.iter().map(move |entry| (row, entry))).collect();
    LISTING.print(&arguments.format.format, &lines, |(row, entry)| fields(row, entry), |_| ())?;
    Ok(0)
}

const LISTING: Listing = Listing {
    headings: &[
        ("Namespace", "NS"),
        ("Type", "TYPE"),
        ("PID", "PID"),
        ("Container", "CONTAINER"),
        ("Shared", "SHARED"),
        ("Command", "COMMAND"),
    ],
    shown: &["Namespace", "Type", "PID", "Container", "Shared", "Command"],
};

fn fields(row: &Row, entry: &Entry) -> Fields {
    vec![
        ("Namespace", entry.inode.to_string()),
        ("Type", entry.kind.to_owned()),
        ("PID", row.pid.to_string()),
        ("Container", row.name.clone()),
        ("Shared", if entry.shared_with_host { "host" } else { "-" }.to_owned()),
        ("Command", output::tamed(&row.command.join(" "))),
    ]
}
