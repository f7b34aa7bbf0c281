//! `kelp cp`: files between this machine and containers.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::{Session, output, progress, units};
use crate::engine::copy::{self, CopyOptions, End};
use crate::error::Result;

/// What the shell shows for a program that SIGPIPE ended: 128 and the signal.
const BROKEN_PIPE: i32 = 141;

/// Arguments of `kelp cp`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What is copied; - is a tar on standard input
    #[arg(value_name = "[CONTAINER:]PATH|-", allow_hyphen_values = true)]
    source: OsString,
    /// Where to; - is a tar on standard output
    #[arg(value_name = "[CONTAINER:]PATH|-", allow_hyphen_values = true)]
    destination: OsString,
    /// Keep the uid and gid of files
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symbolic link as source leads to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Show no progress, and do not say that all went well
    #[arg(short, long)]
    quiet: bool,
}

/// Copies.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let Arguments { source, destination, archive, follow_link, quiet } = arguments;
    let from = match end(&source) {
        Some(end) => end,
        None => End::Stream(std::io::stdin().as_fd().try_clone_to_owned()?.into()),
    };
    let into = match end(&destination) {
        Some(end) => end,
        None => {
            let stream = output::stream();
            End::Stream(stream.map_err(|failure| failure.hint("kelp cp CONTAINER:PATH - > FILE"))?)
        }
    };
    let is_quiet = quiet || [&source, &destination].iter().any(|word| *word == "-");
    let bars = if is_quiet { progress::Bars::hidden() } else { progress::Bars::new() };
    let options = CopyOptions { archive, follow: follow_link };
    let copied = match copy::copy(&session.paths, from, into, options, &bars) {
        // Whoever reads has seen enough.
        Err(failure) if destination == "-" && failure.is_errno(libc::EPIPE) => return Ok(BROKEN_PIPE),
        result => result?,
    };
    copied.notices.iter().for_each(|notice| output::notice(notice));
    if !is_quiet {
        let size = units::bytes(copied.bytes);
        output::remark(&format!("Successfully copied {size} to {}", destination.display()));
    }
    Ok(0)
}

/// What an argument means; `None` for a stream. As docker does: a path that is
/// absolute or begins with a dot is this machine's, whatever colons it has.
fn end(word: &OsStr) -> Option<End> {
    let bytes = word.as_bytes();
    if bytes == b"-" {
        return None;
    }
    let colon =
        bytes.iter().position(|byte| *byte == b':').filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."));
    Some(match colon {
        None => End::Host(word.to_owned()),
        Some(colon) => {
            let (name, path) = bytes.split_at(colon);
            let path = path.strip_prefix(b":").unwrap_or(path);
            End::Container {
                name: String::from_utf8_lossy(name).into_owned(),
                path: OsStr::from_bytes(path).to_owned(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ends_as_docker_does() {
        let check = |word: &str, expected: &str| {
            let found = match end(OsStr::new(word)) {
                None => "stream".to_owned(),
                Some(End::Host(path)) => format!("here {}", path.display()),
                Some(End::Container { name, path }) => format!("{name} {}", path.display()),
                Some(End::Stream(_)) => "?".to_owned(),
            };
            assert_eq!(found, expected, "{word}");
        };
        check("-", "stream");
        check("web:/etc", "web /etc");
        check("web:", "web ");
        check("web:a:b", "web a:b");
        check("./web:b", "here ./web:b");
        check("../web:b", "here ../web:b");
        check("/web:b", "here /web:b");
        check("file", "here file");
    }
}
