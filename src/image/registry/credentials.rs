//! Names and passwords, from the files other tools keep them in.
//!
//! Only `auths` entries are read; credential helpers are programs and are not
//! run. A credential is for one registry, perhaps for one of its namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

use super::transport::{Authorization, Form};
use crate::error::{Context, Failure, Result};
use crate::image::reference::{DEFAULT_REGISTRY, Reference};
use crate::limits;

/// Docker's own name for docker.io in its config file.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// Who somebody is, and the proof. The proof is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    name: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    /// Shown to a registry or a token server.
    Password(String),
    /// OAuth2's refresh token: shown to a token server only.
    IdentityToken(String),
}

impl Credentials {
    /// A user with a password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), secret: Secret::Password(password.into()) }
    }

    /// A user with an identity token, which a token server gave in place of
    /// the password.
    pub fn identity(name: impl Into<String>, token: impl Into<String>) -> Self {
        Self { name: name.into(), secret: Secret::IdentityToken(token.into()) }
    }

    /// Who it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and password for a registry; an identity token is not for one.
    pub(super) fn basic(&self) -> Option<Authorization> {
        match &self.secret {
            Secret::Password(password) => Some(Authorization::basic(&self.name, password)),
            Secret::IdentityToken(_) => None,
        }
    }

    /// What proves it to a token server, if it is no password.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.secret {
            Secret::IdentityToken(token) => Some(token),
            Secret::Password(_) => None,
        }
    }

    /// The fields of an OAuth2 request (distribution's OAuth2 specification).
    pub(super) fn fill_in(&self, form: &mut Form) {
        match &self.secret {
            Secret::Password(password) => {
                form.push("grant_type", "password");
                form.push("username", &self.name);
                form.push("password", password);
            }
            Secret::IdentityToken(token) => {
                form.push("grant_type", "refresh_token");
                form.push("refresh_token", token);
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.name)
    }
}

/// `~/.docker/config.json` and containers' `auth.json`.
#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Deserialize, Default)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// The files in which this user's tools keep credentials, in the order in
/// which they are asked (containers-auth.json(5), then Docker's).
pub fn files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The credentials for `reference` in the first of `files` that has some.
pub fn find(files: &[PathBuf], reference: &Reference) -> Result<Option<Credentials>> {
    for path in files {
        let found = read(path).and_then(|file| file.map_or(Ok(None), |file| choose(&file, reference)));
        if let Some(credentials) = found.doing(|| format!("read credentials in \"{}\"", path.display()))? {
            return Ok(Some(credentials));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<AuthFile>> {
    let bytes = match limits::read_file(path, limits::USER_FILE_BYTES_MAX) {
        Err(failure) if matches!(failure.errno, Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        result => result?,
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    // The parser's message may quote the file: say only where it stopped.
    let invalid = |error: serde_json::Error| {
        Failure::user(format!("it is not valid JSON (line {}, column {})", error.line(), error.column()))
    };
    serde_json::from_slice(&bytes).map(Some).map_err(invalid)
}

/// The entry for the longest part of the name: `host/a/b` before `host/a`
/// before `host`.
fn choose(file: &AuthFile, reference: &Reference) -> Result<Option<Credentials>> {
    let name = reference.name();
    let mut key = name.as_str();
    loop {
        if let Some(entry) = file.auths.get(key) {
            return decode(entry);
        }
        match key.rsplit_once('/') {
            Some((shorter, _)) => key = shorter,
            None => break,
        }
    }
    let registry = reference.registry();
    let spellings = [format!("https://{registry}"), format!("https://{registry}/"), format!("https://{registry}/v2/")];
    let mut keys = spellings.iter().map(String::as_str).chain((registry == DEFAULT_REGISTRY).then_some(DOCKER_KEY));
    keys.find_map(|key| file.auths.get(key)).map_or(Ok(None), decode)
}

fn decode(entry: &AuthEntry) -> Result<Option<Credentials>> {
    if entry.auth.is_empty() {
        let given = !entry.username.is_empty();
        return Ok(given.then(|| Credentials::new(&*entry.username, &*entry.password)));
    }
    let invalid = || Failure::user("an \"auth\" entry is not the base64 of name:password");
    let bytes = base64::engine::general_purpose::STANDARD.decode(entry.auth.trim()).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    let (name, password) = text.split_once(':').ok_or_else(invalid)?;
    // Docker pads with NUL in some old versions (its config package trims them).
    Ok(Some(Credentials::new(name, password.trim_end_matches('\0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
        "quay.io": {"auth": "cXVheTphOmI="},
        "quay.io/team": {"username": "team", "password": "pw"},
        "empty.example": {},
        "bad.example": {"auth": "!!!"}
    }, "credsStore": "desktop"}"#;

    #[test]
    fn finds_the_closest_entry() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("missing"), dir.path().join("auth.json")];
        std::fs::write(&files[1], FILE).unwrap();
        let of = |name: &str| find(&files, &Reference::parse(name).unwrap());
        assert_eq!(of("alpine").unwrap(), Some(Credentials::new("hub", "secret")));
        assert_eq!(of("quay.io/a/b").unwrap(), Some(Credentials::new("quay", "a:b")));
        assert_eq!(of("quay.io/team/b").unwrap(), Some(Credentials::new("team", "pw")));
        assert_eq!(of("quay.io/teams/b").unwrap(), Some(Credentials::new("quay", "a:b")));
        assert_eq!(of("empty.example/b").unwrap(), None);
        assert_eq!(of("other.example/b").unwrap(), None);
        assert!(of("bad.example/b").is_err());
        std::fs::write(&files[1], "{\"auths\": secret").unwrap();
        assert!(!of("alpine").unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn are_never_printed() {
        assert!(!format!("{:?}", Credentials::new("a", "secret")).contains("secret"));
        assert!(!format!("{:?}", Credentials::identity("a", "secret")).contains("secret"));
        assert_eq!(Credentials::new("a", "b").basic(), Some(Authorization::basic("a", "b")));
    }
}
