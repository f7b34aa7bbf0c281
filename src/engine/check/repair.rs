//! Repair of blobs: fetched anew, by digest, from the registry that their
//! image came from, into a store of their own; what arrives there is verified
//! and replaces the damaged file by rename(2).
//!
//! The blobs that are whole are linked into that store first, so that only what
//! is damaged is fetched.

use super::hash::{Verdict, Verdicts};
use super::survey::{self, Origin, Survey};
use super::{Finding, Kind, Options, Report};
use crate::engine::fetch;
use crate::error::{Context, Result};
use crate::image::blobs::Blobs;
use crate::image::digest::Digest;
use crate::image::garbage::{self, Parts};
use crate::image::lists;
use crate::image::registry::Progress;
use crate::image::tags;
use crate::paths::Paths;
use crate::storage::{layers, sweep};

/// A manifest that was fetched may show that its config or a layer is damaged
/// as well, and so may a config.
const PASSES: usize = 3;

/// Fetches what is damaged or missing; returns a survey of what there is now.
pub(super) fn blobs(
    paths: &Paths,
    blobs: &Blobs,
    options: &Options,
    mut survey: Survey,
    verdicts: &mut Verdicts,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<Survey> {
    let guard = garbage::hold(paths)?;
    if survey.lacks_manifests(verdicts) {
        // Reading all blobs costs less than fetching layers that are here.
        verdicts.hash_everything(blobs, &survey, progress)?;
    }
    for _ in 0..PASSES {
        let origins = broken_origins(&survey, verdicts, &report.findings);
        let mut replaced = Vec::new();
        for origin in &origins {
            let fetched = refetch(paths, verdicts, origin, options, progress)?;
            if let Err(cause) = &fetched.result {
                blame(&mut report.findings, &survey, origin, cause);
            }
            for digest in &fetched.replaced {
                verdicts.forget(digest);
                mark(&mut report.findings, digest, &format!("fetched again from {}", origin.reference.registry()));
            }
            replaced.extend(fetched.replaced);
        }
        if replaced.is_empty() {
            break;
        }
        survey = survey::take(paths, blobs, options.images.as_deref())?;
        verdicts.hash(blobs, &survey, progress)?;
        // With more documents at hand, what failed may be fetched now.
        report.findings.iter_mut().for_each(|finding| finding.failed = None);
        // What only shows now.
        for finding in survey.findings(paths, verdicts) {
            let is_known = |known: &Finding| known.object == finding.object && known.kind == finding.kind;
            if !report.findings.iter().any(is_known) {
                report.findings.push(finding);
            }
        }
    }
    drop(guard);
    if survey.is_everything {
        remove_unneeded(paths, blobs, verdicts, report)?;
    }
    name_remedies(&survey, &mut report.findings);
    Ok(survey)
}

fn is_broken(finding: &Finding) -> bool {
    let is_blob = matches!(finding.kind, Kind::BlobDamaged | Kind::BlobMissing | Kind::BlobUnreadable);
    is_blob && finding.repaired.is_none()
}

/// Where what is broken can be had; what was tried in vain is left out.
fn broken_origins(survey: &Survey, verdicts: &Verdicts, findings: &[Finding]) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    for finding in findings.iter().filter(|finding| is_broken(finding) && finding.failed.is_none()) {
        let digest = finding.object.parse::<Digest>().ok().filter(|digest| *verdicts.of(digest) != Verdict::Whole);
        let need = digest.and_then(|digest| survey.needs.get(&digest));
        for origin in need.iter().flat_map(|need| &need.origins) {
            if !origins.contains(origin) {
                origins.push(origin.clone());
            }
        }
    }
    origins
}

/// What came of a fetch: what arrived counts even if not all did.
struct Fetched {
    replaced: Vec<Digest>,
    result: Result<(), String>,
}

fn refetch(
    paths: &Paths,
    verdicts: &Verdicts,
    origin: &Origin,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Fetched> {
    let staged = layers::stage_dir(paths)?;
    let scratch = Paths::new(staged.root(), paths.run.clone());
    let fetched = Blobs::open(&scratch)?;
    for (digest, _) in verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Whole) {
        // Where the file system has no links, it is fetched.
        std::fs::hard_link(paths.blobs().join(digest.hex()), scratch.blobs().join(digest.hex())).ok();
    }
    let name = origin.reference.to_string();
    let result = fetch::fetch(&scratch, &name, origin.platform.as_ref(), options.plain_http, None, progress);
    let mut replaced = Vec::new();
    for (digest, _) in fetched.list()?.into_iter().filter(|(digest, _)| *verdicts.of(digest) != Verdict::Whole) {
        let doing = || format!("replace blob {digest}");
        std::fs::rename(scratch.blobs().join(digest.hex()), paths.blobs().join(digest.hex())).doing(doing)?;
        replaced.push(digest);
    }
    sweep::trash(paths, staged.dir())?;
    Ok(Fetched { replaced, result: result.map(drop).map_err(|failure| failure.to_string()) })
}

fn mark(findings: &mut [Finding], digest: &Digest, how: &str) {
    let object = digest.to_string();
    for finding in findings.iter_mut().filter(|finding| finding.object == object) {
        (finding.repaired, finding.failed) = (Some(how.to_owned()), None);
    }
}

fn blame(findings: &mut [Finding], survey: &Survey, origin: &Origin, cause: &str) {
    for finding in findings.iter_mut().filter(|finding| is_broken(finding)) {
        let need = finding.object.parse::<Digest>().ok().and_then(|digest| survey.needs.get(&digest));
        if need.is_some_and(|need| need.origins.contains(origin)) {
            finding.failed = Some(cause.to_owned());
        }
    }
}

/// A damaged blob that nothing needs would be taken for whole by a later
/// pull. It goes when nobody is bringing images, and the report says so.
fn remove_unneeded(paths: &Paths, blobs: &Blobs, verdicts: &Verdicts, report: &mut Report) -> Result<()> {
    let unneeded: Vec<&mut Finding> =
        report.findings.iter_mut().filter(|finding| is_broken(finding) && finding.needed_by.is_empty()).collect();
    if unneeded.is_empty() {
        return Ok(());
    }
    let guard = garbage::try_collect(paths)?;
    let mut parts = Parts::default();
    let of_tags = tags::list(paths).and_then(|tags| tags.iter().try_for_each(|tag| parts.add(blobs, tag)));
    let of_lists = lists::all(paths).and_then(|lists| lists.iter().try_for_each(|list| parts.add_list(blobs, list)));
    let is_known = of_tags.and(of_lists).is_ok();
    for finding in unneeded {
        let Some(digest) = finding.object.parse::<Digest>().ok() else { continue };
        if guard.is_none() {
            finding.failed = Some("an image is being fetched or a container started".to_owned());
        } else if !is_known {
            finding.failed = Some("other images are damaged, and one of them may need it".to_owned());
        } else if !parts.blobs.contains(&digest) && matches!(verdicts.of(&digest), Verdict::Damaged(_)) {
            sweep::trash(paths, &paths.blobs().join(digest.hex()))?;
            finding.repaired = Some("removed: nothing needs it".to_owned());
        }
    }
    Ok(())
}

/// What helps where nothing could be fetched.
fn name_remedies(survey: &Survey, findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| is_broken(finding)) {
        let digest = finding.object.parse::<Digest>().ok();
        let need = digest.and_then(|digest| survey.needs.get(&digest));
        let is_image = |user: &&String| !user.starts_with("container ") && !user.starts_with("list ");
        let image = finding.needed_by.iter().find(is_image);
        finding.remedy = match (need.and_then(|need| need.origins.first()), image) {
            (Some(_), Some(image)) => Some(format!("kelp pull {image}")),
            (None, Some(image)) => {
                finding.failed.get_or_insert_with(|| format!("image {image} came from no registry"));
                Some(format!("kelp rmi {image}, then load, import or pull it again"))
            }
            (_, None) => {
                let user = |kind: &str| finding.needed_by.iter().find_map(|user| user.strip_prefix(kind));
                let container = user("container ").map(|name| format!("kelp rm {name}"));
                container.or_else(|| Some(format!("kelp manifest rm {}", user("list ")?)))
            }
        };
    }
}
