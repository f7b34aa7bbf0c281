//! All files of a container, as a tar on its way out.

use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::harness::pseudo_terminal::Terminal;
use super::harness::{Home, eventually, is_running};

/// A container called `box` whose export does not fit into a pipe.
fn home_with_a_large_file() -> Home {
    let home = Home::new();
    home.run_kept(&["--name", "box"], &["fill", "/large", "4000000"]).succeed();
    home
}

#[test]
fn an_export_is_imported_again() {
    let home = Home::new();
    let words = ["write", "/data/new", "x", "+", "chown", "/data/new", "1000", "29", "+", "remove", "/etc/group"];
    home.run_kept(&["--name", "box"], &words).succeed();
    let file = home.path("box.tar");
    home.kelp(&["export", "-o", file.to_str().unwrap(), "box"]).succeed();
    let exported = home.kelp(&["export", "box"]).output();
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert!(std::fs::read(&file).unwrap() == exported.bytes);
    home.kelp(&["import", "-c", r#"ENTRYPOINT ["/probe"]"#, "-", "again"]).input(exported.bytes).succeed();
    let said = home.kelp(&["run", "--name", "next", "again", "stat", "/data/new", "+", "read", "/etc/group"]).succeed();
    assert_eq!(said, "1000:29 100644 1 bytes\nerror: ENOENT\n");
    // A fixed point, and the same to diff.
    assert!(std::fs::read(&file).unwrap() == home.kelp(&["export", "next"]).output().bytes);
    assert_eq!(home.kelp(&["diff", "next"]).succeed(), "");
}

#[test]
fn an_export_is_whole_or_not_there() {
    let home = home_with_a_large_file();
    let directory = home.make_dir("out");
    let file = directory.join("box.tar");
    std::fs::write(&file, "before").unwrap();
    home.kelp(&["export", "-o", file.to_str().unwrap(), "nobody"]).refuse(1, &["nobody"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    home.kelp(&["export", "-o", directory.to_str().unwrap(), "box"]).refuse(1, &["it is a directory"]);
    home.kelp(&["export", "-o", file.to_str().unwrap(), "box"]).succeed();
    assert!(file.metadata().unwrap().len() > 4_000_000);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_terminal_is_no_place_for_a_tar() {
    let home = Home::new();
    home.run_kept(&["--name", "box"], &["exit", "0"]).succeed();
    let mut terminal = Terminal::start(&mut home.kelp(&["export", "box"]), 80, 24);
    terminal.expect("kelp export -o FILE");
    assert_eq!(terminal.running.wait().code, 125);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = home_with_a_large_file();
    let mut call = home.kelp(&["export", "box"]);
    let mut child = call.command.stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 512]).unwrap();
    drop(stdout);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(141), ""));
}

/// The stage that packs, whose reader waits.
fn packer(home: &Home) -> i32 {
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let find = || home.holders().into_iter().find(|pid| name(*pid).starts_with("kelp-pack"));
    assert!(eventually(|| find().is_some()));
    find().unwrap()
}

#[test]
fn whoever_packs_may_be_killed() {
    let home = home_with_a_large_file();
    for victim in ["stage", "command"] {
        let mut call = home.kelp(&["export", "box"]);
        let mut child = call.command.stdin(Stdio::null()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 512]).unwrap();
        let packer = packer(&home);
        let command = i32::try_from(child.id()).unwrap();
        let pid = if victim == "stage" { packer } else { command };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        if victim == "stage" {
            // Its worker dies with it, but not before it; as long as nobody reads, that cannot be done.
            assert!(eventually(|| !is_running(packer)));
        }
        // What it had written is read; nobody else holds the other end.
        stdout.read_to_end(&mut Vec::new()).unwrap();
        let status = child.wait().unwrap();
        if victim == "stage" {
            assert_eq!(status.code(), Some(1));
        }
        assert!(eventually(|| !is_running(packer)), "{victim}");
    }
    assert_eq!(home.entries("staging"), [""; 0]);
}

#[test]
fn a_container_that_is_removed_meanwhile_is_not_exported_in_part() {
    let home = home_with_a_large_file();
    let mut call = home.kelp(&["export", "box"]);
    let mut child = call.command.stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 512]).unwrap();
    home.kelp(&["rm", "box"]).succeed();
    stdout.read_to_end(&mut Vec::new()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("removed meanwhile"), "{said}");
}
