//! `kelp container prune`: removes all containers that do not run.

use clap::Args;

use super::{Session, output, units};
use crate::engine::options::container_filter::ContainerFilter;
use crate::engine::{lifecycle, list};
use crate::error::Result;

/// Arguments of `kelp container prune`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only containers that are like this: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], and the others of ps
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
}

/// Asks, removes and tells what was gained, in docker's words.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = ContainerFilter::parse(&arguments.filter)?;
    if !arguments.force && !output::confirm("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let pruned = list::prune(&session.paths, &filter)?;
    if !pruned.removed.is_empty() {
        output::line("Deleted Containers:");
        pruned.removed.iter().for_each(output::line);
        output::line("");
    }
    output::line(format!("Total reclaimed space: {}", units::bytes(pruned.freed)));
    pruned.failures.iter().for_each(output::failure);
    lifecycle::delete_removed(&session.paths)?;
    Ok(i32::from(!pruned.failures.is_empty()))
}
