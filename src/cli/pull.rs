//! `kelp pull`: fetches an image from a registry.

use clap::Args;

use super::{Session, output, progress, registry};
use crate::engine::transfer;
use crate::error::Result;
use crate::image::platform::Platform;

/// Arguments of `kelp pull`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, e.g. alpine, alpine:3.20, quay.io/team/app or NAME@sha256:DIGEST
    #[arg(value_name = "NAME")]
    image: String,
    /// Fetch the image for another platform, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Print the image's name only
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: registry::Transport,
}

/// Pulls and says what came.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.registry.check()?;
    let platform = arguments.platform.as_deref().map(Platform::parse).transpose()?;
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let arrived =
        transfer::pull(&session.paths, &arguments.image, platform.as_ref(), arguments.registry.plain_http, &progress)?;
    arrived.notices.iter().for_each(|notice| output::notice(notice));
    let pulled = arrived.what;
    if !arguments.quiet {
        let shown = pulled.reference.familiar();
        output::line(format!("Digest: {}", pulled.source));
        output::line(match pulled.was_current {
            true => format!("Status: Image is up to date for {shown}"),
            false => format!("Status: Downloaded newer image for {shown}"),
        });
    }
    output::line(pulled.reference.to_string());
    Ok(0)
}
