//! Exit statuses: the program's own, and Docker's 125, 126, 127 and 128+n.

use std::os::unix::fs::PermissionsExt;

use super::harness::Home;

#[test]
fn the_programs_status_is_kelps() {
    let home = Home::new();
    for code in [0, 7, 125, 255] {
        assert_eq!(home.run(&[], &["exit", &code.to_string()]).code(), code);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let home = Home::new();
    // With an init of its own, for the kernel shields pid 1 from signals of its own.
    for signal in [6, 9, 15] {
        assert_eq!(home.run(&["--init"], &["raise", &signal.to_string()]).code(), 128 + signal);
    }
}

#[test]
fn a_program_that_does_not_exist_is_127() {
    let home = Home::new();
    let rootfs = home.rootfs();
    for program in ["/nowhere", "nowhere", "/etc/passwd/x"] {
        let mut call = home.kelp(&["run", "--rm", "--rootfs", rootfs.to_str().unwrap(), program]);
        call.refuse(127, &["kelp: ", program]);
    }
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn a_program_that_cannot_be_executed_is_126() {
    let home = Home::new();
    let rootfs = home.rootfs();
    std::fs::write(rootfs.join("text"), "#!/nothing\n").unwrap();
    std::fs::write(rootfs.join("noise"), "\x7fELF").unwrap();
    std::fs::set_permissions(rootfs.join("noise"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for program in ["/text", "/etc", "/noise"] {
        let mut call = home.kelp(&["run", "--rm", "--rootfs", rootfs.to_str().unwrap(), program]);
        call.refuse(126, &["kelp: ", program]);
    }
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn what_could_not_be_started_stays_with_the_reason() {
    let home = Home::new();
    let (rootfs, id_file) = (home.rootfs(), home.path("id"));
    let name = ["--name", "late", "--cidfile", id_file.to_str().unwrap(), "-v", "/data"];
    let words = ["--rootfs", rootfs.to_str().unwrap(), "/late", "exit", "3"];
    home.kelp(&[&["run"][..], &name, &words].concat()).refuse(127, &["no program \"/late\""]);
    let state = |format: &str| home.kelp(&["inspect", "-f", format, "late"]).succeed();
    let all = "{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}} {{.State.Error}}";
    assert_eq!(state(all), "created 127 0001-01-01T00:00:00Z no program \"/late\" in the container\n");
    assert_eq!(std::fs::read_to_string(&id_file).unwrap().len(), 64);
    assert_eq!(home.kelp(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).succeed(), "late Created\n");
    assert_eq!(home.kelp(&["ps", "-q"]).succeed(), "");
    assert_eq!(home.kelp(&["wait", "late"]).succeed(), "127\n");
    assert_eq!(home.entries("volumes").len(), 1);
    // A second try fails alike, and a third one does not.
    home.kelp(&["start", "late"]).refuse(1, &["no program \"/late\""]);
    assert_eq!(state(all), "created 127 0001-01-01T00:00:00Z no program \"/late\" in the container\n");
    std::fs::copy(rootfs.join("probe"), rootfs.join("late")).unwrap();
    assert_eq!(home.kelp(&["start", "-a", "late"]).code(), 3);
    assert_eq!(state("{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}"), "exited 3 \n");
    // One that has run is not as if it never had.
    std::fs::remove_file(rootfs.join("late")).unwrap();
    home.kelp(&["start", "late"]).fail(1);
    assert_eq!(
        state("{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}"),
        "exited 127 no program \"/late\" in the container\n"
    );
    home.kelp(&["rm", "-v", "late"]).succeed();
    assert_eq!((home.entries("containers").len(), home.entries("volumes").len()), (0, 0));
}

#[test]
fn a_failed_start_that_is_killed_leaves_what_it_wrote_down() {
    let home = Home::new();
    let rootfs = home.rootfs();
    home.run(&[], &["exit", "0"]).succeed();
    let run = |place: &str| {
        std::os::unix::fs::symlink(place, home.run_dir().join("failpoint")).unwrap();
        home.kelp(&["run", "--name", "bad", "-v", "/data", "--rootfs", rootfs.to_str().unwrap(), "/nowhere"]).fail(125);
        home.containers().len()
    };
    // Before, it is as if it had never been; after, it is there.
    assert_eq!(run("supervisor: listening"), 0);
    assert_eq!(home.entries("volumes"), [""; 0]);
    assert_eq!(run("supervisor: failed start written down"), 1);
    assert_eq!(home.kelp(&["inspect", "-f", "{{.State.ExitCode}}", "bad"]).succeed(), "127\n");
    home.kelp(&["rm", "-v", "bad"]).succeed();
    assert_eq!((home.entries("names").len(), home.entries("volumes").len()), (0, 0));
}

#[test]
fn what_cannot_be_planned_or_is_removed_leaves_nothing() {
    let home = Home::new();
    let rootfs = home.rootfs();
    let id_file = home.path("id");
    let options = ["run", "--cidfile", id_file.to_str().unwrap(), "--rootfs", rootfs.to_str().unwrap()];
    home.kelp(&[&options[..], &["--rm", "/nowhere"]].concat()).fail(127);
    home.kelp(&[&options[..], &["--mount", "type=bind,source=/nowhere,target=/x", "/probe"]].concat()).fail(125);
    home.kelp(&["create", "--rm", "--name", "once", "--rootfs", rootfs.to_str().unwrap(), "/nowhere"]).succeed();
    home.kelp(&["start", "once"]).fail(1);
    assert_eq!((home.entries("containers").len(), home.entries("names").len()), (0, 0));
    assert!(!id_file.exists());
}

#[test]
fn kelps_own_failures_are_125() {
    let home = Home::new();
    home.kelp(&["run", "--rootfs", "/nonexistent", "/probe"]).refuse(125, &["/nonexistent"]);
    home.run(&["--no-such-flag"], &[]).refuse(125, &["--no-such-flag"]);
    home.run(&["-v", "/a:b"], &[]).refuse(125, &["must be absolute"]);
    assert_eq!(home.entries("containers"), [""; 0], "a failed start leaves nothing");
    assert_eq!(home.entries("names"), [""; 0], "a failed start gives its name back");
}

#[test]
fn other_verbs_have_1_and_125() {
    let home = Home::new();
    home.kelp(&["rm", "nobody"]).refuse(1, &["no container \"nobody\""]);
    home.kelp(&["rm", "--no-such-flag"]).refuse(125, &["--no-such-flag"]);
    home.kelp(&["no-such-verb"]).refuse(125, &["no-such-verb"]);
}
