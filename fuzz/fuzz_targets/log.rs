//! A container's log, as somebody may have left it: reading it ends, forwards and from its last
//! lines, and an entry that serde_json reads says the same to kelp.

#![no_main]

use std::fs;

use kelp::container::log::{Entry, Item, Reader, Rotation, Selection};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|byte| *byte == b'\n') {
        let (Ok(value), Some(entry)) = (serde_json::from_slice::<serde_json::Value>(line), Entry::parse(line)) else {
            continue;
        };
        let mut text = Vec::new();
        entry.push_text(&mut text);
        assert_eq!(text.ends_with(b"\n"), entry.ends_line());
        assert_eq!(value["log"].as_str().unwrap_or_default().as_bytes(), text);
    }
    let directory = tempfile::tempdir().expect("there is room for a log");
    fs::write(directory.path().join("a-json.log"), bytes).expect("there is room for a log");
    let mut entries = 0;
    for lines in [None, Some(3)] {
        let selection = Selection { lines, since_ns: Some(0), until_ns: None };
        let reader = Reader::open(directory.path(), "a", &Rotation { bytes: None, files: 1 }, &selection, false);
        let mut reader = reader.expect("any file is a log");
        let mut seen = 0;
        while let Some(item) = reader.next().expect("any file can be read") {
            seen += usize::from(matches!(item, Item::Entry(_)));
        }
        assert!(lines.is_none() || seen <= entries);
        entries = seen;
    }
});
