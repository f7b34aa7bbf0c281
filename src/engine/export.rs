//! `export`: all files of a container as a plain tar.
//!
//! The stage writes into the file itself; what it holds is whole when it says
//! so. No overlay is mounted: a container that runs is exported as it is.

use std::fs::File;
use std::os::fd::AsFd;

use super::pack::{self, Files};
use crate::container::store;
use crate::error::{Context, Result};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::pack::{Form, Options};

/// Writes the files of the container called `name` to `output`; returns what
/// the user should know, one line each.
pub fn export(paths: &Paths, name: &str, newest_s: Option<i64>, output: &File) -> Result<Vec<String>> {
    let container = store::find(paths, name)?;
    let doing = || format!("export container \"{name}\"");
    let files = Files::of(paths, &container).doing(doing)?;
    let mut base = Base::find(paths)?;
    let options = Options { newest_s, ..Options::of(Form::Tree) };
    let ids = (&files.id_map, files.id_map_key.as_str());
    let packing = pack::start(&mut base, ids, (&files.stack(), &[]), options, output.as_fd()).doing(doing)?;
    let summary = packing.finish().doing(doing)?;
    pack::check_still_there(paths, &container).doing(doing)?;
    Ok(pack::notices(&summary))
}
