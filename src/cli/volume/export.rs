//! `kelp volume export`: a volume's files as a tar.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Session, export};
use crate::engine::volume_transfer;
use crate::error::Result;

/// Arguments of `kelp volume export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Its name
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Exports.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    export::write(arguments.output.as_deref(), "kelp volume export -o FILE VOLUME", |newest_s, output| {
        volume_transfer::export(&session.paths, &arguments.volume, newest_s, output)
    })
}
