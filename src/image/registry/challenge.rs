//! `WWW-Authenticate`: how a registry wants to be asked (RFC 9110, 11.6.1;
//! distribution's token specification).

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server.
        realm: String,
        /// What it should call the registry.
        service: Option<String>,
    },
}

/// The challenges of a header, strongest first. What is not understood is
/// passed over, as the RFC wants.
pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for header in headers {
        for (scheme, parameters) in split(header) {
            let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            match scheme.as_str() {
                "basic" => challenges.push(Challenge::Basic),
                "bearer" => {
                    challenges.extend(get("realm").map(|realm| Challenge::Bearer { realm, service: get("service") }));
                }
                _ => {}
            }
        }
    }
    challenges.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    challenges
}

type Parameters = Vec<(String, String)>;

/// Schemes with their parameters, names in lower case.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut schemes: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return schemes;
        }
        let word = word.to_ascii_lowercase();
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, after) = take_value(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.push((word, value));
                }
                rest = after;
            }
            None => {
                schemes.push((word, Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c:pull""#;
        assert_eq!(parse([hub]), [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]);
        assert_eq!(parse([r#"basic realm="x, Bearer realm=y""#]), [Challenge::Basic]);
        let both = r#"Basic realm="x", Negotiate abc==, bearer Realm = "https://a/\"b\"" , error=invalid"#;
        assert_eq!(parse([both]), [bearer("https://a/\"b\"", None), Challenge::Basic]);
        assert_eq!(parse(["Basic", "Bearer realm=https://a/t"]), [bearer("https://a/t", None), Challenge::Basic]);
        assert_eq!(parse(["", "Bearer", "Bearer service=x", "=", "Bearer realm=\"", "\"\""]), [bearer("", None)]);
    }

    proptest! {
        #[test]
        fn always_ends(text in ".{0,200}|[a-zA-Z=\", \\\\]{0,200}") {
            parse([text.as_str()]);
        }
    }
}
