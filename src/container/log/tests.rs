//! From what a program writes to what `kelp logs` reads.

use std::fs;
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::kernel::Errno;
use crate::limits;

const ID: &str = "0123456789abcdef";

fn config(bytes: Option<u64>, files: u32) -> Config {
    let driver = Driver::JsonFile { rotation: Rotation { bytes, files }, extras: Extras::default() };
    Config { driver, ..Config::default() }
}

fn writer(directory: &Path, config: &Config) -> Writer {
    Writer::open(config, directory, &Subject { id: ID, ..Subject::default() }).unwrap()
}

fn reader(directory: &Path, config: &Config, selection: Selection, follows: bool) -> Reader {
    let Driver::JsonFile { rotation, .. } = &config.driver else { panic!("no files") };
    Reader::open(directory, ID, rotation, &selection, follows).unwrap()
}

/// What comes out for now: standard output, standard error, what was passed over.
fn drain(reader: &mut Reader) -> (Vec<u8>, Vec<u8>, usize) {
    let (mut stdout, mut stderr, mut odd) = (Vec::new(), Vec::new(), 0);
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Entry(entry) if entry.stream == Stream::Stdout => entry.push_text(&mut stdout),
            Item::Entry(entry) => entry.push_text(&mut stderr),
            Item::Skipped(..) | Item::Missed => odd += 1,
        }
    }
    (stdout, stderr, odd)
}

fn text(reader: &mut Reader) -> String {
    let (stdout, stderr, odd) = drain(reader);
    assert_eq!((stderr.len(), odd), (0, 0));
    String::from_utf8(stdout).unwrap()
}

fn whole(directory: &Path, config: &Config) -> String {
    text(&mut reader(directory, config, Selection::default(), false))
}

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join(files::name(ID, 0))
}

fn entry(text: &str, time: &str) -> String {
    format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n")
}

#[test]
fn streams_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(None, 1);
    let mut writer = writer(dir.path(), &config);
    for (stream, chunk) in [
        (Stream::Stdout, "one\ntw"),
        (Stream::Stderr, "err"),
        (Stream::Stdout, "o\n\x1b[1mthree"),
        (Stream::Stderr, "or\n"),
    ] {
        writer.write(stream, chunk.as_bytes());
    }
    let mut before = reader(dir.path(), &config, Selection::default(), false);
    assert_eq!(drain(&mut before), (b"one\ntwo\n".to_vec(), b"error\n".to_vec(), 0));
    writer.finish();
    let mut after = reader(dir.path(), &config, Selection::default(), false);
    assert_eq!(drain(&mut after), (b"one\ntwo\n\x1b[1mthree".to_vec(), b"error\n".to_vec(), 0));
    assert_eq!(writer.lost(), None);
}

#[test]
fn every_line_says_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let extras = Extras {
        labels: vec!["tier".into(), "none".into()],
        variables: vec!["LANG".into()],
        tag: Some(Tag::parse("t/{{.Name}}").unwrap()),
    };
    let config = Config { driver: Driver::JsonFile { rotation: Rotation::default(), extras }, ..Config::default() };
    let labels = [("tier".to_owned(), "\"web\"".to_owned()), ("x".to_owned(), "y".to_owned())];
    let variables = ["LANG=C".to_owned(), "HOME=/".to_owned()];
    let subject = Subject { id: ID, name: "box", labels: &labels, variables: &variables, ..Subject::default() };
    Writer::open(&config, dir.path(), &subject).unwrap().write(Stream::Stdout, b"a\n");
    let mut reader = reader(dir.path(), &config, Selection::default(), false);
    let Some(Item::Entry(entry)) = reader.next().unwrap() else { panic!("no entry") };
    assert_eq!(entry.attributes, Some(r#"{"LANG":"C","tag":"t/box","tier":"\"web\""}"#));
    let labels = [("tier".to_owned(), "x".repeat(limits::LOG_EXTRAS_BYTES_MAX))];
    assert!(Writer::open(&config, dir.path(), &Subject { labels: &labels, ..subject }).is_err());
}

#[test]
fn the_largest_entry_fits() {
    let dir = tempfile::tempdir().unwrap();
    let extras = Extras { labels: vec!["a".into()], ..Extras::default() };
    let config = Config { driver: Driver::JsonFile { rotation: Rotation::default(), extras }, ..Config::default() };
    let labels = [("a".to_owned(), "x".repeat(limits::LOG_EXTRAS_BYTES_MAX - 10))];
    let subject = Subject { id: ID, labels: &labels, ..Subject::default() };
    let mut writer = Writer::open(&config, dir.path(), &subject).unwrap();
    let chunk = [vec![0; 3 * limits::LOG_LINE_BYTES], b"\n".to_vec()].concat();
    writer.write(Stream::Stdout, &chunk);
    assert_eq!(whole(dir.path(), &config).into_bytes(), chunk);
    for lines in [0, 1] {
        let selection = Selection { lines: Some(lines), ..Selection::default() };
        let found = text(&mut reader(dir.path(), &config, selection, false));
        assert_eq!(found.len(), chunk.len() * lines as usize);
    }
}

#[test]
fn the_last_lines_and_times_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(None, 2);
    let older = entry("a", "2026-01-02T15:04:05Z") + &entry("b", "2026-01-02T15:04:05.5Z");
    // The clock was set back.
    let newer = entry("c", "2026-01-02T15:04:04.123456789Z") + &entry("d", "2026-01-02T17:04:06+02:00");
    fs::write(dir.path().join(files::name(ID, 1)), older).unwrap();
    fs::write(file(dir.path()), newer + &entry("e", "never")).unwrap();
    let time_ns = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond());
    let check = |lines, since: Option<&str>, until: Option<&str>, expected: &str| {
        let (since_ns, until_ns) = (since.and_then(time_ns), until.and_then(time_ns));
        let selection = Selection { lines, since_ns, until_ns };
        let found = text(&mut reader(dir.path(), &config, selection, false)).replace('\n', "");
        assert_eq!(found, expected, "{lines:?} {since:?} {until:?}");
    };
    check(None, None, None, "abcde");
    check(Some(0), None, None, "");
    check(Some(2), None, None, "de");
    check(Some(4), None, None, "bcde");
    check(Some(9), None, None, "abcde");
    check(None, Some("2026-01-02T15:04:05.000000001Z"), None, "bde");
    check(None, Some("2026-01-02T15:04:05.5Z"), None, "bde");
    check(None, None, Some("2026-01-02T15:04:05Z"), "ace");
    check(None, Some("2026-01-02T15:04:05Z"), Some("2026-01-02T15:04:05.6Z"), "abe");
    // The last of those that are wanted, not the wanted of the last.
    check(Some(2), None, Some("2026-01-02T15:04:04.2Z"), "ce");
    check(Some(1), None, Some("2026-01-02T15:04:04Z"), "e");
    check(Some(2), Some("2026-01-02T15:04:05Z"), None, "de");
}

#[test]
fn what_is_no_entry_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(None, 1);
    let line = entry("a", "2026-01-02T15:04:05Z");
    fs::write(file(dir.path()), format!("{line}junk\n\n{line}{}\n{line}{{\"lo", "x".repeat(300_000))).unwrap();
    let mut reader = reader(dir.path(), &config, Selection::default(), false);
    let mut places = Vec::new();
    let mut entries = 0;
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Entry(_) => entries += 1,
            Item::Skipped(path, offset) => places.push((path == file(dir.path()), offset)),
            Item::Missed => panic!("nothing was missed"),
        }
    }
    let size = line.len() as u64;
    assert_eq!(entries, 3);
    assert_eq!(places, [(true, size), (true, size + 5), (true, 2 * size + 6)]);
}

#[test]
fn a_follower_goes_with_the_rotation() {
    for files in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(Some(1_000), files);
        let mut reader = reader(dir.path(), &config, Selection::default(), true);
        assert_eq!(text(&mut reader), "");
        let mut writer = writer(dir.path(), &config);
        let (mut written, mut read) = (String::new(), String::new());
        for number in 0..200 {
            let line = format!("line {number}\n");
            writer.write(Stream::Stdout, line.as_bytes());
            written += &line;
            // At most one rotation between two looks.
            if number % 5 == 0 {
                read += &text(&mut reader);
            }
        }
        read += &text(&mut reader);
        assert_eq!(read, written, "{files}");
        assert!(!dir.path().join(files::name(ID, files)).exists());
    }
}

#[test]
fn a_follower_that_is_too_slow_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(Some(1), 3);
    let mut writer = writer(dir.path(), &config);
    writer.write(Stream::Stdout, b"0\n");
    let mut reader = reader(dir.path(), &config, Selection::default(), true);
    assert_eq!(text(&mut reader), "0\n");
    (1..10).for_each(|number| writer.write(Stream::Stdout, format!("{number}\n").as_bytes()));
    assert_eq!(drain(&mut reader), (b"7\n8\n9\n".to_vec(), Vec::new(), 1));
}

#[test]
fn a_follower_meets_mended_and_emptied_files() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(None, 1);
    let line = entry("a", "2026-01-02T15:04:05Z");
    fs::write(file(dir.path()), format!("{line}{{\"log\":\"torn, and longer than what comes instead")).unwrap();
    let mut reader = reader(dir.path(), &config, Selection::default(), true);
    assert_eq!(text(&mut reader), "a\n");
    writer(dir.path(), &config).write(Stream::Stdout, b"b\n");
    assert_eq!(text(&mut reader), "b\n");
    // As `: > FILE` does it.
    let mut log = fs::OpenOptions::new().write(true).truncate(true).open(file(dir.path())).unwrap();
    assert_eq!(text(&mut reader), "");
    log.write_all(entry("c", "2026-01-02T15:04:05Z").as_bytes()).unwrap();
    assert_eq!(text(&mut reader), "c\n");
}

#[test]
fn one_who_does_not_follow_ends_where_the_log_ended() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(Some(50), 9);
    let mut writer = writer(dir.path(), &config);
    writer.write(Stream::Stdout, b"a\nb\n");
    let mut reader = reader(dir.path(), &config, Selection::default(), false);
    writer.write(Stream::Stdout, b"c\nd\ne\n");
    assert_eq!(text(&mut reader), "a\nb\n");
    assert_eq!(whole(dir.path(), &config), "a\nb\nc\nd\ne\n");
}

/// Files may have four blocks of 512 or 1,024 bytes: what is longer is written
/// in part, then refused (EFBIG), as on a full disk.
#[test]
fn a_full_disk_tears_nothing_and_is_told() {
    const INSIDE: &str = "KELP_TEST_FULL_DISK";
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().unwrap();
        let name = "container::log::tests::a_full_disk_tears_nothing_and_is_told";
        // The output of the test's own run would be cut short, too.
        let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" --exact \"$1\" --nocapture 2>&1 | cat";
        let mut call = std::process::Command::new("sh");
        let output = call.args(["-c", script, program.to_str().unwrap(), name]).env(INSIDE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(None, 1);
    let mut writer = writer(dir.path(), &config);
    let line = [b'x'; 99];
    let line = [&line[..], b"\n"].concat();
    for _ in 0..100 {
        writer.write(Stream::Stdout, &line.repeat(3));
    }
    let lost = writer.lost().unwrap();
    let kept = whole(dir.path(), &config).len() as u64 / 100;
    assert!((8..30).contains(&kept), "{kept}");
    assert_eq!(lost, Lost { lines: 300 - kept, bytes: 100 * (300 - kept), errno: Errno::EFBIG });
    assert!(fs::read(file(dir.path())).unwrap().ends_with(b"\"}\n"));
    // There is room again, for a moment.
    fs::write(file(dir.path()), "").unwrap();
    writer.write(Stream::Stdout, b"back\n");
    assert_eq!(writer.lost(), None);
    let mut again = reader(dir.path(), &config, Selection::default(), false);
    let (stdout, stderr, _) = drain(&mut again);
    let said =
        format!("kelp: {} lines ({} bytes) of this log are lost: File too large (EFBIG)\n", lost.lines, lost.bytes);
    assert_eq!((String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap()), ("back\n".to_owned(), said));
    // At the end of the container, too.
    writer.write(Stream::Stdout, &line.repeat(100));
    assert!(writer.lost().is_some());
    fs::write(file(dir.path()), "").unwrap();
    writer.finish();
    assert_eq!(writer.lost(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        chunks in prop::collection::vec(
            (any::<bool>(), prop_oneof![
                prop::collection::vec(prop_oneof![Just(b'\n'), b' '..b'~', any::<u8>()], 0..300),
                (b'a'..=b'z', 0..40_000_usize).prop_map(|(byte, count)| vec![byte; count]),
            ]), 0..30),
        full in prop_oneof![Just(None), (1..20_000_u64).prop_map(Some)],
        last in 0..20_u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = config(full, 256);
        let mut writer = writer(dir.path(), &config);
        let mut follower = reader(dir.path(), &config, Selection::default(), true);
        let mut written = [Vec::new(), Vec::new()];
        let mut followed = [Vec::new(), Vec::new()];
        let mut follow = |follower: &mut Reader| {
            let (stdout, stderr, odd) = drain(follower);
            followed[0].extend(stdout);
            followed[1].extend(stderr);
            odd
        };
        for (is_error, chunk) in &chunks {
            writer.write(if *is_error { Stream::Stderr } else { Stream::Stdout }, chunk);
            written[usize::from(*is_error)].extend_from_slice(chunk);
            prop_assert_eq!(follow(&mut follower), 0);
        }
        writer.finish();
        prop_assert_eq!(follow(&mut follower), 0);
        // Bytes that are no UTF-8 are replaced line by line.
        let expected = written.map(|bytes| bytes.split_inclusive(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect::<String>());
        let (stdout, stderr, odd) = drain(&mut reader(dir.path(), &config, Selection::default(), false));
        prop_assert_eq!(odd, 0);
        prop_assert_eq!([&stdout, &stderr], [&followed[0], &followed[1]]);
        let read = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        prop_assert_eq!(&read, &expected);
        // The last lines are the end of it.
        let tail = drain(&mut reader(dir.path(), &config, Selection { lines: Some(last), ..Selection::default() }, false));
        prop_assert!(read[0].as_bytes().ends_with(&tail.0) && read[1].as_bytes().ends_with(&tail.1));
        let lines = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
        let all: u64 = read.iter().map(|text| lines(text.as_bytes())).sum();
        prop_assert!(lines(&tail.0) + lines(&tail.1) >= last.min(all));
    }

    #[test]
    fn any_file_can_be_read(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), prop::sample::select(&b"{}\":,\\logstdouime"[..]), any::<u8>()], 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), bytes).unwrap();
        for lines in [None, Some(2)] {
            drain(&mut reader(dir.path(), &config(None, 1), Selection { lines, since_ns: Some(0), until_ns: None }, false));
        }
    }
}
