//! Mounts: `--mount type=bind,source=/a,target=/b,…`, and the data that this,
//! `--volume` and `--tmpfs` all become.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::field::{boolean, mode, once, path, required, target, unknown};
use super::{name, size};
use crate::error::{Failure, Result};
use crate::sandbox::spec::{Attributes, ContainerPath, Propagation};

/// One mount as asked for. Paths on the host are as typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the container.
    pub target: ContainerPath,
    /// What is mounted there.
    pub what: What,
    /// Rights taken away.
    pub attributes: Attributes,
    /// `z` or `Z` was asked for: relabel for SELinux. There is nothing to do
    /// where SELinux does not confine, and a notice is due where it does.
    pub relabel: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A file or directory of the host.
    Bind {
        /// Absolute, or relative to the caller's working directory.
        source: PathBuf,
        /// Make a missing source as a directory (`--volume`), else refuse it.
        create: bool,
        /// With the mounts below it.
        recursive: bool,
        /// `None` is private. Set for the whole tree: `private` and `rprivate` are the same.
        propagation: Option<Propagation>,
    },
    /// A named volume, or one of the container's own.
    Volume {
        /// `None` is anonymous.
        name: Option<String>,
        /// Fill an empty volume with what the image has at the target.
        copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most; `None` is the kernel's default.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
        /// Owner of its root inside, if not 0:0.
        owner: Option<(u32, u32)>,
    },
}

/// Mode of a tmpfs that has none given: as /tmp.
pub(in crate::engine) const TMPFS_MODE: u32 = 0o1777;

const KEYS: &[&str] = &[
    "type",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "bind-propagation",
    "bind-nonrecursive",
    "bind-recursive",
    "volume-nocopy",
    "volume-driver",
    "tmpfs-size",
    "tmpfs-mode",
    "consistency",
];

/// The fields as typed, before the type says which of them may be there.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    propagation: Option<Propagation>,
    recursive: Option<bool>,
    no_copy: Option<bool>,
    size_bytes: Option<u64>,
    mode: Option<u32>,
}

/// Reads one `--mount`.
pub fn parse(text: &str) -> Result<Mount> {
    read(text).map_err(|failure| failure.doing(format!("use --mount \"{text}\"")))
}

fn read(text: &str) -> Result<Mount> {
    let mut fields = Fields::default();
    for word in split(text)? {
        let (key, value) = word.split_once('=').map_or((word.as_str(), None), |(key, value)| (key, Some(value)));
        take(&mut fields, &key.to_ascii_lowercase(), value)?;
    }
    build(fields)
}

fn take(fields: &mut Fields, key: &str, value: Option<&str>) -> Result<()> {
    let text = || required(key, value).map(str::to_owned);
    match key {
        "type" => once(&mut fields.kind, text()?, key),
        "source" | "src" => once(&mut fields.source, text()?, key),
        "target" | "dst" | "destination" => once(&mut fields.target, text()?, key),
        "readonly" | "ro" => once(&mut fields.read_only, boolean(key, value)?, key),
        "bind-propagation" => once(&mut fields.propagation, propagation(&text()?)?, key),
        "bind-nonrecursive" => once(&mut fields.recursive, !boolean(key, value)?, key),
        "bind-recursive" => once(&mut fields.recursive, recursive(&text()?)?, key),
        "volume-nocopy" => once(&mut fields.no_copy, boolean(key, value)?, key),
        "tmpfs-size" => once(&mut fields.size_bytes, size::parse(&text()?)?, key),
        "tmpfs-mode" => once(&mut fields.mode, mode(&text()?)?, key),
        // A hint for file sharing with virtual machines, without a meaning on Linux.
        "consistency" => Ok(()),
        "volume-driver" => match text()?.as_str() {
            "local" => Ok(()),
            driver => Err(Failure::usage(format!("volume driver \"{driver}\" is not supported, only \"local\""))),
        },
        "volume-opt" | "volume-label" | "volume-subpath" => Err(Failure::usage(format!("\"{key}\" is not supported"))),
        "bind-create-src" => {
            Err(Failure::usage(format!("\"{key}\" is not supported")).hint("--volume makes a missing source"))
        }
        _ => Err(unknown("key", key, KEYS)),
    }
}

fn build(fields: Fields) -> Result<Mount> {
    let kind = fields.kind.as_deref().unwrap_or("volume");
    let belongs = [
        ("bind-propagation", "bind", fields.propagation.is_some()),
        ("bind-recursive", "bind", fields.recursive.is_some()),
        ("volume-nocopy", "volume", fields.no_copy.is_some()),
        ("tmpfs-size", "tmpfs", fields.size_bytes.is_some()),
        ("tmpfs-mode", "tmpfs", fields.mode.is_some()),
    ];
    if let Some((key, owner, _)) = belongs.iter().find(|(_, owner, given)| *given && *owner != kind) {
        return Err(Failure::usage(format!("\"{key}\" is for type={owner}, not for type={kind}")));
    }
    let Some(at) = &fields.target else {
        return Err(Failure::usage("it has no target"));
    };
    let what = match kind {
        "bind" => {
            let Some(source) = fields.source else {
                return Err(Failure::usage("a bind mount needs a source"));
            };
            path(&source)?;
            What::Bind {
                source: PathBuf::from(source),
                create: false,
                recursive: fields.recursive.unwrap_or(true),
                propagation: fields.propagation,
            }
        }
        "volume" => {
            let name = fields.source.as_deref().map(name::parse).transpose()?;
            What::Volume { name, copy: !fields.no_copy.unwrap_or(false) }
        }
        "tmpfs" if fields.source.is_some() => return Err(Failure::usage("a tmpfs has no source")),
        "tmpfs" => What::Tmpfs { size_bytes: fields.size_bytes, mode: fields.mode.unwrap_or(TMPFS_MODE), owner: None },
        "image" | "devpts" | "glob" | "ramfs" | "npipe" | "cluster" => {
            return Err(Failure::usage(format!("type \"{kind}\" is not supported, only bind, volume and tmpfs")));
        }
        _ => return Err(unknown("type", kind, &["bind", "volume", "tmpfs"])),
    };
    let attributes = Attributes { read_only: fields.read_only.unwrap_or(false), ..Attributes::default() };
    Ok(Mount { target: target(at)?, what, attributes, relabel: false })
}

/// Docker's six words, three meanings.
pub(super) fn propagation(word: &str) -> Result<Propagation> {
    match word {
        "private" | "rprivate" => Ok(Propagation::Private),
        "slave" | "rslave" => Ok(Propagation::Slave),
        "shared" | "rshared" => Ok(Propagation::Shared),
        _ => Err(unknown("propagation", word, &["private", "rprivate", "slave", "rslave", "shared", "rshared"])),
    }
}

/// A read-only mount is read-only all the way down here, so `readonly` is no
/// more than `enabled`.
fn recursive(word: &str) -> Result<bool> {
    match word {
        "enabled" | "readonly" => Ok(true),
        "disabled" => Ok(false),
        "writable" => Err(Failure::usage("bind-recursive=writable is not supported: read-only goes all the way down")),
        _ => Err(unknown("value of bind-recursive", word, &["enabled", "disabled", "readonly"])),
    }
}

/// One line of CSV (RFC 4180): a field in double quotes may have commas, and
/// quotes by doubling them.
fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field;
        (field, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let (field, rest) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err(Failure::usage("a quote must stand around a whole field: \"source=/a,b\""));
                }
                (field.to_owned(), rest)
            }
        };
        if field.is_empty() {
            return Err(Failure::usage("it has an empty field"));
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The field whose opening quote is gone, and what follows its closing one.
fn quoted_field(text: &str) -> Result<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    while let Some((part, after)) = rest.split_once('"') {
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err(Failure::usage("something follows a closing quote")),
        }
    }
    Err(Failure::usage("a quote is not closed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<(&str, What), &str>) {
        let result = parse(text).map_err(|failure| failure.to_string());
        let result = result.map(|mount| {
            let read_only = if mount.attributes.read_only { " ro" } else { "" };
            (format!("{}{read_only}", mount.target), mount.what)
        });
        let expected = expected.map(|(target, what)| (target.to_owned(), what));
        assert_eq!(result, expected.map_err(|cause| format!("use --mount \"{text}\": {cause}")));
    }

    fn bind(source: &str) -> What {
        What::Bind { source: source.into(), create: false, recursive: true, propagation: None }
    }

    #[test]
    fn reads_the_three_types() {
        check("type=bind,source=/a,target=/b", Ok(("/b", bind("/a"))));
        check("type=bind,src=./a,dst=/b,readonly", Ok(("/b ro", bind("./a"))));
        check("type=bind,src=/a,destination=/b,ro=false", Ok(("/b", bind("/a"))));
        check("type=bind,\"src=/a,b\"\"c\",dst=/b", Ok(("/b", bind("/a,b\"c"))));
        let what =
            What::Bind { source: "/a".into(), create: false, recursive: false, propagation: Some(Propagation::Slave) };
        check("type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-nonrecursive", Ok(("/b", what)));
        check("source=data,target=/b", Ok(("/b", What::Volume { name: Some("data".into()), copy: true })));
        check("type=volume,dst=/b,volume-nocopy=1", Ok(("/b", What::Volume { name: None, copy: false })));
        let what = What::Tmpfs { size_bytes: Some(64 << 20), mode: 0o700, owner: None };
        check("type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=700", Ok(("/b", what)));
    }

    #[test]
    fn refuses_by_name() {
        check("type=bind,src=/a,dst=/b,readnly", Err("unknown key \"readnly\""));
        check("type=bnd,src=/a,dst=/b", Err("unknown type \"bnd\""));
        check("type=image,src=a,dst=/b", Err("type \"image\" is not supported, only bind, volume and tmpfs"));
        check("type=tmpfs,src=/a,dst=/b", Err("a tmpfs has no source"));
        check("type=bind,dst=/b", Err("a bind mount needs a source"));
        check("type=bind,src=/a", Err("it has no target"));
        check("type=bind,src=/a,dst=/b,tmpfs-size=1", Err("\"tmpfs-size\" is for type=tmpfs, not for type=bind"));
        check("type=tmpfs,dst=/b,tmpfs-mode=9", Err("mode \"9\" is not octal, such as 1777"));
        check("dst=/b,target=/c", Err("\"target\" repeats or contradicts what was said before it"));
        check("dst=/b,", Err("it has an empty field"));
        check("\"dst=/b", Err("a quote is not closed"));
        check("dst=\"/b\"", Err("a quote must stand around a whole field: \"source=/a,b\""));
        check("dst=/b,volume-driver=nfs", Err("volume driver \"nfs\" is not supported, only \"local\""));
        check("dst", Err("dst needs a value"));
    }

    proptest! {
        #[test]
        fn quoting_is_undone(fields in proptest::collection::vec("[^\0]{1,12}", 1..5)) {
            let text: Vec<String> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&text.join(",")).unwrap(), fields);
        }

        #[test]
        fn never_panics(text in ".{0,60}") {
            let _checked = parse(&text).is_ok();
        }
    }
}
