//! A layer's tar, applied to a directory: whatever it holds, nothing beside
//! the directory changes. Runs as an ordinary user. Names are few, so that
//! links, whiteouts and files meet; checksums are right, so that an input gets
//! past the first look.

#![no_main]

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use arbitrary::Arbitrary;
use kelp::storage::unpack::{self, Options, Owners};
use libfuzzer_sys::fuzz_target;

const BLOCK_BYTES: usize = 512;
/// More would only be slow.
const MEMBERS_MAX: usize = 64;
const KINDS: &[u8] = b"012345670512SLKxg";
const NAMES: &[&str] =
    &["a", "b", "c", "..", ".", "", "beside", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", ".wh...", "\u{e9}"];
const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "mtime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.name",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.user.overlay.opaque",
    "SCHILY.xattr.user.overlay.redirect",
    "SCHILY.xattr.security.capability",
    "LIBARCHIVE.xattr.user.b",
];

#[derive(Arbitrary, Debug)]
struct Member<'a> {
    kind: u8,
    path: Vec<u8>,
    target: Vec<u8>,
    mode: u16,
    data: Data<'a>,
    /// What the header's size says above the true one.
    excess: Option<i16>,
    /// Bytes of the header that are something else, by offset.
    changes: Vec<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
enum Data<'a> {
    Bytes(&'a [u8]),
    Records(Vec<(u8, Value<'a>)>),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Path(Vec<u8>),
    Number(u64),
    Numbers(Vec<u16>),
    Bytes(&'a [u8]),
}

/// An element of `table`, chosen by any number.
fn one<T: Copy>(table: &[T], number: u8) -> T {
    table[usize::from(number) % table.len()]
}

/// Names joined; the first may be empty, which makes the path absolute.
fn path(names: &[u8]) -> Vec<u8> {
    names.iter().map(|name| one(NAMES, *name)).collect::<Vec<_>>().join("/").into_bytes()
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Path(names) => path(names),
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Numbers(numbers) => numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(",").into_bytes(),
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

/// One record of a pax header, its length in front.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + " =\n".len();
    let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap_or(rest);
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Member<'_> {
    fn write(&self, tar: &mut Vec<u8>) {
        let data = match &self.data {
            Data::Bytes(bytes) => bytes.to_vec(),
            Data::Records(records) => {
                records.iter().flat_map(|(key, value)| record(one(KEYS, *key), &value.bytes())).collect()
            }
        };
        let size = data.len().saturating_add_signed(self.excess.unwrap_or(0).into());
        let mut header = [0; BLOCK_BYTES];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            let length = bytes.len().min(most);
            header[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, &path(&self.path));
        put(100, 8, format!("{:07o}", self.mode & 0o7777).as_bytes());
        put(108, 16, b"0000000\x000000000\0");
        put(124, 24, format!("{size:011o}\x0014000000000\0").as_bytes());
        put(156, 1, &[one(KINDS, self.kind)]);
        put(157, 100, &path(&self.target));
        put(257, 8, b"ustar\x0000");
        for (offset, byte) in &self.changes {
            header[usize::from(*offset) % BLOCK_BYTES] = *byte;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&data);
        tar.resize(tar.len().next_multiple_of(BLOCK_BYTES), 0);
    }
}

/// Directories may shut their owner out; a temporary one must go all the same.
fn open_all(directory: &Path) {
    _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}

fuzz_target!(|members: Vec<Member>| {
    let mut tar = Vec::new();
    members.iter().take(MEMBERS_MAX).for_each(|member| member.write(&mut tar));
    let around = tempfile::tempdir().expect("a temporary directory");
    let [root, beside] = ["root", "beside"].map(|name| around.path().join(name));
    fs::create_dir(&root).and_then(|()| fs::create_dir(&beside)).expect("directories");
    fs::write(beside.join("a"), "untouched").expect("a file");
    let state =
        |path: &Path| fs::metadata(path).map(|m| (m.mode(), m.nlink(), m.len(), m.mtime(), m.mtime_nsec())).ok();
    let all = || [state(around.path()), state(&beside), state(&beside.join("a"))];
    let before = all();

    let options = Options { entries_max: 1000, bytes_max: 1 << 20, ..Options::new(Owners::CallerOnly) };
    let opened = fs::File::open(&root).expect("the root");
    let result = unpack::apply(tar.as_slice(), opened.as_fd(), &options);

    assert_eq!(all(), before, "something beside the root changed: {result:?}");
    assert_eq!(fs::read(beside.join("a")).ok().as_deref(), Some(b"untouched".as_slice()));
    if let Ok(summary) = result {
        assert!(summary.bytes <= tar.len() as u64);
    }
    open_all(&root);
});
