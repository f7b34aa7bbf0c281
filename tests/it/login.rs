//! Logging in to registries, and what is kept of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::harness::image::{base_layer, publish};
use super::harness::pseudo_terminal::Terminal;
use super::harness::registry::{Fault, Registry, base64};
use super::harness::{Call, Home};

/// A home, and a registry with an image for those who may see it.
fn closed() -> (Home, Registry, String) {
    let (home, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "team/box", &[base_layer()], &json!({}));
    registry.require_basic(&format!("Basic {}", base64("me", "secret")));
    (home, registry, name)
}

fn login(home: &Home, registry: &Registry, password: &str) -> Call {
    let mut call = home.kelp(&["login", "-u", "me", "--password-stdin", &registry.host()]);
    call.input(password);
    call
}

/// Where a login is kept unless told otherwise.
fn auth_file(home: &Home) -> PathBuf {
    home.path("home/.config/containers/auth.json")
}

#[test]
fn a_login_lasts_until_the_logout() {
    let (home, registry, name) = closed();
    home.kelp(&["pull", &name]).refuse(1, &["refused access", "kelp login 127.0.0.1"]);
    let output = login(&home, &registry, "secret\n").output();
    assert_eq!((output.code, output.stdout.as_str()), (0, "Login Succeeded\n"), "{}", output.stderr);
    assert!(output.stderr.contains("unencrypted"), "{}", output.stderr);
    assert_eq!(auth_file(&home).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.kelp(&["login", "--get-login", &registry.host()]).succeed(), "me\n");
    home.kelp(&["pull", &name]).succeed();
    // Who is logged in is not asked again.
    assert_eq!(home.kelp(&["login", &registry.host()]).succeed(), "Login Succeeded\n");

    let removed = format!("Removed login credentials for {}\n", registry.host());
    assert_eq!(home.kelp(&["logout", &registry.host()]).succeed(), removed);
    home.kelp(&["login", "--get-login", &registry.host()]).refuse(1, &["not logged in to 127.0.0.1"]);
    home.kelp(&["pull", &name]).fail(1);
    assert_eq!(home.kelp(&["logout", &registry.host()]).succeed(), format!("Not logged in to {}\n", registry.host()));
}

#[test]
fn a_wrong_password_is_not_kept() {
    let (home, registry, _) = closed();
    login(&home, &registry, "wrong").refuse(1, &["cannot log in to", "does not accept this name and password"]);
    assert!(!auth_file(&home).exists());
    login(&home, &registry, "secret").succeed();
    login(&home, &registry, "wrong").fail(1);
    assert_eq!(home.kelp(&["login", &registry.host()]).succeed(), "Login Succeeded\n", "the good one is still there");
}

#[test]
fn an_open_registry_proves_nothing() {
    let (home, registry) = (Home::new(), Registry::start());
    let output = login(&home, &registry, "anything").output();
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("was not checked"), "{}", output.stderr);
    registry.fault("/v2/", Fault::Status(404, vec![]), 1);
    login(&home, &registry, "anything").refuse(1, &["is not a registry"]);
}

#[test]
fn an_identity_token_takes_the_place_of_the_password() {
    let (home, registry) = (Home::new(), Registry::start());
    let name = publish(&registry, "team/box", &[base_layer()], &json!({}));
    registry.require_token("t0ken", Some(("me", "secret")));
    registry.give_identity("identity-of-me");
    login(&home, &registry, "secret").succeed();
    let kept = fs::read_to_string(auth_file(&home)).unwrap();
    assert!(kept.contains("identity-of-me"), "{kept}");
    assert!(kept.contains(&base64("me", "")) && !kept.contains(&base64("me", "secret")), "{kept}");
    home.kelp(&["pull", &name]).succeed();
    let posted: Vec<_> = registry.seen().into_iter().filter(|seen| seen.method == "POST").collect();
    assert_eq!(posted.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&posted[0].body),
        "client_id=kelp&service=test&scope=repository%3Ateam%2Fbox%3Apull&grant_type=refresh_token&\
         refresh_token=identity-of-me"
    );
    assert!(!posted[0].headers.contains_key("authorization"));
    // The identity token proves it again.
    home.kelp(&["login", &registry.host()]).succeed();
    registry.give_identity("another");
    home.kelp(&["login", &registry.host()]).refuse(1, &["does not accept"]);
}

#[test]
fn a_login_may_be_for_a_namespace() {
    let (home, registry, name) = closed();
    let scope = format!("{}/team", registry.host());
    home.kelp(&["login", "-u", "me", "--password-stdin", &scope]).input("secret").succeed();
    home.kelp(&["pull", &name]).succeed();
    home.kelp(&["login", "--get-login", &registry.host()]).fail(1);
    let other = publish(&registry, "other/box", &[base_layer()], &json!({}));
    home.kelp(&["pull", &other]).fail(1);
    home.kelp(&["logout", "--all"]).succeed();
    home.kelp(&["pull", &name]).fail(1);
}

#[test]
fn the_file_can_be_named() {
    let (home, registry, name) = closed();
    let [by_flag, by_variable, docker] = ["flag.json", "variable.json", "docker"].map(|name| home.path(name));
    let mut call = home.kelp(&["login", "-u", "me", "--password-stdin", "--authfile"]);
    call.args(&[by_flag.to_str().unwrap(), &registry.host()]).input("secret").succeed();
    login(&home, &registry, "secret").env("REGISTRY_AUTH_FILE", &by_variable).succeed();
    login(&home, &registry, "secret").env("DOCKER_CONFIG", &docker).succeed();
    assert!(by_flag.exists() && by_variable.exists() && docker.join("config.json").exists());
    assert!(!auth_file(&home).exists());
    home.kelp(&["pull", &name]).fail(1);
    home.kelp(&["pull", &name]).env("REGISTRY_AUTH_FILE", &by_flag).succeed();
    home.kelp(&["pull", &name]).env("DOCKER_CONFIG", &docker).succeed();
    // A named file is the only one that is asked.
    let empty = home.path("empty.json");
    home.kelp(&["pull", &name]).env("DOCKER_CONFIG", &docker).env("REGISTRY_AUTH_FILE", &empty).fail(1);
}

#[test]
fn dockers_own_file_is_read_and_left_alone() {
    let (home, registry, name) = closed();
    let file = home.make_dir("home/.docker").join("config.json");
    let text = json!({"auths": {registry.host(): {"auth": base64("me", "secret")}}}).to_string();
    fs::write(&file, &text).unwrap();
    home.kelp(&["pull", &name]).succeed();
    let output = home.kelp(&["logout", &registry.host()]).output();
    assert!(output.stderr.contains("logged in") && output.stderr.contains("config.json"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    fs::write(&file, "{\"auths\": hunter2").unwrap();
    let said = home.kelp(&["pull", &name]).fail(1);
    assert!(said.contains("config.json") && said.contains("line 1") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_keychain_keeps_the_login() {
    let (home, registry, name) = closed();
    let programs = home.make_dir("programs");
    let program = programs.join("docker-credential-drawer");
    let drawer = home.path("drawer");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0};;\nerase) rm {0};;\n\
         get) test -e {0} && cat {0} || {{ echo credentials not found in native keychain; exit 1; }};;\nesac\n",
        drawer.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = home.make_dir("home/.config/containers").join("auth.json");
    let old = base64("me", "old");
    fs::write(&file, json!({"auths": {registry.host(): {"auth": old}}, "credsStore": "drawer"}).to_string()).unwrap();

    login(&home, &registry, "secret").refuse(1, &["no program docker-credential-drawer in your PATH"]);
    let path = format!("{}:/usr/bin:/bin", programs.display());
    login(&home, &registry, "secret").env("PATH", &path).succeed();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&drawer).unwrap()).unwrap();
    assert_eq!(kept, json!({"ServerURL": registry.host(), "Username": "me", "Secret": "secret"}));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("drawer") && !text.contains(&old) && !text.contains(&base64("me", "secret")), "{text}");

    assert_eq!(home.kelp(&["login", "--get-login", &registry.host()]).env("PATH", &path).succeed(), "me\n");
    home.kelp(&["pull", &name]).env("PATH", &path).succeed();
    let said = home.kelp(&["logout", &registry.host()]).env("PATH", &path).succeed();
    assert!(said.contains("from drawer"), "{said}");
    assert!(!drawer.exists());
    home.kelp(&["pull", &name]).env("PATH", &path).refuse(1, &["refused access"]);
}

#[test]
fn the_password_is_asked_for_and_not_shown() {
    let (home, registry, _) = closed();
    let mut terminal = Terminal::start(&mut home.kelp(&["login", &registry.host()]), 80, 24);
    terminal.expect("Username for 127.0.0.1");
    terminal.type_in("me\n");
    terminal.expect("Password: ");
    assert!(super::harness::eventually(|| terminal.is_raw()));
    terminal.type_in("secreT\u{7f}t\r");
    terminal.expect("Login Succeeded");
    assert_eq!(terminal.running.wait().code, 0);
    assert!(!terminal.seen().contains("secre"), "{}", terminal.seen());
    assert!(!terminal.is_raw());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (home, registry, _) = closed();
    let host = registry.host();
    home.kelp(&["login", &host]).refuse(125, &["nobody can be asked", "--password-stdin"]);
    home.kelp(&["login", "-u", "me", &host]).refuse(125, &["nobody can be asked"]);
    home.kelp(&["login", "--password-stdin", &host]).refuse(125, &["--username"]);
    home.kelp(&["login", "-u", "me", "-p", "x", "--password-stdin", &host]).fail(125);
    home.kelp(&["login", "-u", "me", "--password-stdin", &host]).refuse(125, &["password is empty"]);
    home.kelp(&["login", "-u", "me", "--password-stdin", "--tls-verify=false", &host])
        .refuse(125, &["always verified"]);
    home.kelp(&["login", "-u", "me", "-p", "secret", "not a host"]).refuse(125, &["is not a registry"]);
    let output = home.kelp(&["login", "-u", "me", "-p", "secret", &host]).output();
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("--password-stdin"), "{}", output.stderr);
}
