//! `kelp volume ls`: the volumes there are.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{created, warn_of_damage};
use crate::cli::format::{Fields, FormatFlag, Listing};
use crate::cli::{Session, output};
use crate::engine::options::filter::VolumeFilter;
use crate::engine::volume_inventory;
use crate::error::Result;
use crate::storage::volumes::Volume;

/// Arguments of `kelp volume ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Only volumes that are like this: dangling=BOOL, name=PART, label=KEY[=VALUE], driver=NAME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print names only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// Docker's fields. What its local driver does not tell here is `N/A` there too.
const LISTING: Listing = Listing {
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Size", "SIZE"),
        ("Links", "LINKS"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    shown: &["Driver", "Name"],
};

/// One volume for programs.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    driver: &'a str,
    mountpoint: String,
    created: String,
    labels: &'a BTreeMap<String, String>,
    anonymous: bool,
}

/// Prints them by name.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let filter = VolumeFilter::parse(&arguments.filter)?;
    let (volumes, failures) = volume_inventory::list(&session.paths, &filter)?;
    match arguments.quiet {
        true => volumes.iter().for_each(|volume| output::line(volume.name.as_str())),
        false => LISTING.print(&arguments.format.format, &volumes, fields, row)?,
    }
    warn_of_damage(&volumes);
    failures.iter().for_each(|failure| output::notice(&failure.sentence()));
    Ok(0)
}

fn fields(volume: &Volume) -> Fields {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let unknown = || "N/A".to_owned();
    vec![
        ("Driver", "local".to_owned()),
        ("Name", volume.name.as_str().to_owned()),
        ("Scope", "local".to_owned()),
        ("Mountpoint", volume.data.display().to_string()),
        ("Labels", labels.join(",")),
        ("Size", unknown()),
        ("Links", unknown()),
        ("Availability", unknown()),
        ("Group", unknown()),
        ("Status", unknown()),
    ]
}

fn row(volume: &Volume) -> Row<'_> {
    Row {
        name: volume.name.as_str(),
        driver: "local",
        mountpoint: volume.data.display().to_string(),
        created: created(volume),
        labels: &volume.labels,
        anonymous: volume.is_anonymous(),
    }
}
