//! One fault at a time: disks that are full or cannot be written, pids that
//! became somebody else's, clocks that jump, processes that do not listen.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::super::harness::{Home, Running, eventually, is_running};
use super::processes;

/// A container called "box" that runs by itself.
fn detached(home: &Home, options: &[&str], words: &[&str]) {
    home.run_kept(&[&["-d", "--name", "box"], options].concat(), words).succeed();
}

fn row(home: &Home) -> Value {
    home.containers().remove(0)
}

fn payload(home: &Home) -> i32 {
    i32::try_from(row(home)["payload"]["pid"].as_i64().unwrap()).unwrap()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn directory(home: &Home) -> PathBuf {
    home.data().join("containers").join(row(home)["id"].as_str().unwrap())
}

/// Changes a record that nobody looks after.
fn change_record(home: &Home, change: impl Fn(&mut Value)) {
    let path = home.data().join("containers").join(&home.entries("containers")[0]).join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// Kills the supervisor of "box", and waits until its program is gone too.
fn kill_supervisor(home: &Home) {
    let (supervisor, payload) = (home.supervisor("box"), payload(home));
    signal(supervisor, Signal::SIGKILL);
    assert!(eventually(|| !is_running(supervisor) && !is_running(payload)));
}

/// A process that has nothing to do with any container.
fn stranger() -> std::process::Child {
    Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn an_end_that_cannot_be_written_down_is_an_end() {
    let home = Home::new();
    detached(&home, &["-i"], &["line"]);
    // From here on it can write as little as on a full disk.
    let limit = format!("--pid={}", home.supervisor("box"));
    home.call("/usr/bin/prlimit".as_ref(), &[&limit, "--fsize=16"]).succeed();
    assert_eq!(home.kelp(&["attach", "box"]).input("go\n").code(), 0);
    // What with, only who waited for it knows.
    assert!(eventually(|| row(&home)["state"] == "exited"));
    assert_eq!(row(&home)["code"], 137);
    home.kelp(&["start", "box"]).succeed();
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn a_pid_that_is_somebody_elses_by_now_is_left_alone() {
    let home = Home::new();
    let mut stranger = stranger();
    let pid = i32::try_from(stranger.id()).unwrap();
    for state in ["running", "restarting"] {
        detached(&home, &[], &["forever"]);
        kill_supervisor(&home);
        change_record(&home, |record| {
            let stale = json!({"pid": pid, "start_time": 1});
            record["status"] = json!({
                "state": state, "supervisor": stale, "payload": stale, "code": 3, "started_ns": 1, "finished_ns": 2,
            });
        });
        home.kelp(&["stop", "box"]).succeed();
        assert_eq!(row(&home)["state"], "exited");
        home.kelp(&["kill", "box"]).refuse(1, &["not running"]);
        home.kelp(&["rm", "-f", "box"]).succeed();
        assert!(is_running(pid), "{state}");
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn after_a_reboot_containers_have_ended_and_start_again() {
    let home = Home::new();
    detached(&home, &["--restart", "always", "-v", "/data"], &["forever"]);
    kill_supervisor(&home);
    fs::remove_dir_all(home.run_dir()).unwrap();
    change_record(&home, |record| {
        for process in ["supervisor", "payload"] {
            // These pids are others' after a boot; here, the test's own.
            record["status"][process]["pid"] = json!(std::process::id());
        }
    });
    let row = row(&home);
    assert_eq!((&row["state"], &row["code"]), (&json!("exited"), &json!(137)));
    home.kelp(&["start", "--all"]).succeed();
    assert_eq!(home.containers()[0]["state"], "running");
    assert_eq!(home.kelp(&["exec", "box", "/probe", "exit", "5"]).code(), 5);
    home.kelp(&["rm", "-f", "-v", "box"]).succeed();
    assert_eq!(home.entries("volumes"), [""; 0]);
}

#[test]
fn a_container_whose_runtime_directory_was_emptied_can_be_removed() {
    let home = Home::new();
    detached(&home, &[], &["forever"]);
    let (supervisor, payload) = (home.supervisor("box"), payload(&home));
    // As a cleaner of /tmp does.
    fs::remove_dir_all(home.run_dir()).unwrap();
    assert_eq!(row(&home)["state"], "running");
    home.kelp(&["stop", "box"]).refuse(1, &["cannot stop container \"box\"", "cannot be reached", "rm --force"]);
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert!(eventually(|| !is_running(supervisor) && !is_running(payload)));
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn data_directories_that_share_a_runtime_directory_leave_each_other_alone() {
    let home = Home::new();
    detached(&home, &[], &["forever"]);
    let files = home.containers_run().join(row(&home)["id"].as_str().unwrap());
    // As while it is being started: nobody listens yet.
    fs::rename(files.join("control"), home.path("control")).unwrap();
    let other = |words: &[&str]| home.kelp(words).env("KELP_DATA", home.path("other")).succeed();
    assert_eq!(other(&["ps", "-aq"]), "");
    assert!(files.join("hosts").exists());
    fs::rename(home.path("control"), files.join("control")).unwrap();
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert!(!files.exists());
}

#[test]
fn a_data_directory_may_be_moved() {
    let home = Home::new();
    detached(&home, &[], &["forever"]);
    let moved = home.path("moved");
    fs::rename(home.data(), &moved).unwrap();
    let kelp = |words: &[&str]| home.kelp(words).env("KELP_DATA", &moved).output();
    let ended = kelp(&["kill", "box"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(kelp(&["wait", "box"]).stdout, "137\n");
    let started = kelp(&["start", "box"]);
    assert_eq!(started.code, 0, "{}", started.stderr);
    assert_eq!(kelp(&["exec", "box", "/probe", "exit", "5"]).code, 5);
    assert_eq!(kelp(&["rm", "-f", "box"]).code, 0);
    // Its supervisor tells of the end where it began.
    fs::remove_dir_all(home.data()).ok();
    fs::rename(&moved, home.data()).unwrap();
}

#[test]
fn a_container_of_an_earlier_kelp_is_reached_where_it_is() {
    let home = Home::new();
    detached(&home, &[], &["forever"]);
    let (own, id) = (home.containers_run(), row(&home)["id"].as_str().unwrap().to_owned());
    let earlier = home.run_dir().join("containers").join(&id);
    fs::rename(own.join(&id), &earlier).unwrap();
    assert_eq!(home.kelp(&["exec", "box", "/probe", "exit", "5"]).code(), 5);
    // Another data directory's, for all that this one knows.
    home.kelp(&["ps", "-aq"]).env("KELP_DATA", home.path("other")).succeed();
    home.kelp(&["stop", "-t", "0", "box"]).succeed();
    home.kelp(&["start", "box"]).succeed();
    assert_eq!(home.kelp(&["exec", "box", "/probe", "exit", "5"]).code(), 5);
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert!(!earlier.exists() && !own.join(&id).exists());
}

#[test]
fn a_supervisor_that_is_stopped_holds_up_no_removal() {
    let home = Home::new();
    detached(&home, &[], &["forever"]);
    let (supervisor, payload) = (home.supervisor("box"), payload(&home));
    signal(supervisor, Signal::SIGSTOP);
    assert!(eventually(|| {
        let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap();
        stat.contains(") T ")
    }));
    assert_eq!(row(&home)["state"], "running");
    home.kelp(&["inspect", "box"]).succeed();
    home.kelp(&["rm", "-f", "box"]).succeed();
    assert!(eventually(|| !is_running(supervisor) && !is_running(payload)));
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn a_stop_ends_all_that_a_program_has_bred() {
    let home = Home::new();
    let mark = home.path("").display().to_string();
    let count = || processes().iter().filter(|(_, line)| line.contains("breed") && line.contains(&mark)).count();
    for options in [&[][..], &["--init"], &["--pid", "host"]] {
        detached(&home, options, &["breed", "5", &mark]);
        assert!(eventually(|| count() >= 6), "{options:?}: {}", count());
        home.kelp(&["stop", "-t", "1", "box"]).succeed();
        assert!(eventually(|| count() == 0), "{options:?}");
        assert_eq!(row(&home)["code"], 137);
        home.kelp(&["rm", "box"]).succeed();
    }
}

#[test]
fn programs_that_come_in_while_a_container_ends_hold_it_up_by_nothing() {
    let home = Home::new();
    for options in [&[][..], &["--init"], &["--pid", "host"]] {
        detached(&home, options, &["forever"]);
        let execs = |words: &[&str]| home.kelp(&[&["exec", "box", "/probe"], words].concat()).start();
        let mut all: Vec<Running> = (0..4).map(|_| execs(&["forever"])).collect();
        let mut stop = home.kelp(&["stop", "-t", "0", "box"]).start();
        all.extend((0..12).map(|_| execs(&["exit", "5"])));
        assert_eq!(stop.wait().code, 0);
        for exec in &mut all {
            let output = exec.wait();
            assert!([1, 5, 125, 126, 137].contains(&output.code), "{options:?}: {}: {}", output.code, output.stderr);
            assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        }
        assert_eq!(row(&home)["state"], "exited");
        home.kelp(&["rm", "box"]).succeed();
    }
}

#[test]
fn a_listener_that_does_not_read_is_cut_off() {
    let home = Home::new();
    detached(&home, &["--log-driver", "none", "-i"], &["line", "+", "lines", "100000"]);
    let stopped = home.kelp(&["attach", "--no-stdin", "box"]).start();
    let mut feeding = home.kelp(&["attach", "box"]);
    let attached = || fs::read_dir(format!("/proc/{}/fd", stopped.pid())).map_or(0, |fds| fds.count());
    assert!(eventually(|| attached() > 5));
    signal(stopped.pid(), Signal::SIGSTOP);
    let start = Instant::now();
    let output = feeding.input("go\n").output();
    assert_eq!((output.code, output.stdout.lines().count()), (0, 100_001), "{}", output.stderr);
    println!("it went on after {:?}", start.elapsed());
    assert!(eventually(|| row(&home)["state"] == "exited"));
    signal(stopped.pid(), Signal::SIGCONT);
}

#[test]
fn what_cannot_be_written_is_named() {
    let home = Home::new();
    home.run_kept(&["--name", "box"], &["exit", "0"]).succeed();
    let directory = directory(&home);
    let places = [home.data().join("containers"), home.data().join("names"), home.data().join("staging"), directory];
    let set_mode = |mode| {
        for place in places.iter().chain([&home.data()]).filter(|place| place.exists()) {
            fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o500);
    home.run(&[], &["exit", "0"]).refuse(125, &[home.data().to_str().unwrap(), "ermission denied"]);
    home.kelp(&["rename", "box", "other"]).refuse(1, &["cannot rename container \"box\"", "ermission denied"]);
    home.kelp(&["rm", "box"]).refuse(1, &["cannot remove container \"box\"", "ermission denied"]);
    assert_eq!(row(&home)["state"], "exited");
    home.kelp(&["inspect", "box"]).succeed();
    set_mode(0o700);
    home.kelp(&["rm", "box"]).succeed();
    home.run(&[], &["exit", "0"]).succeed();
    let closed = home.make_dir("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let mut call = home.run(&[], &["exit", "0"]);
    call.env("HOME", &closed).command.env_remove("KELP_DATA");
    call.refuse(125, &[closed.to_str().unwrap(), "ermission denied"]);
}

#[test]
fn clocks_may_jump() {
    let home = Home::new();
    home.run_kept(&["--name", "box"], &["echo", "hello"]).succeed();
    home.run_kept(&["--name", "other"], &["exit", "0"]).succeed();
    home.kelp(&["rm", "other"]).succeed();
    let year = 365 * 24 * 3_600 * 1_000_000_000_i64;
    for (created, started, finished) in
        [(0, 0, 0), (-year, -1, -year), (200 * year, 200 * year, 0), (year, 200 * year, year), (i64::MAX, 0, i64::MAX)]
    {
        change_record(&home, |record| {
            record["created_ns"] = json!(created);
            record["status"] =
                json!({"state": "exited", "code": 0, "started_ns": started, "finished_ns": finished, "error": null});
        });
        for words in [
            &["ps", "-a"][..],
            &["ps", "-a", "--format", "json"],
            &["ps", "-a", "--format", "{{json .}}"],
            &["ps", "-a", "-f", "until=1h"],
            &["ps", "-a", "-f", "before=box"],
            &["inspect", "box"],
            &["logs", "--since", "1h", "box"],
            &["events", "--since", "1h", "--until", "0s"],
        ] {
            let output = home.kelp(words).output();
            assert_eq!(output.code, 0, "{words:?} at {created} {started} {finished}: {}", output.stderr);
        }
    }
    home.kelp(&["start", "box"]).succeed();
    assert!(eventually(|| row(&home)["state"] == "exited"));
    home.kelp(&["rm", "box"]).succeed();
}

#[test]
fn others_reach_no_socket() {
    let home = Home::new();
    let script = "umask 0; exec \"$0\" run -d --name box --rootfs \"$1\" /probe forever";
    let (kelp, rootfs) = (super::super::harness::kelp_binary(), home.rootfs());
    home.call("/bin/sh".as_ref(), &["-c", script, kelp.to_str().unwrap(), rootfs.to_str().unwrap()]).succeed();
    let own = home.containers_run().join(row(&home)["id"].as_str().unwrap());
    assert!(own.join("control").exists());
    for closed in [home.run_dir(), home.data()] {
        let mode = fs::metadata(&closed).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", closed.display());
    }
    home.kelp(&["rm", "-f", "box"]).succeed();
}
