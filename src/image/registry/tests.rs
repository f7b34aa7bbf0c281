//! The client and the pull against the registry of tests/support.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;

use super::fake::{Fault, Registry};
use super::{Credentials, Endpoint, Options, Route, Silent, Timeouts, Transport};
use crate::error::{Failure, Kind, Result};
use crate::image::Blobs;
use crate::image::descriptor::{DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::image::partial::Claim;
use crate::image::pull::{self, Pulled};
use crate::image::{Descriptor, Digest, Manifest, Platform, Reference, lookup, tags};
use crate::paths::Paths;

pub(super) struct Home {
    pub(super) paths: Paths,
    _dir: tempfile::TempDir,
}

pub(super) fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    Home { paths: Paths::new(dir.path().join("data"), dir.path().join("run")), _dir: dir }
}

pub(super) fn options() -> Options {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(500),
        document: Duration::from_secs(5),
        retry: Duration::from_millis(5),
    };
    Options { timeouts, ..Options::default() }
}

pub(super) struct Image {
    manifest: Vec<u8>,
    config: Digest,
    layers: Vec<Digest>,
}

/// Serves an image of `layers` for `architecture` as `repository:tag`.
pub(super) fn serve(registry: &Registry, repository: &str, tag: &str, architecture: &str, layers: &[&[u8]]) -> Image {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "os": "linux", "architecture": architecture, "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    registry.put_blob(&Digest::of(config.as_bytes()).to_string(), config.as_bytes());
    for layer in layers {
        registry.put_blob(&Digest::of(layer).to_string(), layer);
    }
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let layers = layers.iter().map(|layer| Descriptor::of(tar, layer)).collect();
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, config.as_bytes()), layers).to_bytes().unwrap();
    registry.put_manifest(repository, tag, &Digest::of(&manifest).to_string(), OCI_MANIFEST, &manifest);
    Image { manifest, config: Digest::of(config.as_bytes()), layers: diff_ids }
}

/// Pulls as the engine does, but without unpacking.
pub(in crate::image) fn pull(
    paths: &Paths,
    reference: &Reference,
    platform: &Platform,
    route: &Route,
    options: &Options,
) -> Result<Pulled> {
    let blobs = Blobs::open(paths)?;
    route.ask(options, |client| {
        let planned = pull::plan(paths, reference, platform, client)?;
        let mut partials = Vec::new();
        for layer in &planned.manifest.layers {
            if let Claim::Ours(partial) = blobs.claim(layer)? {
                partials.push(*partial);
            }
        }
        let has_fetched = !partials.is_empty();
        for blob in planned.fetch(partials, &Silent, &AtomicBool::new(false))? {
            blob.publish(&blobs)?;
        }
        planned.keep(paths, has_fetched)
    })
}

fn get(home: &Home, registry: &Registry, name: &str, options: &Options) -> Result<Pulled> {
    get_as(home, registry, name, options, None)
}

pub(super) fn get_as(
    home: &Home,
    registry: &Registry,
    name: &str,
    options: &Options,
    credentials: Option<&Credentials>,
) -> Result<Pulled> {
    let reference = Reference::parse(&format!("{}/{name}", registry.host())).unwrap();
    let route = Route::direct(Endpoint::of(&reference, Transport::Auto, credentials.cloned()));
    pull(&home.paths, &reference, &Platform::parse("linux/amd64").unwrap(), &route, options)
}

/// The way to what the reference names, as nobody in particular.
fn direct(reference: &Reference) -> Route {
    Route::direct(Endpoint::of(reference, Transport::Auto, None))
}

/// Nothing may be visible after a failure, and nothing half-written.
pub(super) fn assert_nothing(home: &Home) {
    assert_eq!(tags::list(&home.paths).unwrap(), []);
    let staged = std::fs::read_dir(home.paths.staging()).map_or(0, Iterator::count);
    assert_eq!(staged, 0, "files left in staging");
}

fn refused(home: &Home, registry: &Registry, name: &str, options: &Options, why: &str) -> Failure {
    let failure = get(home, registry, name, options).unwrap_err();
    assert!(failure.to_string().contains(why), "{failure}");
    assert_nothing(home);
    failure
}

#[test]
fn pulls_an_image() {
    let (home, registry) = (home(), Registry::start());
    let image = serve(&registry, "a/web", "1", "amd64", &[b"one", b"two", b"one", b"", b"five"]);
    let pulled = get(&home, &registry, "a/web:1", &options()).unwrap();
    assert_eq!((pulled.id, pulled.manifest, pulled.was_current), (image.config, Digest::of(&image.manifest), false));
    let stored = lookup::find(&home.paths, &pulled.reference.to_string()).unwrap();
    assert_eq!(stored.config.config.cmd, ["true"]);
    assert_eq!(stored.layers().map(|(_, id)| *id).collect::<Vec<_>>(), image.layers);
    let before = registry.seen().len();
    assert!(get(&home, &registry, "a/web:1", &options()).unwrap().was_current);
    assert_eq!(registry.seen().len(), before + 1, "only the manifest is asked for again");
}

#[test]
fn pulls_by_digest_and_by_platform() {
    let (home, registry) = (home(), Registry::start());
    let arm = serve(&registry, "web", "arm", "arm64", &[b"arm"]);
    let amd = serve(&registry, "web", "amd", "amd64", &[b"amd"]);
    let entry = |image: &Image, architecture: &str| {
        json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(&image.manifest), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&arm, "arm64"), entry(&amd, "amd64")]});
    let index = index.to_string();
    registry.put_manifest("web", "latest", &Digest::of(index.as_bytes()).to_string(), OCI_INDEX, index.as_bytes());
    let pulled = get(&home, &registry, "web", &options()).unwrap();
    assert_eq!((pulled.id, pulled.source), (amd.config, Digest::of(index.as_bytes())));

    let by_digest = format!("web:ignored@{}", pulled.source);
    let pulled = get(&home, &registry, &by_digest, &options()).unwrap();
    assert_eq!(pulled.id, amd.config);
    let name = pulled.reference.to_string();
    assert!(name.ends_with(&format!("web@{}", pulled.source)), "{name}");
    assert_eq!(lookup::find(&home.paths, &name).unwrap().id, amd.config);

    let reference = Reference::parse(&format!("{}/web", registry.host())).unwrap();
    let riscv = Platform::parse("linux/riscv64").unwrap();
    let failure = pull(&home.paths, &reference, &riscv, &direct(&reference), &options()).unwrap_err();
    assert!(failure.hints[0].contains("linux/amd64, linux/arm64"), "{failure:?}");
}

#[test]
fn another_platform_is_refused_before_its_layers() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "arm64", &[b"layer"]);
    let failure = refused(&home, &registry, "web", &options(), "is for linux/arm64, not for linux/amd64");
    assert!(failure.hints[0].contains("--platform linux/arm64"));
    assert_eq!(registry.seen().iter().filter(|seen| seen.path.contains("/blobs/")).count(), 1);
}

#[test]
fn wrong_bytes_are_refused() {
    let layer = Digest::of(b"layer").to_string();
    for (part, fault, why) in [
        (&*layer, Fault::Corrupt, "its content has digest"),
        (&*layer, Fault::Body(b"longer than the layer".to_vec()), "sends 21 bytes"),
        (&*layer, Fault::Body(b"lay".to_vec()), "sends 3 bytes"),
        (&*layer, Fault::Endless, "sends more of blob"),
        // A part where all was asked for.
        (&*layer, Fault::Status(206, vec![]), "sent another part"),
        (&*layer, Fault::Status(206, vec![("Content-Range", "bytes 2-4/5".to_owned())]), "sent another part"),
        (&*layer, Fault::Header("Content-Encoding", "gzip".to_owned()), "encoded content that nobody asked for"),
        ("manifests/latest", Fault::Header("Docker-Content-Digest", layer.clone()), "sent other content"),
        ("manifests/latest", Fault::Body(vec![b'['; 5 << 20]), "larger than"),
        ("manifests/latest", Fault::Corrupt, "has digest"),
        ("manifests/latest", Fault::Endless, "larger than"),
        ("manifests/latest", Fault::ContentType(OCI_INDEX), "was sent as"),
        ("manifests/latest", Fault::ContentType(DOCKER_MANIFEST), "was sent as"),
        ("manifests/latest", Fault::ContentType("text/html"), "was sent as"),
    ] {
        let (home, registry) = (home(), Registry::start());
        serve(&registry, "web", "latest", "amd64", &[b"layer"]);
        registry.fault(part, fault.clone(), 9);
        refused(&home, &registry, "web", &options(), why);
    }
}

#[test]
fn a_tampered_child_of_an_index_is_refused() {
    let (home, registry) = (home(), Registry::start());
    let image = serve(&registry, "web", "amd", "amd64", &[b"amd"]);
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "size": image.manifest.len(),
        "digest": Digest::of(&image.manifest), "platform": {"os": "linux", "architecture": "amd64"}}]})
    .to_string();
    registry.put_manifest("web", "latest", &Digest::of(index.as_bytes()).to_string(), OCI_INDEX, index.as_bytes());
    registry.fault("manifests/sha256:", Fault::Corrupt, 1);
    refused(&home, &registry, "web", &options(), "sent other content than it should");
}

#[test]
fn manifests_must_fit_their_config() {
    let (home, registry) = (home(), Registry::start());
    let config = br#"{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}"#;
    registry.put_blob(&Digest::of(config).to_string(), config);
    let layer = Descriptor::of("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer");
    let manifest = Manifest::new(Descriptor::of(DOCKER_CONFIG, config), vec![layer]).to_bytes().unwrap();
    registry.put_manifest("web", "latest", &Digest::of(&manifest).to_string(), OCI_MANIFEST, &manifest);
    refused(&home, &registry, "web", &options(), "1 layers but its config names 0");
}

#[test]
fn broken_streams_are_resumed() {
    let (home, registry) = (home(), Registry::start());
    let layer: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    serve(&registry, "web", "latest", "amd64", &[&layer]);
    registry.fault(&Digest::of(&layer).to_string(), Fault::Truncate(100_000), 2);
    get(&home, &registry, "web", &options()).unwrap();
    let ranges: Vec<_> = registry.seen().iter().filter_map(|seen| seen.headers.get("range").cloned()).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[test]
fn who_lies_about_a_range_is_refused() {
    let layer: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&layer).to_string();
    for range in ["bytes 0-299999/300000", "bytes 100001-299999/300000", "bytes */300000", "items 100000-2/3", "-"] {
        let (home, registry) = (home(), Registry::start());
        serve(&registry, "web", "latest", "amd64", &[&layer]);
        registry.fault(&digest, Fault::Truncate(100_000), 1);
        registry.fault(&digest, Fault::Header("Content-Range", range.to_owned()), 9);
        refused(&home, &registry, "web", &options(), "sent another part");
    }
    // Another range than it says, of the right length: the digest is the judge.
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[&layer]);
    registry.fault(&digest, Fault::Truncate(100_000), 1);
    registry.fault(&digest, Fault::Body(layer[..200_000].to_vec()), 1);
    refused(&home, &registry, "web", &options(), "its content has digest");
}

#[test]
fn a_stream_that_always_breaks_ends_in_an_error() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.fault(&Digest::of(b"layer").to_string(), Fault::Truncate(0), 99);
    refused(&home, &registry, "web", &options(), "broke off");
    let slow = Fault::Slow(Duration::from_secs(3));
    let registry = Registry::start();
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.fault(&Digest::of(b"layer").to_string(), slow, 99);
    let failure = get(&home, &registry, "web", &options()).unwrap_err();
    assert!(failure.to_string().contains("broke off"), "{failure}");
    assert_eq!(tags::list(&home.paths).unwrap(), []);
}

#[test]
fn the_next_pull_goes_on_where_one_broke_off() {
    let (home, registry) = (home(), Registry::start());
    let layer: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&layer).to_string();
    serve(&registry, "web", "latest", "amd64", &[&layer]);
    registry.fault(&digest, Fault::Truncate(100_000), 1);
    registry.fault(&digest, Fault::Status(404, vec![]), 1);
    get(&home, &registry, "web", &options()).unwrap_err();
    get(&home, &registry, "web", &options()).unwrap();
    let asked: Vec<_> = registry.seen().into_iter().filter(|seen| seen.path.ends_with(&digest)).collect();
    let ranges: Vec<_> = asked.iter().map(|seen| seen.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=100000-")]);
}

#[test]
fn a_beginning_that_is_wrong_is_fetched_anew() {
    let (home, registry) = (home(), Registry::start());
    let image = serve(&registry, "web", "latest", "amd64", &[b"the layer"]);
    Blobs::open(&home.paths).unwrap();
    let partial = home.paths.staging().join(format!("partial.{}", image.layers[0].hex()));
    std::fs::write(partial, b"what ").unwrap();
    get(&home, &registry, "web", &options()).unwrap();
    assert!(lookup::find(&home.paths, &format!("{}/web", registry.host())).is_ok());
}

#[test]
fn busy_registries_are_asked_again() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.fault("manifests", Fault::Status(429, vec![("Retry-After", "0".to_owned())]), 2);
    registry.fault("manifests", Fault::HangUp, 1);
    registry.fault("blobs", Fault::Status(503, vec![]), 1);
    registry.fault("blobs", Fault::Status(500, vec![]), 1);
    get(&home, &registry, "web", &options()).unwrap();
}

#[test]
fn busy_for_good_is_an_error_with_a_hint() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.fault("manifests", Fault::Status(429, vec![("Retry-After", "86400".to_owned())]), 1);
    let failure = refused(&home, &registry, "web", &options(), "limits requests (status 429)");
    assert!(failure.hints[0].contains("log in"));
    assert_eq!(registry.seen().len(), 1, "a day is not waited for");
    registry.fault("manifests", Fault::Status(500, vec![]), 99);
    refused(&home, &registry, "web", &options(), "answered status 500");
    let registry = Registry::start();
    registry.fault("manifests", Fault::Status(400, vec![]), 99);
    refused(&home, &registry, "web", &options(), "answered status 400");
    assert_eq!(registry.seen().len(), 1, "a registry that says no is not asked for TLS");
}

#[test]
fn unknown_images_are_not_found() {
    let (home, registry) = (home(), Registry::start());
    let failure = refused(&home, &registry, "web:9", &options(), "has no image");
    assert_eq!(failure.kind, Kind::NotFound);
    let image = serve(&registry, "web", "9", "amd64", &[b"layer"]);
    registry.fault(&image.layers[0].to_string(), Fault::Status(404, vec![]), 9);
    refused(&home, &registry, "web:9", &options(), "has no blob sha256:");
}

#[test]
fn tokens_are_fetched_and_kept() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "a/web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", None);
    get(&home, &registry, "a/web", &options()).unwrap();
    let seen = registry.seen();
    let tokens: Vec<_> = seen.iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?scope=repository%3Aa%2Fweb%3Apull&service=test");
    assert!(!tokens[0].headers.contains_key("authorization"));
}

#[test]
fn credentials_are_for_those_who_ask() {
    let (home, registry) = (home(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", Some(("me", "secret")));
    let nobody = refused(&home, &registry, "web", &options(), "refused access");
    assert!(nobody.hints[0].contains("login"), "{nobody:?}");
    let wrong = Credentials::new("me", "wrong");
    let failure = get_as(&home, &registry, "web", &options(), Some(&wrong)).unwrap_err();
    assert!(failure.to_string().contains("incorrect username or password"), "{failure}");
    assert!(failure.hints[0].contains("check name and password"));
    assert_nothing(&home);
    let right = Credentials::new("me", "secret");
    get_as(&home, &registry, "web", &options(), Some(&right)).unwrap();

    let basic = Registry::start();
    serve(&basic, "web", "latest", "amd64", &[b"layer"]);
    basic.require_basic(&format!("Basic {}", super::fake::base64("me", "secret")));
    get_as(&home, &basic, "web", &options(), Some(&right)).unwrap();
    assert!(get(&home, &basic, "web", &options()).unwrap_err().to_string().contains("refused access"));
}

#[test]
fn passwords_do_not_go_to_strange_realms() {
    for realm in ["https://evil.example/token", "http://evil.example/token", "ftp://x/", "nonsense"] {
        let (home, registry) = (home(), Registry::start());
        serve(&registry, "web", "latest", "amd64", &[b"layer"]);
        registry.require_token("t0ken", None);
        registry.set_realm(realm);
        let credentials = Credentials::new("me", "secret");
        let failure = get_as(&home, &registry, "web", &options(), Some(&credentials)).unwrap_err().to_string();
        assert!(
            failure.contains("not allowed") || failure.contains("not in its domain") || failure.contains("not a URL"),
            "{failure}"
        );
        assert_nothing(&home);
    }
}

#[test]
fn redirects_carry_no_authorization() {
    let (home, registry, other) = (home(), Registry::start(), Registry::start());
    serve(&registry, "web", "latest", "amd64", &[b"layer"]);
    serve(&other, "web", "latest", "amd64", &[b"layer"]);
    registry.require_token("t0ken", None);
    // The first answer of each is the challenge or the redirect.
    registry.fault("/blobs/", Fault::Redirect(format!("http://{}", other.host())), 9);
    get(&home, &registry, "web", &options()).unwrap();
    let seen = other.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")), "{seen:?}");
    assert!(registry.seen().iter().any(|seen| seen.headers.contains_key("authorization")));
}

#[test]
fn bad_redirects_are_refused() {
    for (location, why) in [
        ("http://registry.example/", "not allowed"),
        ("file:///etc/passwd", "not a URL"),
        ("http://u:p@127.0.0.1/", "not a URL"),
        ("", "without end"),
    ] {
        let (home, registry) = (home(), Registry::start());
        serve(&registry, "web", "latest", "amd64", &[b"layer"]);
        let location = if location.is_empty() { "/v2/web/manifests/latest" } else { location };
        registry.fault("manifests", Fault::Location(location.to_owned()), 99);
        refused(&home, &registry, "web", &options(), why);
    }
}

#[test]
fn nobody_there_is_said_so() {
    let home = home();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reference = Reference::parse(&format!("127.0.0.1:{port}/web")).unwrap();
    let failure = pull(&home.paths, &reference, &Platform::host(), &direct(&reference), &options()).unwrap_err();
    assert!(failure.to_string().contains("cannot reach 127.0.0.1"), "{failure}");
    assert_nothing(&home);
    let local = Reference::parse("localhost/web").unwrap();
    assert!(pull(&home.paths, &local, &Platform::host(), &direct(&local), &options()).is_err());
}

#[test]
fn a_garbled_answer_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(1) {
            let mut stream = stream;
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        }
    });
    let home = home();
    let reference = Reference::parse(&format!("127.0.0.1:{port}/web")).unwrap();
    assert!(pull(&home.paths, &reference, &Platform::host(), &direct(&reference), &options()).is_err());
    assert_nothing(&home);
}
