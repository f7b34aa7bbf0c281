//! The tour of a fixed container, as text and in the parts of its parsers.

use super::report;
use super::seen::Seen;
use super::text;
use crate::engine::host_view::HostView;
use crate::error::Failure;
use crate::host::{Cgroup, CgroupVersion, Facts, shortfalls};
use crate::process::idmap::{Extent, IdMap};

const MOUNTINFO: &str = "\
60 59 0:51 / / rw,nodev,relatime - overlay overlay rw,lowerdir+=/l1,upperdir=/u,workdir=/w,fsync=volatile,userxattr
61 60 8:1 /run/kelp/c/host.json /run/kelp/host.json ro,nosuid - ext4 /dev/sda1 rw
62 60 8:1 /run/kelp/c/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
63 60 0:52 / /proc rw,nosuid,nodev,noexec - proc proc rw
64 60 0:53 / /sys ro,nosuid - sysfs sysfs rw
65 60 0:54 / /dev rw,nosuid - tmpfs tmpfs rw,size=64k,mode=755
66 65 0:6 /null /dev/null rw,nosuid - devtmpfs udev rw
67 63 0:52 /sys /proc/sys ro,nosuid - proc proc rw
68 63 0:6 /null /proc/keys ro,nosuid - devtmpfs udev rw
69 63 0:55 / /proc/acpi ro,nosuid - tmpfs tmpfs ro,mode=555
";

const STATUS: &str = "\
Name:\thello
Uid:\t0\t0\t0\t0
Gid:\t0\t0\t0\t0
Groups:\t0 5
CapInh:\t0000000000000000
CapPrm:\t00000000a80425fb
CapEff:\t00000000a80425fb
CapBnd:\t00000000a80425fb
CapAmb:\t0000000000000000
NoNewPrivs:\t0
Seccomp:\t2
Seccomp_filters:\t1
";

const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 127.0.0.1
           /32 host LOCAL
";

const KINDS: [&str; 8] = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"];

fn seen() -> Seen {
    let map = "         0          0          1\n         1          1      65536\n".to_owned();
    let inodes = (4_026_532_001..).zip(KINDS).map(|(inode, kind)| (kind.to_owned(), inode)).collect();
    Seen {
        namespaces: inodes,
        uid_map: map.clone(),
        gid_map: map,
        setgroups: "allow\n".to_owned(),
        status: STATUS.to_owned(),
        mountinfo: MOUNTINFO.to_owned(),
        cgroup: "3:cpu:/x\n0::/\n".to_owned(),
        cgroup_limits: vec![
            ("memory.max".to_owned(), "67108864".to_owned()),
            ("pids.max".to_owned(), "max".to_owned()),
        ],
        limits: "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024         4096         files\n"
            .to_owned(),
        time_offsets: "monotonic       86400         0\nboottime           0         0\n".to_owned(),
        hostname: "0123456789ab\n".to_owned(),
        kernel: "6.12.1\n".to_owned(),
        devices: "Inter-|\n face |\n    lo:       0\n".to_owned(),
        ipv4_addresses: TRIE.to_owned(),
        ipv4_routes: "Iface\tDestination\tGateway\n".to_owned(),
        ipv6_addresses: "00000000000000000000000000000001 01 80 10 80       lo\n".to_owned(),
        pid: 1,
        processes: 1,
    }
}

fn host() -> HostView {
    let extents =
        vec![Extent { inside: 0, outside: 1001, count: 1 }, Extent { inside: 1, outside: 100_000, count: 65_536 }];
    let facts = Facts {
        kernel: "6.12.1".to_owned(),
        hostname: "outside".to_owned(),
        cgroup: Cgroup {
            version: CgroupVersion::V2,
            path: Some("/user.slice/user-1001.slice".into()),
            directory: Some("/sys/fs/cgroup/user.slice/user-1001.slice".into()),
            controllers: vec!["memory".to_owned(), "pids".to_owned()],
            is_delegated: false,
            ..Cgroup::default()
        },
        runtime_directory: Some("/".into()),
        ..Facts::default()
    };
    // All but the network namespace are others outside.
    let outside = |(inode, kind): (u64, &str)| (kind.to_owned(), if kind == "net" { 4_026_532_006 } else { inode });
    HostView {
        version: 1,
        user: (1001, 1001),
        namespaces: (4_026_531_001..).zip(KINDS).map(outside).collect(),
        base_map: IdMap { uids: extents.clone(), gids: extents },
        layers: vec!["/home/u/.local/share/kelp/layers/b0/abc/root".into()],
        upper: "/home/u/.local/share/kelp/containers/0123/upper".into(),
        upper_file_system: "ext4".to_owned(),
        shortfalls: shortfalls(&facts),
        facts,
    }
}

fn plain(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string());
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn the_tour_of_a_fixed_container() {
    let text = plain(&text::lines(&report::make(&seen(), Ok(host()))));
    assert!(text.lines().all(|line| line == line.trim_end() && line.chars().count() <= 100));
    insta::assert_snapshot!(text);
}

#[test]
fn without_the_outside_it_shows_what_there_is() {
    let report = report::make(&seen(), Err(Failure::host("No such file or directory (ENOENT)")));
    assert!(!report.ids.is_host);
    assert_eq!(IdMap::lines(&report.ids.map.uids), "0 0 1\n1 1 65536\n");
    let text = plain(&text::lines(&report));
    assert!(text.contains("/run/kelp/host.json: No such file"), "{text}");
    assert!(!text.contains("could not give"), "{text}");
}

#[test]
fn nothing_to_read_is_no_reason_to_fail() {
    let report = report::make(&Seen::default(), Err(Failure::host("gone")));
    assert!(!text::lines(&report).is_empty());
}

proptest::proptest! {
    #[test]
    fn whatever_proc_says_it_does_not_panic(text in "[ -~\\t\\n]{0,300}") {
        let all = Seen {
            uid_map: text.clone(),
            status: text.clone(),
            mountinfo: text.clone(),
            limits: text.clone(),
            time_offsets: text.clone(),
            devices: text.clone(),
            ipv4_addresses: text.clone(),
            ipv6_addresses: text.clone(),
            ..seen()
        };
        super::text::lines(&report::make(&all, Ok(host())));
    }
}
