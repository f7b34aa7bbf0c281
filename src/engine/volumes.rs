//! The volumes of a container: which it gets, and how they come to be.
//!
//! ```text
//! wanted   the user's mounts, other containers' (--volumes-from), the image's VOLUMEs
//!   |      (pure but for names that are made up)
//! plan     where each is mounted
//!   |
//! make     new volumes: filled in staging/ with what the image has at the
//!          mount point, then named; the record says who uses them
//! ```
//!
//! Killed anywhere, this leaves volumes that are whole, or new, or in staging.
//! Two that start at once with the same new volume agree: the first gives it
//! its content, the other waits or, if it made one too, throws its own away.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::options::mount::{Mount, TMPFS_MODE, What};
use super::options::volumes_from::{ImageVolumes, Lender};
use super::plan;
use crate::container::events::{self, Event};
use crate::container::record::{Mounted, Record};
use crate::error::{Context, Failure, Result};
use crate::image::config::RunConfig;
use crate::kernel::{Errno, file, open};
use crate::paths::Paths;
use crate::process::base::Base;
use crate::process::idmap::IdMap;
use crate::sandbox::spec::{Attributes, ContainerPath, HostPath, SandboxSpec, Source, Step};
use crate::storage::fill;
use crate::storage::volumes::{self, Description, FirstUse, Guard, Staged, Volume, VolumeName};

/// Who asks for mounts.
pub(super) struct Askers<'a> {
    /// The user.
    pub(super) mounts: &'a [Mount],
    /// Also the user, for what others have.
    pub(super) volumes_from: &'a [Lender],
    /// The image's author, and what the user makes of that.
    pub(super) image: &'a RunConfig,
    pub(super) image_volumes: ImageVolumes,
    /// The container's record from when it was last planned, whose volumes it
    /// keeps.
    pub(super) before: &'a Record,
}

/// What a container shall see of volumes and host directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// All mounts that are not kelp's own. Each volume has a name.
    pub(super) mounts: Vec<Mount>,
    /// Those of the volumes that belong to the container alone.
    pub(super) anonymous: Vec<String>,
}

/// Puts together what a container gets. Of two on one target the user's goes
/// before another container's, and that before the image's. `lender` finds
/// another container's record; `name` makes up names.
pub(super) fn wanted(
    askers: &Askers<'_>,
    lender: &dyn Fn(&str) -> Result<Record>,
    name: &dyn Fn() -> Result<String>,
) -> Result<Wanted> {
    let mut wanted = Wanted { mounts: askers.mounts.to_vec(), anonymous: Vec::new() };
    for mount in lent(askers, lender)?.into_iter().chain(of_image(askers)?) {
        wanted.add(mount);
    }
    let before = askers.before;
    for mount in &mut wanted.mounts {
        if let What::Volume { name: missing @ None, .. } = &mut mount.what {
            let kept = before.mounts.iter().find(|mounted| mounted.mount.target == mount.target);
            let kept = kept.and_then(|mounted| mounted.volume.clone());
            let own = match kept.filter(|kept| before.anonymous_volumes.contains(kept)) {
                Some(kept) => kept,
                None => name()?,
            };
            wanted.anonymous.push(own.clone());
            *missing = Some(own);
        }
    }
    Ok(wanted)
}

impl Wanted {
    /// Adds a mount unless something is mounted there already.
    fn add(&mut self, mount: Mount) {
        if self.mounts.iter().all(|other| other.target != mount.target) {
            self.mounts.push(mount);
        }
    }
}

/// What other containers lend. It is looked up once: what they have later, or
/// that they are gone, changes nothing for a container that is there.
fn lent(askers: &Askers<'_>, find: &dyn Fn(&str) -> Result<Record>) -> Result<Vec<Mount>> {
    let Askers { volumes_from, before, .. } = askers;
    if volumes_from.is_empty() {
        return Ok(Vec::new());
    }
    if before.files.is_some() {
        return Ok(before.mounts.iter().filter_map(|mounted| borrow(mounted, false)).collect());
    }
    let mut lent: BTreeMap<ContainerPath, Mount> = BTreeMap::new();
    for Lender { container, read_only } in *volumes_from {
        let doing = |failure: Failure| failure.doing(format!("use the volumes of container \"{container}\""));
        let record = find(container).map_err(doing)?;
        // Of two lenders the later one goes before, as with Docker.
        lent.extend(
            record.mounts.iter().filter_map(|mounted| borrow(mounted, *read_only)).map(|one| (one.target.clone(), one)),
        );
    }
    Ok(lent.into_values().collect())
}

fn borrow(mounted: &Mounted, read_only: bool) -> Option<Mount> {
    let what = match (&mounted.volume, &mounted.mount.source) {
        (Some(name), _) => What::Volume { name: Some(name.clone()), copy: false },
        (None, Source::Bind { path, recursive, propagation }) => {
            What::Bind { source: path.0.clone(), create: false, recursive: *recursive, propagation: *propagation }
        }
        _ => return None,
    };
    let mut attributes = mounted.mount.attributes;
    attributes.read_only |= read_only;
    Some(Mount { target: mounted.mount.target.clone(), what, attributes, relabel: false })
}

/// The image's VOLUMEs. Its author chooses paths, and nothing else.
fn of_image(askers: &Askers<'_>) -> Result<Vec<Mount>> {
    let what = match askers.image_volumes {
        ImageVolumes::Ignore => return Ok(Vec::new()),
        ImageVolumes::Anonymous => What::Volume { name: None, copy: true },
        ImageVolumes::Tmpfs => What::Tmpfs { size_bytes: None, mode: TMPFS_MODE, owner: None },
    };
    let targets: BTreeSet<ContainerPath> = askers.image.volumes.iter().map(ContainerPath::new).collect();
    let mount = |target: ContainerPath| {
        plan::check_target(&target).map_err(|failure| {
            let failure = failure.doing("give the image the volumes that it wants");
            failure.hint("--image-volume ignore runs it without")
        })?;
        Ok(Mount { target, what: what.clone(), attributes: Attributes::default(), relabel: false })
    };
    targets.into_iter().map(mount).collect()
}

/// What the plan has of `wanted`, for the record.
pub(super) fn mounted(wanted: &Wanted, spec: &SandboxSpec) -> Vec<Mounted> {
    let mounts = spec.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => Some(mount),
        _ => None,
    });
    let described = mounts.filter_map(|mount| {
        let wish = wanted.mounts.iter().find(|wish| wish.target == mount.target)?;
        let volume = match &wish.what {
            What::Volume { name, .. } => name.clone(),
            What::Bind { .. } => None,
            What::Tmpfs { .. } => return None,
        };
        Some(Mounted { volume, mount: mount.clone() })
    });
    described.collect()
}

/// The data directory that a plan names for a volume.
pub(super) fn place(paths: &Paths, name: Option<&str>) -> Result<HostPath> {
    let name = name.ok_or_else(|| Failure::bug("a volume without a name"))?;
    Ok(HostPath(volumes::data_directory(paths, &VolumeName::parse(name)?)))
}

/// What the content of new volumes is taken from.
pub(super) struct Content<'a> {
    /// The directories of the root file system, topmost first.
    pub(super) layers: &'a [HostPath],
    /// The container's ids onto the base namespace's.
    pub(super) id_map: &'a IdMap,
}

/// A volume that is to be there when the container starts.
struct Need {
    name: VolumeName,
    description: Description,
    /// Where content for it may be in the image.
    copied_from: Option<ContainerPath>,
    /// It is there, and nobody has used it.
    first_use: Option<(FirstUse, Volume)>,
    /// What it shall be, if it is new.
    staged: Option<Staged>,
    lasting: bool,
}

/// Makes the volumes of container `id` that are not there, and gives new ones
/// their content. What is returned keeps them from being removed until the
/// container's record says that it uses them. The caller is single-threaded.
pub(super) fn make(
    paths: &Paths,
    base: &mut Base,
    id: &str,
    wanted: &Wanted,
    content: &Content<'_>,
    auto_remove: bool,
) -> Result<Option<Guard>> {
    let mut needs = needs(id, wanted, auto_remove)?;
    if needs.is_empty() {
        return Ok(None);
    }
    // By name, so that two starts cannot wait for each other.
    for need in needs.values_mut() {
        need.look(paths)?;
    }
    fill(base, needs.values_mut().collect(), content)?;
    let guard = volumes::hold(paths)?;
    for need in needs.into_values() {
        let name = need.name.clone();
        if need.finish(paths).map_err(|failure| failure.doing(format!("make volume \"{}\"", name.as_str())))? {
            events::write(paths, &[Event::of_volume("create", name.as_str())]);
        }
    }
    Ok(Some(guard))
}

/// The volumes of `wanted` by name. One that is mounted twice takes its
/// content from the first place that may give it any.
fn needs(id: &str, wanted: &Wanted, auto_remove: bool) -> Result<BTreeMap<String, Need>> {
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    for mount in &wanted.mounts {
        let What::Volume { name: Some(name), copy } = &mount.what else { continue };
        let is_own = wanted.anonymous.contains(name);
        if !needs.contains_key(name) {
            let description = if is_own { Description::anonymous(id) } else { Description::default() };
            let (name, lasting) = (VolumeName::parse(name)?, !(is_own && auto_remove));
            let need = Need { name, description, copied_from: None, first_use: None, staged: None, lasting };
            needs.insert(need.name.as_str().to_owned(), need);
        }
        if let Some(need) = needs.get_mut(name).filter(|need| *copy && need.copied_from.is_none()) {
            need.copied_from = Some(mount.target.clone());
        }
    }
    Ok(needs)
}

impl Need {
    /// Finds out whether there is anything to do before the lock is taken.
    fn look(&mut self, paths: &Paths) -> Result<()> {
        let is_there = match volumes::first_use(paths, &self.name)? {
            Some(first_use) => {
                let Some(volume) = volumes::get(paths, &self.name)? else { return self.look(paths) };
                // Somebody may have put files there without a container.
                let is_empty = volumes::is_empty(&volume)?;
                self.first_use = Some((first_use, volume));
                !is_empty || self.copied_from.is_none()
            }
            None => volumes::get(paths, &self.name)?.is_some(),
        };
        if !is_there {
            self.staged = Some(volumes::stage(paths)?);
        }
        Ok(())
    }

    /// Has the volume there, used; says whether it is a new one.
    fn finish(self, paths: &Paths) -> Result<bool> {
        let Self { name, description, first_use, staged, lasting, .. } = self;
        match (first_use, staged) {
            (Some((first_use, volume)), staged) if first_use.is_current()? => {
                staged.map_or(Ok(()), |staged| volumes::replace(paths, staged, &volume))?;
                first_use.done().map(|()| false)
            }
            (None, Some(staged)) => volumes::publish(paths, staged, &name, description, lasting),
            // It was there when we looked; if it was removed since, it is made again, empty.
            _ if volumes::get(paths, &name)?.is_some() => Ok(false),
            _ => volumes::publish(paths, volumes::stage(paths)?, &name, description, lasting),
        }
    }
}

/// Whether it is worth the start of a stage to look for `path` in an image:
/// not where no layer has even the first directory of it.
fn may_be_in(layers: &[HostPath], path: &ContainerPath) -> Result<bool> {
    let Some(first) = path.relative().iter().next() else { return Ok(true) };
    for layer in layers {
        let root = open::open(layer.as_path(), libc::O_PATH | libc::O_DIRECTORY)
            .doing(|| format!("open \"{}\"", layer.as_path().display()))?;
        match file::status_at(root.as_fd(), Path::new(first)) {
            Err(error) if error.errno == Errno::ENOENT => {}
            // It is there, or the layer is closed to us, but not to the stage.
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Copies what the image has into staged volumes.
fn fill(base: &mut Base, needs: Vec<&mut Need>, content: &Content<'_>) -> Result<()> {
    let mut filling: Vec<(&mut Need, (PathBuf, PathBuf))> = Vec::new();
    for need in needs {
        if let (Some(from), Some(staged)) = (&need.copied_from, &need.staged)
            && may_be_in(content.layers, from)?
        {
            let pair = (from.as_path().to_owned(), staged.data());
            filling.push((need, pair));
        }
    }
    if filling.is_empty() {
        return Ok(());
    }
    let layers: Vec<PathBuf> = content.layers.iter().map(|layer| layer.0.clone()).collect();
    let pairs: Vec<(PathBuf, PathBuf)> = filling.iter().map(|(_, pair)| pair.clone()).collect();
    let filled = fill::copy(base, content.id_map, &layers, &pairs).map_err(|failure| {
        failure.doing("give a new volume what the image has").hint("the option nocopy leaves it empty")
    })?;
    for ((need, _), summary) in filling.into_iter().zip(filled) {
        let has_files = summary.is_some_and(|summary| summary.entries > 0);
        if let Some(staged) = need.staged.as_ref().filter(|_| has_files && need.lasting) {
            volumes::write_out(staged)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::options::{tmpfs, volume, volumes_from};
    use crate::sandbox::spec;

    /// `TARGET=WHAT` of all mounts in their order. `volumes` are `-v`, or
    /// `--tmpfs` if they begin with `~`.
    fn shown(volumes: &[&str], lenders: &[&str], image: &[&str], before: &Record) -> Result<Vec<String>> {
        let parse = |text: &&str| match text.strip_prefix('~') {
            Some(target) => tmpfs::parse(target).unwrap(),
            None => volume::parse(text).unwrap(),
        };
        let image =
            RunConfig { volumes: image.iter().map(|path| (*path).to_owned()).collect(), ..RunConfig::default() };
        let askers = Askers {
            mounts: &volumes.iter().map(parse).collect::<Vec<_>>(),
            volumes_from: &lenders.iter().map(|text| volumes_from::parse(text).unwrap()).collect::<Vec<_>>(),
            image: &image,
            image_volumes: ImageVolumes::Anonymous,
            before,
        };
        let count = std::cell::Cell::new(0);
        let name = || {
            count.set(count.get() + 1);
            Ok(format!("new{}", count.get()))
        };
        let wanted = wanted(&askers, &lender, &name)?;
        let show = |mount: &Mount| {
            let what = match &mount.what {
                What::Volume { name, copy } => format!("{}{}", name.as_deref()?, if *copy { "" } else { " nocopy" }),
                What::Bind { source, .. } => source.display().to_string(),
                What::Tmpfs { .. } => "tmpfs".to_owned(),
            };
            let own = matches!(&mount.what, What::Volume { name: Some(name), .. } if wanted.anonymous.contains(name));
            let marks =
                format!("{}{}", if own { " own" } else { "" }, if mount.attributes.read_only { " ro" } else { "" });
            Some(format!("{}={what}{marks}", mount.target))
        };
        Ok(wanted.mounts.iter().filter_map(show).collect())
    }

    fn lender(name: &str) -> Result<Record> {
        let mut record = Record::new("ab".repeat(32), name.to_owned());
        let mount = |target: &str, source: Source, read_only| spec::Mount {
            target: ContainerPath::new(target),
            source,
            attributes: Attributes { read_only, ..Attributes::default() },
        };
        let bind = |path: &str| Source::Bind { path: HostPath(path.into()), recursive: true, propagation: None };
        record.mounts = match name {
            "db" => vec![
                Mounted { volume: Some("own".to_owned()), mount: mount("/data", bind("/volumes/own/data"), false) },
                Mounted { volume: None, mount: mount("/host", bind("/home"), true) },
            ],
            "web" => vec![Mounted { volume: Some("pages".to_owned()), mount: mount("/data", bind("/x"), false) }],
            _ => return Err(Failure::not_found("no such container")),
        };
        record.anonymous_volumes = vec!["own".to_owned()];
        Ok(record)
    }

    #[test]
    fn the_user_goes_before_lenders_and_these_before_the_image() {
        let none = Record::new(String::new(), String::new());
        let check = |volumes: &[&str], lenders: &[&str], image_volumes: &[&str], expected: &[&str]| {
            assert_eq!(shown(volumes, lenders, image_volumes, &none).unwrap(), expected);
        };
        check(&["db:/a", "/b"], &[], &[], &["/a=db", "/b=new1 own"]);
        check(&[], &[], &["/b", "/a", "/a/", "c"], &["/a=new1 own", "/b=new2 own", "/c=new3 own"]);
        check(&["db:/a", "~/b", "/home:/c"], &[], &["/a", "/b", "/c"], &["/a=db", "/b=tmpfs", "/c=/home"]);
        check(&[], &["db"], &["/data"], &["/data=own nocopy", "/host=/home ro"]);
        check(&["x1:/data"], &["db:ro"], &["/host"], &["/data=x1", "/host=/home ro"]);
        check(&[], &["db", "web"], &[], &["/data=pages nocopy", "/host=/home ro"]);
        check(&[], &["web:ro", "db:ro"], &[], &["/data=own nocopy ro", "/host=/home ro"]);
        assert!(shown(&[], &["nobody"], &[], &none).is_err());
        assert!(shown(&[], &[], &["/proc/x"], &none).is_err());
    }

    #[test]
    fn a_container_that_is_planned_again_keeps_its_volumes() {
        let mut before = lender("db").unwrap();
        let again = |before: &Record| shown(&["/data", "/new"], &["nobody"], &[], before);
        // The lender is asked for as long as nothing was ever planned.
        assert!(again(&before).is_err());
        before.files = Some(crate::container::record::Files {
            rootfs: None,
            id_map: IdMap::single(0, 0),
            id_map_key: String::new(),
            mount_points: Vec::new(),
            mounts: Vec::new(),
            read_only: false,
        });
        assert_eq!(again(&before).unwrap(), ["/data=own own", "/new=new1 own", "/host=/home ro"]);
    }

    #[test]
    fn a_volume_that_is_mounted_twice_is_made_once() {
        let mounts = ["db:/b:nocopy", "db:/c", "db:/a"].map(|text| volume::parse(text).unwrap()).to_vec();
        let wanted = Wanted { mounts, anonymous: Vec::new() };
        let needs = needs("id", &wanted, true).unwrap();
        assert_eq!(needs.len(), 1);
        assert_eq!(needs["db"].copied_from, Some(ContainerPath::new("/c")));
        assert!(needs["db"].lasting);
    }
}
