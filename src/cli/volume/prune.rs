//! `kelp volume prune`: removes volumes that no container uses.

use clap::Args;

use crate::cli::{Session, output, units};
use crate::engine::options::filter::VolumeFilter;
use crate::engine::{lifecycle, volume_removal};
use crate::error::Result;

/// Arguments of `kelp volume prune`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Remove all volumes that no container uses, not only those that nobody named
    #[arg(short, long)]
    all: bool,
    /// Only volumes that are like this: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
}

/// Asks, removes and tells what was gained, in docker's words.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = VolumeFilter::parse_for_prune(&arguments.filter)?;
    let which = if arguments.all { "all" } else { "anonymous" };
    let warning = format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if !arguments.force && !output::confirm(&warning)? {
        return Ok(0);
    }
    let pruned = volume_removal::prune(&session.paths, arguments.all, &filter)?;
    if !pruned.removed.is_empty() {
        output::line("Deleted Volumes:");
        pruned.removed.iter().for_each(output::line);
        output::line("");
    }
    output::line(format!("Total reclaimed space: {}", units::bytes(pruned.freed)));
    pruned.failures.iter().for_each(|failure| output::notice(&failure.sentence()));
    lifecycle::delete_removed(&session.paths)?;
    Ok(0)
}
