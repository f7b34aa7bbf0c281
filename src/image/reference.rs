//! References: the names of images.
//!
//! `alpine` is parsed once into `docker.io/library/alpine:latest`; nobody
//! splits the string again. The grammar is that of the distribution project
//! (its `reference` package), with one difference: a first component without
//! dot or port is a registry only if it is `localhost`, so that `Web/app` gets
//! the answer "must be lower case" and not a search for a host named "Web".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::{self, Digest};
use super::quote::quoted;
use crate::error::Failure;

/// The registry of names that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names that carry neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Where images live that came from no registry.
pub const LOCAL_REGISTRY: &str = "localhost";
/// Where docker.io keeps repositories of one component.
const DEFAULT_NAMESPACE: &str = "library";

/// Registry and repository together (distribution's NameTotalLengthMax).
const NAME_BYTES_MAX: usize = 255;
/// A tag (distribution's grammar).
const TAG_BYTES_MAX: usize = 128;

/// A canonical image name: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing at all.
    #[error("the image name is empty")]
    Empty,
    /// `Alpine`.
    #[error("image name {0} must be lower case")]
    UpperCase(String),
    /// A repository with a character or separator in the wrong place.
    #[error(
        "image name {0} is not valid: each part between slashes is letters and digits, joined by \".\", \"_\", \"__\" or \"-\""
    )]
    Repository(String),
    /// A registry that is no host.
    #[error("registry {0} is not a host name or address with an optional port")]
    Registry(String),
    /// A bad tag.
    #[error(
        "tag {0} is not valid: up to 128 letters, digits, \"_\", \".\" and \"-\", not starting with \".\" or \"-\""
    )]
    Tag(String),
    /// A bad digest.
    #[error(transparent)]
    Digest(#[from] digest::ParseError),
    /// 64 hexadecimal digits: an id.
    #[error("{0} is an image id, not a name")]
    Id(String),
    /// Longer than any registry takes.
    #[error("image name {0} is longer than {NAME_BYTES_MAX} bytes")]
    TooLong(String),
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        let hint = match &error {
            ParseError::UpperCase(name) => Some(format!("did you mean {}?", name.to_lowercase())),
            _ => None,
        };
        let failure = Self::usage(error.to_string());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Reference {
    /// The image that `text` names, with registry and tag filled in.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_in(text, DEFAULT_REGISTRY)
    }

    /// As [`Reference::parse`], but a name without a registry is one of our
    /// own (`localhost/NAME`): the names that archives carry.
    pub fn parse_local(text: &str) -> Result<Self, ParseError> {
        Self::parse_in(text, LOCAL_REGISTRY)
    }

    /// The name in `text` if it has no registry, as if it were one of our own;
    /// `None` if it has one.
    pub fn parse_short(text: &str) -> Result<Option<Self>, ParseError> {
        let local = Self::parse_local(text)?;
        let is_short = !text.split_once('/').is_some_and(|(first, _)| is_registry(first));
        Ok(is_short.then_some(local))
    }

    /// What `text` may mean in the local store, in order: a name without a
    /// registry is first one of our own, then one of docker.io's.
    pub fn local_candidates(text: &str) -> Result<Vec<Self>, ParseError> {
        let named = Self::parse(text)?;
        let local = Self::parse_local(text)?;
        Ok(if local == named { vec![named] } else { vec![local, named] })
    }

    fn parse_in(text: &str, default_registry: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(ParseError::Id(quoted(text)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((first, rest)) if is_registry(first) => (canonical_registry(first)?, rest),
            _ => (default_registry.to_owned(), rest),
        };
        // A colon after the last slash starts the tag; the registry, whose
        // port has one too, is gone.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(checked_tag(tag)?)),
            None => (rest, None),
        };
        let mut repository = checked_repository(repository)?.to_owned();
        if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            repository = format!("{DEFAULT_NAMESPACE}/{repository}");
        }
        if registry.len() + 1 + repository.len() > NAME_BYTES_MAX {
            return Err(ParseError::TooLong(quoted(text)));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// Host, with a port if one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one; a reference has a tag, a digest or both.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of manifest or index, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at `digest`, without a tag: the name under which
    /// content pulled by digest is kept.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository at `tag`.
    pub fn tagged(&self, tag: &str) -> Result<Self, ParseError> {
        Ok(Self { tag: Some(checked_tag(tag)?.to_owned()), digest: None, ..self.clone() })
    }

    /// The short form for people, as docker prints it: `alpine:latest`. Reads
    /// back as the same reference.
    pub fn familiar(&self) -> String {
        let name = self.familiar_name();
        format!("{name}{}", self.suffix())
    }

    /// The short form of registry and repository: `alpine`.
    pub fn familiar_name(&self) -> String {
        if self.registry == DEFAULT_REGISTRY {
            let path = self.repository.strip_prefix("library/").filter(|rest| !rest.contains('/'));
            let short = path.unwrap_or(&self.repository);
            // `docker.io/a.b/c` must keep its registry: `a.b` would become one.
            if Self::parse(short).is_ok_and(|parsed| parsed.name() == self.name()) {
                return short.to_owned();
            }
        }
        self.name()
    }

    /// What follows the repository: `:tag`, `@digest` or both.
    pub fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.iter().map(|digest| format!("@{digest}"))).collect()
    }
}

/// Whether the first component of a name is a registry.
fn is_registry(first: &str) -> bool {
    first == LOCAL_REGISTRY || first.contains(['.', ':'])
}

/// The registry in its one spelling; hosts have no case (RFC 3986, 3.2.2).
fn canonical_registry(text: &str) -> Result<String, ParseError> {
    let invalid = || ParseError::Registry(quoted(text));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(invalid)?) };
            (format!("[{}]", address.to_ascii_lowercase()), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let legal = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            if !host.split('.').all(legal) {
                return Err(invalid());
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    if let Some(port) = port {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0).ok_or_else(invalid)?;
        return Ok(format!("{host}:{port}"));
    }
    // What docker itself once wrote.
    Ok(if host == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { host })
}

fn checked_repository(path: &str) -> Result<&str, ParseError> {
    if path.split('/').all(is_path_component) {
        return Ok(path);
    }
    if path.split('/').all(|part| is_path_component(&part.to_ascii_lowercase())) {
        return Err(ParseError::UpperCase(quoted(path)));
    }
    Err(ParseError::Repository(quoted(path)))
}

/// `[a-z0-9]+` runs joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let legal = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    let ends = part.starts_with(['.', '_', '-']) || part.ends_with(['.', '_', '-']) || part.is_empty();
    let separators = part.split(|c: char| c.is_ascii_alphanumeric()).all(|separator| match separator {
        "" | "." | "_" | "__" => true,
        dashes => dashes.bytes().all(|byte| byte == b'-'),
    });
    legal && !ends && separators
}

fn checked_tag(tag: &str) -> Result<&str, ParseError> {
    let legal = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !legal || tag.is_empty() || tag.starts_with(['.', '-']) || tag.len() > TAG_BYTES_MAX {
        return Err(ParseError::Tag(quoted(tag)));
    }
    Ok(tag)
}

impl fmt::Display for Reference {
    /// The canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, canonical: &str, familiar: &str) {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), canonical, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }

    #[test]
    fn fills_in_what_is_missing() {
        check("alpine", "docker.io/library/alpine:latest", "alpine:latest");
        check("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20");
        check("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest");
        check("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest");
        check("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest");
        check("localhost/web", "localhost/web:latest", "localhost/web:latest");
        check("localhost:5000/web:1", "localhost:5000/web:1", "localhost:5000/web:1");
        check("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest");
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check("Quay.IO/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest");
        check("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest");
        check("docker.io/library/localhost/x", "docker.io/library/localhost/x:latest", "library/localhost/x:latest");
        let by_digest = format!("alpine@sha256:{HEX}");
        check(&by_digest, &format!("docker.io/library/{by_digest}"), &by_digest);
        let both = format!("alpine:3@sha256:{HEX}");
        check(&both, &format!("docker.io/library/{both}"), &both);
    }

    #[test]
    fn says_what_is_wrong() {
        let refused = |text: &str| Reference::parse(text).unwrap_err();
        assert_eq!(refused(""), ParseError::Empty);
        assert!(matches!(refused("Alpine"), ParseError::UpperCase(_)));
        assert!(matches!(refused("Web/app"), ParseError::UpperCase(_)));
        assert!(matches!(refused("a..b"), ParseError::Repository(_)));
        assert!(matches!(refused("a___b"), ParseError::Repository(_)));
        assert!(matches!(refused("../etc"), ParseError::Registry(_)));
        assert!(matches!(refused("a/../b"), ParseError::Repository(_)));
        assert!(matches!(refused("a//b"), ParseError::Repository(_)));
        assert!(matches!(refused("/a"), ParseError::Repository(_)));
        assert!(matches!(refused("a/"), ParseError::Repository(_)));
        assert!(matches!(refused("a:"), ParseError::Tag(_)));
        assert!(matches!(refused("a:-x"), ParseError::Tag(_)));
        assert!(matches!(refused(&format!("a:{}", "x".repeat(129))), ParseError::Tag(_)));
        assert!(matches!(refused("host:0/a"), ParseError::Registry(_)));
        assert!(matches!(refused("host:70000/a"), ParseError::Registry(_)));
        assert!(matches!(refused("host:+80/a"), ParseError::Registry(_)));
        assert!(matches!(refused("-a.b/c"), ParseError::Registry(_)));
        assert!(matches!(refused("a@sha256:xyz"), ParseError::Digest(_)));
        assert!(matches!(refused("a@b@c"), ParseError::Digest(_)));
        assert!(matches!(refused(HEX), ParseError::Id(_)));
        assert!(matches!(refused(&"a".repeat(300)), ParseError::TooLong(_)));
        assert_eq!(Failure::from(refused("Alpine")).hints, ["did you mean \"alpine\"?"]);
    }

    #[test]
    fn looks_for_our_own_first() {
        let names = |text: &str| -> Vec<String> {
            Reference::local_candidates(text).unwrap().iter().map(Reference::to_string).collect()
        };
        assert_eq!(names("web"), ["localhost/web:latest", "docker.io/library/web:latest"]);
        assert_eq!(names("a/web:1"), ["localhost/a/web:1", "docker.io/a/web:1"]);
        assert_eq!(names("quay.io/web"), ["quay.io/web:latest"]);
    }

    fn legal() -> impl Strategy<Value = String> {
        let component = "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}";
        let registry = "(localhost|[a-zA-Z0-9]{1,5}\\.[a-z]{2,3}|\\[::1\\])(:[1-9][0-9]{0,3})?/";
        (
            proptest::option::of(registry),
            proptest::collection::vec(component, 1..4),
            proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}"),
            any::<bool>(),
        )
            .prop_map(|(registry, path, tag, digest)| {
                let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
                let digest = if digest { format!("@sha256:{HEX}") } else { String::new() };
                // A first component with a dot would be read as a registry.
                let registry = registry.or(path[0].contains('.').then(|| "docker.io/".to_owned()));
                format!("{}{}{tag}{digest}", registry.unwrap_or_default(), path.join("/"))
            })
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(text in legal()) {
            let reference = Reference::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert_eq!(Reference::parse(&reference.familiar()), Ok(reference));
        }

        #[test]
        fn never_panics(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,80}|.{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
