//! What a program may not do, and what it is not told: capabilities, filters,
//! masks, descriptors, and each past escape of this field that has a test.

use std::os::fd::AsRawFd;

use super::harness::needs::{needs, works};
use super::harness::{Home, Inside, kelp_binary};

/// Docker's default set: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID,
/// SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE,
/// SETFCAP.
const DEFAULT: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

#[test]
fn root_has_the_default_set_and_others_have_none() {
    let home = Home::new();
    assert_eq!(home.inside(&[]).capabilities(), [0, DEFAULT, DEFAULT, DEFAULT, 0]);
    assert_eq!(home.inside(&["-u", "web"]).capabilities(), [0, 0, 0, DEFAULT, 0]);
    assert_eq!(home.inside(&["--init"]).capabilities(), [0, DEFAULT, DEFAULT, DEFAULT, 0]);
}

#[test]
fn kelps_own_init_keeps_no_right_but_to_signal() {
    let home = Home::new();
    let status = home.lines(&["--init", "--user", "web"], &["read", "/proc/1/status"]).join("\n");
    for line in ["NoNewPrivs:\t1", "CapPrm:\t0000000000000020", "CapEff:\t0000000000000020"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn capabilities_are_added_and_dropped() {
    let home = Home::new();
    let effective = |options: &[&str]| {
        let [inheritable, permitted, effective, bounding, ambient] = home.inside(options).capabilities();
        assert_eq!((inheritable, ambient), (0, 0));
        assert!(permitted == effective && effective == bounding, "{options:?}");
        effective
    };
    assert_eq!(effective(&["--cap-add", "NET_ADMIN"]), DEFAULT | NET_ADMIN);
    assert_eq!(effective(&["--cap-drop", "chown"]), DEFAULT & !CHOWN);
    assert_eq!(effective(&["--cap-drop", "ALL"]), 0);
    assert_eq!(effective(&["--cap-drop", "all", "--cap-add", "CAP_CHOWN"]), CHOWN);
    let all = effective(&["--cap-add", "ALL"]);
    assert!(all & (1 << 21) != 0 && all.count_ones() >= 38, "{all:x}");
    home.run(&["--cap-add", "SYS_ADMN"], &[]).refuse(125, &["SYS_ADMN", "did you mean \"CAP_SYS_ADMIN\"?"]);
}

#[test]
fn no_descriptor_is_inherited() {
    let home = Home::new();
    needs!(works("/bin/bash", &["-c", "true"]), "there is no bash, which opens descriptors above 9");
    let secret = home.path("secret");
    std::fs::write(&secret, "x").unwrap();
    for options in [&[][..], &["-i"], &["--init"], &["-t"]] {
        let file = std::fs::File::open(&secret).unwrap();
        let directory = std::fs::File::open("/").unwrap();
        let call = home.run(options, &["inside"]);
        // Through a shell that opens more, so that close-on-exec cannot hide a leak.
        let (a, b) = (file.as_raw_fd(), directory.as_raw_fd());
        let script = format!("exec 3<{} 4</ 9</etc/passwd 100>&1; exec \"$@\" # {a} {b}", secret.display());
        let mut words: Vec<String> = vec!["-c".into(), script, "sh".into()];
        words.push(call.command.get_program().to_string_lossy().into_owned());
        words.extend(call.command.get_args().map(|word| word.to_string_lossy().into_owned()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let inside = Inside::read(&home.call(std::path::Path::new("/bin/bash"), &words).succeed());
        let open: Vec<&String> = inside.0["descriptors"].as_object().unwrap().keys().collect();
        assert_eq!(open, ["0", "1", "2"], "{options:?}: {}", inside.0["descriptors"]);
    }
}

#[test]
fn the_filter_is_on_and_says_no() {
    let home = Home::new();
    let inside = home.inside(&[]);
    assert_eq!(inside.status("Seccomp"), "2");
    // socket(AF_ALG), keyctl(get session keyring), unshare(user), setns, bpf, perf_event_open, io_uring, TIOCSTI.
    let calls: [(&[&str], &str); 11] = [
        (&["socket", "38", "5"], "EPERM"),
        (&["socket", "40", "1"], "EPERM"),
        (&["keyctl", "0", "-3"], "EPERM"),
        (&["add_key"], "EPERM"),
        (&["unshare", "268435456"], "EPERM"),
        (&["mount"], "EPERM"),
        (&["bpf"], "EPERM"),
        (&["userfaultfd"], "EPERM"),
        (&["clone3"], "ENOSYS"),
        (&["io_uring_setup", "1"], "ENOSYS"),
        (&["ioctl", "0", "21522"], "EPERM"),
    ];
    for options in [&[][..], &["-u", "web"], &["--security-opt", "no-new-privileges"], &["--init"]] {
        let mut words = Vec::new();
        for (call, _) in &calls {
            words.extend([&["syscall"], *call, &["+"]].concat());
        }
        let said = home.lines(options, &words);
        let expected: Vec<&str> = calls.iter().map(|(_, errno)| *errno).collect();
        assert_eq!(said, expected, "{options:?}");
    }
}

#[test]
fn the_filter_can_be_left_out() {
    let home = Home::new();
    let options = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(home.inside(&options).status("Seccomp"), "0");
    assert_eq!(home.lines(&options, &["syscall", "unshare", "268435456"]), ["ok"]);
}

#[test]
fn a_profile_of_ones_own_is_used() {
    let home = Home::new();
    let file = home.path("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    std::fs::write(&file, profile).unwrap();
    let option = format!("seccomp={}", file.display());
    assert_eq!(home.lines(&["--security-opt", &option], &["syscall", "personality", "0"]), ["EOPNOTSUPP"]);
    std::fs::write(&file, "{").unwrap();
    home.run(&["--security-opt", &option], &[]).refuse(125, &["profile.json"]);
}

#[test]
fn new_privileges_are_forbidden_on_request() {
    let home = Home::new();
    assert_eq!(home.inside(&[]).status("NoNewPrivs"), "0");
    assert_eq!(home.inside(&["--security-opt", "no-new-privileges"]).status("NoNewPrivs"), "1");
    assert_eq!(home.inside(&["--security-opt", "no-new-privileges:false"]).status("NoNewPrivs"), "0");
}

#[test]
fn masked_and_read_only_paths_hold() {
    let home = Home::new();
    let words = [
        "read",
        "/proc/kcore",
        "+",
        "read",
        "/proc/keys",
        "+",
        "list",
        "/sys/firmware",
        "+",
        "write",
        "/proc/sys/vm/overcommit_memory",
        "x",
        "+",
        "write",
        "/proc/sysrq-trigger",
        "h",
        "+",
        "write",
        "/sys/kernel/x",
        "x",
        "+",
        "read",
        "/proc/timer_list",
    ];
    let said = home.lines(&["--cap-add", "ALL"], &words);
    // Empty, or not there at all: each depends on how the kernel was built.
    for place in [0, 1, 2, 6] {
        assert!(["", "error: ENOENT"].contains(&said[place].as_str()), "{}", said[place]);
    }
    assert_eq!(said[3], "error: EROFS");
    assert!(["error: EROFS", "error: ENOENT"].contains(&said[4].as_str()), "{}", said[4]);
    assert!(["error: EROFS", "error: EACCES", "error: EPERM"].contains(&said[5].as_str()), "{}", said[5]);
    let inside = home.inside(&[]);
    assert!(inside.mount_options("/proc/sys").contains(&"ro"));
    assert!(inside.mount_options("/sys").contains(&"ro"));
    assert!(inside.mount_options("/proc").contains(&"nosuid"));
}

#[test]
fn masks_can_be_added_and_lifted() {
    let home = Home::new();
    let words = ["read", "/home/secret", "+", "list", "/data"];
    let options = ["--security-opt", "mask=/home/secret", "--security-opt", "mask=/data"];
    std::fs::write(home.rootfs().join("home/secret"), "x").unwrap();
    std::fs::write(home.rootfs().join("data/secret"), "x").unwrap();
    assert_eq!(home.lines(&[], &words), ["x", "secret"]);
    assert_eq!(home.lines(&options, &words), ["", ""]);
    let inside = home.inside(&["--security-opt", "unmask=ALL"]);
    assert!(inside.mount("/proc/kcore").is_none() && inside.mount("/proc/sys").is_none());
    let inside = home.inside(&["--security-opt", "unmask=/proc/kcore"]);
    assert!(inside.mount("/proc/kcore").is_none() && inside.mount("/proc/keys").is_some());
}

/// CVE-2019-5736: the runtime's own binary, open to be overwritten.
#[test]
fn kelps_binary_cannot_be_written_from_within() {
    let home = Home::new();
    let before = std::fs::read(kelp_binary()).unwrap();
    for options in [&["--init"][..], &["--init", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"]] {
        let said = &home.lines(options, &["open-write", "/proc/1/exe"])[0];
        assert!(["error: EROFS", "error: EACCES"].contains(&said.as_str()), "{options:?}: {said}");
    }
    // An image whose program is the runtime itself.
    std::os::unix::fs::symlink("/proc/self/exe", home.rootfs().join("self")).unwrap();
    let rootfs = home.rootfs();
    let output = home.kelp(&["run", "--rm", "--rootfs", rootfs.to_str().unwrap(), "/self", "run"]).output();
    assert_ne!(output.code, 0, "{}", output.stdout);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert!(std::fs::read(kelp_binary()).unwrap() == before);
}

/// CVE-2024-21626: a working directory that is a leaked descriptor.
#[test]
fn a_working_directory_cannot_be_a_descriptor_of_ours() {
    let home = Home::new();
    for number in 0..12 {
        for prefix in ["/proc/self/fd", "/proc/1/fd", "/dev/fd"] {
            let output = home.run(&["-w", &format!("{prefix}/{number}")], &["inside", "+", "list", ".."]).output();
            if output.code == 0 {
                let directory = Inside::read(&output.stdout).text("cwd").to_owned();
                assert!(directory.starts_with('/') && !directory.contains("kt"), "{prefix}/{number}: {directory}");
            }
        }
    }
    std::os::unix::fs::symlink("/proc/self/fd/7/../../..", home.rootfs().join("trick")).unwrap();
    assert_eq!(home.run(&["-w", "/trick"], &["inside"]).code(), 125);
}

/// CVE-2019-19921, CVE-2023-28642: an image whose /proc or /sys is a link.
#[test]
fn links_of_the_image_do_not_move_kernel_mounts() {
    for name in ["proc", "sys", "dev"] {
        let home = Home::new();
        std::os::unix::fs::symlink("/tmp", home.rootfs().join(name)).unwrap();
        home.run(&[], &["inside"]).refuse(125, &["symbolic link", name]);
    }
}

#[test]
fn the_death_of_init_is_the_death_of_all() {
    let home = Home::new();
    assert_eq!(home.inside(&[]).text("death_signal"), "SIGKILL");
    assert_eq!(home.inside(&["-u", "web"]).text("death_signal"), "SIGKILL");
}

#[test]
fn nothing_of_the_host_is_in_the_mount_table() {
    let home = Home::new();
    let inside = home.inside(&[]);
    for mount in inside.0["mounts"].as_array().unwrap() {
        let kind = mount["kind"].as_str().unwrap();
        let known =
            ["overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "devtmpfs", "ext4", "xfs", "btrfs"];
        assert!(known.contains(&kind), "{mount}");
    }
    assert!(inside.mount("/").unwrap()["system_options"].as_str().unwrap().contains("userxattr"));
    assert_eq!(home.lines(&[], &["list", "/"]), ["data dev etc home probe proc sys tmp"]);
}
