//! Whether the store is whole: every blob against its digest, every name's
//! documents, every unpacked layer, what containers stand on. And its repair.
//!
//! ```text
//!   survey     what there is, and what each image and container needs   survey.rs
//!   hash       every blob, on all cores                                 hash.rs
//!   layers     counted; in doubt compared with a fresh unpacking        layers.rs
//!   repair     blobs fetched anew by digest, then layers unpacked anew  repair.rs
//! ```
//!
//! Without `repair` nothing is changed. With it, a damaged blob stays where it
//! is until a verified one replaces it by rename(2), and an unpacked layer
//! until a fresh one does; what cannot be repaired is left and named, with the
//! command that would. Nothing is locked while it is looked at: what is
//! removed meanwhile is not missing.

mod hash;
mod layers;
mod repair;
mod survey;

use serde::Serialize;

use super::lifecycle;
use crate::error::Result;
use crate::image::blobs::Blobs;
use crate::image::registry::Progress;
use crate::paths::Paths;
use crate::storage::sweep;

use hash::Verdicts;
use survey::Survey;

/// What is to be checked, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// These images only, or all images if it is empty; `None` is everything
    /// there is.
    pub images: Option<Vec<String>>,
    /// Replace what is damaged.
    pub repair: bool,
    /// Compare the contents of all unpacked files.
    pub files: bool,
    /// Talk to registries without TLS.
    pub plain_http: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing is damaged (any more).
    pub whole: bool,
    /// How much was looked at.
    pub checked: Checked,
    /// What is or was damaged.
    pub findings: Vec<Finding>,
    /// What broken-off commands left.
    pub left_over: LeftOver,
    /// What could not be seen, one sentence each.
    pub unseen: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Names of images.
    pub names: u64,
    /// Blobs that were hashed.
    pub blobs: u64,
    /// Bytes of them.
    pub blob_bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Entries in them.
    pub layer_entries: u64,
    /// Those of the layers whose files were compared with a fresh unpacking.
    pub compared_layers: u64,
    /// Containers.
    pub containers: u64,
}

/// What broken-off commands left; it takes space and does no harm.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    /// Writes in progress that nobody is at.
    pub unfinished: u64,
    /// Removed things that are not deleted yet.
    pub removed: u64,
}

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A blob whose content is not what its digest says.
    BlobDamaged,
    /// A blob that an image needs and that is not here.
    BlobMissing,
    /// A blob that cannot be read.
    BlobUnreadable,
    /// An image whose blobs are whole but make no image.
    ImageInvalid,
    /// The file of a name that cannot be read.
    NameUnreadable,
    /// An unpacked layer that is not what was unpacked.
    LayerDamaged,
    /// A container whose record cannot be read.
    ContainerUnreadable,
    /// A container whose layers are neither unpacked nor here as blobs.
    ContainerIncomplete,
}

/// One thing that is or was damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is the matter.
    pub kind: Kind,
    /// With what: a digest, a name, a file.
    pub object: String,
    /// In which way.
    pub cause: String,
    /// Images and containers that need it.
    pub needed_by: Vec<String>,
    /// What repaired it, if anything did.
    pub repaired: Option<String>,
    /// Why a repair failed.
    pub failed: Option<String>,
    /// The command that helps.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(kind: Kind, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            kind,
            object: object.into(),
            cause: cause.into(),
            needed_by: Vec::new(),
            repaired: None,
            failed: None,
            remedy: None,
        }
    }

    fn needed_by<'a>(mut self, users: impl IntoIterator<Item = &'a String>) -> Self {
        self.needed_by = users.into_iter().cloned().collect();
        self
    }

    fn remedy(mut self, command: impl Into<String>) -> Self {
        self.remedy = Some(command.into());
        self
    }
}

/// Checks, and repairs where that is asked for.
pub fn run(paths: &Paths, options: &Options, progress: &dyn Progress) -> Result<Report> {
    let blobs = Blobs::open(paths)?;
    let mut report = Report::default();
    let mut verdicts = Verdicts::default();
    let mut survey = survey::take(paths, &blobs, options.images.as_deref())?;
    verdicts.hash(&blobs, &survey, progress)?;
    report.findings = survey.findings(paths, &verdicts);
    if options.repair {
        survey = repair::blobs(paths, &blobs, options, survey, &mut verdicts, &mut report, progress)?;
    }
    report.checked = checked(&survey, &verdicts);
    layers::check(paths, options, &survey, &verdicts, &mut report)?;
    if options.images.is_none() {
        report.left_over = left_over(paths)?;
    }
    if options.repair {
        lifecycle::delete_removed(paths)?;
    }
    if !options.repair {
        propose_repair(options, &mut report.findings);
    }
    report.whole = report.findings.iter().all(|finding| finding.repaired.is_some());
    Ok(report)
}

fn checked(survey: &Survey, verdicts: &Verdicts) -> Checked {
    let (blobs, blob_bytes) = verdicts.hashed();
    let (names, containers) = (survey.tags.len() as u64, survey.containers.len() as u64);
    Checked { names, blobs, blob_bytes, containers, ..Checked::default() }
}

fn left_over(paths: &Paths) -> Result<LeftOver> {
    let removed = std::fs::read_dir(paths.trash()).map_or(0, |entries| entries.count() as u64);
    Ok(LeftOver { unfinished: sweep::stale(paths, sweep::STALE)?.len() as u64, removed })
}

/// What was not tried may help.
fn propose_repair(options: &Options, findings: &mut [Finding]) {
    let command = match &options.images {
        Some(images) => format!("kelp image verify --repair {}", images.join(" ")),
        None => "kelp system check --repair".to_owned(),
    };
    let is_repairable = |finding: &&mut Finding| {
        matches!(finding.kind, Kind::BlobDamaged | Kind::BlobMissing | Kind::BlobUnreadable | Kind::LayerDamaged)
    };
    for finding in findings.iter_mut().filter(is_repairable) {
        finding.remedy = Some(command.trim_end().to_owned());
    }
}
