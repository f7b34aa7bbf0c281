//! Documents about containers and images, in the field names of Docker's API:
//! what tools and scripts read.
//!
//! The documents are made by pure functions of what was read here.

mod container;
mod host_config;
mod image;

use serde_json::Value;

pub use container::{Facts, document as of_container};
pub use image::document as of_image;

use super::list::{self, Sizes};
use super::request::Stored;
use super::{inventory, lifecycle, pack};
use crate::container::health::Log;
use crate::container::spent::Spent;
use crate::container::store::Container;
use crate::error::Result;
use crate::paths::Paths;

/// All about the container called `name`, with `size` what it takes as well.
pub fn container(paths: &Paths, name: &str, size: bool) -> Result<Value> {
    let container = lifecycle::find(paths, name)?;
    let sizes: Option<Sizes> = match size {
        true => list::sizes(paths, std::slice::from_ref(&container))?.first().copied(),
        false => None,
    };
    let Container { directory, record } = &container;
    // An older kelp did not write the request down; layers may be damaged. What
    // there is to say is said all the same.
    let stored = Stored::load(directory).ok();
    let lowers = match &record.files {
        Some(files) => match &files.rootfs {
            Some(root) => vec![root.clone()],
            None => pack::lowers(paths, record, &files.id_map_key).unwrap_or_default(),
        },
        None => Vec::new(),
    };
    Ok(of_container(&Facts {
        record,
        request: stored.as_ref().map(|stored| &stored.request),
        directory,
        run_directory: &paths.found_container_run(&record.id),
        lowers: &lowers,
        health: &Log::load(directory),
        // While it lives, its cgroup knows; to sum processes up is for `stats`.
        spent: record.spent.or_else(|| record.cgroup.as_deref().map(Spent::of_cgroup)),
        sizes,
    }))
}

/// All about the image that `name` names.
pub fn image(paths: &Paths, name: &str) -> Result<Value> {
    let (image, sizes) = inventory::find(paths, name)?;
    Ok(of_image(&image, &sizes))
}
