//! `kelp generate systemd`: units of the user's systemd for containers.

use std::io::Write;

use clap::Args;

use super::{Session, output};
use crate::engine::systemd::{self, Wanted};
use crate::error::{Context, Failure, Result};

/// Arguments of `kelp generate systemd`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Call the container by its name, not by its id
    #[arg(short, long)]
    name: bool,
    /// Make a new container at each start, and remove it at the end
    #[arg(long)]
    new: bool,
    /// Write the unit to a file here, and print where
    #[arg(short, long)]
    files: bool,
    /// When systemd starts it again; without, as the container's own policy says
    #[arg(long, value_name = "POLICY", value_parser = clap::builder::PossibleValuesParser::new(systemd::RESTARTS))]
    restart_policy: Option<String>,
    /// Seconds that a stop waits before it kills; -1 waits for ever
    #[arg(
        short = 't',
        long,
        visible_alias = "stop-timeout",
        alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// What the unit's name begins with
    #[arg(long, value_name = "TEXT", default_value = "container")]
    container_prefix: String,
    /// What stands between that and the container
    #[arg(long, value_name = "TEXT", default_value = "-")]
    separator: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Variables that say where kelp keeps things and looks for images.
const VARIABLES: &[&str] = &["KELP_DATA", "KELP_RUN", "KELP_IMAGE_STORE", "XDG_DATA_HOME", "XDG_CONFIG_HOME"];

/// Prints the unit, or writes it to a file.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let variable = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok().filter(|text| !text.is_empty())?));
    let wanted = Wanted {
        by_name: arguments.name,
        new: arguments.new,
        restart: arguments.restart_policy,
        stop_timeout_s: arguments.time,
        prefix: arguments.container_prefix,
        separator: arguments.separator,
        program: std::env::current_exe().doing(|| "find kelp's own program")?,
        environment: VARIABLES.iter().filter_map(variable).collect(),
    };
    let unit = systemd::unit(&session.paths, &arguments.container, &wanted)?;
    if !arguments.files {
        output::text(unit.text.trim_end());
        return Ok(0);
    }
    let path = std::env::current_dir().doing(|| "find the working directory")?.join(&unit.file_name);
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(unit.text.as_bytes()));
    written.map_err(Failure::from).doing(|| format!("write \"{}\"", path.display()))?;
    output::line(path.display().to_string());
    Ok(0)
}
