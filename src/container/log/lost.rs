//! What could not be written, and the line that says so once it can be again.

use crate::kernel::Errno;

/// Lines of a log that nobody will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Lines, or pieces of long ones.
    pub lines: u64,
    /// What the program had written, in bytes.
    pub bytes: u64,
    /// Why, the last time.
    pub errno: Errno,
}

impl Lost {
    /// One more line of `bytes` bytes.
    pub(super) fn add(lost: &mut Option<Self>, bytes: u64, errno: Errno) {
        let before = lost.map_or((0, 0), |lost| (lost.lines, lost.bytes));
        *lost = Some(Self { lines: before.0.saturating_add(1), bytes: before.1.saturating_add(bytes), errno });
    }

    /// The line that takes the place of what is lost.
    pub(super) fn sentence(&self) -> String {
        let lines = if self.lines == 1 { "line" } else { "lines" };
        let Self { lines: count, bytes, errno } = self;
        format!("kelp: {count} {lines} ({bytes} bytes) of this log are lost: {} ({errno:?})", errno.desc())
    }
}
