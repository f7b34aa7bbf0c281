//! What containers said: `kelp logs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use kelp::container::log::{Config, Driver, Extras, Rotation, Stream, Subject, Writer};

use super::harness::Home;

/// A container that has ended, called `name`; the path of its directory.
fn ended(home: &Home, name: &str) -> PathBuf {
    home.run_kept(&["--name", name], &["exit", "0"]).succeed();
    directory(home, name)
}

fn directory(home: &Home, name: &str) -> PathBuf {
    let containers = home.containers();
    let found = containers.iter().find(|container| container["name"] == name).unwrap();
    home.data().join("containers").join(found["id"].as_str().unwrap())
}

fn id(directory: &std::path::Path) -> String {
    directory.file_name().unwrap().to_str().unwrap().to_owned()
}

fn log(directory: &std::path::Path) -> PathBuf {
    directory.join(format!("{}-json.log", id(directory)))
}

/// A line of a log at second `second` of a day in 2026.
fn entry(stream: &str, text: &str, second: u32) -> String {
    let attributes = format!(r#""attrs":{{"tag":"t {second}"}}"#);
    format!(
        "{{\"log\":\"{text}\",\"stream\":\"{stream}\",{attributes},\"time\":\"2026-01-02T15:04:{second:02}.5Z\"}}\n"
    )
}

#[test]
fn lines_come_with_their_streams() {
    let home = Home::new();
    let directory = ended(&home, "box");
    let lines = [entry("stdout", r"one\n", 1), entry("stderr", r"two\n", 2), entry("stdout", "three", 3)];
    fs::write(log(&directory), lines.concat()).unwrap();
    let output = home.kelp(&["logs", "box"]).output();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "one\nthree", "two\n"));
    let check = |words: &[&str], expected: &str| {
        let output = home.kelp(&[words, &["box"]].concat()).output();
        assert_eq!((output.code, format!("{}|{}", output.stdout, output.stderr).as_str()), (0, expected), "{words:?}");
    };
    check(&["container", "logs", "--tail", "1"], "three|");
    check(&["logs", "-n", "2"], "three|two\n");
    check(&["logs", "--tail", "-1"], "one\nthree|two\n");
    check(&["logs", "--since", "2026-01-02T15:04:02Z"], "three|two\n");
    check(&["logs", "--until", "2026-01-02T15:04:02Z"], "one\n|");
    check(&["logs", "--since", "1767366242.4", "--until", "1767366243"], "|two\n");
    check(&["logs", "-t", "-n", "1"], "2026-01-02T15:04:03.500000000Z three|");
    check(&["logs", "--details", "-t", "-n", "1"], "2026-01-02T15:04:03.500000000Z tag=t+3 three|");
    check(&["logs", "-f"], "one\nthree|two\n");
    home.kelp(&["logs", "--tail", "many", "box"]).refuse(2, &["--tail", "many"]);
    home.kelp(&["logs", "--since", "yesterday", "box"]).refuse(2, &["--since", "yesterday"]);
    home.kelp(&["logs", "bx"]).refuse(1, &["no container \"bx\"", "box"]);
    home.kelp(&["logs"]).refuse(2, &["CONTAINER"]);
}

#[test]
fn streams_that_lead_to_one_place_keep_their_order() {
    let home = Home::new();
    let directory = ended(&home, "box");
    let lines = [entry("stderr", r"1\n", 1), entry("stdout", r"2\n", 2), entry("stderr", r"3\n", 3)];
    fs::write(log(&directory), lines.concat()).unwrap();
    let script = format!("{} logs box 2>&1", super::harness::kelp_binary().display());
    assert_eq!(home.call("/bin/sh".as_ref(), &["-c", &script]).succeed(), "1\n2\n3\n");
}

#[test]
fn several_containers_are_told_apart() {
    let home = Home::new();
    for name in ["one", "two"] {
        let directory = ended(&home, name);
        // A line in two pieces has one beginning.
        let lines = [entry("stdout", "a ", 1), entry("stdout", &format!("{name}\\n"), 2), entry("stdout", r"b\n", 3)];
        fs::write(log(&directory), lines.concat()).unwrap();
    }
    assert_eq!(home.kelp(&["logs", "--names", "one", "two"]).succeed(), "one a one\none b\ntwo a two\ntwo b\n");
    let ids = ["one", "two"].map(|name| id(&directory(&home, name))[..12].to_owned());
    let expected = format!("{0} a one\n{0} b\n{1} a two\n{1} b\n", ids[0], ids[1]);
    assert_eq!(home.kelp(&["logs", "one", "two"]).succeed(), expected);
    // All are looked for before anything is printed.
    let output = home.kelp(&["logs", "one", "three"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
}

#[test]
fn a_damaged_log_is_read_as_far_as_it_goes() {
    let home = Home::new();
    let directory = ended(&home, "box");
    let good = entry("stdout", r"good\n", 1);
    fs::write(log(&directory), format!("{good}\0\0\0\nnonsense\n{good}{{\"log\":\"to")).unwrap();
    let output = home.kelp(&["logs", "box"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, "good\ngood\n"));
    assert!(
        output.stderr.contains(&format!("byte {} of {}", good.len(), log(&directory).display())),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("2 lines in the log of \"box\" were passed over"), "{}", output.stderr);
    // What is no file is not waited for or followed.
    fs::remove_file(log(&directory)).unwrap();
    assert_eq!(home.kelp(&["logs", "box"]).succeed(), "");
    std::os::unix::fs::symlink("/etc/passwd", log(&directory)).unwrap();
    home.kelp(&["logs", "box"]).refuse(1, &["cannot read the log of container \"box\""]);
    fs::remove_file(log(&directory)).unwrap();
    nix::unistd::mkfifo(&log(&directory), nix::sys::stat::Mode::S_IRWXU).unwrap();
    home.kelp(&["logs", "box"]).refuse(1, &["it is not a file"]);
}

#[test]
fn a_follower_sees_all_until_the_end() {
    let home = Home::new();
    let mut container = home.start(&["-i", "--name", "box"], &["echo", "ready", "+", "line"]);
    let directory = directory(&home, "box");
    let id = id(&directory);
    let rotation = Rotation { bytes: Some(100_000), files: 200 };
    let driver = Driver::JsonFile { rotation, extras: Extras::default() };
    set_log(&directory, &driver);
    let mut follower = home.kelp(&["logs", "-f", "box"]).start();
    let config = Config { driver, ..Config::default() };
    let mut writer = Writer::open(&config, &directory, &Subject { id: &id, ..Subject::default() }).unwrap();
    writer.write(Stream::Stdout, b"first\n");
    // It follows already; now it is to keep up.
    assert_eq!(follower.line(), "first");
    let chunk: String = (0..700).map(|number| format!("line {number} of many\n")).collect();
    (0..100).for_each(|_| writer.write(Stream::Stdout, chunk.as_bytes()));
    writer.write(Stream::Stdout, b"last");
    writer.finish();
    container.wait();
    let output = follower.wait();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout == chunk.repeat(100) + "last");
}

/// Changes where the record says that the log goes.
fn set_log(directory: &std::path::Path, driver: &Driver) {
    let path = directory.join("record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["log"] = serde_json::json!({ "driver": driver });
    fs::write(path, record.to_string()).unwrap();
}

#[test]
fn what_is_not_kept_is_not_there() {
    let home = Home::new();
    let directory = ended(&home, "box");
    set_log(&directory, &Driver::None);
    home.kelp(&["logs", "box"]).refuse(1, &["cannot read the log of container \"box\": it keeps none"]);
    set_log(&directory, &Driver::Passthrough);
    home.kelp(&["logs", "box"]).refuse(1, &["it keeps none", "hint: "]);
}

#[test]
fn the_journal_is_read_by_journalctl() {
    let home = Home::new();
    let directory = ended(&home, "box");
    set_log(&directory, &Driver::Journald { extras: Extras::default() });
    let bin = home.make_dir("bin");
    home.kelp(&["logs", "box"])
        .env("PATH", &bin)
        .refuse(1, &["there is no journalctl here", "journalctl CONTAINER_ID_FULL="]);
    let script = r#"#!/bin/sh
echo "$@" > "$0.called"
echo '{"MESSAGE":"out","PRIORITY":"6","__REALTIME_TIMESTAMP":"1767366245500000"}'
echo '{"MESSAGE":[101,114,114,255],"PRIORITY":"3","__REALTIME_TIMESTAMP":"1767366246000000"}'
case "$*" in *--follow*) exec sleep 1000 ;; esac
"#;
    let program = bin.join("journalctl");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = home.kelp(&["logs", "-t", "-n", "5", "--since", "1767366245.5", "box"]).env("PATH", &path).output();
    assert_eq!(output.stdout, "2026-01-02T15:04:05.500000000Z out\n", "{}", output.stderr);
    assert!(output.stderr.starts_with("2026-01-02T15:04:06.000000000Z err\u{fffd}\n"), "{}", output.stderr);
    let called = fs::read_to_string(bin.join("journalctl.called")).unwrap();
    for word in [&format!("CONTAINER_ID_FULL={}", id(&directory)), "--lines=5", "--since=@1767366245"] {
        assert!(called.contains(word), "{called}");
    }
    assert_eq!(home.kelp(&["logs", "-f", "box"]).env("PATH", &path).succeed(), "out\n");
}
