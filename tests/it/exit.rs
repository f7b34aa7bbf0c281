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
fn kelps_own_failures_are_125() {
    let home = Home::new();
    home.kelp(&["run", "--rootfs", "/nonexistent", "/probe"]).refuse(125, &["/nonexistent"]);
    home.run(&["--no-such-flag"], &[]).refuse(125, &["--no-such-flag"]);
    home.run(&["-v", "/a:b"], &[]).refuse(125, &["must be absolute"]);
    assert_eq!(home.entries("containers"), [""; 0], "a failed start leaves nothing");
    assert_eq!(home.entries("names"), [""; 0], "a failed start gives its name back");
}

#[test]
fn other_verbs_have_1_and_2() {
    let home = Home::new();
    home.kelp(&["rm", "nobody"]).refuse(1, &["no container \"nobody\""]);
    home.kelp(&["rm", "--no-such-flag"]).refuse(125, &["--no-such-flag"]);
    home.kelp(&["no-such-verb"]).refuse(125, &["no-such-verb"]);
}
