//! What users see of the images they have: listings, templates, histories.

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{Entry, layer, write_layout_of};

/// A small layer that no other test image has.
fn small(name: &str, bytes: usize) -> Vec<u8> {
    layer(&[Entry::File(name, 0o644, 0, &vec![b'x'; bytes])])
}

/// Loads an image of these layers.
fn load(home: &Home, name: &str, layers: &[Vec<u8>], document: &Value) {
    let layout = home.make_dir(&format!("layout-{}", name.replace(['/', ':'], "-")));
    write_layout_of(&layout, name, layers, document);
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
}

/// A day of January 2024.
fn made(day: u32) -> Value {
    json!({"created": format!("2024-01-{day:02}T00:00:00Z"), "config": {"Labels": {"day": day.to_string()}}})
}

fn lines(home: &Home, arguments: &[&str]) -> Vec<String> {
    home.kelp(arguments).succeed().lines().map(str::to_owned).collect()
}

#[test]
fn templates_print_what_dockers_scripts_expect() {
    let home = Home::new();
    let config = json!({"Cmd": ["sh", "-c"], "Env": ["A=b"], "Labels": {"role": "web"}});
    load(&home, "box:1", &[small("f", 1000)], &json!({"config": config}));
    home.kelp(&["tag", "box:1", "box:2"]).succeed();
    let said = home.kelp(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"]).succeed();
    assert_eq!(said, "localhost/box:1 1kB\nlocalhost/box:2 1kB\n");
    let said = home.kelp(&["images", "--format", "table {{.Tag}}\\t{{.Repository}}"]).succeed();
    assert_eq!(said, "TAG   REPOSITORY\n1     localhost/box\n2     localhost/box\n");
    let said = home.kelp(&["images", "--format", "{{json .}}", "box:1"]).succeed();
    let row: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&row["Tag"], &row["Size"]), (&json!("1"), &json!("1kB")));
    let inspected = |template: &str| home.kelp(&["inspect", "-f", template, "box:1"]).succeed();
    assert_eq!(inspected("{{.Config.Cmd}} {{json .Config.Env}}"), "[sh -c] [\"A=b\"]\n");
    assert_eq!(inspected("{{index .Config.Labels \"role\"}}{{.Config.Labels.none}}"), "web<no value>\n");
    assert_eq!(inspected("{{range .RepoTags}}{{.}} {{end}}"), "localhost/box:1 localhost/box:2 \n");
    assert_eq!(inspected("{{len .RootFS.Layers}}{{if .Author}}x{{else}}-{{end}}"), "1-\n");
    home.kelp(&["inspect", "-f", "{{.Confg}}", "box:1"]).refuse(1, &["\"Confg\"", "did you mean \".Config\"?"]);
    home.kelp(&["images", "--format", "{{.Repositry}}"]).refuse(1, &["did you mean \".Repository\"?", ".Tag"]);
    home.kelp(&["images", "--format", "{{.ID"]).refuse(125, &["unclosed action"]);
    home.kelp(&["images", "--format", "tabel"]).refuse(125, &["table, json or a template"]);
}

#[test]
fn images_are_listed_newest_first_and_filtered() {
    let home = Home::new();
    for (name, day) in [("old:1", 1), ("new:1", 9), ("mid/one:2", 5)] {
        load(&home, name, &[small(name.split(['/', ':']).next().unwrap(), 100)], &made(day));
    }
    load(&home, "unknown:1", &[small("unknown", 100)], &json!({}));
    home.kelp(&["tag", "old:1", "a-second:name"]).succeed();
    let names = |filters: &[&str]| {
        let template = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["-f", filter]).collect();
        let names = lines(&home, &[&template, &filters[..]].concat());
        names.iter().map(|name| name.trim_start_matches("localhost/").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["new:1", "mid/one:2", "a-second:name", "old:1", "unknown:1"]);
    assert_eq!(names(&["before=mid/one:2"]), ["a-second:name", "old:1"]);
    assert_eq!(names(&["since=old:1"]), ["new:1", "mid/one:2"]);
    assert_eq!(names(&["since=old:1", "before=new:1"]), ["mid/one:2"]);
    assert_eq!(names(&["until=2024-01-05T12:00:00Z"]), ["mid/one:2", "a-second:name", "old:1"]);
    assert_eq!(names(&["label=day=9"]), ["new:1"]);
    assert_eq!(names(&["label!=day"]), ["unknown:1"]);
    assert_eq!(names(&["reference=*:1"]), ["new:1", "old:1", "unknown:1"]);
    assert_eq!(names(&["reference=mid/*", "reference=a-*"]), ["mid/one:2", "a-second:name"]);
    assert_eq!(names(&["dangling=true"]), [""; 0]);
    assert_eq!(lines(&home, &["image", "ls", "-q", "o*"]).len(), 1);
    assert_eq!(lines(&home, &["images", "-q", "--no-trunc", "old"])[0].len(), 71);
    home.kelp(&["images", "-f", "labl=x"]).refuse(125, &["did you mean \"label\"?"]);
    home.kelp(&["images", "-f", "before=nobody"]).refuse(1, &["no image \"nobody\""]);
    // An image that loses its name is still there.
    load(&home, "new:1", &[small("newer", 100)], &made(10));
    assert_eq!(names(&["dangling=true"]), ["<none>:<none>"]);
    assert_eq!(names(&["dangling=false"]).len(), 5);
}

#[test]
fn sizes_tell_what_is_shared() {
    let home = Home::new();
    let base = small("base", 10_000);
    load(&home, "one:1", &[base.clone(), small("a", 500)], &json!({}));
    load(&home, "two:1", &[base.clone(), small("b", 700), base], &json!({}));
    let said = home.kelp(&["images", "--format", "json"]).succeed();
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
    let sizes: Vec<[&Value; 3]> =
        rows.iter().map(|row| ["size", "shared_size", "unique_size"].map(|name| &row[name])).collect();
    assert_eq!(sizes, [[&json!(10_500), &json!(10_000), &json!(500)], [&json!(10_700), &json!(10_000), &json!(700)]]);
    assert!(rows[0]["packed_size"].as_u64().unwrap() > 10_500, "a tar is larger than what is in it: {said}");
    let said = lines(&home, &["images", "--format", "{{.Size}} {{.SharedSize}} {{.UniqueSize}}", "one"]);
    assert_eq!(said, ["10.5kB 10kB 500B"]);
}

#[test]
fn history_reads_as_dockers() {
    let home = Home::new();
    let step = |command: &str, empty: bool| json!({"created": "1999-01-01T00:00:00Z", "created_by": command, "empty_layer": empty, "comment": "c"});
    let long = format!("RUN\t{}", "x".repeat(60));
    let history = json!([step("ADD base", false), step("CMD [\"sh\"]", true), step(&long, false)]);
    let layers = [small("base", 10_000), small("more", 700)];
    load(&home, "box", &layers, &json!({"history": history, "created": "2024-01-01T00:00:00Z"}));
    let id = lines(&home, &["images", "-q"]).remove(0);
    let shown = lines(&home, &["history", "box"]);
    assert_eq!(shown[0], format!("{:<15}{:<10}{:<48}{:<7}COMMENT", "IMAGE", "CREATED", "CREATED BY", "SIZE"));
    assert_eq!(shown[1], format!("{id:<15}{:<10}RUN {}…   700B   c", "", "x".repeat(40)));
    assert_eq!(shown[2], format!("{:<15}{:<10}{:<48}0B     c", "<missing>", "", "CMD [\"sh\"]"));
    assert_eq!(shown[3], format!("{:<15}{:<10}{:<48}10kB   c", "<missing>", "", "ADD base"));
    assert_eq!(lines(&home, &["image", "history", "-q", "box"]), [id.as_str(), "<missing>", "<missing>"]);
    let said = home.kelp(&[
        "history",
        "--human=false",
        "--no-trunc",
        "--format",
        "{{.CreatedAt}} {{.Size}} {{.CreatedBy}}",
        "box",
    ]);
    let said = { said }.succeed();
    let exact: Vec<&str> = said.lines().collect();
    assert_eq!(exact[0], format!("1999-01-01T00:00:00Z 700 {}", long.replace('\t', " ")));
    assert_eq!(exact[1], "1999-01-01T00:00:00Z 0 CMD [\"sh\"]");
    let said = home.kelp(&["history", "--format", "json", "box"]).succeed();
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!((&rows[0]["created_by"], &rows[1]["layer"]), (&json!(long), &Value::Null));
    assert!(rows[0]["id"].as_str().unwrap().contains(&id) && rows[1]["id"].is_null());
    home.kelp(&["history", "nobody"]).refuse(1, &["no image \"nobody\""]);
}

#[test]
fn what_an_author_wrote_stays_in_its_cell() {
    let home = Home::new();
    let history = json!([{"created_by": "\u{1b}[2Jevil\nsecond line", "comment": "a\u{7}b"}]);
    load(&home, "box", &[small("base", 1)], &json!({"history": history}));
    let shown = home.kelp(&["history", "box"]).succeed();
    assert_eq!(shown.lines().count(), 2);
    assert!(!shown.contains(['\u{1b}', '\u{7}']) && shown.contains("\\u{1b}[2Jevil second line"), "{shown:?}");
}

#[test]
fn names_come_and_go_images_stay() {
    let home = Home::new();
    load(&home, "box:1", &[small("f", 10)], &json!({}));
    let id = lines(&home, &["images", "-q"]).remove(0);
    assert_eq!(home.kelp(&["tag", "box:1", "box:2", "quay.example/team/box", "other"]).succeed(), "");
    assert_eq!(lines(&home, &["images"]).len(), 5);
    // Either all names are given or none.
    home.kelp(&["tag", "box:1", "fine", "Not:fine:at:all"]).refuse(125, &["Not"]);
    assert_eq!(lines(&home, &["images"]).len(), 5);
    assert_eq!(home.kelp(&["untag", "box:1", "box:2", "other"]).succeed(), "");
    assert_eq!(lines(&home, &["images"]).len(), 3);
    home.kelp(&["untag", "box:1", "quay.example/team/bax"])
        .refuse(1, &["did you mean \"quay.example/team/box:latest\"?"]);
    home.kelp(&["image", "untag", &id]).succeed();
    assert_eq!(lines(&home, &["images", "--format", "{{.Repository}} {{.ID}}"]), [format!("<none> {id}")]);
    assert_eq!(home.kelp(&["image", "exists", &id]).code(), 0);
    assert_eq!(home.kelp(&["image", "exists", "box:1"]).code(), 1);
    home.kelp(&["image", "exists", "Not:fine:at:all"]).fail(125);
    home.kelp(&["tag", &id, "again"]).succeed();
    assert_eq!(lines(&home, &["images", "--format", "{{.Repository}}"]), ["localhost/again"]);
}

#[test]
fn removal_and_pruning_say_what_they_did() {
    let home = Home::new();
    for name in ["one", "two", "three"] {
        load(&home, name, &[small(name, 10)], &made(1));
    }
    home.kelp(&["tag", "one", "one:more"]).succeed();
    let full = |name: &str| lines(&home, &["images", "-q", "--no-trunc", name]).remove(0);
    let (one, two, three) = (full("one"), full("two"), full("three"));
    assert_eq!(home.kelp(&["rmi", "--no-prune", "one"]).succeed(), "Untagged: localhost/one:latest\n");
    assert_eq!(home.kelp(&["rmi", "one:more"]).succeed(), format!("Untagged: localhost/one:more\nDeleted: {one}\n"));
    home.kelp(&["rmi", "one"]).refuse(1, &["no image \"one\""]);
    assert_eq!(home.kelp(&["rmi", "-f", "one"]).code(), 0);
    let output = home.kelp(&["rmi", "--ignore", "one"]).output();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    home.kelp(&["rmi"]).refuse(125, &["IMAGE"]);
    // Nobody is asked through a pipe.
    home.kelp(&["image", "prune"]).input("y\n").refuse(125, &["--force"]);
    assert_eq!(home.kelp(&["image", "prune", "-f"]).succeed(), "Total reclaimed space: 0B\n");
    home.kelp(&["untag", "two"]).succeed();
    assert_eq!(
        home.kelp(&["image", "prune", "-f", "--filter", "label!=day=1"]).succeed(),
        "Total reclaimed space: 0B\n"
    );
    let said = home.kelp(&["image", "prune", "-f", "--filter", "until=24h"]).succeed();
    assert!(said.starts_with(&format!("Deleted Images:\ndeleted: {two}\n\nTotal reclaimed space: ")), "{said}");
    assert!(!said.contains(": 0B"), "{said}");
    let said = home.kelp(&["image", "prune", "-af"]).succeed();
    assert!(said.contains(&format!("untagged: localhost/three:latest\ndeleted: {three}\n")), "{said}");
    assert_eq!(home.entries("blobs/sha256"), [""; 0]);
    load(&home, "one", &[small("one", 10)], &json!({}));
    load(&home, "two", &[small("two", 10)], &json!({}));
    assert_eq!(lines(&home, &["rmi", "--all"]).len(), 4);
    assert_eq!(home.kelp(&["rmi", "--all"]).succeed(), "");
    home.kelp(&["rmi", "--all", "one"]).fail(125);
}

#[test]
fn what_containers_use_is_not_pruned() {
    let home = Home::new();
    let layers = [super::harness::image::base_layer()];
    load(&home, "used", &layers, &json!({"config": {"Entrypoint": ["/probe"]}}));
    home.kelp(&["run", "--name", "box", "used", "exit", "0"]).succeed();
    assert_eq!(home.kelp(&["image", "prune", "-af"]).succeed(), "Total reclaimed space: 0B\n");
    home.kelp(&["rmi", "--all"]).refuse(1, &["used by container \"box\""]);
    home.kelp(&["rm", "box"]).succeed();
    assert!(home.kelp(&["image", "prune", "-af"]).succeed().contains("untagged: localhost/used:latest"));
}

#[test]
fn the_tree_shows_who_shares_a_layer() {
    let home = Home::new();
    let base = small("base", 10_000);
    load(&home, "base", std::slice::from_ref(&base), &json!({}));
    load(&home, "one", &[base.clone(), small("a", 500)], &json!({}));
    load(&home, "two", &[base, small("b", 700)], &json!({}));
    load(&home, "bare", &[], &json!({}));
    let shown = lines(&home, &["image", "tree"]);
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(shown[0].ends_with("   10kB   localhost/base:latest"), "{shown:?}");
    assert!(shown[1].starts_with("├── ") && shown[1].ends_with("500B   localhost/one:latest"), "{shown:?}");
    assert!(shown[2].starts_with("└── ") && shown[2].ends_with("700B   localhost/two:latest"), "{shown:?}");
    assert_eq!(shown[3], "localhost/bare:latest has no layers");
    let shown = lines(&home, &["image", "tree", "one"]);
    assert_eq!(
        shown[1..4],
        ["Tags:     [localhost/one:latest]", "Size:     10.5kB, of it 10kB shared and 500B unique", "Image Layers"]
    );
    assert!(
        shown[4].starts_with("├── ") && shown[4].contains("shared with localhost/base:latest, localhost/two:latest")
    );
    assert!(shown[5].starts_with("└── ") && !shown[5].contains("shared"));
    let said = home.kelp(&["image", "tree", "--format", "json", "two"]).succeed();
    let images: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(images[0]["unique_size"], 700);
    assert_eq!(images[0]["layers"][0]["shared_with"], json!(["localhost/base:latest", "localhost/one:latest"]));
    let said = home.kelp(&["image", "tree", "--format", "{{join .names \",\"}} {{len .layers}}", "two"]).succeed();
    assert_eq!(said, "localhost/two:latest 2\n");
}

#[test]
fn image_inspect_is_for_images() {
    let home = Home::new();
    load(&home, "box:1", &[small("f", 10)], &made(3));
    let said = home.kelp(&["image", "inspect", "box:1"]).succeed();
    let document: Value = serde_json::from_str(&said).unwrap();
    let image = &document[0];
    assert_eq!(image["RepoTags"], json!(["localhost/box:1"]));
    assert_eq!(
        (&image["Os"], &image["Size"], &image["Created"]),
        (&json!("linux"), &json!(10), &json!("2024-01-03T00:00:00Z"))
    );
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!((&image["Config"]["Labels"]["day"], &image["Labels"]["day"]), (&json!("3"), &json!("3")));
    assert_eq!(image["Digest"], image["Descriptor"]["digest"]);
    let said = home.kelp(&["image", "inspect", "--format", "{{.Config.Labels.day}}", "box:1", "box:1"]).succeed();
    assert_eq!(said, "3\n3\n");
    let output = home.kelp(&["image", "inspect", "box:1", "nobody"]).output();
    assert_eq!(output.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn who_looks_is_not_disturbed_by_who_changes() {
    let home = Home::new();
    load(&home, "stays", &[small("stays", 10)], &json!({}));
    let layout = home.make_dir("layout");
    write_layout_of(&layout, "goes", &[small("goes", 10)], &json!({}));
    let layout = layout.to_str().unwrap();
    let mut changes: Vec<_> = (0..2)
        .map(|_| {
            let script = format!(
                "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do {0} load -q -i {layout}; {0} rmi -f goes; {0} image prune -f; done",
                super::harness::kelp_binary().display()
            );
            home.call(std::path::Path::new("/bin/sh"), &["-c", &script]).start()
        })
        .collect();
    while changes.iter_mut().any(|change| change.child.try_wait().unwrap().is_none()) {
        for arguments in [
            &["images", "-a"][..],
            &["images", "--format", "json"],
            &["image", "tree"],
            &["inspect", "stays"],
            &["history", "stays"],
            &["images", "-f", "reference=stays"],
            &["image", "verify", "-q"],
            &["system", "check", "-q"],
        ] {
            let output = home.kelp(arguments).output();
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{arguments:?}: {}", output.stdout);
        }
        for arguments in [["inspect", "goes"], ["history", "goes"], ["image tree", "goes"]] {
            let words: Vec<&str> = arguments.iter().flat_map(|word| word.split(' ')).collect();
            let output = home.kelp(&words).output();
            let is_gone =
                output.stderr.contains("no image \"goes\"") || output.stderr.contains("no container, image or volume");
            assert!(output.code == 0 || is_gone, "{arguments:?}: {}", output.stderr);
        }
    }
    for change in &mut changes {
        let said = change.wait().stderr;
        let is_expected = |line: &str| line.contains("no image \"goes\"") || line.starts_with("hint: ");
        assert!(said.lines().all(is_expected), "{said}");
    }
}
