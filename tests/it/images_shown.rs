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
    home.kelp(&["inspect", "-f", "{{.Confg}}", "box:1"]).refuse(1, &["\"Confg\"", "did you mean \"Config\"?"]);
    home.kelp(&["images", "--format", "{{.Repositry}}"]).refuse(1, &["did you mean \"Repository\"?", ".Tag"]);
    home.kelp(&["images", "--format", "{{.ID"]).refuse(2, &["unclosed action"]);
    home.kelp(&["images", "--format", "tabel"]).refuse(2, &["table, json or a template"]);
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
    home.kelp(&["images", "-f", "labl=x"]).refuse(2, &["did you mean \"label\"?"]);
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
