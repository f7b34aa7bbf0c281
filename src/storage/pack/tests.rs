//! Trees made at random, packed and unpacked again, and compared with what
//! overlayfs itself shows. They run as root of a user namespace, since modes
//! and owners are random too.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use nix::sys::time::TimeSpec;
use proptest::prelude::*;

use super::*;
use crate::error::Failure;
use crate::kernel::{self, file, open};
use crate::storage::as_root::in_namespace;
use crate::storage::unpack::{self, Owners};

const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// A directory that is removed whatever its modes are.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        fs::set_permissions(place.root(), Permissions::from_mode(0o755)).unwrap();
        place
    }

    /// With the tar unpacked in it.
    fn of(tar: &[u8]) -> Self {
        let place = Self::new();
        let root = open::open_dir(&place.root()).unwrap();
        let summary = unpack::apply(tar, root.as_fd(), &unpack::Options::new(Owners::AsRecorded)).unwrap();
        assert_eq!(summary.dropped_attributes, 0);
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
        let time = TimeSpec::new(1_600_000_000, 0);
        file::set_times(open::open(&self.path(path), libc::O_RDONLY).unwrap().as_fd(), &time, &time).unwrap();
    }

    fn whiteout(&self, path: &str) {
        let dir = open::open_dir(self.path(path).parent().unwrap()).unwrap();
        let name = Path::new(path).file_name().unwrap();
        file::make_node(dir.as_fd(), Path::new(name), SFlag::S_IFCHR, 0, 0).unwrap();
    }

    fn mark_opaque(&self, path: &str) {
        let dir = open::open_dir(&self.path(path)).unwrap();
        file::set_attribute(dir.as_fd(), OPAQUE, b"y").unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let dir = open::open_dir(self.0.path()).unwrap();
        let removed = crate::storage::sweep::remove_tree(dir.as_fd(), Path::new("root"), dir.as_fd());
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

fn try_pack(new: &[&Place], old: &[&Place], options: &Options) -> Result<(Vec<u8>, Summary)> {
    let open = |places: &[&Place]| -> Vec<OwnedFd> {
        places.iter().map(|place| open::open(&place.root(), libc::O_PATH | libc::O_DIRECTORY).unwrap()).collect()
    };
    let mut bytes = Vec::new();
    let summary = pack(&open(new), &open(old), options, &mut bytes)?;
    Ok((bytes, summary))
}

fn packed(new: &[&Place], old: &[&Place], form: Form) -> Vec<u8> {
    let (bytes, summary) = try_pack(new, old, &Options::of(form)).unwrap();
    assert_eq!(summary.changed, 0);
    bytes
}

/// The names in a tar, in order.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let name =
        |entry: std::io::Result<tar::Entry<'_, _>>| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned();
    archive.entries().unwrap().map(name).collect()
}

fn changes(new: &[&Place], old: &[&Place]) -> Vec<String> {
    let list = parse_changes(&packed(new, old, Form::Changes)).unwrap();
    list.iter().map(|change| format!("{} {}", change.kind.letter(), String::from_utf8_lossy(&change.path))).collect()
}

#[test]
fn a_layer_is_the_difference() {
    if !in_namespace("storage::pack::tests::a_layer_is_the_difference") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    for path in ["etc/motd", "etc/passwd", "etc/same", "gone/a", "gone/b", "emptied/a", "opt/x/y", "swap/dir/f"] {
        base.write(path, path);
    }
    base.write("file", "a file");
    upper.write("etc/passwd", "other");
    upper.write("etc/same", "etc/same");
    upper.write("etc/new", "");
    upper.whiteout("etc/motd");
    upper.whiteout("etc/never-was");
    upper.whiteout("gone");
    upper.write("emptied/new", "");
    upper.mark_opaque("emptied");
    upper.write("swap/dir", "a file now");
    upper.write("file/now-a-directory", "");
    let layer = packed(&[&upper, &base], &[&base], Form::Layer);
    let expected = [
        ".wh.gone",
        "emptied/",
        "emptied/.wh..wh..opq",
        "emptied/new",
        "etc/",
        "etc/.wh.motd",
        "etc/new",
        "etc/passwd",
        "file/",
        "file/now-a-directory",
        "swap/",
        "swap/dir",
    ];
    assert_eq!(names(&layer), expected);
    let expected = [
        "C /emptied",
        "D /emptied/a",
        "A /emptied/new",
        "C /etc",
        "D /etc/motd",
        "A /etc/new",
        "C /etc/passwd",
        "C /file",
        "A /file/now-a-directory",
        "D /gone",
        "C /swap",
        "C /swap/dir",
    ];
    assert_eq!(changes(&[&upper, &base], &[&base]), expected);
    // Two stacks that share nothing compare by what is in them.
    let again = Place::of(&packed(&[&upper, &base], &[], Form::Tree));
    assert_eq!(changes(&[&again], &[&upper, &base]), [""; 0]);
    // The other way round, with what is in the directory that is gone.
    assert_eq!(changes(&[&base], &[&upper, &base]).len(), 14);
}

#[test]
fn an_opaque_directory_that_keeps_something_is_told_name_by_name() {
    if !in_namespace("storage::pack::tests::an_opaque_directory_that_keeps_something_is_told_name_by_name") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    base.write("d/kept", "x");
    base.write("d/gone", "x");
    upper.write("d/kept", "x");
    upper.mark_opaque("d");
    let layer = packed(&[&upper, &base], &[&base], Form::Layer);
    assert_eq!(names(&layer), ["d/", "d/.wh.gone"]);
}

#[test]
fn whiteouts_that_are_files_are_whiteouts() {
    if !in_namespace("storage::pack::tests::whiteouts_that_are_files_are_whiteouts") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    base.write("d/a", "x");
    base.write("d/b", "x");
    upper.write("d/a", "");
    let mark = |path: &str, name, value: &[u8]| {
        let file = open::open(&upper.path(path), libc::O_RDONLY).unwrap();
        file::set_attribute(file.as_fd(), name, value).unwrap();
    };
    mark("d/a", c"user.overlay.whiteout", b"");
    // Without the mark of its directory it is a file like any other.
    assert!(names(&packed(&[&upper, &base], &[&base], Form::Layer)).contains(&"d/a".to_owned()));
    mark("d", OPAQUE, b"x");
    let layer = packed(&[&upper, &base], &[&base], Form::Layer);
    assert_eq!(names(&layer), ["d/", "d/.wh.a"]);
}

#[test]
fn what_kelp_made_to_mount_on_is_not_the_containers() {
    if !in_namespace("storage::pack::tests::what_kelp_made_to_mount_on_is_not_the_containers") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    base.write("etc/passwd", "x");
    base.write("var/x", "x");
    for path in ["etc/hosts", "proc/x", "srv/www/data/x", "var/own"] {
        upper.write(path, "");
    }
    let time = TimeSpec::new(2_000_000_000, 0);
    file::set_times(open::open_dir(&upper.path("etc")).unwrap().as_fd(), &time, &time).unwrap();
    let passed_over = ["/etc/hosts", "/proc", "/srv/www/data"].map(str::to_owned).into();
    let options = Options { passed_over, ..Options::of(Form::Layer) };
    let (layer, _) = try_pack(&[&upper, &base], &[&base], &options).unwrap();
    assert_eq!(names(&layer), ["var/", "var/own"]);
    // What else is in such a directory is told of with it.
    upper.write("etc/new", "");
    let (layer, _) = try_pack(&[&upper, &base], &[&base], &options).unwrap();
    assert_eq!(names(&layer), ["etc/", "etc/new", "var/", "var/own"]);
    // Nor is it missing where it is not.
    let (passed_over, passed_over_before) = (BTreeSet::new(), options.passed_over.clone());
    let reverse = Options { form: Form::Changes, passed_over, passed_over_before, ..options.clone() };
    let (list, _) = try_pack(&[&base], &[&upper, &base], &reverse).unwrap();
    let found: Vec<_> = parse_changes(&list).unwrap().into_iter().map(|change| change.path).collect();
    assert_eq!(found, [&b"/etc"[..], b"/etc/new", b"/srv", b"/var", b"/var/own"]);
    // What was there before is not kelp's.
    fs::create_dir(base.path("proc")).unwrap();
    base.write("srv/www/data/own", "");
    let (tree, _) = try_pack(&[&upper, &base], &[], &options).unwrap();
    let found: Vec<_> =
        names(&tree).into_iter().filter(|name| name.starts_with("proc") || name.starts_with("srv")).collect();
    assert_eq!(found, ["proc/", "proc/x", "srv/", "srv/www/", "srv/www/data/", "srv/www/data/own", "srv/www/data/x"]);
}

#[test]
fn the_root_is_written_if_it_is_unusual() {
    if !in_namespace("storage::pack::tests::the_root_is_written_if_it_is_unusual") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    assert_eq!(packed(&[&upper, &base], &[&base], Form::Layer), [0; 1024]);
    for place in [&base, &upper] {
        fs::set_permissions(place.root(), Permissions::from_mode(0o711)).unwrap();
    }
    assert_eq!(names(&packed(&[&upper, &base], &[&base], Form::Layer)), [""; 0]);
    upper.write("a", "");
    let layer = packed(&[&upper, &base], &[&base], Form::Layer);
    assert_eq!(names(&layer), ["./", "a"]);
    assert_eq!(Place::of(&layer).root().metadata().unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn names_that_mean_something_else_are_refused() {
    if !in_namespace("storage::pack::tests::names_that_mean_something_else_are_refused") {
        return;
    }
    for path in [".wh.x", "d/.wh..wh..opq", ".wh.d/x"] {
        let place = Place::new();
        place.write(path, "");
        let failure = try_pack(&[&place], &[], &Options::of(Form::Layer)).unwrap_err();
        assert!(failure.to_string().contains("\".wh.\""), "{failure}");
        assert!(names(&packed(&[&place], &[], Form::Tree)).iter().any(|name| name.trim_end_matches('/') == path));
    }
}

#[test]
fn holes_are_zeros_and_sockets_are_not_there() {
    if !in_namespace("storage::pack::tests::holes_are_zeros_and_sockets_are_not_there") {
        return;
    }
    const MIB: u64 = 1 << 20;
    let place = Place::new();
    let file = File::create(place.path("holes")).unwrap();
    file.write_all_at(b"data", 3 * MIB + 5).unwrap();
    file.set_len(9 * MIB).unwrap();
    std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    let (tar, summary) = try_pack(&[&place], &[], &Options::of(Form::Tree)).unwrap();
    assert_eq!((summary.entries, summary.skipped_sockets), (1, 1));
    assert_eq!(tar.len() as u64, 512 + 9 * MIB + 1024);
    let again = Place::of(&tar);
    assert_eq!(fs::read(again.path("holes")).unwrap(), fs::read(place.path("holes")).unwrap());
    assert!(again.path("holes").metadata().unwrap().blocks() < MIB / 512);
    // A file that says that it is larger than any layer is refused before a byte of it is written.
    file.set_len(8 << 40).unwrap();
    let failure = try_pack(&[&place], &[], &Options::of(Form::Tree)).unwrap_err();
    assert!(failure.to_string().contains("\"holes\""), "{failure}");
}

#[test]
fn times_are_clamped() {
    if !in_namespace("storage::pack::tests::times_are_clamped") {
        return;
    }
    let (base, place) = (Place::new(), Place::new());
    base.write("same", "x");
    place.write("old", "x");
    let new = open::open(&place.path("old"), libc::O_RDONLY).unwrap();
    file::set_times(new.as_fd(), &TimeSpec::new(7, 999_999_999), &TimeSpec::new(7, 999_999_999)).unwrap();
    fs::write(place.path("new"), "x").unwrap();
    // Its time alone differs, and not by what is written.
    fs::write(place.path("same"), "x").unwrap();
    let clamped = Options { newest_s: Some(1_500_000_000), ..Options::of(Form::Layer) };
    let (tar, _) = try_pack(&[&place, &base], &[&base], &clamped).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let times: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).collect();
    assert_eq!(times, [1_500_000_000, 7]);
    assert_eq!(names(&tar), ["new", "old"]);
}

#[test]
fn capabilities_and_lists_of_access_come_as_the_container_sees_them() {
    if !in_namespace("storage::pack::tests::capabilities_and_lists_of_access_come_as_the_container_sees_them") {
        return;
    }
    let place = Place::new();
    place.write("ping", "x");
    let file = open::open(&place.path("ping"), libc::O_RDWR).unwrap();
    let capability = [&[1, 0, 0, 2][..], &[0, 0x20, 0, 0], &[0; 12]].concat();
    file::set_attribute(file.as_fd(), c"security.capability", &capability).unwrap();
    // Version 2; user::rw-, user:1000:r--, group::r--, mask::r--, other::r--.
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let nobody = u32::MAX;
    let list =
        [entry(1, 6, nobody), entry(2, 4, 1000), entry(4, 4, nobody), entry(16, 4, nobody), entry(32, 4, nobody)];
    let list = [&2_u32.to_le_bytes()[..], &list.concat()].concat();
    file::set_attribute(file.as_fd(), c"system.posix_acl_access", &list).unwrap();
    file::set_attribute(file.as_fd(), c"user.overlay.redirect", b"/x").unwrap();
    file::set_attribute(file.as_fd(), c"user.with=sign", b"x").unwrap();
    let (tar, summary) = try_pack(&[&place], &[], &Options::of(Form::Tree)).unwrap();
    assert_eq!(summary.dropped_attributes, 1);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records = entry.pax_extensions().unwrap().unwrap();
    let found: Vec<(String, Vec<u8>)> = records
        .map(|record| record.unwrap())
        .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
        .collect();
    let expected = [("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.system.posix_acl_access", list)];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn a_directory_of_a_stack_is_found_as_a_container_finds_it() {
    if !in_namespace("storage::pack::tests::a_directory_of_a_stack_is_found_as_a_container_finds_it") {
        return;
    }
    let (top, bottom) = (Place::new(), Place::new());
    for path in ["srv/low", "gone/low", "opaque/low", "covered/low", "over/low", "a/b/c"] {
        bottom.write(path, "");
    }
    for path in ["srv/high", "opaque/high", "covered", "deep/d/file"] {
        top.write(path, "");
    }
    top.mark_opaque("opaque");
    top.whiteout("gone");
    fs::write(bottom.path("under"), "").unwrap();
    fs::create_dir(top.path("under")).unwrap();
    let link = |place: &Place, name: &str, to: &str| std::os::unix::fs::symlink(to, place.path(name)).unwrap();
    link(&top, "over", "srv");
    link(&bottom, "abs", "/a/../../srv/.");
    link(&bottom, "a/up", "../../../a/b/../b");
    link(&bottom, "to-gone", "gone");
    link(&bottom, "to-file", "covered");
    link(&top, "round", "about");
    link(&bottom, "about", "./round");
    let open = |place: &Place| open::open(&place.root(), libc::O_PATH | libc::O_DIRECTORY).unwrap();
    let roots = [open(&top), open(&bottom)];
    let found = |path: &str| {
        let found = locate(&roots, Path::new(path)).unwrap()?;
        let mut bytes = Vec::new();
        pack(&found, &[], &Options::of(Form::Tree), &mut bytes).unwrap();
        Some(names(&bytes).join(" "))
    };
    for (path, expected) in [
        ("/srv", Some("high low")),
        ("srv//./", Some("high low")),
        ("/over", Some("high low")),
        ("/abs", Some("high low")),
        ("/a/up", Some("c")),
        ("/opaque", Some("high")),
        ("/under", Some("")),
        ("/gone", None),
        ("/to-gone", None),
        ("/covered", None),
        ("/to-file", None),
        ("/srv/low", None),
        ("/srv/low/x", None),
        ("/nothing/at/all", None),
        ("/round", None),
    ] {
        assert_eq!(found(path).as_deref(), expected, "{path}");
    }
    assert!(found("/").unwrap().starts_with("a/ a/b/ a/b/c a/up about abs"));
}

#[test]
fn deep_trees_need_few_descriptors() {
    if !in_namespace("storage::pack::tests::deep_trees_need_few_descriptors") {
        return;
    }
    let (base, upper) = (Place::new(), Place::new());
    for place in [&base, &upper] {
        let mut at = open::open_dir(&place.root()).unwrap();
        for _ in 0..1000 {
            for name in ["a", "z"] {
                file::make_node(at.as_fd(), Path::new(name), SFlag::S_IFREG, 0o600, 0).unwrap();
            }
            file::make_dir(at.as_fd(), Path::new("d"), 0o700).unwrap();
            at = file::open_at(at.as_fd(), Path::new("d"), libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
        }
    }
    kernel::process::set_limit(libc::RLIMIT_NOFILE, 100, 4096).unwrap();
    let tar = packed(&[&upper], &[], Form::Tree);
    assert_eq!(names(&tar).len(), 3000);
    packed(&[&upper, &base], &[&base], Form::Layer);
    let too_deep = Place::new();
    fs::create_dir_all(too_deep.path(&"d/".repeat(1025))).unwrap();
    assert!(try_pack(&[&too_deep], &[], &Options::of(Form::Tree)).unwrap_err().to_string().contains("deeper than"));
}

/// What a random tree holds under a name.
#[derive(Debug, Clone)]
struct Node {
    kind: NodeKind,
    mode: u32,
    owner: u32,
    group: u32,
    modified: (i64, i64),
    attributes: Vec<(u8, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum NodeKind {
    Directory {
        is_opaque: bool,
    },
    File(Vec<u8>),
    Symlink(String),
    Fifo,
    /// To the nth file made so far, if there is one.
    Link(usize),
    Whiteout,
}

fn component() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        2 => Just(b"c.d".to_vec()),
        1 => Just(b"\xff\xfe".to_vec()),
        1 => Just("\u{e9} \n".as_bytes().to_vec()),
        1 => Just(vec![b'x'; 99]),
        1 => Just(vec![b'y'; 180]),
        1 => Just(b".whx".to_vec()),
    ]
}

fn node(whiteouts: u32) -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        6 => proptest::bool::weighted(0.2).prop_map(move |mark| NodeKind::Directory { is_opaque: mark && whiteouts > 0 }),
        6 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(NodeKind::File),
        2 => "[a-z./]{1,150}".prop_map(NodeKind::Symlink),
        1 => Just(NodeKind::Fifo),
        3 => (0_usize..8).prop_map(NodeKind::Link),
        whiteouts => Just(NodeKind::Whiteout),
    ];
    let modified = (prop_oneof![Just(-5_i64), Just(0), Just(1_600_000_000), Just(1_i64 << 33)], 0_i64..1_000_000_000);
    let ids = || prop_oneof![3 => Just(0_u32), 1 => Just(1000), 1 => Just(65_534)];
    let attributes = proptest::collection::vec((b'a'..b'd', proptest::collection::vec(any::<u8>(), 0..300)), 0..3);
    (kind, 0_u32..0o10000, ids(), ids(), modified, attributes).prop_map(
        |(kind, mode, owner, group, modified, attributes)| Node { kind, mode, owner, group, modified, attributes },
    )
}

/// A tree: below a path that is no directory there is nothing.
fn tree(whiteouts: u32) -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    let path = proptest::collection::vec(component(), 1..4);
    proptest::collection::btree_map(path, node(whiteouts), 0..24).prop_map(|nodes| {
        let mut found: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
        for (path, node) in nodes {
            let parents = (1..path.len()).map(|end| path[..end].join(&b'/'));
            let is_free = parents
                .clone()
                .all(|parent| found.get(&parent).is_none_or(|node| matches!(node.kind, NodeKind::Directory { .. })));
            if is_free {
                for parent in parents {
                    let kind = NodeKind::Directory { is_opaque: false };
                    found.entry(parent).or_insert_with(|| Node { kind, ..node.clone() });
                }
                found.insert(path.join(&b'/'), node);
            }
        }
        found
    })
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn make(nodes: &BTreeMap<Vec<u8>, Node>) -> Place {
    let place = Place::new();
    let root = open::open_dir(&place.root()).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    for (path, node) in nodes {
        let full = place.root().join(as_path(path));
        match &node.kind {
            NodeKind::Directory { .. } => fs::create_dir(&full).unwrap(),
            NodeKind::Symlink(target) => std::os::unix::fs::symlink(target, &full).unwrap(),
            NodeKind::Fifo => file::make_node(root.as_fd(), as_path(path), SFlag::S_IFIFO, 0o600, 0).unwrap(),
            NodeKind::Whiteout => file::make_node(root.as_fd(), as_path(path), SFlag::S_IFCHR, 0, 0).unwrap(),
            NodeKind::Link(index) if *index < files.len() => {
                fs::hard_link(&files[*index], &full).unwrap();
                continue;
            }
            NodeKind::Link(_) => fs::write(&full, "").unwrap(),
            NodeKind::File(content) => fs::write(&full, content).unwrap(),
        }
        if matches!(node.kind, NodeKind::File(_) | NodeKind::Link(_)) {
            files.push(full);
        }
    }
    for (path, node) in nodes.iter().rev() {
        describe(&root, path, node);
    }
    place
}

/// Gives a file what it shall have; a directory after all that is in it.
fn describe(root: &OwnedFd, path: &[u8], node: &Node) {
    let (name, dir) = (as_path(path), root.as_fd());
    let time = TimeSpec::new(node.modified.0, node.modified.1);
    if matches!(node.kind, NodeKind::Whiteout) {
        return;
    }
    file::set_owner_at(dir, name, node.owner, node.group).unwrap();
    if let NodeKind::Directory { .. } | NodeKind::File(_) | NodeKind::Link(_) = node.kind {
        let fd = file::open_at(dir, name, libc::O_RDONLY, 0).unwrap();
        for (letter, value) in &node.attributes {
            let attribute = std::ffi::CString::new(format!("user.{}", char::from(*letter))).unwrap();
            file::set_attribute(fd.as_fd(), &attribute, value).unwrap();
        }
        if let NodeKind::Directory { is_opaque: true } = node.kind {
            file::set_attribute(fd.as_fd(), OPAQUE, b"y").unwrap();
        }
        file::set_mode(fd.as_fd(), node.mode).unwrap();
    }
    file::set_times_at(dir, name, &time, &time).unwrap();
}

/// All that can be seen of a file; of a whiteout, nothing.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    modified_s: i64,
    content: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path of the same file.
    first: Vec<u8>,
}

fn seen(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let (mut found, mut inodes) = (BTreeMap::new(), HashMap::new());
    see(root, b"", &mut found, &mut inodes);
    found
}

fn see(root: &Path, path: &[u8], found: &mut BTreeMap<Vec<u8>, Seen>, inodes: &mut HashMap<u64, Vec<u8>>) {
    let mut names: Vec<_> = fs::read_dir(root.join(as_path(path))).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        let path = if path.is_empty() { name.as_bytes().to_vec() } else { [path, name.as_bytes()].join(&b'/') };
        let full = root.join(as_path(&path));
        // overlayfs lists whiteouts in directories that are not merged.
        let Ok(status) = full.symlink_metadata() else { continue };
        let content = match status.file_type() {
            kind if kind.is_symlink() => fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec(),
            kind if kind.is_file() => fs::read(&full).unwrap(),
            _ => Vec::new(),
        };
        let attributes = match status.is_file() || status.is_dir() {
            true => attributes::read(open::open(&full, libc::O_RDONLY).unwrap().as_fd(), &mut 0).unwrap(),
            false => Vec::new(),
        };
        let first = match status.is_dir() {
            true => path.clone(),
            false => inodes.entry(status.ino()).or_insert_with(|| path.clone()).clone(),
        };
        let owner = (status.uid(), status.gid());
        let (mode, modified_s) = (status.mode(), status.mtime());
        found.insert(path.clone(), Seen { mode, owner, modified_s, content, attributes, first });
        if status.is_dir() {
            see(root, &path, found, inodes);
        }
    }
}

/// What one tree has and the other has not, or has otherwise.
fn differences(one: &BTreeMap<Vec<u8>, Seen>, other: &BTreeMap<Vec<u8>, Seen>) -> Vec<String> {
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
    differ.map(|path| format!("{:?}: {:?} {:?}", as_path(path), one.get(path), other.get(path))).collect()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

#[test]
fn random_trees_survive() {
    if !in_namespace("storage::pack::tests::random_trees_survive") {
        return;
    }
    proptest!(cases(64), |(nodes in tree(0))| {
        let place = make(&nodes);
        let tar = packed(&[&place], &[], Form::Tree);
        let again = Place::of(&tar);
        prop_assert_eq!(differences(&seen(&again.root()), &seen(&place.root())), [""; 0]);
        prop_assert!(packed(&[&again], &[], Form::Tree) == tar);
        prop_assert!(packed(&[&place], &[], Form::Layer) == tar);
        prop_assert_eq!(changes(&[&again], &[&place]), [""; 0]);
    });
}

#[test]
fn random_layers_survive() {
    if !in_namespace("storage::pack::tests::random_layers_survive") {
        return;
    }
    proptest!(cases(64), |(below in tree(0), above in tree(3))| {
        let (base, upper) = (make(&below), make(&above));
        let layer = packed(&[&upper, &base], &[&base], Form::Layer);
        let again = Place::of(&layer);
        prop_assert!(packed(&[&again, &base], &[], Form::Tree) == packed(&[&upper, &base], &[], Form::Tree));
        prop_assert!(packed(&[&again, &base], &[&base], Form::Layer) == layer);
        // The list tells of the same.
        let told = changes(&[&upper, &base], &[&base]).len();
        prop_assert_eq!(told == 0, names(&layer).is_empty());
    });
}

/// Mounts an overlay; without an upper directory it is read-only.
fn mounted(at: &Path, lowers: &[&Place], upper: Option<(&Place, &Place)>) {
    let lowers: Vec<_> = lowers.iter().map(|place| place.root().display().to_string()).collect();
    let mut data = format!("userxattr,lowerdir={}", lowers.join(":"));
    if let Some((upper, work)) = upper {
        data += &format!(",upperdir={},workdir={}", upper.root().display(), work.root().display());
    }
    nix::mount::mount(Some("overlay"), at, Some("overlay"), nix::mount::MsFlags::empty(), Some(data.as_str())).unwrap();
}

/// One thing that a program in a container does.
fn act(root: &Path, (what, one, other): &(u8, Vec<u8>, Vec<u8>)) {
    let (one, other) = (root.join(as_path(one)), root.join(as_path(other)));
    // Most of it fails, for one or the other is not there or of another type.
    drop(match what {
        // A fifo has no reader to wait for.
        0 => File::options()
            .write(true)
            .create(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&one)
            .and_then(|file| file.set_len(3)),
        1 => fs::remove_file(&one),
        2 => fs::remove_dir_all(&one),
        3 => fs::create_dir(&one),
        4 => fs::rename(&one, &other),
        5 => fs::hard_link(&one, &other),
        6 => fs::set_permissions(&one, Permissions::from_mode(0o711)),
        7 => std::os::unix::fs::chown(&one, None, None),
        8 => fs::remove_dir_all(&one).and_then(|()| fs::create_dir(&one)),
        _ => std::os::unix::fs::symlink("a", &one),
    });
}

#[test]
fn a_stack_is_read_as_overlayfs_reads_it() {
    if !in_namespace("storage::pack::tests::a_stack_is_read_as_overlayfs_reads_it") {
        return;
    }
    let path = || proptest::collection::vec(component(), 1..4).prop_map(|parts| parts.join(&b'/'));
    let acts = proptest::collection::vec((0_u8..10, path(), path()), 0..24);
    proptest!(cases(24), |(below in tree(0), above in tree(3), acts in acts)| {
        let (lowest, lower) = (make(&below), make(&above));
        let (upper, work, merged) = (Place::new(), Place::new(), Place::new());
        mounted(&merged.root(), &[&lower, &lowest], Some((&upper, &work)));
        acts.iter().for_each(|one| act(&merged.root(), one));
        let mut expected = seen(&merged.root());
        nix::mount::umount(&merged.root()).unwrap();
        // Files of several names that are split by a copy up show their old inode: told apart by the tree.
        let tree = Place::of(&packed(&[&upper, &lower, &lowest], &[], Form::Tree));
        let mut found = seen(&tree.root());
        for seen in expected.values_mut().chain(found.values_mut()) {
            seen.first.clear();
        }
        prop_assert_eq!(differences(&found, &expected), [""; 0]);
        // And overlayfs reads the layer as it was written.
        let layer = Place::of(&packed(&[&upper, &lower, &lowest], &[&lower, &lowest], Form::Layer));
        mounted(&merged.root(), &[&layer, &lower, &lowest], None);
        let mut again = seen(&merged.root());
        nix::mount::umount(&merged.root()).unwrap();
        again.values_mut().for_each(|seen| seen.first.clear());
        prop_assert_eq!(differences(&again, &expected), [""; 0]);
    });
}

#[test]
fn what_changes_meanwhile_never_leads_elsewhere() {
    if !in_namespace("storage::pack::tests::what_changes_meanwhile_never_leads_elsewhere") {
        return;
    }
    let (place, outside) = (Place::new(), Place::new());
    outside.write("secret", "a secret of the host");
    for number in 0..50 {
        place.write(&format!("d{number}/d/file"), "of the container");
    }
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..50 {
                    let (at, aside) = (place.path(&format!("d{number}/d")), place.path(&format!("d{number}/aside")));
                    fs::rename(&at, &aside).unwrap();
                    std::os::unix::fs::symlink(outside.root(), &at).unwrap();
                    fs::remove_file(&at).unwrap();
                    fs::rename(&aside, &at).unwrap();
                    let file = at.join("file");
                    fs::remove_file(&file).unwrap();
                    std::os::unix::fs::symlink(outside.path("secret"), &file).unwrap();
                    fs::remove_file(&file).unwrap();
                    fs::write(&file, "of the container").unwrap();
                }
            }
        });
        for _ in 0..40 {
            let (tar, _) = try_pack(&[&place], &[], &Options::of(Form::Tree)).unwrap();
            assert!(!tar.windows(8).any(|bytes| bytes == b"a secret"));
            // Whatever it caught, it is a whole tar.
            drop(Place::of(&tar));
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_file_that_grows_or_shrinks_has_the_size_it_began_with() {
    struct Meddler<'a>(&'a Path, Vec<u8>, u64);
    impl Write for Meddler<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // The header is out: what follows is read after this.
            File::options().write(true).open(self.0)?.set_len(self.2)?;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    if !in_namespace("storage::pack::tests::a_file_that_grows_or_shrinks_has_the_size_it_began_with") {
        return;
    }
    const SIZE: usize = 1 << 20;
    for then in [SIZE as u64 / 2, SIZE as u64 * 2] {
        let place = Place::new();
        fs::write(place.path("log"), vec![b'x'; SIZE]).unwrap();
        let path = place.path("log");
        let mut output = Meddler(&path, Vec::new(), then);
        let root = [open::open(&place.root(), libc::O_PATH).unwrap()];
        let summary = pack(&root, &[], &Options::of(Form::Tree), &mut output).unwrap();
        assert_eq!((summary.entries, summary.changed), (1, 1));
        assert_eq!(output.1.len(), 512 + SIZE + 1024);
        assert_eq!(Place::of(&output.1).path("log").metadata().unwrap().len(), SIZE as u64);
    }
}

#[test]
fn a_full_disk_is_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let failure: Failure = pack(&[], &[], &Options::of(Form::Tree), Full).unwrap_err();
    assert_eq!(failure.kind, crate::error::Kind::Bug);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
    let root = [open::open_dir(dir.path()).unwrap()];
    assert!(pack(&root, &[], &Options::of(Form::Tree), Full).unwrap_err().is_errno(libc::ENOSPC));
}
