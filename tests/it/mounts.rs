//! Volumes, tmpfs, devices, /dev/shm, read-only roots, and targets that an
//! image tries to move.

use std::os::unix::fs::symlink;

use super::harness::{Home, eventually};

#[test]
fn host_directories_are_mounted_with_their_rights() {
    let home = Home::new();
    let shared = home.make_dir("shared");
    std::fs::write(shared.join("file"), "host").unwrap();
    let (open, closed) = (format!("{}:/shared", shared.display()), format!("{}:/shared:ro", shared.display()));
    let words = ["read", "/shared/file", "+", "write", "/shared/new", "x"];
    assert_eq!(home.lines(&["-v", &open], &words), ["host", "ok"]);
    std::fs::remove_file(shared.join("new")).unwrap();
    assert_eq!(home.lines(&["-v", &closed], &words), ["host", "error: EROFS"]);
    let mount = format!("type=bind,source={},target=/shared,readonly", shared.display());
    assert_eq!(home.lines(&["--mount", &mount], &words), ["host", "error: EROFS"]);
}

#[test]
fn a_single_file_is_mounted() {
    let home = Home::new();
    let file = home.path("file");
    std::fs::write(&file, "host").unwrap();
    let volume = format!("{}:/etc/new/deep", file.display());
    assert_eq!(home.lines(&["-v", &volume], &["read", "/etc/new/deep"]), ["host"]);
    let volume = format!("{}:/etc", file.display());
    home.run(&["-v", &volume], &[]).refuse(125, &["/etc", "directory"]);
}

#[test]
fn a_missing_source_is_made_by_v_and_refused_by_mount() {
    let home = Home::new();
    let missing = home.path("missing");
    let mount = format!("type=bind,source={},target=/data", missing.display());
    home.run(&["--mount", &mount], &[]).refuse(125, &["missing"]);
    assert!(!missing.exists());
    let volume = format!("{}:/data", missing.display());
    home.run(&["-v", &volume], &["write", "/data/x", "x"]).succeed();
    assert!(missing.join("x").exists());
}

#[test]
fn a_named_volume_persists() {
    let home = Home::new();
    assert_eq!(home.lines(&["-v", "store:/data"], &["write", "/data/x", "kept"]), ["ok"]);
    assert_eq!(home.lines(&["-v", "store:/other"], &["read", "/other/x"]), ["kept"]);
    assert_eq!(home.lines(&["-v", "else:/other"], &["read", "/other/x"]), ["error: ENOENT"]);
    assert_eq!(home.lines(&["-v", "store:/data:ro"], &["write", "/data/x", "y"]), ["error: EROFS"]);
}

#[test]
fn an_anonymous_volume_goes_with_its_container() {
    let home = Home::new();
    assert_eq!(home.lines(&["-v", "/data"], &["write", "/data/x", "x"]), ["ok"]);
    assert_eq!(home.entries("volumes"), [""; 0]);
    assert!(eventually(|| home.entries("trash").is_empty()));
}

#[test]
fn tmpfs_has_a_size_and_a_mode() {
    let home = Home::new();
    let words = ["stat", "/mem", "+", "fill", "/mem/a", "900000", "+", "fill", "/mem/b", "900000"];
    let said = home.lines(&["--tmpfs", "/mem:size=1m,mode=750"], &words);
    assert!(said[0].starts_with("0:0 40750 "), "{said:?}");
    assert_eq!(said[1..], ["ok", "error: ENOSPC"]);
    let inside = home.inside(&["--tmpfs", "/mem"]);
    let options = inside.mount_options("/mem");
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{options:?}");
    let said = home.lines(&["--tmpfs", "/mem:uid=1000,gid=1000,mode=700", "-u", "web"], &["write", "/mem/x", "x"]);
    assert_eq!(said, ["ok"]);
}

#[test]
fn shared_memory_has_a_size() {
    let home = Home::new();
    assert_eq!(home.lines(&["--shm-size", "1m"], &["fill", "/dev/shm/a", "2000000"]), ["error: ENOSPC"]);
    assert_eq!(home.lines(&[], &["fill", "/dev/shm/a", "2000000"]), ["ok"]);
    assert!(home.inside(&[]).mount("/dev/shm").unwrap()["system_options"].as_str().unwrap().contains("size=65536k"));
}

#[test]
fn devices_work_and_are_few() {
    let home = Home::new();
    let words =
        ["write", "/dev/null", "x", "+", "list", "/dev", "+", "link", "/dev/fd", "+", "write", "/dev/full", "x"];
    let said = home.lines(&[], &words);
    assert_eq!(said[0], "ok");
    assert_eq!(said[1], "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(said[2], "/proc/self/fd");
    assert_eq!(said[3], "error: ENOSPC");
}

#[test]
fn a_device_of_the_host_is_given() {
    let home = Home::new();
    assert_eq!(home.lines(&["--device", "/dev/null:/dev/hole"], &["write", "/dev/hole", "x"]), ["ok"]);
    let file = home.path("file");
    std::fs::write(&file, "x").unwrap();
    home.run(&["--device", file.to_str().unwrap()], &[]).refuse(125, &["file", "device"]);
    home.run(&["--device", "/dev/no-such"], &[]).refuse(125, &["/dev/no-such"]);
}

#[test]
fn a_read_only_root_keeps_its_tmpfs_writable() {
    let home = Home::new();
    let words =
        ["write", "/x", "x", "+", "write", "/etc/x", "x", "+", "write", "/mem/x", "x", "+", "write", "/dev/shm/x", "x"];
    let said = home.lines(&["--read-only", "--tmpfs", "/mem"], &words);
    assert_eq!(said, ["error: EROFS", "error: EROFS", "ok", "ok"]);
}

#[test]
fn links_in_the_image_do_not_lead_mounts_outside() {
    let home = Home::new();
    let (outside, shared) = (home.make_dir("outside"), home.make_dir("shared"));
    std::fs::write(shared.join("file"), "host").unwrap();
    let rootfs = home.rootfs();
    symlink(&outside, rootfs.join("absolute")).unwrap();
    symlink("../../../../../../..", rootfs.join("etc/up")).unwrap();
    symlink("loop", rootfs.join("loop")).unwrap();
    home.run(&["-v", &format!("{}:/loop/x", shared.display())], &[]).refuse(125, &["/loop/x"]);
    for target in ["/absolute", "/absolute/deep", "/etc/up/deep"] {
        let volume = format!("{}:{target}", shared.display());
        assert_eq!(home.lines(&["-v", &volume], &["read", &format!("{target}/file")]), ["host"]);
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    assert!(!std::path::Path::new("/deep").exists());
}

#[test]
fn generated_files_do_not_follow_links_of_the_image_outside() {
    let home = Home::new();
    let victim = home.path("victim");
    std::fs::write(&victim, "untouched").unwrap();
    symlink(&victim, home.rootfs().join("etc/hosts")).unwrap();
    home.run(&[], &["exit", "0"]).output();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn mounts_where_they_would_break_the_container_are_refused() {
    let home = Home::new();
    for target in ["/", "/proc", "/proc/self", "/a/../proc/kcore"] {
        home.run(&["-v", &format!("/tmp:{target}")], &[]).fail(125);
    }
    home.run(&["-v", "/tmp:/a", "--tmpfs", "/a"], &[]).refuse(125, &["two mounts on /a"]);
}

#[test]
fn mounts_inside_of_mounts_come_in_order() {
    let home = Home::new();
    let shared = home.make_dir("shared");
    let volume = format!("{}:/a/b", shared.display());
    assert_eq!(
        home.lines(&["-v", &volume, "--tmpfs", "/a"], &["write", "/a/b/x", "x", "+", "list", "/a"]),
        ["ok", "b"]
    );
    assert!(shared.join("x").exists());
}

#[test]
fn etc_files_tell_of_the_container() {
    let home = Home::new();
    let said = home.lines(&["--hostname", "box"], &["read", "/etc/hostname", "+", "read", "/etc/hosts"]);
    assert_eq!(said[0], "box");
    assert!(said.iter().any(|line| line.contains("127.0.0.1") && line.contains("localhost")), "{said:?}");
    assert!(said.iter().any(|line| line.ends_with("\tbox") || line.contains("\tbox ")), "{said:?}");
}

#[test]
fn host_mounts_are_not_seen_to_change() {
    // What a container mounts stays in it: all propagation is private.
    let home = Home::new();
    for mount in home.inside(&[]).0["mounts"].as_array().unwrap() {
        assert!(!mount["propagation"].to_string().contains("shared:"), "{mount}");
    }
}
