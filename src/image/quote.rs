//! Strangers' text in our messages: quoted, escaped, cut short.
//!
//! A name from an archive or a registry may hold terminal escapes or be
//! megabytes long; what a person reads never does.

/// Characters kept of a quoted text: enough to recognise any legal name by.
const SHOWN_CHARS_MAX: usize = 120;

/// `text` between double quotes, control characters escaped, at most
/// [`SHOWN_CHARS_MAX`] characters of it.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(SHOWN_CHARS_MAX).is_some() { "..." } else { "" };
    format!("\"{shown}{more}\"")
}

/// The same for bytes that should be text, such as a path in an archive.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_cuts() {
        assert_eq!(quoted("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
        assert_eq!(quoted(&"x".repeat(121)), format!("\"{}...\"", "x".repeat(120)));
        assert_eq!(quoted_bytes(b"a\xff\n"), "\"a\u{fffd}\\n\"");
    }
}
