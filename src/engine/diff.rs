//! `diff`: what a container changed in its image, what the topmost layer of an
//! image changes, or how any two of them differ.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::pack::{self, Files};
use super::unpack::{self, Image};
use crate::container::store::{self, Container};
use crate::error::{Context, Failure, Kind, Result};
use crate::image::lookup;
use crate::image::registry::Progress;
use crate::kernel::process;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::storage::pack::{Change, Form, Options, parse_changes};

/// What is compared.
enum Operand {
    Container(Box<Container>, Box<Files>),
    Image(Box<Image>),
}

/// A list of changes, and what the user should know beside it.
#[derive(Debug)]
pub struct Changes {
    /// Sorted by path.
    pub changes: Vec<Change>,
    /// One line each.
    pub notices: Vec<String>,
}

/// What the container or image `name` changed: in difference to what it was
/// made from, or else to the container or image `other`.
pub fn diff(paths: &Paths, name: &str, other: Option<&str>, progress: &dyn Progress) -> Result<Changes> {
    let one = find(paths, name)?;
    let other = other.map(|name| find(paths, name)).transpose()?;
    let doing = || format!("compare \"{name}\"");
    let mut base = Base::find(paths)?;
    let id_map = id_map(&base, &one, other.as_ref()).doing(doing)?;
    let key = base.map.compose(&id_map).key();
    let new = stack(paths, &mut base, &id_map, &one, progress).doing(doing)?;
    let old = match &other {
        Some(other) => stack(paths, &mut base, &id_map, other, progress).doing(doing)?,
        None => new.get(1..).unwrap_or_default().to_vec(),
    };
    let mount_points = |operand: &Operand| match operand {
        Operand::Container(_, files) => files.mount_points.iter().cloned().collect(),
        Operand::Image(_) => Default::default(),
    };
    let (passed_over, passed_over_before) = (mount_points(&one), other.as_ref().map(mount_points).unwrap_or_default());
    let options = Options { passed_over, passed_over_before, ..Options::of(Form::Changes) };
    let (reading, writing) = process::pipe()?;
    let packing = pack::start(&mut base, (&id_map, &key), (&new, &old), options, writing.as_fd()).doing(doing)?;
    drop(writing);
    let mut list = Vec::new();
    File::from(reading).take(limits::CHANGES_BYTES_MAX + 1).read_to_end(&mut list).doing(doing)?;
    if list.len() as u64 > limits::CHANGES_BYTES_MAX {
        return Err(Failure::user(format!("the list has more than {} bytes", limits::CHANGES_BYTES_MAX))).doing(doing);
    }
    let summary = packing.finish().doing(doing)?;
    for operand in [Some(&one), other.as_ref()].into_iter().flatten() {
        if let Operand::Container(container, _) = operand {
            pack::check_still_there(paths, container).doing(doing)?;
        }
    }
    Ok(Changes { changes: parse_changes(&list)?, notices: pack::notices(&summary) })
}

/// A container, or else an image of that name, as `inspect` has it.
fn find(paths: &Paths, name: &str) -> Result<Operand> {
    match store::find(paths, name) {
        Ok(container) => {
            let files = Files::of(paths, &container).doing(|| format!("compare \"{name}\""))?;
            return Ok(Operand::Container(Box::new(container), Box::new(files)));
        }
        Err(failure) if failure.kind == Kind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    match lookup::find(paths, name) {
        Ok(image) => {
            let (id, config, manifest) = (image.id, image.config, image.manifest);
            Ok(Operand::Image(Box::new(Image { id, config, manifest })))
        }
        Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Usage) => {
            Err(Failure::not_found(format!("there is no container or image \"{name}\""))
                .hint("kelp ps --all and kelp images list what there is"))
        }
        Err(failure) => Err(failure),
    }
}

/// The one id map in which the files are read. An image's layers can be
/// unpacked for any; a container's are what they are.
fn id_map(base: &Base, one: &Operand, other: Option<&Operand>) -> Result<IdMap> {
    let mut maps = [Some(one), other].into_iter().flatten().filter_map(|operand| match operand {
        Operand::Container(_, files) => Some(files),
        Operand::Image(_) => None,
    });
    match (maps.next(), maps.next()) {
        (Some(one), Some(other)) if one.id_map_key != other.id_map_key => {
            Err(Failure::user("the two containers have different ids (--userns), so their owners cannot be compared"))
        }
        (Some(files), _) if base.map.compose(&files.id_map).key() != files.id_map_key => Err(pack::other_ids()),
        (Some(files), _) => Ok(files.id_map.clone()),
        (None, _) => Ok(base.map.identity()),
    }
}

/// The directories of an operand, topmost first.
fn stack(
    paths: &Paths,
    base: &mut Base,
    id_map: &IdMap,
    operand: &Operand,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    match operand {
        Operand::Container(_, files) => Ok(files.stack()),
        Operand::Image(image) => unpack::layers(paths, base, id_map, image, progress),
    }
}
