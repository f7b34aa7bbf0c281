//! What containers may use: refusals, what is kept of them, and what holds
//! without a cgroup. Whether cgroups hold theirs is tried in a guest of its own
//! (tests/vm), since a host may have no controllers for users.

use serde_json::Value;

use super::harness::{Home, eventually};

/// Holds no limit but what this very machine is asked for in any case.
const BEST: &str = "--limits=best-effort";

/// Without a cgroup, whatever the host has.
fn without_cgroup() -> Vec<&'static str> {
    vec!["--cgroups=disabled", BEST]
}

fn best<'a>(options: &[&'a str]) -> Vec<&'a str> {
    without_cgroup().into_iter().chain(options.iter().copied()).collect()
}

fn inspect(home: &Home, name: &str) -> Value {
    let text = home.kelp(&["inspect", name]).succeed();
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

#[test]
fn what_makes_no_sense_is_refused() {
    let home = Home::new();
    for (options, words) in [
        (&["-m", "5m"][..], "minimum memory limit allowed is 6MB"),
        (&["-m", "64m", "--memory-swap", "63m"], "less than --memory"),
        (&["--memory-swap", "63m"], "needs --memory"),
        (&["--cpus", "1", "--cpu-quota", "5000"], "--cpus and --cpu-quota cannot both be set"),
        (&["--cpus", "100000"], "range of CPUs is from 0.01 to"),
        (&["--cpuset-cpus", "9999"], "requested 9999, available: "),
        (&["--cpuset-cpus", "x"], "is not a list"),
        (&["--blkio-weight", "5"], "the range is from 10 to 1000"),
        (&["--device-read-bps", "/dev/null:1m"], "no block device"),
        (&["--pids-limit", "-5"], "-1 is no limit"),
        (&["--cgroup-conf", "cgroup.procs=1"], "kelp's own"),
        (&["--cgroup-conf", "../x=1"], "without a slash"),
        (&["--limits", "none"], "unknown way"),
        (&["--oom-score-adj", "1001"], "[-1000, 1000]"),
    ] {
        home.run(options, &["exit", "0"]).refuse(125, &[words]);
    }
    for option in ["--memory-swappiness=1", "--oom-kill-disable", "--kernel-memory=1m", "--cpu-rt-period=1"] {
        let name = option.split('=').next().unwrap();
        home.run(&[option], &["exit", "0"]).refuse(125, &[&format!("has no {name}: cgroup v2")]);
    }
    home.kelp(&["update", "--oom-score-adj=1", "x"]).refuse(125, &["has no --oom-score-adj"]);
    assert_eq!(home.entries("containers"), [""; 0]);
}

#[test]
fn without_a_cgroup_a_limit_is_refused_and_no_limit_is_not() {
    let home = Home::new();
    for (option, flag) in [
        ("--memory=64m", "--memory"),
        ("--cpus=0.5", "--cpus"),
        ("--cpu-shares=2", "--cpu"),
        ("--pids-limit=5", "--pids-limit"),
        ("--cpuset-cpus=0", "--cpuset-cpus"),
        ("--blkio-weight=10", "--blkio-weight"),
        ("--cgroup-conf=memory.high=1000000", "--cgroup-conf"),
    ] {
        home.run(&["--cgroups=disabled", option], &["exit", "0"]).refuse(125, &[flag]);
    }
    let none = ["--cgroups=disabled", "-m0", "--cpus=0", "--pids-limit=-1", "--cpu-shares=0", "--cpuset-cpus="];
    assert_eq!(home.run(&none, &["exit", "7"]).code(), 7);
}

#[test]
fn best_effort_says_what_holds() {
    let home = Home::new();
    let options = best(&["--name=first", "-m=64m", "--cpus=0.5", "--cpuset-cpus=0", "--pids-limit=50"]);
    let output = home.run_kept(&options, &["exit", "0"]).output();
    assert_eq!(output.code, 0);
    for line in [
        "notice: --cpus 50000 100000 is not held: it needs a cgroup with cpu.max",
        "notice: --cpuset-cpus 0 is held without a cgroup",
        "notice: --memory 67108864 is held without a cgroup",
        "notice: --pids-limit 50 is held without a cgroup",
    ] {
        assert!(output.stderr.contains(line), "{}", output.stderr);
    }
    let document = inspect(&home, "first");
    let host = &document["HostConfig"];
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&Value::from(64 << 20), &Value::from(128 << 20)));
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&Value::from(500_000_000), &Value::from(50)));
    assert_eq!(host["CpusetCpus"], "0");
    let limits: Vec<(&str, Option<&str>)> = document["Limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| (limit["Limit"].as_str().unwrap(), limit["Effective"].as_str()))
        .collect();
    let memory = (64 << 20).to_string();
    assert_eq!(
        limits,
        [("--cpus", None), ("--cpuset-cpus", Some("0")), ("--memory", Some(&*memory)), ("--pids-limit", Some("50"))]
    );
}

#[test]
fn too_much_memory_ends_it() {
    let home = Home::new();
    let output = home.run_kept(&best(&["--name=large", "-m=32m"]), &["allocate", "128"]).output();
    assert_eq!(output.code, 137);
    assert!(output.stderr.contains("kelp killed it: out of memory at its limit of 32 MiB"), "{}", output.stderr);
    assert_eq!(inspect(&home, "large")["State"]["OOMKilled"], true);
    // The same below its limit goes on until it is stopped.
    let _small = home.start(&best(&["--name=small", "-m=256m"]), &["allocate", "32"]);
    assert_eq!(inspect(&home, "small")["State"]["OOMKilled"], false);
}

#[test]
fn processes_are_counted_in_the_container_alone() {
    let home = Home::new();
    // Many of the same user elsewhere do not count.
    let _many = home.start(&["--name=many"], &["children", "40"]);
    let _few = home.start(&best(&["--name=few", "--pids-limit=20"]), &["children", "15"]);
    // With its children, one more than there may be; what it had by then ends with it.
    assert_ne!(home.run(&best(&["--pids-limit=15"]), &["children", "15"]).code(), 0);
    assert_eq!(home.kelp(&["exec", "few", "/probe", "exit", "3"]).code(), 3);
}

#[test]
fn the_killers_score_is_its_programs_own() {
    let home = Home::new();
    let options = ["--name=score", "--oom-score-adj=500"];
    let _running = home.start(&options, &["echo", "up", "+", "forever"]);
    let score = |pid: i64| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let pid = inspect(&home, "score")["State"]["Pid"].as_i64().unwrap();
    assert_eq!(score(pid), "500\n");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    assert_eq!(score(parent), score(std::process::id().into()));
    home.run(&["--oom-score-adj=-1000"], &["exit", "0"]).refuse(125, &["oom_score_adj", "can only raise it"]);
}

#[test]
fn an_update_is_held_at_once() {
    let home = Home::new();
    let running = home.start(&best(&["--name=live", "--cpuset-cpus=0"]), &["allocate", "64"]);
    let update = |options: &[&str]| home.kelp(&[&["update"], options, &["live"]].concat()).output();
    let allowed = || {
        let pid = inspect(&home, "live")["State"]["Pid"].as_i64().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
    };
    assert_eq!(allowed(), "0");
    assert_eq!(update(&["--cpuset-cpus="]).code, 0);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert_eq!(allowed(), online.trim());
    assert_eq!(inspect(&home, "live")["Limits"], Value::Array(Vec::new()));
    // Nothing of what cannot be done as a whole.
    let output = update(&["--cpuset-cpus=0", "--pids-limit=5"]);
    assert!(
        output.code == 1 && output.stderr.contains("--pids-limit cannot change while it runs"),
        "{}",
        output.stderr
    );
    assert_eq!(inspect(&home, "live")["HostConfig"]["CpusetCpus"], "");
    assert_eq!(update(&["-m=16m"]).code, 0);
    assert!(eventually(|| inspect(&home, "live")["State"]["OOMKilled"] == true));
    drop(running);
}

#[test]
fn an_update_of_what_does_not_run_counts_from_the_next_start() {
    let home = Home::new();
    home.run_kept(&best(&["--name=later"]), &["exit", "0"]).succeed();
    home.kelp(&["update", "-m=64m", "--pids-limit=9", "later"]).succeed();
    let document = inspect(&home, "later");
    assert_eq!(document["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(document["Limits"].as_array().unwrap().len(), 2);
    let output = home.kelp(&["start", "-a", "later"]).output();
    assert!(output.code == 0 && output.stderr.contains("--pids-limit 9 is held"), "{}", output.stderr);
    home.kelp(&["update", "-m=1m", "later"]).refuse(1, &["minimum memory"]);
    home.kelp(&["update", "-m=32m", "--memory-swap=16m", "later"]).refuse(1, &["less than --memory"]);
    home.kelp(&["update", "later"]).refuse(125, &["nothing to change"]);
    assert_eq!(inspect(&home, "later")["HostConfig"]["Memory"], 64 << 20);
}

#[test]
fn a_container_without_a_cgroup_gets_no_limit_while_it_runs() {
    let home = Home::new();
    let _running = home.start(&["--name=strict", "--cgroups=disabled"], &["echo", "up", "+", "forever"]);
    let refused = ["--memory cannot hold", "without a cgroup of its own", "stop it, update it, start it"];
    home.kelp(&["update", "-m=64m", "--restart=always", "strict"]).refuse(1, &refused);
    assert_eq!(inspect(&home, "strict")["HostConfig"]["RestartPolicy"]["Name"], "no");
    // No limit where there is none is nothing to do.
    home.kelp(&["update", "-m=0", "strict"]).succeed();
}
