//! `kelp commit`: an image from a container.

use clap::{ArgAction, Args};

use super::{Session, import, output, progress, units};
use crate::engine::commit::{self, CommitOptions};
use crate::error::{Failure, Result};

/// Arguments of `kelp commit`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id of a container, running or not
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name; without a registry it is localhost/NAME
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Who made the image, e.g. "Ada <ada@example.org>"
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Apply an instruction to the image's config, e.g. 'CMD ["sh"]'
    ///
    /// CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME and WORKDIR, written as in a Dockerfile. Can be
    /// given several times.
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Only false is possible: kelp cannot pause a container
    #[arg(
        short, long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true
    )]
    pause: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Commits and prints the image's id.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    if arguments.pause {
        return Err(Failure::usage("--pause is not possible: kelp cannot pause a container")
            .hint("leave it out: a container that runs is read as it is, and files that change are told"));
    }
    let options = CommitOptions {
        reference: arguments.name.as_deref().map(import::reference).transpose()?,
        author: arguments.author,
        message: arguments.message,
        changes: arguments.change,
        date_s: units::source_date_epoch()?.map(u64::cast_signed),
    };
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let committed = commit::commit(&session.paths, &arguments.container, &options, &progress)?;
    committed.notices.iter().for_each(|notice| output::notice(notice));
    output::line(committed.id.to_string());
    Ok(0)
}
