//! Which registry is asked, by which way, and whether it is believed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::harness::image::{base_layer, publish};
use super::harness::proxy::Proxy;
use super::harness::registry::{Fault, Registry, base64};
use super::harness::tls::{Authority, Front};
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

/// The same registry behind TLS, as `registry.example` by way of a proxy.
struct Guarded {
    home: Home,
    registry: Registry,
    authority: Authority,
    front: Front,
    proxy: Proxy,
    host: String,
}

fn guarded(clients: Option<&Authority>) -> Guarded {
    let (home, registry) = start();
    let authority = Authority::new();
    let front = Front::start(registry.port, &authority.certificate("registry.example"), clients);
    let host = format!("registry.example:{}", front.port);
    Guarded { home, registry, authority, front, proxy: Proxy::start(None), host }
}

impl Guarded {
    /// `kelp pull` through the proxy.
    fn pull(&self) -> Call {
        let mut call = self.home.kelp(&["pull", &format!("{}/team/box", self.host)]);
        call.env("https_proxy", format!("http://user:hunter2@{}", self.proxy.host()));
        call
    }
}

#[test]
fn the_environment_names_proxies_and_authorities() {
    let guarded = guarded(None);
    let authority = guarded.home.path("authority.pem");
    fs::write(&authority, guarded.authority.pem()).unwrap();
    let said = guarded.pull().fail(1);
    assert!(said.contains("signed by an authority that this host does not know"), "{said}");
    guarded.pull().env("SSL_CERT_FILE", &authority).succeed();
    assert!(guarded.proxy.asked().iter().all(|asked| *asked == guarded.host), "{:?}", guarded.proxy.asked());

    let directory = guarded.home.make_dir("authorities");
    fs::copy(&authority, directory.join("a.pem")).unwrap();
    guarded.pull().env("SSL_CERT_DIR", &directory).succeed();
    let asked = guarded.proxy.asked().len();
    let said = guarded.pull().env("SSL_CERT_FILE", &authority).env("NO_PROXY", "registry.example").fail(1);
    assert!(said.contains("cannot reach"), "{said}");
    assert_eq!(guarded.proxy.asked().len(), asked);

    let mut call = guarded.pull();
    call.env("SSL_CERT_FILE", &authority).env("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1");
    let said = call.fail(1);
    assert!(said.contains("by proxy 127.0.0.1:1") && !said.contains("hunter2"), "{said}");
    let said = guarded.pull().env("HTTPS_PROXY", "gopher://user:hunter2@p").fail(125);
    assert!(said.contains("HTTPS_PROXY is not the address of a proxy") && !said.contains("hunter2"), "{said}");
}

#[test]
fn certificates_are_found_in_the_users_directory() {
    let clients = Authority::new();
    let guarded = guarded(Some(&clients));
    let directory = guarded.home.make_dir(&format!("home/.config/containers/certs.d/{}", guarded.host));
    fs::write(directory.join("ca.crt"), guarded.authority.pem()).unwrap();
    guarded.pull().fail(1);
    let us = clients.certificate("us");
    fs::write(directory.join("us.cert"), &us.certificate).unwrap();
    fs::write(directory.join("us.key"), &us.key).unwrap();
    guarded.pull().refuse(1, &["us.key", "open to others", "chmod"]);
    fs::set_permissions(directory.join("us.key"), fs::Permissions::from_mode(0o600)).unwrap();
    guarded.pull().succeed();
    // kelp's own directory comes first.
    guarded.home.make_dir(&format!("home/.config/kelp/certs.d/{}", guarded.host));
    guarded.pull().refuse(1, &["does not know"]);
}

#[test]
fn a_proxy_with_tls_is_no_registry() {
    let clients = Authority::new();
    let guarded = guarded(Some(&clients));
    let directory = guarded.home.make_dir(&format!("home/.config/containers/certs.d/{}", guarded.host));
    let us = clients.certificate("us");
    for (name, text) in [("ca.crt", &guarded.authority.pem()), ("us.cert", &us.certificate), ("us.key", &us.key)] {
        fs::write(directory.join(name), text).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // The proxy is believed by whom the host believes, and not by what is said of the registry.
    let proxies = Authority::new();
    let host = guarded.home.path("host.pem");
    fs::write(&host, proxies.pem()).unwrap();
    for (authority, is_good) in [(&proxies, true), (&guarded.authority, false)] {
        let front = Front::start(guarded.proxy.port, &authority.certificate("127.0.0.1"), None);
        let mut call = guarded.pull();
        call.env("https_proxy", format!("https://{}", front.host())).env("SSL_CERT_FILE", &host);
        let output = call.output();
        assert_eq!(output.code == 0, is_good, "{}", output.stderr);
    }
}

#[test]
fn a_login_goes_the_same_way() {
    let guarded = guarded(None);
    guarded.registry.require_basic(&format!("Basic {}", base64("me", "secret")));
    let directory = guarded.home.make_dir(&format!("home/.config/containers/certs.d/{}", guarded.host));
    fs::write(directory.join("ca.crt"), guarded.authority.pem()).unwrap();
    let mut call = guarded.home.kelp(&["login", "-u", "me", "--password-stdin", &guarded.host]);
    call.env("ALL_PROXY", guarded.proxy.host()).input("secret").succeed();
    guarded.pull().succeed();
    // On loopback TLS is found by itself, and so is who is asked.
    let here = guarded.front.host();
    guarded.home.kelp(&["login", "-u", "me", "-p", "secret", &here]).refuse(1, &["cannot trust 127.0.0.1"]);
}
