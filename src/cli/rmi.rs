//! `kelp rmi`: removes names of images, and images with their last name.

use clap::Args;

use super::{Session, output};
use crate::engine::{lifecycle, removal};
use crate::error::{Kind, Result};

/// Arguments of `kelp rmi`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Remove images that containers use, and all names of an id
    ///
    /// Containers keep the layers they stand on until they are removed.
    #[arg(short, long)]
    force: bool,
    /// Names take away that name; ids take away the image
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Removes each; goes on behind one that cannot be removed.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut code = 0;
    for image in &arguments.images {
        match removal::remove(&session.paths, image, arguments.force) {
            Ok(removed) => {
                for reference in &removed.untagged {
                    output::line(format!("Untagged: {}", reference.familiar()));
                }
                if let Some(id) = removed.deleted {
                    output::line(format!("Deleted: {id}"));
                }
                if let Some(reason) = removed.postponed {
                    output::notice(&format!("disk space is freed by a later rmi: {reason}"));
                }
            }
            // As docker's: with --force, what is gone already is fine.
            Err(failure) if arguments.force && failure.kind == Kind::NotFound => output::failure(&failure),
            Err(failure) => {
                output::failure(&failure);
                code = 1;
            }
        }
    }
    lifecycle::delete_removed(&session.paths)?;
    Ok(code)
}
