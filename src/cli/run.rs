//! `kelp run`: runs a command in a new container.

use clap::Args;

use super::request::{RequestArguments, request};
use super::{Session, output, progress, warn_of_session};
use crate::container::attach::Observer;
use crate::engine::options::detach_keys;
use crate::engine::run::{self, Mode, Ran};
use crate::error::{Failure, Result};
use crate::process::steps::Step;

/// Arguments of `kelp run`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "kelp run [OPTIONS] IMAGE [COMMAND] [ARG...]\n       kelp run [OPTIONS] --rootfs DIR COMMAND [ARG...]"
)]
pub(super) struct Arguments {
    /// Let it run by itself and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from its terminal
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Print the plan as JSON and start nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    container: RequestArguments,
}

/// Runs it; the exit status is the program's.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let request = request(arguments.container)?;
    let detach_keys = detach_keys::parse(&arguments.detach_keys)?;
    let progress = progress::Bars::new();
    if arguments.dry_run {
        output::json(&run::dry_run(&session.paths, &request, arguments.detach, &progress)?)?;
        return Ok(0);
    }
    let mode = match arguments.detach {
        true => Mode::Detached,
        false => {
            check_terminal(request.terminal, request.interactive)?;
            Mode::Foreground { detach_keys, forwards_signals: arguments.sig_proxy }
        }
    };
    let mut observer = Printer::new(session);
    let result = run::run(&session.paths, &request, &mode, &progress, &mut observer);
    observer.print_steps();
    match result? {
        Ran::Exited(code) => Ok(code),
        Ran::Detached(id) => {
            if arguments.detach {
                warn_of_session(session, &id);
                output::line(&id);
            } else {
                // As docker says it; the shell's prompt gets a line of its own.
                output::remark("read escape sequence");
            }
            Ok(0)
        }
    }
}

/// As Docker: a terminal inside for an input that is none outside is a slip.
pub(super) fn check_terminal(terminal: bool, interactive: bool) -> Result<()> {
    use std::io::IsTerminal;
    if terminal && interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::user("the input is not a terminal").hint("leave out -t, or -i"));
    }
    Ok(())
}

/// Prints what happens while a container starts and runs.
pub(super) struct Printer {
    debug: bool,
    steps: Vec<Step>,
}

impl Printer {
    pub(super) fn new(session: &Session) -> Self {
        Self { debug: session.debug, steps: Vec::new() }
    }

    /// All processes' steps on one time line.
    pub(super) fn print_steps(&mut self) {
        self.steps.sort_by_key(|step| step.ended_us);
        let start_us = self.steps.iter().map(|step| step.ended_us.saturating_sub(step.took_us)).min().unwrap_or(0);
        for step in &self.steps {
            let at_us = step.ended_us.saturating_sub(start_us);
            output::remark(&format!("{at_us:>8} µs  {:>7} µs  {}", step.took_us, step.name));
        }
    }
}

impl Observer for Printer {
    fn notice(&mut self, notice: &str) {
        output::notice(notice);
    }

    fn wants_steps(&self) -> bool {
        self.debug
    }

    fn steps(&mut self, steps: &[Step]) {
        if self.debug {
            self.steps.extend_from_slice(steps);
        }
    }
}
