//! `image verify` and `system check`: damage of every kind is found, named and
//! repaired, and nothing is taken for damage that is none.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{Entry, base_layer, layer, publish, write_layout_of};
use super::harness::registry::Registry;

/// A home with one image that was pulled.
fn with_image() -> (Home, Registry, String) {
    let (home, registry) = (Home::new(), Registry::start());
    let more = layer(&[
        Entry::Directory("d", 0o755, 0),
        Entry::File("d/file", 0o644, 1000, b"0123456789"),
        Entry::File("d/closed", 0o600, 33, b"01234"),
        Entry::Link("d/link", "file"),
        Entry::File("d/.wh.gone", 0o644, 0, b""),
    ]);
    let name = publish(&registry, "test/box", &[base_layer(), more], &json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["pull", "-q", &name]).succeed();
    (home, registry, name)
}

/// The report, and the exit status that it came with.
fn report(home: &Home, arguments: &[&str]) -> (i32, Value) {
    let output = home.kelp(&[arguments, &["--format", "json"]].concat()).output();
    assert_eq!(output.stderr, "", "{arguments:?}");
    (output.code, serde_json::from_str(&output.stdout).unwrap())
}

fn kinds(report: &Value) -> Vec<&str> {
    let mut kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

/// Paths of the image's blobs: manifest, config, layers.
fn blobs(home: &Home, name: &str) -> Vec<PathBuf> {
    let path = |digest: &str| home.data().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let inspected = home.kelp(&["inspect", "-f", "{{.Descriptor.digest}}", name]).succeed();
    let manifest = path(inspected.trim());
    let document: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let mut paths = vec![manifest, path(document["config"]["digest"].as_str().unwrap())];
    paths.extend(document["layers"].as_array().unwrap().iter().map(|layer| path(layer["digest"].as_str().unwrap())));
    paths
}

/// The unpacked roots of layers that hold `name`.
fn root_with(home: &Home, name: &str) -> PathBuf {
    let of_map = |map: &str| {
        home.entries(&format!("layers/{map}"))
            .into_iter()
            .map(move |id| format!("layers/{}/{id}/root", map.to_owned()))
            .collect::<Vec<_>>()
    };
    let mut roots = home
        .entries("layers")
        .iter()
        .flat_map(|map| of_map(map))
        .map(|root| home.data().join(root))
        .collect::<Vec<_>>();
    roots.retain(|root| root.join(name).symlink_metadata().is_ok());
    assert_eq!(roots.len(), 1, "{name}");
    roots.remove(0)
}

/// Flips a bit, keeping length and times.
fn corrupt(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn runs(home: &Home, name: &str) {
    let said = home.kelp(&["run", "--rm", "--pull", "never", name, "read", "/d/file"]).succeed();
    assert_eq!(said, "0123456789\n");
}

#[test]
fn a_whole_store_is_whole() {
    let (home, _registry, name) = with_image();
    home.kelp(&["run", "--name", "box", &name, "exit", "0"]).succeed();
    for arguments in [
        &["image", "verify"][..],
        &["image", "verify", &name],
        &["system", "check"],
        &["system", "check", "--files", "--repair"],
    ] {
        let (code, report) = report(&home, arguments);
        assert_eq!((code, &report["whole"], kinds(&report)), (0, &json!(true), vec![]), "{report}");
        assert_eq!(report["checked"]["blobs"], 4);
        assert_eq!(report["checked"]["layers"], 2);
    }
    let said = home.kelp(&["system", "check"]).succeed();
    assert!(said.contains("4 blobs") && said.contains("all is whole") && said.contains("1 containers"), "{said}");
    assert!(said.contains("not looked at: the contents of files in 2 unpacked layers"), "{said}");
    assert_eq!(home.kelp(&["system", "check", "-q"]).succeed(), "");
    home.kelp(&["image", "verify", "nobody"]).refuse(1, &["no image \"nobody\""]);
    let empty = Home::new();
    assert!(empty.kelp(&["system", "check"]).succeed().contains("all is whole"));
}

#[test]
fn damaged_blobs_are_fetched_again() {
    let (home, registry, name) = with_image();
    let id = home.kelp(&["images", "-q", "--no-trunc"]).succeed();
    let paths = blobs(&home, &name);
    for (place, path) in paths.iter().enumerate() {
        let whole = fs::read(path).unwrap();
        corrupt(path);
        let before = registry.seen().len();
        let (code, report) = report(&home, &["image", "verify"]);
        assert_eq!((code, kinds(&report)), (1, vec!["blob_damaged"]), "{place}: {report}");
        assert_eq!(report["findings"][0]["needed_by"], json!([format!("{name}:latest")]));
        assert_eq!(report["findings"][0]["remedy"], "kelp image verify --repair");
        assert_ne!(fs::read(path).unwrap(), whole, "a check changes nothing");
        assert_eq!(registry.seen().len(), before, "a check asks nobody");
        let (code, report) = self::report(&home, &["image", "verify", "--repair"]);
        assert_eq!((code, &report["whole"]), (0, &json!(true)), "{place}: {report}");
        assert!(report["findings"][0]["repaired"].as_str().unwrap().contains("127.0.0.1"), "{report}");
        assert_eq!(fs::read(path).unwrap(), whole);
        let digest = path.file_name().unwrap().to_str().unwrap();
        let layers = registry.seen()[before..]
            .iter()
            .filter(|request| request.path.contains("/blobs/"))
            .cloned()
            .collect::<Vec<_>>();
        // The manifest comes by itself; of all else only what was damaged.
        assert!(layers.iter().all(|request| request.path.contains(digest)), "{layers:?}");
    }
    // All at once, and missing instead of damaged.
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let (code, report) = report(&home, &["system", "check"]);
    // Of layers nothing is known without the manifest.
    assert_eq!((code, kinds(&report)), (1, vec!["blob_missing"; 2]), "{report}");
    let before = registry.seen().len();
    let (code, report) = self::report(&home, &["system", "check", "--repair"]);
    assert_eq!((code, &report["whole"]), (0, &json!(true)), "{report}");
    let fetched = registry.seen()[before..].iter().filter(|request| request.path.contains("/blobs/")).count();
    assert_eq!(fetched, 3, "config and layers, each once");
    assert_eq!(home.kelp(&["images", "-q", "--no-trunc"]).succeed(), id);
    runs(&home, &name);
    assert!(home.entries("staging").is_empty());
}

#[test]
fn what_cannot_be_repaired_stays_and_is_named() {
    let home = Home::new();
    let layout = home.make_dir("layout");
    write_layout_of(&layout, "own:1", &[layer(&[Entry::File("f", 0o644, 0, b"content")])], &json!({}));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    let path = blobs(&home, "own:1").remove(2);
    corrupt(&path);
    let damaged = fs::read(&path).unwrap();
    let (code, report) = report(&home, &["system", "check", "--repair"]);
    assert_eq!((code, kinds(&report), &report["whole"]), (1, vec!["blob_damaged"], &json!(false)), "{report}");
    let finding = &report["findings"][0];
    assert_eq!((&finding["repaired"], &finding["needed_by"]), (&Value::Null, &json!(["localhost/own:1"])));
    assert!(finding["failed"].as_str().unwrap().contains("came from no registry"), "{report}");
    assert!(finding["remedy"].as_str().unwrap().starts_with("kelp rmi localhost/own:1"), "{report}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    let output = home.kelp(&["system", "check"]).output();
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains("needed by localhost/own:1") && output.stdout.contains("1 damaged"),
        "{}",
        output.stdout
    );
    // A registry that is gone is no help either.
    let (home, registry, name) = with_image();
    corrupt(&blobs(&home, &name)[1]);
    drop(registry);
    let (code, report) = self::report(&home, &["image", "verify", "--repair", &name]);
    assert_eq!((code, kinds(&report)), (1, vec!["blob_damaged"]));
    assert!(!report["findings"][0]["failed"].is_null(), "{report}");
    assert_eq!(report["findings"][0]["remedy"], json!(format!("kelp pull {name}:latest")));
}

#[test]
fn a_damaged_blob_that_nothing_needs_goes() {
    let (home, _registry, _name) = with_image();
    let stray = home.data().join("blobs/sha256").join("ab".repeat(32));
    fs::write(&stray, "x").unwrap();
    let (code, report) = report(&home, &["image", "verify"]);
    assert_eq!((code, kinds(&report)), (0, vec![]));
    let (code, report) = self::report(&home, &["system", "check"]);
    assert_eq!((code, kinds(&report), stray.exists()), (1, vec!["blob_damaged"], true), "{report}");
    let (code, report) = self::report(&home, &["system", "check", "--repair"]);
    assert_eq!((code, stray.exists()), (0, false), "{report}");
    assert!(report["findings"][0]["repaired"].as_str().unwrap().contains("nothing needs it"));
}

/// Changes a layer as somebody would who may: root of the namespace.
fn in_namespace(home: &Home, script: &str) {
    let enter = |pid: &i32| {
        let mut command = Command::new("nsenter");
        command.args(["-U", "--preserve-credentials", "-t", &pid.to_string(), "sh", "-ec", script]).status().unwrap()
    };
    // A holder may be a stage that is just ending.
    assert!(super::harness::eventually(|| home.holders().iter().any(|pid| enter(pid).success())), "{script}");
}

#[test]
fn damaged_layers_are_unpacked_again() {
    let (home, _registry, name) = with_image();
    for (script, arguments) in [
        ("rm d/closed", &["system", "check"][..]),
        ("truncate -s 0 d/file", &["system", "check"]),
        ("printf 9876543210 > d/file; touch -d @1600000000 d/file", &["system", "check", "--files"]),
        ("rm ../layer.json", &["image", "verify"]),
        ("rm -r ../root", &["image", "verify", &name]),
        ("touch d/more", &["system", "check", "--files"]),
    ] {
        runs(&home, &name);
        let root = root_with(&home, "d/file");
        in_namespace(&home, &format!("cd {}; {script}", root.display()));
        if script == "rm -r ../root" {
            home.kelp(&["run", "--rm", "--pull", "never", &name, "exit", "0"]).refuse(125, &["system check --repair"]);
        }
        let (code, report) = report(&home, arguments);
        assert_eq!((code, kinds(&report)), (1, vec!["layer_damaged"]), "{script}: {report}");
        let (code, report) = self::report(&home, &[arguments, &["--repair"]].concat());
        assert_eq!((code, &report["findings"][0]["repaired"]), (0, &json!("unpacked again")), "{script}: {report}");
        let (code, report) = self::report(&home, &["system", "check", "--files"]);
        assert_eq!((code, kinds(&report)), (0, vec![]), "{script}: {report}");
        runs(&home, &name);
    }
}

#[test]
fn a_layer_in_use_is_not_exchanged() {
    let (home, _registry, name) = with_image();
    let mut running = home.kelp(&["run", "--name", "box", &name, "signals"]).start();
    assert_eq!(running.line(), "ready");
    let root = root_with(&home, "d/file");
    in_namespace(&home, &format!("rm {}/d/closed", root.display()));
    let (code, report) = report(&home, &["system", "check", "--repair"]);
    let finding = &report["findings"][0];
    assert_eq!((code, kinds(&report)), (1, vec!["layer_damaged"]), "{report}");
    assert!(finding["failed"].as_str().unwrap().contains("container box runs on it"), "{report}");
    assert_eq!(finding["remedy"], "kelp rm -f box");
    assert!(root.exists());
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait();
    let (code, report) = self::report(&home, &["system", "check", "--repair"]);
    assert_eq!(code, 0, "{report}");
}

#[test]
fn a_file_that_a_layer_holds_twice_is_no_damage() {
    let home = Home::new();
    let twice = [Entry::File("f", 0o644, 0, b"a longer content"), Entry::File("f", 0o644, 0, b"short")];
    let layout = home.make_dir("layout");
    write_layout_of(&layout, "twice", &[layer(&twice)], &json!({}));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    let (code, report) = report(&home, &["system", "check"]);
    assert_eq!((code, kinds(&report), &report["checked"]["compared_layers"]), (0, vec![], &json!(1)), "{report}");
}

#[test]
fn names_and_containers_that_cannot_be_read_are_named() {
    let (home, _registry, name) = with_image();
    home.kelp(&["run", "--name", "box", &name, "exit", "0"]).succeed();
    let tag = home.data().join("tags").join(&home.entries("tags")[0]);
    fs::write(&tag, "{").unwrap();
    let (code, report) = report(&home, &["system", "check", "--repair"]);
    assert_eq!((code, kinds(&report)), (1, vec!["name_unreadable"]), "{report}");
    let remedy = report["findings"][0]["remedy"].as_str().unwrap();
    assert_eq!(remedy, format!("kelp pull {name}:latest"));
    // Listing goes on, and what is proposed helps.
    assert_eq!(home.kelp(&["images", "-q"]).succeed(), "");
    home.kelp(&["pull", "-q", &name]).succeed();
    assert_eq!(home.kelp(&["system", "check", "-q"]).code(), 0);
    let container = home.data().join("containers").join(&home.entries("containers")[0]).join("record.json");
    fs::write(container, "{").unwrap();
    let (code, report) = self::report(&home, &["system", "check"]);
    assert_eq!((code, kinds(&report)), (1, vec!["container_unreadable"]), "{report}");
}

#[test]
fn what_a_container_stands_on_is_missed() {
    let (home, registry, name) = with_image();
    home.kelp(&["run", "--name", "box", &name, "exit", "0"]).succeed();
    home.kelp(&["rmi", "-f", &name]).succeed();
    assert_eq!(home.kelp(&["system", "check", "-q"]).code(), 0);
    let root = root_with(&home, "d/file");
    in_namespace(&home, &format!("rm -r {}", root.parent().unwrap().display()));
    drop(registry);
    let (code, report) = report(&home, &["system", "check"]);
    assert_eq!((code, kinds(&report)), (1, vec!["container_incomplete"]), "{report}");
    assert_eq!(report["findings"][0]["remedy"], "kelp rm box");
    let config = home.entries("blobs/sha256").remove(0);
    fs::remove_file(home.data().join("blobs/sha256").join(config)).unwrap();
    let (code, report) = self::report(&home, &["system", "check"]);
    assert_eq!((code, kinds(&report)), (1, vec!["blob_missing"]), "{report}");
    assert_eq!(report["findings"][0]["needed_by"], json!(["container box"]));
    home.kelp(&["rm", "box"]).succeed();
    assert_eq!(home.kelp(&["system", "check", "-q"]).code(), 0);
}

#[test]
fn what_broken_off_commands_left_is_counted_and_swept() {
    let (home, _registry, _name) = with_image();
    let old = home.data().join("staging/blob.old");
    fs::write(&old, "x").unwrap();
    fs::File::options().write(true).open(&old).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (code, report) = report(&home, &["system", "check"]);
    assert_eq!((code, &report["left_over"]["unfinished"], old.exists()), (0, &json!(1), true), "{report}");
    self::report(&home, &["system", "check", "--repair"]);
    assert!(super::harness::eventually(|| !old.exists()));
}

#[test]
fn layers_for_other_ids_are_compared_without_owners() {
    let (home, _registry, name) = with_image();
    home.kelp(&["run", "--rm", "--userns", "keep-id", &name, "exit", "0"]).succeed();
    let (code, report) = report(&home, &["system", "check", "--files"]);
    assert_eq!((code, &report["checked"]["compared_layers"]), (0, &json!(4)), "{report}");
    let maps = home.entries("layers");
    assert_eq!(maps.len(), 2);
    for map in maps {
        let roots = home
            .entries(&format!("layers/{map}"))
            .into_iter()
            .map(|id| home.data().join(format!("layers/{map}/{id}/root")));
        let root = roots.into_iter().find(|root| root.join("d/file").exists()).unwrap();
        in_namespace(&home, &format!("rm {}/d/closed", root.display()));
    }
    let (code, report) = self::report(&home, &["system", "check", "--repair"]);
    assert_eq!((code, kinds(&report)), (0, vec!["layer_damaged"; 2]), "{report}");
    let mut how: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|found| found["repaired"].as_str().unwrap()).collect();
    how.sort_unstable();
    assert_eq!(how, ["removed: it is unpacked again when it is needed", "unpacked again"]);
    home.kelp(&["run", "--rm", "--userns", "keep-id", &name, "exit", "0"]).succeed();
    let (code, report) = self::report(&home, &["system", "check", "--files"]);
    assert_eq!((code, &report["checked"]["layers"]), (0, &json!(4)), "{report}");
}

#[test]
fn a_repair_that_was_killed_leaves_nothing_half_done() {
    let (home, registry, name) = with_image();
    let path = blobs(&home, &name).remove(2);
    let whole = fs::read(&path).unwrap();
    corrupt(&path);
    let damaged = fs::read(&path).unwrap();
    registry.fault("/blobs/", super::harness::registry::Fault::Slow(std::time::Duration::from_secs(60)), 1);
    let mut running = home.kelp(&["image", "verify", "--repair"]).start();
    assert!(super::harness::eventually(|| registry
        .seen()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count()
        > 3));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    assert_eq!(fs::read(&path).unwrap(), damaged);
    let (code, report) = report(&home, &["image", "verify", "--repair"]);
    assert_eq!((code, fs::read(&path).unwrap() == whole), (0, true), "{report}");
}
