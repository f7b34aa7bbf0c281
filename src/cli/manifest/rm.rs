//! `kelp manifest rm`: removes lists.

use clap::Args;

use crate::cli::{Session, output};
use crate::engine::{lifecycle, manifest};
use crate::error::Result;

/// Arguments of `kelp manifest rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Lists; their images stay if something else needs them
    #[arg(required = true, value_name = "LIST")]
    lists: Vec<String>,
}

/// Removes each; goes on behind one that cannot be removed.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut code = 0;
    for name in &arguments.lists {
        match manifest::remove(&session.paths, name) {
            Ok(list) => {
                output::line(format!("Untagged: {}", list.reference.familiar()));
                output::line(format!("Deleted: {}", list.index.digest));
            }
            Err(failure) => {
                output::failure(&failure);
                code = 1;
            }
        }
    }
    lifecycle::delete_removed(&session.paths)?;
    Ok(code)
}
