//! `kelp image prune`: removes images that nobody needs.

use clap::Args;

use super::{Session, output, rmi, units};
use crate::engine::options::filter::ImageFilter;
use crate::engine::removal::Removed;
use crate::engine::{lifecycle, removal};
use crate::error::Result;

/// Arguments of `kelp image prune`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Remove all images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only images that are like this: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
}

/// Asks, removes and tells what was gained, in docker's words.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = ImageFilter::parse(&arguments.filter)?;
    let which = match arguments.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !arguments.force && !output::confirm(&format!("WARNING! This will remove {which}."))? {
        return Ok(0);
    }
    let (removed, collected) = removal::prune(&session.paths, arguments.all, &filter)?;
    print_removed(&removed);
    output::line(format!("Total reclaimed space: {}", units::bytes(collected.freed)));
    rmi::warn(&collected);
    lifecycle::delete_removed(&session.paths)?;
    Ok(0)
}

/// Prints what happened to images, and an empty line if anything did.
pub(super) fn print_removed(removed: &[Removed]) {
    if removed.is_empty() {
        return;
    }
    output::line("Deleted Images:");
    for image in removed {
        image.untagged.iter().for_each(|reference| output::line(format!("untagged: {}", reference.familiar())));
        image.deleted.iter().for_each(|id| output::line(format!("deleted: {id}")));
    }
    output::line("");
}
