//! The view stage: a program of the host's that sees the files of an image at
//! one place more.
//!
//! ```text
//!      command                    view stage
//!  1   View              ->
//!  2                              overlay of the layers, read-only, at `place`
//!  3                              execve: the user's program
//!  4   EOF: it runs      <-       or Failed(Failure)
//! ```
//!
//! The mount is in the stage's own mount namespace, which ends with the
//! program and with what it started: there is nothing to unmount. The program
//! is the user's own and runs with the user's rights, as root of the base
//! namespace, so that files which belong to subordinate ids can be read.
//! Nothing of the image is executed.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::root;
use crate::error::{Context, Failure, Kind, Result};
use crate::kernel::{mount, open, process};
use crate::process::channel::Channel;
use crate::process::launch::StageFailed;
use crate::process::stage;

/// Who sees what.
#[derive(Debug, Serialize, Deserialize)]
pub struct View {
    /// The layers' directories, topmost first; at least one.
    pub layers: Vec<PathBuf>,
    /// An empty directory of ours.
    pub place: PathBuf,
    /// The program, looked up in PATH, and its arguments.
    pub program: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// The stage's whole life.
pub fn main() -> Result<()> {
    let channel = stage::take_channel()?;
    let Some(received) = channel.receive::<View>()? else { return Ok(()) };
    let failed = show(&received.message, &channel);
    channel.send_if_open(&StageFailed { failed }, &[])
}

/// Returns only a failure.
fn show(view: &View, channel: &Channel) -> Failure {
    let shown = process::set_no_new_privileges().map_err(Failure::from).and_then(|()| attach(view));
    if let Err(failure) = shown {
        return failure.doing("show the image's files");
    }
    let Some((program, arguments)) = view.program.split_first() else { return Failure::bug("a view of nobody's") };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(view.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&view.place);
    // A command that is killed takes the program along.
    if let Err(error) = process::set_parent_death_signal(libc::SIGKILL) {
        return error.into();
    }
    if channel.is_closed() {
        return Failure::bug("nobody waits");
    }
    let error = command.exec();
    let doing = format!("execute \"{}\"", program.display());
    if error.kind() == std::io::ErrorKind::NotFound || !is_in_path(view, program) {
        return Failure::new(Kind::NoSuchProgram, "there is no such program on this machine").doing(doing);
    }
    Failure::from(error).kind(Kind::NotExecutable).doing(doing)
}

/// Whether the program can be seen at all: a directory of PATH that is closed
/// to us makes "permission denied" of whatever is not found elsewhere.
fn is_in_path(view: &View, program: &OsString) -> bool {
    let path = view.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let mut directories = std::env::split_paths(path.as_deref().unwrap_or_default()).collect::<Vec<_>>().into_iter();
    program.as_encoded_bytes().contains(&b'/') || directories.any(|directory| directory.join(program).exists())
}

fn attach(view: &View) -> Result<()> {
    let place = open::open_dir(&view.place).doing(|| format!("open \"{}\"", view.place.display()))?;
    let open = |path: &PathBuf| open::open_dir(path).doing(|| format!("open layer {}", path.display()));
    let layers = view.layers.iter().map(open).collect::<Result<Vec<OwnedFd>>>()?;
    let mut lowers: Vec<_> = layers.iter().map(AsFd::as_fd).collect();
    if lowers.len() == 1 {
        // Without an upper layer overlayfs wants two: the place itself is empty.
        lowers.push(place.as_fd());
    }
    let overlay = root::overlay(&lowers, None, false).map_err(root::explain)?;
    let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV;
    mount::set_attributes(overlay.as_fd(), attributes, 0, false, "image")?;
    Ok(mount::attach(overlay.as_fd(), place.as_fd(), "image")?)
}
