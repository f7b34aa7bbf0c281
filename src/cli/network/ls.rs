//! `kelp network ls`: the networks there are.

use clap::Args;
use serde::Serialize;

use crate::cli::format::{Fields, FormatFlag, Listing};
use crate::cli::{Session, output};
use crate::engine::networks::{self, Network};
use crate::error::Result;

/// Arguments of `kelp network ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Print names only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// Docker's fields, without an id: names are unique.
const LISTING: Listing = Listing {
    headings: &[("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")],
    shown: &["Name", "Driver", "Scope"],
};

/// One network for programs.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    driver: &'static str,
}

/// Prints them.
pub(in crate::cli) fn run(arguments: Arguments, _: &Session) -> Result<i32> {
    let networks = networks::list();
    match arguments.quiet {
        true => networks.iter().for_each(|network| output::line(network.name)),
        false => LISTING.print(&arguments.format.format, &networks, fields, row)?,
    }
    Ok(0)
}

fn fields(network: &Network) -> Fields {
    vec![("Name", network.name.to_owned()), ("Driver", network.driver.to_owned()), ("Scope", "local".to_owned())]
}

fn row(network: &Network) -> Row {
    Row { name: network.name, driver: network.driver }
}
