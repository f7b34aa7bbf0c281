//! `kelp manifest add`: one more image for a list.

use clap::Args;

use crate::cli::manifest::Platform;
use crate::cli::{Session, output, progress, registry};
use crate::engine::manifest::{self, Adding};
use crate::error::Result;

/// Arguments of `kelp manifest add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Add all images of several platforms, not the one for this host
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    platform: Platform,
    #[command(flatten)]
    registry: registry::Transport,
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// An image, of this machine or of a registry (docker://NAME: of a registry only)
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Adds it and prints the digests by which the list knows it.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let Arguments { all, platform, registry, list, image } = arguments;
    let adding = Adding { all, plain_http: registry.plain_http, attributes: platform.into() };
    let added = manifest::add(&session.paths, &list, &image, &adding, &progress::Bars::new())?;
    added.iter().for_each(|digest| output::line(digest.to_string()));
    Ok(0)
}
