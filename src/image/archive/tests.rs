//! Archives as the tools write them, and as an attacker would.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::error::Failure;
use crate::image::descriptor::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::image::registry::Silent;
use crate::image::{Blobs, Manifest, Platform, Reference, lookup};
use crate::limits;

struct Home {
    dir: tempfile::TempDir,
    paths: Paths,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
    Home { dir, paths }
}

fn amd64() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

/// Files of an archive by name; a link's target after `->`.
type Files = Vec<(String, Vec<u8>)>;

fn tar_of(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = bytes.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, std::str::from_utf8(target).unwrap()).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn layer(name: &str) -> Vec<u8> {
    tar_of(&vec![(name.to_owned(), b"content".to_vec())])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config_of(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into_bytes()
}

/// As docker save wrote it until 24, a repeated layer being a link.
fn docker_archive(tags: Value) -> (Files, Digest) {
    let layers = [layer("a"), layer("b"), layer("a")];
    let config = config_of(&layers);
    let manifest =
        json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]);
    let files = vec![
        ("1/layer.tar".to_owned(), layers[0].clone()),
        ("2/layer.tar".to_owned(), layers[1].clone()),
        ("3/layer.tar".to_owned(), b"->../1/layer.tar".to_vec()),
        ("config.json".to_owned(), config.clone()),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ];
    (files, Digest::of(&config))
}

fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec())
}

fn oci_layout(annotations: Value) -> (Files, Digest) {
    let plain = layer("a");
    let packed = gzip(&plain);
    let config = config_of(&[plain]);
    let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", &packed);
    let manifest = Manifest::new(Descriptor::of(OCI_CONFIG, &config), vec![layer]).to_bytes().unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": Digest::of(&manifest),
        "size": manifest.len(), "annotations": annotations}]});
    let files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        blob(&packed),
        blob(&config),
        blob(&manifest),
    ];
    (files, Digest::of(&config))
}

fn file(home: &Home, bytes: &[u8]) -> PathBuf {
    let path = home.dir.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn directory(home: &Home, files: &Files) -> PathBuf {
    let dir = home.dir.path().join("layout");
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

/// As the engine loads, without the unpacking.
fn load(paths: &Paths, input: Input<'_>, platform: &Platform) -> Result<Vec<Loaded>> {
    let blobs = Blobs::open(paths)?;
    let mut archive = Archive::read(&blobs, input, platform)?;
    let all = 0..archive.layers().len();
    archive.copy(all, &Silent)?.into_iter().try_for_each(|blob| blob.publish())?;
    let loaded = archive.finish()?;
    loaded.iter().try_for_each(|image| keep(paths, image))?;
    Ok(loaded)
}

fn import(paths: &Paths, reader: &mut dyn std::io::Read, options: &ImportOptions) -> Result<Loaded> {
    let image = super::import(paths, reader, options)?;
    keep(paths, &image)?;
    Ok(image)
}

fn load_path(home: &Home, path: &Path) -> Result<Vec<Loaded>> {
    load(&home.paths, Input::Path(path), &amd64())
}

fn refused(home: &Home, path: &Path, why: &str) -> Failure {
    let failure = load_path(home, path).unwrap_err();
    assert!(failure.to_string().contains(why), "{failure}");
    assert_eq!(tags::list(&home.paths).unwrap(), [], "nothing is visible after a failure");
    assert_eq!(std::fs::read_dir(home.paths.staging()).unwrap().count(), 0);
    failure
}

#[test]
fn docker_archives_plain_packed_and_streamed() {
    let (files, id) = docker_archive(json!(["web:1", "quay.io/a/web:2"]));
    let tar = tar_of(&files);
    for bytes in [tar.clone(), gzip(&tar), zstd::encode_all(&*tar, 1).unwrap()] {
        let home = home();
        let loaded = load_path(&home, &file(&home, &bytes)).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id, id);
        let image = lookup::find(&home.paths, "web:1").unwrap();
        assert_eq!((image.id, image.references.len(), image.manifest.layers.len()), (id, 2, 3));
        assert_eq!(image.manifest.layers[0], image.manifest.layers[2]);

        let home = self::home();
        let streamed = load(&home.paths, Input::Stream(&mut &*bytes), &amd64()).unwrap();
        assert_eq!(streamed, loaded);
    }
}

#[test]
fn layers_are_read_where_they_lie() {
    let (files, _) = docker_archive(json!([]));
    let tar = tar_of(&files);
    let home = home();
    let blobs = Blobs::open(&home.paths).unwrap();
    let path = file(&home, &tar);
    for input in [Input::Path(&path), Input::Stream(&mut &*gzip(&tar))] {
        let archive = Archive::read(&blobs, input, &amd64()).unwrap();
        // The layer that is in it twice has two names.
        assert_eq!(archive.layers().len(), 3);
        for layer in archive.layers() {
            let mut bytes = Vec::new();
            archive.open(layer).unwrap().take(layer.size).read_to_end(&mut bytes).unwrap();
            assert_eq!(Digest::of(&bytes), layer.diff_id);
        }
        let failure = archive.finish().unwrap_err();
        assert!(failure.to_string().contains("not copied"), "{failure}");
    }
}

#[test]
fn docker_archives_without_names_and_with_packed_layers() {
    let home = home();
    let plain = layer("a");
    let config = config_of(std::slice::from_ref(&plain));
    let manifest = json!([{"Config": "c", "RepoTags": null, "Layers": ["l.tar.gz"]}]).to_string().into_bytes();
    let files = vec![
        ("./c".to_owned(), config.clone()),
        ("./l.tar.gz".to_owned(), gzip(&plain)),
        ("./manifest.json".to_owned(), manifest),
    ];
    let loaded = load_path(&home, &file(&home, &tar_of(&files))).unwrap();
    assert_eq!(loaded[0].references, []);
    let image = lookup::find(&home.paths, &Digest::of(&config).hex()).unwrap();
    assert!(image.manifest.layers[0].media_type.ends_with("+gzip"));
}

#[test]
fn oci_archives_and_directories() {
    for (annotations, name) in [
        (json!({"org.opencontainers.image.ref.name": "web:1"}), Some("localhost/web:1")),
        (json!({"org.opencontainers.image.ref.name": "v1"}), Some("localhost/v1:latest")),
        (json!({"org.opencontainers.image.ref.name": "docker.io/library/web:1"}), Some("docker.io/library/web:1")),
        (
            json!({"io.containerd.image.name": "docker.io/library/web:1", "org.opencontainers.image.ref.name": "1"}),
            Some("docker.io/library/web:1"),
        ),
        (json!({"org.opencontainers.image.ref.name": "../../etc"}), None),
        (json!({}), None),
    ] {
        let (files, id) = oci_layout(annotations);
        let names: Vec<Reference> = name.into_iter().map(|name| Reference::parse(name).unwrap()).collect();
        let home = home();
        let from_tar = load_path(&home, &file(&home, &tar_of(&files))).unwrap();
        assert_eq!((from_tar[0].id, &from_tar[0].references), (id, &names));
        let home = self::home();
        assert_eq!(load_path(&home, &directory(&home, &files)).unwrap(), from_tar);
        assert_eq!(lookup::find(&home.paths, &id.hex()[..12]).unwrap().references, names);
    }
}

#[test]
fn links_in_a_directory_are_refused() {
    for victim in ["index.json", "oci-layout", "blob", "blobs"] {
        let home = home();
        let (files, _) = oci_layout(json!({}));
        let dir = directory(&home, &files);
        let victim = if victim == "blob" { &*files[2].0 } else { victim };
        let outside = home.dir.path().join("outside");
        std::fs::rename(dir.join(victim), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join(victim)).unwrap();
        refused(&home, &dir, "symbolic link");
    }
}

#[test]
fn fifos_do_not_hang() {
    let home = home();
    let (files, _) = oci_layout(json!({}));
    let dir = directory(&home, &files);
    std::fs::remove_file(dir.join("index.json")).unwrap();
    nix::unistd::mkfifo(&dir.join("index.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&home, &dir, "not a regular file");
}

fn changed(files: &Files, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut files = files.clone();
    files.iter_mut().filter(|(other, _)| other == name).for_each(|(_, old)| *old = bytes.to_vec());
    tar_of(&files)
}

#[test]
fn wrong_content_is_refused() {
    let (oci, _) = oci_layout(json!({}));
    let (docker, _) = docker_archive(json!(["web"]));
    let huge = vec![b' '; 5 << 20];
    let evil = json!([{"Config": "../../../../etc/passwd", "Layers": []}]).to_string();
    let few = json!([{"Config": "config.json", "Layers": ["1/layer.tar"]}]).to_string();
    let bad_name = json!([{"Config": "config.json", "RepoTags": ["Bad"], "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]).to_string();
    for (bytes, why) in [
        (changed(&oci, &oci[2].0, &gzip(b"other")), "blob"),
        (changed(&oci, &oci[3].0, b"{}"), "blob"),
        (changed(&oci, &oci[4].0, b"{}"), "blob"),
        (changed(&oci, "index.json", &huge), "larger than"),
        (changed(&oci, "index.json", br#"{"schemaVersion": 2, "manifests": []}"#), "holds no image"),
        (changed(&oci, "oci-layout", br#"{"imageLayoutVersion": "9"}"#), "version"),
        (tar_of(&oci[..3].to_vec()), "has no blob"),
        (changed(&docker, "1/layer.tar", &layer("other")), "its content has digest"),
        (changed(&docker, "1/layer.tar", &gzip(&layer("other"))), "its content has digest"),
        (changed(&docker, "3/layer.tar", b"->3/layer.tar"), "has no file"),
        (changed(&docker, "3/layer.tar", b"->layer.tar"), "without end"),
        (changed(&docker, "3/layer.tar", b"->/etc/passwd"), "has no file"),
        (changed(&docker, "manifest.json", evil.as_bytes()), "has no file"),
        (changed(&docker, "manifest.json", few.as_bytes()), "lists 1 layers but the image config names 3"),
        (changed(&docker, "manifest.json", bad_name.as_bytes()), "lower case"),
        (changed(&docker, "config.json", b"[]"), "config is not valid"),
        (b"hello".to_vec(), "not a tar"),
        (vec![7; 4096], "not a tar"),
        (Vec::new(), "not a tar"),
        (b"\xfd7zXZ\0".to_vec(), "xz compression"),
        (layer("a"), "neither"),
    ] {
        let home = home();
        refused(&home, &file(&home, &bytes), why);
        // A pipe is read in another way, with the same result.
        let failure = load(&home.paths, Input::Stream(&mut &*bytes), &amd64()).unwrap_err();
        assert!(failure.to_string().contains(why), "{failure}");
        assert_eq!(tags::list(&home.paths).unwrap(), []);
        assert_eq!(std::fs::read_dir(home.paths.staging()).unwrap().count(), 0);
    }
    let home = home();
    let failure = refused(&home, &file(&home, &layer("etc/passwd")), "neither");
    assert!(failure.hints[0].contains("kelp import"));
}

#[test]
fn damaged_tars_are_errors_not_panics() {
    let (files, _) = docker_archive(json!(["web"]));
    let tar = tar_of(&files);
    // The last two blocks are empty, and may be missing.
    for cut in (1..tar.len() - 1024).step_by(333) {
        let home = home();
        load_path(&home, &file(&home, &tar[..cut])).unwrap_err();
        load(&home.paths, Input::Stream(&mut &tar[..cut]), &amd64()).unwrap_err();
    }
    for at in (0..tar.len()).step_by(101) {
        let home = home();
        let mut tar = tar.clone();
        tar[at] ^= 0xff;
        drop(load_path(&home, &file(&home, &tar)));
        drop(load(&home.paths, Input::Stream(&mut &*tar), &amd64()));
    }
}

#[test]
fn a_huge_extension_header_is_refused_unread() {
    let home = home();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let path = file(&home, header.as_bytes());
    std::fs::File::options().write(true).open(&path).unwrap().set_len(2 << 40).unwrap();
    refused(&home, &path, "extension header");
}

#[test]
fn long_names_and_pax_sizes_are_read() {
    let home = home();
    let (mut files, id) = docker_archive(json!(["web"]));
    let long = format!("{}/layer.tar", "x".repeat(300));
    files[1].0.clone_from(&long);
    let manifest = String::from_utf8(files[4].1.clone()).unwrap().replace("2/layer.tar", &long);
    files[4].1 = manifest.into_bytes();
    assert_eq!(load_path(&home, &file(&home, &tar_of(&files))).unwrap()[0].id, id);

    // The size in a pax header counts, as Go writes it for large files.
    let (files, id) = docker_archive(json!(["web"]));
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in &files[..2] {
        let size = bytes.len().to_string();
        builder.append_pax_extensions([("size", size.as_bytes()), ("path", name.as_bytes())]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(0);
        header.set_cksum();
        builder.get_mut().extend_from_slice(header.as_bytes());
        builder.get_mut().extend_from_slice(bytes);
    }
    let mut tar = builder.into_inner().unwrap();
    tar.truncate(tar.len() - 1024);
    tar.extend(tar_of(&files[2..].to_vec()));
    let home = self::home();
    assert_eq!(load_path(&home, &file(&home, &tar)).unwrap()[0].id, id);
}

/// A layer that is too large to be set aside when it comes through a pipe.
fn large_layer() -> Vec<u8> {
    tar_of(&vec![("large".to_owned(), vec![b'x'; limits::ARCHIVE_ASIDE_BYTES_MAX as usize])])
}

#[test]
fn large_layers_of_a_pipe_are_written_once() {
    let plain = large_layer();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..2 << 20).map(|_| random()).collect();
    let packed = gzip(&tar_of(&vec![("noise".to_owned(), noise)]));
    assert!(packed.len() as u64 > limits::ARCHIVE_ASIDE_BYTES_MAX);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
    let config = config_of(&[plain.clone(), unpacked]);
    let manifest = |layers: [&str; 2]| json!([{"Config": "c", "Layers": layers}]).to_string().into_bytes();
    let files = vec![
        ("1/layer.tar".to_owned(), plain.clone()),
        ("2/layer.tar".to_owned(), packed.clone()),
        ("c".to_owned(), config.clone()),
        ("manifest.json".to_owned(), manifest(["1/layer.tar", "2/layer.tar"])),
    ];
    let home = home();
    let loaded = load(&home.paths, Input::Stream(&mut &*tar_of(&files)), &amd64()).unwrap();
    assert_eq!(loaded[0].id, Digest::of(&config));
    let image = lookup::find(&home.paths, &loaded[0].id.hex()).unwrap();
    let digests: Vec<Digest> = image.manifest.layers.iter().map(|layer| layer.digest).collect();
    assert_eq!(digests, [Digest::of(&plain), Digest::of(&packed)]);
    let home = self::home();
    assert_eq!(load_path(&home, &file(&home, &tar_of(&files))).unwrap(), loaded);
    for (layers, why) in [(["2/layer.tar", "1/layer.tar"], "its content has digest"), (["1/layer.tar", "3"], "no file")]
    {
        let home = self::home();
        let bytes = changed(&files, "manifest.json", &manifest(layers));
        let failure = load(&home.paths, Input::Stream(&mut &*bytes), &amd64()).unwrap_err();
        assert!(failure.to_string().contains(why), "{failure}");
    }
    // A blob's name is its digest, or the archive lies.
    let (mut files, _) = oci_layout(json!({}));
    files.push((format!("blobs/sha256/{}", Digest::of(b"other").hex()), plain));
    let failure = load(&self::home().paths, Input::Stream(&mut &*tar_of(&files)), &amd64()).unwrap_err();
    assert!(failure.to_string().contains("its content has digest"), "{failure}");
}

#[test]
fn legacy_archives_with_directories_and_links() {
    let (mut files, id) = docker_archive(json!(["web"]));
    for (number, parent) in [("1", ""), ("2", "1"), ("3", "2")] {
        files.insert(0, (format!("{number}/VERSION"), b"1.0".to_vec()));
        let json = json!({"id": number, "parent": parent}).to_string();
        files.insert(1, (format!("{number}/json"), json.into_bytes()));
    }
    files.push(("repositories".to_owned(), br#"{"web": {"latest": "../../3"}}"#.to_vec()));
    let mut tar = tar_of(&files);
    let home = home();
    assert_eq!(load_path(&home, &file(&home, &tar)).unwrap()[0].id, id);
    // The same layer as a hard link, which names it from the top.
    let hard = |target: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        builder.append_link(&mut header, "3/layer.tar", target).unwrap();
        let link = builder.into_inner().unwrap();
        let mut tar = link[..512].to_vec();
        tar.extend(tar_of(&files.iter().filter(|(name, _)| name != "3/layer.tar").cloned().collect()));
        tar
    };
    tar = hard("1/layer.tar");
    let home = self::home();
    assert_eq!(load_path(&home, &file(&home, &tar)).unwrap()[0].id, id);
    for target in ["/etc/passwd", "../1/layer.tar", "3/layer.tar"] {
        let home = self::home();
        load_path(&home, &file(&home, &hard(target))).unwrap_err();
    }
    let old: Files = files.into_iter().filter(|(name, _)| name != "manifest.json").collect();
    let home = self::home();
    let failure = refused(&home, &file(&home, &tar_of(&old)), "neither");
    assert!(failure.hints[0].contains("docker before 1.10"));
}

#[test]
fn indexes_that_lie_are_refused() {
    let (files, _) = oci_layout(json!({}));
    let index: Value = serde_json::from_slice(&files[1].1).unwrap();
    let image = index["manifests"][0].clone();
    let index_of = |entry: &Value| json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let described = |bytes: &[u8]| json!({"mediaType": OCI_INDEX, "digest": Digest::of(bytes), "size": bytes.len()});
    let nested = |depth: usize| {
        let mut files = files.clone();
        let mut entry = image.clone();
        for _ in 0..depth {
            let inner = index_of(&entry);
            entry = described(&inner);
            files.push(blob(&inner));
        }
        files[1].1 = index_of(&entry);
        tar_of(&files)
    };
    let home = home();
    assert_eq!(load_path(&home, &file(&home, &nested(2))).unwrap().len(), 1);
    let with = |field: &str, value: Value| {
        let mut entry = image.clone();
        entry[field] = value;
        changed(&files, "index.json", &index_of(&entry))
    };
    let sizes = |size: Value| {
        let mut manifest: Value = serde_json::from_slice(&files[4].1).unwrap();
        manifest["layers"][0]["size"] = size;
        let manifest = manifest.to_string().into_bytes();
        let mut files = files.clone();
        files[1].1 =
            index_of(&json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(&manifest), "size": manifest.len()}));
        files[4] = blob(&manifest);
        tar_of(&files)
    };
    let many = json!({"schemaVersion": 2, "manifests": (0..2000).map(|number| {
        let mut entry = image.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": format!("n{number}")});
        entry
    }).collect::<Vec<_>>()});
    for (bytes, why) in [
        (nested(9), "deep"),
        (with("size", json!(1)), "bytes"),
        (with("size", json!(5 << 20)), "larger than"),
        (with("digest", json!("sha256:../../../../etc/passwd")), "digest"),
        (with("digest", json!(format!("sha512:{}", "a".repeat(128)))), "digest"),
        (with("mediaType", json!(OCI_INDEX)), "manifest"),
        (sizes(json!(1)), "more bytes than announced"),
        (sizes(json!(1_u64 << 40)), "instead of"),
        (sizes(json!(-1)), "not valid"),
        (changed(&files, "index.json", many.to_string().as_bytes()), "more than 1024 images"),
    ] {
        let home = self::home();
        refused(&home, &file(&home, &bytes), why);
    }
    // A name at the digest of something else is none.
    let name = format!("docker.io/library/web@{}", Digest::of(b"other"));
    let bytes = with("annotations", json!({"io.containerd.image.name": name}));
    let home = self::home();
    assert_eq!(load_path(&home, &file(&home, &bytes)).unwrap()[0].references, []);
    let (files, _) = docker_archive(json!([format!("web@{}", Digest::of(b"other"))]));
    let home = self::home();
    refused(&home, &file(&home, &tar_of(&files)), "has a digest");
}

#[test]
fn several_images_and_platforms() {
    let home = home();
    let (mut files, first) = oci_layout(json!({"org.opencontainers.image.ref.name": "one"}));
    let mut index: Value = serde_json::from_slice(&files[1].1).unwrap();
    let mut again = index["manifests"][0].clone();
    again["annotations"] = json!({"org.opencontainers.image.ref.name": "two"});
    let mut arm = index["manifests"][0].clone();
    arm["digest"] = json!(Digest::of(b"not here"));
    arm["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let mut attestation = arm.clone();
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    index["manifests"].as_array_mut().unwrap().extend([again, arm, attestation]);
    files[1].1 = index.to_string().into_bytes();
    let loaded = load_path(&home, &file(&home, &tar_of(&files))).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!((loaded[0].id, loaded[0].references.len()), (first, 2));
}

#[test]
fn images_for_elsewhere_are_refused() {
    let home = home();
    let (files, _) = docker_archive(json!(["web"]));
    let path = file(&home, &tar_of(&files));
    let arm = Platform::parse("linux/arm64").unwrap();
    let failure = load(&home.paths, Input::Path(&path), &arm).unwrap_err();
    assert!(failure.to_string().contains("for linux/amd64, not for linux/arm64"), "{failure}");
    assert_eq!(tags::list(&home.paths).unwrap(), []);
}

#[test]
fn root_file_systems_become_images() {
    let options = |name: Option<&str>| ImportOptions {
        reference: name.map(|name| Reference::parse_local(name).unwrap()),
        message: Some("mine".to_owned()),
        changes: vec!["CMD [\"/bin/sh\"]".to_owned()],
        platform: amd64(),
    };
    let plain = tar_of(&vec![("etc/passwd".to_owned(), b"root:x:0:0::/:/bin/sh\n".to_vec())]);
    for bytes in [plain.clone(), gzip(&plain), zstd::encode_all(&*plain, 1).unwrap()] {
        let home = home();
        import(&home.paths, &mut &*bytes, &options(Some("base"))).unwrap();
        let image = lookup::find(&home.paths, "base").unwrap();
        assert_eq!(image.config.rootfs.diff_ids, [Digest::of(&plain)]);
        assert_eq!(image.manifest.layers[0].digest, Digest::of(&bytes));
        assert_eq!(image.config.config.cmd, ["/bin/sh"]);
        assert_eq!(image.config.history[0].comment.as_deref(), Some("mine"));
    }
    let home = home();
    let unnamed = import(&home.paths, &mut &*plain, &options(None)).unwrap();
    assert_eq!(lookup::find(&home.paths, &unnamed.id.hex()).unwrap().references, []);
    for bytes in [&b"<html>"[..], b"", &vec![9; 2000], &gzip(b"<html>"), &gzip(&plain)[..30]] {
        assert!(import(&home.paths, &mut &*bytes, &options(None)).is_err());
    }
    assert_eq!(std::fs::read_dir(home.paths.staging()).unwrap().count(), 0);
}
