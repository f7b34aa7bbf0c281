//! Where this user's logins are: the files that are asked, in which order,
//! and which of them is written (docs/reference/registries.md).
//!
//! ```text
//!   --authfile, else REGISTRY_AUTH_FILE     alone, if one is given
//!   $DOCKER_CONFIG/config.json              if the variable is set
//!   $XDG_RUNTIME_DIR/containers/auth.json   podman's; gone with the session
//!   ~/.config/containers/auth.json          podman's; where kelp login writes
//!   ~/.docker/config.json                   docker's; never written unless named
//! ```

use std::path::{Path, PathBuf};

use super::authfile::{self, AuthFile, Change};
use super::credentials::Credentials;
use super::keychain::Keychain;
use crate::error::{Context, Failure, Result};

/// The files that may hold this user's logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logins {
    /// As they are asked; those that may be written, first.
    files: Vec<PathBuf>,
    /// How many of them may be written.
    writable: usize,
    /// What a new login is written to.
    default: Option<PathBuf>,
}

/// A login that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub credentials: Credentials,
    /// The file that has it, or names the program that has it.
    pub file: PathBuf,
}

/// Where a login was put or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file; the password can be read in it by whoever can read the file.
    File(PathBuf),
    /// A program, by its short name.
    Keychain(String),
}

impl Logins {
    /// By `named` (`--authfile`) and the environment.
    pub fn of_this_user(named: Option<&Path>) -> Self {
        Self::from(named, |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn from(named: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(file) = named.map(Path::to_path_buf).or_else(|| variable("REGISTRY_AUTH_FILE")) {
            return Self { files: vec![file.clone()], writable: 1, default: Some(file) };
        }
        let home = variable("HOME");
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let config = config.map(|directory| directory.join("containers/auth.json"));
        if let Some(dockers) = variable("DOCKER_CONFIG").map(|directory| directory.join("config.json")) {
            let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
            let files = [Some(dockers.clone()), runtime, config].into_iter().flatten().collect();
            return Self { files, writable: 1, default: Some(dockers) };
        }
        let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
        let mut files: Vec<PathBuf> = [runtime, config.clone()].into_iter().flatten().collect();
        let writable = files.len();
        files.extend(below_home(".docker/config.json"));
        Self { files, writable, default: config }
    }

    /// The credentials for `name`, a registry or a repository with its
    /// registry: in each file those for the longest part of the name, a
    /// keychain being asked for the registry as a whole.
    pub fn find(&self, name: &str) -> Result<Option<Found>> {
        for path in &self.files {
            let found = find_in(path, name).doing(|| format!("read credentials in \"{}\"", path.display()))?;
            if let Some(credentials) = found {
                return Ok(Some(Found { credentials, file: path.clone() }));
            }
        }
        Ok(None)
    }

    /// Keeps `credentials` for `name`: where there are some now, else in the
    /// default file, in the keychain that the file names, if it names one.
    pub fn store(&self, name: &str, credentials: &Credentials) -> Result<Place> {
        let path = self.target(name)?;
        let doing = || format!("write credentials to \"{}\"", path.display());
        let file = AuthFile::read(&path).doing(doing)?;
        // A keychain knows registries only.
        let keychain = if name.contains('/') { None } else { file.keychain(name).doing(doing)? };
        match keychain {
            None => {
                authfile::change(&path, name, &Change::Set(credentials)).doing(doing)?;
                Ok(Place::File(path))
            }
            Some(program) => {
                Keychain::find(&program).and_then(|keychain| keychain.store(name, credentials)).doing(doing)?;
                // A password that was in the file before would outlive the change.
                authfile::change(&path, name, &Change::Hide).doing(doing)?;
                Ok(Place::Keychain(program))
            }
        }
    }

    /// Forgets what is kept for `name`, in all files that are kelp's to write.
    pub fn erase(&self, name: &str) -> Result<Vec<Place>> {
        let mut erased = Vec::new();
        for path in self.files.iter().take(self.writable) {
            let doing = || format!("remove credentials from \"{}\"", path.display());
            let file = AuthFile::read(path).doing(doing)?;
            if !name.contains('/')
                && let Some(program) = file.keychain(name).doing(doing)?
                && Keychain::find(&program).and_then(|keychain| keychain.erase(name)).doing(doing)?
            {
                erased.push(Place::Keychain(program));
            }
            if authfile::change(path, name, &Change::Remove).doing(doing)? {
                erased.push(Place::File(path.clone()));
            }
        }
        Ok(erased)
    }

    /// Everything that [`Logins::erase`] may forget.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for path in self.files.iter().take(self.writable) {
            let file = AuthFile::read(path).and_then(|file| file.names());
            names.extend(file.doing(|| format!("read credentials in \"{}\"", path.display()))?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn target(&self, name: &str) -> Result<PathBuf> {
        for path in self.files.iter().take(self.writable) {
            if AuthFile::read(path).is_ok_and(|file| file.has(name)) {
                return Ok(path.clone());
            }
        }
        self.default.clone().ok_or_else(|| {
            Failure::host("HOME is not set, so there is no place to keep logins")
                .hint("name a file with --authfile or REGISTRY_AUTH_FILE")
        })
    }
}

fn find_in(path: &Path, name: &str) -> Result<Option<Credentials>> {
    let file = AuthFile::read(path)?;
    let mut part = name;
    while let Some((shorter, _)) = part.rsplit_once('/') {
        if let Some(credentials) = file.credentials(part)? {
            return Ok(Some(credentials));
        }
        part = shorter;
    }
    if let Some(program) = file.keychain(part)?
        && let Some(credentials) = Keychain::find(&program)?.get(part)?
    {
        return Ok(Some(credentials));
    }
    file.credentials(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(dir: &Path, variables: &[(&str, &str)]) -> Logins {
        let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| dir.join(value));
        Logins::from(None, value)
    }

    #[test]
    fn the_order_is_as_documented() {
        let dir = Path::new("/");
        let all = [("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("XDG_CONFIG_HOME", "conf"), ("DOCKER_CONFIG", "d")];
        let check = |count: usize, expected: &[&str], default: Option<&str>| {
            let logins = logins(dir, &all[..count]);
            assert_eq!(logins.files, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(logins.default.as_deref(), default.map(Path::new));
        };
        let home = ["/home/.config/containers/auth.json", "/home/.docker/config.json"];
        check(0, &[], None);
        check(1, &home, Some(home[0]));
        check(2, &["/run/containers/auth.json", home[0], home[1]], Some(home[0]));
        let conf = "/conf/containers/auth.json";
        check(3, &["/run/containers/auth.json", conf, home[1]], Some(conf));
        check(4, &["/d/config.json", "/run/containers/auth.json", conf], Some("/d/config.json"));
        let named = Logins::from(Some(Path::new("/mine")), |_| Some(PathBuf::from("/other")));
        assert_eq!((named.files, named.writable), (vec![PathBuf::from("/mine")], 1));
    }

    #[test]
    fn the_longest_name_wins_and_the_first_file() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path(), &[("HOME", "home"), ("XDG_RUNTIME_DIR", "run")]);
        for directory in ["run/containers", "home/.config/containers", "home/.docker"] {
            std::fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        let write = |place: usize, text: &str| std::fs::write(&logins.files[place], text).unwrap();
        write(0, r#"{"auths": {"a.example/x": {"auth": "Zmlyc3Q6eA=="}}}"#);
        write(1, r#"{"auths": {"a.example": {"auth": "c2Vjb25kOnk="}, "a.example/x/y": {"auth": "dGhpcmQ6eg=="}}}"#);
        write(2, r#"{"auths": {"b.example": {"auth": "Zm91cnRoOnc="}}}"#);
        let name = |of: &str| logins.find(of).unwrap().map(|found| found.credentials.name().to_owned());
        assert_eq!(name("a.example/x/y/z").as_deref(), Some("first"));
        assert_eq!(name("a.example/xx").as_deref(), Some("second"));
        assert_eq!(name("a.example").as_deref(), Some("second"));
        assert_eq!(name("b.example/c").as_deref(), Some("fourth"));
        assert_eq!(name("c.example/c"), None);

        // A new login replaces the one that is asked first; docker's file is not ours to change.
        let me = Credentials::new("me", "pw");
        assert_eq!(logins.store("a.example/x", &me).unwrap(), Place::File(logins.files[0].clone()));
        assert_eq!(logins.store("b.example", &me).unwrap(), Place::File(logins.files[1].clone()));
        assert_eq!(logins.erase("b.example").unwrap(), [Place::File(logins.files[1].clone())]);
        assert_eq!(logins.erase("b.example").unwrap(), []);
        assert_eq!(name("b.example").as_deref(), Some("fourth"));
        assert_eq!(logins.names().unwrap(), ["a.example", "a.example/x", "a.example/x/y"]);
    }
}
