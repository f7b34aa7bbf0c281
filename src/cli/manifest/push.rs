//! `kelp manifest push`: a list and its images, sent to a registry.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Session, output, progress, registry};
use crate::engine::lifecycle;
use crate::engine::manifest::{self, Pushing};
use crate::error::{Context, Result};

/// Arguments of `kelp manifest push`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Send the images, too (the default); --all=false sends the index alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    all: bool,
    /// Remove the list afterwards
    #[arg(short, long, alias = "rm")]
    purge: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    registry: registry::Transport,
    /// The list; its name says where to, unless there is a destination
    #[arg(value_name = "LIST")]
    list: String,
    /// Where to, e.g. quay.io/team/app:1
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// Pushes and prints the digest, as docker does.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let bars = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let pushing = Pushing {
        destination: arguments.destination,
        only_index: !arguments.all,
        purge: arguments.purge,
        plain_http: arguments.registry.plain_http,
    };
    let (_, index) = manifest::push(&session.paths, &arguments.list, &pushing, &bars)?;
    if let Some(file) = &arguments.digestfile {
        std::fs::write(file, index.digest.to_string())
            .doing(|| format!("write the digest to \"{}\"", file.display()))?;
    }
    if !arguments.quiet {
        output::line(index.digest.to_string());
    }
    lifecycle::delete_removed(&session.paths)?;
    Ok(0)
}
