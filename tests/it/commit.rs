//! Images from containers, and what is in their layers; what `diff` says of
//! both.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::harness::image::{self, Entry, base_layer, digest, layer, publish};
use super::harness::needs::{needs, works};
use super::harness::registry::Registry;
use super::harness::{Home, kelp_binary};

/// The layer below the ones that are committed.
fn lower() -> Vec<u8> {
    layer(&[
        Entry::Directory("srv", 0o755, 0),
        Entry::File("srv/changed", 0o644, 0, b"below"),
        Entry::File("srv/gone", 0o644, 0, b"below"),
        Entry::File("srv/same", 0o644, 0, b"below"),
        Entry::Directory("tree", 0o755, 0),
        Entry::File("tree/a", 0o644, 0, b"below"),
        Entry::File("tree/b", 0o644, 0, b"below"),
        Entry::Directory("etc", 0o755, 0),
        Entry::File("etc/motd", 0o644, 0, b"below"),
    ])
}

/// A home with the image `box:1`.
fn home_with(config: &Value) -> Home {
    let home = Home::new();
    let layout = home.make_dir("layout");
    image::write_layout(&layout, "box:1", &[base_layer(), lower()], config);
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
    home
}

fn probe() -> Value {
    json!({"Entrypoint": ["/probe"]})
}

/// Runs `words` of the probe in a container called `box`.
fn run(home: &Home, options: &[&str], words: &[&str]) {
    let said = home.kelp(&[&["run", "--name", "box"], options, &["box:1"], words].concat()).succeed();
    assert!(!said.contains("error"), "{said}");
}

fn commit(home: &Home, arguments: &[&str]) -> String {
    home.kelp(&[&["commit", "-q"], arguments].concat()).succeed().trim_end().to_owned()
}

fn inspect(home: &Home, name: &str) -> Value {
    let said = home.kelp(&["inspect", "--type", "image", name]).succeed();
    serde_json::from_str::<Value>(&said).unwrap()[0].clone()
}

/// Config and history of an image, from its blob.
fn config(home: &Home, id: &str) -> Value {
    let blob = home.data().join("blobs/sha256").join(id.strip_prefix("sha256:").unwrap());
    serde_json::from_slice(&fs::read(blob).unwrap()).unwrap()
}

/// The topmost layer of an image: it is stored plain, under its diff id.
fn top_layer(home: &Home, id: &str) -> Vec<u8> {
    let config = config(home, id);
    let diff_id = config["rootfs"]["diff_ids"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let blob = home.data().join("blobs/sha256").join(diff_id.strip_prefix("sha256:").unwrap());
    let bytes = fs::read(blob).unwrap();
    assert_eq!(digest(&bytes), diff_id);
    bytes
}

/// Name, owner and mode of what a tar holds, with its extended records.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let records = entry.pax_extensions().unwrap().map(|records| {
            records
                .map(|record| record.unwrap())
                .map(|record| format!(" {}={}", record.key().unwrap(), hex(record.value_bytes())))
                .collect::<String>()
        });
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let header = entry.header();
        let (uid, gid, mode) = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
        let link = entry.link_name_bytes().map(|name| format!(" -> {}", String::from_utf8_lossy(&name)));
        lines.push(format!("{path} {uid}:{gid} {mode:o}{}{}", link.unwrap_or_default(), records.unwrap_or_default()));
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a container changes in most tests.
const CHANGES: &str = "write /srv/changed above + remove /srv/gone + chown /srv/same 0 0 \
    + mkdir /home/web/new + write /home/web/new/file x + chown /home/web/new/file 1000 29 \
    + chmod /home/web/new/file 4750 + hard-link /home/web/new/file /home/web/new/link \
    + remove /tree + mkdir /tree + write /tree/c above + chmod /tree/c 600";

fn changes() -> Vec<&'static str> {
    CHANGES.split(' ').collect()
}

#[test]
fn an_image_has_what_its_container_changed() {
    let home = home_with(&probe());
    run(&home, &[], &changes());
    let said = home.kelp(&["diff", "box"]).succeed();
    let expected = "\
        C /home\nC /home/web\nA /home/web/new\nA /home/web/new/file\nA /home/web/new/link\n\
        C /srv\nC /srv/changed\nD /srv/gone\nC /tree\nD /tree/a\nD /tree/b\nA /tree/c\n";
    assert_eq!(said, expected);
    let id = commit(&home, &["box", "next:2"]);
    let expected = [
        "home/ 0:0 755",
        "home/web/ 1000:1000 750",
        "home/web/new/ 0:0 755",
        "home/web/new/file 1000:29 4750",
        "home/web/new/link 1000:29 4750 -> home/web/new/file",
        "srv/ 0:0 755",
        "srv/.wh.gone 0:0 0",
        "srv/changed 0:0 644",
        "tree/ 0:0 755",
        "tree/.wh..wh..opq 0:0 0",
        "tree/c 0:0 600",
    ];
    assert_eq!(entries(&top_layer(&home, &id)), expected);
    let mut call = home.kelp(&["run", "--rm", "next:2", "read", "/srv/changed", "+", "read", "/srv/gone", "+"]);
    call.args(&["list", "/tree", "+", "stat", "/home/web/new/link", "+", "read", "/srv/same"]);
    let expected = "above\nerror: ENOENT\nc\n1000:29 104750 1 bytes\nbelow\n";
    assert_eq!(call.succeed(), expected);
    // The new image's topmost layer is all that it differs by from the old one, and from its container in nothing.
    assert_eq!(home.kelp(&["diff", "next:2"]).succeed(), home.kelp(&["diff", "box"]).succeed());
    assert_eq!(home.kelp(&["diff", "next:2", "box:1"]).succeed(), home.kelp(&["diff", "box"]).succeed());
    assert_eq!(home.kelp(&["diff", "next:2", "box"]).succeed(), "");
    assert_eq!(home.kelp(&["diff", "box", "next:2"]).succeed(), "");
    let back = home.kelp(&["diff", "box:1", "box"]).succeed();
    assert!(back.contains("A /srv/gone\n") && back.contains("D /home/web/new\n"), "{back}");
    home.kelp(&["rm", "box"]).succeed();
}

#[test]
fn a_container_that_changed_nothing_adds_no_layer() {
    let home = home_with(&probe());
    run(&home, &["-v", "data:/made/for/it", "--tmpfs", "/also"], &["chown", "/srv/same", "0", "0"]);
    assert_eq!(home.kelp(&["diff", "box"]).succeed(), "");
    let id = commit(&home, &["-m", "nothing", "box"]);
    let config = config(&home, &id);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    assert_eq!(
        config["history"],
        json!([{"comment": "nothing", "created": config["created"],
        "created_by": "chown /srv/same 0 0", "empty_layer": true}])
    );
    assert_eq!(home.kelp(&["run", "--rm", "--pull", "never", &id, "echo", "runs"]).succeed(), "runs\n");
}

#[test]
fn the_image_runs_as_its_container_did() {
    let config = json!({
        "Entrypoint": ["/probe"], "Cmd": ["echo", "author"], "Env": ["A=author", "B=author"], "User": "web",
        "Labels": {"a": "author", "b": "author"}, "WorkingDir": "/srv", "StopSignal": "SIGUSR1",
        "ExposedPorts": {"80/tcp": {}},
    });
    let home = home_with(&config);
    let options = ["-e", "B=mine", "-e", "C=mine", "-u", "0:29", "-l", "b=mine", "-w", "/etc", "-v", "/anonymous"];
    run(&home, &options, &["echo", "mine"]);
    commit(&home, &["-a", "Ada <ada@example.org>", "-m", "a remark", "box", "mine"]);
    let image = inspect(&home, "mine");
    assert_eq!((&image["Author"], &image["Comment"]), (&json!("Ada <ada@example.org>"), &json!("a remark")));
    let found = &image["Config"];
    assert_eq!(found["Cmd"], json!(["echo", "mine"]));
    assert_eq!(found["Entrypoint"], json!(["/probe"]));
    assert_eq!(found["Env"], json!(["A=author", "B=mine", "C=mine"]));
    assert_eq!((&found["User"], &found["WorkingDir"]), (&json!("0:29"), &json!("/etc")));
    assert_eq!(found["Labels"], json!({"a": "author", "b": "mine"}));
    assert_eq!((&found["StopSignal"], &found["Volumes"]), (&json!("SIGUSR1"), &json!({"/anonymous": {}})));
    assert_eq!(found["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(home.kelp(&["run", "--rm", "mine"]).succeed(), "mine\n");
    // An entrypoint takes the author's arguments away, here as with run.
    home.kelp(&["run", "--name", "other", "--entrypoint", "/probe", "box:1", "exit", "0"]).succeed();
    commit(&home, &["-c", "ENV D=${B}", "-c", r#"CMD ["echo", "changed"]"#, "other", "changed"]);
    let found = &inspect(&home, "changed")["Config"];
    assert_eq!((&found["Cmd"], &found["User"]), (&json!(["echo", "changed"]), &json!("web")));
    assert_eq!(found["Env"], json!(["A=author", "B=author", "D=author"]));
    commit(&home, &["-c", r#"ENTRYPOINT ["/probe", "echo"]"#, "other", "changed"]);
    assert_eq!(inspect(&home, "changed")["Config"]["Cmd"], Value::Null);
    // The name has moved on; the image that had it is kept without one.
    let list = home.kelp(&["images", "-q"]).succeed();
    assert_eq!(list.lines().count(), 4, "{list}");
}

#[test]
fn a_container_is_committed_while_it_runs() {
    let home = home_with(&probe());
    let mut call = home.kelp(&["run", "--name", "box", "box:1", "write", "/srv/changed", "now", "+", "signals"]);
    let mut running = call.start();
    assert_eq!((running.line().as_str(), running.line().as_str()), ("ok", "ready"));
    assert!(super::harness::eventually(|| home.containers().len() == 1));
    commit(&home, &["box", "next"]);
    assert_eq!(home.kelp(&["run", "--rm", "next", "read", "/srv/changed"]).succeed(), "now\n");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait().code, 40);
}

#[test]
fn the_same_files_make_the_same_image() {
    let home = home_with(&probe());
    run(&home, &[], &changes());
    home.kelp(&["run", "--name", "again", "box:1"]).args(&changes()).succeed();
    let commit = |name: &str, epoch: &str| {
        home.kelp(&["commit", "-q", name]).env("SOURCE_DATE_EPOCH", epoch).succeed().trim_end().to_owned()
    };
    let id = commit("box", "1600000000");
    assert_eq!(commit("again", "1600000000"), id);
    assert_ne!(commit("again", "1600000001"), id);
    let config = config(&home, &id);
    assert_eq!(config["created"], "2020-09-13T12:26:40Z");
    let tar = top_layer(&home, &id);
    let mut archive = tar::Archive::new(&tar[..]);
    let newest = archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).max();
    assert_eq!(newest, Some(1_600_000_000));
    home.kelp(&["commit", "box"]).env("SOURCE_DATE_EPOCH", "soon").refuse(125, &["SOURCE_DATE_EPOCH"]);
}

#[test]
fn a_layer_that_is_unpacked_and_packed_again_is_the_same() {
    let home = home_with(&probe());
    run(&home, &[], &changes());
    let id = commit(&home, &["box", "next"]);
    let layer = top_layer(&home, &id);
    // As the topmost layer of another image, pulled into another home.
    let (elsewhere, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "test/next", &[base_layer(), lower(), layer], &probe());
    elsewhere.kelp(&["pull", "-q", &name]).succeed();
    assert_eq!(elsewhere.kelp(&["diff", &name]).succeed(), home.kelp(&["diff", "box"]).succeed());
    elsewhere.kelp(&["run", "--name", "box", &name, "exit", "0"]).succeed();
    assert_eq!(elsewhere.kelp(&["diff", "box"]).succeed(), "");
    let base = publish(&registry, "test/box", &[base_layer(), lower()], &probe());
    elsewhere.kelp(&["pull", "-q", &base]).succeed();
    assert_eq!(elsewhere.kelp(&["diff", &name, &base]).succeed(), home.kelp(&["diff", "box"]).succeed());
}

#[test]
fn owners_are_the_containers_whatever_they_are_outside() {
    for map in ["host", "keep-id", "keep-id:uid=7,gid=8", "nomap"] {
        let home = home_with(&probe());
        let write = ["write", "/file", "x", "+", "chown", "/file", "1000", "29", "+", "mkdir", "/closed", "+", "write"];
        let more = ["/closed/x", "x", "+", "chown", "/closed", "5", "6", "+", "chmod", "/closed", "000"];
        run(&home, &["--userns", map, "-u", "0:0"], &[&write[..], &more].concat());
        let id = commit(&home, &["box", "next"]);
        let found = entries(&top_layer(&home, &id));
        assert_eq!(found, ["closed/ 5:6 0", "closed/x 0:0 644", "file 1000:29 644"], "{map}");
        let said =
            home.kelp(&["run", "--rm", "--userns", map, "next", "stat", "/file", "+", "stat", "/closed"]).succeed();
        assert_eq!(said, "1000:29 100644 1 bytes\n5:6 40000 4096 bytes\n", "{map}");
    }
}

#[test]
fn one_id_is_enough_for_a_commit() {
    needs!(works("/usr/bin/unshare", &["-Ur", "true"]), "unshare -Ur does not work here");
    let home = Home::new();
    let layout = home.make_dir("layout");
    image::write_layout(&layout, "box:1", &[base_layer(), lower()], &probe());
    // One script, for each call of unshare makes another namespace, and with it other ids.
    let script = format!(
        "k={}; $k load -q -i {} && $k run --name box box:1 write /file x + chown /file 5 6 + remove /tree && \
         $k diff box && $k commit -q box next && $k run --rm next stat /file + stat /tree && $k export box | wc -c",
        kelp_binary().display(),
        layout.display()
    );
    let output = home.call(Path::new("/usr/bin/unshare"), &["-Ur", "sh", "-euc", &script]).output();
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    for line in ["A /file", "D /tree", "0:0 100644 1 bytes", "error: ENOENT"] {
        assert!(output.stdout.lines().any(|other| other == line), "{line}: {}", output.stdout);
    }
    // What was made with other ids is not read with these.
    home.kelp(&["diff", "box"]).refuse(1, &["the ids that are mapped"]);
}

#[test]
fn attributes_arrive_without_what_is_the_hosts() {
    let home = home_with(&probe());
    // CAP_NET_RAW, effective and permitted, as setcap(8) writes it inside.
    let capability = "0100000200200000000000000000000000000000";
    let words = [
        "write",
        "/ping",
        "x",
        "+",
        "set-attribute",
        "/ping",
        "security.capability",
        capability,
        "+",
        "write",
        "/note",
        "x",
        "+",
        "set-attribute",
        "/note",
        "user.note",
        "6869",
        "+",
        "set-attribute",
        "/note",
        "user.overlay.opaque",
        "79",
    ];
    run(&home, &[], &words);
    let id = commit(&home, &["box"]);
    let found = entries(&top_layer(&home, &id));
    let capability = format!("ping 0:0 644 SCHILY.xattr.security.capability={capability}");
    assert_eq!(found, ["note 0:0 644 SCHILY.xattr.user.note=6869", capability.as_str()]);
}

#[test]
fn a_directory_becomes_one_layer() {
    let home = Home::new();
    home.run_kept(&["--name", "box"], &["write", "/data/file", "x", "+", "remove", "/etc/group"]).succeed();
    assert_eq!(home.kelp(&["diff", "box"]).succeed(), "C /data\nA /data/file\nC /etc\nD /etc/group\n");
    let id = commit(&home, &["-c", r#"ENTRYPOINT ["/probe"]"#, "box", "whole"]);
    let names: Vec<String> =
        entries(&top_layer(&home, &id)).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["data/", "data/file", "etc/", "etc/passwd", "home/", "home/web/", "probe", "tmp/"]);
    assert_eq!(home.kelp(&["run", "--rm", "whole", "read", "/data/file"]).succeed(), "x\n");
    let root = home.kelp(&["run", "--name", "root", "--rootfs", "/", "true"]).output();
    assert_eq!(root.code, 0, "{}", root.stderr);
    for verb in ["commit", "export", "diff"] {
        home.kelp(&[verb, "root"]).refuse(1, &["root", "--rootfs /"]);
    }
}

#[test]
fn diff_is_for_programs_too() {
    let home = home_with(&probe());
    run(&home, &[], &["write", "/new", "x", "+", "remove", "/srv/gone", "+", "write", "/a\u{1b}[2J", "x"]);
    let said: Value = serde_json::from_str(&home.kelp(&["diff", "--format", "json", "box"]).succeed()).unwrap();
    assert_eq!(said, json!({"changed": ["/srv"], "added": ["/a\u{1b}[2J", "/new"], "deleted": ["/srv/gone"]}));
    assert_eq!(home.kelp(&["diff", "box"]).succeed(), "A /a\\u{1b}[2J\nA /new\nC /srv\nD /srv/gone\n");
    let said = home.kelp(&["diff", "box:1"]).succeed();
    assert!(said.contains("A /srv/gone\n") && said.contains("C /etc\n"), "{said}");
    home.kelp(&["diff", "nobody"]).refuse(1, &["nobody"]);
    home.kelp(&["diff", "box", "nobody"]).refuse(1, &["nobody"]);
}

#[test]
fn what_cannot_be_committed_is_refused_and_leaves_nothing() {
    let home = home_with(&probe());
    run(&home, &[], &["write", "/.wh.motd", "x"]);
    let before = home.entries("blobs/sha256").len();
    home.kelp(&["commit", "box"]).refuse(1, &["commit container \"box\"", "\".wh.motd\"", "rename it"]);
    home.kelp(&["commit", "--squash", "box"]).refuse(125, &["--squash"]);
    home.kelp(&["commit", "nobody"]).refuse(1, &["nobody"]);
    home.kelp(&["commit", "box", "UPPER"]).refuse(125, &["UPPER"]);
    home.kelp(&["commit", "-c", "RUN true", "box"]).refuse(125, &["RUN"]);
    home.kelp(&["rmi", "-f", "box:1"]).succeed();
    home.kelp(&["commit", "--pause=false", "box"]).refuse(1, &["\"box:1\" was removed", "kelp pull"]);
    assert!(home.entries("blobs/sha256").len() < before);
    assert_eq!(home.entries("staging"), [""; 0]);
}
