//! `kelp pull`: fetches an image from a registry.

use clap::Args;

use super::{Session, output, progress, registry};
use crate::engine::{remote, transfer};
use crate::error::{Failure, Result};
use crate::image::platform::Platform;
use crate::image::pull::Pulled;

/// Arguments of `kelp pull`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, e.g. alpine, alpine:3.20, quay.io/team/app or NAME@sha256:DIGEST
    #[arg(value_name = "NAME")]
    image: String,
    /// Fetch all tags of the name
    #[arg(short, long)]
    all_tags: bool,
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
    if arguments.all_tags {
        return pull_all_tags(&arguments, platform.as_ref(), session);
    }
    let pulled = pull(&arguments, &arguments.image, platform.as_ref(), session)?;
    if !arguments.quiet {
        print_status(&pulled.reference.familiar(), pulled.was_current);
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

fn pull(arguments: &Arguments, image: &str, platform: Option<&Platform>, session: &Session) -> Result<Pulled> {
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let arrived = transfer::pull(&session.paths, image, platform, arguments.registry.plain_http, &progress)?;
    arrived.notices.iter().for_each(|notice| output::notice(notice));
    if !arguments.quiet {
        output::line(format!("Digest: {}", arrived.what.source));
        if !arrived.what.was_current {
            output::line(format!("Changed: {}", changed(&arrived.what)));
        }
    }
    Ok(arrived.what)
}

/// Goes on behind a tag that cannot be pulled: it may be for other platforms.
fn pull_all_tags(arguments: &Arguments, platform: Option<&Platform>, session: &Session) -> Result<i32> {
    let named = remote::reference(&arguments.image)?;
    if !remote::is_bare(&arguments.image, &named) {
        return Err(Failure::usage(format!("--all-tags takes a name without a tag, not \"{}\"", arguments.image)));
    }
    let references = remote::tags(&arguments.image, arguments.registry.plain_http)?;
    let (mut pulled_any, mut was_current, mut code) = (false, true, 0);
    for reference in references {
        if !arguments.quiet {
            output::line(format!("{}: Pulling from {}", reference.tag().unwrap_or_default(), named.familiar_name()));
        }
        match pull(arguments, &reference.to_string(), platform, session) {
            Ok(pulled) => {
                pulled_any = true;
                was_current &= pulled.was_current;
            }
            Err(failure) => {
                output::failure(&failure);
                code = 1;
            }
        }
    }
    if pulled_any && !arguments.quiet {
        print_status(&named.familiar_name(), was_current);
    }
    output::line(named.name());
    Ok(code)
}

/// Docker's words.
fn print_status(name: &str, was_current: bool) {
    output::line(match was_current {
        true => format!("Status: Image is up to date for {name}"),
        false => format!("Status: Downloaded newer image for {name}"),
    });
}
