//! `kelp version`: which kelp this is.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::format::DocumentFormat;
use super::{Session, output};
use crate::error::Result;
use crate::image::platform::Platform;

/// Arguments of `kelp version`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to print: json, or a Go template such as '{{.Client.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<DocumentFormat>,
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
        None => output::line(format!("kelp {} ({})", version.version, version.platform)),
        Some(DocumentFormat::Json) => output::json(&version)?,
        Some(format) => {
            // There is no server: kelp has no daemon.
            let client = json!({"Version": version.version, "Platform": version.platform});
            format.print(&[json!({"Version": version.version, "Platform": version.platform, "Client": client})])?;
        }
    }
    Ok(0)
}
