//! Layers made by hand, well-formed and hostile, unpacked for real.
//!
//! They run as an ordinary user; [`in_namespace`] runs a test again as uid 0
//! of a user namespace where owners or mounts matter.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::kernel;
use crate::storage::as_root::in_namespace;

/// A tar made header by header, without any check.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(kind: u8, path: &[u8], size: u64) -> [u8; 512] {
        let mut block = [0; 512];
        block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        block[100..108].copy_from_slice(if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"14000000000\0");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    fn raw(mut self, mut block: [u8; 512], data: &[u8]) -> Self {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn with(self, kind: u8, path: &str, data: &str, change: impl FnOnce(&mut [u8; 512])) -> Self {
        let mut block = Self::header(kind, path.as_bytes(), data.len() as u64);
        change(&mut block);
        self.raw(block, data.as_bytes())
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.with(b'0', path, data, |_| ())
    }

    fn mode(self, kind: u8, path: &str, mode: u32) -> Self {
        self.with(kind, path, "", |block| block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes()))
    }

    fn dir(self, path: &str) -> Self {
        self.with(b'5', path, "", |_| ())
    }

    fn link(self, kind: u8, path: &str, target: &str) -> Self {
        self.with(kind, path, "", |block| block[157..157 + target.len()].copy_from_slice(target.as_bytes()))
    }

    fn owner(self, kind: u8, path: &str, uid: u32, gid: u32) -> Self {
        self.with(kind, path, "", |block| {
            block[108..116].copy_from_slice(format!("{uid:07o}\0").as_bytes());
            block[116..124].copy_from_slice(format!("{gid:07o}\0").as_bytes());
        })
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let block = Self::header(b'x', b"pax", body.len() as u64);
        self.raw(block, &body)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A layer's root with a canary beside it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("canary")).unwrap();
        std::fs::write(dir.path().join("canary/file"), "alive").unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn apply(&self, tar: &[u8]) -> Result<Summary> {
        self.apply_with(tar, &Options::new(Owners::CallerOnly))
    }

    fn apply_with(&self, tar: &[u8], options: &Options) -> Result<Summary> {
        let root = kernel::open::open_dir(&self.root()).unwrap();
        let before = std::fs::metadata(self.dir.path().join("canary")).unwrap();
        let result = apply(tar, root.as_fd(), options);
        let after = std::fs::metadata(self.dir.path().join("canary")).unwrap();
        assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
        assert_eq!(std::fs::read_to_string(self.dir.path().join("canary/file")).unwrap(), "alive");
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
        result
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn status(&self, path: &str) -> std::fs::Metadata {
        self.root().join(path).symlink_metadata().unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let status = self.status(path);
        status.mode() & 0o170_000 == 0o020_000 && status.rdev() == 0
    }

    fn attribute(&self, path: &str, name: &std::ffi::CStr) -> Option<Vec<u8>> {
        let file = kernel::open::open(&self.root().join(path), libc::O_RDONLY).unwrap();
        kernel::file::attribute(file.as_fd(), name).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Some tests leave directories that even their owner cannot read.
        let dir = kernel::open::open_dir(self.dir.path()).unwrap();
        crate::storage::sweep::remove_tree(dir.as_fd(), Path::new("root"), dir.as_fd()).unwrap();
    }
}

/// Unpacks and returns the place; panics on failure.
#[track_caller]
fn unpacked(tar: Tar) -> (Place, Summary) {
    let place = Place::new();
    let summary = place.apply(&tar.end()).unwrap();
    (place, summary)
}

#[track_caller]
fn check_refused(tar: Tar, expected: &str) {
    let failure = Place::new().apply(&tar.end()).unwrap_err();
    assert_eq!(failure.to_string(), format!("unpack layer: {expected}"));
}

#[test]
fn makes_files_of_all_types() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let (place, summary) = unpacked(
        Tar::default()
            .mode(b'5', "./", 0o711)
            .dir("./etc/")
            .file("./etc/passwd", "root")
            .file("/abs", "x")
            .mode(b'0', "suid", 0o4755)
            .mode(b'5', "tmp", 0o1777)
            .mode(b'5', "sgid", 0o2555)
            .file("sgid/inside", "in a directory that is not writable")
            .file("implied/deep/file", "")
            .link(b'2', "link", "/etc/shadow")
            .link(b'1', "hard", "./etc/passwd")
            .mode(b'6', "fifo", 0o600)
            .mode(b'3', "null", 0o666)
            .mode(b'4', "sda", 0o660)
            .with(0, "old/", "", |block| block[257..265].fill(0))
            .with(b'L', "././@LongLink", &format!("{long}\0"), |_| ())
            .file("short", "long"),
    );
    assert_eq!(place.status("").mode() & 0o7777, 0o711);
    assert_eq!(place.status("").mtime(), 0o14_000_000_000);
    assert_eq!(place.read("etc/passwd"), "root");
    assert_eq!(place.status("etc").mtime(), 0o14_000_000_000);
    assert_eq!(place.read("abs"), "x");
    assert_eq!(place.status("suid").mode() & 0o7777, 0o4755);
    assert_eq!(place.status("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(place.status("sgid").mode() & 0o7777, 0o2555);
    assert_eq!(place.status("sgid/inside").mode() & 0o7777, 0o644);
    assert_eq!(place.status("implied/deep").mode() & 0o7777, 0o755);
    assert_eq!(std::fs::read_link(place.root().join("link")).unwrap(), Path::new("/etc/shadow"));
    assert_eq!(place.status("hard").ino(), place.status("etc/passwd").ino());
    assert_eq!(place.status("fifo").mode() & 0o170_000, 0o010_000);
    assert!(place.status("old").is_dir());
    assert_eq!(place.read(&long), "long");
    assert!(!place.root().join("null").exists() && !place.root().join("short").exists());
    assert_eq!(summary, Summary { entries: 16, bytes: 44, skipped_devices: 2, ..Summary::default() });
}

#[test]
fn reads_pax_records() {
    let mut capability = vec![1, 0, 0, 2, 0, 4, 0, 0];
    capability.resize(20, 0);
    let (place, summary) = unpacked(
        Tar::default()
            .pax(&[
                ("path", "ä/ö".as_bytes()),
                ("size", b"3"),
                ("mtime", b"-1.25"),
                ("uid", b"77"),
                ("SCHILY.xattr.user.kept", b"a\0b"),
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.security.selinux", b"x"),
            ])
            // The header's own size is what GNU tar writes where it does not fit.
            .raw(Tar::header(b'0', b"x", 0), b"abc")
            .pax(&[("linkpath", b"elsewhere")])
            .link(b'2', "link", "here"),
    );
    assert_eq!(place.read("ä/ö"), "abc");
    assert_eq!((place.status("ä/ö").mtime(), place.status("ä/ö").mtime_nsec()), (-2, 750_000_000));
    assert_eq!(place.attribute("ä/ö", c"user.kept"), Some(b"a\0b".to_vec()));
    assert_eq!(place.attribute("ä/ö", c"user.overlay.opaque"), None);
    assert_eq!(std::fs::read_link(place.root().join("link")).unwrap(), Path::new("elsewhere"));
    assert_eq!(summary.dropped_attributes, 3);
    assert_eq!(summary.ignored_owners, 1);
}

#[test]
fn makes_whiteouts() {
    let (place, _) = unpacked(
        Tar::default()
            .file("a/.wh.gone", "")
            .file("a/.wh....", "")
            .file("b/.wh..wh..opq", "")
            .file("b/kept", "")
            .file("c/file", "")
            .file(".wh.c", "")
            .file(".wh.d", "")
            .file("d/file", "")
            .file(".wh.e", "")
            .dir("e")
            .file("f", "kept")
            .file(".wh.f", "")
            .file(".wh.g", "")
            .file("g", "new")
            .file(".wh..wh..opq", "")
            .file(".wh..wh.plnk/12.34", "ignored")
            .file(".wh..wh.aufs", "ignored"),
    );
    assert!(place.is_whiteout("a/gone") && place.is_whiteout("a/..."));
    for opaque in ["", "b", "c", "d", "e"] {
        assert_eq!(place.attribute(opaque, c"user.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert_eq!(place.attribute("a", c"user.overlay.opaque"), None);
    assert!(place.root().join("c/file").exists() && place.root().join("d/file").exists());
    assert_eq!((place.read("f"), place.read("g")), ("kept".to_owned(), "new".to_owned()));
    let names = std::fs::read_dir(place.root()).unwrap().count();
    assert_eq!(names, 7);
}

#[test]
fn refuses_abused_whiteouts() {
    check_refused(Tar::default().file(".wh.", ""), "entry \".wh.\": whiteout does not name a file");
    check_refused(Tar::default().file("a/.wh..", ""), "entry \"a/.wh..\": whiteout does not name a file");
    check_refused(Tar::default().file(".wh...", ""), "entry \".wh...\": whiteout does not name a file");
    check_refused(
        Tar::default().file(".wh.a/b", ""),
        "entry \".wh.a/b\": a whiteout cannot be a directory with entries",
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let (place, _) = unpacked(
        Tar::default()
            .file("file", "old")
            .file("file", "new")
            .mode(b'5', "dir", 0o700)
            .file("dir/kept", "kept")
            .mode(b'5', "dir", 0o755)
            .file("tree/a/b/c", "")
            .mode(b'5', "tree/a", 0o500)
            .file("tree", "now a file")
            .link(b'2', "link", "../canary")
            .dir("link")
            .file("link/file", "not the canary")
            .link(b'2', "other", "../canary/file")
            .file("other", "not the canary")
            .file("one", "1")
            .link(b'1', "one", "one"),
    );
    assert_eq!(place.read("file"), "new");
    assert_eq!(place.status("dir").mode() & 0o7777, 0o755);
    assert_eq!(place.read("dir/kept"), "kept");
    assert_eq!(place.read("tree"), "now a file");
    assert!(place.status("link").is_dir());
    assert!(place.status("other").is_file());
    assert_eq!(place.read("one"), "1");
}

#[test]
fn refuses_paths_out_of_the_layer() {
    check_refused(Tar::default().file("a/../../b", ""), "entry \"a/../../b\": path leaves the layer");
    check_refused(Tar::default().file("/../b", ""), "entry \"/../b\": path leaves the layer");
    check_refused(Tar::default().dir(".."), "entry \"..\": path leaves the layer");
    check_refused(
        Tar::default().link(b'1', "hard", "../canary/file"),
        "entry \"hard\": link to \"../canary/file\": path leaves the layer",
    );
    check_refused(
        Tar::default().link(b'1', "hard", "/canary/file"),
        "entry \"hard\": link to \"/canary/file\": it is not in this layer",
    );
    check_refused(Tar::default().pax(&[("path", b"a\0b")]).file("x", ""), "entry \"a\\0b\": path holds a NUL byte");
    check_refused(Tar::default().file("", ""), "entry 1: path is empty");
    check_refused(Tar::default().file("./", ""), "entry \"./\": the root of a layer must be a directory");
    check_refused(Tar::default().link(b'2', "/", "x"), "entry \"/\": the root of a layer must be a directory");
    let long = "a/".repeat(2500);
    let failure = Place::new().apply(&Tar::default().pax(&[("path", long.as_bytes())]).file("x", "").end());
    assert!(failure.unwrap_err().to_string().ends_with("path is longer than 4096 bytes"));
    let deep = "a/".repeat(1500);
    let failure = Place::new().apply(&Tar::default().pax(&[("path", deep.as_bytes())]).file("x", "").end());
    assert!(failure.unwrap_err().to_string().ends_with("path is deeper than 1024 directories"));
}

#[test]
fn follows_links_of_the_layer_inside_the_layer_only() {
    let (place, _) = unpacked(
        Tar::default()
            .dir("usr/lib")
            .link(b'2', "lib", "usr/lib")
            .link(b'2', "lib64", "/usr/lib")
            .link(b'2', "up", "../../../usr")
            .link(b'2', "twice", "up/lib")
            .file("lib/a", "a")
            .file("lib64/b", "b")
            .file("up/lib/c", "c")
            .file("twice/new/d", "d")
            .link(b'1', "lib/e", "lib64/b")
            .file("lib/.wh.f", ""),
    );
    for (path, text) in [("a", "a"), ("b", "b"), ("c", "c"), ("new/d", "d"), ("e", "b")] {
        assert_eq!(place.read(&format!("usr/lib/{path}")), text);
    }
    assert!(place.is_whiteout("usr/lib/f"));
    let canary = |target| Tar::default().link(b'2', "out", target).file("out/file", "dead");
    check_refused(
        canary("../canary"),
        "entry \"out/file\": its parent \"out\" leads to \"canary\", which is not in this layer",
    );
    check_refused(
        canary("/proc/self/root/tmp"),
        "entry \"out/file\": its parent \"out\" leads to \"proc\", which is not in this layer",
    );
    check_refused(
        Tar::default().link(b'2', "a", "b").link(b'2', "b", "a").file("a/x", ""),
        "entry \"a/x\": its parent leads through too many symbolic links",
    );
    check_refused(Tar::default().file("a", "").file("a/x", ""), "entry \"a/x\": its parent \"a\" is not a directory");
    check_refused(
        Tar::default().link(b'2', "out", "../canary").link(b'1', "hard", "out/file"),
        "entry \"hard\": link to \"out/file\": its parent \"out\" leads to \"canary\", which is not in this layer",
    );
    check_refused(Tar::default().dir("d").link(b'1', "hard", "d"), "entry \"hard\": link to \"d\": it is a directory");
    check_refused(Tar::default().link(b'1', "hard", "."), "entry \"hard\": link to \".\": it is a directory");
    check_refused(
        Tar::default().file(".wh.w", "").link(b'1', "hard", "w"),
        "entry \"hard\": link to \"w\": it is not in this layer",
    );
}

/// RUSTSEC-2026-0067: a directory entry over a symbolic link changed the mode
/// of what the link leads to.
#[test]
fn a_directory_over_a_link_does_not_reach_through_it() {
    let place = Place::new();
    let canary = place.dir.path().join("canary");
    let tar = Tar::default().link(b'2', "out", canary.to_str().unwrap()).mode(b'5', "out", 0o777);
    place.apply(&tar.end()).unwrap();
    assert_eq!(canary.metadata().unwrap().mode() & 0o7777, 0o755 & canary.metadata().unwrap().mode());
    assert!(place.status("out").is_dir());
}

/// CVE-2025-62518 and its kin: a reader that takes one size where another
/// reader takes the other sees different files.
#[test]
fn sizes_have_one_reading() {
    let inner = Tar::default().file("smuggled", "").end();
    let (place, _) = unpacked({
        let size = inner.len().to_string();
        Tar::default().pax(&[("size", size.as_bytes())]).raw(Tar::header(b'0', b"outer", 0), &inner).file("after", "")
    });
    assert_eq!(place.status("outer").len(), inner.len() as u64);
    assert!(place.root().join("after").exists() && !place.root().join("smuggled").exists());
    for kind in [b'1', b'2', b'3', b'5', b'6'] {
        check_refused(
            Tar::default().raw(Tar::header(kind, b"x", 512), &[0; 512]),
            "entry \"x\": type without data has a size of 512",
        );
    }
    check_refused(Tar::default().pax(&[("size", b"5")]).dir("x"), "entry \"x\": type without data has a size of 5");
    check_refused(
        Tar::default().pax(&[("path", b"a")]).with(b'L', "l", "b\0", |_| ()).file("x", ""),
        "entry \"x\": entry has two paths that differ",
    );
    check_refused(
        Tar::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", ""),
        "entry 0: entry has two pax headers",
    );
}

#[test]
fn refuses_what_is_not_well_formed() {
    check_refused(
        Tar::default().file("V", "").with(b'V', "label", "", |_| ()),
        "entry \"label\": unknown entry type \"V\"",
    );
    check_refused(Tar::default().pax(&[("path", b"a")]), "entry 0: archive ends after an extended header");
    check_refused(
        Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("x", ""),
        "entry 0: sparse file in pax format is not supported",
    );
    let mut tar = Tar::default().file("x", "").end();
    tar[0] = b'y';
    let failure = Place::new().apply(&tar).unwrap_err();
    assert_eq!(failure.to_string(), "unpack layer: entry 0: not a tar header (checksum does not match)");
    for length in [1, 511, 513, 1023] {
        let tar = Tar::default().file("x", "data").0;
        let failure = Place::new().apply(&tar[..length]).unwrap_err();
        assert!(failure.to_string().ends_with("archive is cut short"), "{failure}");
    }
    // No end marker at all is what some writers leave.
    Place::new().apply(&Tar::default().file("x", "data").0).unwrap();
    Place::new().apply(&[]).unwrap();
}

#[test]
fn keeps_to_its_bounds() {
    let limited = |tar: Tar, entries_max, bytes_max| {
        let options = Options { entries_max, bytes_max, ..Options::new(Owners::CallerOnly) };
        Place::new().apply_with(&tar.end(), &options).unwrap_err().to_string()
    };
    assert_eq!(
        limited(Tar::default().file("a", "").file("b", "").file("c", ""), 2, 1 << 20),
        "unpack layer: layer has more than 2 entries"
    );
    let lie = Tar::default().raw(Tar::header(b'0', b"bomb", 0o77_777_777_777), b"");
    assert_eq!(limited(lie, 10, 1 << 20), "unpack layer: entry \"bomb\": layer is larger than 1048576 bytes unpacked");
    let mut block = Tar::header(b'0', b"bomb", 0);
    block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    check_refused(Tar::default().raw(block, b""), "entry \"bomb\": layer is larger than 4398046511104 bytes unpacked");
    check_refused(
        Tar::default().raw(Tar::header(b'x', b"pax", 1 << 30), b""),
        "entry 0: extended header of 1073741824 bytes is larger than 2097152 bytes",
    );
    let large = vec![b'x'; 600 << 10];
    check_refused(
        Tar::default().pax(&[("SCHILY.xattr.user.a", &large), ("SCHILY.xattr.user.b", &large)]).file("x", ""),
        "entry 0: extended attributes are larger than 1048576 bytes",
    );
}

#[test]
fn makes_sparse_files_and_holes() {
    let mut block = Tar::header(b'S', b"sparse", 6);
    block[257..265].copy_from_slice(b"ustar  \0");
    for (at, (offset, length)) in [(0_u64, 3_u64), (1 << 20, 3)].into_iter().enumerate() {
        let text = format!("{offset:011o}\0{length:011o}\0");
        block[386 + at * 24..410 + at * 24].copy_from_slice(text.as_bytes());
    }
    block[483..495].copy_from_slice(format!("{:011o}\0", 2 << 20).as_bytes());
    let zeros = "\0".repeat(1 << 20);
    let (place, summary) = unpacked(Tar::default().raw(block, b"abcdef").file("zeros", &zeros).file("after", ""));
    let data = std::fs::read(place.root().join("sparse")).unwrap();
    assert_eq!(data.len(), 2 << 20);
    assert_eq!((&data[..4], &data[1 << 20..(1 << 20) + 4]), (&b"abc\0"[..], &b"def\0"[..]));
    assert_eq!(place.status("zeros").len(), 1 << 20);
    assert!(place.status("zeros").blocks() < 512);
    assert!(summary.bytes < 300_000);
    block[386..397].copy_from_slice(b"77777777777");
    check_refused(Tar::default().raw(block, b"abcdef"), "entry \"sparse\": sparse map is not in order");
    block[386..397].copy_from_slice(b"00000000000");
    block[398..409].copy_from_slice(b"00000000004");
    check_refused(Tar::default().raw(block, b"abcdef"), "entry \"sparse\": sparse map does not match the size");
}

#[test]
fn names_are_shown_without_control_characters() {
    check_refused(Tar::default().file("\x1b[2J/../..", ""), "entry \"\\u{1b}[2J/../..\": path leaves the layer");
}

#[test]
fn blobs_are_inflated_and_hashed() {
    use sha2::Digest as _;
    use std::io::{Seek as _, Write as _};
    let mut tar = Tar::default().file("a", "x").file("b", &"y".repeat(3 << 20)).end();
    // Padding as GNU tar writes it, and more behind the end: all of it is part of the diff id.
    tar.resize(tar.len().next_multiple_of(10240), 0);
    tar.extend_from_slice(b"trailing");
    let diff_id: String = sha2::Sha256::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
    let (head, tail) = tar.split_at(700);
    let apply = |blob: &[u8]| {
        let place = Place::new();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(blob).unwrap();
        file.rewind().unwrap();
        let root = kernel::open::open_dir(&place.root()).unwrap();
        let result = apply_blob(file, root.as_fd(), &Options::new(Owners::CallerOnly));
        result.map(|(hex, summary)| {
            assert_eq!((place.read("a"), summary.entries), ("x".to_owned(), 2));
            hex
        })
    };
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd(&tar)].concat();
    for blob in [
        tar.clone(),
        gzip(&tar),
        zstd(&tar),
        [gzip(head), gzip(tail)].concat(),
        [zstd(head), zstd(tail)].concat(),
        skippable,
    ] {
        assert_eq!(apply(&blob).unwrap(), diff_id);
    }
    let (whole_gzip, whole_zstd) = (gzip(&tar), zstd(&tar));
    let mut corrupt = whole_gzip.clone();
    let crc = corrupt.len() - 6;
    corrupt[crc] ^= 1;
    for blob in [
        whole_gzip[..whole_gzip.len() - 1].to_vec(),
        whole_gzip[..whole_gzip.len() / 2].to_vec(),
        whole_zstd[..whole_zstd.len() - 1].to_vec(),
        whole_zstd[..whole_zstd.len() / 2].to_vec(),
        [whole_gzip.clone(), b"garbage".to_vec()].concat(),
        [whole_gzip, vec![0]].concat(),
        [whole_zstd.clone(), b"garbage".to_vec()].concat(),
        [whole_zstd, vec![0]].concat(),
        corrupt,
        b"BZh91AY&SY".to_vec(),
    ] {
        let failure = apply(&blob).unwrap_err().to_string();
        assert!(failure.starts_with("inflate layer: ") || failure.contains("bzip2"), "{failure}");
    }
}

#[test]
fn keeps_owners_in_a_namespace() {
    if !in_namespace("storage::unpack::tests::keeps_owners_in_a_namespace") {
        return;
    }
    let place = Place::new();
    let mut capability = vec![1, 0, 0, 2, 0, 4, 0, 0];
    capability.resize(20, 0);
    let tar = Tar::default()
        .owner(b'5', "./", 7, 8)
        .owner(b'0', "file", 33, 34)
        .owner(b'5', "dir", 1000, 1001)
        .file("dir/root", "")
        .link(b'2', "link", "x")
        .owner(b'6', "fifo", 5, 6)
        .with(b'0', "suid", "", |block| {
            block[100..108].copy_from_slice(b"0006755\0");
            block[108..116].copy_from_slice(b"0000041\0");
        })
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .owner(b'0', "ping", 33, 33)
        .mode(b'5', "closed", 0)
        .file("closed/file", "x");
    let options = Options::new(Owners::AsRecorded);
    let summary = place.apply_with(&tar.end(), &options).unwrap();
    assert_eq!(summary, Summary { entries: 10, bytes: 1, ..Summary::default() });
    let owner = |path: &str| (place.status(path).uid(), place.status(path).gid());
    assert_eq!(owner(""), (7, 8));
    assert_eq!(owner("file"), (33, 34));
    assert_eq!(owner("dir"), (1000, 1001));
    assert_eq!(owner("dir/root"), (0, 0));
    assert_eq!(owner("fifo"), (5, 6));
    assert_eq!((owner("suid"), place.status("suid").mode() & 0o7777), ((33, 0), 0o6755));
    assert!(place.attribute("ping", c"security.capability").is_some());
    assert_eq!((owner("closed"), place.status("closed").mode() & 0o7777), ((0, 0), 0));
    let unmapped = Tar::default().owner(b'0', "far", 0o7_777_777, 0);
    let failure = Place::new().apply_with(&unmapped.end(), &options).unwrap_err();
    assert_eq!(failure.to_string(), "unpack layer: entry \"far\": owner 2097151:0 is not among your subordinate ids");
}

#[test]
fn overlayfs_reads_the_whiteouts() {
    if !in_namespace("storage::unpack::tests::overlayfs_reads_the_whiteouts") {
        return;
    }
    for whiteouts in [Whiteouts::Nodes, Whiteouts::Files] {
        check_overlay(&Options { whiteouts, ..Options::new(Owners::AsRecorded) });
    }
}

fn check_overlay(options: &Options) {
    let (lower, upper, merged) = (Place::new(), Place::new(), tempfile::tempdir().unwrap());
    let below =
        Tar::default().file("a/gone", "").file("a/kept", "").file("b/gone", "").file("c/gone", "").file("d", "");
    lower.apply_with(&below.end(), options).unwrap();
    let above = Tar::default()
        .file("a/.wh.gone", "")
        .file("b/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file("b/.wh.gone", "")
        .file("b/new", "")
        .file(".wh.c", "")
        .file("c/new", "")
        .file(".wh.d", "")
        .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")])
        .dir("a");
    upper.apply_with(&above.end(), options).unwrap();
    let data = format!("userxattr,lowerdir={}:{}", upper.root().display(), lower.root().display());
    nix::mount::mount(
        Some("overlay"),
        merged.path(),
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(data.as_str()),
    )
    .unwrap();
    let names = |path: &str| {
        let mut names: Vec<_> = std::fs::read_dir(merged.path().join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["a", "b", "c"]);
    assert_eq!(
        (names("a"), names("b"), names("c")),
        (vec!["kept".to_owned()], vec!["new".to_owned()], vec!["new".to_owned()])
    );
    nix::mount::umount(merged.path()).unwrap();
}

/// What a random tree holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(String),
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        (0_u32..0o10000).prop_map(Node::Directory),
        (0_u32..0o10000, proptest::collection::vec(any::<u8>(), 0..1500))
            .prop_map(|(mode, data)| Node::File(mode, data)),
        "[a-z./]{1,20}".prop_map(Node::Symlink),
    ]
}

/// A tree: below a path that is no directory there is nothing.
fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    proptest::collection::btree_map("[abc](/[abc]){0,3}", node(), 0..20).prop_map(|mut nodes| {
        let leaves: Vec<_> = nodes
            .iter()
            .filter(|(_, node)| !matches!(node, Node::Directory(_)))
            .map(|(path, _)| format!("{path}/"))
            .collect();
        nodes.retain(|path, _| !leaves.iter().any(|leaf| path.starts_with(leaf)));
        let parents: Vec<_> =
            nodes.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned())).collect();
        for parent in parents {
            nodes.entry(parent).or_insert(Node::Directory(0o755));
        }
        nodes
    })
}

fn tar_of(nodes: &BTreeMap<String, Node>, times: u32) -> Vec<u8> {
    let mut tar = Tar::default();
    for (at, (path, node)) in nodes.iter().enumerate() {
        let mtime = format!("{}.{:09}", times, at);
        tar = tar.pax(&[("mtime", mtime.as_bytes())]);
        tar = match node {
            Node::Directory(mode) => tar.mode(b'5', path, *mode),
            Node::Symlink(target) => tar.link(b'2', path, target),
            Node::File(mode, data) => {
                let mut block = Tar::header(b'0', path.as_bytes(), data.len() as u64);
                block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
                tar.raw(block, data)
            }
        };
    }
    tar.end()
}

/// Opens up what the tree closes, having noted it.
fn read_back(root: &Path, path: &str, found: &mut BTreeMap<String, (Node, i64)>) {
    for entry in std::fs::read_dir(root.join(path)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let full = root.join(&path);
        let status = full.symlink_metadata().unwrap();
        let (mode, time) = (status.mode() & 0o7777, status.mtime_nsec());
        let open = |mode| std::fs::set_permissions(&full, PermissionsExt::from_mode(mode)).unwrap();
        if status.is_symlink() {
            let target = std::fs::read_link(&full).unwrap().to_str().unwrap().to_owned();
            found.insert(path, (Node::Symlink(target), time));
        } else if status.is_dir() {
            open(0o700);
            found.insert(path.clone(), (Node::Directory(mode), time));
            read_back(root, &path, found);
        } else {
            open(0o600);
            found.insert(path, (Node::File(mode, std::fs::read(&full).unwrap()), time));
        }
    }
}

fn hostile_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            "[ab]",
            Just("..".to_owned()),
            Just("canary".to_owned()),
            Just("file".to_owned()),
            Just(".wh.a".to_owned()),
            Just(".wh..wh..opq".to_owned())
        ],
        1..5,
    )
    .prop_flat_map(|parts| prop_oneof![Just(parts.join("/")), Just(format!("/{}", parts.join("/")))])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_survive(nodes in tree()) {
        let place = Place::new();
        place.apply(&tar_of(&nodes, 1000)).unwrap();
        let mut found = BTreeMap::new();
        read_back(&place.root(), "", &mut found);
        let expected: BTreeMap<_, _> =
            nodes.into_iter().enumerate().map(|(at, (path, node))| (path, (node, at as i64))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn nothing_leaves_the_root(entries in proptest::collection::vec((prop_oneof![Just(b'0'), Just(b'1'), Just(b'2'), Just(b'2'), Just(b'5')], hostile_path(), hostile_path()), 1..25)) {
        // An entry that is refused ends its layer; the rest is tried in another one.
        let place = Place::new();
        let mut kept: Vec<(u8, String, String)> = Vec::new();
        for entry in entries {
            kept.push(entry);
            let mut tar = Tar::default();
            for (kind, path, target) in &kept {
                tar = if matches!(kind, b'1' | b'2') { tar.link(*kind, path, target) } else { tar.mode(*kind, path, 0o777) };
            }
            let fresh = Place::new();
            if fresh.apply(&tar.end()).is_err() {
                kept.pop();
            }
        }
        drop(place);
    }

    #[test]
    fn broken_archives_do_not_panic(nodes in tree(), changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 0..6)) {
        let mut tar = tar_of(&nodes, 1000);
        for (at, byte, mend) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
            let start = at / 512 * 512;
            if mend && let Some(block) = tar.get_mut(start..start + 512) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        drop(Place::new().apply(&tar));
    }
}
