//! A few calls over D-Bus, to the user's own bus: from a process that is about
//! to fork again, so without threads and without a runtime.
//!
//! The wire format is zbus's; what is here is the dialogue (D-Bus specification,
//! "Authentication Protocol", "Message Protocol"):
//!
//! ```text
//!   AUTH EXTERNAL UID, BEGIN, calls  ->      all in one write(2)
//!                                    <-      OK GUID
//!                                    <-      replies, signals
//! ```
//!
//! Nothing waits longer than the caller says. The bus is a process of the same
//! user; what it says is bounded all the same.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, LE, to_bytes};
use zbus::{DynamicType, ObjectPath, Signature, Type, Variant};

use crate::error::{Context as _, Failure, Result};
use crate::kernel::socket;
use crate::limits;

/// Bytes of a message before its header's fields.
const FIXED: usize = 16;

/// Codes of the header's fields that matter here (D-Bus specification, "Header Fields").
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// The user's systemd.
pub const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The bus itself, with the call that has to come first.
pub const BUS: Call<'_> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
};

/// Whether there is a bus at `path`, with others on it: systemd's own socket has
/// nobody to greet or to subscribe with.
pub fn is_shared(path: &Path) -> bool {
    path.ends_with("bus")
}

/// Who is called, and what.
pub struct Call<'a> {
    /// Whom, by name.
    pub destination: &'a str,
    /// Which object of theirs.
    pub path: &'a str,
    /// Which of its interfaces.
    pub interface: &'a str,
    /// Which method.
    pub member: &'a str,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The call of this number was answered; the value is kept if it is one that
    /// says yes or no.
    Reply(u32, Option<bool>),
    /// It was refused: the error's name, and what was said.
    Refused(u32, String, String),
    /// A signal: its name, and its arguments if they are of the shape of
    /// JobRemoved: number, path, unit, result.
    Signal(String, Option<(String, String)>),
}

/// A connection.
pub struct Bus {
    stream: UnixStream,
    /// The number of the last call.
    serial: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    is_open: bool,
}

impl Bus {
    /// Connects to the bus at `path`, which must be one of this user's and of
    /// this pid namespace: a pid that is sent there must mean the same process.
    pub fn connect(path: &Path) -> Result<Self> {
        let doing = || format!("connect to {}", path.display());
        let stream = UnixStream::from(socket::connect_now(path)?);
        let uid = nix::unistd::getuid().as_raw();
        if socket::peer_uid(stream.as_fd())? != uid {
            return Err(Failure::host("it is somebody else's")).doing(doing);
        }
        if socket::peer_pid(stream.as_fd())? <= 0 {
            return Err(Failure::host("who listens there is in another pid namespace")).doing(doing);
        }
        let identity: String = uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        let outgoing = format!("\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n").into_bytes();
        let mut bus = Self { stream, serial: 0, outgoing, incoming: Vec::new(), is_open: false };
        if is_shared(path) {
            bus.call(&BUS, &())?;
        }
        Ok(bus)
    }

    /// Puts a call behind those that were not sent yet; returns its number.
    pub fn call<B: Serialize + DynamicType>(&mut self, call: &Call<'_>, body: &B) -> Result<u32> {
        self.serial += 1;
        let message = message(self.serial, call, body).map_err(|error| Failure::bug(error.to_string()))?;
        self.outgoing.extend(message);
        Ok(self.serial)
    }

    /// Sends the calls.
    pub fn send(&mut self, deadline: Instant) -> Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT, deadline)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::from(error).doing("write to the bus")),
            }
        }
        Ok(())
    }

    /// The next message that is an answer, a refusal or a signal.
    pub fn next(&mut self, deadline: Instant) -> Result<Message> {
        loop {
            if !self.is_open {
                self.is_open = take_welcome(&mut self.incoming)?;
            }
            if self.is_open
                && let Some(bytes) = take_message(&mut self.incoming)?
            {
                match read(&bytes).map_err(|error| Failure::host(format!("the bus said nonsense: {error}")))? {
                    Some(message) => return Ok(message),
                    None => continue,
                }
            }
            self.receive(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<()> {
        let mut buffer = [0_u8; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Failure::host("the bus hung up")),
            Ok(count) => self.incoming.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN, deadline)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::from(error).doing("read from the bus")),
        }
        Ok(())
    }

    fn wait(&self, for_what: PollFlags, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::host("it does not answer").errno(libc::ETIMEDOUT));
        }
        let mut fds = [PollFd::new(self.stream.as_fd(), for_what)];
        // A signal, or the end of the time: who called looks again.
        nix::poll::poll(&mut fds, PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)).ok();
        Ok(())
    }
}

/// What a field of a header says.
#[derive(Type)]
#[zbus(signature = "v")]
enum Field<'a> {
    Value(Variant<'a>),
    /// The types of a call's arguments, which stand side by side; a signature of
    /// zbus's would have them in a structure.
    Arguments(String),
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Arguments(types) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", types)?;
                variant.end()
            }
        }
    }
}

/// One method call, as the specification's "Message Format" has it.
fn message<B: Serialize + DynamicType>(serial: u32, call: &Call<'_>, body: &B) -> zbus::Result<Vec<u8>> {
    let start = Context::new(LE, 0);
    let signature = body.signature();
    let has_body = signature != Signature::Unit;
    let content = if has_body { to_bytes(start, body)?.bytes().to_vec() } else { Vec::new() };
    let path = ObjectPath::try_from(call.path)?;
    let mut fields: Vec<(u8, Field<'_>)> = vec![
        (field::PATH, Field::Value(Variant::from(path))),
        (field::INTERFACE, Field::Value(Variant::from(call.interface))),
        (field::MEMBER, Field::Value(Variant::from(call.member))),
        (field::DESTINATION, Field::Value(Variant::from(call.destination))),
    ];
    if has_body {
        fields.push((field::SIGNATURE, Field::Arguments(signature.to_string_no_parens())));
    }
    let length = u32::try_from(content.len()).map_err(|_| zbus::Error::ExcessData)?;
    // No flags: a bus that was started by this very connection waits for systemd to come to it.
    let header = (b'l', 1_u8, 0_u8, 1_u8, length, serial, fields);
    let mut bytes = to_bytes(start, &header)?.bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(content);
    Ok(bytes)
}

/// Takes the line that lets us in; false where it is not there yet.
fn take_welcome(incoming: &mut Vec<u8>) -> Result<bool> {
    const LINE_MAX: usize = 512;
    let Some(end) = incoming.windows(2).position(|two| two == b"\r\n") else {
        return if incoming.len() > LINE_MAX { Err(Failure::host("it is no bus")) } else { Ok(false) };
    };
    let line: Vec<u8> = incoming.drain(..end + 2).take(end).collect();
    match line.starts_with(b"OK ") {
        true => Ok(true),
        false => Err(Failure::host(format!("the bus refused us: {}", line.escape_ascii()))),
    }
}

/// Takes one whole message; `None` where it is not all there yet.
fn take_message(incoming: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let Some(length) = length(incoming) else { return Ok(None) };
    if length > limits::BUS_MESSAGE_BYTES_MAX {
        return Err(Failure::host("a message of the bus is too long"));
    }
    Ok((incoming.len() >= length).then(|| incoming.drain(..length).collect()))
}

/// How long the message is that begins here, if that can be told.
fn length(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let number = if bytes.first() == Some(&b'B') { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) };
        usize::try_from(number).ok()
    };
    let (body, fields) = (number(4)?, number(12)?);
    FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)
}

/// What a whole message says; `None` for one that is nothing to us.
fn read(bytes: &[u8]) -> zbus::Result<Option<Message>> {
    type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);
    let endian = if bytes.first() == Some(&b'B') { BE } else { LE };
    let data = Data::new(bytes, Context::new(endian, 0));
    let ((_, kind, _, _, _, _, fields), size): (Header<'_>, usize) = data.deserialize()?;
    let find = |code: u8| fields.iter().find(|(found, _)| *found == code).map(|(_, value)| value);
    let text = |code: u8| match find(code) {
        Some(Variant::Str(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    let answered = match find(field::REPLY_SERIAL) {
        Some(Variant::U32(serial)) => *serial,
        _ => 0,
    };
    let signature = match find(field::SIGNATURE) {
        Some(Variant::Signature(signature)) => signature.to_string_no_parens(),
        _ => String::new(),
    };
    // A body starts anew where alignment is concerned.
    let body = Data::new(bytes.get(size.next_multiple_of(8)..).unwrap_or_default(), Context::new(endian, 0));
    Ok(match kind {
        2 => {
            let value = match signature.as_str() {
                "v" => Some(body.deserialize::<Variant<'_>>()?.0),
                _ => None,
            };
            let is_so = value.and_then(|value| if let Variant::Bool(is_so) = value { Some(is_so) } else { None });
            Some(Message::Reply(answered, is_so))
        }
        3 => {
            let said = if signature.starts_with('s') { body.deserialize::<&str>()?.0 } else { "" };
            Some(Message::Refused(answered, text(field::ERROR_NAME), said.to_owned()))
        }
        4 => {
            let arguments = match signature.as_str() {
                "uoss" => {
                    let ((_, _, unit, result), _) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>()?;
                    Some((unit.to_owned(), result.to_owned()))
                }
                _ => None,
            };
            Some(Message::Signal(text(field::MEMBER), arguments))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Call<'_> = Call { destination: "a.b", path: "/a", interface: "a.b.C", member: "Hello" };

    #[test]
    fn calls_are_as_the_specification_has_them() {
        let bytes = message(7, &HELLO, &()).unwrap();
        assert_eq!(length(&bytes), Some(bytes.len()));
        assert_eq!(bytes[..12], [b'l', 1, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0]);
        // Code, signature of the variant, length, text.
        assert_eq!(bytes[16..26], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'a']);
        let arguments = ("x", vec![("PIDs", Variant::from(vec![5_u32]))]);
        let bytes = message(8, &HELLO, &arguments).unwrap();
        assert_eq!(length(&bytes), Some(bytes.len()));
        let types = b"\x08\x01g\x00\x06sa(sv)\x00";
        assert!(bytes.windows(types.len()).any(|part| part == types), "{}", bytes.escape_ascii());
    }

    fn incoming(kind: u8, fields: Vec<(u8, Field<'_>)>, body: &[u8]) -> Vec<u8> {
        let header = (b'l', kind, 0_u8, 1_u8, body.len() as u32, 1_u32, fields);
        let mut bytes = to_bytes(Context::new(LE, 0), &header).unwrap().bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn what_comes_in_is_understood() {
        let serial = || (field::REPLY_SERIAL, Field::Value(Variant::from(3_u32)));
        assert_eq!(read(&incoming(2, vec![serial()], b"")).unwrap(), Some(Message::Reply(3, None)));
        let types = (field::SIGNATURE, Field::Arguments("v".to_owned()));
        let body = to_bytes(Context::new(LE, 0), &Variant::from(true)).unwrap();
        let reply = read(&incoming(2, vec![serial(), types], body.bytes())).unwrap();
        assert_eq!(reply, Some(Message::Reply(3, Some(true))));
        let name = (field::ERROR_NAME, Field::Value(Variant::from("a.b.C")));
        let types = (field::SIGNATURE, Field::Arguments("s".to_owned()));
        let body = to_bytes(Context::new(LE, 0), "no").unwrap();
        let refused = Message::Refused(3, "a.b.C".to_owned(), "no".to_owned());
        assert_eq!(read(&incoming(3, vec![serial(), name, types], body.bytes())).unwrap(), Some(refused));
        let member = || (field::MEMBER, Field::Value(Variant::from("JobRemoved")));
        let types = (field::SIGNATURE, Field::Arguments("uoss".to_owned()));
        let job = ObjectPath::try_from("/job/1").unwrap();
        let body = to_bytes(Context::new(LE, 0), &(1_u32, job, "x.scope", "done")).unwrap();
        let removed = Message::Signal("JobRemoved".to_owned(), Some(("x.scope".to_owned(), "done".to_owned())));
        assert_eq!(read(&incoming(4, vec![member(), types], body.bytes())).unwrap(), Some(removed));
        let other = Message::Signal("JobRemoved".to_owned(), None);
        assert_eq!(read(&incoming(4, vec![member()], b"")).unwrap(), Some(other));
        assert_eq!(read(&incoming(1, vec![member()], b"")).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_no_message() {
        let whole = incoming(2, vec![(field::REPLY_SERIAL, Field::Value(Variant::from(3_u32)))], b"");
        for end in 0..whole.len() {
            assert_eq!(take_message(&mut whole[..end].to_vec()).unwrap(), None, "{end}");
            // Whatever it is, it is no panic.
            read(&whole[..end]).ok();
        }
        assert_eq!(take_message(&mut whole.clone()).unwrap(), Some(whole.clone()));
        let mut long = whole;
        long[7] = 1;
        assert!(take_message(&mut long).is_err());
        assert!(take_message(&mut vec![0xff; 64]).is_err());
    }

    #[test]
    fn the_welcome_is_a_line() {
        let mut incoming = b"OK 0123\r\nl".to_vec();
        assert!(take_welcome(&mut incoming).unwrap());
        assert_eq!(incoming, b"l");
        assert!(!take_welcome(&mut b"OK 01".to_vec()).unwrap());
        assert!(take_welcome(&mut b"REJECTED EXTERNAL\r\n".to_vec()).is_err());
        assert!(take_welcome(&mut vec![b'x'; 600]).is_err());
    }
}
