//! What containers use: top, stats, port; what all takes: system df, info.

use serde_json::Value;

use super::harness::{Home, eventually, image};

fn documents(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// One container's numbers.
fn stats(home: &Home, name: &str) -> Value {
    documents(&home.kelp(&["stats", "--no-stream", "--format", "json", name]).succeed()).remove(0)
}

/// Cells of the lines of a table below its headings.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn a_processor_that_is_used_shows() {
    let home = Home::new();
    let _burner = home.start(&["--name", "burner"], &["echo", "up", "+", "burn"]);
    let _idler = home.start(&["--name", "idler"], &["echo", "up", "+", "forever"]);
    let (burner, idler) = (stats(&home, "burner"), stats(&home, "idler"));
    // How much it gets depends on who else is here; the idler wants nothing.
    assert!(burner["cpu_percent"].as_f64().unwrap() > 1.0, "{burner}");
    assert!(idler["cpu_percent"].as_f64().unwrap() < burner["cpu_percent"].as_f64().unwrap(), "{idler}");
    assert_eq!((burner["pids"].as_u64(), burner["state"].as_str()), (Some(1), Some("running")));
    let table = home.kelp(&["stats", "--no-stream"]).succeed();
    assert!(table.starts_with("CONTAINER ID   NAME"), "{table}");
    assert_eq!(rows(&table).len(), 2);
    assert_eq!(
        home.kelp(&["stats", "--no-stream", "--format", "{{.Name}} {{.NetIO}}", "idler"]).succeed(),
        "idler 0B / 0B\n"
    );
    home.kelp(&["stats", "--no-stream", "nobody"]).refuse(1, &["nobody"]);
}

#[test]
fn memory_that_is_used_shows() {
    let home = Home::new();
    let _running = home.start(&["--name", "large"], &["allocate", "64"]);
    let large = stats(&home, "large");
    let bytes = large["memory_bytes"].as_u64().unwrap();
    assert!((64 << 20..80 << 20).contains(&bytes), "{large}");
    assert!(large["memory_limit_bytes"].as_u64().unwrap() > bytes, "{large}");
}

#[test]
fn who_uses_most_comes_first() {
    let home = Home::new();
    let _large = home.start(&["--name", "large"], &["allocate", "32"]);
    let _small = home.start(&["--name", "small"], &["echo", "up", "+", "forever"]);
    let names =
        |options: &[&str]| home.kelp(&[&["stats", "--no-stream", "--format", "{{.Name}}"], options].concat()).succeed();
    assert_eq!(names(&[]), "small\nlarge\n");
    assert_eq!(names(&["--sort", "memory"]), "large\nsmall\n");
    assert_eq!(names(&["--sort", "name", "small", "large"]), "large\nsmall\n");
    home.kelp(&["stats", "--sort", "colour"]).refuse(125, &["colour", "memory"]);
}

#[test]
fn templates_have_podmans_fields_and_more() {
    let home = Home::new();
    let _large = home.start(&["--name", "large"], &["allocate", "32"]);
    let id = home.kelp(&["ps", "-q", "--no-trunc"]).succeed();
    let format = "{{.ContainerID}} {{.MemLimit}} {{.CPUNano}} {{.UpTime}} {{.AVGCPU}} {{.Throttled}} {{.CPUPressure}}";
    let line = home.kelp(&["stats", "--no-stream", "--format", format]).succeed();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words.len(), words[0]), (7, id.trim_end()), "{line}");
    assert!(words[1].parse::<u64>().is_ok() && words[2].parse::<u64>().is_ok(), "{line}");
    assert!(words[3].ends_with('s') && words[4].ends_with('%'), "{line}");
    // What nobody knows is neither nothing nor left out.
    assert!(words[5..].iter().all(|word| *word == "--" || word.ends_with('%')), "{line}");
    let table =
        home.kelp(&["stats", "--no-stream", "--format", "table {{.Name}}\t{{.MemPeak}}\t{{.OOMKills}}"]).succeed();
    assert!(table.starts_with("NAME    MEM PEAK   OOM KILLS\nlarge"), "{table}");
    let large = stats(&home, "large");
    for key in ["memory_peak_bytes", "cpu_throttled_ns", "memory_pressure", "pids_limit", "oom_kills", "up_ns"] {
        assert!(large.get(key).is_some(), "{key} is not in {large}");
    }
}

#[test]
fn it_is_told_to_prometheus() {
    let home = Home::new();
    home.run_kept(&["--name", "ended"], &["exit", "0"]).succeed();
    let _web = home.start(&["--name", "web"], &["children", "3"]);
    let _db = home.start(&["--name", "db"], &["echo", "up", "+", "forever"]);
    let text = home.kelp(&["stats", "--format", "openmetrics"]).succeed();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let sample = |name: &str, container: &str| -> f64 {
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{id=\"")));
        let line = lines.find(|line| line.contains(&format!("\",name=\"{container}\",image=\"")));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_else(|| panic!("{name} is not in {text}"))
            .parse()
            .unwrap()
    };
    assert_eq!((sample("container_threads", "web"), sample("container_threads", "db")), (4.0, 1.0));
    assert_eq!(sample("container_running", "web"), 1.0);
    assert!(sample("container_cpu_usage_seconds_total", "web") >= 0.0);
    assert!(sample("container_memory_working_set_bytes", "web") > 4096.0);
    assert!(sample("container_spec_memory_limit_bytes", "web") > sample("container_memory_working_set_bytes", "web"));
    assert!(sample("container_start_time_seconds", "web") > 1.6e9);
    // A family is told of once, in one piece; every line is one of three kinds.
    let mut families = std::collections::BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        match line.strip_prefix("# ").map(|rest| rest.split(' ').collect::<Vec<_>>()).as_deref() {
            Some(["TYPE", name, "counter" | "gauge"]) => {
                assert!(families.insert((*name).to_owned()), "{name} in {text}");
                (*name).clone_into(&mut family);
            }
            Some(["UNIT", name, unit]) => assert!(*name == family && name.ends_with(unit), "{line}"),
            Some(["HELP", name, ..]) => assert_eq!(*name, family),
            Some(words) => assert_eq!(words, ["EOF"]),
            None => assert!(line.starts_with(&family) && line.contains("\"} "), "{line}"),
        }
    }
    assert!(!text.contains("\"ended\""), "{text}");
    let all = home.kelp(&["stats", "-a", "--format", "openmetrics"]).succeed();
    let ended: Vec<&str> = all.lines().filter(|line| line.contains("name=\"ended\"")).collect();
    assert!(matches!(ended[..], [line] if line.starts_with("container_running{") && line.ends_with(" 0")), "{all}");
    assert_eq!(home.kelp(&["stats", "--format", "openmetrics", "ended"]).succeed().lines().count(), 4);
}

#[test]
fn what_one_took_is_known_when_it_has_ended() {
    let home = Home::new();
    let _running = home.start(&["--name", "large"], &["allocate", "32"]);
    let state = || documents(&home.kelp(&["inspect", "large"]).succeed())[0]["State"].take();
    home.kelp(&["kill", "large"]).succeed();
    home.kelp(&["wait", "large"]).succeed();
    let ended = state();
    let number = |key: &str| ended["Resources"][key].as_u64();
    assert!(number("LargestProcessBytes") >= Some(32 << 20), "{ended}");
    assert!(number("CPUNanoseconds") >= number("CPUUserNanoseconds") && number("CPUUserNanoseconds").is_some());
    // Somebody else killed it.
    assert_eq!((&ended["OOMKilled"], &ended["OOMReason"]), (&false.into(), &"".into()));
    home.kelp(&["start", "large"]).succeed();
    assert_eq!(state()["Resources"]["LargestProcessBytes"], Value::Null);
    home.kelp(&["kill", "large"]).succeed();
    home.kelp(&["wait", "large"]).succeed();
}

#[test]
fn all_processes_of_a_container_are_its_own() {
    let home = Home::new();
    let _many = home.start(&["--name", "many"], &["children", "50"]);
    let _other = home.start(&["--name", "other", "--pid", "host"], &["stray", "+", "forever"]);
    assert_eq!(stats(&home, "many")["pids"], 51);
    let table = home.kelp(&["top", "many"]).succeed();
    assert!(table.starts_with("UID    PID"), "{table}");
    let rows = rows(&table);
    assert_eq!(rows.len(), 51);
    // Pids are the host's, users the container's.
    let first: Vec<&str> =
        rows.iter().filter(|row| row.ends_with(&["/probe", "children", "50"])).map(|row| row[1]).collect();
    assert_eq!(rows.iter().filter(|row| row[2] == first[0]).count(), 50);
    assert!(rows.iter().all(|row| row[0] == "root" && std::path::Path::new("/proc").join(row[1]).exists()));
    // podman's are the container's.
    let inside = home.kelp(&["top", "many", "pid", "ppid", "args"]).succeed();
    assert!(inside.lines().any(|line| line.split_whitespace().eq(["1", "0", "/probe", "children", "50"])), "{inside}");
    assert_eq!(inside.lines().filter(|line| line.split_whitespace().nth(1) == Some("1")).count(), 50);
    // Without a pid namespace, orphans are the supervisor's.
    let lines = || home.kelp(&["top", "other", "-o", "ppid,args"]).succeed();
    let supervisor = home.supervisor("other").to_string();
    assert_eq!(lines().lines().filter(|line| line.starts_with(&format!("{supervisor} "))).count(), 2, "{}", lines());
    assert_eq!(stats(&home, "other")["pids"], 2);
}

#[test]
fn names_cannot_forge_lines() {
    let home = Home::new();
    let _running =
        home.start(&["--name", "liar"], &["rename", "a\\nroot 1\\e[2J", "+", "echo", "\u{1b}", "+", "forever"]);
    for options in [&["-o", "comm"][..], &["-ef"], &["-o", "args,comm"]] {
        let shown = home.kelp(&[&["top", "liar"], options].concat()).succeed();
        assert_eq!(shown.lines().count(), 2, "{shown:?}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
    assert!(home.kelp(&["top", "liar", "-o", "comm"]).succeed().contains("a?root 1?[2J"));
}

#[test]
fn what_cannot_be_is_refused() {
    let home = Home::new();
    home.run_kept(&["--name", "ended"], &["exit", "0"]).succeed();
    home.kelp(&["top", "ended"]).refuse(1, &["container \"ended\"", "not running"]);
    home.kelp(&["top", "ended", "-L"]).refuse(125, &["-L"]);
    home.kelp(&["top", "nobody"]).refuse(1, &["nobody"]);
    assert_eq!(home.kelp(&["port", "ended"]).succeed(), "");
    home.kelp(&["port", "ended", "80"]).refuse(1, &["no public port '80/tcp' published for ended"]);
    home.kelp(&["port", "ended", "http"]).refuse(125, &["http"]);
    assert_eq!(home.kelp(&["stats", "--no-stream"]).succeed().lines().count(), 1);
    let all = home.kelp(&["stats", "--no-stream", "-a"]).succeed();
    assert!(all.contains("ended   0.00%   0B / 0B"), "{all}");
}

#[test]
fn a_stream_ends_with_what_it_shows() {
    let home = Home::new();
    home.run_kept(&["--name", "ended"], &["exit", "0"]).succeed();
    let mut stream = home.kelp(&["stats", "--format", "{{.Name}}", "ended"]).start();
    assert_eq!((stream.line(), stream.line()), ("ended".to_owned(), "ended".to_owned()));
    home.kelp(&["rm", "ended"]).succeed();
    assert_eq!(stream.wait().code, 0);
}

#[test]
fn what_all_takes_is_counted() {
    let home = Home::new();
    let df = |home: &Home| documents(&home.kelp(&["system", "df", "--format", "json"]).succeed());
    assert!(df(&home).iter().all(|row| row["bytes"] == 0 && row["count"] == 0));
    home.run_kept(
        &["--name", "writer", "--log-driver", "none", "-v", "store:/data"],
        &[
            "fill",
            "/tmp/one",
            "100000",
            "+",
            "hard-link",
            "/tmp/one",
            "/tmp/two",
            "+",
            "mkdir",
            "/tmp/closed",
            "+",
            "fill",
            "/tmp/closed/x",
            "50000",
            "+",
            "chmod",
            "/tmp/closed",
            "0",
            "+",
            "fill",
            "/data/x",
            "70000",
        ],
    )
    .succeed();
    home.kelp(&["volume", "create", "empty"]).succeed();
    let rows = df(&home);
    let of = |rows: &[Value], kind: &str| rows.iter().find(|row| row["kind"] == kind).unwrap().clone();
    let containers = of(&rows, "Containers");
    assert_eq!(
        (&containers["count"], &containers["active"], &containers["bytes"]),
        (&1.into(), &0.into(), &150_000.into())
    );
    assert_eq!(containers["reclaimable_bytes"], 150_000);
    let volumes = of(&rows, "Local Volumes");
    assert_eq!((&volumes["count"], &volumes["active"], &volumes["bytes"]), (&2.into(), &1.into(), &70_000.into()));
    assert_eq!(volumes["reclaimable_bytes"], 0);
    let table = home.kelp(&["system", "df"]).succeed();
    assert!(table.contains("Containers      1       0        150kB   150kB (100%)"), "{table}");
    let all = home.kelp(&["system", "df", "-v"]).succeed();
    assert!(all.contains("Local Volumes space usage:") && all.contains("70kB") && all.contains("writer"), "{all}");
    let _live = home.start(&["--name", "live"], &["echo", "up", "+", "forever"]);
    let containers = of(&df(&home), "Containers");
    // It said something, which is kept.
    assert_eq!((&containers["active"], &containers["reclaimable_bytes"]), (&1.into(), &150_000.into()));
    assert!(containers["bytes"].as_u64().unwrap() > 150_000, "{containers}");
}

#[test]
fn the_host_is_described() {
    let home = Home::new();
    home.run_kept(&["--name", "ended"], &["exit", "0"]).succeed();
    let live = home.start(&["--name", "live"], &["echo", "up", "+", "signals"]);
    home.kelp(&["pause", "live"]).succeed();
    let format = "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}} {{.Images}}";
    assert_eq!(home.kelp(&["info", "--format", format]).succeed(), "2 0 1 1 0\n");
    home.kelp(&["unpause", "live"]).succeed();
    let info: Value = serde_json::from_str(&home.kelp(&["system", "info", "--format", "json"]).succeed()).unwrap();
    assert_eq!(info["ContainersRunning"], 1);
    assert_eq!(info["DockerRootDir"], home.data().to_str().unwrap());
    assert!(info["SecurityOptions"].as_array().unwrap().contains(&"name=rootless".into()), "{info}");
    assert!(info["IdMap"]["uids"].as_array().is_some_and(|uids| !uids.is_empty()), "{info}");
    let text = home.kelp(&["info"]).succeed();
    for line in ["Containers: 2", " Running: 1", "OSType: linux", "Security Options:", "Runtime Directory: "] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is not in {text}");
    }
    live.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(eventually(|| home.containers().iter().all(|container| container["state"] == "exited")));
}

#[test]
fn all_that_nobody_needs_goes_at_once() {
    let home = Home::new();
    home.run_kept(
        &["--name", "ended", "--label", "old", "-v", "/data"],
        &["fill", "/tmp/x", "100000", "+", "fill", "/data/x", "5"],
    )
    .succeed();
    home.run_kept(&["--name", "kept", "-v", "named:/data"], &["exit", "0"]).succeed();
    let live = home.start(&["--name", "live"], &["echo", "up", "+", "signals"]);
    for name in ["unused", "named"] {
        home.kelp(&["import", "-m", name, "-", name]).input(image::base_layer()).succeed();
    }
    home.kelp(&["untag", "unused"]).succeed();
    // Nobody can be asked here.
    home.kelp(&["system", "prune"]).refuse(125, &["--force"]);
    home.kelp(&["system", "prune", "--volumes", "--filter", "until=1h"]).refuse(125, &["\"until\"", "--volumes"]);
    let said = home.kelp(&["system", "prune", "-f", "--filter", "label=old"]).succeed();
    assert!(said.starts_with("Deleted Containers:\n") && said.ends_with("Total reclaimed space: 100kB\n"), "{said}");
    assert!(!said.contains("Deleted Images") && !said.contains("Deleted Volumes"), "{said}");
    let names = || {
        let mut names: Vec<String> =
            home.containers().iter().map(|container| container["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(), "kept live");
    let said = home.kelp(&["system", "prune", "-f", "--volumes"]).succeed();
    for heading in
        ["Deleted Containers:\n", "Deleted Volumes:\n", "Deleted Images:\ndeleted: sha256:", "Total reclaimed space: "]
    {
        assert!(said.contains(heading), "{said}");
    }
    assert_eq!(names(), "live");
    assert_eq!(home.kelp(&["volume", "ls", "-q"]).succeed(), "named\n");
    assert_eq!(home.kelp(&["images", "--format", "{{.Repository}}"]).succeed(), "localhost/named\n");
    let said = home.kelp(&["system", "prune", "-af"]).succeed();
    assert!(said.contains("untagged: localhost/named:latest\ndeleted: sha256:"), "{said}");
    assert_eq!(home.kelp(&["images", "-q"]).succeed(), "");
    live.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(eventually(|| home.containers().iter().all(|container| container["state"] == "exited")));
}
