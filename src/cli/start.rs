//! `kelp start`: starts containers that were made before.

use clap::Args;

use super::run::Printer;
use super::{Session, each, output, progress, warn_of_session};
use crate::container::attach::{Attachment, End};
use crate::engine::options::container_filter::ContainerFilter;
use crate::engine::options::detach_keys;
use crate::engine::{list, start};
use crate::error::{Failure, Result};

/// Arguments of `kelp start`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Attach to the program's output, and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Attach to its standard input, too
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach from its terminal
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Start all containers that do not run, but those with --restart unless-stopped that somebody stopped
    #[arg(long, conflicts_with_all = ["attach", "interactive"])]
    all: bool,
    /// Of all containers start those that are like this, e.g. restart-policy=always; the filters are those of ps
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["attach", "interactive"])]
    filter: Vec<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Starts each; goes on behind one that cannot be started.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut observer = Printer::new(session);
    let progress = progress::Bars::new();
    if arguments.attach || arguments.interactive {
        let [name] = arguments.containers.as_slice() else {
            return Err(Failure::usage("one container at a time can be attached to"));
        };
        let attachment = Attachment {
            stdin: arguments.interactive,
            forwards_signals: arguments.sig_proxy,
            is_owner: false,
            detach_keys: detach_keys::parse(&arguments.detach_keys)?,
        };
        let end = start::start(&session.paths, name, Some(&attachment), &progress, &mut observer)?;
        return Ok(match end {
            End::Exited(code) => code,
            End::Detached => 0,
        });
    }
    let names = match arguments.all || !arguments.filter.is_empty() {
        true if !arguments.containers.is_empty() => return Err(Failure::usage("--all, or names, but not both")),
        true => chosen(session, &arguments.filter)?,
        false if arguments.containers.is_empty() => return Err(Failure::usage("no container given")),
        false => arguments.containers,
    };
    let status = each(&names, |name| {
        start::start(&session.paths, name, None, &progress, &mut observer)?;
        output::line(name);
        Ok(())
    });
    // What is so for one is so for all.
    if let Some(name) = names.last() {
        warn_of_session(session, name);
    }
    Ok(status)
}

fn chosen(session: &Session, filter: &[String]) -> Result<Vec<String>> {
    let (names, damaged) = list::to_start(&session.paths, &ContainerFilter::parse(filter)?)?;
    damaged.iter().for_each(|failure| output::notice(&failure.sentence()));
    Ok(names)
}
