//! Progress of transfers: bars on a terminal, nothing elsewhere.

use std::collections::HashMap;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;
use crate::image::registry::Progress;

/// One bar for each transfer under way. Made on first use: most commands
/// transfer nothing.
#[derive(Default)]
pub(super) struct Bars {
    is_hidden: bool,
    bars: Mutex<Option<(MultiProgress, HashMap<String, ProgressBar>)>>,
}

impl Bars {
    /// No bars yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// No bars ever.
    pub(super) fn hidden() -> Self {
        Self { is_hidden: true, ..Self::default() }
    }

    fn with(&self, action: impl FnOnce(&MultiProgress, &mut HashMap<String, ProgressBar>)) {
        if self.is_hidden || !output::progress_is_seen() {
            return;
        }
        // A thread that panicked while drawing leaves bars that can be drawn on.
        let mut bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (multi, bars) =
            bars.get_or_insert_with(|| (MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), HashMap::new()));
        action(multi, bars);
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = if total > 0 {
        "{prefix:22} {bar:30} {bytes:>10} / {total_bytes:10} {bytes_per_sec:>12}"
    } else {
        "{prefix:22} {spinner} {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn start(&self, id: &str, total: u64) {
        self.with(|multi, bars| {
            let bar = bars.entry(id.to_owned()).or_insert_with(|| multi.add(ProgressBar::new(total)));
            bar.set_style(style(total));
            bar.set_prefix(id.to_owned());
            bar.set_position(0);
            // No steady tick: it is a thread, and the command forks its stages.
            bar.tick();
        });
    }

    fn advance(&self, id: &str, bytes: u64) {
        self.with(|_, bars| {
            if let Some(bar) = bars.get(id) {
                bar.inc(bytes);
            }
        });
    }

    fn done(&self, id: &str) {
        self.with(|_, bars| {
            if let Some(bar) = bars.remove(id) {
                bar.finish_and_clear();
            }
        });
    }
}
