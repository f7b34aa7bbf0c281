//! `kelp pull`: fetches an image from a registry.

use clap::Args;

use super::{Session, output, progress};
use crate::engine::transfer;
use crate::error::{Failure, Result};
use crate::image::platform::Platform;
use crate::image::pull::Pulled;

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
    /// Talk to the registry without TLS (on loopback this needs no flag)
    #[arg(long)]
    plain_http: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tls_verify: Option<bool>,
}

/// Pulls and says what came.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    refuse_unverified(arguments.tls_verify)?;
    let platform = arguments.platform.as_deref().map(Platform::parse).transpose()?;
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let arrived = transfer::pull(&session.paths, &arguments.image, platform.as_ref(), arguments.plain_http, &progress)?;
    arrived.notices.iter().for_each(|notice| output::notice(notice));
    let pulled = arrived.what;
    if !arguments.quiet {
        let shown = pulled.reference.familiar();
        output::line(format!("Digest: {}", pulled.source));
        if !pulled.was_current {
            output::line(format!("Changed: {}", changed(&pulled)));
        }
        output::line(match pulled.was_current {
            true => format!("Status: Image is up to date for {shown}"),
            false => format!("Status: Downloaded newer image for {shown}"),
        });
    }
    output::line(pulled.reference.to_string());
    Ok(0)
}

/// What is new about an image, in a line.
fn changed(pulled: &Pulled) -> String {
    let layers = format!("{} of {} layers", pulled.new_layers, pulled.layers);
    match pulled.previous {
        Some(previous) if previous == pulled.id => format!("{layers}; the image is the same"),
        Some(previous) => format!("{layers}; image {} was {}", pulled.id.short(), previous.short()),
        None => format!("{layers}; image {} is new", pulled.id.short()),
    }
}

/// Docker's and podman's users know `--tls-verify=false`.
pub(super) fn refuse_unverified(tls_verify: Option<bool>) -> Result<()> {
    if tls_verify == Some(false) {
        return Err(Failure::usage("certificates are always verified")
            .hint("--plain-http talks to a registry that has no TLS")
            .hint("your own authority's certificate goes to ~/.config/containers/certs.d/HOST:PORT/ca.crt"));
    }
    Ok(())
}
