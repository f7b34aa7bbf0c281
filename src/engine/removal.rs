//! Removing images: names first, then what only they needed.
//!
//! An image exists as long as a tag names it, so taking the tag away is the
//! removal; all else is garbage that nobody can reach. It is collected at
//! once, unless an image is being brought or a container started:
//!
//! - Whoever brings an image holds a lock (image/garbage.rs).
//! - Whoever starts a container makes its directory, locks it, and only then
//!   looks the image up. A collection reads the tags, which the removal has
//!   changed before, and then the containers: a start that still saw the tag
//!   is seen, as a record with the image's id or as a directory that is alive
//!   without a record; there is no collection until it has one.
//!
//! Collected are all unpacked layers that no tag and no container needs, the
//! blobs of the removed image, and older blobs that no tag needs (of pulls
//! that broke off; limits.rs, `BLOB_KEEP_S`). Killed anywhere, a removal
//! leaves an image whole or gone, and perhaps garbage for the next one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use super::inventory::{self, Item};
use super::options::filter::ImageFilter;
use crate::container::events::{self, Event, Kind};
use crate::container::store;
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::garbage::{self, Guard, Parts};
use crate::image::lists::{self, List};
use crate::image::lookup;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::stores;
use crate::image::tags::{self, Tag};
use crate::limits;
use crate::paths::Paths;
use crate::storage::{layers, sweep};

/// How often a collection looks whether it may begin.
const LOOK: Duration = Duration::from_millis(10);

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The image that is gone with its last name.
    pub deleted: Option<Digest>,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes of blobs and of unpacked files that are gone.
    pub freed: u64,
    /// Why nothing could be collected now.
    pub postponed: Option<String>,
}

/// Takes the name `text` from its image, or with an id all its names. The last
/// name of an image that a container was made from goes only with `force`;
/// the container keeps its layers.
pub fn remove(paths: &Paths, text: &str, force: bool) -> Result<(Removed, Collected)> {
    let found = lookup::find_own_tag(paths, text)?;
    let all = tags::list(paths)?;
    let of_image: Vec<&Tag> = all.iter().filter(|tag| tag.config == found.config).collect();
    let going: Vec<&Tag> = if lookup::is_name_of(text, &found) { vec![&found] } else { of_image.clone() };
    check_names(text, &going, force)?;
    let is_last = going.len() == of_image.len();
    if is_last && !force {
        check_unused(paths, text, &found.config)?;
    }
    let blobs = Blobs::open(paths)?;
    let mut gone = Parts::default();
    let removed = take_away(paths, &blobs, &going, is_last, &mut gone)?;
    let collected = collect(paths, &blobs, &gone.blobs, Leftovers::Old)?;
    Ok((removed, collected))
}

/// Removes all images; those that containers were made from only with `force`.
/// Returns what happened to each.
pub fn remove_all(paths: &Paths, force: bool) -> Result<(Vec<Result<Removed>>, Collected)> {
    remove_images(paths, &inventory::read(paths)?.images, Leftovers::Old, |image| match force {
        true => Ok(()),
        false => check_unused(paths, &image.shown_name(), &image.id),
    })
}

/// Removes images that nobody needs: those without a name, or with `all` those
/// that no container was made from; in both cases only what `filter` accepts.
pub fn prune(paths: &Paths, all: bool, filter: &ImageFilter) -> Result<(Vec<Removed>, Collected)> {
    let inventory = inventory::read(paths)?;
    let mut chosen: BTreeSet<Digest> =
        inventory::choose(&inventory, filter, paths)?.into_iter().map(|(image, _)| image.id).collect();
    let (containers, damaged) = store::list(paths)?;
    if let Some(failure) = damaged.into_iter().next() {
        return Err(failure.doing("find the images that containers use"));
    }
    let used: BTreeSet<Digest> =
        containers.iter().filter_map(|container| container.record.image_id.parse().ok()).collect();
    let mut images = inventory.images;
    images.retain(|image| {
        let is_unused = !used.contains(&image.id) && (all || image.references().next().is_none());
        is_unused && chosen.remove(&image.id)
    });
    let leftovers = if all && *filter == ImageFilter::default() { Leftovers::All } else { Leftovers::Old };
    let (removed, collected) = remove_images(paths, &images, leftovers, |_| Ok(()))?;
    events::write(paths, &[Event::of_prune(Kind::Image, collected.freed)]);
    Ok((removed.into_iter().collect::<Result<_>>()?, collected))
}

/// What broken-off pulls and loads left, and the next one could go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leftovers {
    /// Whatever is older than `BLOB_KEEP_S` goes.
    Old,
    /// All goes: the user wants the room.
    All,
}

/// Removes those of `images` that may go, then collects once.
fn remove_images(
    paths: &Paths,
    images: &[Item],
    leftovers: Leftovers,
    may_go: impl Fn(&Item) -> Result<()>,
) -> Result<(Vec<Result<Removed>>, Collected)> {
    let blobs = Blobs::open(paths)?;
    let mut gone = Parts::default();
    let mut take = |image: &Item| {
        may_go(image)?;
        take_away(paths, &blobs, &image.tags.iter().collect::<Vec<_>>(), true, &mut gone)
    };
    let removed = images.iter().map(&mut take).collect();
    let collected = collect(paths, &blobs, &gone.blobs, leftovers)?;
    Ok((removed, collected))
}

/// Takes `going` away, tags of one image; `gone` learns what they needed.
fn take_away(paths: &Paths, blobs: &Blobs, going: &[&Tag], is_last: bool, gone: &mut Parts) -> Result<Removed> {
    for tag in going {
        // A damaged image can be removed too; its blobs go when they are old.
        gone.add(blobs, tag).ok();
    }
    let mut removed = Removed::default();
    for tag in going {
        match &tag.reference {
            Some(reference) => {
                tags::remove(paths, reference)?;
                removed.untagged.push(reference.clone());
            }
            None => drop(tags::remove_untagged(paths, &tag.config)?),
        }
    }
    if is_last {
        removed.deleted = going.first().map(|tag| tag.config);
    }
    tell(paths, going, &removed);
    Ok(removed)
}

fn tell(paths: &Paths, going: &[&Tag], removed: &Removed) {
    let id = going.first().map(|tag| tag.config.to_string()).unwrap_or_default();
    let untagged = removed.untagged.iter().map(|name| Event::of_image("untag", &id, &name.familiar()));
    let deleted = removed.deleted.iter().map(|_| Event::of_image("delete", &id, &id));
    events::write(paths, &untagged.chain(deleted).collect::<Vec<_>>());
}

fn check_names(text: &str, going: &[&Tag], force: bool) -> Result<()> {
    let names: Vec<&Reference> = going.iter().filter_map(|tag| tag.reference.as_ref()).collect();
    let repositories: BTreeSet<String> = names.iter().map(|name| name.name()).collect();
    if force || repositories.len() < 2 {
        return Ok(());
    }
    let list: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.familiar())).collect();
    Err(Failure::user(format!("image \"{text}\" has several names: {}", list.join(", ")))
        .hint("rmi takes away one name at a time; --force takes all of them"))
}

fn check_unused(paths: &Paths, text: &str, id: &Digest) -> Result<()> {
    let id = id.to_string();
    let (containers, _) = store::list(paths)?;
    let Some(user) = containers.into_iter().find(|container| container.record.image_id == id) else {
        return Ok(());
    };
    let name = user.record.name;
    Err(Failure::user(format!(
        "image \"{text}\" is used by container \"{name}\" ({})",
        user.record.id.get(..12).unwrap_or_default()
    ))
    .hint(format!("kelp rm {name} removes the container"))
    .hint("rmi --force removes the image; the container keeps its layers"))
}

/// Removes a list, and what only it needed.
pub(super) fn remove_list(paths: &Paths, list: &List) -> Result<()> {
    let blobs = Blobs::open(paths)?;
    let mut gone = Parts::default();
    // What a damaged one needed goes when it is old.
    gone.add_list(&blobs, list).ok();
    lists::remove(paths, &list.reference)?;
    collect(paths, &blobs, &gone.blobs, Leftovers::Old)?;
    Ok(())
}

/// Collects blobs that something else has taken the place of. What cannot be
/// collected now is left to the next removal.
pub(super) fn collect_replaced(paths: &Paths, blobs: &Blobs, replaced: &BTreeSet<Digest>) -> Result<()> {
    if !replaced.is_empty() {
        collect(paths, blobs, replaced, Leftovers::Old)?;
    }
    Ok(())
}

/// Moves what nothing needs into the trash; says why if it could not now.
/// `gone` are blobs that were needed until now, whatever their age.
fn collect(paths: &Paths, blobs: &Blobs, gone: &BTreeSet<Digest>, leftovers: Leftovers) -> Result<Collected> {
    let postponed = |reason: String| Ok(Collected { freed: 0, postponed: Some(reason) });
    let Some(_guard) = wait_for_turn(paths)? else {
        return postponed("an image is being fetched or a container started".to_owned());
    };
    let mut needed = Parts::default();
    for tag in tags::list(paths)? {
        if let Err(failure) = needed.add(blobs, &tag) {
            let name = tag.reference.map_or_else(|| tag.config.short(), |reference| reference.familiar());
            return postponed(format!("image \"{name}\" cannot be read ({failure}); remove it or fetch it again"));
        }
    }
    for list in lists::all(paths)? {
        if let Err(failure) = needed.add_list(blobs, &list) {
            let name = list.reference.familiar();
            return postponed(format!(
                "list \"{name}\" cannot be read ({failure}); kelp manifest rm {name} removes it"
            ));
        }
    }
    for tag in stores::adopted(&paths.image_stores, blobs, &Platform::host()) {
        // What cannot be read any more was only unpacked here.
        needed.add(blobs, &tag).ok();
    }
    let (containers, damaged) = store::list(paths)?;
    if let Some(failure) = damaged.into_iter().next() {
        return postponed(format!("what a container needs is not known: {failure}"));
    }
    for container in containers {
        add_container(blobs, &container.record.image_id, &mut needed)?;
    }
    let mut freed = 0_u64;
    let is_needed = |id: &layers::LayerId| Digest::from_hex(id.diff_id()).is_ok_and(|id| needed.diff_ids.contains(&id));
    for (id, summary) in layers::survey(paths)?.into_iter().filter(|(id, _)| !is_needed(id)) {
        layers::remove(paths, &id)?;
        freed = freed.saturating_add(summary.map_or(0, |summary| summary.bytes));
    }
    for (digest, size) in blobs.list()?.into_iter().filter(|(digest, _)| !needed.blobs.contains(digest)) {
        let path = paths.blobs().join(digest.hex());
        let age =
            path.metadata().and_then(|status| status.modified()).map(|then| SystemTime::now().duration_since(then));
        let is_old = age.is_ok_and(|age| age.is_ok_and(|age| age.as_secs() > limits::BLOB_KEEP_S));
        if is_old || leftovers == Leftovers::All || gone.contains(&digest) {
            sweep::trash(paths, &path)?;
            freed = freed.saturating_add(size);
        }
    }
    if leftovers == Leftovers::All {
        freed = freed.saturating_add(sweep::discard_partials(paths)?);
    }
    Ok(Collected { freed, postponed: None })
}

/// The lock, when no container is on its way to its record; `None` when that
/// takes too long. It is not held while waiting: the start may want it to
/// fetch its image.
pub(super) fn wait_for_turn(paths: &Paths) -> Result<Option<Guard>> {
    let end = Instant::now() + Duration::from_millis(limits::COLLECT_PATIENCE_MS);
    loop {
        if let Some(guard) = garbage::try_collect(paths)?
            && !store::is_one_being_made(paths)?
        {
            return Ok(Some(guard));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// A container keeps its image's config and unpacked layers. `image_id` is
/// empty for one that runs on a directory.
pub(super) fn add_container(blobs: &Blobs, image_id: &str, needed: &mut Parts) -> Result<()> {
    let Ok(id) = image_id.parse::<Digest>() else { return Ok(()) };
    needed.blobs.insert(id);
    match blobs.read_verified(&id, limits::CONFIG_BYTES_MAX).and_then(|bytes| ImageConfig::parse(&bytes)) {
        Ok(config) => needed.diff_ids.extend(config.rootfs.diff_ids),
        Err(failure) if failure.kind == crate::error::Kind::NotFound => {}
        Err(failure) => return Err(failure).doing(|| "find the layers of containers"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::Record;
    use crate::engine::naming;
    use crate::image::archive::{self, ImportOptions, Loaded};

    struct Home {
        paths: Paths,
        _dir: tempfile::TempDir,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        Home { paths: Paths::new(dir.path().join("data"), dir.path().join("run")), _dir: dir }
    }

    /// An image of one empty layer; `author` tells one from the other.
    fn import(home: &Home, name: &str, author: &str) -> Loaded {
        let options = ImportOptions {
            reference: Some(Reference::parse_local(name).unwrap()),
            message: Some(author.to_owned()),
            changes: Vec::new(),
            platform: Platform::host(),
        };
        let image = archive::import(&home.paths, &mut [0; 1024].as_slice(), &options).unwrap();
        archive::keep(&home.paths, &image).unwrap();
        image
    }

    fn blobs(home: &Home) -> usize {
        Blobs::open(&home.paths).unwrap().list().unwrap().len()
    }

    #[test]
    fn who_prunes_all_wants_the_room() {
        let home = home();
        let staging = home.paths.staging();
        let store = Blobs::open(&home.paths).unwrap();
        store.put(b"of a pull that broke off").unwrap();
        let partial = |digit: &str| staging.join(format!("partial.{}", digit.repeat(64)));
        std::fs::write(partial("a"), b"beginning").unwrap();
        std::fs::write(partial("b"), b"being fetched").unwrap();
        let fetched = std::fs::File::open(partial("b")).unwrap();
        fetched.lock().unwrap();
        prune(&home.paths, false, &ImageFilter::default()).unwrap();
        assert!(blobs(&home) == 1 && partial("a").exists());
        let (_, collected) = prune(&home.paths, true, &ImageFilter::default()).unwrap();
        assert_eq!(collected, Collected { freed: 24 + 9, postponed: None });
        assert!(blobs(&home) == 0 && !partial("a").exists() && partial("b").exists());
    }

    #[test]
    fn the_last_name_takes_the_image_along() {
        let home = home();
        let image = import(&home, "a", "x");
        import(&home, "other", "y");
        naming::tag(&home.paths, "a", &["b:2".to_owned()]).unwrap();
        // Two manifests and configs, one layer.
        assert_eq!(blobs(&home), 5);
        let id = image.id.hex();
        assert!(remove(&home.paths, &id, false).unwrap_err().to_string().contains("several names"));
        let (removed, _) = remove(&home.paths, "a", false).unwrap();
        assert_eq!((removed.untagged.len(), removed.deleted, blobs(&home)), (1, None, 5));
        let (removed, collected) = remove(&home.paths, &id[..12], false).unwrap();
        assert_eq!((removed.deleted, collected.postponed, blobs(&home)), (Some(image.id), None, 3));
        assert!(collected.freed > 0);
        assert_eq!(remove(&home.paths, "a", false).unwrap_err().kind, crate::error::Kind::NotFound);
    }

    #[test]
    fn a_container_keeps_its_image() {
        let home = home();
        let image = import(&home, "a", "x");
        let made = store::create(&home.paths, "web").unwrap();
        let (id, directory) = (made.container.record.id.clone(), made.container.directory.clone());
        // On its way: nothing may go yet.
        assert!(store::is_one_being_made(&home.paths).unwrap());
        let mut record = Record::new(id, "web".to_owned());
        record.image_id = image.id.to_string();
        record.save(&directory).unwrap();
        drop(made);
        let refused = remove(&home.paths, "a", false).unwrap_err();
        assert!(refused.to_string().contains("used by container \"web\""), "{refused}");
        assert!(prune(&home.paths, true, &ImageFilter::default()).unwrap().0.is_empty());
        let (results, _) = remove_all(&home.paths, false).unwrap();
        assert!(results[0].as_ref().unwrap_err().to_string().contains("used by container"));
        assert_eq!(remove(&home.paths, "a", true).unwrap().0.deleted, Some(image.id));
        // Its config is left, for the layers it names.
        assert_eq!(blobs(&home), 1);
    }

    #[test]
    fn who_brings_an_image_is_waited_for() {
        let home = home();
        import(&home, "a", "x");
        let guard = garbage::hold(&home.paths).unwrap();
        let (removed, collected) = remove(&home.paths, "a", false).unwrap();
        assert!(removed.deleted.is_some() && collected.postponed.is_some());
        assert_eq!(blobs(&home), 3);
        drop(guard);
        // Blobs that nothing needs are kept for a day, for a pull that is repeated.
        import(&home, "b", "y");
        remove(&home.paths, "b", false).unwrap();
        assert_eq!(blobs(&home), 2);
    }

    #[test]
    fn what_nobody_needs_is_pruned() {
        let home = home();
        let (first, second) = (import(&home, "a", "x"), import(&home, "b", "y"));
        naming::untag(&home.paths, "a", &[]).unwrap();
        assert!(
            prune(&home.paths, false, &ImageFilter::parse(&["until=2020-01-01".to_owned()]).unwrap())
                .unwrap()
                .0
                .is_empty()
        );
        let (removed, collected) = prune(&home.paths, false, &ImageFilter::default()).unwrap();
        assert_eq!(removed, [Removed { untagged: Vec::new(), deleted: Some(first.id) }]);
        assert!(collected.freed > 0);
        let (removed, _) = prune(&home.paths, true, &ImageFilter::default()).unwrap();
        assert_eq!(removed[0].deleted, Some(second.id));
        assert_eq!(blobs(&home), 0);
    }
}
