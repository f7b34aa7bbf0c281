//! Unpacked layers: that they are there and hold what was unpacked into them.
//!
//! No record says what a layer's files are; only how many bytes were written.
//! So each layer is counted, and where the count is less, or the files are to
//! be compared anyway, it is unpacked once more from its verified blob, beside
//! it, and the two are compared by their fingerprints (storage/census.rs).
//! That is exact: a layer that holds a file twice is not taken for damaged.

use std::path::PathBuf;

use super::hash::{Verdict, Verdicts};
use super::survey::{self, LayerNeed, Survey};
use super::{Finding, Kind, Options, Report};
use crate::engine::unpack::{self, Image};
use crate::engine::{lifecycle, removal};
use crate::error::{Context, Failure, Result};
use crate::image::blobs::Blobs;
use crate::image::config::ImageConfig;
use crate::image::descriptor::{Descriptor, OCI_CONFIG};
use crate::image::digest::Digest;
use crate::image::manifest::Manifest;
use crate::image::registry::Silent;
use crate::paths::{self, Paths};
use crate::process::base::Base;
use crate::storage::census::{Census, Counter};
use crate::storage::layers::{self, LayerId, Staged};
use crate::storage::sweep;
use crate::storage::unpack::Summary;

/// What it is checked with.
struct Checker<'a> {
    paths: &'a Paths,
    options: &'a Options,
    base: Base,
    counter: Counter,
}

/// A layer that was unpacked to be compared, in a store of its own.
struct Fresh {
    staged: Staged,
    id: LayerId,
    root: PathBuf,
}

/// What a layer turned out to be.
enum State {
    Whole,
    /// In which way it is not, and a fresh one where there is one.
    Damaged(String, Option<Box<Fresh>>),
}

/// Checks all unpacked layers that somebody needs, and what containers stand on.
pub(super) fn check(
    paths: &Paths,
    options: &Options,
    survey: &Survey,
    verdicts: &Verdicts,
    report: &mut Report,
) -> Result<()> {
    let mut checker = match start(paths, options) {
        Ok(checker) => checker,
        // Where the host gives no user namespace, nothing runs either.
        Err(failure) => {
            report.unseen.push(format!("what is in unpacked layers, because they cannot be entered: {failure}"));
            return Ok(());
        }
    };
    let mut unneeded = 0_u64;
    for (id, summary) in layers::survey(paths)? {
        let diff_id = Digest::from_hex(id.diff_id()).map_err(Failure::from)?;
        match survey.layers.get(&diff_id) {
            Some(need) => checker.check(&id, &diff_id, summary, need, verdicts, report)?,
            None => unneeded += 1,
        }
    }
    if survey.is_everything && unneeded > 0 {
        report.unseen.push(format!("{unneeded} unpacked layers that nothing needs; kelp image prune removes them"));
    }
    let counted_only = report.checked.layers - report.checked.compared_layers;
    if counted_only > 0 && !options.files {
        report.unseen.push(format!("the contents of files in {counted_only} unpacked layers; --files compares them"));
    }
    containers(paths, survey, verdicts, report)
}

fn start<'a>(paths: &'a Paths, options: &'a Options) -> Result<Checker<'a>> {
    let mut base = Base::find(paths)?;
    let counter = Counter::start(&mut base)?;
    Ok(Checker { paths, options, base, counter })
}

impl Checker<'_> {
    fn check(
        &mut self,
        id: &LayerId,
        diff_id: &Digest,
        summary: Result<Summary>,
        need: &LayerNeed,
        verdicts: &Verdicts,
        report: &mut Report,
    ) -> Result<()> {
        let blob = need.blob.as_ref().filter(|blob| *verdicts.of(&blob.digest) == Verdict::Whole);
        let state = self.examine(id, diff_id, summary, blob, report)?;
        let State::Damaged(cause, fresh) = state else { return Ok(()) };
        let fresh = fresh.map(|fresh| *fresh);
        if !layers::root(self.paths, id).parent().is_some_and(std::path::Path::exists) {
            // Removed while it was looked at.
            return self.discard(fresh);
        }
        let mut finding = Finding::new(Kind::LayerDamaged, diff_id.to_string(), cause).needed_by(&need.users);
        if self.options.repair {
            match self.repair(id, blob, fresh) {
                Ok(how) => finding.repaired = Some(how),
                Err(failure) => {
                    finding.failed = Some(failure.to_string());
                    finding.remedy = failure.hints.into_iter().next();
                }
            }
            lifecycle::delete_removed(self.paths)?;
        } else {
            self.discard(fresh)?;
        }
        report.findings.push(finding);
        Ok(())
    }

    /// Counts a layer and, in doubt, compares it with a fresh one.
    fn examine(
        &mut self,
        id: &LayerId,
        diff_id: &Digest,
        summary: Result<Summary>,
        blob: Option<&Descriptor>,
        report: &mut Report,
    ) -> Result<State> {
        report.checked.layers += 1;
        let root = layers::root(self.paths, id);
        if layers::find(self.paths, id).is_none() {
            return Ok(State::Damaged("its directory has no root".to_owned(), None));
        }
        let found = match self.counter.count(&root, false, false) {
            Ok(found) => found,
            Err(failure) => return Ok(State::Damaged(failure.to_string(), None)),
        };
        report.checked.layer_entries += found.entries;
        let evidence = evidence(&summary, &found);
        let is_short = summary.as_ref().is_ok_and(|summary| found.bytes < summary.bytes);
        if evidence.is_none() && !is_short && !self.options.files {
            return Ok(State::Whole);
        }
        let Some(blob) = blob else {
            let written = summary.map_or(0, |summary| summary.bytes);
            let short = is_short.then(|| format!("it holds {} bytes, but {written} were written", found.bytes));
            return Ok(match evidence.or(short) {
                Some(cause) => State::Damaged(cause, None),
                None => State::Whole,
            });
        };
        let fresh = match self.unpack(diff_id, blob) {
            Ok(fresh) => fresh,
            Err(failure) => {
                let cause = format!("it cannot be compared: {failure}");
                return Ok(State::Damaged(evidence.unwrap_or(cause), None));
            }
        };
        report.checked.compared_layers += 1;
        match self.compare(id, &fresh)?.or(evidence) {
            Some(cause) => Ok(State::Damaged(cause, Some(Box::new(fresh)))),
            None => {
                self.discard(Some(fresh))?;
                // Not all at the end: that would take the whole store's space twice.
                lifecycle::delete_removed(self.paths)?;
                Ok(State::Whole)
            }
        }
    }

    /// In which way a layer differs from a fresh one.
    fn compare(&self, id: &LayerId, fresh: &Fresh) -> Result<Option<String>> {
        let owners = fresh.id.id_map() == id.id_map();
        let count = |root: &PathBuf| self.counter.count(root, owners, self.options.files);
        let (ours, theirs) = (count(&layers::root(self.paths, id))?, count(&fresh.root)?);
        if ours.fingerprint == theirs.fingerprint {
            return Ok(None);
        }
        if (ours.entries, ours.bytes) == (theirs.entries, theirs.bytes) {
            return Ok(Some("its files are not those of the layer".to_owned()));
        }
        let Census { entries, bytes, .. } = theirs;
        Ok(Some(format!(
            "it holds {} entries with {} bytes instead of {entries} with {bytes}",
            ours.entries, ours.bytes
        )))
    }

    /// Unpacks a layer into a store of its own in `staging/`, for the ids that
    /// containers have by default.
    fn unpack(&mut self, diff_id: &Digest, blob: &Descriptor) -> Result<Fresh> {
        let staged = layers::stage_dir(self.paths)?;
        let scratch = Paths { data: staged.root(), ..self.paths.clone() };
        std::os::unix::fs::symlink(self.paths.data.join("blobs"), scratch.data.join("blobs"))?;
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![*diff_id];
        let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, b""), vec![blob.clone()]);
        let image = Image { id: manifest.config.digest, config, manifest };
        let id_map = self.base.map.identity();
        let id = LayerId::new(&self.base.map.compose(&id_map).key(), &diff_id.hex())?;
        let unpacked = unpack::layers(&scratch, &mut self.base, &id_map, &image, &Silent);
        let root = layers::root(&scratch, &id);
        match unpacked {
            Ok(_) => Ok(Fresh { staged, id, root }),
            Err(failure) => {
                sweep::trash(self.paths, staged.dir())?;
                Err(failure)
            }
        }
    }

    /// Puts a fresh layer into the place of a damaged one; where it is
    /// unpacked for other ids, takes the damaged one away: the next container
    /// with these ids has it unpacked anew.
    fn repair(&mut self, id: &LayerId, blob: Option<&Descriptor>, fresh: Option<Fresh>) -> Result<String> {
        let fresh = match (fresh, blob) {
            (Some(fresh), _) => fresh,
            (None, None) => return Err(Failure::user("its blob is not here to unpack it again")),
            (None, Some(blob)) => {
                let diff_id = Digest::from_hex(id.diff_id()).map_err(Failure::from)?;
                self.unpack(&diff_id, blob)?
            }
        };
        let replaced = self.replace(id, &fresh);
        self.discard(Some(fresh))?;
        replaced
    }

    fn replace(&self, id: &LayerId, fresh: &Fresh) -> Result<String> {
        // Nobody looks for layers while theirs are exchanged.
        let Some(_guard) = removal::wait_for_turn(self.paths)? else {
            return Err(Failure::user("an image is being fetched or a container started"));
        };
        let diff_id = Digest::from_hex(id.diff_id()).map_err(Failure::from)?;
        if let Some(name) = survey::running_on(self.paths, &Blobs::open(self.paths)?, &diff_id)? {
            return Err(Failure::user(format!("container {name} runs on it")).hint(format!("kelp rm -f {name}")));
        }
        layers::remove(self.paths, id)?;
        if fresh.id.id_map() != id.id_map() {
            return Ok("removed: it is unpacked again when it is needed".to_owned());
        }
        let place = layers::root(self.paths, id);
        if let (Some(from), Some(to)) = (fresh.root.parent(), place.parent()) {
            to.parent().map_or(Ok(()), paths::make_private)?;
            std::fs::rename(from, to).doing(|| format!("replace layer \"{}\"", id.diff_id()))?;
        }
        Ok("unpacked again".to_owned())
    }

    fn discard(&self, fresh: Option<Fresh>) -> Result<()> {
        match fresh {
            Some(fresh) => sweep::trash(self.paths, fresh.staged.dir()),
            None => Ok(()),
        }
    }
}

/// What shows without a comparison.
fn evidence(summary: &Result<Summary>, found: &Census) -> Option<String> {
    if let Err(failure) = summary {
        return Some(failure.to_string());
    }
    if found.unreadable == 0 {
        return None;
    }
    Some(format!("{} entries cannot be read: {}", found.unreadable, found.examples.join("; ")))
}

/// A container needs its image's config and layers that are unpacked, or can be.
fn containers(paths: &Paths, survey: &Survey, verdicts: &Verdicts, report: &mut Report) -> Result<()> {
    let unpacked: Vec<LayerId> = layers::survey(paths)?.into_iter().map(|(id, _)| id).collect();
    for (diff_id, need) in &survey.layers {
        let is_unpacked = unpacked.iter().any(|id| id.diff_id() == diff_id.hex());
        let has_blob = need.blob.as_ref().is_some_and(|blob| *verdicts.of(&blob.digest) == Verdict::Whole);
        let users: Vec<&String> = need.users.iter().filter(|user| user.starts_with("container ")).collect();
        let Some(first) = users.first().and_then(|user| user.strip_prefix("container ")) else { continue };
        if !is_unpacked && !has_blob {
            let cause = "it is neither unpacked nor here as a blob";
            let finding = Finding::new(Kind::ContainerIncomplete, diff_id.to_string(), cause);
            report.findings.push(finding.needed_by(users).remedy(format!("kelp rm {first}")));
        }
    }
    Ok(())
}
