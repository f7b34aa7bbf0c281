//! `export`: all files of a container as a plain tar.
//!
//! The stage writes into the file itself; what it holds is whole when it says
//! so. No overlay is mounted: a container that runs is exported as it is.

use std::fs::File;
use std::os::fd::AsFd;

use super::pack::{self, Files};
use crate::container::events::{self, Action};
use crate::container::store;
use crate::error::{Context, Result};
use crate::image::archive::{self, Output};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::pack::{Form, Options, Summary};

/// Writes the files of the container called `name`; returns what the user
/// should know, one line each. `newest_s`: later times become this one.
pub fn export(paths: &Paths, name: &str, newest_s: Option<i64>, output: &Output<'_>) -> Result<Vec<String>> {
    let container = store::find(paths, name)?;
    let write = |file: &File| {
        let files = Files::of(paths, &container)?;
        let summary = write(paths, &files, newest_s, file)?;
        pack::check_still_there(paths, &container)?;
        Ok(pack::notices(&summary))
    };
    let written = match output {
        Output::Path(path) => archive::write_file(path, write),
        Output::Stream(file) => write(file),
    };
    let notices = written.doing(|| format!("export container \"{name}\""))?;
    events::tell(paths, &container.record, Action::Export);
    Ok(notices)
}

fn write(paths: &Paths, files: &Files, newest_s: Option<i64>, file: &File) -> Result<Summary> {
    let mut base = Base::find(paths)?;
    let options = Options { newest_s, ..Options::of(Form::Tree) };
    let ids = (&files.id_map, files.id_map_key.as_str());
    pack::start(&mut base, ids, (&files.stack(), &[]), options, file.as_fd())?.finish()
}
