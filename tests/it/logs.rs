//! What containers said: `kelp logs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use kelp::container::log::{Driver, Extras};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::pseudo_terminal::Terminal;
use super::harness::{Home, eventually, is_running, kelp_binary};

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
    home.kelp(&["logs", "--tail", "many", "box"]).refuse(125, &["--tail", "many"]);
    home.kelp(&["logs", "--since", "yesterday", "box"]).refuse(125, &["--since", "yesterday"]);
    home.kelp(&["logs", "bx"]).refuse(1, &["no container \"bx\"", "box"]);
    home.kelp(&["logs"]).refuse(125, &["CONTAINER"]);
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

/// What the probe's `lines COUNT` writes.
fn lines(count: usize) -> String {
    (0..count).map(|number| format!("line {number} of a log\n")).collect()
}

#[test]
fn what_a_container_says_is_kept() {
    let home = Home::new();
    let words = ["lines", "50000", "+", "error", "oops", "+", "echo", "a \"b\" \\ \u{e9}"];
    home.run_kept(&["-d", "--name", "box", "--log-opt", "tag={{.Name}}"], &words).succeed();
    home.kelp(&["wait", "box"]).succeed();
    let output = home.kelp(&["logs", "box"]).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, "oops\n"));
    assert!(output.stdout == lines(50_000) + "a \"b\" \\ \u{e9}\n");
    assert_eq!(home.kelp(&["logs", "-n", "2", "box"]).succeed().lines().next_back(), Some("a \"b\" \\ \u{e9}"));
    // The next run goes on in the same log.
    home.kelp(&["start", "box"]).succeed();
    home.kelp(&["wait", "box"]).succeed();
    let text = home.kelp(&["logs", "--details", "box"]).succeed();
    assert_eq!(text.matches("tag=box line 0 of a log").count(), 2);
    home.kelp(&["rm", "box"]).succeed();
}

#[test]
fn a_command_in_the_foreground_has_a_log_too() {
    let home = Home::new();
    let said = home.run_kept(&["--name", "box"], &["echo", "hello"]).succeed();
    assert_eq!((said.as_str(), home.kelp(&["logs", "box"]).succeed().as_str()), ("hello\n", "hello\n"));
    let mut terminal = Terminal::start(&mut home.run_kept(&["-t", "--name", "tty"], &["echo", "hello"]), 80, 24);
    terminal.expect("hello");
    assert_eq!(terminal.running.wait().code, 0);
    assert_eq!(home.kelp(&["logs", "tty"]).succeed(), "hello\r\n");
    // With --rm only for who asks.
    let mut passed = home.start(&["--rm", "-i", "--name", "passed"], &["echo", "ready", "+", "line"]);
    home.kelp(&["logs", "passed"]).refuse(1, &["it keeps none"]);
    passed.wait();
    let mut kept =
        home.start(&["--rm", "-i", "--log-opt", "max-file=2", "--name", "kept"], &["echo", "ready", "+", "line"]);
    assert_eq!(home.kelp(&["logs", "kept"]).succeed(), "ready\n");
    kept.wait();
}

#[test]
fn a_follower_goes_with_the_rotation_until_the_end() {
    let home = Home::new();
    let options = ["-d", "--name", "box", "--log-opt", "max-size=100k", "--log-opt", "max-file=256"];
    home.run_kept(&options, &["lines", "100000", "+", "sleep", "100", "+", "echo", "last"]).succeed();
    let output = home.kelp(&["logs", "-f", "box"]).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout == lines(100_000) + "last\n");
    let files = fs::read_dir(directory(&home, "box")).unwrap().flatten();
    let files = files.filter(|entry| entry.file_name().to_string_lossy().contains("-json.log")).count();
    assert!(files > 50, "{files}");
}

#[test]
fn a_killed_supervisor_leaves_a_log_that_goes_on() {
    let home = Home::new();
    let words = ["lines", "100000000"];
    home.run_kept(&["-d", "--name", "box", "--log-opt", "max-size=-1"], &words).succeed();
    let (log, supervisor) = (log(&directory(&home, "box")), home.supervisor("box"));
    let is_larger = |bytes: u64| eventually(|| log.metadata().is_ok_and(|status| status.len() > bytes));
    assert!(is_larger(1_000_000));
    // Nothing is called in between: the program writes hundreds of megabytes a second, all of which is read below.
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    // It dies when it is its turn, perhaps in the middle of an entry.
    assert!(eventually(|| !is_running(supervisor)));
    let output = home.kelp(&["logs", "box"]).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let count = output.stdout.lines().count();
    assert!(output.stdout == lines(count));
    // As a power cut leaves it.
    let length = log.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 7).unwrap();
    home.kelp(&["start", "box"]).succeed();
    assert!(is_larger(length + 100_000));
    home.kelp(&["kill", "box"]).succeed();
    home.kelp(&["wait", "box"]).succeed();
    let output = home.kelp(&["logs", "box"]).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(output.stdout.matches("line 0 of a log\n").count(), 2);
}

#[test]
fn a_full_disk_stops_no_container() {
    let home = Home::new();
    // Beyond the limit writes fail as on a full disk; records are smaller.
    let script = "ulimit -f 100; exec \"$0\" run -d --name box --rootfs \"$1\" /probe lines 20000 + stubborn";
    let (kelp, rootfs) = (kelp_binary(), home.rootfs());
    let words = ["-c", script, kelp.to_str().unwrap(), rootfs.to_str().unwrap()];
    home.call("/bin/sh".as_ref(), &words).succeed();
    let log = log(&directory(&home, "box"));
    let full = || log.metadata().unwrap().len();
    assert!(eventually(|| full() > 40_000 && fs::read(&log).unwrap().ends_with(b"\"}\n")));
    assert_eq!(home.containers()[0]["state"], "running");
    let before = home.kelp(&["logs", "box"]).output();
    assert_eq!((before.code, before.stderr.as_str()), (0, ""));
    assert!(lines(20_000).starts_with(&before.stdout));
    // There is room again; until all lines have come, they may fill it once more.
    assert!(eventually(|| {
        fs::write(&log, "").unwrap();
        home.kelp(&["kill", "-s", "USR1", "box"]).succeed();
        eventually(|| !fs::read(&log).unwrap().is_empty());
        let after = home.kelp(&["logs", "box"]).output();
        after.stdout.contains("SIGUSR1") && after.stderr.contains("of this log are lost: File too large (EFBIG)")
    }));
    home.kelp(&["rm", "-f", "box"]).succeed();
}

#[test]
fn drivers_and_options_are_refused_by_name() {
    let home = Home::new();
    home.run_kept(&["--log-driver", "syslog"], &["exit", "0"]).refuse(125, &["--log-driver", "does not log to syslog"]);
    home.run_kept(&["--log-opt", "max-siz=1m"], &["exit", "0"]).refuse(125, &["max-siz", "did you mean \"max-size\"?"]);
    home.run_kept(&["--log-driver", "none", "--name", "box"], &["echo", "hello"]).succeed();
    home.kelp(&["logs", "box"]).refuse(1, &["it keeps none"]);
    assert!(!log(&directory(&home, "box")).exists());
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        let mut call = home.run_kept(&["-d", "--log-driver", "journald"], &["exit", "0"]);
        call.refuse(125, &["there is no journald here", "hint: "]);
        // What could not be started stays, beside the box.
        assert_eq!(home.entries("containers").len(), 2);
    }
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
    for word in [&format!("CONTAINER_ID_FULL={}", id(&directory)), "--lines=all", "--since=@1767366245"] {
        assert!(called.contains(word), "{called}");
    }
    assert_eq!(home.kelp(&["logs", "-f", "box"]).env("PATH", &path).succeed(), "out\n");
}
