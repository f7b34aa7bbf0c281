//! `registries.conf`, version 2: what short names mean, and where a registry's
//! images really are (containers-registries.conf(5)).
//!
//! kelp differs in three points, each for safety: of
//! `unqualified-search-registries` only the first counts, since trying one
//! after another is how names are squatted; `insecure` allows plain HTTP and
//! never a certificate that is not good; a file that is not understood is an
//! error. Keys that kelp does not know have no effect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::address::Transport;
use super::credentials::Credentials;
use super::route::{Endpoint, Route};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted;
use crate::image::reference::{DEFAULT_REGISTRY, Reference};
use crate::limits;

/// The variables that name the one file to read.
const VARIABLES: [&str; 3] = ["REGISTRIES_CONFIG", "CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"];

/// What the user and the administrator say of registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    rules: Vec<Rule>,
    /// Short name -> full name, and who says so.
    aliases: BTreeMap<String, (String, usize)>,
    /// The registry of short names, and who says so.
    search: Option<(String, usize)>,
    /// The files that were read.
    files: Vec<PathBuf>,
}

/// What holds for images whose names begin with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    prefix: Prefix,
    /// Where they are, if not where the name says.
    location: Option<String>,
    is_plain_allowed: bool,
    is_blocked: bool,
    mirrors: Vec<Mirror>,
    file: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Prefix {
    /// A registry, a part of one, a repository, or one image.
    Name(String),
    /// `.example.com`, for all hosts below it.
    Subdomains(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: String,
    is_plain_allowed: bool,
    serves: Serves,
}

/// Which pulls a mirror is for (`pull-from-mirror`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Serves {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

/// A file as it is written.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<Spanned<String>>>,
    registry: Vec<Table>,
    aliases: BTreeMap<String, String>,
    /// Of version 1.
    registries: Option<Spanned<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: Spanned<String>,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Serves>,
}

impl Registries {
    /// What this user's files say.
    pub fn of_this_user() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = VARIABLES.iter().find_map(|name| variable(name)) {
            let mut registries = Self::default();
            registries.add_file(&file)?;
            return Ok(registries);
        }
        let config = variable("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".config")));
        let own = config.into_iter().flat_map(|config| [config.join("kelp"), config.join("containers")]);
        let directories: Vec<PathBuf> = own.chain(["/etc/kelp", "/etc/containers"].map(PathBuf::from)).collect();
        Self::read(&directories)
    }

    /// The files that were read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What is in `directories`, the most important first: the first
    /// `registries.conf`, and the drop-ins of all. The more important prevails.
    pub fn read(directories: &[PathBuf]) -> Result<Self> {
        let mut registries = Self::default();
        let main = directories.iter().map(|directory| directory.join("registries.conf")).find(|file| file.exists());
        for directory in directories.iter().rev() {
            if let Some(main) = main.as_ref().filter(|main| main.parent() == Some(directory)) {
                registries.add_file(main)?;
            }
            for file in drop_ins(&directory.join("registries.conf.d"))? {
                registries.add_file(&file)?;
            }
        }
        Ok(registries)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let text = limits::read_file(path, limits::USER_FILE_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| Failure::user("it is not UTF-8")));
        text.and_then(|text| self.add(&text, path)).doing(|| format!("read registries in \"{}\"", path.display()))
    }

    /// Adds what `text` says; it prevails over what was said before.
    pub fn add(&mut self, text: &str, path: &Path) -> Result<()> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            Failure::user(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let wrong = |at: usize, failure: Failure| failure.doing(format!("line {}", line_of(text, at)));
        if let Some(old) = &document.registries {
            return Err(wrong(old.span().start, Failure::user("version 1 of the format is not read")).hint(
                "write [[registry]] tables and unqualified-search-registries, see containers-registries.conf(5)",
            ));
        }
        let file = self.files.len();
        self.files.push(path.to_path_buf());
        if let Some(search) = document.unqualified_search_registries {
            self.search = match search.first() {
                Some(first) => {
                    let name = first.get_ref();
                    check_location(name, false).map_err(|failure| wrong(first.span().start, failure))?;
                    Some((name.clone(), file))
                }
                None => None,
            };
        }
        for table in document.registry {
            let at = table.prefix.as_ref().or(table.location.as_ref()).map_or(0, |name| name.span().start);
            let rule = Rule::parse(table, file).map_err(|failure| wrong(at, failure))?;
            self.rules.retain(|other| other.prefix != rule.prefix);
            self.rules.push(rule);
        }
        for (name, full) in document.aliases {
            match full.is_empty() {
                true => drop(self.aliases.remove(&name)),
                false => drop(self.aliases.insert(name, (full, file))),
            }
        }
        Ok(())
    }

    /// The image that `text` names. A name without a registry is first an
    /// alias, then one of the registry of short names, which is docker.io
    /// unless said otherwise.
    pub fn reference(&self, text: &str) -> Result<Reference> {
        let Some(short) = Reference::parse_short(text)? else {
            return Ok(Reference::parse(text)?);
        };
        let named = |name: &str, file: usize| {
            Reference::parse(name).map_err(|error| {
                Failure::user(error.to_string()).doing(format!("read registries in \"{}\"", self.file(file).display()))
            })
        };
        let suffix = short.suffix();
        if let Some((full, file)) = self.aliases.get(short.repository()) {
            if Reference::parse_short(full).is_ok_and(|short| short.is_none()) && !full.contains('@') {
                return named(&format!("{full}{suffix}"), *file);
            }
            return Err(Failure::user(format!("alias {} is not the name of a registry's image", quoted(full)))
                .doing(format!("read registries in \"{}\"", self.file(*file).display())));
        }
        match &self.search {
            Some((registry, file)) => named(&format!("{registry}/{}{suffix}", short.repository()), *file),
            None => Ok(Reference::parse(text)?),
        }
    }

    /// The registry of names without one.
    pub fn of_short_names(&self) -> &str {
        self.search.as_ref().map_or(DEFAULT_REGISTRY, |(registry, _)| registry)
    }

    /// Where `reference` is to be fetched from. `transport` is for the place
    /// that the name says; `credentials` finds the login for a name.
    pub fn route(
        &self,
        reference: &Reference,
        transport: Transport,
        credentials: impl Fn(&str) -> Result<Option<Credentials>>,
    ) -> Result<Route> {
        let endpoint = |name: &str, transport| {
            if Reference::parse_short(name)?.is_some() {
                let shown = quoted(&reference.familiar());
                return Err(Failure::user(format!("{shown} is said to be at {}, which names no image", quoted(name))));
            }
            let reference = Reference::parse(name)?;
            let credentials = credentials(&reference.name())?;
            Ok(Endpoint::of(&reference, transport, credentials))
        };
        let name = reference.name();
        let Some(rule) = self.rule(reference) else {
            return Ok(Route::direct(endpoint(&name, transport)?));
        };
        self.check_blocked(rule, reference)?;
        let mirrors = rule.mirrors.iter().filter(|mirror| mirror.serves(reference));
        let mirrors = mirrors.map(|mirror| {
            endpoint(&rule.rewritten(reference, &mirror.location), plain_if(mirror.is_plain_allowed, Transport::Auto))
        });
        let mirrors = mirrors.collect::<Result<Vec<Endpoint>>>()?;
        let located = rule.location.as_ref().map_or(name, |location| rule.rewritten(reference, location));
        let location = endpoint(&located, plain_if(rule.is_plain_allowed, transport))?;
        Ok(Route { mirrors, location })
    }

    /// Where `reference` is to be sent: to where its name says, whatever is
    /// said of reading.
    pub fn destination(
        &self,
        reference: &Reference,
        transport: Transport,
        credentials: impl Fn(&str) -> Result<Option<Credentials>>,
    ) -> Result<Endpoint> {
        let transport = match self.rule(reference) {
            Some(rule) => {
                self.check_blocked(rule, reference)?;
                plain_if(rule.is_plain_allowed, transport)
            }
            None => transport,
        };
        Ok(Endpoint::of(reference, transport, credentials(&reference.name())?))
    }

    /// How to talk to a registry as such.
    pub fn transport(&self, registry: &str) -> Result<Transport> {
        let any = Reference::parse(&format!("{registry}/image"))?;
        Ok(self.rule(&any).map_or(Transport::Auto, |rule| plain_if(rule.is_plain_allowed, Transport::Auto)))
    }

    /// The rule with the longest prefix.
    fn rule(&self, reference: &Reference) -> Option<&Rule> {
        let matching = self.rules.iter().filter_map(|rule| Some((rule.matched(reference)?, rule)));
        matching.max_by_key(|(length, _)| *length).map(|(_, rule)| rule)
    }

    fn check_blocked(&self, rule: &Rule, reference: &Reference) -> Result<()> {
        if !rule.is_blocked {
            return Ok(());
        }
        let name = quoted(&reference.familiar());
        Err(Failure::user(format!("{name} is blocked by \"{}\"", self.file(rule.file).display())))
    }

    fn file(&self, index: usize) -> &Path {
        self.files.get(index).map_or(Path::new(""), PathBuf::as_path)
    }
}

impl Rule {
    fn parse(table: Table, file: usize) -> Result<Self> {
        let location = table.location.map(Spanned::into_inner).filter(|location| !location.is_empty());
        if let Some(location) = &location {
            check_location(location, true)?;
        }
        let prefix = match table.prefix.map(Spanned::into_inner).filter(|prefix| !prefix.is_empty()) {
            Some(prefix) => prefix,
            None => location.clone().ok_or_else(|| Failure::user("a registry needs a prefix or a location"))?,
        };
        let prefix = Prefix::parse(&prefix)?;
        let mut mirrors = Vec::new();
        for mirror in table.mirror {
            check_location(mirror.location.get_ref(), true)?;
            if table.mirror_by_digest_only && mirror.pull_from_mirror.is_some_and(|serves| serves != Serves::All) {
                return Err(Failure::user("mirror-by-digest-only and pull-from-mirror cannot both be given"));
            }
            let serves = if table.mirror_by_digest_only { Some(Serves::DigestOnly) } else { mirror.pull_from_mirror };
            mirrors.push(Mirror {
                location: mirror.location.into_inner(),
                is_plain_allowed: mirror.insecure,
                serves: serves.unwrap_or_default(),
            });
        }
        let (is_plain_allowed, is_blocked) = (table.insecure, table.blocked);
        Ok(Self { prefix, location, is_plain_allowed, is_blocked, mirrors, file })
    }

    /// How long a part of the reference the prefix stands for, if for any.
    fn matched(&self, reference: &Reference) -> Option<usize> {
        match &self.prefix {
            Prefix::Name(prefix) => {
                let full = reference.to_string();
                let rest = full.strip_prefix(prefix.as_str())?;
                rest.is_empty().then_some(()).or_else(|| rest.starts_with(['/', ':', '@']).then_some(()))?;
                // A host is no prefix of itself with a port.
                (prefix.contains('/') || prefix == reference.registry()).then_some(prefix.len())
            }
            Prefix::Subdomains(domain) => {
                let registry = reference.registry();
                let host = registry.split_once(':').map_or(registry, |(host, _)| host);
                // Less than any name below the same domain.
                host.ends_with(domain.as_str()).then_some(domain.len())
            }
        }
    }

    /// The name of the repository with `location` in place of the prefix.
    fn rewritten(&self, reference: &Reference, location: &str) -> String {
        let name = reference.name();
        let rest = match &self.prefix {
            // The prefix may have a tag, which is not of the repository's name.
            Prefix::Name(prefix) => name.get(prefix.len()..).unwrap_or_default(),
            Prefix::Subdomains(_) => name.get(reference.registry().len()..).unwrap_or_default(),
        };
        format!("{location}{rest}")
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self> {
        let invalid = || Failure::user(format!("{} is not the beginning of an image's name", quoted(text)));
        if let Some(domain) = text.strip_prefix('*') {
            let host = domain.strip_prefix('.').ok_or_else(invalid)?;
            check_location(host, false).map_err(|_| invalid())?;
            return Ok(Self::Subdomains(domain.to_ascii_lowercase()));
        }
        let (host, rest) = match text.split_once('/') {
            Some((host, rest)) => (host, format!("/{rest}")),
            None => (text, String::new()),
        };
        let is_image = || Reference::parse_short(text).is_ok_and(|short| short.is_none());
        if check_location(text, true).is_err() && !is_image() {
            return Err(invalid());
        }
        Ok(Self::Name(format!("{}{rest}", host.to_ascii_lowercase())))
    }
}

impl Mirror {
    fn serves(&self, reference: &Reference) -> bool {
        match self.serves {
            Serves::All => true,
            Serves::DigestOnly => reference.digest().is_some(),
            Serves::TagOnly => reference.digest().is_none(),
        }
    }
}

fn plain_if(is_plain_allowed: bool, transport: Transport) -> Transport {
    if is_plain_allowed && transport == Transport::Auto { Transport::PlainAllowed } else { transport }
}

/// Checks that `text` is a host with an optional port, and perhaps the
/// beginning of a repository's name.
fn check_location(text: &str, may_have_path: bool) -> Result<()> {
    let invalid = || Failure::user(format!("{} is not a registry", quoted(text)));
    if text.contains("://") {
        return Err(invalid().hint("give the host alone, without a protocol; insecure = true allows plain HTTP"));
    }
    // Any image of it will do to have it parsed.
    let is_full = Reference::parse_short(&format!("{text}/image")).is_ok_and(|short| short.is_none());
    if !is_full || (text.contains('/') && !may_have_path) {
        return Err(invalid());
    }
    Ok(())
}

/// The files of a drop-in directory, in order of their names.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from(error).doing(format!("read \"{}\"", directory.display()))),
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort_unstable();
    Ok(files)
}

/// The line of a text in which the byte at `at` is.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Registries {
        let mut registries = Registries::default();
        registries.add(text, Path::new("/etc/containers/registries.conf")).unwrap();
        registries
    }

    /// Where an image is looked for: `HOST/REPOSITORY`, with `!` for what may be plain HTTP.
    fn route(registries: &Registries, name: &str) -> String {
        let reference = Reference::parse(name).unwrap();
        let route = match registries.route(&reference, Transport::Auto, |_| Ok(None)) {
            Ok(route) => route,
            Err(failure) => return failure.to_string(),
        };
        let shown = |endpoint: &Endpoint| {
            let mark = if endpoint.transport == Transport::PlainAllowed { "!" } else { "" };
            format!("{}/{}{mark}", endpoint.registry, endpoint.repository)
        };
        route.mirrors.iter().chain([&route.location]).map(shown).collect::<Vec<_>>().join(" ")
    }

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_longest_prefix_counts() {
        let registries = registries(
            r#"
            [[registry]]
            prefix = "example.com/foo"
            location = "internal.example.net/bar"
            [[registry.mirror]]
            location = "mirror-0.local/mirror-for-foo"
            [[registry.mirror]]
            location = "mirror-1.local:5000"
            insecure = true
            [[registry]]
            location = "Example.com"
            insecure = true
            [[registry]]
            prefix = "example.com/foo/blocked"
            blocked = true
            [[registry]]
            prefix = "example.com/foo/one:1"
            location = "other.example/two"
            [[registry]]
            prefix = "*.example.org"
            [[registry.mirror]]
            location = "mirror.example/org"
            [[registry]]
            prefix = "docker.io/library"
            location = "docker.example/hub"
            [[registry]]
            prefix = "short.example/whole"
            location = "elsewhere.example"
            "#,
        );
        let check = |name: &str, expected: &str| assert_eq!(route(&registries, name), expected, "{name}");
        let foo = "mirror-0.local/mirror-for-foo/image mirror-1.local:5000/image! internal.example.net/bar/image";
        check("example.com/foo/image:latest", foo);
        check("example.com/foobar/image", "example.com/foobar/image!");
        check("example.com:5000/foo/image", "example.com:5000/foo/image");
        check("example.com/foo/one:1", "other.example/two");
        check("a.b.example.org:5000/x/y", "mirror.example/org/x/y a.b.example.org:5000/x/y");
        check("example.org/x", "example.org/x");
        check("alpine", "docker.example/hub/alpine");
        check("team/app", "docker.io/team/app");
        let blocked = "\"example.com/foo/blocked/image:latest\" is blocked by \"/etc/containers/registries.conf\"";
        check("example.com/foo/blocked/image", blocked);
        assert!(route(&registries, "short.example/whole").contains("names no image"));
        let sent = |name: &str| {
            let reference = Reference::parse(name).unwrap();
            registries.destination(&reference, Transport::Auto, |_| Ok(None)).map(|endpoint| endpoint.registry)
        };
        assert_eq!(sent("example.com/foo/image").unwrap(), "example.com");
        assert!(sent("example.com/foo/blocked/image").is_err());
        assert_eq!(registries.transport("example.com").unwrap(), Transport::PlainAllowed);
        assert_eq!(registries.transport("example.org").unwrap(), Transport::Auto);
    }

    #[test]
    fn mirrors_may_be_for_digests_or_tags_alone() {
        let registries = registries(
            r#"
            [[registry]]
            location = "a.example"
            mirror-by-digest-only = true
            mirror = [{location = "m.example"}]
            [[registry]]
            location = "b.example"
            [[registry.mirror]]
            location = "d.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "t.example"
            pull-from-mirror = "tag-only"
            "#,
        );
        assert_eq!(route(&registries, "a.example/x"), "a.example/x");
        assert_eq!(route(&registries, &format!("a.example/x@sha256:{HEX}")), "m.example/x a.example/x");
        assert_eq!(route(&registries, "b.example/x"), "t.example/x b.example/x");
        assert_eq!(route(&registries, &format!("b.example/x:1@sha256:{HEX}")), "d.example/x b.example/x");
    }

    #[test]
    fn credentials_are_those_of_each_place() {
        let text = "[[registry]]\nlocation = 'a.example'\nmirror = [{location = 'm.example/a'}]";
        let find = |name: &str| Ok(Some(Credentials::new(name, "pw")));
        let reference = Reference::parse("a.example/x").unwrap();
        let route = registries(text).route(&reference, Transport::Auto, find).unwrap();
        assert_eq!(route.mirrors[0].credentials, Some(Credentials::new("m.example/a/x", "pw")));
        assert_eq!(route.location.credentials, Some(Credentials::new("a.example/x", "pw")));
    }

    #[test]
    fn short_names_have_one_meaning() {
        let check = |registries: &Registries, text: &str, expected: &str| {
            assert_eq!(registries.reference(text).unwrap().to_string(), expected, "{text}");
        };
        let none = Registries::default();
        check(&none, "alpine", "docker.io/library/alpine:latest");
        let some = registries(
            "unqualified-search-registries = ['quay.io', 'docker.io']\nshort-name-mode = 'enforcing'\n\
             [aliases]\nfedora = 'registry.fedoraproject.org/fedora'\n'a/b' = 'c.example/d'\nbad = 'alpine'",
        );
        check(&some, "alpine", "quay.io/alpine:latest");
        check(&some, "team/app:1", "quay.io/team/app:1");
        check(&some, "fedora:42", "registry.fedoraproject.org/fedora:42");
        check(&some, &format!("a/b@sha256:{HEX}"), &format!("c.example/d@sha256:{HEX}"));
        check(&some, "docker.io/alpine", "docker.io/library/alpine:latest");
        assert_eq!((some.of_short_names(), none.of_short_names()), ("quay.io", "docker.io"));
        assert!(some.reference("bad").unwrap_err().to_string().contains("registries.conf"));
        assert!(some.reference("Alpine").is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |text: &str, why: &str| {
            let failure = Registries::default().add(text, Path::new("x")).unwrap_err().to_string();
            assert!(failure.contains(why), "{failure}");
        };
        check("a = 1\nb = [", "line 2: ");
        check("\n\n[[registry]]\nblocked = true", "needs a prefix or a location");
        check("\n[[registry]]\nlocation = 'https://a.example'", "line 3: \"https://a.example\" is not a registry");
        check("[[registry]]\nprefix = '*.a.example/b'", "line 2: ");
        check("[[registry]]\nprefix = 'a.*.example'", "line 2: ");
        check("[[registry]]\nlocation = 'team/app'", "is not a registry");
        check("[[registry]]\nlocation = 'a.example'\nblocked = 'yes'", "line 3: ");
        check("[[registry]]\nlocation = 'a.example'\nmirror = [{location = 'm.example:tag'}]", "is not a registry");
        check(
            "[[registry]]\nlocation = 'a.example'\nmirror = [{location = 'm.example', pull-from-mirror = 'x'}]",
            "line 3",
        );
        check("unqualified-search-registries = ['a.example/team']", "line 1: ");
        check("# v1\n[registries.search]\nregistries = ['a.example']", "line 2: version 1");
    }

    #[test]
    fn files_are_found_and_drop_ins_prevail() {
        let dir = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| dir.path().join(name));
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(system.join("registries.conf"), "[aliases]\na = 'system.example/a'");
        write(system.join("registries.conf.d/10-x.conf"), "[aliases]\nb = 'x.example/b'\nc = 'x.example/c'");
        write(system.join("registries.conf.d/20-y.conf"), "[aliases]\nb = 'y.example/b'");
        write(system.join("registries.conf.d/README"), "not TOML");
        let read = || Registries::read(&[own.clone(), system.clone()]);
        let meaning = |text: &str| read().unwrap().reference(text).unwrap().registry().to_owned();
        assert_eq!(["a", "b", "c"].map(meaning), ["system.example", "y.example", "x.example"]);
        write(own.join("registries.conf"), "[aliases]\nb = 'own.example/b'\nd = 'own.example/d'");
        write(own.join("registries.conf.d/z.conf"), "[aliases]\nc = ''");
        assert_eq!(["a", "b", "c", "d"].map(meaning), ["docker.io", "own.example", "docker.io", "own.example"]);
        write(own.join("registries.conf"), "not TOML");
        let failure = read().unwrap_err().to_string();
        assert!(failure.contains("own/registries.conf") && failure.contains("line 1"), "{failure}");
    }

    proptest::proptest! {
        #[test]
        fn always_ends(text in "(\\[\\[registry\\]\\]|prefix|location|=|'[a-z*./:]{0,9}'|\n| ){0,20}") {
            let mut registries = Registries::default();
            if registries.add(&text, Path::new("x")).is_ok() {
                registries.route(&Reference::parse("a.b/c").unwrap(), Transport::Auto, |_| Ok(None)).ok();
            }
        }
    }
}
