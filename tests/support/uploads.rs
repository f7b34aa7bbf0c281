//! The push half of the registry for tests: uploads in one piece or in
//! chunks, mounts, manifests.

use std::collections::HashMap;

use super::{Answer, Seen, State, plain};

/// How this registry takes uploads.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Said to be the least of a chunk, and held.
    pub chunk_min: usize,
    /// A larger request is refused before it is read (413).
    pub request_max: Option<usize>,
    /// What a broken request brought is dropped.
    pub forgets: bool,
    /// Uploads are sent to this base URL; empty: an absolute URL of our own.
    pub location: Option<String>,
    /// Nothing can be pushed (405).
    pub read_only: bool,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Uploads {
    pub(super) rules: Rules,
    open: HashMap<String, Upload>,
    count: usize,
}

#[derive(Default, Clone)]
struct Upload {
    bytes: Vec<u8>,
    /// A chunk was shorter than allowed: it has to be the last.
    has_last: bool,
}

impl Uploads {
    /// The answer to a request that is not even read.
    pub(super) fn refuses(&self, request: &Seen, length: usize) -> Option<Answer> {
        let is_too_large = self.rules.request_max.is_some_and(|max| length > max);
        if is_too_large {
            return Some(plain(413, "<html>Request Entity Too Large</html>".to_owned()));
        }
        let is_read_only = self.rules.read_only && !matches!(request.method.as_str(), "GET" | "HEAD");
        is_read_only.then(|| plain(405, "{}".to_owned()))
    }
}

/// What is added to the token of whoever asks for these scopes.
pub(super) fn rights(request: &Seen) -> &'static str {
    let asked = format!("{}{}", request.path, String::from_utf8_lossy(&request.body));
    match (asked.contains("push"), asked.matches("repository%3A").count()) {
        (true, 2..) => "+push+mount",
        (true, _) => "+push",
        _ => "",
    }
}

/// Whether a token with these rights is enough for the request.
pub(super) fn may(request: &Seen, rights: Option<&str>) -> bool {
    let needed = match request.method.as_str() {
        "GET" | "HEAD" => "",
        _ if request.path.contains("mount=") => "+mount",
        _ => "+push",
    };
    rights.is_some_and(|rights| rights.contains(needed))
}

fn parameter(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

/// The answer to a request that concerns pushing; `None` for all others.
pub(super) fn answer(state: &mut State, request: &Seen, port: u16, length: usize) -> Option<Answer> {
    let path = request.path.trim_start_matches("/v2/").split('?').next().unwrap_or_default().to_owned();
    if let Some((repository, name)) = path.split_once("/manifests/") {
        return (request.method == "PUT").then(|| manifest(state, request, repository, name));
    }
    let (repository, id) = path.split_once("/blobs/uploads/")?;
    if request.method == "POST" {
        return Some(begin(state, request, repository, port));
    }
    let Some(mut upload) = state.uploads.open.get(id).cloned() else {
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
        return Some(plain(404, body.to_owned()));
    };
    if request.method != "GET" {
        let start = request.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
        if start.is_some_and(|start: usize| start != upload.bytes.len()) {
            return Some(progress(state, 416, repository, id, port));
        }
        if upload.has_last && length > 0 {
            return Some(plain(400, "{}".to_owned()));
        }
        let is_cut = request.body.len() < length;
        if !(is_cut && state.uploads.rules.forgets) {
            upload.bytes.extend_from_slice(&request.body);
        }
        upload.has_last = start.is_some() && length < state.uploads.rules.chunk_min;
        state.uploads.open.insert(id.to_owned(), upload.clone());
        if is_cut {
            return Some(plain(500, String::new()));
        }
        if request.method == "PUT" {
            let Some(digest) = parameter(&request.path, "digest") else { return Some(plain(400, "{}".to_owned())) };
            state.uploads.open.remove(id);
            let entry = ("application/octet-stream".to_owned(), digest.clone(), upload.bytes);
            state.documents.insert(format!("{repository}/blobs/{digest}"), entry);
            return Some(stored(digest));
        }
    }
    Some(progress(state, if request.method == "GET" { 204 } else { 202 }, repository, id, port))
}

fn begin(state: &mut State, request: &Seen, repository: &str, port: u16) -> Answer {
    let mount = parameter(&request.path, "mount").zip(parameter(&request.path, "from"));
    if let Some((digest, from)) = mount
        && let Some(found) = state.documents.get(&format!("{from}/blobs/{digest}")).cloned()
    {
        state.documents.insert(format!("{repository}/blobs/{digest}"), found);
        return stored(digest);
    }
    state.uploads.count += 1;
    let id = format!("upload-{}", state.uploads.count);
    state.uploads.open.insert(id.clone(), Upload::default());
    let mut answer = progress(state, 202, repository, &id, port);
    if state.uploads.rules.chunk_min > 0 {
        let least = state.uploads.rules.chunk_min.to_string();
        answer.headers.push(("OCI-Chunk-Min-Length".to_owned(), least));
    }
    answer
}

fn progress(state: &State, status: u16, repository: &str, id: &str, port: u16) -> Answer {
    let mut answer = plain(status, String::new());
    let base = match state.uploads.rules.location.as_deref() {
        None => String::new(),
        Some("") => format!("http://127.0.0.1:{port}"),
        Some(other) => other.to_owned(),
    };
    answer.headers.push(("Location".to_owned(), format!("{base}/v2/{repository}/blobs/uploads/{id}?_state=x")));
    let arrived = state.uploads.open.get(id).map_or(0, |upload| upload.bytes.len());
    answer.headers.push(("Range".to_owned(), format!("0-{}", arrived.saturating_sub(1))));
    answer
}

fn stored(digest: String) -> Answer {
    let mut answer = plain(201, String::new());
    answer.headers.push(("Docker-Content-Digest".to_owned(), digest));
    answer
}

/// Believes that the digest, which comes by the next request, is right.
fn manifest(state: &mut State, request: &Seen, repository: &str, name: &str) -> Answer {
    let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
    let entry = (media_type, name.to_owned(), request.body.clone());
    state.documents.insert(format!("{repository}/manifests/{name}"), entry);
    plain(201, String::new())
}
