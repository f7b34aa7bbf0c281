//! `kelp export`: all files of a container as a tar.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Session, output, units};
use crate::engine::export;
use crate::error::Result;
use crate::image::archive::Output;

/// What the shell shows for a program that SIGPIPE ended: 128 and the signal.
const BROKEN_PIPE: i32 = 141;

/// Arguments of `kelp export`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id of a container, running or not
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Exports.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    write(arguments.output.as_deref(), "kelp export -o FILE CONTAINER", |newest_s, output| {
        export::export(&session.paths, &arguments.container, newest_s, output)
    })
}

/// Has `export` write to `path` or to standard output, no time in it later
/// than what the environment says, and tells what it returns. `instead` is
/// what to call where standard output is a terminal.
pub(super) fn write(
    path: Option<&Path>,
    instead: &str,
    export: impl FnOnce(Option<i64>, &Output<'_>) -> Result<Vec<String>>,
) -> Result<i32> {
    let newest_s = units::source_date_epoch()?.map(u64::cast_signed);
    let stdout;
    let output = match path {
        Some(path) => Output::Path(path),
        None => {
            stdout = output::stream().map_err(|failure| failure.hint(instead))?;
            Output::Stream(&stdout)
        }
    };
    match export(newest_s, &output) {
        // Whoever reads has seen enough.
        Err(failure) if failure.is_errno(libc::EPIPE) => return Ok(BROKEN_PIPE),
        result => result?.iter().for_each(|notice| output::notice(notice)),
    }
    Ok(0)
}
