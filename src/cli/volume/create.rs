//! `kelp volume create`: makes a volume.

use clap::Args;

use crate::cli::{Session, output};
use crate::engine::options::label;
use crate::engine::volume_inventory;
use crate::error::{Failure, Result};

/// Arguments of `kelp volume create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Its driver; local is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "local", hide_default_value = true)]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Options of the driver; the local one takes none here
    #[arg(short, long, value_name = "KEY=VALUE", hide = true)]
    opt: Vec<String>,
    /// Its name; without one it gets a long one of its own
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Makes it, if it is not there, and prints its name.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    if arguments.driver != "local" {
        let failure = Failure::usage(format!("volume driver \"{}\" is not supported", arguments.driver));
        return Err(failure.hint("local is the only one: a directory of yours"));
    }
    if let Some(option) = arguments.opt.first() {
        return Err(Failure::usage(format!("volume option \"{option}\" is not supported"))
            .hint("kelp run --mount type=bind,... mounts a directory of the host, --tmpfs memory"));
    }
    let labels = arguments.label.iter().map(|text| label::parse(text)).collect::<Result<_>>()?;
    output::line(volume_inventory::create(&session.paths, arguments.name.as_deref(), labels)?);
    Ok(0)
}
