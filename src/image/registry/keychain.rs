//! Keychains: programs that keep credentials, `docker-credential-NAME`
//! (docker/docker-credential-helpers, "Development").
//!
//! ```text
//!   get     registry on stdin    ->  {"ServerURL", "Username", "Secret"} on stdout
//!   store   the same on stdin    ->  nothing
//!   erase   registry on stdin    ->  nothing
//! ```
//! A failure is an exit status other than 0 and words on stdout.
//!
//! The name comes from a file; it is never a path, and the program is one of
//! the user's own PATH. It may ask the user to unlock the keychain, so it has
//! the terminal's standard error and the environment, and time.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::authfile::DOCKER_KEY;
use super::credentials::{Credentials, Secret};
use crate::error::{Context, Failure, Result};
use crate::image::quote::quoted;
use crate::image::reference::DEFAULT_REGISTRY;
use crate::kernel::file;
use crate::limits;

/// The user name that stands for an identity token.
const IDENTITY: &str = "<token>";

/// A program that keeps credentials.
pub(super) struct Keychain {
    /// `docker-credential-NAME`.
    name: String,
    program: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Item {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username")]
    name: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Keychain {
    /// The program that a file calls `name`, on this user's PATH.
    pub(super) fn find(name: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(name, &std::env::split_paths(&path).collect::<Vec<_>>())
    }

    fn find_in(name: &str, directories: &[PathBuf]) -> Result<Self> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || !name.bytes().all(legal) {
            return Err(Failure::user(format!("{} is not the name of a credential helper", quoted(name))));
        }
        let name = format!("docker-credential-{name}");
        // A relative entry is another program in each directory.
        let mut places = directories.iter().filter(|directory| directory.is_absolute()).map(|dir| dir.join(&name));
        match places.find(|place| is_program(place)) {
            Some(program) => Ok(Self { name, program }),
            None => Err(Failure::user(format!("there is no program {name} in your PATH"))
                .hint("install it, or remove its name from the file; kelp login then keeps passwords in the file")),
        }
    }

    /// What it keeps for `registry`.
    pub(super) fn get(&self, registry: &str) -> Result<Option<Credentials>> {
        for server in servers(registry) {
            let Some(answer) = self.call("get", server.as_bytes())? else { continue };
            let invalid = |_| Failure::user(format!("{} sent no valid JSON", self.name));
            let item: Item = serde_json::from_slice(&answer).map_err(invalid)?;
            return Ok(Some(match item.name == IDENTITY {
                true => Credentials::identity("", item.secret),
                false => Credentials::new(item.name, item.secret),
            }));
        }
        Ok(None)
    }

    /// Keeps credentials for `registry`.
    pub(super) fn store(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        let (name, secret) = match credentials.secret() {
            Secret::Password(password) => (credentials.name(), password),
            Secret::IdentityToken(token) => (IDENTITY, token),
        };
        let item = Item { server: server(registry).to_owned(), name: name.to_owned(), secret: secret.clone() };
        let text = serde_json::to_vec(&item).map_err(|error| Failure::bug(error.to_string()))?;
        self.call("store", &text).map(drop)
    }

    /// Forgets what it keeps for `registry`; whether there was something.
    pub(super) fn erase(&self, registry: &str) -> Result<bool> {
        let is_there = self.get(registry)?.is_some();
        if is_there {
            for server in servers(registry) {
                self.call("erase", server.as_bytes())?;
            }
        }
        Ok(is_there)
    }

    /// Runs the program; `None` where it has nothing.
    fn call(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
        let doing = || format!("call {} {verb}", self.name);
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().doing(doing)?;
        let result = converse(&mut child, input);
        if result.is_err() {
            // It has overrun its time or its output: nothing of it is wanted.
            child.kill().ok();
        }
        let status = child.wait().doing(doing)?;
        let output = result.doing(doing)?;
        if status.success() {
            return Ok(Some(output));
        }
        let said = String::from_utf8_lossy(&output);
        let said = said.trim();
        // The words of docker-credential-helpers' credentials.ErrCredentialsNotFound.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = if said.is_empty() { format!("it ended with {status}") } else { quoted(said) };
        Err(Failure::user(said).doing(doing()))
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
}

/// How keychains call a registry.
fn server(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DOCKER_KEY } else { registry }
}

/// The same, and how podman calls it.
fn servers(registry: &str) -> impl Iterator<Item = &str> {
    let first = server(registry);
    std::iter::once(first).chain((first != registry).then_some(registry))
}

/// Writes `input`, reads all output, within bounds of size and time.
fn converse(child: &mut Child, mut input: &[u8]) -> Result<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_millis(limits::KEYCHAIN_PATIENCE_MS);
    let (mut stdin, Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::bug("a child without pipes"));
    };
    if let Some(stdin) = &stdin {
        file::set_nonblocking(stdin.as_fd())?;
    }
    file::set_nonblocking(stdout.as_fd())?;
    let mut output = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::user(format!("no answer within {} s", limits::KEYCHAIN_PATIENCE_MS / 1000)));
        }
        let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        fds.extend(stdin.as_ref().map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(count) => input = input.get(count..).unwrap_or_default(),
                Err(error) if is_for_later(&error) => {}
                // It does not want to know; its status tells why.
                Err(_) => input = &[],
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        let mut buffer = [0; 4096];
        match stdout.read(&mut buffer) {
            Ok(0) => return Ok(output),
            Ok(count) => output.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if output.len() > limits::KEYCHAIN_BYTES_MAX {
            return Err(Failure::user(format!("it says more than {} bytes", limits::KEYCHAIN_BYTES_MAX)));
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keychain that is this shell script.
    fn keychain(script: &str) -> (Keychain, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let keychain = Keychain::find_in("test", &[dir.path().to_path_buf()]).unwrap();
        (keychain, dir)
    }

    #[test]
    fn answers_are_understood() {
        let (keychain, _dir) = keychain(
            "read server; case $1$server in\n\
             getquay.io) echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pw\"}';;\n\
             getid.example) echo '{\"Username\":\"<token>\",\"Secret\":\"pw\"}';;\n\
             getbad.example) echo garbage;;\n\
             getlocked.example) echo 'the keychain is locked'; exit 1;;\n\
             gethttps://index.docker.io/v1/) echo 'credentials not found in native keychain'; exit 1;;\n\
             getdocker.io) echo '{\"Username\":\"hub\",\"Secret\":\"pw\"}';;\n\
             getsilent.example) exit 3;; esac",
        );
        let get = |registry: &str| keychain.get(registry);
        assert_eq!(get("quay.io").unwrap(), Some(Credentials::new("me", "pw")));
        assert_eq!(get("id.example").unwrap(), Some(Credentials::identity("", "pw")));
        assert_eq!(get("docker.io").unwrap(), Some(Credentials::new("hub", "pw")));
        assert!(get("bad.example").unwrap_err().to_string().contains("docker-credential-test sent no valid JSON"));
        let failure = get("locked.example").unwrap_err().to_string();
        assert_eq!(failure, "call docker-credential-test get: \"the keychain is locked\"");
        assert!(get("silent.example").unwrap_err().to_string().contains("exit status: 3"));
    }

    #[test]
    fn too_much_output_is_refused() {
        let (keychain, _dir) = keychain("while :; do echo more and more and more; done");
        assert!(keychain.get("a").unwrap_err().to_string().contains("says more than"));
    }

    #[test]
    fn a_program_that_does_not_read_is_no_trap() {
        let (keychain, _dir) = keychain("exec <&-; echo no; exit 1");
        let long = Credentials::new("me", "x".repeat(1 << 20));
        assert!(keychain.store("a", &long).unwrap_err().to_string().contains("\"no\""));
    }

    #[test]
    fn names_are_never_paths() {
        let (_keychain, dir) = keychain("");
        let directory = dir.path().to_path_buf();
        let find = |name: &str, directory: &Path| Keychain::find_in(name, &[directory.to_path_buf()]).map(drop);
        for bad in ["", "../test", "/bin/sh", "a/b", "a b", "a\n", &"x".repeat(500)] {
            assert!(find(bad, &directory).unwrap_err().to_string().contains("is not the name of"), "{bad}");
        }
        assert!(find("test", &directory).is_ok());
        assert!(find("missing", &directory).unwrap_err().to_string().contains("no program docker-credential-missing"));
        std::fs::set_permissions(dir.path().join("docker-credential-test"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        assert!(find("test", &directory).is_err());
        assert!(find("test", Path::new(".")).is_err());
    }
}
