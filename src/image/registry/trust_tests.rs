//! Whom we believe and who we say we are: certificates, proxies, token
//! servers, logins.

use std::os::unix::fs::PermissionsExt;

use super::fake::{Fault, Registry, base64};
use super::fake_proxy::Proxy;
use super::fake_tls::{Authority, Certificate, Front};
use super::tests::{assert_nothing, get_as, home, options, pull, serve};
use super::{Certificates, Credentials, Endpoint, Options, Proxies, Route, Transport, login};
use crate::error::{Failure, Result};
use crate::image::pull::Pulled;
use crate::image::{Platform, Reference};

/// A registry behind TLS, an authority, and a directory for certificates.
struct Scene {
    registry: Registry,
    authority: Authority,
    dir: tempfile::TempDir,
    options: Options,
}

fn scene() -> Scene {
    let registry = Registry::start();
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    let dir = tempfile::tempdir().unwrap();
    let options = Options { certificates: Certificates::new(vec![dir.path().to_path_buf()]), ..options() };
    Scene { registry, authority: Authority::new(), dir, options }
}

impl Scene {
    fn front(&self, certificate: &Certificate, clients: Option<&Authority>) -> Front {
        Front::start(self.registry.port, certificate, clients)
    }

    /// Puts a file into the directory of the registry at `host`.
    fn put(&self, host: &str, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(host).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn pull(&self, host: &str, transport: Transport, credentials: Option<Credentials>) -> Result<Pulled> {
        let home = home();
        let reference = Reference::parse(&format!("{host}/web")).unwrap();
        let route = Route::direct(Endpoint::of(&reference, transport, credentials));
        let platform = Platform::parse("linux/amd64").unwrap();
        let pulled = pull(&home.paths, &reference, &platform, &route, &self.options);
        if pulled.is_err() {
            assert_nothing(&home);
        }
        pulled
    }

    fn fails(&self, host: &str) -> Failure {
        self.pull(host, Transport::Auto, None).unwrap_err()
    }
}

#[track_caller]
fn says(failure: &Failure, words: &str) {
    assert!(failure.to_string().contains(words), "{failure}");
}

#[test]
fn an_authority_of_ones_own_is_believed_for_its_registry_alone() {
    let scene = scene();
    let front = scene.front(&scene.authority.certificate("127.0.0.1"), None);
    let failure = scene.fails(&front.host());
    says(&failure, &format!("cannot trust {}: its certificate is signed by an authority", front.host()));
    assert!(failure.hints[0].contains("certs.d"), "{failure:?}");
    scene.put("127.0.0.1", "ca.crt", &scene.authority.pem());
    scene.put(&format!("localhost:{}", front.port), "ca.crt", &scene.authority.pem());
    scene.fails(&front.host());
    scene.put(&front.host(), "ca.crt", &scene.authority.pem());
    scene.pull(&front.host(), Transport::Auto, None).unwrap();
    scene.pull(&front.host(), Transport::Tls, None).unwrap();
    scene.pull(&front.host(), Transport::PlainAllowed, None).unwrap();
    assert!(scene.pull(&front.host(), Transport::Plain, None).is_err());
}

#[test]
fn certificates_that_are_not_good_are_refused() {
    let scene = scene();
    for (certificate, why) in [
        (scene.authority.expired("127.0.0.1"), "has expired"),
        (scene.authority.certificate("other.example"), "is for another name"),
        (Authority::new().certificate("127.0.0.1"), "an authority that this host does not know"),
    ] {
        let front = scene.front(&certificate, None);
        scene.put(&front.host(), "ca.crt", &scene.authority.pem());
        says(&scene.fails(&front.host()), why);
        // What is insecure is spared TLS, not the checks of it.
        says(&scene.pull(&front.host(), Transport::PlainAllowed, None).unwrap_err(), why);
    }
}

#[test]
fn a_certificate_that_signs_itself_is_believed_if_it_is_known() {
    let scene = scene();
    let good = Certificate::self_signed("127.0.0.1", false);
    let front = scene.front(&good, None);
    says(&scene.fails(&front.host()), "an authority that this host does not know");
    scene.put(&front.host(), "ca.crt", &Certificate::self_signed("127.0.0.1", false).certificate);
    says(&scene.fails(&front.host()), "an authority that this host does not know");
    scene.put(&front.host(), "ca.crt", &good.certificate);
    scene.pull(&front.host(), Transport::Auto, None).unwrap();
    for (bad, why) in [
        (Certificate::self_signed("127.0.0.1", true), "has expired"),
        (Certificate::self_signed("other.example", false), "is for another name"),
    ] {
        let front = scene.front(&bad, None);
        scene.put(&front.host(), "ca.crt", &bad.certificate);
        says(&scene.fails(&front.host()), why);
    }
}

#[test]
fn those_who_want_a_certificate_of_us_get_it() {
    let scene = scene();
    let clients = Authority::new();
    let front = scene.front(&scene.authority.certificate("127.0.0.1"), Some(&clients));
    let host = front.host();
    scene.put(&host, "ca.crt", &scene.authority.pem());
    scene.fails(&host);
    let us = clients.certificate("us");
    let certificate = scene.put(&host, "us.cert", &us.certificate);
    says(&scene.fails(&host), "us.cert\": its key is missing");
    let key = scene.put(&host, "us.key", &us.key);
    scene.pull(&host, Transport::Auto, None).unwrap();

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let failure = scene.fails(&host);
    says(&failure, "us.key\": your private key is open to others (mode 640)");
    assert!(failure.hints[0].contains("chmod"), "{failure:?}");
    scene.put(&host, "us.key", &clients.certificate("them").key);
    says(&scene.fails(&host), "are no pair that can be used");
    scene.put(&host, "us.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    says(&scene.fails(&host), "us.key\": there is no private key in it");
    scene.put(&host, "us.key", &us.key);
    scene.put(&host, "us.cert", "nothing");
    says(&scene.fails(&host), "us.cert\": there is no certificate in it");
    std::fs::remove_file(certificate).unwrap();
    says(&scene.fails(&host), "us.key\": its certificate is missing");
    std::fs::remove_file(key).unwrap();
    scene.put(&host, "ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    says(&scene.fails(&host), "ca.crt\": it cannot be believed");
    scene.put(&host, "ca.crt", "-----BEGIN CERTIFICATE-----\n!\n");
    says(&scene.fails(&host), "ca.crt\": it is not valid PEM");
}

#[test]
fn plain_http_is_spoken_where_it_is_allowed() {
    let mut scene = scene();
    let host = format!("registry.example:{}", scene.registry.port);
    let proxy = Proxy::start(None);
    scene.options.proxies = proxies(&proxy, &[]);
    // The fake registry does not answer a TLS greeting.
    scene.options.timeouts.idle = std::time::Duration::from_millis(50);
    assert!(scene.pull(&host, Transport::Auto, None).is_err());
    scene.pull(&host, Transport::PlainAllowed, None).unwrap();
    scene.pull(&host, Transport::Plain, None).unwrap();
    assert!(scene.pull(&host, Transport::Tls, None).is_err());
}

fn proxies(proxy: &Proxy, more: &[(&str, &str)]) -> Proxies {
    let variable = |name: &str| match more.iter().find(|(key, _)| *key == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => (name == "ALL_PROXY").then(|| format!("http://{}", proxy.host())),
    };
    Proxies::from(variable).unwrap()
}

#[test]
fn a_proxy_carries_tls_through() {
    let mut scene = scene();
    let front = scene.front(&scene.authority.certificate("registry.example"), None);
    let host = format!("registry.example:{}", front.port);
    scene.put(&host, "ca.crt", &scene.authority.pem());
    let proxy = Proxy::start(None);
    scene.options.proxies = proxies(&proxy, &[]);
    scene.pull(&host, Transport::Auto, None).unwrap();
    assert_eq!(proxy.asked(), [host.as_str()], "one connection for all requests");
    // Loopback is our own.
    scene.pull(&scene.registry.host(), Transport::Auto, None).unwrap();
    assert_eq!(proxy.asked().len(), 1);
    scene.options.proxies = proxies(&proxy, &[("NO_PROXY", "example")]);
    scene.fails(&host);
    assert_eq!(proxy.asked().len(), 1);
}

#[test]
fn a_proxy_may_want_a_password_that_nobody_else_sees() {
    let mut scene = scene();
    let front = scene.front(&scene.authority.certificate("registry.example"), None);
    let host = format!("registry.example:{}", front.port);
    scene.put(&host, "ca.crt", &scene.authority.pem());
    let proxy = Proxy::start(Some(format!("Basic {}", base64("me", "p@ss"))));
    let with = |user: &str| Proxies::from(|_| Some(format!("http://{user}@{}", proxy.host()))).unwrap();
    scene.options.proxies = with("me:p%40ss");
    scene.pull(&host, Transport::Auto, None).unwrap();
    assert!(scene.registry.seen().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
    scene.options.proxies = with("me:wr0ng");
    let failure = scene.fails(&host);
    says(&failure, "the proxy refuses");
    says(&failure, &format!("by proxy {}", proxy.host()));
    assert!(failure.hints[0].contains("HTTPS_PROXY") && !format!("{failure:?}").contains("wr0ng"), "{failure:?}");
}

#[test]
fn identity_tokens_are_for_token_servers() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", Some(("me", "secret")));
    registry.give_identity("identity");
    let me = Credentials::identity("me", "identity");
    get_as(&home, &registry, "web", &options(), Some(&me)).unwrap();
    let wrong = Credentials::identity("me", "other");
    says(&get_as(&home, &registry, "web", &options(), Some(&wrong)).unwrap_err(), "refused access");
    // They are no password.
    let basic = Registry::start();
    serve(&basic, "web", "latest", "amd64", &[b"layer"]);
    basic.require_basic(&format!("Basic {}", base64("me", "identity")));
    says(&get_as(&home, &basic, "web", &options(), Some(&me)).unwrap_err(), "refused access");
    assert!(basic.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[test]
fn a_token_server_may_speak_oauth2_alone() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", Some(("me", "secret")));
    registry.require_post();
    let me = Credentials::new("me", "secret");
    get_as(&home, &registry, "web", &options(), Some(&me)).unwrap();
    let posted = registry.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert!(String::from_utf8_lossy(&posted.body).contains("grant_type=password&username=me&password=secret"));
}

#[test]
fn busy_token_servers_are_asked_again() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", Some(("me", "secret")));
    registry.give_identity("identity");
    registry.fault("/token", Fault::Status(429, vec![("Retry-After", "0".to_owned())]), 1);
    registry.fault("/token", Fault::Status(503, vec![]), 1);
    registry.fault("/token", Fault::HangUp, 1);
    let me = Credentials::identity("me", "identity");
    get_as(&home, &registry, "web", &options(), Some(&me)).unwrap();
    let posts = registry.seen().into_iter().filter(|seen| seen.method == "POST");
    assert!(posts.map(|seen| seen.body).all(|body| String::from_utf8_lossy(&body).contains("identity")));
    registry.fault("/token", Fault::Status(429, vec![("Retry-After", "86400".to_owned())]), 1);
    says(&get_as(&home, &registry, "web", &options(), Some(&me)).unwrap_err(), "limits requests (status 429)");
}

#[test]
fn secrets_do_not_follow_a_token_server_elsewhere() {
    let (home, registry, other) = (home(), Registry::start(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", Some(("me", "secret")));
    other.require_token("t0ken", None);
    let elsewhere = Fault::Redirect(format!("http://{}", other.host()));
    // With a password, the request is followed and the password is not sent along.
    registry.fault("/token", elsewhere.clone(), 1);
    get_as(&home, &registry, "web", &options(), Some(&Credentials::new("me", "secret"))).unwrap();
    assert_eq!(other.seen().len(), 1);
    assert!(!other.seen()[0].headers.contains_key("authorization"));
    // With an identity token, which is in the body, it is not followed.
    registry.fault("/token", elsewhere, 1);
    let me = Credentials::identity("me", "identity");
    let failure = get_as(&home, &registry, "web", &options(), Some(&me)).unwrap_err();
    says(&failure, "redirects a request with secrets");
    assert_eq!(other.seen().len(), 1);
    for realm in ["https://evil.example/token", "http://evil.example/token"] {
        registry.set_realm(realm);
        let failure = get_as(&home, &registry, "web", &options(), Some(&me)).unwrap_err().to_string();
        assert!(failure.contains("not allowed") || failure.contains("not in its domain"), "{failure}");
    }
}

#[test]
fn a_token_server_beside_the_registry_needs_a_certificate() {
    let scene = scene();
    let tokens = Registry::start();
    tokens.require_token("t0ken", Some(("me", "secret")));
    scene.registry.require_token("t0ken", None);
    let front = Front::start(tokens.port, &scene.authority.certificate("127.0.0.1"), None);
    let me = || Some(Credentials::new("me", "secret"));
    scene.registry.set_realm(&format!("http://{}/token", tokens.host()));
    let failure = scene.pull(&scene.registry.host(), Transport::Auto, me()).unwrap_err();
    says(&failure, "wants your password sent to");
    scene.registry.set_realm(&format!("https://{}/token", front.host()));
    assert!(scene.pull(&scene.registry.host(), Transport::Auto, me()).is_err());
    assert_eq!(tokens.seen().len(), 0);
    scene.put(&front.host(), "ca.crt", &scene.authority.pem());
    scene.pull(&scene.registry.host(), Transport::Auto, me()).unwrap();
}

#[test]
fn a_login_asks_for_nothing_but_a_login() {
    let registry = Registry::start();
    registry.require_token("t0ken", Some(("me", "secret")));
    let log_in = |me: &Credentials| login(&registry.host(), Transport::Auto, me, &options());
    let me = Credentials::new("me", "secret");
    let accepted = log_in(&me).unwrap();
    assert_eq!((accepted.credentials, accepted.was_checked), (me.clone(), true));
    let asked: Vec<String> = registry.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked, ["/v2/", "/token?service=test&account=me&client_id=kelp&offline_token=true", "/v2/"]);
    let failure = Failure::from(log_in(&Credentials::new("me", "wrong")).unwrap_err());
    says(&failure, "does not accept this name and password (\"incorrect username or password\")");
    registry.set_realm("https://evil.example/");
    says(&log_in(&me).unwrap_err().into(), "wants your password sent to https://evil.example:443");
}

#[test]
fn a_host_chosen_by_a_stranger_is_no_path() {
    let scene = scene();
    scene.put("x", "ca.crt", "nonsense that is not to be read");
    let inner = Certificates::new(vec![scene.dir.path().join("x")]);
    for host in ["..", "../x", ".", "a/../../x"] {
        let origin = super::address::Origin { is_tls: true, host: host.to_owned(), port: 443 };
        assert!(inner.of(&origin).unwrap().roots.is_empty(), "{host}");
    }
    let origin = super::address::Origin { is_tls: true, host: "x".to_owned(), port: 443 };
    assert!(Certificates::new(vec![scene.dir.path().to_path_buf()]).of(&origin).is_err());
}
