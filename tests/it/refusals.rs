//! Words for what is wrong: nothing is ignored, everything is named.

use super::harness::Home;

#[test]
fn near_misses_are_answered_with_the_right_word() {
    let home = Home::new();
    home.kelp(&["rnu"]).refuse(2, &["no command \"rnu\"", "did you mean \"run\"?", "kelp --help"]);
    home.run(&["--intreactive"], &[]).refuse(125, &["--interactive"]);
    home.run(&["--pid", "hots"], &[]).refuse(125, &["hots", "did you mean \"host\"?"]);
    home.run(&["--stop-signal", "SIGTREM"], &[]).refuse(125, &["did you mean \"SIGTERM\"?"]);
}

#[test]
fn values_that_make_no_sense_are_refused_before_anything_is_made() {
    let home = Home::new();
    for options in [
        &["--name", "a/b"][..],
        &["--name", ".."],
        &["--hostname", "a b"],
        &["--shm-size", "lots"],
        &["--ulimit", "nofile"],
        &["--ulimit", "nofile=5:1"],
        &["-e", "=x"],
        &["--label", "=x"],
        &["--tmpfs", "relative"],
        &["--device", "null"],
        &["--userns", "auto"],
        &["--userns", "container:x"],
        &["--time-offset", "realtime=1"],
        &["--security-opt", "apparmor"],
        &["--network", "ns:/proc/1/ns/net"],
        &["--mount", "type=nfs,target=/x"],
        &["--platform", "a/b/c/d"],
    ] {
        let said = home.run(options, &[]).fail(125);
        assert!(said.starts_with("kelp: "), "{options:?}: {said}");
        assert!(!said.trim_end().ends_with('.'), "{options:?}: {said}");
    }
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn no_command_at_all_is_help() {
    let home = Home::new();
    let output = home.kelp(&[]).output();
    assert_eq!(output.code, 2);
    assert!(output.stdout.contains("run"), "{}", output.stdout);
    assert_eq!(home.kelp(&["--help"]).code(), 0);
    assert_eq!(home.kelp(&["run", "--help"]).code(), 0);
    assert!(home.kelp(&["--version"]).succeed().starts_with("kelp "));
}

#[test]
fn no_image_and_no_command_are_told_apart() {
    let home = Home::new();
    home.kelp(&["run"]).refuse(125, &["no image"]);
    let rootfs = home.rootfs();
    home.kelp(&["run", "--rootfs", rootfs.to_str().unwrap()]).refuse(125, &["no command"]);
}

#[test]
fn directories_of_others_are_not_used() {
    let home = Home::new();
    home.run(&[], &["exit", "0"]).env("KELP_DATA", "/etc").refuse(125, &["/etc", "not to you"]);
    home.run(&[], &["exit", "0"]).env("KELP_RUN", "/").refuse(125, &["not to you"]);
    home.run(&[], &["exit", "0"]).env("KELP_DATA", "relative").refuse(125, &["KELP_DATA", "absolute"]);
    let open = home.make_dir("open");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    home.run(&[], &["exit", "0"]).env("KELP_RUN", &open).refuse(125, &["open to others", "chmod go-rwx"]);
}

#[test]
fn a_stage_is_not_a_command() {
    let home = Home::new();
    for stage in ["kelp-supervisor", "kelp-unpack", "kelp-sweep"] {
        use std::os::unix::process::CommandExt;
        let mut call = home.kelp(&[]);
        call.command.arg0(stage);
        call.refuse(1, &["not a command"]);
    }
}

#[test]
fn a_terminal_is_asked_for_only_where_there_is_one() {
    let home = Home::new();
    home.run(&["-it"], &["exit", "0"]).refuse(125, &["not a terminal"]);
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let home = Home::new();
    let said = home.kelp(&["rnu"]).fail(2);
    assert!(!said.contains('\x1b'), "{said:?}");
}
