//! The token server of the fake registry: GET with a name and password, POST
//! as OAuth2 has it, identity tokens.

use super::uploads::rights;
use super::{Answer, Seen, base64, plain};

/// Who gets a token, and how.
#[derive(Default)]
pub(super) struct Tokens {
    /// What a token is.
    pub(super) token: String,
    /// Name and password; None: anybody.
    pub(super) user: Option<(String, String)>,
    /// Given to whoever asks for one, and good for tokens.
    pub(super) identity: Option<String>,
    /// GET is not allowed.
    pub(super) wants_post: bool,
}

impl Tokens {
    pub(super) fn answer(&self, request: &Seen) -> Answer {
        let is_post = request.method == "POST";
        if self.wants_post && !is_post {
            return plain(405, "{}".to_owned());
        }
        if !(if is_post { self.allows_form(request) } else { self.allows_header(request) }) {
            return plain(401, "{\"details\":\"incorrect username or password\"}".to_owned());
        }
        let wants_identity = request.path.contains("offline_token=true") || field(request, "access_type").is_some();
        let token = format!("{}{}", self.token, rights(request));
        let key = if is_post { "access_token" } else { "token" };
        match &self.identity {
            Some(identity) if wants_identity => {
                plain(200, format!("{{\"{key}\":\"{token}\",\"refresh_token\":\"{identity}\"}}"))
            }
            _ => plain(200, format!("{{\"{key}\":\"{token}\"}}")),
        }
    }

    fn allows_header(&self, request: &Seen) -> bool {
        let given = request.headers.get("authorization").cloned().unwrap_or_default();
        self.user.as_ref().is_none_or(|(name, password)| given == format!("Basic {}", base64(name, password)))
    }

    fn allows_form(&self, request: &Seen) -> bool {
        let is = |name: &str, value: &str| field(request, name).as_deref() == Some(value);
        let by_identity =
            is("grant_type", "refresh_token") && self.identity.as_ref().is_some_and(|it| is("refresh_token", it));
        let by_password = is("grant_type", "password")
            && self.user.as_ref().is_some_and(|(name, password)| is("username", name) && is("password", password));
        is("client_id", "kelp") && is("service", "test") && (by_identity || by_password)
    }
}

/// A field of a posted form; encoded characters stay as they are.
fn field(request: &Seen, name: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&request.body);
    body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}
