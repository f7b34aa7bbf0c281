//! Words for what is wrong: nothing is ignored, everything is named.

use super::harness::Home;

#[test]
fn near_misses_are_answered_with_the_right_word() {
    let home = Home::new();
    home.kelp(&["rnu"]).refuse(125, &["no command \"rnu\"", "did you mean \"run\"?", "kelp --help"]);
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
fn what_docker_and_podman_have_is_refused_with_the_reason() {
    let home = Home::new();
    let said = home.kelp(&["run", "--gpus=all", "web"]).fail(125);
    assert!(!said.contains("did you mean"), "{said}");
    home.kelp(&["run", "--privileged", "web"]).refuse(125, &["no --privileged: ", "--cap-add"]);
    home.kelp(&["create", "--gpus", "all", "web"]).refuse(125, &["kelp create has no --gpus: ", "--device"]);
    home.kelp(&["build", "."]).refuse(125, &["kelp has no \"build\": ", "kelp commit"]);
    home.kelp(&["network", "create"]).refuse(125, &["kelp has no \"network create\": ", "--network container:NAME"]);
    home.kelp(&["container", "checkpoint", "web"]).refuse(125, &["kelp has no \"container checkpoint\": "]);
    home.kelp(&["volumes", "ls"]).refuse(125, &["no command \"volumes\"", "did you mean \"volume\"?"]);
}

#[test]
fn switches_take_values() {
    let home = Home::new();
    home.run(&["--init=false", "-it=false", "--dry-run=0"], &["exit", "7"]).refuse(7, &[]);
    home.run(&["--init=maybe"], &["exit", "0"]).refuse(125, &["invalid value \"maybe\" for \"--init\": it is true or"]);
    home.run_kept(&["--rm=true"], &["exit", "0"]).succeed();
    assert_eq!(home.kelp(&["ps", "--all=true", "--quiet=1"]).succeed(), "");
    let help = home.kelp(&["ps", "--help"]).succeed();
    assert!(help.contains("  -q, --quiet\n"), "{help}");
}

#[test]
fn a_command_is_what_exec_wants() {
    let home = Home::new();
    home.kelp(&["exec", "web"]).refuse(125, &["kelp exec requires at least 2 arguments: CONTAINER COMMAND [ARG...]"]);
}

#[test]
fn who_is_not_found_is_helped() {
    let home = Home::new();
    home.run_kept(&["--name", "ended"], &["exit", "0"]).succeed();
    let all = "hint: kelp ps --all lists all containers";
    for words in [
        &["stop"][..],
        &["rm"],
        &["logs"],
        &["start"],
        &["attach"],
        &["export"],
        &["port"],
        &["top"],
        &["wait"],
        &["kill"],
        &["container", "commit"],
        &["stats", "--no-stream"],
        &["generate", "systemd"],
        &["healthcheck", "run"],
    ] {
        let code = if words[0] == "healthcheck" { 125 } else { 1 };
        home.kelp(&[words, &["endde"]].concat()).refuse(code, &["\"endde\"", "did you mean \"ended\"?", all]);
    }
    home.kelp(&["exec", "endde", "true"]).refuse(1, &["did you mean \"ended\"?", all]);
    home.kelp(&["cp", "nobody:/a", "/tmp"]).refuse(1, &["no container \"nobody\"", all]);
    let start = "hint: kelp start ended starts it";
    home.kelp(&["exec", "ended", "true"]).refuse(1, &["is not running", start]);
    home.run(&["--pid", "container:ended"], &["exit", "0"]).refuse(125, &["is not running", start]);
    for verb in ["kill", "pause", "attach", "top"] {
        home.kelp(&[verb, "ended"]).refuse(1, &["is not running", start]);
    }
}

#[test]
fn verbs_have_the_names_that_fingers_know() {
    let home = Home::new();
    home.run_kept(&["--name", "ended", "-v", "kept:/data"], &["exit", "0"]).succeed();
    home.kelp(&["container", "exists", "ended"]).succeed();
    home.kelp(&["container", "exists", "other"]).refuse(1, &[]);
    for verb in ["ls", "list", "ps"] {
        assert_eq!(home.kelp(&["container", verb, "-a", "--format", "{{.Names}}"]).succeed(), "ended\n");
    }
    assert_eq!(home.kelp(&["container", "remove", "ended"]).succeed(), "ended\n");
    assert_eq!(home.kelp(&["volume", "list", "-q"]).succeed(), "kept\n");
    assert_eq!(home.kelp(&["volume", "remove", "kept"]).succeed(), "kept\n");
    assert_eq!(home.kelp(&["image", "list", "-q"]).succeed(), "");
    home.kelp(&["image", "remove", "none"]).refuse(1, &["none"]);
}

#[test]
fn kelp_tells_of_itself_wherever_it_is() {
    let home = Home::new();
    let open = home.make_dir("open");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for data in [open.to_str().unwrap(), "/proc/kelp", "/etc", "relative"] {
        for words in
            [&["version"][..], &["version", "--format", "json"], &["help"], &["completion", "bash"], &["--help"]]
        {
            home.kelp(words).env("KELP_DATA", data).env("KELP_RUN", data).succeed();
        }
    }
}

#[test]
fn no_command_at_all_is_help() {
    let home = Home::new();
    let output = home.kelp(&[]).output();
    assert_eq!(output.code, 125);
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
    let said = home.kelp(&["rnu"]).fail(125);
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn shells_complete_names() {
    let home = Home::new();
    home.run_kept(&["--name", "webserver", "-v", "store:/data"], &["exit", "0"]).succeed();
    let script = home.path("completion");
    std::fs::write(&script, home.kelp(&["completion", "bash"]).succeed()).unwrap();
    let kelp = super::harness::kelp_binary();
    let path = format!("{}:/usr/bin:/bin", kelp.parent().unwrap().display());
    let complete = |words: &[&str]| {
        let (last, count) = (words.last().unwrap(), words.len() - 1);
        let line = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={count}; _kelp_with_names kelp '{last}' x; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
        );
        let mut call = home.call("/bin/bash".as_ref(), &["-c", &line]);
        call.env("PATH", &path).succeed().trim().to_owned()
    };
    assert_eq!(complete(&["kelp", "start", "we"]), "webserver");
    assert_eq!(complete(&["kelp", "start", ""]), "webserver");
    assert_eq!(complete(&["kelp", "container", "rm", "we"]), "webserver");
    assert_eq!(complete(&["kelp", "volume", "rm", "-f", "s"]), "store");
    assert!(complete(&["kelp", "start", "--att"]).contains("--attach"));
    assert!(complete(&["kelp", "unp"]).contains("unpause"));
}

#[test]
fn what_is_wrong_with_a_path_is_said_in_plain_words() {
    let home = Home::new();
    let running = home.start(&["--name", "web"], &["echo", "up", "+", "signals"]);
    let missing = "there is no such file or directory";
    let (tar, file) = (home.path("no/tar"), home.path("no/file"));
    let plain = |words: &[&str], code: i32, said: &[&str]| {
        let text = home.kelp(words).fail(code);
        assert!(said.iter().all(|word| text.contains(word)), "{text}");
        assert!(!text.contains("openat") && !text.contains("ENO") && !text.contains("EACC"), "{text}");
    };
    plain(&["exec", "-w", "/nowhere", "web", "/probe"], 127, &["working directory \"/nowhere\": ", missing]);
    plain(&["export", "-o", tar.to_str().unwrap(), "web"], 1, &["there is no directory \"", "/no\""]);
    plain(&["cp", file.to_str().unwrap(), "web:/tmp"], 1, &[missing]);
    plain(&["cp", "/etc/shadow", "web:/tmp"], 1, &["\"/etc/shadow\"", "permission denied"]);
    home.kelp(&["volume", "create", "store"]).succeed();
    plain(&["volume", "import", "store", file.to_str().unwrap()], 1, &[file.to_str().unwrap(), missing]);
    running.signal(nix::sys::signal::Signal::SIGTERM);
}
