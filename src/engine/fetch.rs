//! An image from a registry: its layers are unpacked while they arrive.
//!
//! ```text
//!      command                                     unpack stage
//!      plan: manifest, config
//!      claim the layers' partials
//!      start the stage, if a layer is missing  ->  follows the partials, unpacks, hashes
//!      fetch: bytes, digest                        (the page cache is in between)
//!                                              <-  whole, diff id verified
//!      write out to the disk, once for all
//!      name the blobs, the layers, at last the image
//! ```
//!
//! Layers that another process is fetching are left for the end and waited
//! for then, while nothing is held. Killed at any point, this leaves partials
//! that the next pull goes on with and directories that a sweep collects.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::remote;
use super::request::Pull;
use super::unpack::{self, Image, Unpacked, Unpacking};
use crate::container::events::{self, Event};
use crate::error::{Context, Failure, Kind, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::Descriptor;
use crate::image::garbage;
use crate::image::lookup;
use crate::image::partial::{Claim, Complete, Partial};
use crate::image::platform::Platform;
use crate::image::pull::{self, Planned, Pulled};
use crate::image::quote::quoted;
use crate::image::registry::{self, Progress};
use crate::image::stores;
use crate::limits;
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::process::launch;
use crate::storage::layers::{self, LayerId};

/// Whose layers the fetched ones shall be.
pub struct Owner<'a> {
    /// The base namespace.
    pub base: &'a mut Base,
    /// The container's ids, onto it.
    pub id_map: IdMap,
}

/// The image that `text` names, fetched where `pull` says so, and checked to
/// be for `platform`, or else for this host.
pub fn get(
    paths: &Paths,
    text: &str,
    platform: Option<&Platform>,
    pull: Pull,
    owner: &mut Owner<'_>,
    progress: &dyn Progress,
) -> Result<Image> {
    if super::embedded::is_meant(text) {
        super::embedded::store(paths, text)?;
    } else if pull == Pull::Always {
        fetch(paths, text, platform, false, Some(owner), progress)?;
    }
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let tag = match lookup::find_tag_for(paths, text, &wanted) {
        Err(failure) if failure.kind == Kind::NotFound && pull != Pull::Never => {
            fetch(paths, text, platform, false, Some(owner), progress)?;
            lookup::find_tag(paths, text)?
        }
        result => result?,
    };
    let blobs = Blobs::open(paths)?;
    if tag.store.is_some() {
        // Waits for a collection that began before this container was seen;
        // one that begins later sees it, and knows what it needs by these.
        let _guard = garbage::hold(paths)?;
        stores::adopt(&blobs, &tag).doing(|| format!("read image \"{text}\""))?;
    }
    let (manifest, config) = lookup::documents(&blobs, &tag.manifest)
        .doing(|| format!("read image \"{text}\""))
        .hint(|| format!("fetch it again: kelp pull {text}"))?;
    check_platform(text, platform, &config)?;
    Ok(Image { id: manifest.config.digest, config, manifest })
}

/// What came, and why it could not be unpacked here, if it could not.
pub struct Fetched {
    /// The image.
    pub pulled: Pulled,
    /// What this host does not let us do.
    pub not_unpacked: Option<Failure>,
}

/// Fetches the image that `text` names; without an owner it is not unpacked.
/// `plain_http` allows a registry without TLS that is not on this machine.
pub fn fetch(
    paths: &Paths,
    text: &str,
    platform: Option<&Platform>,
    plain_http: bool,
    mut owner: Option<&mut Owner<'_>>,
    progress: &dyn Progress,
) -> Result<Fetched> {
    let remote::Remote { reference, route, options } = remote::find(text, plain_http)?;
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    let _guard = garbage::hold(paths)?;
    let fetched = route.ask(&options, |client| {
        let planned = pull::plan(paths, &reference, &platform, client)?;
        let brought = bring_layers(paths, &planned, owner.as_deref_mut(), progress)?;
        Ok(Fetched { pulled: planned.keep(paths, brought.has_fetched)?, not_unpacked: brought.not_unpacked })
    });
    if fetched.is_ok() {
        let (id, name) = (reference.familiar(), reference.familiar_name());
        events::write(paths, &[Event::of_image("pull", &id, &name)]);
    }
    fetched.map_err(|failure| failure.doing(format!("pull {}", quoted(&reference.familiar()))).hint_at_room())
}

fn check_platform(text: &str, asked: Option<&Platform>, config: &ImageConfig) -> Result<()> {
    let image = config.platform();
    let wanted = asked.cloned().unwrap_or_else(Platform::host);
    if wanted.accepts(&image) {
        return Ok(());
    }
    let whose = if asked.is_some() { "you asked for" } else { "this host is" };
    Err(Failure::user(format!("image \"{text}\" is for {image}, but {whose} {wanted}"))
        .hint(format!("kelp pull --platform {wanted} {text}, if the image exists for it")))
}

#[derive(Default)]
struct Brought {
    has_fetched: bool,
    not_unpacked: Option<Failure>,
}

/// Has all layers here, and unpacked where there is an owner for them and the
/// host lets us.
fn bring_layers(
    paths: &Paths,
    planned: &Planned<'_>,
    mut owner: Option<&mut Owner<'_>>,
    progress: &dyn Progress,
) -> Result<Brought> {
    let blobs = Blobs::open(paths)?;
    let mut wanted = wanted(&blobs, planned, paths, owner.as_deref())?;
    let mut brought = Brought::default();
    let mut theirs = Vec::new();
    while !wanted.is_empty() {
        let batch: Vec<Wanted> = wanted.drain(..wanted.len().min(limits::LAYER_BATCH)).collect();
        let (batch, others) = claim(&blobs, batch)?;
        theirs.extend(others);
        brought.has_fetched |= batch.iter().any(|(_, partial)| partial.is_some());
        bring_batch(paths, &blobs, planned, batch, owner.as_deref_mut(), progress)?;
    }
    for Wanted { blob, place } in theirs {
        // Nothing is held here: whoever fetches it may be waiting for us.
        let partial = blobs.wait_for(&blob)?;
        let is_dropped = !paths.keeps_blobs && place.is_some_and(|id| layers::find(paths, &id).is_some());
        if let Some(partial) = partial.filter(|_| !is_dropped) {
            brought.has_fetched = true;
            let fetched = planned.fetch(vec![partial], progress, &AtomicBool::new(false))?;
            name_blobs(&blobs, fetched)?;
        }
    }
    if let Some(Owner { base, id_map }) = owner {
        let (config, manifest) = (planned.config.clone(), planned.manifest.clone());
        let image = Image { id: planned.id(), config, manifest };
        brought.not_unpacked = match unpack::layers(paths, base, id_map, &image, progress) {
            Ok(_) => None,
            Err(failure) if is_of_the_host(&failure) => Some(failure),
            Err(failure) => return Err(failure),
        };
    }
    Ok(brought)
}

/// Whether unpacking failed for what this host does not let us do, and not for
/// the layer or the room on the disk.
pub(super) fn is_of_the_host(failure: &Failure) -> bool {
    failure.kind == Kind::Host && !failure.is_disk_full()
}

/// Writes all out to the disk and names the layers; blobs only where they are
/// kept, or where nothing else has what is in them.
fn name_all(paths: &Paths, blobs: &Blobs, fetched: Vec<Complete>, unpacked: Vec<Unpacked>) -> Result<()> {
    blobs.write_out()?;
    let are_needed = paths.keeps_blobs || unpacked.is_empty();
    let named = fetched.into_iter().try_for_each(|blob| if are_needed { blob.publish(blobs) } else { blob.discard() });
    named.and_then(|()| unpack::publish(paths, unpacked))
}

/// Writes blobs out to the disk and gives them their names.
fn name_blobs(blobs: &Blobs, fetched: Vec<Complete>) -> Result<()> {
    blobs.write_out()?;
    fetched.into_iter().try_for_each(|blob| blob.publish(blobs))
}

/// A layer to be fetched or unpacked.
struct Wanted {
    blob: Descriptor,
    /// Where it is to be unpacked, if it is.
    place: Option<LayerId>,
}

/// The layers that are not here or not unpacked, each once, the largest first:
/// what takes longest must not begin last.
fn wanted(blobs: &Blobs, planned: &Planned<'_>, paths: &Paths, owner: Option<&Owner<'_>>) -> Result<Vec<Wanted>> {
    let places: Vec<Option<LayerId>> = match owner {
        Some(Owner { base, id_map }) => {
            unpack::layer_ids(base, id_map, &planned.config)?.into_iter().map(Some).collect()
        }
        None => vec![None; planned.manifest.layers.len()],
    };
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    for (blob, place) in planned.manifest.layers.iter().zip(places) {
        // The same layer may be in an image twice (an empty one often is).
        if !seen.insert(blob.digest) {
            continue;
        }
        let place = place.filter(|id| layers::find(paths, id).is_none());
        let is_enough = owner.is_some() && !paths.keeps_blobs;
        if place.is_some() || (!is_enough && !blobs.has(blob)?) {
            wanted.push(Wanted { blob: blob.clone(), place });
        }
    }
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.blob.size));
    Ok(wanted)
}

type Claimed = Vec<(Wanted, Option<Partial>)>;

/// Those that we fetch or that are here, and those that others fetch.
fn claim(blobs: &Blobs, batch: Vec<Wanted>) -> Result<(Claimed, Vec<Wanted>)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for wanted in batch {
        match blobs.claim(&wanted.blob)? {
            Claim::Here => ours.push((wanted, None)),
            Claim::Ours(partial) => ours.push((wanted, Some(*partial))),
            Claim::Theirs => theirs.push(wanted),
        }
    }
    Ok((ours, theirs))
}

/// Fetches and unpacks some layers at once, and names them. Layers that could
/// not be unpacked for another reason than what is in them stay to be unpacked.
fn bring_batch(
    paths: &Paths,
    blobs: &Blobs,
    planned: &Planned<'_>,
    mut batch: Claimed,
    owner: Option<&mut Owner<'_>>,
    progress: &dyn Progress,
) -> Result<()> {
    let unpacking = match owner.map(|owner| start_unpacking(paths, blobs, &mut batch, owner, progress)) {
        Some(Err(failure)) if !is_of_the_host(&failure) => return Err(failure),
        started => started.and_then(Result::ok).flatten(),
    };
    let partials: Vec<Partial> = batch.into_iter().filter_map(|(_, partial)| partial).collect();
    // Bytes of an earlier try may be wrong. They are noticed and fetched again,
    // but the stage has read them then.
    let may_misread = partials.iter().any(|partial| partial.resumed() > 0);
    let is_final = |failure: &Failure| !may_misread && !is_of_the_host(failure);
    let stop = AtomicBool::new(false);
    let (fetched, unpacked) = std::thread::scope(|scope| {
        let unpacked = scope.spawn(|| {
            let unpacked = unpacking.map(|unpacking| unpacking.finish(progress).doing(|| "unpack image")).transpose();
            if unpacked.as_ref().is_err_and(is_final) {
                stop.store(true, Ordering::Relaxed);
            }
            unpacked
        });
        let fetched = planned.fetch(partials, progress, &stop);
        (fetched, unpacked.join())
    });
    let unpacked = unpacked.unwrap_or_else(|_| Err(Failure::bug("the thread that waits for layers panicked")));
    let (unpacked, failure) = match unpacked {
        Ok(unpacked) => (unpacked.unwrap_or_default(), None),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    match fetched {
        Ok(fetched) => name_all(paths, blobs, fetched, unpacked)?,
        Err(registry::Error::Stopped) => {}
        Err(error) => return Err(error.into()),
    }
    failure.filter(is_final).map_or(Ok(()), Err)
}

/// Gives an unpack stage all layers of the batch that are not unpacked.
fn start_unpacking(
    paths: &Paths,
    blobs: &Blobs,
    batch: &mut Claimed,
    owner: &mut Owner<'_>,
    progress: &dyn Progress,
) -> Result<Option<Unpacking>> {
    let count = batch.iter().filter(|(wanted, _)| wanted.place.is_some()).count();
    if count == 0 {
        return Ok(None);
    }
    launch::wait_until_single_threaded();
    let mut unpacking = Unpacking::start(owner.base, &owner.id_map, count)?;
    for (wanted, partial) in batch {
        let Wanted { blob, place: Some(id) } = wanted else { continue };
        let (file, bell) = match partial {
            Some(partial) => partial.follow().map(|(file, bell)| (file, Some(bell)))?,
            None => (blobs.file(&blob.digest)?, None),
        };
        unpacking.add(paths, id, blob, file, bell, progress)?;
    }
    Ok(Some(unpacking))
}
