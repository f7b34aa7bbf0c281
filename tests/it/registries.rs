//! Which registry is asked: mirrors, blocks, short names.

use std::fs;

use serde_json::json;

use super::harness::image::{base_layer, publish};
use super::harness::registry::{Fault, Registry, base64};
use super::harness::{Call, Home};

/// A home, and a registry with `team/box`.
fn start() -> (Home, Registry) {
    let (home, registry) = (Home::new(), Registry::start());
    publish(&registry, "team/box", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    (home, registry)
}

/// kelp with a registries.conf of its own.
fn kelp(home: &Home, conf: &str, arguments: &[&str]) -> Call {
    let path = home.path("registries.conf");
    fs::write(&path, conf).unwrap();
    let mut call = home.kelp(arguments);
    call.env("CONTAINERS_REGISTRIES_CONF", path);
    call
}

#[test]
fn what_a_mirror_serves_keeps_its_name() {
    let (home, mirror) = start();
    let absent = Registry::start();
    let conf = format!(
        "[[registry]]\nlocation = 'registry.example'\n[[registry.mirror]]\nlocation = '{}/copies'\n\
         [[registry.mirror]]\nlocation = '{}'\n",
        absent.host(),
        mirror.host()
    );
    let name = "registry.example/team/box:latest";
    assert!(kelp(&home, &conf, &["pull", name]).succeed().ends_with(&format!("{name}\n")));
    assert!(absent.seen().iter().all(|seen| seen.path.starts_with("/v2/copies/team/box/")), "{:?}", absent.seen());
    assert!(!absent.seen().is_empty());
    assert_eq!(home.kelp(&["run", "--rm", "--pull", "never", name, "echo", "here"]).succeed(), "here\n");
}

#[test]
fn what_no_mirror_has_comes_from_its_own_registry() {
    let (home, registry) = start();
    let mirror = Registry::start();
    let conf =
        format!("[[registry]]\nlocation = '{}'\nmirror = [{{location = '{}'}}]\n", registry.host(), mirror.host());
    let name = format!("{}/team/box", registry.host());
    kelp(&home, &conf, &["pull", &name]).succeed();
    assert_eq!(mirror.seen().len(), 1);
    // When all fail, the failure is that of the registry itself; the others' are told beside it.
    registry.fault("manifests", Fault::Status(404, vec![]), 1);
    kelp(&home, &conf, &["pull", &name]).refuse(
        1,
        &[
            &format!("{} has no image", registry.host()),
            &format!("hint: mirror {}/team/box was of no use", mirror.host()),
        ],
    );
}

#[test]
fn a_lying_mirror_is_passed_over() {
    let (home, registry) = start();
    let mirror = Registry::start();
    publish(&mirror, "team/box", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    mirror.fault("/blobs/", Fault::Corrupt, 99);
    let conf =
        format!("[[registry]]\nlocation = '{}'\nmirror = [{{location = '{}'}}]\n", registry.host(), mirror.host());
    kelp(&home, &conf, &["pull", &format!("{}/team/box", registry.host())]).succeed();
}

#[test]
fn a_mirror_gets_its_own_login_and_no_other() {
    let (home, mirror) = start();
    mirror.require_basic(&format!("Basic {}", base64("mirror", "pw")));
    let conf = format!("[[registry]]\nlocation = 'registry.example'\nmirror = [{{location = '{}'}}]\n", mirror.host());
    let file = home.make_dir("home/.config/containers").join("auth.json");
    let mut auths = json!({"auths": {"registry.example": {"auth": base64("origin", "secret")}}});
    fs::write(&file, auths.to_string()).unwrap();
    kelp(&home, &conf, &["pull", "registry.example/team/box"]).fail(1);
    assert!(mirror.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    auths["auths"][mirror.host()] = json!({"auth": base64("mirror", "pw")});
    fs::write(&file, auths.to_string()).unwrap();
    kelp(&home, &conf, &["pull", "registry.example/team/box"]).succeed();
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let (home, registry) = start();
    let conf = format!("[[registry]]\nprefix = '{}/team'\nblocked = true\n", registry.host());
    let name = format!("{}/team/box", registry.host());
    kelp(&home, &conf, &["pull", &name]).refuse(1, &["is blocked by", "registries.conf"]);
    kelp(&home, &conf, &["run", "--rm", &name]).refuse(125, &["is blocked by"]);
    assert_eq!(registry.seen().len(), 0);
    kelp(&home, "[[registry]\n", &["pull", &name]).refuse(1, &["registries.conf", "line 1"]);
}

#[test]
fn short_names_go_where_the_file_says() {
    let (home, registry) = start();
    publish(&registry, "box", &[base_layer()], &json!({"Entrypoint": ["/probe"]}));
    let second = Registry::start();
    let conf = format!(
        "unqualified-search-registries = ['{0}', '{1}']\n[aliases]\nnick = '{0}/team/box'\n",
        registry.host(),
        second.host()
    );
    assert_eq!(kelp(&home, &conf, &["run", "--rm", "nick", "echo", "alias"]).succeed(), "alias\n");
    assert_eq!(kelp(&home, &conf, &["run", "--rm", "box", "echo", "first"]).succeed(), "first\n");
    kelp(&home, &conf, &["pull", "missing"]).refuse(1, &[&format!("{} has no image", registry.host())]);
    assert_eq!(second.seen().len(), 0, "one after another is never tried");
    kelp(&home, &conf, &["rmi", "box", "nick"]).succeed();
    assert_eq!(home.kelp(&["images", "-q"]).succeed(), "");
}
