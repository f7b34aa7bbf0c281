//! `volume export` and `volume import`: a volume's files as a tar, with the ids
//! that containers see.
//!
//! Both go through confined stages. An import is made in `staging/` and takes
//! the empty volume's place in one step.

use std::fs::File;
use std::os::fd::AsFd;

use super::pack;
use super::volume_inventory::find;
use crate::container::uses;
use crate::error::{Context, Failure, Result};
use crate::image::archive::{self, Output};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::storage::pack::{Form, Options, Summary};
use crate::storage::volumes::{self, Volume};
use crate::storage::{fill, unpack};

/// Writes the files of the volume called `name` as a tar; returns what the
/// user should know, one line each. `newest_s`: later times become this one.
pub fn export(paths: &Paths, name: &str, newest_s: Option<i64>, output: &Output<'_>) -> Result<Vec<String>> {
    let volume = find(paths, name)?;
    let write = |file: &File| {
        let summary = write(paths, &volume, newest_s, file)?;
        match volumes::get(paths, &volume.name)? {
            Some(_) => Ok(pack::notices(&summary)),
            None => Err(Failure::user("it was removed meanwhile")),
        }
    };
    let written = match output {
        Output::Path(path) => archive::write_file(path, write),
        Output::Stream(file) => write(file),
    };
    written.doing(|| format!("export volume \"{name}\""))
}

fn write(paths: &Paths, volume: &Volume, newest_s: Option<i64>, file: &File) -> Result<Summary> {
    let mut base = Base::find(paths)?;
    let options = Options { newest_s, ..Options::of(Form::Tree) };
    let (id_map, data) = (base.map.identity(), std::slice::from_ref(&volume.data));
    let key = base.map.compose(&id_map).key();
    pack::start(&mut base, (&id_map, &key), (data, &[]), options, file.as_fd())?.finish()
}

/// Unpacks `archive`, a tar, plain or compressed, into the volume called
/// `name`, which must be there and empty. Returns what the user should know.
pub fn import(paths: &Paths, name: &str, archive: &File) -> Result<Vec<String>> {
    let doing = || format!("import into volume \"{name}\"");
    let volume = find(paths, name).doing(doing)?;
    check_free(paths, &volume).doing(doing)?;
    let mut base = Base::find(paths)?;
    let id_map = base.map.identity();
    let staged = volumes::stage(paths)?;
    let summary = fill::unpack(&mut base, &id_map, archive.as_fd(), &staged.data()).doing(doing)?;
    volumes::write_out(&staged)?;
    let _guard = volumes::hold_alone(paths)?;
    let volume = find(paths, name).doing(doing)?;
    check_free(paths, &volume).doing(doing)?;
    volumes::replace(paths, staged, &volume)?;
    Ok(notices(&summary))
}

/// Whether the data directory can be exchanged.
fn check_free(paths: &Paths, volume: &Volume) -> Result<()> {
    let users = uses::of_volumes(paths)?.remove(volume.name.as_str()).unwrap_or_default();
    if let Some(user) = users.iter().find(|user| user.is_running) {
        return Err(Failure::user(format!("container {} is running and uses it", user.name)));
    }
    if !volumes::is_empty(volume)? {
        return Err(Failure::user("it has files already").hint("kelp volume create makes an empty one to import into"));
    }
    Ok(())
}

fn notices(summary: &unpack::Summary) -> Vec<String> {
    let unpack::Summary { skipped_devices, ignored_owners, dropped_attributes, .. } = summary;
    pack::counted(&[
        (*skipped_devices, "device was left out", "devices were left out"),
        (*ignored_owners, "file belongs to you instead of another owner", "files belong to you instead of others"),
        (*dropped_attributes, "extended attribute was left out", "extended attributes were left out"),
    ])
}
