//! Images in files: saved, loaded, saved again, byte for byte.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{self, Entry, base_layer, digest, layer, publish};
use super::harness::registry::Registry;

/// A home with the image `name`, loaded from a layout; `mark` tells one image
/// from the other.
fn home_with(name: &str, mark: &str) -> Home {
    let home = Home::new();
    add_image(&home, name, mark);
    home
}

fn add_image(home: &Home, name: &str, mark: &str) {
    let layout = home.make_dir(&format!("layout-{mark}"));
    let layers = [base_layer(), layer(&[Entry::File("mark", 0o644, 0, mark.as_bytes())])];
    image::write_layout(&layout, name, &layers, &json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
}

/// Name, digest and id of all images.
fn images(home: &Home) -> Vec<(String, String, String)> {
    let rows: Value = serde_json::from_str(&home.kelp(&["images", "--format", "json"]).succeed()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| {
        (format!("{}:{}", text(&row["repository"]), text(&row["tag"])), text(&row["digest"]), text(&row["id"]))
    };
    let mut rows: Vec<_> = rows.as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

fn save(home: &Home, format: &str, to: &Path, images: &[&str]) {
    let to = to.to_str().unwrap();
    home.kelp(&[&["save", "--format", format, "-o", to], images].concat()).succeed();
}

fn entries(tar: &Path) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap())).collect()
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let home = home_with("quay.io/team/box:1", "one");
        add_image(&home, "localhost/other:2", "two");
        home.kelp(&["tag", "quay.io/team/box:1", "again:3"]).succeed();
        let names = ["quay.io/team/box:1", "other:2", "again:3"];
        let (first, second) = (home.path("first"), home.path("second"));
        save(&home, format, &first, &names);
        let elsewhere = Home::new();
        let said = elsewhere.kelp(&["load", "-i", first.to_str().unwrap()]).succeed();
        for name in ["Loaded image: quay.io/team/box:1", "localhost/other:2", "localhost/again:3"] {
            assert!(said.contains(name), "{format}: {said}");
        }
        assert_eq!(images(&elsewhere), images(&home), "{format}");
        let run = ["run", "--rm", "--pull", "never", "localhost/again:3", "read", "/mark"];
        assert_eq!(elsewhere.kelp(&run).succeed(), "one\n");
        save(&elsewhere, format, &second, &names);
        if format == "oci-dir" {
            assert_eq!(fs::read(first.join("index.json")).unwrap(), fs::read(second.join("index.json")).unwrap());
        } else {
            assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "{format}");
        }
    }
}

#[test]
fn a_docker_archive_is_a_fixed_point_after_its_first_load() {
    let layers = [base_layer(), layer(&[Entry::File("mark", 0o644, 0, b"docker")])];
    let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"os": "linux", "architecture": image::ARCHITECTURE, "config": {"Entrypoint": ["/probe"]},
        "rootfs": {"type": "layers", "diff_ids": ids}})
    .to_string();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["box:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]);
    let manifest = manifest.to_string();
    let tar = layer(&[
        Entry::File("1/layer.tar", 0o644, 0, &layers[0]),
        Entry::File("2/layer.tar", 0o644, 0, &layers[1]),
        Entry::File("c.json", 0o644, 0, config.as_bytes()),
        Entry::File("manifest.json", 0o644, 0, manifest.as_bytes()),
    ]);
    let mut last = tar;
    let mut saved = Vec::new();
    for _ in 0..3 {
        let home = Home::new();
        assert_eq!(home.kelp(&["load"]).input(last).succeed(), "Loaded image: box:1\n");
        assert_eq!(images(&home)[0].2, digest(config.as_bytes()));
        last = home.kelp(&["save", "box:1"]).output().bytes;
        saved.push(last.clone());
    }
    assert!(saved[0] == saved[1] && saved[1] == saved[2]);
}

#[test]
fn a_name_keeps_the_index_that_it_stood_for() {
    let (home, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "test/box", &[base_layer()], &json!({}));
    let manifest = image::manifest(&[base_layer()], &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": image::MANIFEST_TYPE, "digest": digest(&manifest), "size": manifest.len(),
         "platform": {"os": "linux", "architecture": image::ARCHITECTURE}},
        {"mediaType": image::MANIFEST_TYPE, "digest": digest(b"not here"), "size": 8,
         "platform": {"os": "linux", "architecture": "s390x"}},
    ]})
    .to_string();
    let index_type = "application/vnd.oci.image.index.v1+json";
    registry.put_manifest("test/box", "multi", &digest(index.as_bytes()), index_type, index.as_bytes());
    let name = format!("{name}:multi");
    home.kelp(&["pull", "-q", &name]).succeed();
    drop(registry);
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let archive = home.path(format);
        save(&home, format, &archive, &[&name]);
        let elsewhere = Home::new();
        elsewhere.kelp(&["load", "-i", archive.to_str().unwrap()]).succeed();
        assert_eq!(images(&elsewhere), images(&home), "{format}");
        assert_eq!(images(&elsewhere)[0].1, digest(index.as_bytes()));
    }
}

#[test]
fn the_same_images_give_the_same_bytes() {
    let home = home_with("box:1", "one");
    let saved = |epoch: Option<&str>| {
        let mut call = home.kelp(&["save", "box:1"]);
        if let Some(epoch) = epoch {
            call.env("SOURCE_DATE_EPOCH", epoch);
        }
        call.output()
    };
    let plain = saved(None).bytes;
    assert_eq!(plain, saved(None).bytes);
    let dated = home.path("dated");
    fs::write(&dated, saved(Some("1700000000")).bytes).unwrap();
    assert!(entries(&dated).iter().all(|(_, time)| *time == 1_700_000_000));
    fs::write(&dated, plain).unwrap();
    assert!(entries(&dated).iter().all(|(_, time)| *time == 0));
    assert_eq!(saved(Some("today")).code, 125);
}

#[test]
fn an_id_is_saved_without_names_and_each_blob_once() {
    let home = home_with("box:1", "one");
    home.kelp(&["tag", "box:1", "box:2"]).succeed();
    let id = home.kelp(&["images", "-q", "--no-trunc"]).succeed().trim().to_owned();
    let archive = home.path("archive");
    save(&home, "docker-archive", &archive, &[&id]);
    let elsewhere = Home::new();
    let said = elsewhere.kelp(&["load", "-i", archive.to_str().unwrap()]).succeed();
    assert_eq!(said, format!("Loaded image ID: {id}\n"));
    save(&home, "docker-archive", &archive, &["box:1", &id, "box:2", "box:1"]);
    let names: Vec<String> = entries(&archive).into_iter().map(|(name, _)| name).collect();
    let mut unique = names.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    let said = Home::new().kelp(&["load", "-i", archive.to_str().unwrap()]).succeed();
    assert_eq!(said, "Loaded image: localhost/box:1\nLoaded image: localhost/box:2\n");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let home = home_with("box:1", "one");
    let dir = home.make_dir("out");
    let archive = dir.join("archive");
    fs::write(&archive, "before").unwrap();
    home.kelp(&["save", "-o", archive.to_str().unwrap(), "box:1", "nobody"]).refuse(1, &["nobody"]);
    assert_eq!(fs::read(&archive).unwrap(), b"before");
    let blobs = home.data().join("blobs/sha256");
    let largest = fs::read_dir(&blobs).unwrap().flatten().max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    let whole = fs::read(largest.path()).unwrap();
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    fs::write(largest.path(), damaged).unwrap();
    home.kelp(&["save", "-o", archive.to_str().unwrap(), "box:1"]).refuse(1, &["is damaged", "hint"]);
    assert_eq!(fs::read(&archive).unwrap(), b"before");
    fs::remove_file(largest.path()).unwrap();
    home.kelp(&["save", "-o", archive.to_str().unwrap(), "box:1"]).refuse(1, &["is missing", "hint"]);
    fs::write(largest.path(), whole).unwrap();
    home.kelp(&["save", "-o", archive.to_str().unwrap(), "box:1"]).succeed();
    assert!(entries(&archive).len() > 4);
    let left: Vec<_> = fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["archive"]);
    // A device is written to, not replaced.
    home.kelp(&["save", "-o", "/dev/null", "box:1"]).succeed();
}

#[test]
fn a_layout_is_added_to() {
    let home = home_with("box:1", "one");
    add_image(&home, "box:2", "two");
    let layout = home.path("shared");
    save(&home, "oci-dir", &layout, &["box:1"]);
    let one = fs::read(layout.join("index.json")).unwrap();
    save(&home, "oci-dir", &layout, &["box:1"]);
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), one, "nothing to do");
    save(&home, "oci-dir", &layout, &["box:2"]);
    // The name moves to another image.
    home.kelp(&["tag", "box:2", "box:1"]).succeed();
    save(&home, "oci-dir", &layout, &["box:1"]);
    let elsewhere = Home::new();
    elsewhere.kelp(&["load", "-i", layout.to_str().unwrap()]).succeed();
    let loaded = images(&elsewhere);
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].2, loaded[1].2);
    // A blob that was damaged is written again.
    let blob = fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten().next().unwrap().path();
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, vec![0; whole.len()]).unwrap();
    home.kelp(&["tag", "box:1", "box:3"]).succeed();
    for name in ["box:1", "box:2", "box:3"] {
        save(&home, "oci-dir", &layout, &[name]);
    }
    let hidden = |name: &str| name.starts_with(".kelp-");
    let names = fs::read_dir(&layout).unwrap().chain(fs::read_dir(layout.join("blobs/sha256")).unwrap());
    assert!(!names.flatten().any(|entry| hidden(entry.file_name().to_str().unwrap())));
    let other = home.make_dir("not-a-layout");
    fs::write(other.join("file"), "x").unwrap();
    home.kelp(&["save", "--format", "oci-dir", "-o", other.to_str().unwrap(), "box:1"]).refuse(1, &["image layout"]);
}

#[test]
fn many_write_into_one_layout() {
    let home = home_with("box:0", "one");
    let layout = home.path("shared");
    let names: Vec<String> = (0..4).map(|number| format!("box:{number}")).collect();
    for name in &names {
        home.kelp(&["tag", "box:0", name]).succeed();
    }
    let to = layout.to_str().unwrap();
    let save = |name: &String| home.kelp(&["save", "--format", "oci-dir", "-o", to, name]).start();
    let mut all: Vec<_> = names.iter().map(save).collect();
    for running in &mut all {
        let output = running.wait();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let elsewhere = Home::new();
    elsewhere.kelp(&["load", "-i", to]).succeed();
    assert_eq!(images(&elsewhere).len(), 4);
}
