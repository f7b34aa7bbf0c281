//! A registry for tests: in this process, in memory, on a loopback port, with
//! faults on demand. Speaks the distribution spec; uploads.rs has its push half.
//!
//! Std only, so that unit tests and the suite may both include it by
//! `#[path]`; digests are given by the caller, and believed.

#![allow(dead_code, unreachable_pub, missing_docs)]

mod tokens;
mod uploads;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokens::Tokens;
pub use uploads::Rules;
use uploads::Uploads;

/// What goes wrong with an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The headers promise everything, the connection closes after so many bytes.
    Truncate(usize),
    /// The first byte is another.
    Corrupt,
    /// This status and this body instead.
    Answer(u16, String),
    /// This status and these headers instead.
    Status(u16, Vec<(&'static str, String)>),
    /// A redirect to this base URL; the path is kept.
    Redirect(String),
    /// A redirect to exactly this.
    Location(String),
    /// Headers, then silence for so long between two halves of the body.
    Slow(Duration),
    /// The connection closes without an answer.
    HangUp,
    /// Another media type.
    ContentType(&'static str),
    /// A chunked body without end, as far as the client takes it.
    Endless,
    /// This body instead of the real one.
    Body(Vec<u8>),
    /// So much of what is sent is read, then the connection closes.
    Break(usize),
    /// All that is sent is taken, then the connection closes without an answer.
    Swallow,
    /// This header is another.
    Header(&'static str, String),
}

/// A request as it arrived; header names in lower case.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    /// What was sent along, as far as it was read.
    pub body: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// Path -> media type, digest, body.
    documents: HashMap<String, (String, String, Vec<u8>)>,
    /// Part of a path -> fault and how often it still happens.
    faults: Vec<(String, Fault, usize)>,
    seen: Vec<Seen>,
    /// Tokens are wanted, and given as these say.
    tokens: Option<Tokens>,
    /// `Basic` instead of tokens.
    basic: Option<String>,
    /// Instead of our own /token.
    realm: Option<String>,
    uploads: Uploads,
    /// Path -> the key of a list, its names, and how many go on a page.
    lists: HashMap<String, (Vec<String>, usize)>,
}

/// The registry; stops when dropped.
pub struct Registry {
    pub port: u16,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Registry {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state, port)));
            }
        });
        Self { port, state, stop }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Serves a blob in every repository.
    pub fn put_blob(&self, digest: &str, bytes: &[u8]) {
        let entry = ("application/octet-stream".to_owned(), digest.to_owned(), bytes.to_vec());
        self.lock().documents.insert(format!("blobs/{digest}"), entry);
    }

    /// Serves a blob in one repository.
    pub fn put_blob_in(&self, repository: &str, digest: &str, bytes: &[u8]) {
        let entry = ("application/octet-stream".to_owned(), digest.to_owned(), bytes.to_vec());
        self.lock().documents.insert(format!("{repository}/blobs/{digest}"), entry);
    }

    /// Serves a manifest under its digest and a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, digest: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag, digest] {
            let entry = (media_type.to_owned(), digest.to_owned(), bytes.to_vec());
            self.lock().documents.insert(format!("{repository}/manifests/{name}"), entry);
        }
    }

    /// Serves a list in pages: its key, then its names.
    pub fn set_list(&self, path: &str, key_and_names: &[&str], page: usize) {
        let all = key_and_names.iter().map(|name| (*name).to_owned()).collect();
        self.lock().lists.insert(path.to_owned(), (all, page));
    }

    /// How uploads are taken from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.lock().uploads.rules = rules;
    }

    /// A blob as `repository` has it.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.lock().find(&format!("{repository}/blobs/{digest}")).map(|(_, _, bytes)| bytes.clone())
    }

    /// A manifest with its media type.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        let state = self.lock();
        let (media_type, _, bytes) = state.find(&format!("{repository}/manifests/{name}"))?;
        Some((media_type.clone(), bytes.clone()))
    }

    /// The requests so far, as `METHOD PATH`, those with `part` in them.
    pub fn lines(&self, part: &str) -> Vec<String> {
        let lines = self.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.path));
        lines.filter(|line| line.contains(part)).collect()
    }

    /// The next `times` requests with `part` in `METHOD PATH` go wrong.
    pub fn fault(&self, part: &str, fault: Fault, times: usize) {
        self.lock().faults.push((part.to_owned(), fault, times));
    }

    /// From now on a bearer token is wanted, given by our own /token to
    /// anybody or to one user.
    pub fn require_token(&self, token: &str, user: Option<(&str, &str)>) {
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        self.lock().tokens = Some(Tokens { token: token.to_owned(), user, ..Tokens::default() });
    }

    /// From now on, this identity token is given to whoever asks for one, and
    /// is good for tokens.
    pub fn give_identity(&self, identity: &str) {
        self.lock().tokens.get_or_insert_default().identity = Some(identity.to_owned());
    }

    /// From now on, tokens are given to those who POST.
    pub fn require_post(&self) {
        self.lock().tokens.get_or_insert_default().wants_post = true;
    }

    /// From now on this `Authorization` is wanted.
    pub fn require_basic(&self, authorization: &str) {
        self.lock().basic = Some(authorization.to_owned());
    }

    /// Sends clients to another realm.
    pub fn set_realm(&self, realm: &str) {
        self.lock().realm = Some(realm.to_owned());
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread of ours panics")
    }
}

impl State {
    /// A document by its path: a blob may be in one repository or in all.
    fn find(&self, path: &str) -> Option<&(String, String, Vec<u8>)> {
        let in_all = path.find("blobs/").map(|start| &path[start..]);
        self.documents.get(path).or_else(|| self.documents.get(in_all?))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, port: u16) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut reader)? {
        let fault = take_fault(&mut state.lock().expect("no thread of ours panics").faults, &request);
        let length = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let wanted = if let Some(Fault::Break(count)) = fault { length.min(count) } else { length };
        let refusal = state.lock().expect("no thread of ours panics").uploads.refuses(&request, length);
        if request.headers.contains_key("expect") && refusal.is_none() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if refusal.is_none() {
            request.body.resize(wanted, 0);
            reader.read_exact(&mut request.body)?;
        }
        let is_last = refusal.is_some();
        let answer = {
            let mut state = state.lock().expect("no thread of ours panics");
            state.seen.push(request.clone());
            match (refusal, &fault) {
                (Some(answer), _) => answer,
                (None, Some(Fault::Status(..) | Fault::Answer(..) | Fault::HangUp)) => plain(500, String::new()),
                (None, _) => answer(&mut state, &request, port, length),
            }
        };
        if matches!(fault, Some(Fault::Break(_) | Fault::Swallow)) || !send(&mut writer, &request, answer, fault)? {
            break;
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut seen = Seen { method: method.to_owned(), path: path.to_owned(), headers: HashMap::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => seen.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok(Some(seen)),
        };
    }
}

fn take_fault(faults: &mut [(String, Fault, usize)], request: &Seen) -> Option<Fault> {
    let line = format!("{} {}", request.method, request.path);
    let position = faults.iter().position(|(part, _, times)| *times > 0 && line.contains(part.as_str()))?;
    faults[position].2 -= 1;
    Some(faults[position].1.clone())
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// `length` is what the request announced; its body may have been cut.
fn answer(state: &mut State, request: &Seen, port: u16, length: usize) -> Answer {
    let given = request.headers.get("authorization").cloned().unwrap_or_default();
    if request.path.starts_with("/token") {
        return match &state.tokens {
            Some(tokens) => tokens.answer(request),
            None => plain(404, "{}".to_owned()),
        };
    }
    let own_realm = format!("http://127.0.0.1:{port}/token");
    let realm = state.realm.clone().unwrap_or(own_realm);
    if let Some(tokens) = &state.tokens
        && !uploads::may(request, given.strip_prefix(&format!("Bearer {}", tokens.token)))
    {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:x:pull\"");
        return denied(challenge);
    }
    if let Some(basic) = &state.basic
        && given != *basic
    {
        return denied("Basic realm=\"test\"".to_owned());
    }
    if let Some(answer) = uploads::answer(state, request, port, length) {
        return answer;
    }
    if let Some(answer) = list_page(state, &request.path) {
        return answer;
    }
    match state.find(request.path.trim_start_matches("/v2/")) {
        _ if request.path == "/v2/" => plain(200, "{}".to_owned()),
        None => plain(
            404,
            "{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"repository name not known\"}]}".to_owned(),
        ),
        Some((media_type, digest, body)) => document(request, media_type, digest, body),
    }
}

/// A page of a list: those behind `last`.
fn list_page(state: &State, path: &str) -> Option<Answer> {
    let path = path.trim_start_matches("/v2/");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (all, size) = state.lists.get(path)?;
    let (key, names) = all.split_first()?;
    let last = query.split('&').find_map(|pair| pair.strip_prefix("last="));
    let start = last.and_then(|last| names.iter().position(|name| name == last)).map_or(0, |place| place + 1);
    let page: Vec<String> = names.iter().skip(start).take(*size).map(|name| format!("\"{name}\"")).collect();
    let mut answer = plain(200, format!("{{\"{key}\":[{}]}}", page.join(",")));
    if let Some(last) = names.get(start + size - 1).filter(|_| start + size < names.len()) {
        answer.headers.push(("Link".to_owned(), format!("</v2/{path}?n={size}&last={last}>; rel=\"next\"")));
    }
    Some(answer)
}

fn document(request: &Seen, media_type: &str, digest: &str, body: &[u8]) -> Answer {
    let mut headers = vec![
        ("Content-Type".to_owned(), media_type.to_owned()),
        ("Docker-Content-Digest".to_owned(), digest.to_owned()),
    ];
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|start| start.parse::<usize>().ok()).filter(|start| *start < body.len()) {
        Some(start) => {
            headers.push(("Content-Range".to_owned(), format!("bytes {start}-{}/{}", body.len() - 1, body.len())));
            Answer { status: 206, headers, body: body[start..].to_vec() }
        }
        None => Answer { status: 200, headers, body: body.to_vec() },
    }
}

fn plain(status: u16, body: String) -> Answer {
    Answer {
        status,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.into_bytes(),
    }
}

fn denied(challenge: String) -> Answer {
    let mut answer =
        plain(401, "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}".to_owned());
    answer.headers.push(("WWW-Authenticate".to_owned(), challenge));
    answer
}

/// Sends the answer; `false` closes the connection.
fn send(writer: &mut TcpStream, request: &Seen, mut answer: Answer, fault: Option<Fault>) -> std::io::Result<bool> {
    let mut sent = None;
    let mut pause = None;
    match fault {
        None => {}
        Some(Fault::HangUp) => return Ok(false),
        Some(Fault::Truncate(count)) => sent = Some(count),
        Some(Fault::Corrupt) => answer.body.first_mut().into_iter().for_each(|byte| *byte ^= 1),
        Some(Fault::Slow(time)) => pause = Some(time),
        Some(Fault::Body(body)) => answer.body = body,
        Some(Fault::Answer(status, body)) => answer = plain(status, body),
        Some(Fault::Status(status, headers)) => {
            answer = plain(status, "{}".to_owned());
            answer.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        Some(Fault::Redirect(base)) => {
            answer = plain(307, String::new());
            answer.headers.push(("Location".to_owned(), format!("{base}{}", request.path)));
        }
        Some(Fault::Location(location)) => {
            answer = plain(307, String::new());
            answer.headers.push(("Location".to_owned(), location));
        }
        Some(Fault::ContentType(media_type)) => {
            answer.headers.retain(|(name, _)| name != "Content-Type");
            answer.headers.push(("Content-Type".to_owned(), media_type.to_owned()));
        }
        Some(Fault::Endless) => return endless(writer),
        Some(Fault::Header(name, value)) => {
            answer.headers.retain(|(given, _)| given != name);
            answer.headers.push((name.to_owned(), value));
        }
        Some(Fault::Break(_) | Fault::Swallow) => return Ok(false),
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    if let Some(count) = sent {
        writer.write_all(&answer.body[..count.min(answer.body.len())])?;
        return Ok(false);
    }
    let (first, second) = answer.body.split_at(answer.body.len() / 2);
    writer.write_all(first)?;
    if let Some(time) = pause {
        std::thread::sleep(time);
    }
    writer.write_all(second)?;
    Ok(true)
}

fn endless(writer: &mut TcpStream) -> std::io::Result<bool> {
    writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = vec![b' '; 65_536];
    loop {
        write!(writer, "{:x}\r\n", chunk.len())?;
        writer.write_all(&chunk)?;
        writer.write_all(b"\r\n")?;
    }
}

/// `name:password` as `Basic` wants it.
pub fn base64(name: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{name}:{password}");
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    out
}
