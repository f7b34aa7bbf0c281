//! `image mount`: programs of the host among an image's files.

use serde_json::json;

use super::harness::image::{Entry, layer, write_layout_of};
use super::harness::{Home, eventually};

fn with_image() -> Home {
    let home = Home::new();
    let lower = layer(&[
        Entry::File("a", 0o644, 0, b"lower\n"),
        Entry::File("gone", 0o644, 0, b"x"),
        Entry::File("closed", 0o600, 33, b"secret\n"),
    ]);
    let upper = layer(&[Entry::File("a", 0o644, 0, b"upper\n"), Entry::File(".wh.gone", 0o644, 0, b"")]);
    let layout = home.make_dir("layout");
    for (name, layers) in [("box", vec![lower, upper.clone()]), ("solo", vec![upper]), ("bare", vec![])] {
        let layout = layout.join(name);
        write_layout_of(&layout, name, &layers, &json!({}));
        home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    }
    home
}

#[test]
fn a_program_sees_the_image_and_nobody_else_does() {
    let home = with_image();
    let mut call =
        home.kelp(&["image", "mount", "box", "sh", "-c", "pwd; ls; cat a closed; echo $KELP_IMAGE_ROOT $GREETING"]);
    let said = call.env("GREETING", "hi").succeed();
    let place = home.run_dir().join("image").display().to_string();
    assert_eq!(said, format!("{place}\na\nclosed\nupper\nsecret\n{place} hi\n"));
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    // One layer is no overlay by itself.
    assert_eq!(home.kelp(&["image", "mount", "solo", "--", "ls"]).succeed(), "a\n");
    assert_eq!(home.kelp(&["image", "mount", "box", "cat"]).input("in\n").succeed(), "in\n");
    let mut shell = home.kelp(&["image", "mount", "box"]);
    assert_eq!(shell.env("SHELL", "/bin/sh").input("cat a\n").succeed(), "upper\n");
}

#[test]
fn it_ends_as_the_program_ends() {
    let home = with_image();
    let code = |words: &[&str]| home.kelp(&[&["image", "mount", "box"], words].concat()).code();
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 128 + 15);
    assert_eq!(code(&["no-such-program"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126);
    home.kelp(&["image", "mount", "nobody", "ls"]).refuse(125, &["no image \"nobody\""]);
    home.kelp(&["image", "mount", "bare", "ls"]).refuse(125, &["no files"]);
    home.kelp(&["image", "unmount", "box"]).refuse(125, &["nothing to unmount", "kelp image mount box COMMAND"]);
}

#[test]
fn the_image_cannot_be_changed_and_stays_while_it_is_seen() {
    let home = with_image();
    let script = "touch b 2>/dev/null || echo read-only; read line; cat a";
    let mut running = home.kelp(&["image", "mount", "box", "sh", "-c", script]).start();
    assert_eq!(running.line(), "read-only");
    let output = home.kelp(&["rmi", "box"]).output();
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("disk space is freed by a later rmi"), "{}", output.stderr);
    use std::io::Write;
    running.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(running.line(), "upper");
    assert_eq!(running.wait().code, 0);
    home.kelp(&["rmi", "solo", "bare"]).succeed();
    assert!(eventually(|| home.entries("layers").iter().all(|map| home.entries(&format!("layers/{map}")).is_empty())));
}

#[test]
fn a_killed_command_takes_the_program_along() {
    let home = with_image();
    let mut running = home.kelp(&["image", "mount", "box", "sh", "-c", "echo $$; exec sleep 1000"]).start();
    let pid: i32 = running.line().parse().unwrap();
    assert!(super::harness::is_running(pid));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    assert!(eventually(|| !super::harness::is_running(pid)));
}
