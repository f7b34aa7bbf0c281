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

#[test]
fn a_record_that_is_not_true_hides_no_container() {
    let home = Home::new();
    home.run_kept(&["-d", "--name", "box"], &["forever"]).succeed();
    let directory = home.data().join("containers").join(&home.entries("containers")[0]);
    let path = directory.join("record.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let ended = || {
        let mut record = good.clone();
        record["status"] = json!({"state": "exited", "code": 0, "started_ns": 1, "finished_ns": 2, "error": null});
        fs::write(&path, record.to_string()).unwrap();
    };
    for damage in ["", "{\"version\": 2, \"id\"", "\0\0\0\0"] {
        fs::write(&path, damage).unwrap();
        assert_eq!(state(&home, "box"), Some(json!("running")), "{damage:?}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(state(&home, "box"), Some(json!("running")));
    for (words, code) in
        [(&["exec", "box", "/probe", "exit", "5"][..], 5), (&["start", "box"], 0), (&["pause", "box"], 0)]
    {
        ended();
        assert_eq!(home.kelp(words).code(), code, "{words:?}");
        assert!(state(&home, "box").is_some_and(|state| state != "exited"), "{words:?}");
    }
    ended();
    home.kelp(&["rm", "box"]).refuse(1, &["is paused"]);
    ended();
    home.kelp(&["stop", "-t", "1", "box"]).succeed();
    assert_eq!(home.containers()[0]["code"], 137);
    home.kelp(&["start", "box"]).succeed();
    let supervisor = home.supervisor("box");
    ended();
    // It cannot even say what is true.
    kill(Pid::from_raw(supervisor), Signal::SIGSTOP).unwrap();
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert!(eventually(|| !is_running(supervisor)));
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn a_record_that_a_power_cut_left_in_part_blocks_nothing() {
    let home = Home::new();
    home.run_kept(&["--name", "box", "-v", "/data"], &["exit", "0"]).succeed();
    home.run_kept(&["--name", "other", "-v", "/data"], &["exit", "0"]).succeed();
    let id = home.containers().iter().find(|row| row["name"] == "box").unwrap()["id"].as_str().unwrap().to_owned();
    let path = home.data().join("containers").join(&id).join("record.json");
    let length = path.metadata().unwrap().len();
    for left in [0, 1, length - 1] {
        fs::File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        let output = home.kelp(&["ps", "-aq"]).output();
        assert_eq!((output.code, output.stdout.lines().count()), (0, 1), "{}", output.stderr);
        assert!(output.stderr.contains(&id[..12]) && output.stderr.contains("cut off"), "{}", output.stderr);
        home.kelp(&["rm", "box"]).refuse(1, &["cut off", "kelp rm --force", &id[..12], "upper"]);
    }
    // What it uses is not known: nothing of the other's volumes goes.
    home.kelp(&["rm", "-v", "other"]).succeed();
    assert_eq!(home.entries("volumes").len(), 2);
    home.kelp(&["rm", "-f", &id[..12]]).succeed();
    assert_eq!((home.entries("containers"), home.entries("names")), (vec![], vec![]));
}
