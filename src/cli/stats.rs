//! `kelp stats`: what containers use, as it changes.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::format::{Fields, Format, FormatFlag, Listing};
use super::{Session, output, units};
use crate::engine::stats::{Row, Watch};
use crate::error::Result;
use crate::kernel::terminal;

/// How long the first look takes: shares of processors are of some time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Arguments of `kelp stats`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Show containers that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// Print one table below the other, also on a terminal
    #[arg(long)]
    no_reset: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// One container for programs.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    name: &'a str,
    state: &'static str,
    /// Of one processor.
    cpu_percent: f64,
    cpu_ns: u64,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    memory_percent: f64,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    block_read_bytes: u64,
    block_written_bytes: u64,
    /// Processes and threads.
    pids: u64,
}

const LISTING: Listing = Listing {
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    shown: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
};

/// Prints, waits and prints again, until what was asked for is removed.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let interval = Duration::from_secs(arguments.interval);
    let mut watch = Watch::new(&session.paths, &arguments.containers, arguments.all)?;
    let is_live = !arguments.no_stream && !arguments.no_reset && io::stdout().is_terminal();
    let is_live = is_live && !matches!(arguments.format.format, Format::Json);
    let mut rows = watch.look(&session.paths)?;
    let mut wait = interval.min(FIRST_LOOK);
    while !watch.is_over(&rows) {
        std::thread::sleep(wait);
        rows = watch.look(&session.paths)?;
        if is_live {
            output::clear();
            print(&arguments, rows.get(..rows.len().min(rows_shown())).unwrap_or_default())?;
        } else {
            print(&arguments, &rows)?;
        }
        if arguments.no_stream {
            break;
        }
        wait = interval;
    }
    Ok(0)
}

/// What fits on the terminal beside the headings: more would push them out.
fn rows_shown() -> usize {
    let size = terminal::size(io::stdout().as_fd());
    size.ok().filter(|size| size.rows > 2).map_or(usize::MAX, |size| usize::from(size.rows) - 2)
}

fn print(arguments: &Arguments, rows: &[Row]) -> Result<()> {
    LISTING.print(&arguments.format.format, rows, |row| fields(row, arguments.no_trunc), document)
}

fn fields(row: &Row, whole: bool) -> Fields {
    let (record, usage) = (&row.record, &row.usage);
    let id = if whole { record.id.clone() } else { record.short_id().to_owned() };
    let pair = |one: u64, other: u64| format!("{} / {}", units::bytes(one), units::bytes(other));
    let memory = [usage.memory_bytes, usage.memory_limit_bytes].map(units::binary_bytes);
    vec![
        ("Container", id.clone()),
        ("ID", id),
        ("Name", record.name.clone()),
        ("CPUPerc", format!("{:.2}%", row.cpu_percent)),
        ("MemUsage", memory.join(" / ")),
        ("MemPerc", format!("{:.2}%", row.memory_percent())),
        ("NetIO", pair(usage.network.received, usage.network.sent)),
        ("BlockIO", pair(usage.block.read, usage.block.written)),
        ("PIDs", usage.tasks.to_string()),
    ]
}

fn document(row: &Row) -> Document<'_> {
    let (record, usage) = (&row.record, &row.usage);
    Document {
        id: &record.id,
        name: &record.name,
        state: record.status.word(),
        cpu_percent: row.cpu_percent,
        cpu_ns: usage.cpu_ns,
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: usage.memory_limit_bytes,
        memory_percent: row.memory_percent(),
        network_received_bytes: usage.network.received,
        network_sent_bytes: usage.network.sent,
        block_read_bytes: usage.block.read,
        block_written_bytes: usage.block.written,
        pids: usage.tasks,
    }
}
