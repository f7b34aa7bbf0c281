//! What there is, and what each image and each container needs of it: as far
//! as it can be read. Nothing is hashed here but the documents on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::hash::{Verdict, Verdicts};
use super::{Finding, Kind};
use crate::container::record::{Record, Status};
use crate::container::store;
use crate::error::{Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, Role};
use crate::image::digest::Digest;
use crate::image::lists::{self, List};
use crate::image::lookup;
use crate::image::manifest::{Document, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::stores;
use crate::image::tags::{self, Damaged, Tag};
use crate::limits;
use crate::paths::Paths;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Not only some images.
    pub(super) is_everything: bool,
    /// Names and what they stand for.
    pub(super) tags: Vec<Tag>,
    /// Names that cannot be read.
    pub(super) damaged_tags: Vec<Damaged>,
    /// Containers' records.
    pub(super) containers: Vec<Record>,
    /// Why others could not be read.
    pub(super) damaged_containers: Vec<Failure>,
    /// Blobs that somebody needs.
    pub(super) needs: BTreeMap<Digest, Need>,
    /// Layers that somebody needs, by diff id.
    pub(super) layers: BTreeMap<Digest, LayerNeed>,
    /// Images whose documents contradict each other.
    invalid: Vec<(String, Failure)>,
}

/// Who needs a blob.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// Manifest, config, layer or index.
    what: &'static str,
    /// The image can be used without it: an index that it came out of.
    is_optional: bool,
    /// Images and containers.
    pub(super) users: BTreeSet<String>,
    /// Names at digests that a registry knows it under.
    pub(super) origins: Vec<Origin>,
    /// The tags that need it.
    tags: Vec<Tag>,
}

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The name at the digest of the manifest or, for indexes, of the index.
    pub(super) reference: Reference,
    /// What the image is for, if that can be read.
    pub(super) platform: Option<Platform>,
}

/// Who needs a layer.
#[derive(Debug, Default)]
pub(super) struct LayerNeed {
    /// Its blob, where an image has it.
    pub(super) blob: Option<Descriptor>,
    /// Images and containers.
    pub(super) users: BTreeSet<String>,
}

/// What there is of `images`, or of everything.
pub(super) fn take(paths: &Paths, blobs: &Blobs, images: Option<&[String]>) -> Result<Survey> {
    let mut survey = Survey { is_everything: images.is_none(), ..Survey::default() };
    let (all, damaged) = tags::list_readable(paths)?;
    match images {
        None | Some([]) => (survey.tags, survey.damaged_tags) = (all, damaged),
        Some(names) => {
            let wanted = names.iter().map(|name| Ok(lookup::find_own_tag(paths, name)?.config));
            let wanted = wanted.collect::<Result<BTreeSet<Digest>>>()?;
            survey.tags = all.into_iter().filter(|tag| wanted.contains(&tag.config)).collect();
        }
    }
    for tag in survey.tags.clone() {
        survey.add_image(blobs, &tag);
    }
    if survey.is_everything {
        lists::all(paths)?.iter().for_each(|list| survey.add_list(blobs, list));
        for tag in stores::adopted(&paths.image_stores, blobs, &Platform::host()) {
            survey.add_layers(blobs, &tag);
        }
    }
    let (containers, damaged) = store::list(paths)?;
    let records: Vec<Record> = containers.into_iter().map(|container| container.record).collect();
    records.iter().for_each(|record| survey.add_container(blobs, record));
    if survey.is_everything {
        (survey.containers, survey.damaged_containers) = (records, damaged);
    }
    Ok(survey)
}

/// A container that runs on a layer at this moment, by name.
pub(super) fn running_on(paths: &Paths, blobs: &Blobs, diff_id: &Digest) -> Result<Option<String>> {
    let (containers, damaged) = store::list(paths)?;
    if let Some(failure) = damaged.into_iter().next() {
        return Err(failure.doing("find the containers that run on it"));
    }
    let stands_on_it = |record: &Record| {
        let id = record.image_id.parse::<Digest>().ok();
        let config = id.and_then(|id| read_config(blobs, &id)?.ok());
        config.is_some_and(|config| config.rootfs.diff_ids.contains(diff_id))
    };
    let running = containers.into_iter().map(|container| container.record);
    let mut running = running.filter(|record| matches!(record.status, Status::Running { .. }));
    Ok(running.find(stands_on_it).map(|record| record.name))
}

impl Survey {
    fn add_image(&mut self, blobs: &Blobs, tag: &Tag) {
        let name = tag.reference.as_ref().map_or_else(|| tag.config.short(), Reference::familiar);
        let config = read_config(blobs, &tag.config);
        let platform = config.as_ref().and_then(|config| Some(config.as_ref().ok()?.platform()));
        // An image that was only named so is not known to be in that registry.
        let at = |digest: Digest| {
            let pulled = tag.reference.as_ref().filter(|_| tag.source.is_some())?;
            Some(Origin { reference: pulled.at(digest), platform: platform.clone() })
        };
        let origin = at(tag.manifest.digest);
        self.need(tag.manifest.digest, "manifest", &name, origin.clone(), tag);
        self.need(tag.config, "config", &name, origin.clone(), tag);
        if let Some(source) = tag.source.filter(|source| *source != tag.manifest.digest) {
            self.add_indexes(blobs, source, &name, at(source).as_ref(), tag, limits::INDEX_DEPTH_MAX);
        }
        let manifest = match read_manifest(blobs, &tag.manifest) {
            None => return,
            Some(Err(failure)) => return self.invalid.push((name, failure)),
            Some(Ok(manifest)) => manifest,
        };
        for layer in &manifest.layers {
            self.need(layer.digest, "layer", &name, origin.clone(), tag);
        }
        match config {
            _ if manifest.config.digest != tag.config => {
                let cause = format!("its manifest has the config {}, not {}", manifest.config.digest, tag.config);
                self.invalid.push((name, Failure::user(cause)));
            }
            None => {}
            Some(config) => match config.and_then(|config| config.check_layers(&manifest).map(|()| config)) {
                Err(failure) => self.invalid.push((name, failure)),
                Ok(config) => {
                    for (blob, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
                        let layer = self.layers.entry(*diff_id).or_default();
                        layer.blob = Some(blob.clone());
                        layer.users.insert(name.clone());
                    }
                }
            },
        }
    }

    /// The unpacked layers of an image in a read-only store. Its blobs are not
    /// ours to verify; those of layers were when they were unpacked.
    fn add_layers(&mut self, blobs: &Blobs, tag: &Tag) {
        let Ok((manifest, config)) = lookup::documents(blobs, &tag.manifest) else { return };
        let name = tag.store.as_ref().map(|store| store.path().display().to_string()).unwrap_or_default();
        for (blob, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let layer = self.layers.entry(*diff_id).or_default();
            layer.blob.get_or_insert_with(|| blob.clone());
            layer.users.insert(name.clone());
        }
    }

    /// The index at `digest` and those in it that are here.
    fn add_indexes(
        &mut self,
        blobs: &Blobs,
        digest: Digest,
        name: &str,
        origin: Option<&Origin>,
        tag: &Tag,
        depth: usize,
    ) {
        if depth == 0 {
            return;
        }
        self.need(digest, "index", name, origin.cloned(), tag);
        let bytes = blobs.read_verified(&digest, limits::MANIFEST_BYTES_MAX);
        if let Ok(Document::Index(index)) = bytes.and_then(|bytes| Document::parse(&bytes, None)) {
            for entry in index.manifests.iter().filter(|entry| entry.role() == Role::Index) {
                if blobs.size(&entry.digest).is_ok_and(|size| size.is_some()) {
                    self.add_indexes(blobs, entry.digest, name, origin, tag, depth - 1);
                }
            }
        }
    }

    fn need(&mut self, digest: Digest, what: &'static str, name: &str, origin: Option<Origin>, tag: &Tag) {
        let need = self.needs.entry(digest).or_insert_with(|| Need { is_optional: true, ..Need::default() });
        need.what = what;
        need.is_optional &= what == "index";
        need.users.insert(name.to_owned());
        need.origins.extend(origin.filter(|origin| !need.origins.contains(origin)));
        need.tags.push(tag.clone());
    }

    /// A list needs its images' documents. Layers may be elsewhere.
    fn add_list(&mut self, blobs: &Blobs, list: &List) {
        let name = format!("list {}", list.reference.familiar());
        let mut need = |digest, what| {
            let need = self.needs.entry(digest).or_insert_with(|| Need { what, ..Need::default() });
            need.is_optional = false;
            need.users.insert(name.clone());
        };
        need(list.index.digest, "index");
        for entry in list.contents(blobs).into_iter().flat_map(|contents| contents.manifests) {
            need(entry.digest, "manifest");
            if let Some(Ok(manifest)) = read_manifest(blobs, &entry.descriptor()) {
                need(manifest.config.digest, "config");
            }
        }
    }

    /// A container keeps its image's config, and stands on unpacked layers.
    /// One that needs none of the chosen images is passed over.
    fn add_container(&mut self, blobs: &Blobs, record: &Record) {
        let Ok(id) = record.image_id.parse::<Digest>() else { return };
        if !self.is_everything && !self.tags.iter().any(|tag| tag.config == id) {
            return;
        }
        let name = format!("container {}", record.name);
        let need = self.needs.entry(id).or_insert_with(|| Need { what: "config", ..Need::default() });
        need.is_optional = false;
        need.users.insert(name.clone());
        if let Some(Ok(config)) = read_config(blobs, &id) {
            for diff_id in config.rootfs.diff_ids {
                self.layers.entry(diff_id).or_default().users.insert(name.clone());
            }
        }
    }

    /// Whether the layers of some image are not known, because its manifest
    /// cannot be read.
    pub(super) fn lacks_manifests(&self, verdicts: &Verdicts) -> bool {
        self.tags.iter().any(|tag| *verdicts.of(&tag.manifest.digest) != Verdict::Whole)
    }

    /// What is damaged, layers left out.
    pub(super) fn findings(&self, paths: &Paths, verdicts: &Verdicts) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (digest, verdict) in verdicts.iter() {
            let need = self.needs.get(digest);
            if need.is_none() && !self.is_everything {
                continue;
            }
            let is_missing = || need.is_some_and(|need| need.is_missed(paths));
            let (kind, cause) = match verdict {
                Verdict::Missing if is_missing() => (Kind::BlobMissing, "it is not here".to_owned()),
                Verdict::Whole | Verdict::Missing => continue,
                Verdict::Damaged(found) => (Kind::BlobDamaged, format!("its content has digest {found}")),
                Verdict::Unreadable(cause) => (Kind::BlobUnreadable, cause.clone()),
            };
            let what = need.map_or("blob that nothing needs", |need| need.what);
            let finding = Finding::new(kind, digest.to_string(), format!("{what}: {cause}"));
            findings.push(finding.needed_by(need.iter().flat_map(|need| &need.users)));
        }
        let invalid = self.invalid.iter().map(|(name, failure)| {
            let finding = Finding::new(Kind::ImageInvalid, name.clone(), failure.to_string());
            finding.needed_by([name]).remedy(format!("kelp rmi {name}, then pull or load it again"))
        });
        findings.extend(invalid);
        findings.extend(self.damaged_tags.iter().map(unreadable_name));
        let unreadable = self.damaged_containers.iter();
        findings.extend(unreadable.map(|failure| {
            Finding::new(Kind::ContainerUnreadable, paths.containers().display().to_string(), failure.to_string())
        }));
        findings
    }
}

impl Need {
    /// Whether it should be here: somebody needs it, and still does.
    fn is_missed(&self, paths: &Paths) -> bool {
        // Dropped once it was unpacked (the setting keep-blobs).
        let can_be_fetched = self.tags.iter().all(|tag| tag.source.is_some());
        if self.what == "layer" && !paths.keeps_blobs && can_be_fetched {
            return false;
        }
        let has_container = self.users.len() > self.tags.len() || self.tags.is_empty();
        !self.is_optional && (has_container || self.tags.iter().any(|tag| tags::is_current(paths, tag)))
    }
}

fn unreadable_name(damaged: &Damaged) -> Finding {
    let object = damaged.reference.as_ref().map_or_else(|| damaged.file.display().to_string(), Reference::familiar);
    let remedy = match &damaged.reference {
        Some(reference) => format!("kelp pull {}", reference.familiar()),
        None => format!("rm {}", damaged.file.display()),
    };
    Finding::new(Kind::NameUnreadable, object, damaged.failure.to_string()).remedy(remedy)
}

/// The manifest; `None` where its blob is not whole: that is told elsewhere.
fn read_manifest(blobs: &Blobs, descriptor: &Descriptor) -> Option<Result<Manifest>> {
    let bytes = blobs.read_verified(&descriptor.digest, limits::MANIFEST_BYTES_MAX).ok()?;
    Some(Document::parse(&bytes, Some(&descriptor.media_type)).and_then(|document| match document {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(Failure::user("its manifest is an index of images")),
    }))
}

/// The config, likewise.
fn read_config(blobs: &Blobs, digest: &Digest) -> Option<Result<ImageConfig>> {
    let bytes = blobs.read_verified(digest, limits::CONFIG_BYTES_MAX).ok()?;
    Some(ImageConfig::parse(&bytes))
}
