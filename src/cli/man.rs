//! `kelp man`: the manual pages, one for kelp and one for each command.

use std::path::PathBuf;

use clap::Args;

use super::{Session, verbs};
use crate::error::{Context, Result};

/// Arguments of `kelp man`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory to write to, e.g. ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes the pages.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let doing = || format!("write manual pages to \"{}\"", arguments.directory.display());
    std::fs::create_dir_all(&arguments.directory).doing(doing)?;
    clap_mangen::generate_to(verbs::tree(), &arguments.directory).doing(doing)?;
    Ok(0)
}
