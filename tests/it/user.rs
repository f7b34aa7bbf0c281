//! Who the program is: users and groups of the image, id maps.

use super::harness::needs::{needs, works};
use super::harness::registry::Registry;
use super::harness::{Home, Inside, image};

/// Uid, gid and groups of a container with these options.
fn identity(home: &Home, options: &[&str]) -> String {
    let inside = home.inside(options);
    let first = |field| inside.status(field).split(' ').collect::<std::collections::BTreeSet<_>>();
    let (uid, gid) = (first("Uid"), first("Gid"));
    assert!(uid.len() == 1 && gid.len() == 1, "real, effective, saved and file system ids differ");
    let ids = format!("{}:{}", uid.first().unwrap(), gid.first().unwrap());
    format!("{ids} {}", inside.status("Groups"))
}

#[test]
fn users_are_those_of_the_image() {
    let home = Home::new();
    assert_eq!(identity(&home, &[]), "0:0 0 44");
    assert_eq!(identity(&home, &["--user", "web"]), "1000:1000 29 44 1000");
    assert_eq!(identity(&home, &["-u", "1000"]), "1000:1000 29 44 1000");
    assert_eq!(identity(&home, &["-u", "web:staff"]), "1000:50 50");
    assert_eq!(identity(&home, &["-u", "77:88"]), "77:88 88");
    assert_eq!(identity(&home, &["-u", "77"]), "77:0 0");
    assert_eq!(identity(&home, &["-u", "77:88", "--group-add", "audio", "--group-add", "99"]), "77:88 29 88 99");
}

#[test]
fn home_follows_the_user() {
    let home = Home::new();
    assert!(home.inside(&["-u", "web"]).list("env").contains(&"HOME=/home/web"));
    assert!(home.inside(&["-u", "77"]).list("env").contains(&"HOME=/"));
    assert!(home.inside(&["-u", "web", "-e", "HOME=/x"]).list("env").contains(&"HOME=/x"));
}

#[test]
fn users_that_cannot_be_are_refused() {
    let home = Home::new();
    home.run(&["-u", "nobody"], &[]).refuse(125, &["no user \"nobody\"", "/etc/passwd"]);
    home.run(&["-u", "web:wheel"], &[]).refuse(125, &["no group \"wheel\""]);
    home.run(&["-u", "bad"], &[]).refuse(125, &["99999999", "/etc/subuid"]);
    home.run(&["-u", "4294967295"], &[]).refuse(125, &["4294967295"]);
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn root_inside_is_the_user_outside() {
    let home = Home::new();
    let shared = home.make_dir("shared");
    let volume = format!("{}:/shared", shared.display());
    assert_eq!(home.lines(&["-v", &volume], &["write", "/shared/file", "x", "+", "stat", "/shared/file"])[0], "ok");
    use std::os::unix::fs::MetadataExt;
    let status = std::fs::metadata(shared.join("file")).unwrap();
    assert_eq!(status.uid(), nix::unistd::getuid().as_raw());
}

#[test]
fn the_default_map_has_the_user_and_subordinate_ids() {
    let home = Home::new();
    let inside = home.inside(&[]);
    let uid = inside.list("uid_map");
    assert!(uid.len() >= 2, "{uid:?}");
    assert!(uid[0].starts_with("0 0 1"), "seen from the base namespace: {uid:?}");
}

#[test]
fn keep_id_shows_the_callers_own_id() {
    let home = Home::new();
    let uid = nix::unistd::getuid().as_raw();
    let inside = home.inside(&["--userns", "keep-id"]);
    assert!(inside.list("uid_map").iter().any(|line| line.starts_with(&format!("{uid} 0 1"))));
    let said = identity(&home, &["--userns", "keep-id"]);
    assert!(said.starts_with(&format!("{uid}:{}", nix::unistd::getgid())), "runs as the caller: {said}");
    let shared = home.make_dir("shared");
    let volume = format!("{}:/shared", shared.display());
    let lines = home
        .lines(&["--userns", "keep-id", "-v", &volume], &["write", "/shared/file", "x", "+", "stat", "/shared/file"]);
    assert_eq!(lines[0], "ok");
    assert!(lines[1].starts_with(&format!("{uid}:")), "{lines:?}");
}

#[test]
fn nomap_leaves_the_caller_out() {
    let (home, registry) = (Home::new(), Registry::start());
    let config = serde_json::json!({"Entrypoint": ["/probe"]});
    let name = image::publish(&registry, "box", &[image::base_layer()], &config);
    let shared = home.make_dir("shared");
    let volume = format!("{}:/shared", shared.display());
    let mut call = home.kelp(&["run", "--rm", "--userns", "nomap", "-v", &volume, &name, "inside", "+"]);
    let said = call.args(&["stat", "/shared", "+", "write", "/shared/x", "x", "+", "write", "/x", "x"]).succeed();
    let inside = Inside::read(&said);
    assert!(inside.list("uid_map").iter().all(|line| !line.ends_with(" 0 1")), "{:?}", inside.list("uid_map"));
    let lines: Vec<&str> = said.lines().skip(1).collect();
    assert!(lines[0].starts_with("65534:"), "{lines:?}");
    assert_eq!(lines[1..], ["error: EACCES", "ok"]);
}

#[test]
fn one_id_is_enough_for_a_container() {
    // Inside of a user namespace with one id there is no range to map from.
    needs!(works("/usr/bin/unshare", &["-Ur", "true"]), "unshare -Ur does not work here");
    let home = Home::new();
    let rootfs = home.rootfs();
    let kelp = super::harness::kelp_binary();
    let mut call = home.call(
        std::path::Path::new("/usr/bin/unshare"),
        &["-Ur", kelp.to_str().unwrap(), "run", "--rm", "--rootfs", rootfs.to_str().unwrap(), "/probe"],
    );
    call.args(&["inside", "+", "chown", "/etc/group", "5", "5", "+", "syscall", "setuid", "5"]);
    let output = call.output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("notice"), "the user is told: {}", output.stderr);
    let inside = Inside::read(&output.stdout);
    assert!(inside.list("uid_map")[0].starts_with("0 0 1"));
    assert_eq!(output.stdout.lines().skip(1).collect::<Vec<_>>(), ["ok", "ok"], "root is emulated");
}
