//! Images on their way in: pulled, loaded, imported. Their layers are unpacked
//! right away, so that the first run is as fast as the second and a damaged
//! layer is noticed here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::fetch::{self, Owner};
use super::lifecycle;
use super::unpack::{self, Image, Unpacking};
use crate::container::events::{self, Event};
use crate::error::{Context, Failure, Result};
use crate::image::archive::{self, Archive, ImportOptions, Input, Layer, Loaded};
use crate::image::blobs::{Blobs, Checked};
use crate::image::compression::Compression;
use crate::image::descriptor::Descriptor;
use crate::image::digest::Digest;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::platform::Platform;
use crate::image::pull::Pulled;
use crate::image::reference::Reference;
use crate::image::registry::Progress;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::launch;
use crate::storage::layers;

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
    let shown = match &input {
        Input::Path(path) => format!("\"{}\"", path.display()),
        Input::Stream(_) => "images from standard input".to_owned(),
    };
    let _guard = garbage::hold(paths)?;
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let loaded = bring(paths, input, &platform, progress).doing(|| format!("load {shown}"))?;
    let mut notices = Vec::new();
    for image in &loaded {
        match unpack(paths, &image.manifest, progress) {
            // The same for all images: what the host lacks.
            Ok(found) => notices = found,
            Err(failure) => return Err(failure.doing(format!("load image \"{}\"", name(image)))),
        }
    }
    // Last: what is wrong with one of them must not cost a name that is here.
    for image in &loaded {
        archive::keep(paths, image)?;
        events::write(paths, &[Event::of_image("load", &image.id.to_string(), &name(image))]);
    }
    Ok(Arrived { what: loaded, notices })
}

/// Has all images of an archive here, and those layers unpacked that the host
/// lets us.
fn bring(paths: &Paths, input: Input<'_>, platform: &Platform, progress: &dyn Progress) -> Result<Vec<Loaded>> {
    let blobs = Blobs::open(paths)?;
    let mut archive = Archive::read(&blobs, input, platform)?;
    let mut base = match Base::find(paths) {
        Ok(base) => Some(base),
        Err(failure) if fetch::is_of_the_host(&failure) => None,
        Err(failure) => return Err(failure),
    };
    let count = archive.layers().len();
    for first in (0..count).step_by(limits::LAYER_BATCH) {
        let places = first..count.min(first + limits::LAYER_BATCH);
        bring_batch(paths, &blobs, &mut archive, places, base.as_mut(), progress)?;
    }
    archive.finish()
}

/// Some layers: unpacked from where they lie in the archive while they are
/// copied into the store.
fn bring_batch(
    paths: &Paths,
    blobs: &Blobs,
    archive: &mut Archive<'_>,
    places: Range<usize>,
    base: Option<&mut Base>,
    progress: &dyn Progress,
) -> Result<()> {
    let batch = archive.layers().get(places.clone()).unwrap_or_default();
    let started = base.map(|base| start_unpacking(paths, archive, batch, base, progress));
    let unpacking = match started {
        Some(Err(failure)) if !fetch::is_of_the_host(&failure) => return Err(failure),
        started => started.and_then(Result::ok).flatten(),
    };
    let (copied, unpacked) = std::thread::scope(|scope| {
        let unpacked = scope.spawn(|| unpacking.map(|unpacking| unpacking.finish(progress)).transpose());
        (archive.copy(places, progress), unpacked.join())
    });
    let copied = copied?;
    let unpacked = match unpacked.unwrap_or_else(|_| Err(Failure::bug("the thread that waits for layers panicked"))) {
        Err(failure) if !fetch::is_of_the_host(&failure) => return Err(failure.doing("unpack image")),
        unpacked => unpacked.ok().flatten().unwrap_or_default(),
    };
    // Once for all, before anything has a name.
    blobs.write_out()?;
    copied.into_iter().try_for_each(Checked::publish)?;
    unpack::publish(paths, unpacked)
}

/// Gives an unpack stage all layers of the batch that are not unpacked for the
/// id map that containers have by default.
fn start_unpacking(
    paths: &Paths,
    archive: &Archive<'_>,
    batch: &[Layer],
    base: &mut Base,
    progress: &dyn Progress,
) -> Result<Option<Unpacking>> {
    let id_map = base.map.identity();
    let mut missing = BTreeMap::new();
    for layer in batch {
        let id = unpack::layer_id(base, &id_map, &layer.diff_id)?;
        if layers::find(paths, &id).is_none() {
            missing.insert(layer.diff_id, (id, layer));
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    launch::wait_until_single_threaded();
    let mut unpacking = Unpacking::start(base, &id_map, missing.len())?;
    for (id, layer) in missing.into_values() {
        let shown = Descriptor::new(Compression::None.layer_media_type(), layer.diff_id, layer.size);
        unpacking.add(paths, &id, &shown, archive.open(layer)?, None, progress)?;
    }
    Ok(Some(unpacking))
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
    events::write(paths, &[Event::of_image("import", &image.id.to_string(), &name(&image))]);
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
