//! Read-only stores: image layouts that somebody else writes, read in place;
//! and what is left when parts of a store are gone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::image::{self, Entry, base_layer, digest, layer, publish};
use super::harness::registry::Registry;
use super::harness::{Call, Home};

/// A home and a store with the image `docker.io/library/box:1`.
struct Shared {
    home: Home,
    store: PathBuf,
}

impl Shared {
    fn new() -> Self {
        let home = Home::new();
        let store = home.path("store");
        save(&store, "docker.io/library/box:1", "one");
        Self { home, store }
    }

    /// kelp with the store on its command line.
    fn kelp(&self, arguments: &[&str]) -> Call {
        let option = format!("ro:{}", self.store.display());
        self.home.kelp(&[&["--image-store", &option], arguments].concat())
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let mut blobs: Vec<PathBuf> =
            fs::read_dir(self.store.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
        blobs.sort_by_key(|path| path.metadata().unwrap().len());
        blobs
    }

    /// The probe says what it finds in /mark.
    fn mark(&self, name: &str) -> String {
        self.kelp(&["run", "--rm", "--pull", "never", name, "read", "/mark"]).succeed()
    }

    fn images(&self) -> Value {
        serde_json::from_str(&self.kelp(&["images", "--format", "json"]).succeed()).unwrap()
    }
}

/// Adds an image to a store, as another user would.
fn save(store: &Path, name: &str, mark: &str) {
    let author = Home::new();
    let layout = author.make_dir("layout");
    let layers = [base_layer(), layer(&[Entry::File("mark", 0o644, 0, mark.as_bytes())])];
    image::write_layout(&layout, name, &layers, &json!({"Entrypoint": ["/probe"]}));
    author.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    author.kelp(&["save", "--format", "oci-dir", "-o", store.to_str().unwrap(), name]).succeed();
}

#[test]
fn an_image_of_a_store_runs_at_once() {
    let shared = Shared::new();
    let before: Vec<(PathBuf, fs::Metadata)> =
        shared.blobs().into_iter().map(|path| (path.clone(), path.metadata().unwrap())).collect();
    assert_eq!(shared.mark("box:1"), "one\n");
    let rows = shared.images();
    assert_eq!(rows[0]["store"], shared.store.to_str().unwrap());
    let table = shared.kelp(&["images"]).succeed();
    assert!(table.contains("R/O") && table.contains("true"), "{table}");
    let id = rows[0]["id"].as_str().unwrap();
    for name in
        ["box:1", "docker.io/library/box:1", id, &id[7..19], &format!("box@{}", rows[0]["digest"].as_str().unwrap())]
    {
        assert_eq!(shared.mark(name), "one\n", "{name}");
    }
    // Without the store there is nothing, and nothing was copied but documents.
    assert_eq!(shared.home.kelp(&["images", "-q"]).succeed(), "");
    shared.home.kelp(&["run", "--rm", "--pull", "never", "box:1"]).refuse(125, &["box:1"]);
    assert_eq!(shared.home.entries("blobs/sha256").len(), 2);
    assert_eq!(shared.home.entries("tags"), [""; 0]);
    use std::os::unix::fs::MetadataExt;
    for (path, then) in before {
        let now = path.metadata().unwrap();
        assert_eq!((now.ino(), now.mtime(), now.mode()), (then.ino(), then.mtime(), then.mode()));
    }
}

#[test]
fn stores_are_named_by_option_environment_and_settings() {
    let shared = Shared::new();
    let (home, ro) = (&shared.home, format!("ro:{}", shared.store.display()));
    let listed = |call: &mut Call| call.succeed().lines().count();
    assert_eq!(listed(home.kelp(&["images", "-q"]).env("KELP_IMAGE_STORE", &ro)), 1);
    assert_eq!(listed(&mut home.kelp(&[&format!("--image-store={ro}"), "images", "-q"])), 1);
    let settings = home.path("home/.config/kelp");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("config.toml"), format!("image-stores = [\"{ro}\"]\n")).unwrap();
    assert_eq!(listed(&mut home.kelp(&["images", "-q"])), 1);
    assert_eq!(listed(&mut home.kelp(&["--image-store", "none", "images", "-q"])), 0);
    // The same store twice is one.
    assert_eq!(listed(&mut home.kelp(&["--image-store", &ro, "images"])), 2);
    fs::write(settings.join("config.toml"), "image-store = []\n").unwrap();
    home.kelp(&["images"]).refuse(1, &["no setting \"image-store\"", "did you mean \"image-stores\"?"]);
    home.kelp(&["ps"]).succeed();
    fs::remove_file(settings.join("config.toml")).unwrap();
    for (store, why) in [
        ("ro:relative", "not an absolute path"),
        ("rw:/srv", "are read, not written"),
        ("/srv", "ro:DIRECTORY"),
        ("ro:", "not an absolute path"),
    ] {
        home.kelp(&["--image-store", store, "images"]).refuse(125, &[why]);
    }
    home.kelp(&["--image-store"]).refuse(125, &["ro:DIRECTORY"]);
    home.kelp(&["images"]).env("KELP_IMAGE_STORE", "srv").refuse(125, &["KELP_IMAGE_STORE"]);
    // What is no store is said, and the rest goes on.
    for (path, why) in [("/no/such/store", "No such file"), ("/usr", "not an image layout")] {
        let option = format!("ro:{path}");
        let said = home.kelp(&["--image-store", &option, "images"]).output();
        assert!(said.code == 0 && said.stderr.contains(why), "{}", said.stderr);
        home.kelp(&["--image-store", &option, "run", "--rm", "box:1"]).refuse(125, &[path, why, "--image-store none"]);
    }
}

#[test]
fn our_own_store_goes_first_and_stores_keep_their_order() {
    let shared = Shared::new();
    let second = shared.home.path("second");
    save(&second, "docker.io/library/box:1", "two");
    save(&second, "docker.io/library/box:2", "two");
    let second = format!("ro:{}", second.display());
    let run = |name: &str| {
        let mut call = shared.kelp(&["--image-store", &second]);
        call.args(&["run", "--rm", "--pull", "never", name, "read", "/mark"]).succeed()
    };
    assert_eq!(run("box:1"), "one\n");
    assert_eq!(run("box:2"), "two\n");
    let layout = shared.home.make_dir("own");
    let layers = [base_layer(), layer(&[Entry::File("mark", 0o644, 0, b"own")])];
    image::write_layout(&layout, "docker.io/library/box:1", &layers, &json!({"Entrypoint": ["/probe"]}));
    shared.home.kelp(&["load", "-i", layout.to_str().unwrap()]).succeed();
    assert_eq!(run("box:1"), "own\n");
}

#[test]
fn what_would_change_a_store_is_refused() {
    let shared = Shared::new();
    for words in [["rmi", "box:1"], ["untag", "box:1"]] {
        shared.kelp(&words).refuse(1, &["read-only store", shared.store.to_str().unwrap()]);
    }
    shared.kelp(&["rmi", "-af"]).succeed();
    shared.kelp(&["image", "prune", "-af"]).succeed();
    assert_eq!(shared.blobs().len(), 4);
    assert_eq!(shared.mark("box:1"), "one\n");
    // Read by others, who may not write.
    for path in shared.blobs().iter().chain([&shared.store.join("index.json"), &shared.store.join("oci-layout")]) {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn a_name_of_our_own_refers_to_the_layers_of_the_store() {
    let shared = Shared::new();
    shared.kelp(&["tag", "box:1", "mine"]).succeed();
    assert_eq!(shared.mark("localhost/mine"), "one\n");
    let archive = shared.home.path("archive");
    shared.kelp(&["save", "-o", archive.to_str().unwrap(), "mine"]).succeed();
    // Unpacked, it runs without the store, and it is still listed.
    let run = ["run", "--rm", "--pull", "never", "mine", "read", "/mark"];
    fs::rename(&shared.store, shared.home.path("gone")).unwrap();
    assert_eq!(shared.home.kelp(&run).succeed(), "one\n");
    assert!(shared.home.kelp(&["images"]).succeed().contains("localhost/mine"));
    let to = shared.home.path("again");
    shared.home.kelp(&["save", "-o", to.to_str().unwrap(), "mine"]).refuse(1, &["is missing", "--image-store"]);
    shared.home.kelp(&["rmi", "mine"]).succeed();
    assert_eq!(shared.home.entries("layers").len(), 1);
    shared.home.kelp(&run).refuse(125, &["mine"]);
    // Loaded from what was saved, it needs no store.
    shared.home.kelp(&["load", "-i", archive.to_str().unwrap()]).succeed();
    assert_eq!(shared.home.kelp(&run).succeed(), "one\n");
}

#[test]
fn unpacked_layers_of_a_store_outlive_a_collection() {
    let shared = Shared::new();
    let maps = || shared.home.entries("layers");
    let unpacked = || maps().iter().map(|map| shared.home.entries(&format!("layers/{map}")).len()).sum::<usize>();
    shared.mark("box:1");
    assert_eq!(unpacked(), 2);
    let other = shared.home.make_dir("other");
    image::write_layout(&other, "other", &[layer(&[Entry::File("x", 0o644, 0, b"x")])], &json!({}));
    let collect = |call: &mut Call| call.succeed();
    for _ in 0..2 {
        shared.home.kelp(&["load", "-q", "-i", other.to_str().unwrap()]).succeed();
        collect(&mut shared.kelp(&["rmi", "other"]));
        assert_eq!(unpacked(), 2);
    }
    // A container keeps them even where the store is not named.
    shared.kelp(&["run", "--name", "kept", "--pull", "never", "box:1", "exit", "0"]).succeed();
    shared.home.kelp(&["load", "-q", "-i", other.to_str().unwrap()]).succeed();
    collect(&mut shared.home.kelp(&["rmi", "other"]));
    assert_eq!(unpacked(), 2);
    shared.home.kelp(&["rm", "kept"]).succeed();
    shared.home.kelp(&["load", "-q", "-i", other.to_str().unwrap()]).succeed();
    collect(&mut shared.home.kelp(&["rmi", "other"]));
    assert_eq!(unpacked(), 0);
    assert_eq!(shared.mark("box:1"), "one\n");
}

#[test]
fn a_pull_takes_layers_from_a_store() {
    let shared = Shared::new();
    let registry = Registry::start();
    let layers = [base_layer(), layer(&[Entry::File("mark", 0o644, 0, b"one")])];
    let name = publish(&registry, "team/box", &layers, &json!({"Entrypoint": ["/probe"]}));
    shared.kelp(&["pull", "-q", &name]).succeed();
    let layer_digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let fetched = |digest: &String| registry.seen().iter().any(|request| request.path.contains(digest.as_str()));
    assert!(!layer_digests.iter().any(fetched), "a layer that is in the store was fetched");
    assert_eq!(shared.mark(&name), "one\n");
    // Without the store the layers are fetched.
    let elsewhere = Home::new();
    elsewhere.kelp(&["pull", "-q", &name]).succeed();
    assert!(layer_digests.iter().all(fetched));
}

#[test]
fn a_store_is_not_trusted() {
    type Damage = fn(&Shared);
    let damage: [(&str, Damage); 5] = [
        ("layers of it are read from the store", |shared| {
            // A layer: found out while it is unpacked.
            let path = shared.blobs().pop().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("damaged", |shared| {
            let path = shared.blobs().swap_remove(0);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, String::from_utf8(bytes).unwrap().replace("/probe", "/evil!")).unwrap();
        }),
        ("is missing", |shared| {
            let path = shared.blobs().pop().unwrap();
            fs::rename(&path, shared.home.path("moved")).unwrap();
            symlink(shared.home.path("moved"), path).unwrap();
        }),
        ("symbolic link", |shared| {
            fs::rename(shared.store.join("index.json"), shared.home.path("moved")).unwrap();
            symlink(shared.home.path("moved"), shared.store.join("index.json")).unwrap();
        }),
        ("not an image layout", |shared| {
            fs::remove_file(shared.store.join("index.json")).unwrap();
            nix::unistd::mkfifo(&shared.store.join("index.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (why, damage) in damage {
        let shared = Shared::new();
        damage(&shared);
        shared.kelp(&["run", "--rm", "--pull", "never", "box:1", "read", "/mark"]).refuse(125, &[why]);
        let said = shared.kelp(&["images"]).output();
        assert_eq!(said.code, 0, "{why}: {}", said.stderr);
    }
}

#[test]
fn readers_see_a_whole_list_while_it_is_replaced() {
    let shared = Shared::new();
    let home = &shared.home;
    let layout = home.make_dir("own");
    image::write_layout(&layout, "docker.io/library/box:0", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 2..10 {
                let name = format!("docker.io/library/box:{number}");
                home.kelp(&["tag", "box:0", &name]).succeed();
                let to = shared.store.to_str().unwrap();
                home.kelp(&["save", "--format", "oci-dir", "-o", to, &name]).succeed();
            }
        });
        while !writer.is_finished() {
            assert_eq!(shared.mark("box:1"), "one\n");
        }
        writer.join().unwrap();
    });
    let rows = shared.images();
    let in_store = rows.as_array().unwrap().iter().filter(|row| !row["store"].is_null()).count();
    assert_eq!(in_store, 9);
}

#[test]
fn parts_that_are_gone_are_named_with_what_helps() {
    let home = Home::new();
    let layout = home.make_dir("layout");
    image::write_layout(&layout, "box:1", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    let load = || home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    load();
    let run = || home.kelp(&["run", "--rm", "--pull", "never", "box:1", "echo", "runs"]);
    let blobs = home.data().join("blobs/sha256");
    let mut paths: Vec<PathBuf> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_by_key(|path| path.metadata().unwrap().len());
    // A layer that is unpacked needs its blob no more; unpacked anew, it does.
    let largest = paths.pop().unwrap();
    let bytes = fs::read(&largest).unwrap();
    fs::remove_file(&largest).unwrap();
    assert_eq!(run().succeed(), "runs\n");
    let layers = home.data().join("layers");
    let trash = home.data().join("trash");
    fs::create_dir_all(&trash).unwrap();
    fs::rename(&layers, trash.join("layers")).unwrap();
    run().refuse(125, &["is missing", "pull or load the image again"]);
    fs::write(&largest, bytes).unwrap();
    assert_eq!(run().succeed(), "runs\n");
    // A document: listed as damaged, and everything else goes on.
    fs::remove_file(&paths[0]).unwrap();
    run().refuse(125, &["is missing", "hint"]);
    let said = home.kelp(&["images"]).output();
    assert!(said.code == 0 && said.stdout.contains("box"), "{} {}", said.stdout, said.stderr);
    assert!(said.stderr.contains("is damaged"), "{}", said.stderr);
    load();
    assert_eq!(run().succeed(), "runs\n");
    // A tag's file.
    let tag = home.data().join("tags").join(&home.entries("tags")[0]);
    fs::write(&tag, "{").unwrap();
    let said = home.kelp(&["images"]).output();
    assert!(said.code == 0 && said.stderr.contains("cannot read tag"), "{}", said.stderr);
    run().refuse(125, &["hint"]);
    load();
    assert_eq!(run().succeed(), "runs\n");
}
