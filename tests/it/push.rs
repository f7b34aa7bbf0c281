//! Pushing by the command line: what it prints, what arrives.

use serde_json::{Value, json};

use super::harness::Home;
use super::harness::image::{base_layer, publish};
use super::harness::registry::{Fault, Registry};

/// A home with an image of one plain layer, `mine:1`.
fn with_import() -> (Home, Registry) {
    let (home, registry) = (Home::new(), Registry::start());
    let file = home.path("root.tar");
    std::fs::write(&file, base_layer()).unwrap();
    home.kelp(&["import", file.to_str().unwrap(), "mine:1"]).succeed();
    (home, registry)
}

fn manifest(registry: &Registry, repository: &str, tag: &str) -> Value {
    serde_json::from_slice(&registry.manifest(repository, tag).unwrap().1).unwrap()
}

#[test]
fn an_import_is_compressed_pushed_and_pulled_back() {
    let (home, registry) = with_import();
    let name = format!("{}/team/mine:1", registry.host());
    let said = home.kelp(&["push", "mine:1", &name]).succeed();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{}/team/mine]", registry.host()));
    assert!(lines[1].ends_with(": Pushed") && lines[1].len() == 20, "{said}");
    assert!(lines[2].starts_with("1: digest: sha256:") && lines.len() == 3, "{said}");
    let layer = &manifest(&registry, "team/mine", "1")["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    // Kept in place of the plain layer, and not made again.
    let blobs = home.entries("blobs/sha256");
    assert_eq!(blobs.len(), 3, "{blobs:?}");
    assert!(blobs.iter().any(|blob| layer["digest"].as_str().unwrap().ends_with(blob.as_str())));
    let again = home.kelp(&["push", "mine:1", &name]).succeed();
    assert!(again.contains("Layer already exists") && again.trim_end().ends_with(lines[2]), "{again}");

    let other = Home::new();
    assert_eq!(other.kelp(&["run", "--rm", &name, "/probe", "echo", "back"]).succeed(), "back\n");
}

#[test]
fn pull_and_push_are_a_fixed_point() {
    let (home, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "test/box", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    home.kelp(&["pull", &name]).succeed();
    let copy = format!("{}/copy/box:2", registry.host());
    home.kelp(&["tag", &name, &copy]).succeed();
    let said = home.kelp(&["push", &copy]).succeed();
    assert!(said.contains(": Pushed") || said.contains("Layer already exists"), "{said}");
    assert_eq!(registry.manifest("copy/box", "2"), registry.manifest("test/box", "latest"));
    assert_eq!(home.kelp(&["push", "--quiet", &copy]).succeed(), format!("{copy}\n"));
}

#[test]
fn all_tags_of_a_name_go_together() {
    let (home, registry) = with_import();
    let name = format!("{}/team/mine", registry.host());
    for tag in ["1", "2", "latest"] {
        home.kelp(&["tag", "mine:1", &format!("{name}:{tag}")]).succeed();
    }
    let said = home.kelp(&["push", "-a", &name]).succeed();
    let digests: Vec<&str> = said.lines().filter(|line| line.contains("digest:")).collect();
    assert_eq!(digests.len(), 3, "{said}");
    for tag in ["1", "2", "latest"] {
        assert!(said.contains(&format!("\n{tag}: digest: ")));
        assert!(registry.manifest("team/mine", tag).is_some());
    }
    home.kelp(&["push", "-a", &format!("{name}:1")]).refuse(125, &["without a tag"]);
    home.kelp(&["push", "-a", "nothing/here"]).refuse(1, &["no image named"]);
}

#[test]
fn forms_and_files_are_as_asked_for() {
    let (home, registry) = with_import();
    let name = format!("{}/team/mine:1", registry.host());
    let file = home.path("digest");
    let call = ["push", "--compression", "zstd", "--compression-level", "1", "--digestfile", file.to_str().unwrap()];
    let said = home.kelp(&[&call[..], &["mine:1", &name]].concat()).succeed();
    let digest = std::fs::read_to_string(&file).unwrap();
    assert!(said.contains(&format!("digest: {digest} size:")), "{said}");
    let media_type = &manifest(&registry, "team/mine", "1")["layers"][0]["mediaType"];
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    home.kelp(&["push", "--compression", "zstd", "--compression-level", "30", "mine:1", &name])
        .refuse(125, &["1 to 19"]);
    home.kelp(&["push", "--tls-verify=false", "mine:1", &name]).refuse(125, &["always verified", "--plain-http"]);
}

#[test]
fn what_cannot_be_pushed_is_refused_by_name() {
    let (home, registry) = with_import();
    home.kelp(&["push", "mine:1"]).refuse(1, &["not of a registry", "say where to"]);
    home.kelp(&["push", "mine:1", "oci:/tmp/x"]).refuse(125, &["is no registry", "kelp save"]);
    home.kelp(&["push", "nobody"]).refuse(1, &["no image \"nobody\""]);
    let id = home.kelp(&["images", "-q"]).succeed();
    home.kelp(&["push", id.trim()]).refuse(125, &["does not say where"]);
    registry.fault("POST", Fault::Status(403, vec![]), 9);
    let name = format!("docker://{}/team/mine:1", registry.host());
    home.kelp(&["push", "mine:1", &name]).refuse(1, &["refused the push to \"team/mine\"", "kelp login"]);
    assert_eq!(registry.manifest("team/mine", "1"), None);
}

#[test]
fn all_tags_are_pulled_as_far_as_they_can_be() {
    let (home, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "test/box", &[base_layer()], &json!({}));
    let (media_type, manifest) = registry.manifest("test/box", "latest").unwrap();
    registry.put_manifest("test/box", "2", "unknown", &media_type, &manifest);
    registry.set_list("test/box/tags/list", &["tags", "2", "gone", "latest"], 2);
    let output = home.kelp(&["pull", "--all-tags", &name]).output();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], format!("2: Pulling from {name}"), "{output:?}");
    assert!(lines[1].starts_with("Digest: sha256:"), "{output:?}");
    assert_eq!(
        lines[lines.len() - 2..],
        [format!("Status: Downloaded newer image for {name}"), name.clone()],
        "{output:?}"
    );
    assert!(output.code == 1 && output.stderr.contains("has no image") && output.stderr.contains("gone"), "{output:?}");
    let listed = home.kelp(&["images", "--format", "json"]).succeed();
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap().as_array().map(Vec::len), Some(2));
    home.kelp(&["pull", "-a", &format!("{name}:2")]).refuse(125, &["without a tag"]);
    home.kelp(&["pull", "-a", &format!("{}/no/such", registry.host())])
        .refuse(1, &["list the tags", "has no repository"]);
}

#[test]
fn registries_are_searched() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.set_list("_catalog", &["repositories", "team/app", "team/web"], 9);
    let found = home.kelp(&["search", &format!("{}/web", registry.host())]).succeed();
    let rows: Vec<Vec<&str>> = found.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [vec!["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], vec![&format!("{}/team/web", registry.host()), "0"]]
    );
    let hostile =
        r#"{"results":[{"name":"box","description":"one\u001b[2Jtwo\nthree","star_count":9,"is_official":true}]}"#;
    registry.fault("/v1/search", Fault::Answer(200, hostile.to_owned()), 2);
    let term = format!("{}/box", registry.host());
    let found = home.kelp(&["search", "--no-trunc", "--filter", "is-official=true", "-f", "stars=9", &term]).succeed();
    assert!(found.contains("one [2Jtwo three") && found.contains("[OK]"), "{found}");
    let found = home.kelp(&["search", "--filter", "stars=10", "--format", "json", &term]).succeed();
    assert_eq!(found, "[]\n");
    home.kelp(&["search", "--filter", "is-automated=true", &term]).refuse(125, &["is-official"]);
    home.kelp(&["search", "--limit", "101", &term]).refuse(125, &["1 to 100"]);
    let other = Registry::start();
    home.kelp(&["search", &format!("{}/web", other.host())]).refuse(1, &["offers no search"]);
}
