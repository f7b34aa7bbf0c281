//! Any process of kelp may be killed at any time; the next command repairs.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::image::{self, Entry};
use super::harness::registry::{Fault, Registry};
use super::harness::{Home, Running, eventually, is_running};

/// The first process of the only container, seen from here.
fn payload(home: &Home) -> i32 {
    i32::try_from(home.containers()[0]["payload"]["pid"].as_i64().unwrap()).unwrap()
}

fn kill_process(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn start(home: &Home, options: &[&str]) -> (Running, i32, i32) {
    let running = home.start(&[&["--name", "box"], options].concat(), &["stubborn"]);
    let (supervisor, payload) = (home.supervisor("box"), payload(home));
    assert!(is_running(supervisor) && is_running(payload));
    (running, supervisor, payload)
}

#[test]
fn the_container_dies_with_its_command() {
    let home = Home::new();
    for options in [&[][..], &["--init"], &["--user", "web"]] {
        let (mut running, _, payload) = start(&home, options);
        kill_process(running.pid());
        running.wait();
        assert!(eventually(|| !is_running(payload)), "{options:?}");
        assert!(eventually(|| home.containers()[0]["state"] == "exited"));
        assert_eq!(home.containers()[0]["code"], 137);
        home.kelp(&["rm", "box"]).succeed();
    }
}

#[test]
fn nothing_is_left_of_a_removed_container_whose_command_died() {
    let home = Home::new();
    let (mut running, _, payload) = start(&home, &["--rm", "-v", "/data"]);
    kill_process(running.pid());
    running.wait();
    assert!(eventually(|| !is_running(payload)));
    assert!(eventually(|| home.entries("containers").is_empty()));
    assert!(eventually(|| home.entries("volumes").is_empty()));
    assert_eq!(home.kelp(&["ps", "-aq"]).succeed(), "");
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn the_container_dies_with_its_supervisor() {
    let home = Home::new();
    for options in [&[][..], &["--init"], &["--user", "web"], &["--init", "--user", "web"]] {
        let (mut running, supervisor, payload) = start(&home, options);
        kill_process(supervisor);
        let output = running.wait();
        assert_eq!(output.code, 125, "{options:?}");
        assert!(output.stderr.contains("supervisor was killed"), "{}", output.stderr);
        assert!(eventually(|| !is_running(payload)), "{options:?}: the payload lives on");
        let containers = home.containers();
        assert_eq!(containers[0]["state"], "exited", "{options:?}");
        assert_eq!(containers[0]["code"], 137);
        home.kelp(&["rm", "box"]).succeed();
        assert_eq!(home.entries("containers"), [""; 0]);
    }
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn a_removed_container_whose_supervisor_died_is_swept_by_the_next_command() {
    let home = Home::new();
    let (mut running, supervisor, payload) = start(&home, &["--rm"]);
    kill_process(supervisor);
    running.wait();
    assert!(eventually(|| !is_running(payload)));
    assert_eq!(home.kelp(&["ps", "-aq"]).succeed(), "");
    assert_eq!(home.entries("containers"), [""; 0]);
    assert_eq!(home.entries("names"), [""; 0]);
    assert_eq!(home.run(&["--name", "box"], &["exit", "0"]).code(), 0);
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn a_start_that_is_killed_leaves_nothing() {
    let home = Home::new();
    home.run(&[], &["exit", "0"]).succeed();
    for microseconds in (0..12_000).step_by(600) {
        let mut running = home.run(&["--name", "box"], &["forever"]).start();
        std::thread::sleep(Duration::from_micros(microseconds));
        kill_process(running.pid());
        running.wait();
    }
    assert!(eventually(|| home.containers().is_empty()), "{:?}", home.containers());
    assert!(eventually(|| home.entries("containers").is_empty()), "{:?}", home.entries("containers"));
    assert_eq!(home.run(&["--name", "box"], &["exit", "0"]).code(), 0);
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn a_pull_that_is_killed_can_be_repeated() {
    let home = Home::new();
    let registry = Registry::start();
    let big = image::layer(&[Entry::File("data", 0o644, 0, &vec![7; 4 << 20])]);
    let name = image::publish(&registry, "box", &[image::base_layer(), big], &serde_json::json!({}));
    registry.fault("blobs/", Fault::Slow(Duration::from_secs(20)), 1);
    let mut running = home.kelp(&["run", "--rm", &name, "/probe", "echo", "hello"]).start();
    std::thread::sleep(Duration::from_millis(300));
    kill_process(running.pid());
    running.wait();
    let output = home.kelp(&["run", "--rm", &name, "/probe", "echo", "hello"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, "hello\n"), "{}", output.stderr);
}

#[test]
fn a_pull_may_be_killed_at_any_moment() {
    let home = Home::new();
    let registry = Registry::start();
    let layers =
        [0_u8, 1, 2].map(|byte| image::layer(&[Entry::File(&format!("data-{byte}"), 0o644, 0, &vec![byte; 1 << 20])]));
    let layers: Vec<_> = std::iter::once(image::base_layer()).chain(layers).collect();
    let name = image::publish(&registry, "box", &layers, &serde_json::json!({}));
    for milliseconds in (0..60).step_by(4) {
        let mut running = home.kelp(&["pull", &name]).start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill_process(running.pid());
        running.wait();
    }
    home.kelp(&["pull", &name]).succeed();
    let output = home.kelp(&["run", "--rm", &name, "/probe", "stat", "/data-2"]).succeed();
    assert!(output.contains("1048576"), "{output}");
    assert!(home.entries("staging").iter().all(|name| !name.starts_with("partial.")));
}

#[test]
fn two_pulls_share_one_download() {
    let home = Home::new();
    let registry = Registry::start();
    let big = image::layer(&[Entry::File("data", 0o644, 0, &vec![7; 1 << 20])]);
    let name = image::publish(&registry, "box", &[image::base_layer(), big], &serde_json::json!({}));
    registry.fault("blobs/", Fault::Slow(Duration::from_millis(300)), 3);
    let mut all: Vec<Running> = (0..4).map(|_| home.kelp(&["pull", &name]).start()).collect();
    for running in &mut all {
        let output = running.wait();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let mut blobs: Vec<String> =
        registry.seen().into_iter().map(|seen| seen.path).filter(|path| path.contains("/blobs/")).collect();
    let all = blobs.len();
    blobs.sort();
    blobs.dedup();
    assert_eq!((blobs.len(), all), (3, 3), "config and two layers, each once");
}

#[test]
fn an_unpack_that_is_killed_can_be_repeated() {
    let home = Home::new();
    let registry = Registry::start();
    let files: Vec<String> = (0..2_000).map(|number| format!("data-{number}")).collect();
    let entries: Vec<Entry<'_>> = files.iter().map(|name| Entry::File(name, 0o644, 1000, b"x")).collect();
    let name = image::publish(&registry, "box", &[image::base_layer(), image::layer(&entries)], &serde_json::json!({}));
    let words = ["run", "--rm", &name, "/probe", "stat", "/data-1999"];
    let mut running = home.kelp(&words).start();
    let is_unpacking = |name: &String| !name.starts_with("blob.") && !name.starts_with("partial.");
    assert!(eventually(|| home.entries("staging").iter().any(is_unpacking)));
    for pid in home.holders() {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    kill_process(running.pid());
    running.wait();
    let output = home.kelp(&words).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.starts_with("1000:1000"), "{}", output.stdout);
}

#[test]
fn twenty_start_at_once() {
    let home = Home::new();
    let mut all: Vec<Running> = (0..20)
        .map(|number| home.run(&["--name", &format!("box-{number}")], &["echo", "ready", "+", "exit", "7"]).start())
        .collect();
    for running in &mut all {
        let output = running.wait();
        assert_eq!((output.code, output.stdout.as_str()), (7, "ready\n"), "{}", output.stderr);
    }
    assert_eq!(home.entries("containers"), [""; 0]);
    assert_eq!(home.entries("names"), [""; 0]);
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn at_most_one_process_lingers() {
    let home = Home::new();
    for _ in 0..5 {
        home.run(&[], &["exit", "0"]).succeed();
    }
    assert!(eventually(|| home.holders().into_iter().filter(|pid| is_running(*pid)).count() <= 1));
}
