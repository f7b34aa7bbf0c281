//! `kelp commit`: an image from a container.

use clap::{ArgAction, Args};

use super::{Session, import, output, progress, units};
use crate::engine::commit::{self, CommitOptions};
use crate::engine::lifecycle;
use crate::error::Result;

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
    /// Pause the container meanwhile, if it runs
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
    let options = CommitOptions {
        reference: arguments.name.as_deref().map(import::reference).transpose()?,
        author: arguments.author,
        message: arguments.message,
        changes: arguments.change,
        date_s: units::source_date_epoch()?.map(u64::cast_signed),
    };
    let progress = if arguments.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let paused = arguments.pause && lifecycle::pause(&session.paths, &arguments.container, true).is_ok();
    let committed = commit::commit(&session.paths, &arguments.container, &options, &progress);
    if paused {
        lifecycle::pause(&session.paths, &arguments.container, false)?;
    }
    let committed = committed?;
    committed.notices.iter().for_each(|notice| output::notice(notice));
    output::line(committed.id.to_string());
    Ok(0)
}
