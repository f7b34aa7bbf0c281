//! Images: pulled from a registry, unpacked, run with their author's defaults.

use serde_json::json;

use super::harness::image::{self, Entry, base_layer, layer, publish};
use super::harness::registry::{Fault, Registry};
use super::harness::{Home, Inside, eventually};

/// A home, and a registry with one image of the probe.
fn with_image(config: serde_json::Value, more: &[Vec<u8>]) -> (Home, Registry, String) {
    let (home, registry) = (Home::new(), Registry::start());
    let layers = [&[base_layer()], more].concat();
    let name = publish(&registry, "test/box", &layers, &config);
    (home, registry, name)
}

#[test]
fn the_authors_defaults_hold() {
    let config = json!({
        "Env": ["PATH=/x", "WHO=author"], "Entrypoint": ["/probe"], "Cmd": ["inside"], "User": "web",
        "WorkingDir": "/home/web", "Labels": {"a": "b"}, "StopSignal": "SIGUSR1",
    });
    let (home, _registry, name) = with_image(config, &[]);
    let inside = Inside::read(&home.kelp(&["run", "--rm", "--hostname", "box", &name]).succeed());
    let mut variables = inside.list("env");
    variables.sort_unstable();
    assert_eq!(variables, ["HOME=/home/web", "HOSTNAME=box", "PATH=/x", "WHO=author"]);
    assert_eq!(inside.text("cwd"), "/home/web");
    assert!(inside.status("Uid").starts_with("1000"));
    assert_eq!(home.kelp(&["run", "--rm", &name, "echo", "mine"]).succeed(), "mine\n");
    let said = home.kelp(&["run", "--rm", "--entrypoint", "/probe", "-u", "0", &name, "echo", "entry"]).succeed();
    assert_eq!(said, "entry\n");
}

#[test]
fn owners_and_modes_of_the_layer_arrive() {
    let more = layer(&[
        Entry::Directory("owned", 0o750, 1000),
        Entry::File("owned/file", 0o640, 1000, b"content"),
        Entry::File("tool", 0o4755, 0, b"x"),
        Entry::Link("link", "owned/file"),
    ]);
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[more]);
    let mut call = home.kelp(&["run", "--rm", &name]);
    let said = call
        .args(&["stat", "/owned", "+", "stat", "/owned/file", "+", "stat", "/tool", "+", "read", "/link"])
        .succeed();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("1000:1000 40750"), "{said}");
    assert_eq!(lines[1], "1000:1000 100640 7 bytes");
    assert!(lines[2].starts_with("0:0 104755"), "{said}");
    assert_eq!(lines[3], "content");
}

#[test]
fn later_layers_cover_and_delete() {
    let first = layer(&[
        Entry::File("a", 0o644, 0, b"1"),
        Entry::File("b", 0o644, 0, b"1"),
        Entry::File("d/x", 0o644, 0, b"1"),
    ]);
    let second = layer(&[
        Entry::File("a", 0o644, 0, b"2"),
        Entry::File(".wh.b", 0o644, 0, b""),
        Entry::File("d/.wh..wh..opq", 0o644, 0, b""),
        Entry::File("d/y", 0o644, 0, b"2"),
    ]);
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[first, second]);
    let mut call = home.kelp(&["run", "--rm", &name, "read", "/a", "+", "read", "/b", "+", "list", "/d"]);
    assert_eq!(call.succeed().lines().collect::<Vec<_>>(), ["2", "error: ENOENT", "y"]);
}

#[test]
fn an_image_is_fetched_once() {
    let (home, registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[]);
    for _ in 0..3 {
        home.kelp(&["run", "--rm", &name, "exit", "0"]).succeed();
    }
    let blobs = registry.seen().iter().filter(|request| request.path.contains("/blobs/")).count();
    assert_eq!(blobs, 2, "one layer and one config");
    drop(registry);
    home.kelp(&["run", "--rm", "--pull", "never", &name, "exit", "0"]).succeed();
}

#[test]
fn never_pulling_means_never() {
    let (home, registry, name) = with_image(json!({}), &[]);
    home.kelp(&["run", "--rm", "--pull", "never", &name, "/probe"]).fail(125);
    assert_eq!(registry.seen().len(), 0);
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_not_kept() {
    let (home, registry, name) = with_image(json!({}), &[]);
    registry.fault("blobs/", Fault::Corrupt, 100);
    home.kelp(&["run", "--rm", &name, "/probe", "exit", "0"]).refuse(125, &["digest"]);
    assert_eq!(home.entries("containers"), [""; 0]);
    assert_eq!(home.entries("blobs/sha256").len(), usize::from(!home.entries("blobs/sha256").is_empty()));
}

#[test]
fn a_missing_image_is_said_to_be_missing() {
    let (home, registry, _) = with_image(json!({}), &[]);
    let name = format!("{}/no/such", registry.host());
    home.kelp(&["run", "--rm", &name]).refuse(125, &["no/such"]);
    assert_eq!(home.entries("names"), [""; 0]);
}

#[test]
fn hostile_layers_stay_inside() {
    let hostile: [&[Entry<'_>]; 4] = [
        &[Entry::Link("up", "../../../../../../../tmp"), Entry::File("up/kelp-escaped", 0o644, 0, b"x")],
        &[Entry::Link("abs", "/tmp"), Entry::File("abs/kelp-escaped", 0o644, 0, b"x")],
        &[Entry::Link("etc/hosts", "/etc/passwd")],
        &[Entry::Link("self", "/proc/self/root/tmp"), Entry::File("self/kelp-escaped", 0o644, 0, b"x")],
    ];
    for entries in hostile {
        let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[layer(entries)]);
        let output = home.kelp(&["run", "--rm", &name, "exit", "0"]).output();
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert!(!std::path::Path::new("/tmp/kelp-escaped").exists());
    }
}

#[test]
fn an_image_for_another_machine_is_refused_by_name() {
    let (home, _registry, name) = with_image(json!({}), &[]);
    home.kelp(&["run", "--rm", "--platform", "linux/s390x", &name, "/probe"]).refuse(125, &["linux/s390x"]);
}

#[test]
fn two_fetch_the_same_image_at_once() {
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[]);
    let mut all: Vec<_> = (0..4).map(|_| home.kelp(&["run", "--rm", &name, "exit", "6"]).start()).collect();
    for running in &mut all {
        let output = running.wait();
        assert_eq!(output.code, 6, "{}", output.stderr);
    }
}

#[test]
fn changes_to_a_container_do_not_reach_its_image() {
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[]);
    home.kelp(&["run", "--rm", &name, "write", "/etc/passwd", "gone"]).succeed();
    let said = home.kelp(&["run", "--rm", &name, "read", "/etc/passwd"]).succeed();
    assert!(said.starts_with(image::ACCOUNTS[0].1.lines().next().unwrap()), "{said}");
}

#[test]
fn an_oci_layout_is_loaded_listed_tagged_and_removed() {
    let home = Home::new();
    let layout = home.make_dir("layout");
    image::write_layout(&layout, "box:1", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["load", "-i", layout.to_str().unwrap()]).succeed();
    assert_eq!(home.kelp(&["run", "--rm", "--pull", "never", "box:1", "echo", "loaded"]).succeed(), "loaded\n");
    home.kelp(&["tag", "box:1", "other:2"]).succeed();
    let listing: serde_json::Value =
        serde_json::from_str(&home.kelp(&["images", "--format", "json"]).succeed()).unwrap();
    let mut tags: Vec<&str> = listing.as_array().unwrap().iter().map(|row| row["tag"].as_str().unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);
    home.kelp(&["rmi", "box:1"]).succeed();
    assert_eq!(home.kelp(&["run", "--rm", "--pull", "never", "other:2", "echo", "still"]).succeed(), "still\n");
    home.kelp(&["rmi", "other:2"]).succeed();
    assert_eq!(home.kelp(&["images", "-q"]).succeed(), "");
    assert_eq!(home.entries("blobs/sha256"), [""; 0], "blobs of a removed image stay");
    home.kelp(&["run", "--rm", "--pull", "never", "other:2"]).fail(125);
}

#[test]
fn a_load_that_fails_takes_no_name_away() {
    let home = Home::new();
    let (good, bad) = (home.make_dir("good"), home.make_dir("bad"));
    let config = json!({"Entrypoint": ["/probe"]});
    image::write_layout(&good, "box:1", &[base_layer()], &config);
    image::write_layout(&bad, "box:1", &[base_layer(), vec![7; 2048]], &config);
    home.kelp(&["load", "-q", "-i", good.to_str().unwrap()]).succeed();
    home.kelp(&["load", "-q", "-i", bad.to_str().unwrap()]).refuse(1, &["unpack layer"]);
    assert_eq!(home.kelp(&["run", "--rm", "--pull", "never", "box:1", "echo", "still"]).succeed(), "still\n");
    assert_eq!(home.kelp(&["images", "-q"]).succeed().lines().count(), 1, "what was not whole is no image");
    assert!(eventually(|| home.entries("staging").is_empty()), "{:?}", home.entries("staging"));
}

#[test]
fn an_image_in_use_is_not_removed_under_its_container() {
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"]}), &[]);
    let mut running = home.kelp(&["run", "--name", "box", &name, "signals"]).start();
    assert_eq!(running.line(), "ready");
    assert!(eventually(|| home.containers().len() == 1));
    home.kelp(&["rmi", &name]).refuse(1, &["box"]);
    home.kelp(&["rmi", "-f", &name]).succeed();
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait().code, 40);
}

#[test]
fn a_root_file_system_is_imported() {
    let home = Home::new();
    let file = home.path("root.tar");
    std::fs::write(&file, base_layer()).unwrap();
    let change = r#"ENTRYPOINT ["/probe", "echo"]"#;
    home.kelp(&["import", "-c", change, file.to_str().unwrap(), "mine:1"]).succeed();
    assert_eq!(home.kelp(&["run", "--rm", "mine:1", "imported"]).succeed(), "imported\n");
}

#[test]
fn inspect_tells_images_and_containers() {
    let (home, _registry, name) = with_image(json!({"Entrypoint": ["/probe"], "Labels": {"a": "b"}}), &[]);
    home.kelp(&["run", "--name", "box", &name, "exit", "3"]).code();
    for (what, kind) in [(name.as_str(), "image"), ("box", "container")] {
        let said = home.kelp(&["inspect", "--type", kind, what]).succeed();
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(document.as_array().map(Vec::len), Some(1), "{said}");
    }
    home.kelp(&["inspect", "nobody"]).refuse(1, &["nobody"]);
}

#[test]
fn hello_needs_nothing() {
    let home = Home::new();
    let said = home.kelp(&["run", "--rm", "hello"]).succeed();
    assert!(!said.is_empty());
}

#[test]
fn blobs_are_kept_unless_the_settings_say_otherwise() {
    let home = Home::new();
    let registry = Registry::start();
    let data = image::layer(&[Entry::File("data", 0o644, 0, &[7; 1 << 16])]);
    let name = image::publish(&registry, "box", &[image::base_layer(), data], &serde_json::json!({}));
    let settings = home.path("home/.config/kelp");
    std::fs::create_dir_all(&settings).unwrap();
    std::fs::write(settings.join("config.toml"), "keep-blobs = false\n").unwrap();
    home.kelp(&["pull", &name]).succeed();
    assert_eq!(home.entries("blobs/sha256").len(), 2, "manifest and config");
    assert!(home.entries("staging").iter().all(|name| !name.starts_with("partial.")));
    let stat = ["run", "--rm", &name, "/probe", "stat", "/data"];
    assert!(home.kelp(&stat).succeed().contains("65536 bytes"));
    let asked = registry.seen().len();
    assert!(home.kelp(&["pull", &name]).succeed().contains("up to date"));
    assert_eq!(registry.seen().len(), asked + 1, "only the manifest is asked for again");
    home.kelp(&["system", "check"]).succeed();
    let archive = home.path("image.tar");
    home.kelp(&["save", "-o", archive.to_str().unwrap(), &name]).refuse(1, &["is missing", "pull"]);
    std::fs::remove_file(settings.join("config.toml")).unwrap();
    home.kelp(&["pull", &name]).succeed();
    assert_eq!(home.entries("blobs/sha256").len(), 4);
    home.kelp(&["save", "-o", archive.to_str().unwrap(), &name]).succeed();
}
