//! Health checks: what is asked, what is made of the answers, who sees it.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Home, eventually, image};

/// Times so that nothing is asked but by `kelp healthcheck run`.
const RARELY: &str = "--health-interval=1h";

const NEEDS_FILE: &str = r#"--health-cmd=["/probe","must-exist","/shared/well"]"#;

/// A container called `box` that runs until it is killed.
fn start(home: &Home, options: &[&str]) {
    let (rootfs, shared) = (home.rootfs(), format!("{}:/shared", home.make_dir("shared").display()));
    let mut run = home.kelp(&["run", "-d", "--name", "box", "-v", &shared]);
    run.args(options).args(&["--rootfs", rootfs.to_str().unwrap(), "/probe", "forever"]).succeed();
}

fn inspected(home: &Home) -> Value {
    let text = home.kelp(&["inspect", "box"]).succeed();
    serde_json::from_str::<Value>(&text).unwrap()[0]["State"]["Health"].take()
}

fn status(home: &Home) -> String {
    home.kelp(&["ps", "-a", "--format", "{{.Status}}"]).succeed().trim_end().to_owned()
}

fn check(home: &Home) -> i32 {
    home.kelp(&["healthcheck", "run", "box"]).code()
}

/// Children of the supervisor's.
fn children(home: &Home) -> Vec<String> {
    let supervisor = home.supervisor("box");
    let text = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_container_is_well_or_not_and_everybody_sees_it() {
    let home = Home::new();
    start(&home, &[NEEDS_FILE, "--health-interval=20ms", "--health-retries=2"]);
    assert!(eventually(|| status(&home).ends_with(" (unhealthy)")), "{}", status(&home));
    let health = inspected(&home);
    assert_eq!(health["Status"], "unhealthy");
    assert!(health["FailingStreak"].as_u64() >= Some(2), "{health}");
    assert_eq!(
        (&health["Log"][0]["ExitCode"], &health["Log"][0]["Output"]),
        (&json!(1), &json!("/shared/well is missing\n"))
    );
    assert_eq!(home.kelp(&["ps", "-q", "--filter", "health=healthy"]).succeed(), "");
    fs::write(home.path("shared/well"), "").unwrap();
    assert!(eventually(|| status(&home).ends_with(" (healthy)")), "{}", status(&home));
    assert!(eventually(|| inspected(&home)["Log"][4]["ExitCode"] == 0));
    let health = inspected(&home);
    assert_eq!((&health["FailingStreak"], health["Log"].as_array().unwrap().len()), (&json!(0), 5));
    assert!(!home.kelp(&["ps", "-q", "--filter", "health=healthy"]).succeed().is_empty());
    let events =
        ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}", "--filter", "event=health_status"];
    assert_eq!(home.kelp(&events).succeed(), "health_status: unhealthy\nhealth_status: healthy\n");
    home.kelp(&["kill", "box"]).succeed();
    home.kelp(&["wait", "box"]).succeed();
    assert_eq!(inspected(&home)["Status"], "unhealthy");
    assert!(!status(&home).contains("healthy"));
}

#[test]
fn it_can_be_asked_now() {
    let home = Home::new();
    start(&home, &[NEEDS_FILE, RARELY]);
    assert!(status(&home).ends_with(" (health: starting)"), "{}", status(&home));
    let output = home.kelp(&["healthcheck", "run", "box"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (1, "unhealthy\n"));
    assert_eq!(inspected(&home)["FailingStreak"], 1);
    fs::write(home.path("shared/well"), "").unwrap();
    assert_eq!(check(&home), 0);
    assert!(status(&home).ends_with(" (healthy)"));
    // What is paused cannot answer, and goes on as it was.
    home.kelp(&["pause", "box"]).succeed();
    home.kelp(&["healthcheck", "run", "box"]).refuse(125, &["paused"]);
    home.kelp(&["unpause", "box"]).succeed();
    assert!(status(&home).ends_with(" (healthy)"));
    // A start begins anew; what was heard is kept.
    home.kelp(&["restart", "-t0", "box"]).succeed();
    assert!(status(&home).ends_with(" (health: starting)"), "{}", status(&home));
    assert_eq!(inspected(&home)["Log"].as_array().unwrap().len(), 2);
    home.kelp(&["kill", "box"]).succeed();
    home.kelp(&["wait", "box"]).succeed();
    home.kelp(&["healthcheck", "run", "box"]).refuse(125, &["not running"]);
}

#[test]
fn a_probe_that_takes_too_long_is_killed() {
    let home = Home::new();
    start(&home, &[r#"--health-cmd=["/probe","echo","well?","+","forever"]"#, RARELY, "--health-timeout=100ms"]);
    assert_eq!(check(&home), 1);
    let log = inspected(&home)["Log"][0].take();
    assert_eq!(log["ExitCode"], -1);
    assert_eq!(log["Output"], "Health check exceeded timeout (100ms): well?\n");
    assert_eq!(children(&home).len(), 1);
}

#[test]
fn a_container_ends_although_it_is_being_asked() {
    let home = Home::new();
    start(&home, &[r#"--health-cmd=["/probe","forever"]"#, "--health-interval=1ms"]);
    assert!(eventually(|| children(&home).len() > 1));
    let mut asking = home.kelp(&["healthcheck", "run", "box"]).start();
    home.kelp(&["stop", "-t0", "box"]).succeed();
    assert_eq!(asking.wait().code, 125);
    assert!(status(&home).starts_with("Exited (137)"), "{}", status(&home));
}

#[test]
fn what_an_image_asks_can_be_changed_and_left_out() {
    let home = Home::new();
    let probe = ["CMD", "/probe", "echo", &"x".repeat(5000)];
    let config = json!({
        "Cmd": ["/probe", "forever"],
        "Healthcheck": {"Test": probe, "Interval": 3_600_000_000_000_i64, "Retries": 1},
    });
    let layout = home.make_dir("layout");
    image::write_layout(&layout, "asking", &[image::base_layer()], &config);
    home.kelp(&["load", "-i", layout.to_str().unwrap()]).succeed();
    home.kelp(&["run", "-d", "--name", "box", "asking"]).succeed();
    assert_eq!(check(&home), 0);
    // What is too much is cut off.
    assert_eq!(inspected(&home)["Log"][0]["Output"], format!("{}...", "x".repeat(4096)));
    home.kelp(&["rm", "-f", "box"]).succeed();
    // There is no shell in this image.
    home.kelp(&["run", "-d", "--name", "box", "--health-cmd", "true", "asking"]).succeed();
    assert_eq!(check(&home), 1);
    let health = inspected(&home);
    assert_eq!((&health["Status"], &health["Log"][0]["ExitCode"]), (&json!("unhealthy"), &json!(-1)));
    home.kelp(&["rm", "-f", "box"]).succeed();
    home.kelp(&["run", "-d", "--name", "box", "--no-healthcheck", "asking"]).succeed();
    assert_eq!(inspected(&home), Value::Null);
    assert!(!status(&home).contains('('), "{}", status(&home));
    home.kelp(&["healthcheck", "run", "box"]).refuse(125, &["no health check"]);
    home.kelp(&["run", "--no-healthcheck", "--health-retries=1", "asking"]).refuse(125, &["exclude"]);
    let rootfs = home.rootfs();
    home.kelp(&["create", "--health-retries=1", "--rootfs", rootfs.to_str().unwrap(), "/probe"])
        .refuse(1, &["--health-cmd"]);
}
