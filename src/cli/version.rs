//! `kelp version`: which kelp this is.

use clap::Args;
use serde::Serialize;

use super::Session;
use super::output::{self, Format};
use crate::error::Result;
use crate::image::platform::Platform;

/// Arguments of `kelp version`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The version for programs.
#[derive(Serialize)]
struct Version {
    version: &'static str,
    platform: String,
}

/// Prints it.
pub(super) fn run(arguments: Arguments, _session: &Session) -> Result<i32> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), platform: Platform::host().to_string() };
    match arguments.format {
        Format::Json => output::json(&version)?,
        Format::Table => output::line(format!("kelp {} ({})", version.version, version.platform)),
    }
    Ok(0)
}
