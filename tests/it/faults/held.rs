//! Who holds others up: containers that stop what comes in, clients that say
//! nothing, records that are not true.

use std::fs;

use kelp::container::control;
use kelp::paths::Paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::super::harness::{Home, Running, eventually, is_running};

/// Makes the accounts long to read, so that there is time between a program's
/// process and the program.
fn delay_programs(home: &Home) {
    let accounts = "x:x:5:5::/:\n".repeat(100_000) + "root:x:0:0::/:\n";
    fs::write(home.rootfs().join("etc/passwd"), accounts).unwrap();
}

fn state(home: &Home, name: &str) -> Option<Value> {
    Some(home.containers().into_iter().find(|row| row["name"] == name)?["state"].clone())
}

/// A start whose first process is stopped by the container whose pid namespace
/// it joins, until it shows.
fn held_start(home: &Home, hostile: &mut Running, options: &[&str]) -> Running {
    assert_eq!(hostile.line(), "ready");
    let words = [&["--name", "held", "--pid", "container:hostile"], options].concat();
    let start = home.run_kept(&words, &["echo", "said"]).start();
    assert_eq!(hostile.line(), "held");
    assert!(eventually(|| state(home, "held") == Some(json!("created"))), "{:?}", home.containers());
    start
}

#[test]
fn a_start_that_is_held_up_can_be_ended() {
    let home = Home::new();
    delay_programs(&home);
    let words = ["hold", "+", "hold", "+", "hold", "+", "hold", "+", "forever"];
    let mut hostile = home.run_kept(&["--name", "hostile"], &words).start();
    for verb in [&["rm", "-f"][..], &["stop"], &["kill"]] {
        let mut start = held_start(&home, &mut hostile, &["-d"]);
        home.kelp(&["container", "prune", "-f"]).succeed();
        home.kelp(&["start", "--all"]).succeed();
        home.kelp(&[verb, &["held"]].concat()).succeed();
        let output = start.wait();
        assert_eq!(output.code, 125, "{verb:?}: {}", output.stderr);
        assert!(output.stderr.contains("stopped before its program ran"), "{}", output.stderr);
        assert!(eventually(|| state(&home, "held").is_none()), "{verb:?}");
    }
    let mut start = held_start(&home, &mut hostile, &[]);
    start.signal(Signal::SIGKILL);
    start.wait();
    assert!(eventually(|| state(&home, "held").is_none()));
    home.kelp(&["rm", "-f", "hostile"]).succeed();
}

#[test]
fn a_start_of_one_that_was_there_leaves_it_as_it_was() {
    let home = Home::new();
    delay_programs(&home);
    let mut hostile = home.run_kept(&["--name", "hostile"], &["hold", "+", "forever"]).start();
    assert_eq!(hostile.line(), "ready");
    let rootfs = home.rootfs();
    let words = ["--name", "box", "--pid", "container:hostile", "--rootfs", rootfs.to_str().unwrap(), "/probe"];
    home.kelp(&[&["create"], &words[..], &["exit", "3"]].concat()).succeed();
    let mut start = home.kelp(&["start", "box"]).start();
    assert_eq!(hostile.line(), "held");
    start.signal(Signal::SIGKILL);
    start.wait();
    assert!(eventually(|| home.kelp(&["start", "box"]).code() == 0));
    assert_eq!(home.kelp(&["wait", "box"]).succeed(), "3\n");
    home.kelp(&["rm", "-f", "hostile", "box"]).succeed();
}

#[test]
fn a_program_that_does_not_execute_ends_with_its_command() {
    let home = Home::new();
    delay_programs(&home);
    let mut running = home.start(&["--name", "box"], &["hold", "+", "forever"]);
    let held = home.kelp(&["exec", "box", "/probe", "echo"]).start();
    assert_eq!(running.line(), "held");
    let processes = || home.kelp(&["top", "box"]).succeed().lines().count() - 1;
    assert_eq!(processes(), 2);
    held.signal(Signal::SIGKILL);
    assert!(eventually(|| processes() == 1));
    home.kelp(&["rm", "-f", "box"]).succeed();
}

#[test]
fn clients_that_say_nothing_make_room_for_others() {
    let home = Home::new();
    home.run_kept(&["-d", "-i", "--name", "box"], &["line"]).succeed();
    let id = home.containers()[0]["id"].as_str().unwrap().to_owned();
    let mut waiting = home.kelp(&["wait", "box"]).start();
    let mut attached = home.kelp(&["attach", "box"]).start();
    let paths = Paths::new(home.data(), home.run_dir());
    let silent: Vec<_> = (0..300).map_while(|_| control::connect(&paths, &id).ok().flatten()).collect();
    assert!(silent.len() > 200, "{}", silent.len());
    for _ in 0..3 {
        assert_eq!(home.kelp(&["exec", "box", "/probe", "exit", "5"]).code(), 5);
    }
    std::io::Write::write_all(attached.child.stdin.as_mut().unwrap(), b"said\n").unwrap();
    let output = attached.wait();
    assert_eq!((output.code, output.stdout.as_str()), (0, "got \"said\\n\"\n"), "{}", output.stderr);
    assert_eq!(waiting.wait().stdout, "0\n");
    drop(silent);
}
