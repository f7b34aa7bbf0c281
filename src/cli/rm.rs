//! `kelp rm`: removes containers that have ended.

use clap::Args;

use super::{Session, each, named_if_done};
use crate::engine::lifecycle;
use crate::error::Result;

/// Arguments of `kelp rm`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Kill a running container first
    #[arg(short, long)]
    force: bool,
    /// Pass over those that are not there
    #[arg(short, long)]
    ignore: bool,
    /// Remove the volumes that were made for them and that nobody named
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Removes each; goes on behind one that cannot be removed.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let code = each(&arguments.containers, |name| {
        let removed = lifecycle::remove(&session.paths, name, arguments.force, arguments.volumes);
        named_if_done(name, removed, arguments.ignore || arguments.force)
    });
    lifecycle::delete_removed(&session.paths)?;
    Ok(code)
}
