//! `kelp attach`: stays with a running container.

use clap::Args;

use super::Session;
use super::run::Printer;
use crate::container::attach::{Attachment, End};
use crate::engine::options::detach_keys;
use crate::engine::start;
use crate::error::Result;

/// Arguments of `kelp attach`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Do not attach to its standard input
    #[arg(long)]
    no_stdin: bool,
    /// Keys that detach from its terminal
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Attaches; the exit status is the program's.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let attachment = Attachment {
        stdin: !arguments.no_stdin,
        forwards_signals: arguments.sig_proxy,
        is_owner: false,
        detach_keys: detach_keys::parse(&arguments.detach_keys)?,
    };
    match start::attach(&session.paths, &arguments.container, &attachment, &mut Printer::new(session))? {
        End::Exited(code) => Ok(code),
        End::Detached => Ok(0),
    }
}
