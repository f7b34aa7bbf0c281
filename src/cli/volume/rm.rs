//! `kelp volume rm`: removes volumes that no container uses.

use clap::Args;

use crate::cli::{Session, output};
use crate::engine::{lifecycle, volume_removal};
use crate::error::Result;

/// Arguments of `kelp volume rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Do not complain of volumes that are not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// Removes each; goes on behind one that cannot be removed.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut code = 0;
    for name in &arguments.volumes {
        match volume_removal::remove(&session.paths, name, arguments.force) {
            Ok(()) => output::line(name),
            Err(failure) => {
                output::failure(&failure);
                code = 1;
            }
        }
    }
    lifecycle::delete_removed(&session.paths)?;
    Ok(code)
}
