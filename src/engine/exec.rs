//! `exec`: one program more in a container that runs.
//!
//! The container's supervisor runs it; this side finds the container, hands its
//! own standard streams over, and stays with the program.

use std::fs::File;
use std::os::fd::AsFd;

use super::options::environment::Variable;
use super::{lifecycle, run};
use crate::container::attach::{self, Attachment, DetachKeys, End, Observer};
use crate::container::control::{self, FromSupervisor, ToSupervisor};
use crate::container::exec::Exec;
use crate::container::record::Status;
use crate::container::store;
use crate::error::{Context, Failure, Result};
use crate::kernel::terminal;
use crate::paths::Paths;
use crate::process::channel::Channel;
use crate::sandbox::spec::ContainerPath;

/// What to run, and where.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The container, by name or id.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Standard input is passed on (`-i`).
    pub interactive: bool,
    /// A terminal of its own (`-t`).
    pub terminal: bool,
    /// Only its start is waited for (`-d`).
    pub detached: bool,
    /// Wishes on top of the container's environment, in order.
    pub variables: Vec<Variable>,
    /// `USER[:GROUP]`; `None` is the container's.
    pub user: Option<String>,
    /// Working directory, absolute; `None` is the container's.
    pub directory: Option<String>,
    /// What detaches from a terminal.
    pub detach_keys: DetachKeys,
}

/// A container that runs, ready to be asked.
pub struct Found {
    channel: Channel,
    name: String,
}

/// Finds a container that runs; `text` is its name or id.
pub fn find(paths: &Paths, text: &str) -> Result<Found> {
    let record = store::find(paths, text)?.record;
    let not_running =
        || Failure::user(format!("container \"{}\" is not running", record.name)).hint(lifecycle::way_to_run(&record));
    match record.status {
        Status::Running { paused: true, .. } => {
            return Err(Failure::user(format!("container \"{}\" is paused", record.name))
                .hint(format!("kelp unpause {} lets it go on", record.name)));
        }
        Status::Running { .. } => {}
        _ => return Err(not_running()),
    }
    let channel = control::connect(paths, &record.id)?.ok_or_else(not_running)?;
    Ok(Found { channel, name: record.name })
}

/// Runs the program in the container and stays with it.
pub fn exec(found: &Found, request: &ExecRequest, observer: &mut dyn Observer) -> Result<End> {
    let exec = plan(request)?;
    run::check_streams()?;
    let attachment = Attachment {
        stdin: request.interactive,
        forwards_signals: true,
        is_owner: true,
        detach_keys: request.detach_keys.clone(),
    };
    if !request.detached {
        attach::hold_signals(&attachment)?;
    }
    send(&found.channel, request, exec).doing(|| format!("run a program in container \"{}\"", found.name))?;
    let ended = || format!("container \"{}\" has ended, without a word from its supervisor", found.name);
    if request.detached {
        return follow_start(&found.channel)?.ok_or_else(|| Failure::user(ended()));
    }
    // A supervisor that is just ending does not get to the last who knock.
    attach::attach(&found.channel, &attachment, observer)
        .map_err(|failure| if failure == attach::killed() { Failure::user(ended()) } else { failure })
}

/// What the supervisor is told. Pure but for the terminal's size.
fn plan(request: &ExecRequest) -> Result<Exec> {
    if let Some(directory) = request.directory.as_deref().filter(|directory| !directory.starts_with('/')) {
        return Err(Failure::usage(format!("working directory \"{directory}\" is not an absolute path")));
    }
    let variable = |variable: &Variable| (variable.name.clone(), variable.value.clone());
    Ok(Exec {
        arguments: request.command.clone(),
        variables: request.variables.iter().map(variable).collect(),
        directory: request.directory.as_ref().map(ContainerPath::new),
        user: request.user.clone(),
        terminal: request.terminal,
        size: if request.terminal { terminal::size(std::io::stdin().as_fd()).ok() } else { None },
        detached: request.detached,
    })
}

/// Sends it with the program's streams: ours, where they are passed on.
fn send(channel: &Channel, request: &ExecRequest, exec: Exec) -> Result<()> {
    let message = ToSupervisor::Exec(Box::new(exec));
    if request.terminal {
        return channel.send_if_open(&message, &[]);
    }
    let null = File::options().read(true).write(true).open("/dev/null").doing(|| "open /dev/null")?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut streams = [null.as_fd(); 3];
    if !request.detached {
        streams = [if request.interactive { stdin.as_fd() } else { null.as_fd() }, stdout.as_fd(), stderr.as_fd()];
    }
    channel.send_if_open(&message, &streams)
}

/// Waits until the program runs; `None` where nobody says so.
fn follow_start(channel: &Channel) -> Result<Option<End>> {
    match channel.receive::<FromSupervisor>()?.map(|received| received.message) {
        Some(FromSupervisor::Failed(failure)) => Err(failure),
        Some(_) => Ok(Some(End::Detached)),
        None => Ok(None),
    }
}
