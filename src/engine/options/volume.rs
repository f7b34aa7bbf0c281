//! Volumes: `-v [SOURCE:]TARGET[:OPTIONS]`.
//!
//! SOURCE is a path, which begins with `/` or `.`, or the name of a volume. A
//! path with a colon needs `--mount`, as in Docker.

use std::path::PathBuf;

use super::field::{once, path, target, unknown};
use super::mount::{Mount, What, propagation};
use super::name;
use crate::error::{Failure, Result};
use crate::sandbox::spec::{Attributes, Propagation};

/// Reads one `-v`.
pub fn parse(text: &str) -> Result<Mount> {
    read(text).map_err(|failure| failure.doing(format!("use --volume \"{text}\"")))
}

fn read(text: &str) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, at, words) = match parts.as_slice() {
        [at] => (None, *at, ""),
        [source, at] => (Some(*source), *at, ""),
        [source, at, words] => (Some(*source), *at, *words),
        _ => {
            return Err(Failure::usage("it has more than two colons")
                .hint("for a path with a colon use --mount type=bind,source=…,target=…"));
        }
    };
    let options = Options::read(words)?;
    let what = match source {
        Some(source) if source.starts_with(['/', '.']) => options.bind(source)?,
        Some(source) => options.volume(Some(volume_name(source)?))?,
        None => options.volume(None)?,
    };
    Ok(Mount { target: target(at)?, what, attributes: options.attributes(), relabel: options.relabel.is_some() })
}

fn volume_name(source: &str) -> Result<String> {
    if source.is_empty() {
        return Err(Failure::usage("the source is empty").hint("for a volume of the container's own: -v TARGET"));
    }
    if let Some(rest) = source.strip_prefix('~') {
        let failure = Failure::usage("\"~\" is not expanded here, only by a shell, at the beginning of a word");
        return Err(failure.hint(format!("write \"$HOME{rest}\"")));
    }
    if source.contains('/') {
        let failure = Failure::usage(format!("\"{source}\" is neither a path nor the name of a volume"));
        return Err(failure.hint(format!("for a directory write ./{source}")));
    }
    name::parse(source)
}

/// What the words after the second colon say, each class at most once.
#[derive(Default)]
struct Options {
    read_only: Option<bool>,
    no_suid: Option<bool>,
    no_dev: Option<bool>,
    no_exec: Option<bool>,
    recursive: Option<bool>,
    propagation: Option<Propagation>,
    copy: Option<bool>,
    relabel: Option<()>,
}

const WORDS: &[&str] = &[
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "bind", "rbind", "private", "rprivate", "slave",
    "rslave", "shared", "rshared", "copy", "nocopy", "z", "Z",
];

impl Options {
    fn read(words: &str) -> Result<Self> {
        let mut options = Self::default();
        for word in words.split(',').filter(|_| !words.is_empty()) {
            options.take(word)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Result<()> {
        match word {
            "ro" | "rw" => once(&mut self.read_only, word == "ro", word),
            "suid" | "nosuid" => once(&mut self.no_suid, word == "nosuid", word),
            "dev" | "nodev" => once(&mut self.no_dev, word == "nodev", word),
            "exec" | "noexec" => once(&mut self.no_exec, word == "noexec", word),
            "bind" | "rbind" => once(&mut self.recursive, word == "rbind", word),
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {
                once(&mut self.propagation, propagation(word)?, word)
            }
            "copy" | "nocopy" => once(&mut self.copy, word == "copy", word),
            "z" | "Z" => once(&mut self.relabel, (), word),
            // Hints for file sharing with virtual machines, without a meaning on Linux.
            "cached" | "delegated" | "consistent" => Ok(()),
            "U" => Err(Failure::usage(
                "\"U\" would give your files to another owner, which is not needed: the container's root is you",
            )),
            "O" | "idmap" => Err(Failure::usage(format!("option \"{word}\" is not supported"))),
            "" => Err(Failure::usage("an option is empty")),
            _ => Err(unknown("option", word, WORDS)),
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes {
            read_only: self.read_only.unwrap_or(false),
            no_suid: self.no_suid.unwrap_or(false),
            no_dev: self.no_dev.unwrap_or(false),
            no_exec: self.no_exec.unwrap_or(false),
        }
    }

    fn bind(&self, source: &str) -> Result<What> {
        path(source)?;
        if self.copy.is_some() {
            return Err(Failure::usage("\"copy\" and \"nocopy\" are for volumes, not for directories of the host"));
        }
        Ok(What::Bind {
            source: PathBuf::from(source),
            create: true,
            recursive: self.recursive.unwrap_or(true),
            propagation: self.propagation,
        })
    }

    fn volume(&self, name: Option<String>) -> Result<What> {
        if self.recursive.is_some() || self.propagation.is_some() {
            return Err(Failure::usage(
                "bind and propagation options are for directories of the host, not for volumes",
            ));
        }
        Ok(What::Volume { name, copy: self.copy.unwrap_or(true) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `expected` is `WHAT -> TARGET ATTRIBUTES`.
    fn check(text: &str, expected: Result<&str, &str>) {
        let result = parse(text).map_err(|failure| failure.to_string()).map(|mount| {
            let what = match mount.what {
                What::Bind { source, recursive, propagation, .. } => {
                    let kind = if recursive { "" } else { " flat" };
                    let propagation = propagation.map(|kind| format!(" {kind:?}")).unwrap_or_default();
                    format!("{}{kind}{propagation}", source.display())
                }
                What::Volume { name, copy } => {
                    format!("volume {}{}", name.as_deref().unwrap_or("-"), if copy { "" } else { " nocopy" })
                }
                What::Tmpfs { .. } => "tmpfs".to_owned(),
            };
            let Attributes { read_only, no_suid, no_dev, no_exec } = mount.attributes;
            let flags = [(read_only, " ro"), (no_suid, " nosuid"), (no_dev, " nodev"), (no_exec, " noexec")];
            let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            format!("{what} -> {}{flags}{}", mount.target, if mount.relabel { " relabel" } else { "" })
        });
        let expected = expected.map(str::to_owned).map_err(|cause| format!("use --volume \"{text}\": {cause}"));
        assert_eq!(result, expected);
    }

    #[test]
    fn reads_dockers_grammar() {
        check("/data", Ok("volume - -> /data"));
        check("db:/data", Ok("volume db -> /data"));
        check("db:/data:ro,nocopy", Ok("volume db nocopy -> /data ro"));
        check("/a:/b", Ok("/a -> /b"));
        check("./a:/b:rw", Ok("./a -> /b"));
        check("..:/b", Ok(".. -> /b"));
        check("/a:/b:ro,Z", Ok("/a -> /b ro relabel"));
        check("/a:/b:bind,rshared,nosuid,nodev,noexec", Ok("/a flat Shared -> /b nosuid nodev noexec"));
        check("/a:/b:cached", Ok("/a -> /b"));
        check("/a:/b:", Ok("/a -> /b"));
    }

    #[test]
    fn refuses_by_name() {
        check("/a:/b:rp", Err("unknown option \"rp\""));
        check("/a:/b:ro,rw", Err("\"rw\" repeats or contradicts what was said before it"));
        check("/a:/b:ro,", Err("an option is empty"));
        check("/a:/b:nocopy", Err("\"copy\" and \"nocopy\" are for volumes, not for directories of the host"));
        check("vol:/b:shared", Err("bind and propagation options are for directories of the host, not for volumes"));
        check("a/b:/c", Err("\"a/b\" is neither a path nor the name of a volume"));
        check("~/a:/c", Err("\"~\" is not expanded here, only by a shell, at the beginning of a word"));
        check(":/c", Err("the source is empty"));
        check("/a:b", Err("the path in the container must be absolute, not \"b\""));
        check("/data:ro", Err("the path in the container must be absolute, not \"ro\""));
        check("/a:/", Err("the path in the container cannot be \"/\""));
        check("/a:/b:ro:x", Err("it has more than two colons"));
        check("data", Err("the path in the container must be absolute, not \"data\""));
        check("", Err("a path is empty"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[/.a:,ro~é]{0,30}") {
            let _checked = parse(&text).is_ok();
        }
    }
}
