//! `kelp volume import`: files from a tar for an empty volume.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{Session, output};
use crate::engine::volume_transfer;
use crate::error::{Context, Failure, Result};

/// Arguments of `kelp volume import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Its name; it must be there and empty
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// A tar (gzip, zstd or plain), or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Imports. Prints nothing, as podman.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let Arguments { volume, file } = arguments;
    let archive: File = if file.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("an archive does not come from a terminal")
                .hint("kelp volume import VOLUME FILE, or tar -C DIRECTORY -c . | kelp volume import VOLUME -"));
        }
        io::stdin().as_fd().try_clone_to_owned()?.into()
    } else {
        File::open(&file).doing(|| format!("open \"{}\"", file.display()))?
    };
    volume_transfer::import(&session.paths, &volume, &archive)?.iter().for_each(|notice| output::notice(notice));
    Ok(0)
}
