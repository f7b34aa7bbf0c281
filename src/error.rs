//! `Failure`: what was being done, to what, why it went wrong, and what helps.
//!
//! One type for every failure that a person will read. It crosses processes:
//! a stage sends it to its parent, which sends it to the command, and kind,
//! errno and hints arrive intact. Leaf parsers whose callers branch on the
//! cause have small error enums of their own and convert into it.
//!
//! Printed as `cannot start container "web": mount overlay: Invalid argument
//! (EINVAL)`, hints on lines of their own (src/cli/output.rs).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel;

/// The result of everything that can fail for a reason outside of kelp.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit status where not the container's program failed but kelp, before
/// it ran (Docker's).
pub const EXIT_OWN_FAILURE: i32 = 125;

/// Who has to act on a failure; decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line does not make sense.
    Usage,
    /// A name, file or input of the user's is wrong.
    User,
    /// The thing named does not exist.
    NotFound,
    /// The host does not give what is needed.
    Host,
    /// The container's program exists but cannot be executed (exit 126).
    NotExecutable,
    /// The container's program does not exist (exit 127).
    NoSuchProgram,
    /// kelp broke a promise of its own (exit 70).
    Bug,
}

/// A failure on its way to the person who can act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who has to act.
    pub kind: Kind,
    /// What was being done, innermost first; each begins with a verb.
    doing: Vec<String>,
    /// The cause, as one clause.
    cause: String,
    /// The kernel's errno, where there was one.
    pub errno: Option<i32>,
    /// One action each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure of `kind` with its cause.
    pub fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, doing: Vec::new(), cause: cause.into(), errno: None, hints: Vec::new() }
    }

    /// The user's input is wrong.
    pub fn user(cause: impl Into<String>) -> Self {
        Self::new(Kind::User, cause)
    }

    /// The command line does not make sense.
    pub fn usage(cause: impl Into<String>) -> Self {
        Self::new(Kind::Usage, cause)
    }

    /// The thing named does not exist.
    pub fn not_found(cause: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, cause)
    }

    /// The host does not give what is needed.
    pub fn host(cause: impl Into<String>) -> Self {
        Self::new(Kind::Host, cause)
    }

    /// kelp broke a promise of its own.
    pub fn bug(cause: impl Into<String>) -> Self {
        Self::new(Kind::Bug, cause)
    }

    /// The same failure, of another kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same failure, with the errno that tells callers its cause.
    #[must_use]
    pub fn errno(mut self, errno: i32) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds what was being done when it happened, e.g. `mount overlay`.
    #[must_use]
    pub fn doing(mut self, what: impl Into<String>) -> Self {
        self.doing.push(what.into());
        self
    }

    /// Adds one action that helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same without the system call and its errno, where everybody knows
    /// what it means. For failures with a path that what was being done names
    /// as the user does.
    #[must_use]
    pub fn plainly(mut self) -> Self {
        if let Some(words) = self.errno.map(kernel::Errno::from_raw).and_then(plain_words) {
            self.cause = words.to_owned();
        }
        self
    }

    /// Whether there is no room left on the disk, or no more for this user.
    /// Only of what writes files: ENOSPC has other meanings elsewhere.
    pub fn is_disk_full(&self) -> bool {
        self.is_errno(libc::ENOSPC) || self.is_errno(libc::EDQUOT)
    }

    /// Adds what makes room in the store, if that is what is missing
    /// ([`Failure::is_disk_full`]).
    #[must_use]
    pub fn hint_at_room(self) -> Self {
        if !self.is_disk_full() {
            return self;
        }
        self.hint("kelp image prune --all removes images without containers, and what broken-off downloads left")
            .hint("or set KELP_DATA to a directory on a larger disk")
    }

    /// Adds the candidate that is nearest to a misspelt `word`, if one is near.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        self.did_you_mean_by_spelling(word, candidates.into_iter().map(|candidate| (candidate, candidate)))
    }

    /// The same for things that can be written in several ways: pairs of a
    /// spelling, which is compared, and what is proposed.
    #[must_use]
    pub fn did_you_mean_by_spelling<'a>(
        self,
        word: &str,
        candidates: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        // Distance grows with length times length: nobody misspells a word of that many bytes.
        if word.len() > 128 {
            return self;
        }
        // Jaro-Winkler likes a common start, which a swapped second letter spoils: "rnu".
        let likeness = |candidate: &str| {
            let typos = strsim::osa_distance(word, candidate);
            let few = typos <= 1 || typos * 3 <= word.len();
            strsim::jaro_winkler(word, candidate).max(if few { 0.9 } else { 0.0 })
        };
        let near = candidates
            .into_iter()
            .map(|(spelling, candidate)| (likeness(spelling), candidate))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((_, candidate)) => self.hint(format!("did you mean \"{candidate}\"?")),
            None => self,
        }
    }

    /// The one line that a person reads: `cannot VERB OBJECT: CAUSE`.
    pub fn sentence(&self) -> String {
        if self.doing.is_empty() { self.to_string() } else { format!("cannot {self}") }
    }

    /// Whether the kernel answered with `errno` (a libc::E* value).
    pub fn is_errno(&self, errno: i32) -> bool {
        self.errno == Some(errno)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in self.doing.iter().rev() {
            write!(f, "{what}: ")?;
        }
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Failure {}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Self { errno: Some(error.errno as i32), ..Self::host(error.to_string()) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let errno = error.raw_os_error();
        let cause = match errno.map(kernel::Errno::from_raw) {
            Some(errno) => format!("{} ({errno:?})", errno.desc()),
            None => error.to_string(),
        };
        Self { errno, ..Self::host(cause) }.plainly()
    }
}

/// What is wrong with a path, in words; `None` for what says something about
/// kelp or the kernel.
fn plain_words(errno: kernel::Errno) -> Option<&'static str> {
    use kernel::Errno;
    Some(match errno {
        Errno::ENOENT => "there is no such file or directory",
        Errno::EACCES => "permission denied",
        Errno::ENOTDIR => "it is not a directory, or leads through what is none",
        Errno::EISDIR => "it is a directory",
        Errno::ELOOP => "too many symbolic links",
        Errno::ENAMETOOLONG => "the name is too long",
        Errno::EROFS => "the file system is read-only",
        Errno::ENOSPC => "no space is left on the disk",
        Errno::EDQUOT => "your disk quota is used up",
        _ => return None,
    })
}

/// Adds to the failure inside a `Result`.
pub trait Context<T> {
    /// Adds what was being done; built only on failure.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
    /// In plain words ([`Failure::plainly`]).
    fn plainly(self) -> Result<T>;
    /// Adds one action that helps; built only on failure.
    fn hint<S: Into<String>>(self, hint: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().doing(what()))
    }

    fn plainly(self) -> Result<T> {
        self.map_err(|error| error.into().plainly())
    }

    fn hint<S: Into<String>>(self, hint: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().hint(hint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_outermost_action_first() {
        let failure = Failure::host("Invalid argument (EINVAL)").doing("mount overlay").doing("start container");
        assert_eq!(failure.sentence(), "cannot start container: mount overlay: Invalid argument (EINVAL)");
    }

    #[test]
    fn paths_are_spoken_of_in_plain_words() {
        let plain = |errno| Failure::from(kernel::Error::new("openat2", "x", errno)).plainly().doing("write \"/y/x\"");
        assert_eq!(plain(kernel::Errno::EACCES).sentence(), "cannot write \"/y/x\": permission denied");
        assert!(plain(kernel::Errno::EACCES).is_errno(libc::EACCES));
        let odd = "cannot write \"/y/x\": openat2 x: Invalid argument (EINVAL)";
        assert_eq!(plain(kernel::Errno::EINVAL).sentence(), odd);
        let io = Failure::from(std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(io.sentence(), "there is no such file or directory");
    }

    #[test]
    fn survives_the_way_between_processes() {
        let failure = Failure::from(kernel::Error::new("setns", "user", kernel::Errno::EPERM)).hint("try again");
        let json = serde_json::to_string(&failure).expect("plain data");
        assert_eq!(serde_json::from_str::<Failure>(&json).expect("our own words"), failure);
    }
}
