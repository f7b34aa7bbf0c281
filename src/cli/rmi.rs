//! `kelp rmi`: removes names of images, and images with their last name.

use clap::Args;

use super::{Session, output};
use crate::engine::lifecycle;
use crate::engine::removal::{self, Collected, Removed};
use crate::error::{Failure, Kind, Result};

/// Arguments of `kelp rmi`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Remove all images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Remove images that containers use, and all names of an id
    ///
    /// Containers keep the layers they stand on until they are removed.
    #[arg(short, long)]
    force: bool,
    /// Say nothing about images that are not here
    #[arg(short, long)]
    ignore: bool,
    /// Accepted for scripts: kelp keeps no intermediate images
    #[arg(long)]
    no_prune: bool,
    /// Names take away that name; ids take away the image
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each; goes on behind one that cannot be removed.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut code = 0;
    let mut refuse = |failure: Failure| {
        let is_missing = failure.kind == Kind::NotFound;
        if is_missing && arguments.ignore {
            return;
        }
        output::failure(&failure);
        // As docker's: with --force, what is gone already is fine.
        code = if is_missing && arguments.force { code } else { 1 };
    };
    if arguments.all {
        let (results, collected) = removal::remove_all(&session.paths, arguments.force)?;
        results.into_iter().for_each(|result| result.map_or_else(&mut refuse, |removed| print(&removed)));
        warn(&collected);
    }
    for image in &arguments.images {
        match removal::remove(&session.paths, image, arguments.force) {
            Ok((removed, collected)) => {
                print(&removed);
                warn(&collected);
            }
            Err(failure) => refuse(failure),
        }
    }
    lifecycle::delete_removed(&session.paths)?;
    Ok(code)
}

fn print(removed: &Removed) {
    for reference in &removed.untagged {
        output::line(format!("Untagged: {}", reference.familiar()));
    }
    if let Some(id) = removed.deleted {
        output::line(format!("Deleted: {id}"));
    }
}

/// Says why disk space is not free yet.
pub(super) fn warn(collected: &Collected) {
    if let Some(reason) = &collected.postponed {
        output::notice(&format!("disk space is freed by a later rmi: {reason}"));
    }
}
