//! `kelp volume inspect`: all about volumes, in the field names of Docker's API.

use clap::Args;
use serde_json::{Value, json};

use super::{created, warn_of_damage};
use crate::cli::format::DocumentFormat;
use crate::cli::{Session, output};
use crate::engine::volume_inventory;
use crate::error::Result;
use crate::storage::volumes::Volume;

/// Arguments of `kelp volume inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Names of volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    /// How to print: json, or a Go template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
}

/// Prints what was found as one array; exit status 1 if a volume was not.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let found = arguments.volumes.iter().map(|name| volume_inventory::find(&session.paths, name));
    let (found, failures): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    let found: Vec<Volume> = found.into_iter().flatten().collect();
    arguments.format.print(&found.iter().map(document).collect::<Vec<_>>())?;
    warn_of_damage(&found);
    let failures: Vec<_> = failures.into_iter().filter_map(Result::err).collect();
    failures.iter().for_each(output::failure);
    Ok(i32::from(!failures.is_empty()))
}

/// The document of one.
pub(in crate::cli) fn document(volume: &Volume) -> Value {
    json!({
        "CreatedAt": created(volume),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.data.display().to_string(),
        "Name": volume.name.as_str(),
        "Options": {},
        "Scope": "local",
    })
}
