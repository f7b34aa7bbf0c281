//! `kelp system check`: whether the store is whole, and its repair. The
//! report is `kelp image verify`'s, too.

use clap::Args;

use super::format::DocumentFormat;
use super::{Session, output, progress, units};
use crate::engine::check::{self, Finding, Options, Report};
use crate::error::Result;

/// Arguments of `kelp system check`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    how: How,
}

/// How it is checked and told.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Replace what is damaged: fetch blobs again by digest, unpack layers again
    ///
    /// Nothing is deleted before a verified replacement is here. What cannot
    /// be repaired is left as it is and named.
    #[arg(long)]
    repair: bool,
    /// Compare the contents of all unpacked files, too: reads everything twice
    #[arg(long)]
    files: bool,
    /// Talk to registries without TLS (on loopback this needs no flag)
    #[arg(long, requires = "repair")]
    plain_http: bool,
    /// Print nothing, only end with 0 if all is whole and 1 if not
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// How to print: json, or a Go template such as '{{.whole}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<DocumentFormat>,
}

/// Checks everything.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    arguments.how.check(None, session)
}

impl How {
    /// Checks these images, or everything; ends with 1 where damage is left.
    pub(super) fn check(self, images: Option<Vec<String>>, session: &Session) -> Result<i32> {
        let options = Options { images, repair: self.repair, files: self.files, plain_http: self.plain_http };
        let bars = if self.quiet { progress::Bars::hidden() } else { progress::Bars::new() };
        let report = check::run(&session.paths, &options, &bars)?;
        match &self.format {
            _ if self.quiet => {}
            None => print(&report),
            Some(DocumentFormat::Json) => output::json(&report)?,
            Some(format) => format.print(&[output::value(&report)?])?,
        }
        Ok(i32::from(!report.whole))
    }
}

fn print(report: &Report) {
    report.findings.iter().for_each(print_finding);
    let checked = &report.checked;
    let damaged = report.findings.len();
    let left = report.findings.iter().filter(|finding| finding.repaired.is_none()).count();
    let result = match (damaged, left) {
        (0, _) => "all is whole".to_owned(),
        (_, 0) => format!("{damaged} damaged, all repaired"),
        (_, left) if left == damaged => format!("{damaged} damaged"),
        _ => format!("{damaged} damaged, {} repaired", damaged - left),
    };
    output::line(format!(
        "{} blobs ({}), {} unpacked layers with {} entries, {} names, {} containers: {result}",
        checked.blobs,
        units::bytes(checked.blob_bytes),
        checked.layers,
        checked.layer_entries,
        checked.names,
        checked.containers,
    ));
    report.unseen.iter().for_each(|what| output::text(&format!("not looked at: {what}")));
    let left_over = &report.left_over;
    if left_over.unfinished + left_over.removed > 0 {
        let (unfinished, removed) = (left_over.unfinished, left_over.removed);
        output::line(format!("left over, to be deleted: {unfinished} unfinished writes, {removed} removed things"));
    }
}

fn print_finding(finding: &Finding) {
    output::text(&format!("{}: {}", finding.object, finding.cause));
    if !finding.needed_by.is_empty() {
        output::text(&format!("    needed by {}", finding.needed_by.join(", ")));
    }
    if let Some(how) = &finding.repaired {
        output::text(&format!("    repaired: {how}"));
        return;
    }
    if let Some(why) = &finding.failed {
        output::text(&format!("    not repaired: {why}"));
    }
    if let Some(command) = &finding.remedy {
        output::text(&format!("    what helps: {command}"));
    }
}
