//! Each option's texts against the files that it becomes, and what is refused.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::sandbox::cgroup::limits::Disk;

/// `--name value` pairs, without the two hyphens.
fn typed(words: &[(&str, &str)]) -> Typed {
    let mut typed = Typed::default();
    for (name, value) in words {
        let value = (*value).to_owned();
        let one = match *name {
            "memory" => &mut typed.memory,
            "memory-reservation" => &mut typed.memory_reservation,
            "memory-swap" => &mut typed.memory_swap,
            "memory-high" => &mut typed.memory_high,
            "cpus" => &mut typed.cpus,
            "cpu-shares" => &mut typed.cpu_shares,
            "cpu-weight" => &mut typed.cpu_weight,
            "cpu-quota" => &mut typed.cpu_quota,
            "cpu-period" => &mut typed.cpu_period,
            "cpuset-cpus" => &mut typed.cpuset_cpus,
            "cpuset-mems" => &mut typed.cpuset_mems,
            "pids-limit" => &mut typed.pids_limit,
            "blkio-weight" => &mut typed.blkio_weight,
            "oom-score-adj" => &mut typed.oom_score_adj,
            "limits" => &mut typed.mode,
            _ => {
                let list = match *name {
                    "blkio-weight-device" => &mut typed.blkio_weight_devices,
                    "device-read-bps" => &mut typed.read_bps,
                    "device-write-bps" => &mut typed.write_bps,
                    "device-read-iops" => &mut typed.read_iops,
                    "device-write-iops" => &mut typed.write_iops,
                    "cgroup-conf" => &mut typed.conf,
                    _ => unreachable!("{name}"),
                };
                list.push(value);
                continue;
            }
        };
        *one = Some(value);
    }
    typed
}

/// /dev/sda and its other name are one disk.
fn disk(path: &Path) -> Result<Disk> {
    let minor = if path.ends_with("sdb") { 16 } else { 0 };
    Ok(Disk { major: 8, minor })
}

fn read(words: &[(&str, &str)]) -> Result<Resources> {
    let resources = parse(&typed(words))?;
    resources.check()?;
    Ok(resources)
}

/// The files, `FILE VALUE` each, that a new cgroup is given.
fn check(words: &[(&str, &str)], expected: &[&str]) {
    let files = read(words).unwrap().that_limit().limits(&disk).unwrap().files();
    let files: Vec<String> = files.into_iter().map(|(file, value)| format!("{file} {value}")).collect();
    assert_eq!(files, expected, "{words:?}");
}

fn refuse(words: &[(&str, &str)], expected: &str) {
    let said = read(words).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains(expected), "{words:?}: {said}");
}

#[test]
fn memory() {
    check(&[("memory", "64m")], &["memory.max 67108864", "memory.swap.max 67108864"]);
    check(&[("memory", "6m"), ("memory-swap", "6m")], &["memory.max 6291456", "memory.swap.max 0"]);
    check(&[("memory", "1g"), ("memory-swap", "1.5g")], &["memory.max 1073741824", "memory.swap.max 536870912"]);
    check(&[("memory", "7000000b"), ("memory-swap", "-1")], &["memory.max 7000000", "memory.swap.max max"]);
    check(&[("memory-reservation", "32m"), ("memory-high", "1k")], &["memory.low 33554432", "memory.high 1024"]);
    for unlimited in ["0", "-1", "max"] {
        check(&[("memory", unlimited), ("memory-swap", "-1"), ("memory-high", unlimited)], &[]);
    }
    refuse(&[("memory", "6291455")], "minimum memory limit allowed is 6MB");
    refuse(&[("memory-reservation", "1m")], "minimum memory reservation allowed is 6MB");
    refuse(&[("memory", "64m"), ("memory-swap", "63m")], "less than --memory");
    // Docker's 0 is as if nothing was said.
    check(&[("memory", "64m"), ("memory-swap", "0")], &["memory.max 67108864", "memory.swap.max 67108864"]);
    refuse(&[("memory", "18446744073709551615")], "more than the kernel can count");
    refuse(&[("memory", "8192p")], "more than the kernel can count");
    refuse(&[("memory-swap", "64m")], "needs --memory");
    refuse(&[("memory", "0"), ("memory-swap", "64m")], "needs --memory");
    refuse(&[("memory", "64m"), ("memory-reservation", "65m")], "less than --memory-reservation");
    refuse(&[("memory", "much")], "use --memory \"much\": \"much\" is not a size");
    refuse(&[("memory", "-2")], "is not a size");
}

#[test]
fn processors() {
    check(&[("cpus", "1.5")], &["cpu.max 150000 100000"]);
    check(&[("cpus", ".01")], &["cpu.max 1000 100000"]);
    check(&[("cpus", "0.000"), ("cpu-shares", "0"), ("cpu-quota", "-1"), ("cpuset-cpus", "")], &[]);
    check(&[("cpu-quota", "50000")], &["cpu.max 50000 100000"]);
    check(&[("cpu-quota", "1000"), ("cpu-period", "1000000")], &["cpu.max 1000 1000000"]);
    check(&[("cpu-period", "50000")], &["cpu.max max 50000"]);
    check(&[("cpu-shares", "1024")], &["cpu.weight 100"]);
    check(&[("cpu-shares", "2")], &["cpu.weight 1"]);
    check(&[("cpu-weight", "10000")], &["cpu.weight 10000"]);
    check(&[("cpuset-cpus", "0-1,3"), ("cpuset-mems", "0")], &["cpuset.cpus 0-1,3", "cpuset.mems 0"]);
    refuse(&[("cpus", "1"), ("cpu-quota", "50000")], "conflicting options: --cpus and --cpu-quota");
    refuse(&[("cpus", "1"), ("cpu-period", "50000")], "conflicting options: --cpus and --cpu-period");
    refuse(&[("cpu-shares", "2"), ("cpu-weight", "1")], "conflicting options: --cpu-shares and --cpu-weight");
    refuse(&[("cpus", "0.009")], "the least is 0.01");
    refuse(&[("cpus", "0.1234567891")], "value is too precise");
    refuse(&[("cpu-quota", "17592186044416")], "the most is 17592186044415");
    refuse(&[("cpu-quota", "999")], "can not be less than 1ms");
    refuse(&[("cpu-period", "999")], "can not be less than 1ms (i.e. 1000) or larger than 1s");
    refuse(&[("cpu-period", "1000001")], "larger than 1s");
    refuse(&[("cpu-shares", "262145")], "the range is from 1 to 262144");
    refuse(&[("cpu-weight", "0")], "the range is from 1 to 10000");
    for bad in ["", ".", "-1", "1.5.5", "1e3", "99999999999", "one"] {
        refuse(&[("cpus", bad)], "not a number of processors");
    }
    for bad in ["3-1", "a", "0-", ",", "0,,1", "0-3-4", "65536", "+1"] {
        refuse(&[("cpuset-cpus", bad)], "is not a list");
    }
}

#[test]
fn processes_and_the_killer() {
    check(&[("pids-limit", "100")], &["pids.max 100"]);
    check(&[("pids-limit", "-1")], &[]);
    check(&[("pids-limit", "0"), ("oom-score-adj", "500")], &[]);
    assert_eq!(read(&[("oom-score-adj", "-1000")]).unwrap().oom_score_adj, Some(-1000));
    refuse(&[("pids-limit", "4194305")], "no more than 4194304");
    refuse(&[("pids-limit", "-2")], "-1 is no limit");
    refuse(&[("pids-limit", "many")], "not a whole number");
    refuse(&[("oom-score-adj", "1001")], "range for oom score adj is [-1000, 1000]");
}

#[test]
fn disks() {
    check(&[("blkio-weight", "10")], &["io.weight default 1"]);
    check(&[("blkio-weight", "1000")], &["io.weight default 10000"]);
    check(&[("blkio-weight", "0")], &[]);
    check(&[("blkio-weight-device", "/dev/sdb:500")], &["io.weight 8:16 4950"]);
    let several = [
        ("device-read-bps", "/dev/sda:1mb"),
        ("device-write-bps", "/dev/disk/by-id/x:2k"),
        ("device-read-iops", "/dev/sdb:100"),
        ("device-write-iops", "/dev/sda:7"),
    ];
    check(&several, &["io.max 8:0 rbps=1048576 wbps=2048 wiops=7", "io.max 8:16 riops=100"]);
    check(&[("device-read-bps", "/dev/sda:0")], &[]);
    refuse(&[("blkio-weight", "9")], "the range is from 10 to 1000");
    refuse(&[("blkio-weight-device", "/dev/sda:1001")], "the range is from 10 to 1000");
    refuse(&[("device-read-bps", "/dev/sda")], "it must be DEVICE:VALUE");
    refuse(&[("device-read-bps", "sda:1m")], "bad format for device path");
    refuse(&[("device-read-iops", "/dev/sda:1m")], "not a whole number");
    refuse(&[("device-read-bps", "/dev/sda:1"), ("device-read-bps", "/dev/sda:2")], "two values for /dev/sda");
}

#[test]
fn files_by_name() {
    check(&[("cgroup-conf", "hugetlb.2MB.max=0")], &["hugetlb.2MB.max 0"]);
    check(&[("cgroup-conf", "memory.oom.group=1")], &["memory.oom.group 1"]);
    refuse(&[("cgroup-conf", "memory.high")], "FILE=VALUE");
    refuse(&[("cgroup-conf", "../memory.high=1")], "without a slash");
    refuse(&[("cgroup-conf", "cgroup.procs=1")], "kelp's own");
    refuse(&[("cgroup-conf", "x.y=1")], "none of the controllers");
    refuse(&[("cgroup-conf", "memory.high=")], "one line");
    refuse(&[("cgroup-conf", "memory.high=1\n2")], "one line");
    refuse(&[("cgroup-conf", "memory.high=1"), ("cgroup-conf", "memory.high=2")], "two things about memory.high");
    refuse(&[("cgroup-conf", "memory.max=1"), ("memory", "64m")], "--memory and --cgroup-conf memory.max");
}

#[test]
fn ways() {
    assert_eq!(read(&[("limits", "best-effort")]).unwrap().mode, Mode::BestEffort);
    assert_eq!(read(&[("limits", "strict")]).unwrap(), Resources::default());
    refuse(&[("limits", "best-efort")], "unknown way \"best-efort\"");
    assert!(read(&[("limits", "best-effort")]).unwrap().is_empty());
    assert!(!read(&[("cpus", "0")]).unwrap().is_empty());
}

#[test]
fn an_update_replaces_what_it_speaks_of() {
    let change = |before: &[(&str, &str)], update: &[(&str, &str)]| {
        let changed = read(before).unwrap().changed_by(&parse(&typed(update)).unwrap());
        changed.check().unwrap();
        let files = changed.limits(&disk).unwrap().files();
        files.into_iter().map(|(file, value)| format!("{file} {value}")).collect::<Vec<_>>()
    };
    let memory = [("memory", "64m")];
    assert_eq!(change(&memory, &[("memory", "32m")]), ["memory.max 33554432", "memory.swap.max 33554432"]);
    assert_eq!(change(&memory, &[("memory", "0")]), ["memory.max max", "memory.swap.max max"]);
    assert_eq!(change(&memory, &[("memory-swap", "64m")]), ["memory.max 67108864", "memory.swap.max 0"]);
    assert_eq!(change(&[("cpus", "1")], &[("cpu-quota", "5000")]), ["cpu.max 5000 100000"]);
    assert_eq!(change(&[("cpu-quota", "5000"), ("cpu-period", "9000")], &[("cpus", "2")]), ["cpu.max 200000 100000"]);
    assert_eq!(change(&[("cpu-quota", "5000")], &[("cpu-period", "9000")]), ["cpu.max 5000 9000"]);
    assert_eq!(change(&[("cpu-shares", "2")], &[("cpu-weight", "7")]), ["cpu.weight 7"]);
    assert_eq!(change(&[("cpu-weight", "7")], &[("cpu-shares", "0")]), ["cpu.weight 100"]);
    assert_eq!(change(&[("cpuset-cpus", "0")], &[("cpuset-cpus", "")]), ["cpuset.cpus "]);
    assert_eq!(change(&[("memory-reservation", "6m")], &[("memory-reservation", "0")]), ["memory.low 0"]);
    let rates = [("device-read-bps", "/dev/sda:1"), ("device-read-bps", "/dev/sdb:2")];
    assert_eq!(change(&rates, &[("device-read-bps", "/dev/sda:0")]), ["io.max 8:16 rbps=2", "io.max 8:0 rbps=max"]);
    let too_much = read(&[("memory", "64m"), ("memory-swap", "64m")]).unwrap();
    let update = parse(&typed(&[("memory", "128m")])).unwrap();
    assert!(too_much.changed_by(&update).check().is_err());
}

#[test]
fn documents_are_read_back() {
    let all =
        read(&[("memory", "64m"), ("pids-limit", "-1"), ("cpus", "1"), ("device-read-bps", "/dev/sda:1")]).unwrap();
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Resources>(&text).unwrap(), all);
    assert_eq!(serde_json::from_str::<Resources>("{}").unwrap(), Resources::default());
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,24}") {
        for name in ["memory", "memory-swap", "cpus", "cpu-shares", "cpu-quota", "cpu-period", "cpuset-cpus"] {
            drop(read(&[(name, &text)]));
        }
        for name in ["pids-limit", "oom-score-adj", "blkio-weight", "limits"] {
            drop(read(&[(name, &text)]));
        }
        for name in ["device-read-bps", "device-read-iops", "blkio-weight-device", "cgroup-conf"] {
            drop(read(&[(name, &text)]));
            drop(read(&[(name, &format!("/dev/a:{text}"))]));
            drop(read(&[(name, &format!("memory.high={text}"))]));
        }
    }
}
