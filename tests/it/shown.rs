//! What is shown of containers: ps, inspect, events; and what chooses among
//! them: filters of ps, start and prune.

use serde_json::{Value, json};

use super::harness::image::{Entry, layer, write_layout_of};
use super::harness::{Call, Home, eventually, probe_binary};

/// `kelp create OPTIONS --rootfs ROOTFS /probe WORDS`.
fn create(home: &Home, options: &[&str], words: &[&str]) -> String {
    let rootfs = home.rootfs();
    let mut call = home.kelp(&["create"]);
    call.args(options).args(&["--rootfs", rootfs.to_str().unwrap(), "/probe"]).args(words);
    call.succeed().trim().to_owned()
}

/// The same, running by itself.
fn detached(home: &Home, options: &[&str], words: &[&str]) -> String {
    home.run_kept(&[&["-d"], options].concat(), words).succeed().trim().to_owned()
}

fn load(home: &Home, name: &str, layers: &[Vec<u8>], config: Value) {
    let layout = home.make_dir(&format!("layout-{name}"));
    write_layout_of(&layout, name, layers, &json!({ "config": config }));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
}

fn names(home: &Home, arguments: &[&str]) -> Vec<String> {
    let mut call = home.kelp(&["ps", "--format", "{{.Names}}"]);
    call.args(arguments).succeed().lines().map(str::to_owned).collect()
}

fn inspected(home: &Home, arguments: &[&str]) -> Value {
    let said = home.kelp(&[&["inspect"], arguments].concat()).succeed();
    serde_json::from_str::<Vec<Value>>(&said).unwrap().remove(0)
}

/// The actions of events up to now, with these options.
fn events(home: &Home, options: &[&str]) -> Vec<String> {
    let mut call = home.kelp(&["events", "--until", "0s", "--format", "{{.Action}}"]);
    call.args(options).succeed().lines().map(str::to_owned).collect()
}

#[test]
fn ps_has_dockers_columns_filters_and_fields() {
    let home = Home::new();
    home.run_kept(&["--name", "ended", "-l", "role=job", "--restart", "on-failure:1"], &["exit", "0"]).succeed();
    let network = ["--network", "none"];
    create(
        &home,
        &[&["--name", "made", "-v", "data:/srv", "-v", "/etc:/conf:ro"], &network[..]].concat(),
        &["exit", "0"],
    );
    detached(&home, &["--name", "runs", "-l", "role=web", "--network", "host", "--restart", "always"], &["forever"]);
    let table = home.kelp(&["ps"]).succeed();
    let heading: Vec<&str> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(heading, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(table.lines().count() == 2 && table.contains("Up ") && table.ends_with("runs\n"), "{table}");
    for (arguments, expected) in [
        (&[][..], &["runs"][..]),
        (&["-a"], &["runs", "made", "ended"]),
        (&["-l"], &["runs"]),
        (&["-n", "2"], &["runs", "made"]),
        (&["-a", "-f", "name=^e"], &["ended"]),
        (&["-f", "status=exited"], &["ended"]),
        (&["-f", "status=created", "-f", "status=running"], &["runs", "made"]),
        (&["-f", "exited=0"], &["ended"]),
        (&["-a", "-f", "label=role"], &["runs", "ended"]),
        (&["-a", "-f", "label=role=job"], &["ended"]),
        (&["-a", "-f", "before=made"], &["ended"]),
        (&["-a", "-f", "since=ended", "-f", "before=runs"], &["made"]),
        (&["-a", "-f", "volume=data"], &["made"]),
        (&["-a", "-f", "volume=/conf"], &["made"]),
        (&["-a", "-f", "restart-policy=always"], &["runs"]),
        (&["-a", "-f", "until=1h"], &[]),
    ] {
        assert_eq!(names(&home, arguments), expected, "{arguments:?}");
    }
    home.kelp(&["ps", "-f", "before=nobody"]).refuse(1, &["no container \"nobody\""]);
    home.kelp(&["ps", "-f", "network=x"]).refuse(125, &["not supported"]);
    let said = home.kelp(&[
        "ps",
        "-a",
        "-f",
        "name=made",
        "--format",
        "{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.State}}",
    ]);
    let mut said = said;
    assert_eq!(said.succeed(), "data,/etc|1|none|created\n");
    let said = home.kelp(&["ps", "--format", "table {{.Names}}\\t{{.Label \"role\"}}\\t{{.Label \"none\"}}"]).succeed();
    assert_eq!(said, "NAMES   role   none\nruns    web\n");
    let row: Value = serde_json::from_str(&home.kelp(&["ps", "--format", "{{json .}}"]).succeed()).unwrap();
    assert_eq!((&row["Names"], &row["Ports"], row.get("Label")), (&json!("runs"), &json!(""), None));
    home.kelp(&["rm", "-f", "runs"]).succeed();
}

#[test]
fn sizes_count_what_a_container_changed() {
    let home = Home::new();
    let probe = std::fs::read(probe_binary()).unwrap();
    load(&home, "box", &[layer(&[Entry::File("probe", 0o755, 0, &probe)])], json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["run", "--name", "one", "box", "fill", "/new", "5000"]).succeed();
    let whole = probe.len() + 5000;
    let row: Value = serde_json::from_str(&home.kelp(&["ps", "-as", "--format", "json"]).succeed()).unwrap();
    assert_eq!((&row[0]["size"], &row[0]["virtual_size"]), (&json!(5000), &json!(whole)));
    let table = home.kelp(&["ps", "-as"]).succeed();
    assert!(table.contains("SIZE") && table.contains("5kB (virtual "), "{table}");
    let document = inspected(&home, &["--size", "one"]);
    assert_eq!((&document["SizeRw"], &document["SizeRootFs"]), (&json!(5000), &json!(whole)));
    // It is told as well when the image's name is gone.
    home.kelp(&["rmi", "-f", "box"]).succeed();
    assert_eq!(home.kelp(&["ps", "-a", "--format", "{{.Size}}"]).succeed(), "0B\n");
    let row: Value = serde_json::from_str(&home.kelp(&["ps", "-as", "--format", "json"]).succeed()).unwrap();
    assert_eq!(row[0]["virtual_size"], json!(whole));
}

#[test]
fn ancestors_are_images_and_what_they_are_built_on() {
    let home = Home::new();
    let base = layer(&[Entry::File("probe", 0o755, 0, &std::fs::read(probe_binary()).unwrap())]);
    let more = layer(&[Entry::File("more", 0o644, 0, b"x")]);
    load(&home, "base", std::slice::from_ref(&base), json!({"Labels": {"of": "image"}}));
    load(&home, "derived", &[base, more], json!({}));
    home.kelp(&["create", "--name", "one", "base", "/probe"]).succeed();
    home.kelp(&["create", "--name", "two", "derived", "/probe"]).succeed();
    assert_eq!(names(&home, &["-a", "-f", "ancestor=base"]), ["two", "one"]);
    assert_eq!(names(&home, &["-a", "-f", "ancestor=derived:latest"]), ["two"]);
    let id = inspected(&home, &["--type", "image", "derived"])["Id"].as_str().unwrap().to_owned();
    assert_eq!(names(&home, &["-a", "-f", &format!("ancestor={}", &id[7..19])]), ["two"]);
    assert_eq!(names(&home, &["-a", "-f", "ancestor=nobody"]), [""; 0]);
    // Labels of the image count, as with docker.
    assert_eq!(names(&home, &["-a", "-f", "label=of=image"]), ["one"]);
}

#[test]
fn inspect_tells_what_was_asked_for_and_what_is() {
    let home = Home::new();
    let options = [
        "--name",
        "one",
        "--hostname",
        "box",
        "-v",
        "data:/srv",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=99:100",
        "--restart",
        "on-failure:3",
        "--stop-timeout",
        "7",
        "-l",
        "a=b",
        "--tmpfs",
        "/tmp",
        "-e",
        "A=b",
        "--network",
        "none",
    ];
    let id = detached(&home, &options, &["forever"]);
    let document = inspected(&home, &["one"]);
    assert_eq!((&document["Id"], &document["Name"]), (&json!(id), &json!("/one")));
    assert_eq!(document["State"]["Status"], "running");
    assert_eq!((&document["Path"], &document["Args"]), (&json!("/probe"), &json!(["forever"])));
    assert_eq!(document["HostConfig"]["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!(document["HostConfig"]["Binds"], json!(["data:/srv"]));
    assert_eq!(document["HostConfig"]["Ulimits"], json!([{"Name": "nofile", "Soft": 99, "Hard": 100}]));
    assert_eq!((&document["Config"]["Hostname"], &document["Config"]["StopTimeout"]), (&json!("box"), &json!(7)));
    assert_eq!(document["Config"]["Env"], json!(["A=b"]));
    assert_eq!((&document["Mounts"][0]["Name"], &document["Mounts"][0]["RW"]), (&json!("data"), &json!(true)));
    assert_eq!(document["NetworkSettings"]["Networks"]["none"]["IPAddress"], "");
    // The paths lead to what they name.
    let path = |pointer: &str| document.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(path("/HostnamePath")).unwrap(), "box\n");
    assert!(std::fs::read_to_string(path("/HostsPath")).unwrap().contains("localhost"));
    for directory in path("/GraphDriver/Data/LowerDir").split(':') {
        assert!(std::path::Path::new(directory).is_dir(), "{directory}");
    }
    assert!(std::path::Path::new(&path("/GraphDriver/Data/UpperDir")).is_dir());
    assert!(path("/GraphDriver/Data/MergedDir").starts_with("/proc/"));
    home.kelp(&["stop", "-t", "0", "one"]).succeed();
    let document = inspected(&home, &["one"]);
    assert_eq!((&document["State"]["ExitCode"], &document["State"]["Running"]), (&json!(137), &json!(false)));
    assert_eq!((&document["HostsPath"], document["GraphDriver"]["Data"].get("MergedDir")), (&json!(""), None));
    let said = home.kelp(&["container", "inspect", "-f", "{{.State.Status}} {{.HostConfig.CapDrop}}", "one"]).succeed();
    assert_eq!(said, "exited [ALL]\n");
    assert_eq!(inspected(&home, &["data"])["Name"], "data");
    assert_eq!(inspected(&home, &["--type", "volume", "data"])["Driver"], "local");
    home.kelp(&["inspect", "--type", "volume", "one"]).refuse(1, &["no volume \"one\""]);
    home.kelp(&["inspect", "nobody"]).refuse(1, &["no container, image or volume \"nobody\""]);
}

#[test]
fn the_events_of_a_life_are_dockers() {
    let home = Home::new();
    let of = |name: &str| events(&home, &["--filter", &format!("container={name}")]);
    assert_eq!(home.run(&["--name", "short"], &["exit", "3"]).code(), 3);
    assert_eq!(of("short"), ["create", "attach", "start", "die", "destroy"]);
    let said = home.kelp(&["events", "--since", "1h", "--until", "0s", "-f", "event=die"]).succeed();
    assert!(
        said.contains(" container die ") && said.contains("exitCode=3, image=") && said.contains("name=short)"),
        "{said}"
    );
    create(&home, &["--name", "made", "-l", "role=x"], &["forever"]);
    home.kelp(&["start", "made"]).succeed();
    home.kelp(&["pause", "made"]).succeed();
    home.kelp(&["unpause", "made"]).succeed();
    home.kelp(&["rename", "made", "other"]).succeed();
    home.kelp(&["update", "--restart", "always", "other"]).succeed();
    home.kelp(&["restart", "-t", "0", "other"]).succeed();
    home.kelp(&["stop", "-t", "0", "other"]).succeed();
    home.kelp(&["rm", "other"]).succeed();
    assert_eq!(
        events(&home, &["--filter", "label=role=x"]),
        [
            "create", "start", "pause", "unpause", "rename", "update", "kill", "die", "stop", "start", "restart",
            "kill", "die", "stop", "destroy"
        ]
    );
    let said = home.kelp(&["events", "--until", "0s", "-f", "event=rename", "--format", "json"]).succeed();
    let event: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&event["Actor"]["Attributes"]["oldName"], &event["Actor"]["Attributes"]["name"]),
        (&json!("/made"), &json!("other"))
    );
    // Programs beside its own, each with a name of its own.
    detached(&home, &["--name", "web"], &["forever"]);
    assert_eq!(home.kelp(&["exec", "web", "/probe", "exit", "3"]).code(), 3);
    let said = home.kelp(&["events", "--until", "0s", "-f", "container=web", "--format", "json"]).succeed();
    let told: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<&Value> =
        told.iter().filter(|event| event["Action"].as_str().unwrap().starts_with("exec_")).collect();
    let actions: Vec<&Value> = told.iter().map(|event| &event["Action"]).collect();
    assert_eq!(actions, ["exec_create: /probe exit 3", "exec_start: /probe exit 3", "exec_die"]);
    assert!(
        told.iter().all(|event| event["Actor"]["Attributes"]["execID"] == told[0]["Actor"]["Attributes"]["execID"])
    );
    assert_eq!(told[2]["Actor"]["Attributes"]["exitCode"], "3");
    // What cannot be started was there all the same.
    let rootfs = home.rootfs();
    home.kelp(&["run", "--name", "none", "--rootfs", rootfs.to_str().unwrap(), "/no-such"]).fail(127);
    assert_eq!(of("none"), ["create", "die"]);
}

#[test]
fn what_is_done_with_containers_and_their_volumes_is_told() {
    let home = Home::new();
    let run = ["--name", "web", "-v", "data:/srv:ro", "-v", "/etc:/conf:ro"];
    home.run_kept(&run, &["exit", "0"]).succeed();
    home.kelp(&["commit", "-m", "so far", "web", "kept"]).succeed();
    home.kelp(&["export", "-o", home.path("tar").to_str().unwrap(), "web"]).succeed();
    home.kelp(&["cp", "web:/probe", home.path("out").to_str().unwrap()]).succeed();
    home.kelp(&["cp", home.path("out").to_str().unwrap(), "web:/in"]).succeed();
    home.kelp(&["start", "web"]).succeed();
    home.kelp(&["wait", "web"]).succeed();
    let told = events(&home, &["--filter", "container=web"]);
    let expected =
        ["create", "attach", "start", "die", "commit", "export", "archive-path", "extract-to-dir", "start", "die"];
    assert_eq!(told, expected);
    assert_eq!(events(&home, &["-f", "volume=data"]), ["create", "mount", "unmount", "mount", "unmount"]);
    let of = |event: &str, format: &str| {
        let options = ["events", "--until", "0s", "-f", event, "--format", format];
        home.kelp(&options).succeed().lines().next().unwrap_or_default().to_owned()
    };
    let id = inspected(&home, &["web"])["Id"].as_str().unwrap().to_owned();
    assert_eq!(of("event=unmount", "{{.Actor.ID}} {{.Actor.Attributes.container}}"), format!("data {id}"));
    let mounted = "{{.Actor.Attributes.destination}} {{index .Actor.Attributes \"read/write\"}}";
    assert_eq!(of("event=mount", mounted), "/srv false");
    let committed = "{{.Actor.Attributes.imageRef}} {{.Actor.Attributes.comment}}";
    assert_eq!(of("event=commit", committed), "localhost/kept:latest so far");
    home.run_kept(&["-d", "--name", "runs"], &["forever"]).succeed();
    home.kelp(&["top", "runs"]).succeed();
    assert_eq!(events(&home, &["-f", "container=runs"]), ["create", "start", "top"]);
}

#[test]
fn a_supervisor_that_was_killed_tells_nothing_and_the_next_command_does() {
    let home = Home::new();
    detached(&home, &["--name", "one"], &["forever"]);
    let supervisor = nix::unistd::Pid::from_raw(home.supervisor("one"));
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(eventually(|| names(&home, &["-f", "status=exited"]) == ["one"]));
    assert_eq!(events(&home, &["-f", "container=one"]), ["create", "start", "die"]);
}

#[test]
fn events_of_images_and_volumes() {
    let home = Home::new();
    load(&home, "box", &[layer(&[Entry::File("a", 0o644, 0, b"x")])], json!({}));
    home.kelp(&["tag", "box", "box:2"]).succeed();
    home.kelp(&["save", "-o", home.path("saved.tar").to_str().unwrap(), "box"]).succeed();
    home.kelp(&["untag", "box", "box:2"]).succeed();
    home.kelp(&["rmi", "box"]).succeed();
    home.kelp(&["volume", "create", "data"]).succeed();
    home.kelp(&["volume", "rm", "data"]).succeed();
    home.kelp(&["volume", "prune", "-f"]).succeed();
    let said = home.kelp(&["events", "--until", "0s", "--format", "{{.Type}} {{.Action}}"]).succeed();
    let expected = [
        "image load",
        "image tag",
        "image save",
        "image untag",
        "image untag",
        "image delete",
        "volume create",
        "volume destroy",
        "volume prune",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(events(&home, &["-f", "type=volume", "-f", "event=remove"]), ["destroy"]);
}

#[test]
fn events_are_followed_as_they_come() {
    let home = Home::new();
    home.run(&["--name", "before"], &["exit", "0"]).succeed();
    let mut follower =
        home.kelp(&["system", "events", "-f", "event=die", "--format", "{{.Actor.Attributes.name}}"]).start();
    let mut since =
        home.kelp(&["events", "--since", "1h", "-f", "event=die", "--format", "{{.Actor.Attributes.name}}"]).start();
    assert_eq!(since.line(), "before");
    // It began to follow at some time; what comes after that is seen, in order.
    let mut seen = String::new();
    for number in 0.. {
        home.run(&["--name", &format!("run{number}")], &["exit", "0"]).succeed();
        assert_eq!(since.line(), format!("run{number}"));
        if number >= 3 {
            seen = follower.line();
            break;
        }
    }
    assert!(seen.starts_with("run"), "{seen}");
}

#[test]
fn prune_takes_what_does_not_run_and_nothing_else() {
    let home = Home::new();
    // What it says would count, too.
    home.run_kept(&["--name", "ended", "-l", "keep=no", "--log-driver", "none"], &["fill", "/new", "3000"]).succeed();
    create(&home, &["--name", "kept", "-l", "keep=yes", "-v", "/anonymous"], &["exit", "0"]);
    detached(&home, &["--name", "runs"], &["forever"]);
    home.kelp(&["container", "prune"]).refuse(125, &["--force"]);
    let said = home.kelp(&["container", "prune", "-f", "--filter", "label!=keep=yes"]).succeed();
    assert!(said.starts_with("Deleted Containers:\n") && said.ends_with("\nTotal reclaimed space: 3kB\n"), "{said}");
    assert_eq!(names(&home, &["-a"]), ["runs", "kept"]);
    assert_eq!(
        home.kelp(&["container", "prune", "-f", "--filter", "until=1h"]).succeed(),
        "Total reclaimed space: 0B\n"
    );
    home.kelp(&["container", "prune", "--force"]).succeed();
    assert_eq!((names(&home, &["-a"]), home.entries("volumes").len()), (vec!["runs".to_owned()], 1));
    home.kelp(&["rm", "-f", "runs"]).succeed();
}

#[test]
fn start_takes_what_a_filter_chooses() {
    let home = Home::new();
    create(&home, &["--name", "never"], &["forever"]);
    create(&home, &["--name", "always", "--restart", "always"], &["forever"]);
    detached(&home, &["--name", "stopped", "--restart", "unless-stopped"], &["forever"]);
    home.kelp(&["stop", "-t", "0", "stopped"]).succeed();
    assert_eq!(home.kelp(&["start", "--all", "--filter", "restart-policy=always"]).succeed(), "always\n");
    assert_eq!(home.kelp(&["start", "--all"]).succeed(), "never\n");
    assert_eq!(home.kelp(&["start", "--all"]).succeed(), "");
    assert_eq!(home.kelp(&["start", "stopped"]).succeed(), "stopped\n");
    let mut remove: Call = home.kelp(&["rm", "-f", "never", "always", "stopped"]);
    remove.succeed();
}

#[test]
fn stop_asks_all_before_it_waits_for_the_first() {
    let home = Home::new();
    let shared = home.make_dir("shared");
    let pipe = shared.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // A first process that has asked for no signal hears none: it ends with its input.
    detached(&home, &["--name", "slow", "-v", &format!("{}:/data", shared.display())], &["read", "/data/pipe"]);
    let input = std::fs::File::options().write(true).open(&pipe).unwrap();
    detached(&home, &["--name", "quick", "--stop-signal", "KILL"], &["forever"]);
    let mut stop = home.kelp(&["stop", "-t", "-1", "slow", "nowhere", "quick"]).start();
    let has_ended = eventually(|| names(&home, &["-a", "--filter", "status=exited"]) == ["quick"]);
    drop(input);
    let output = stop.wait();
    assert!(has_ended);
    assert_eq!((output.stdout.as_str(), output.code), ("slow\nquick\n", 1));
    assert!(output.stderr.contains("\"nowhere\""), "{}", output.stderr);
    assert_eq!(home.kelp(&["inspect", "--format", "{{.State.ExitCode}}", "slow"]).succeed(), "0\n");
    home.kelp(&["rm", "slow", "quick"]).succeed();
}

#[test]
fn restart_asks_all_before_it_waits_for_the_first() {
    let home = Home::new();
    let shared = home.make_dir("shared");
    let pipe = shared.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    detached(&home, &["--name", "slow", "-v", &format!("{}:/data", shared.display())], &["read", "/data/pipe"]);
    let input = std::fs::File::options().write(true).open(&pipe).unwrap();
    detached(&home, &["--name", "quick", "--stop-signal", "KILL"], &["forever"]);
    create(&home, &["--name", "made"], &["forever"]);
    let mut restart = home.kelp(&["restart", "-t", "-1", "slow", "nowhere", "quick", "quick", "made"]).start();
    let starts = || events(&home, &["-f", "container=quick", "-f", "event=start"]).len();
    let has_restarted = eventually(|| starts() == 2);
    drop(input);
    let output = restart.wait();
    assert!(has_restarted);
    assert_eq!((output.stdout.as_str(), output.code), ("slow\nquick\nquick\nmade\n", 1));
    assert!(output.stderr.contains("no container \"nowhere\""), "{}", output.stderr);
    assert_eq!(names(&home, &[]).len(), 3);
    home.kelp(&["rm", "-f", "slow", "quick", "made"]).succeed();
}
