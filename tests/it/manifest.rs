//! Lists of images for several platforms: made, changed, shown, pushed, kept.

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{ARCHITECTURE, Entry, base_layer, layer, publish, publish_for};
use super::harness::registry::Registry;

/// A home, and a registry that has the image `team/box` for two platforms,
/// each under its own name.
fn with_images() -> (Home, Registry, [String; 2]) {
    let (home, registry) = (Home::new(), Registry::start());
    let own = layer(&[Entry::File("file", 0o644, 0, b"other")]);
    let other = publish_for(&registry, "team/box-other", "s390x", &[own]);
    let host = publish_for(&registry, "team/box-host", ARCHITECTURE, &[base_layer()]);
    (home, registry, [host, other])
}

fn inspect(home: &Home, name: &str) -> Value {
    serde_json::from_str(&home.kelp(&["manifest", "inspect", name]).succeed()).unwrap()
}

#[test]
fn a_list_of_images_elsewhere_is_made_and_pushed() {
    let (home, registry, [host, other]) = with_images();
    let name = format!("{}/team/box:1", registry.host());
    let said = home.kelp(&["manifest", "create", &name, &host, &other]).succeed();
    assert_eq!(said, format!("Created manifest list {name}\n"));
    home.kelp(&["manifest", "create", &name, &host]).refuse(1, &["it exists", "--amend"]);
    let index = inspect(&home, &name);
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, [ARCHITECTURE, "s390x"], "{index}");
    // Layers stay where they are; a repository beside takes them from there.
    assert_eq!(registry.lines("GET").iter().filter(|line| line.contains("/blobs/")).count(), 2, "configs alone");
    let digest = home.kelp(&["manifest", "push", "--purge", &name]).succeed();
    let (media_type, bytes) = registry.manifest("team/box", "1").unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.index.v1+json");
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), index);
    let posted = registry.lines("POST");
    assert!(posted.len() == 4 && posted.iter().all(|line| line.contains("mount=")), "{posted:?}");
    for entry in index["manifests"].as_array().unwrap() {
        assert!(registry.manifest("team/box", entry["digest"].as_str().unwrap()).is_some());
    }
    assert!(digest.starts_with("sha256:") && digest.len() == 72, "{digest}");
    assert_eq!(home.kelp(&["manifest", "ls", "--format", "json"]).succeed(), "[]\n");
    assert_eq!(home.entries("blobs/sha256"), [""; 0], "a purged list leaves nothing");

    // The index that was pushed can be looked at and pulled.
    assert_eq!(inspect(&home, &name), index);
    let raw = home.kelp(&["manifest", "inspect", "--raw", &name]).output();
    assert_eq!(raw.bytes, bytes);
    home.kelp(&["run", "--rm", &name, "/probe", "exit", "0"]).succeed();
}

#[test]
fn images_of_another_registry_go_through_here() {
    let (home, _registry, [host, other]) = with_images();
    home.kelp(&["manifest", "create", "box", &host, &other]).succeed();
    home.kelp(&["manifest", "push", "box"]).refuse(1, &["not of a registry"]);
    let copy = Registry::start();
    let name = format!("{}/copy/box:2", copy.host());
    let file = home.path("digest");
    home.kelp(&["manifest", "push", "--quiet", "--digestfile", file.to_str().unwrap(), "box", &name]).succeed();
    let (_, bytes) = copy.manifest("copy/box", "2").unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let (_, manifest) = copy.manifest("copy/box", entry["digest"].as_str().unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert!(copy.blob("copy/box", layer).is_some());
    }
    // What is there is not sent again.
    let before = copy.lines("POST").len();
    home.kelp(&["manifest", "push", "box", &name]).succeed();
    assert_eq!(copy.lines("POST").len(), before);
    assert_eq!(std::fs::read_to_string(file).unwrap().len(), 71);
}

#[test]
fn images_of_our_own_are_kept_by_the_list() {
    let (home, registry) = (Home::new(), Registry::start());
    let file = home.path("root.tar");
    std::fs::write(&file, base_layer()).unwrap();
    home.kelp(&["import", file.to_str().unwrap(), "mine:1"]).succeed();
    home.kelp(&["manifest", "create", "all"]).succeed();
    let digest = home.kelp(&["manifest", "add", "--annotation", "a=b", "all", "mine:1"]).succeed();
    home.kelp(&["rmi", "mine:1"]).succeed();
    // Index, manifest, config and the packed layer; what the list was before is kept for a day.
    assert_eq!(home.entries("blobs/sha256").len(), 5);
    home.kelp(&["system", "check"]).succeed();
    let call =
        ["manifest", "annotate", "--arch", "arm", "--variant", "v7", "--os-version", "1", "--os-features", "x,y"];
    home.kelp(&[&call[..], &["all", digest.trim()]].concat()).succeed();
    let entry = &inspect(&home, "all")["manifests"][0];
    assert_eq!(
        entry["platform"],
        json!({"architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "os.features": ["x", "y"]})
    );
    assert_eq!((&entry["annotations"]["a"], entry["digest"].as_str().unwrap()), (&json!("b"), digest.trim()));
    let name = format!("{}/team/all:1", registry.host());
    home.kelp(&["manifest", "push", "all", &name]).succeed();
    let (_, manifest) = registry.manifest("team/all", digest.trim()).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let listed = home.kelp(&["manifest", "ls", "--format", "{{.Name}} {{.Platforms}}"]).succeed();
    assert_eq!(listed, "localhost/all:latest linux/arm/v7\n");
    let said = home.kelp(&["manifest", "rm", "all"]).succeed();
    assert!(said.starts_with("Untagged: localhost/all:latest\nDeleted: sha256:"), "{said}");
    assert!(!home.entries("blobs/sha256").iter().any(|blob| digest.contains(blob.as_str())), "its images stay");
}

#[test]
fn an_index_is_added_as_a_whole() {
    let (home, registry, [host, other]) = with_images();
    let name = format!("{}/team/box:1", registry.host());
    home.kelp(&["manifest", "create", &name, &host, &other]).succeed();
    let digest = home.kelp(&["manifest", "push", &name]).succeed();
    registry.put_manifest(
        "team/box",
        "x",
        digest.trim(),
        "application/vnd.oci.image.index.v1+json",
        &registry.manifest("team/box", "1").unwrap().1,
    );
    let remote = format!("docker://{name}");
    home.kelp(&["manifest", "create", "one", &remote]).succeed();
    assert_eq!(inspect(&home, "one")["manifests"].as_array().map(Vec::len), Some(1));
    home.kelp(&["manifest", "create", "--all", "two", &remote]).succeed();
    assert_eq!(inspect(&home, "two")["manifests"], inspect(&home, &name)["manifests"]);
    // The same images once more change nothing.
    home.kelp(&["manifest", "create", "--amend", "--all", "two", &remote]).succeed();
    home.kelp(&["manifest", "annotate", "--arch", "riscv64", "two", &other]).refuse(1, &["not in the list", "sha256:"]);
    assert_eq!(inspect(&home, "two")["manifests"], inspect(&home, &name)["manifests"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (home, registry, [host, _]) = with_images();
    home.kelp(&["manifest", "add", "nothing", &host]).refuse(1, &["no list \"nothing\"", "manifest ls"]);
    home.kelp(&["manifest", "create", "box", "no-such.example:1/image"]).fail(1);
    home.kelp(&["manifest", "create", "--annotation", "a", "box"]).refuse(125, &["KEY=VALUE"]);
    home.kelp(&["manifest", "inspect", &format!("{}/no/such", registry.host())]).refuse(1, &["inspect manifest"]);
    home.kelp(&["manifest", "create", "box"]).succeed();
    home.kelp(&["manifest", "annotate", "box", &host]).refuse(125, &["nothing to say"]);
    home.kelp(&["manifest", "rm", "box", "box"]).refuse(1, &["no list"]);
}

#[test]
fn many_add_at_once() {
    let (home, registry) = (Home::new(), Registry::start());
    home.kelp(&["manifest", "create", "box"]).succeed();
    let names: Vec<String> = (0..4)
        .map(|number| {
            let own = layer(&[Entry::File("file", 0o644, 0, format!("{number}").as_bytes())]);
            publish(&registry, &format!("team/box{number}"), &[own], &json!({}))
        })
        .collect();
    let mut all: Vec<_> = names.iter().map(|name| home.kelp(&["manifest", "add", "box", name]).start()).collect();
    for running in &mut all {
        let output = running.wait();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    assert_eq!(inspect(&home, "box")["manifests"].as_array().map(Vec::len), Some(4));
}
