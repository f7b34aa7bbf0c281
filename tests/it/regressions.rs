//! What was once wrong, each with what broke.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use super::harness::needs::needs;
use super::harness::{Home, Inside, eventually, is_running};

/// With --init, root in the container could trace pid 1, which had no filter,
/// no bounding set and no no_new_privs, and make it execute anything.
#[test]
fn pid_1_of_init_cannot_be_traced() {
    const PTRACE_SEIZE: &str = "16902";
    let home = Home::new();
    for options in [&["--init"][..], &["--init", "--cap-add", "SYS_PTRACE"]] {
        assert_eq!(home.lines(options, &["syscall", "ptrace", PTRACE_SEIZE, "1", "0", "0"]), ["EPERM"], "{options:?}");
    }
    assert_eq!(home.lines(&["--init"], &["read", "/proc/1/environ"]), ["error: EACCES"]);
    let status = home.run(&["--init", "--cap-add", "ALL"], &["read", "/proc/1/status"]).succeed();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000020", "CapEff:\t0000000000000020"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
}

/// Any failure to read a record, passing ones too, threw the container away.
#[test]
fn a_passing_error_deletes_no_container() {
    let home = Home::new();
    home.run_kept(&["--name", "kept"], &["inside"]).succeed();
    let kelp = home.kelp(&["ps", "-a"]);
    let program = kelp.command.get_program().to_string_lossy().into_owned();
    let script = format!("ulimit -n 4; {program} ps -a");
    home.call(std::path::Path::new("/bin/sh"), &["-c", &script]).output();
    assert_eq!(home.containers()[0]["name"], "kept");
}

/// A record of a newer kelp, or an empty one, was thrown away as well.
#[test]
fn a_container_that_cannot_be_read_is_left_alone_and_named() {
    let home = Home::new();
    home.run_kept(&["--name", "newer"], &["inside"]).succeed();
    home.run_kept(&["--name", "good"], &["inside"]).succeed();
    let id = home.containers().iter().find(|it| it["name"] == "newer").unwrap()["id"].as_str().unwrap().to_owned();
    let record = home.data().join("containers").join(&id).join("record.json");
    std::fs::write(&record, r#"{"version": 99}"#).unwrap();
    let output = home.kelp(&["ps", "-a"]).output();
    assert!(output.stdout.contains("good"));
    assert!(output.stderr.contains(&id[..12]));
    assert!(record.exists());
    home.kelp(&["rm", "good"]).succeed();
}

/// `ps` beside starts threw away directories that were just being made.
#[test]
fn listing_does_not_disturb_starts() {
    let home = Home::new();
    std::thread::scope(|scope| {
        let lister = scope.spawn(|| (0..40).for_each(|_| drop(home.kelp(&["ps", "-a"]).succeed())));
        for _ in 0..25 {
            home.run(&[], &["inside"]).succeed();
        }
        lister.join().unwrap();
    });
}

/// Names, generated files and anonymous volumes of a container whose
/// supervisor was killed stayed for good.
#[test]
fn nothing_outlives_a_container_whose_supervisor_was_killed() {
    let home = Home::new();
    let mut running = home.start(&["--name", "box", "--rm", "-v", "/data"], &["stubborn"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(home.supervisor("box")), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    running.wait();
    home.kelp(&["ps", "-a"]).succeed();
    for directory in ["containers", "names", "volumes"] {
        assert!(eventually(|| home.entries(directory).is_empty()), "{directory}");
    }
    assert_eq!(std::fs::read_dir(home.containers_run()).unwrap().count(), 0);
}

/// A supervisor killed during the start could leave a program of another user
/// running that nobody knew of.
#[test]
fn a_supervisor_killed_while_starting_leaves_no_program() {
    let home = Home::new();
    for delay_us in (0..24).map(|step| step * 250) {
        let mut running = home.run(&["--user", "web", "--name", "box"], &["stubborn"]).start();
        let found = eventually(|| supervisor_of(&home).is_some());
        std::thread::sleep(Duration::from_micros(delay_us));
        if let Some(pid) = supervisor_of(&home).filter(|_| found) {
            // It may have ended by itself.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        running.wait();
        home.kelp(&["ps", "-a"]).succeed();
        assert!(eventually(|| stubborn_programs(&home).is_empty()), "after {delay_us} µs");
        home.kelp(&["rm", "-f", "box"]).output();
    }
}

/// The holder in the base namespace that is not lingering: a supervisor.
fn supervisor_of(home: &Home) -> Option<i32> {
    home.holders().into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"box\0")) && is_running(*pid)
    })
}

/// Programs that run from this home's root file system.
fn stubborn_programs(home: &Home) -> Vec<String> {
    let marker = home.path("").display().to_string();
    let mounts_of = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        line.windows(8).any(|part| part == b"stubborn") && !line.starts_with(b"kelp") && mounts.contains(&marker)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(mounts_of).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A directory as standard input was a way to the host's files
/// (/proc/self/fd/0/../..).
#[test]
fn a_directory_is_no_standard_stream() {
    let home = Home::new();
    let mut call = home.run(&["-i"], &["inside"]);
    call.command.stdin(Stdio::from(OwnedFd::from(std::fs::File::open("/").unwrap())));
    let output = call.command.output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input is a directory"));
}

/// A file that output went to could be emptied through /proc/self/fd/1.
#[test]
fn a_file_that_output_goes_to_can_only_be_appended_to() {
    let home = Home::new();
    let log = home.path("log");
    std::fs::write(&log, "before\n").unwrap();
    let file = std::fs::File::options().append(true).open(&log).unwrap();
    let mut call = home.run(&[], &["fill", "/proc/self/fd/1", "3", "+", "read", "/etc/hostname"]);
    call.command.stdout(Stdio::from(OwnedFd::from(file)));
    assert!(call.command.status().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("before\nxxx"), "{text}");
}

/// With umask 077, other users in the container could not read /etc/hosts or
/// reach their volumes and directories.
#[test]
fn the_umask_of_the_caller_stays_outside() {
    let home = Home::new();
    let call =
        home.run(&["--user", "web", "-w", "/a/b", "-v", "data:/x/y"], &["stat", "/etc/hosts", "+", "chdir", "/x/y"]);
    let words: Vec<String> = std::iter::once(call.command.get_program())
        .chain(call.command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut all = vec!["-c", "umask 077; exec \"$@\"", "sh"];
    all.extend(words.iter().map(String::as_str));
    let seen = home.call(std::path::Path::new("/bin/sh"), &all).succeed();
    assert!(seen.contains("ok"), "{seen}");
    let hosts = Inside::read(&home.run(&[], &["inside"]).succeed());
    drop(hosts);
    assert!(!seen.contains("error"), "{seen}");
}

/// A link of the image could lead a volume onto /proc, where it undid a mask.
#[test]
fn no_link_leads_a_mount_into_the_kernels_trees() {
    let home = Home::new();
    for (link, target) in [("first", "/proc"), ("more", "/proc/sys"), ("third", "/sys")] {
        symlink(target, home.rootfs().join(link)).unwrap();
        home.run(&["-v", &format!("vol:/{link}")], &["inside"]).refuse(125, &["into /proc or /sys"]);
    }
}

/// A failed start left its id file, so that the next one was refused.
#[test]
fn a_failed_start_leaves_no_id_file() {
    let home = Home::new();
    let file = home.path("id");
    let options = ["--cidfile", &file.display().to_string(), "--entrypoint", "/nope"];
    home.run(&options, &[]).fail(127);
    assert!(!file.exists());
}

/// A program that printed to a terminal whose reader had gone never ended.
#[test]
fn a_terminal_without_a_reader_is_hung_up() {
    let home = Home::new();
    needs!(std::path::Path::new("/usr/bin/yes").exists(), "there is no yes");
    let mut call = home.kelp(&["run", "--rm", "-t", "--rootfs", "/", "yes"]);
    call.command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = call.command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = eventually(|| !is_running(child.id() as i32));
    child.kill().ok();
    child.wait().unwrap();
    assert!(ended);
}

/// --read-only did not reach the overlays of `--rootfs /`, and --dry-run made
/// volumes.
#[test]
fn options_reach_all_they_name() {
    let home = Home::new();
    let etc = std::fs::metadata("/etc").unwrap().permissions().mode();
    assert_ne!(etc & 0o111, 0);
    home.kelp(&["run", "--dry-run", "--rootfs", "/", "-v", "made:/x", "-v", "/anon", "true"]).succeed();
    assert!(home.entries("volumes").is_empty());
    let dry = home.kelp(&["run", "--dry-run", "--read-only", "--rootfs", "/", "true"]).succeed();
    let plan: serde_json::Value = serde_json::from_str(&dry).unwrap();
    let overlays: Vec<_> =
        plan["steps"].as_array().unwrap().iter().filter(|it| it["mount"]["source"]["overlay"].is_object()).collect();
    assert!(!overlays.is_empty());
    assert!(overlays.iter().all(|it| it["mount"]["attributes"]["read_only"] == true));
}

/// A limit on descriptors that hit newuidmap gave all later starts one id.
#[test]
fn a_passing_failure_of_newuidmap_degrades_nothing() {
    let home = Home::new();
    let call = home.run(&[], &["inside"]);
    let words: Vec<String> = std::iter::once(call.command.get_program())
        .chain(call.command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut all = vec!["-c", "ulimit -n 8; exec \"$@\"", "sh"];
    all.extend(words.iter().map(String::as_str));
    home.call(std::path::Path::new("/bin/sh"), &all).output();
    assert!(home.inside(&["--user", "web"]).status("Uid").starts_with("1000"));
}

/// Random names come from 3,600 pairs of words: a hundred starts at once met.
#[test]
fn random_names_do_not_collide() {
    let home = Home::new();
    for _ in 0..40 {
        home.run_kept(&[], &["inside"]).succeed();
    }
    let names: std::collections::BTreeSet<String> =
        home.containers().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 40);
}
