//! Images on their way in: pulled, loaded, imported. Their layers are unpacked
//! right away, so that the first run is as fast as the second and a damaged
//! layer is noticed here.

use std::path::Path;

use super::fetch::{self, Owner};
use super::lifecycle;
use super::unpack::{self, Image};
use crate::error::{Context, Failure, Result};
use crate::image::archive::{self, ImportOptions, Input, Loaded};
use crate::image::blobs::Blobs;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::platform::Platform;
use crate::image::pull::Pulled;
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::paths::Paths;
use crate::process::base::Base;

/// What arrived, and what the user should know beside it.
#[derive(Debug)]
pub struct Arrived<T> {
    /// What it is.
    pub what: T,
    /// One line each.
    pub notices: Vec<String>,
}

/// Pulls the image that `text` names and unpacks it.
pub fn pull(
    paths: &Paths,
    text: &str,
    platform: Option<&Platform>,
    plain_http: bool,
    progress: &dyn Progress,
) -> Result<Arrived<Pulled>> {
    let (mut base, lacking) = match Base::find(paths) {
        Ok(base) => (Some(base), None),
        Err(failure) if fetch::is_of_the_host(&failure) => (None, Some(failure)),
        Err(failure) => return Err(failure),
    };
    let mut owner = base.as_mut().map(|base| Owner { id_map: base.map.identity(), base });
    let fetched = fetch::fetch(paths, text, platform, plain_http, owner.as_mut(), progress);
    let fetched = clean_up(paths, fetched)?;
    let notice = lacking.or(fetched.not_unpacked).map(not_unpacked).or(base.and_then(|base| base.notice));
    Ok(Arrived { what: fetched.pulled, notices: notice.into_iter().collect() })
}

/// That an image will not run here is told when it comes, and is no reason not
/// to have it.
fn not_unpacked(failure: Failure) -> String {
    format!("the image is here but not unpacked: {failure}")
}

/// After a failure, deletes what was begun at once, in the background: it may
/// be what fills the disk.
fn clean_up<T>(paths: &Paths, result: Result<T>) -> Result<T> {
    if result.is_err() {
        // Otherwise the next command that removes something does it.
        lifecycle::delete_removed(paths).ok();
    }
    result
}

/// Brings in the images of an archive and unpacks them.
pub fn load(
    paths: &Paths,
    input: Input<'_>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Arrived<Vec<Loaded>>> {
    let loaded = load_all(paths, input, platform, progress);
    clean_up(paths, loaded).map_err(Failure::hint_at_room)
}

fn load_all(
    paths: &Paths,
    input: Input<'_>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Arrived<Vec<Loaded>>> {
    let _guard = garbage::hold(paths)?;
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let loaded = archive::load(paths, input, &platform)?;
    let mut notices = Vec::new();
    for image in &loaded {
        match unpack(paths, &image.manifest, progress) {
            // The same for all images: what the host lacks.
            Ok(found) => notices = found,
            Err(failure) => return Err(failure.doing(format!("load image \"{}\"", name(image)))),
        }
    }
    // Last: what is wrong with one of them must not cost a name that is here.
    loaded.iter().try_for_each(|image| archive::keep(paths, image))?;
    Ok(Arrived { what: loaded, notices })
}

/// Makes an image of the tar at `file`, or of what comes from `stream`.
pub fn import(
    paths: &Paths,
    file: Option<&Path>,
    stream: &mut dyn std::io::Read,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Arrived<Loaded>> {
    let _guard = garbage::hold(paths)?;
    let image = match file {
        Some(path) => {
            let doing = || format!("import \"{}\"", path.display());
            if path.is_dir() {
                return Err(Failure::user("it is a directory, not a tar")
                    .doing(doing())
                    .hint(format!("tar -C {} -c . | kelp import - NAME", path.display())));
            }
            let mut file = std::fs::File::open(path).doing(doing)?;
            archive::import(paths, &mut file, options).doing(doing)?
        }
        None => archive::import(paths, stream, options)?,
    };
    let notices = unpack(paths, &image.manifest, progress).doing(|| "import root file system")?;
    archive::keep(paths, &image)?;
    Ok(Arrived { what: image, notices })
}

fn name(image: &Loaded) -> String {
    image.references.first().map_or_else(|| image.id.short(), Reference::familiar)
}

/// Unpacks an image for the id map that containers have by default. Where the
/// host does not let us, the image is here all the same; that it will not run
/// is told by a notice.
pub(super) fn unpack(paths: &Paths, manifest: &Descriptor, progress: &dyn Progress) -> Result<Vec<String>> {
    let (manifest, config) = lookup::documents(&Blobs::open(paths)?, manifest)?;
    let id: Digest = manifest.config.digest;
    let image = Image { id, config, manifest };
    let unpacked = Base::find(paths).and_then(|mut base| {
        let id_map = base.map.identity();
        unpack::layers(paths, &mut base, &id_map, &image, progress)?;
        Ok(base.notice)
    });
    match unpacked {
        Ok(notice) => Ok(notice.into_iter().collect()),
        Err(failure) if fetch::is_of_the_host(&failure) => Ok(vec![not_unpacked(failure)]),
        Err(failure) => Err(failure),
    }
}
