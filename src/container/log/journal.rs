//! Lines as datagrams to journald, in its native protocol
//! (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md), with the fields of Docker's
//! journald driver.
//!
//! ```text
//!   KEY=value\n                    a value on one line
//!   KEY\n LENGTH(u64 LE) value\n   any other
//! ```
//! A journal that does not keep up is not waited for: the line is lost, counted
//! and told.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Stream;
use super::config::Extras;
use super::lines::Line;
use super::lost::Lost;
use super::tag::{Subject, short};
use crate::error::{Context, Failure, Result};
use crate::kernel::Errno;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// By path each time: a journald that was started anew is found again.
    path: PathBuf,
    /// The fields of every line.
    fields: Vec<u8>,
    /// One line, on its way.
    datagram: Vec<u8>,
    pub(super) lost: Option<Lost>,
}

/// The journal's socket; a failure where there is none.
pub fn find_socket() -> Result<PathBuf> {
    let path = PathBuf::from(SOCKET);
    match path.metadata() {
        Ok(status) if status.file_type().is_socket() => Ok(path),
        _ => Err(Failure::host(format!("there is no journald here: {SOCKET} is not there"))
            .hint("leave out --log-driver journald: json-file works everywhere")),
    }
}

/// The fields of every line. `chosen` are labels and variables.
pub(super) fn fields(extras: &Extras, chosen: &BTreeMap<&str, &str>, subject: &Subject<'_>) -> Vec<u8> {
    let mut fields = Vec::new();
    for (key, value) in chosen {
        push_field(&mut fields, &sanitized(key), value.as_bytes());
    }
    let tag = extras.tag.as_ref().map(|tag| tag.render(subject)).filter(|tag| !tag.is_empty());
    let tag = tag.unwrap_or_else(|| short(subject.id).to_owned());
    for (key, value) in [
        ("CONTAINER_ID", short(subject.id)),
        ("CONTAINER_ID_FULL", subject.id),
        ("CONTAINER_NAME", subject.name),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", subject.image),
        ("SYSLOG_IDENTIFIER", &tag),
    ] {
        push_field(&mut fields, key, value.as_bytes());
    }
    fields
}

/// A label's or variable's name as a journal field: capitals, digits and `_`,
/// beginning with a letter (systemd.journal-fields(7)); Docker's rule.
pub fn sanitized(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = key.chars().map(letter).collect();
    match name.trim_start_matches('_') {
        "" => "X".to_owned(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("X{name}"),
        name => name.to_owned(),
    }
}

fn push_field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Journal {
    /// Opens the way to the journal whose socket is at `path`.
    pub(super) fn open(path: &Path, fields: Vec<u8>) -> Result<Self> {
        let socket = UnixDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .doing(|| "make a socket for the journal")?;
        let journal = Self { socket, path: path.to_owned(), fields, datagram: Vec::new(), lost: None };
        // An empty datagram is no entry; who cannot be sent one hears nothing.
        journal.socket.send_to(&[], path).doing(|| format!("send to {}", path.display()))?;
        Ok(journal)
    }

    /// Sends one line.
    pub(super) fn take(&mut self, stream: Stream, line: Line<'_>) {
        self.tell_lost();
        if let Err(errno) = self.send(stream, line) {
            Lost::add(&mut self.lost, line.text.len() as u64 + u64::from(line.ends), errno);
        }
    }

    /// Says what was lost, if the journal listens again.
    pub(super) fn tell_lost(&mut self) {
        let Some(lost) = self.lost else { return };
        if self.send(Stream::Stderr, Line { text: lost.sentence().as_bytes(), ends: true }).is_ok() {
            self.lost = None;
        }
    }

    fn send(&mut self, stream: Stream, line: Line<'_>) -> Result<(), Errno> {
        self.datagram.clear();
        // Docker's priorities: info and err of syslog(3).
        push_field(&mut self.datagram, "PRIORITY", if stream == Stream::Stdout { b"6" } else { b"3" });
        if !line.ends {
            push_field(&mut self.datagram, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        self.datagram.extend_from_slice(&self.fields);
        push_field(&mut self.datagram, "MESSAGE", line.text);
        loop {
            match self.socket.send_to(&self.datagram, &self.path) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tag;
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn journal(directory: &Path) -> (UnixDatagram, Journal) {
        let path = directory.join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let subject = Subject { id: "0123456789abcdef", name: "web", image: "box", ..Subject::default() };
        let extras = Extras { tag: Some(Tag::parse("t/{{.Name}}").unwrap()), ..Extras::default() };
        let fields = fields(&extras, &BTreeMap::from([("com.x", "1\n2")]), &subject);
        let journal = Journal::open(&path, fields).unwrap();
        assert_eq!(listener.recv(&mut [0; 9]).unwrap(), 0);
        (listener, journal)
    }

    #[test]
    fn sends_dockers_fields() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, mut journal) = journal(dir.path());
        journal.take(Stream::Stderr, Line { text: b"hello", ends: true });
        journal.take(Stream::Stdout, Line { text: b"part", ends: false });
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(
            text(&buffer[..length]),
            "PRIORITY=3\nCOM_X\n\u{3}\0\0\0\0\0\0\u{0}1\n2\nCONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef\n\
             CONTAINER_NAME=web\nCONTAINER_TAG=t/web\nIMAGE_NAME=box\nSYSLOG_IDENTIFIER=t/web\nMESSAGE=hello\n"
        );
        let length = listener.recv(&mut buffer).unwrap();
        assert!(text(&buffer[..length]).starts_with("PRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\n"));
    }

    #[test]
    fn a_journal_that_does_not_listen_loses_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, mut journal) = journal(dir.path());
        while journal.lost.is_none() {
            journal.take(Stream::Stdout, Line { text: &[b'x'; 1000], ends: true });
        }
        journal.take(Stream::Stdout, Line { text: b"12", ends: true });
        assert_eq!(journal.lost, Some(Lost { lines: 2, bytes: 1004, errno: Errno::EAGAIN }));
        let mut buffer = [0; 4096];
        while listener.recv(&mut buffer).is_ok() {}
        journal.take(Stream::Stdout, Line { text: b"back", ends: true });
        let length = listener.recv(&mut buffer).unwrap();
        let said = text(&buffer[..length]);
        assert!(said.starts_with("PRIORITY=3") && said.contains("2 lines (1004 bytes) of this log are lost"), "{said}");
        let length = listener.recv(&mut buffer).unwrap();
        assert!(text(&buffer[..length]).ends_with("MESSAGE=back\n"));
    }

    #[test]
    fn names_of_fields_are_the_journals() {
        for (key, name) in [("com.example-x", "COM_EXAMPLE_X"), ("_a", "A"), ("1a", "X1A"), ("..", "X"), ("é", "X")] {
            assert_eq!(sanitized(key), name);
        }
    }
}
