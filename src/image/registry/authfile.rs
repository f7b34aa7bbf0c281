//! One file of credentials: docker's `config.json`, or podman's `auth.json`
//! (containers-auth.json(5)), which has the same form.
//!
//! ```text
//!   auths        registry, or registry/part/of/the/name -> auth (base64 of NAME:PASSWORD), identitytoken
//!   credHelpers  registry -> program that keeps the credentials
//!   credsStore   program that keeps those of all other registries
//! ```
//!
//! All else in the file belongs to other programs: it is written back byte for
//! byte. Where several files are asked, and which one is written, is the
//! business of `logins`.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::credentials::{Credentials, Secret};
use crate::error::{Failure, Result};
use crate::image::reference::DEFAULT_REGISTRY;
use crate::{limits, paths};

/// Docker's own name for docker.io in its config file.
pub(super) const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// A JSON object whose values are not looked into, in the order of the file.
#[derive(Debug, Clone, Default)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.0.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }
}

/// A whole file.
#[derive(Debug, Clone, Default)]
pub struct AuthFile {
    members: Members,
    auths: Members,
}

/// What is kept for one registry or a part of it.
#[derive(Deserialize, Serialize, Default)]
#[serde(default)]
struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing)]
    username: String,
    #[serde(skip_serializing)]
    password: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    identity_token: String,
}

impl AuthFile {
    /// Reads the text of a file. The failure never quotes it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // The parser's message may quote the file: say only where it stopped.
        let invalid = |error: serde_json::Error| {
            Failure::user(format!("it is not valid JSON (line {}, column {})", error.line(), error.column()))
        };
        let members: Members = serde_json::from_slice(bytes).map_err(invalid)?;
        let auths = match members.get("auths") {
            Some(auths) => member::<Option<Members>>(auths, "auths")?.unwrap_or_default(),
            None => Members::default(),
        };
        Ok(Self { members, auths })
    }

    /// Reads the file at `path`; one that does not exist is empty.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match limits::read_file(path, limits::USER_FILE_BYTES_MAX) {
            Err(failure) if matches!(failure.errno, Some(libc::ENOENT | libc::ENOTDIR)) => Ok(Self::default()),
            result => Self::parse(&result?),
        }
    }

    /// The credentials in the file for exactly `name`: a registry, or a
    /// registry and a part of a repository's name.
    pub fn credentials(&self, name: &str) -> Result<Option<Credentials>> {
        for (_, value) in self.entries(name) {
            if let Some(credentials) = decode(&member::<Entry>(value, "auths")?)? {
                return Ok(Some(credentials));
            }
        }
        Ok(None)
    }

    /// The program that keeps the credentials of `registry`, if one does.
    pub(super) fn keychain(&self, registry: &str) -> Result<Option<String>> {
        if let Some(programs) = self.members.get("credHelpers") {
            let programs = member::<Option<Members>>(programs, "credHelpers")?.unwrap_or_default();
            let own = programs.0.iter().find(|(key, _)| normal(key) == registry);
            if let Some((_, program)) = own {
                return member(program, "credHelpers").map(Some);
            }
        }
        let program = self.members.get("credsStore").map(|program| member::<Option<String>>(program, "credsStore"));
        Ok(program.transpose()?.flatten().filter(|program| !program.is_empty()))
    }

    /// Everything the file has an entry or a program for, in kelp's spelling.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.auths.0.iter().map(|(key, _)| normal(key)).collect();
        if let Some(programs) = self.members.get("credHelpers") {
            let programs = member::<Option<Members>>(programs, "credHelpers")?.unwrap_or_default();
            names.extend(programs.0.iter().map(|(key, _)| normal(key)));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Whether there is an entry for exactly `name`, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries(name).next().is_some()
    }

    /// Entries for `name` in whatever spelling, the plain one first.
    fn entries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a RawValue)> {
        let plain = self.auths.get(name).map(|value| (name, value));
        let others = self.auths.0.iter().map(|(key, value)| (key.as_str(), &**value));
        plain.into_iter().chain(others.filter(move |(key, _)| *key != name && normal(key) == name))
    }

    /// Keeps `credentials` for `name` under `key`, in place of all other
    /// spellings of it. `None` keeps the key alone, as docker does for what
    /// is in a keychain.
    fn set(&mut self, name: &str, key: &str, credentials: Option<&Credentials>) -> Result<()> {
        self.auths.0.retain(|(other, _)| other == key || normal(other) != name);
        self.auths.set(key, raw(&credentials.map(encode).unwrap_or_default())?);
        Ok(())
    }

    /// Forgets `name`; whether there was anything to forget.
    fn remove(&mut self, name: &str) -> bool {
        let before = self.auths.0.len();
        self.auths.0.retain(|(key, _)| normal(key) != name);
        self.auths.0.len() < before
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut members = self.members.clone();
        members.set("auths", raw_indented(&self.auths, "\t")?);
        let mut bytes = raw_indented(&members, "")?.get().as_bytes().to_vec();
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A value of the file, which is of another kind than it should be.
fn member<'a, T: Deserialize<'a>>(value: &'a RawValue, of: &str) -> Result<T> {
    serde_json::from_str(value.get()).map_err(|_| Failure::user(format!("\"{of}\" is not of the form it should be")))
}

fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::bug(error.to_string()))
}

/// An object, a member a line, as docker writes it; `indent` is that of the
/// line it begins on.
fn raw_indented(members: &Members, indent: &str) -> Result<Box<RawValue>> {
    let mut text = String::from("{");
    for (place, (key, value)) in members.0.iter().enumerate() {
        let key = raw(key)?;
        let comma = if place == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\n{indent}\t{}: {}", key.get(), value.get()));
    }
    text.push_str(&format!("{}}}", if members.0.is_empty() { String::new() } else { format!("\n{indent}") }));
    RawValue::from_string(text).map_err(|error| Failure::bug(error.to_string()))
}

fn decode(entry: &Entry) -> Result<Option<Credentials>> {
    let mut name = entry.username.clone();
    let mut password = entry.password.clone();
    if !entry.auth.is_empty() {
        let invalid = || Failure::user("an \"auth\" entry is not the base64 of name:password");
        let bytes = STANDARD.decode(entry.auth.trim()).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (before, after) = text.split_once(':').ok_or_else(invalid)?;
        // Docker pads with NUL in some old versions (its config package trims them).
        (name, password) = (before.to_owned(), after.trim_end_matches('\0').to_owned());
    }
    if !entry.identity_token.is_empty() {
        return Ok(Some(Credentials::identity(name, &*entry.identity_token)));
    }
    Ok((!name.is_empty()).then(|| Credentials::new(name, password)))
}

fn encode(credentials: &Credentials) -> Entry {
    let name = credentials.name();
    match credentials.secret() {
        Secret::Password(password) => Entry { auth: STANDARD.encode(format!("{name}:{password}")), ..Entry::default() },
        Secret::IdentityToken(token) => {
            Entry { auth: STANDARD.encode(format!("{name}:")), identity_token: token.clone(), ..Entry::default() }
        }
    }
}

/// A key of the file in kelp's spelling of registries. Keys with a scheme are
/// docker's, whose path means nothing.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        Some(bare) => bare.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (registry, rest) = match key.split_once('/') {
        Some((registry, rest)) => (registry, format!("/{rest}")),
        None => (key, String::new()),
    };
    match registry.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" if matches!(&*rest, "" | "/v1") => DEFAULT_REGISTRY.to_owned(),
        registry => format!("{registry}{rest}"),
    }
}

/// What a change does to a file.
pub(super) enum Change<'a> {
    /// Keep this for a name.
    Set(&'a Credentials),
    /// Keep only that there is something in a keychain, if the name is there.
    Hide,
    /// Forget the name.
    Remove,
}

/// Changes what the file at `path` says of `name`, and replaces it as a whole.
/// Two who do so at once take turns. Returns whether there was a change.
pub(super) fn change(path: &Path, name: &str, change: &Change<'_>) -> Result<bool> {
    let path = &follow(path)?;
    if !path.exists() && matches!(change, Change::Hide | Change::Remove) {
        return Ok(false);
    }
    let directory = path.parent().ok_or_else(|| Failure::user("it is no file name"))?;
    paths::make_private(directory)?;
    let (draft_path, mut draft) = open_draft(path)?;
    let mut file = AuthFile::read(path)?;
    let changed = match change {
        Change::Set(credentials) => {
            // Docker asks for docker.io by its own name.
            let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
            let key = if is_dockers && name == DEFAULT_REGISTRY { DOCKER_KEY } else { name };
            file.set(name, key, Some(credentials))?;
            true
        }
        Change::Hide => {
            let key = file.entries(name).next().map(|(key, _)| key.to_owned());
            key.map(|key| file.set(name, &key, None)).transpose()?.is_some()
        }
        Change::Remove => file.remove(name),
    };
    if !changed {
        std::fs::remove_file(&draft_path)?;
        return Ok(false);
    }
    draft.set_len(0)?;
    draft.write_all(&file.to_bytes()?)?;
    draft.sync_all()?;
    std::fs::rename(&draft_path, path)?;
    Ok(true)
}

/// Where `path` leads, if it is a symbolic link, to a file that may not exist
/// yet: dotfiles are often links.
fn follow(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..limits::ENTRY_LINKS_MAX {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Failure::user("its symbolic links lead nowhere"))
}

/// The draft beside the file, locked: it is both the lock and the next
/// version, so what a killed process leaves is used by the next one.
fn open_draft(path: &Path) -> Result<(PathBuf, File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".kelp-draft");
    let draft_path = path.with_file_name(name);
    loop {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let draft = options.open(&draft_path)?;
        draft.lock()?;
        // Whoever had it before may have renamed or removed it.
        let is_current = std::fs::symlink_metadata(&draft_path).is_ok_and(|status| {
            draft.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (status.dev(), status.ino()))
        });
        if is_current {
            draft.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            return Ok((draft_path, draft));
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                    if members.len() > limits::AUTH_ENTRIES_MAX {
                        return Err(de::Error::custom("too many members"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
        "quay.io": {"auth": "cXVheTphOmI="},
        "quay.io/team": {"username": "team", "password": "pw"},
        "Registry.Example:5000": {"auth": "bWU6", "identitytoken": "id"},
        "empty.example": {},
        "bad.example": {"auth": "!!!"},
        "odd.example": 7
    }, "credHelpers": {"https://gcr.io": "gcloud", "": ""}, "credsStore": "desktop", "HttpHeaders": {"a": 1e400}}"#;

    fn of(file: &str, name: &str) -> Result<Option<Credentials>> {
        AuthFile::parse(file.as_bytes())?.credentials(name)
    }

    #[test]
    fn reads_all_spellings() {
        let check = |name: &str, expected: Option<Credentials>| assert_eq!(of(FILE, name).unwrap(), expected, "{name}");
        check("docker.io", Some(Credentials::new("hub", "secret")));
        check("quay.io", Some(Credentials::new("quay", "a:b")));
        check("quay.io/team", Some(Credentials::new("team", "pw")));
        check("registry.example:5000", Some(Credentials::identity("me", "id")));
        check("empty.example", None);
        check("other.example", None);
        assert!(of(FILE, "bad.example").is_err());
        assert!(of(FILE, "odd.example").is_err());
        let file = AuthFile::parse(FILE.as_bytes()).unwrap();
        assert_eq!(file.keychain("gcr.io").unwrap().as_deref(), Some("gcloud"));
        assert_eq!(file.keychain("quay.io").unwrap().as_deref(), Some("desktop"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for bad in
            ["{\"auths\": secret", "[\"secret\"]", "{\"auths\": [\"secret\"]}", "{\"auths\": {\"a\": \"secret\"}}"]
        {
            let failure = of(bad, "a").unwrap_err().to_string();
            assert!(!failure.contains("secret"), "{failure}");
        }
        for empty in ["", " \n", "{}", "{\"auths\": null}", "{\"auths\": {}}"] {
            assert_eq!(of(empty, "a").unwrap(), None, "{empty}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, FILE).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let me = Credentials::new("me", "new");
        assert!(change(&path, "docker.io", &Change::Set(&me)).unwrap());
        assert!(change(&path, "new.example/a", &Change::Set(&Credentials::identity("me", "token"))).unwrap());
        assert!(change(&path, "quay.io", &Change::Hide).unwrap());
        assert!(!change(&path, "unknown.example", &Change::Hide).unwrap());
        assert!(change(&path, "bad.example", &Change::Remove).unwrap());
        assert!(!change(&path, "bad.example", &Change::Remove).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"HttpHeaders\": {\"a\": 1e400}"), "{text}");
        assert!(text.contains("\"quay.io/team\": {\"username\": \"team\", \"password\": \"pw\"}"), "{text}");
        assert!(text.contains("\"quay.io\": {}"), "{text}");
        assert!(text.contains("\"https://index.docker.io/v1/\": {\"auth\":\"bWU6bmV3\"}"), "{text}");
        assert!(!text.contains("bad.example") && !text.contains("\"docker.io\""), "{text}");
        assert_eq!(of(&text, "docker.io").unwrap(), Some(me));
        assert_eq!(of(&text, "new.example/a").unwrap(), Some(Credentials::identity("me", "token")));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn links_and_leftovers_are_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("auth.json");
        let target = dir.path().join("dotfiles/real.json");
        std::os::unix::fs::symlink("dotfiles/real.json", &link).unwrap();
        std::fs::create_dir(dir.path().join("dotfiles")).unwrap();
        std::fs::write(dir.path().join("dotfiles/real.json.kelp-draft"), "half a dra").unwrap();
        change(&link, "a.example", &Change::Set(&Credentials::new("a", "b"))).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let text = std::fs::read_to_string(&target).unwrap();
        assert_eq!(of(&text, "a.example").unwrap(), Some(Credentials::new("a", "b")));
        // A file that cannot be understood is not replaced.
        std::fs::write(&target, "{").unwrap();
        assert!(change(&link, "a.example", &Change::Set(&Credentials::new("a", "c"))).is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "{");
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let me = Credentials::new("me", "pw");
                    change(path, &format!("host{number}.example"), &Change::Set(&me)).unwrap();
                });
            }
        });
        assert_eq!(AuthFile::read(&path).unwrap().names().unwrap().len(), 8);
    }

    proptest::proptest! {
        #[test]
        fn always_ends(text in "[{}\":,a-z/ .\\[\\]]{0,80}|.{0,60}") {
            if let Ok(file) = AuthFile::parse(text.as_bytes()) {
                file.credentials("a").ok();
                file.keychain("a").ok();
                AuthFile::parse(&file.to_bytes().unwrap()).unwrap();
            }
        }
    }
}
