//! What users see of the images they have: listings, templates, histories.

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{Entry, layer, write_layout};

/// A small layer that no other test image has.
fn small(name: &str, bytes: usize) -> Vec<u8> {
    layer(&[Entry::File(name, 0o644, 0, &vec![b'x'; bytes])])
}

/// Loads an image of these layers.
fn load(home: &Home, name: &str, layers: &[Vec<u8>], config: &Value) {
    let layout = home.make_dir(&format!("layout-{}", name.replace(['/', ':'], "-")));
    write_layout(&layout, name, layers, config);
    home.kelp(&["load", "-q", "-i", layout.to_str().unwrap()]).succeed();
}

#[test]
fn templates_print_what_dockers_scripts_expect() {
    let home = Home::new();
    let config = json!({"Cmd": ["sh", "-c"], "Env": ["A=b"], "Labels": {"role": "web"}});
    load(&home, "box:1", &[small("f", 1000)], &config);
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
