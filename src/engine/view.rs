//! Looking into an image with the host's own programs.

use std::ffi::OsString;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use super::unpack::{self, Image};
use crate::error::{Context, Failure, Result};
use crate::image::garbage;
use crate::image::lookup;
use crate::image::registry::Progress;
use crate::kernel::process;
use crate::kernel::signal::Signals;
use crate::paths::{self, Paths};
use crate::process::base::Base;
use crate::process::launch::{self, StageFailed};
use crate::process::stage::Stage;
use crate::sandbox::view::View;

/// What a program is told about where the image is.
const PLACE_VARIABLE: &str = "KELP_IMAGE_ROOT";

/// Runs `program` with the files of the image that `text` names at
/// [`Paths::image_view`], read-only; returns its exit status. It begins there.
pub fn run(
    paths: &Paths,
    text: &str,
    program: Vec<OsString>,
    mut environment: Vec<(OsString, OsString)>,
    progress: &dyn Progress,
) -> Result<i32> {
    // Nothing of the image is collected while it is looked at.
    let _guard = garbage::hold(paths)?;
    let stored = lookup::find(paths, text)?;
    let image = Image { id: stored.id, config: stored.config, manifest: stored.manifest };
    let mut base = Base::find(paths)?;
    let id_map = base.map.identity();
    let layers = unpack::layers(paths, &mut base, &id_map, &image, progress)?;
    if layers.is_empty() {
        return Err(Failure::user(format!("image \"{text}\" has no files")));
    }
    let place = paths.image_view();
    paths::make_private(&place)?;
    environment.retain(|(name, _)| name != PLACE_VARIABLE && name != "PWD");
    environment.extend([PLACE_VARIABLE, "PWD"].map(|name| (name.into(), place.clone().into())));
    // What is typed at the terminal is the program's business.
    let _signals = Signals::block(&[Signal::SIGINT, Signal::SIGQUIT])?;
    let launched = launch::launch(Stage::View, &mut base, "", &[])?;
    launched.channel.send_if_open(&View { layers, place, program, environment }, &[])?;
    if let Some(received) = launched.channel.receive::<StageFailed>()? {
        return Err(received.message.failed);
    }
    Ok(process::wait_pidfd(launched.pidfd.as_fd()).doing(|| "wait for the program")?.status())
}
