//! Host names for `--hostname`.

use crate::error::{Failure, Result};

/// sethostname(2) takes no more (__NEW_UTS_LEN of linux/utsname.h).
const BYTES_MAX: usize = 64;

/// One part between dots (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Reads a host name: RFC 1123 labels. Underscores are let through, since
/// container names, which become host names, have them.
pub fn parse(text: &str) -> Result<String> {
    if text.len() > BYTES_MAX {
        return Err(Failure::usage(format!("a host name is longer than {BYTES_MAX} bytes")));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("\"{text}\" is not a host name: letters, digits and \"-\", in parts divided by dots")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, legal: bool) {
        assert_eq!(parse(text).is_ok(), legal, "{text}");
    }

    #[test]
    fn knows_host_names() {
        check("web", true);
        check("web-1.example.org", true);
        check("calm_otter", true);
        check("3com", true);
        for bad in ["", ".", "a.", "-a", "a-", "a..b", "a b", "a/b", "é", &"x".repeat(64), &"x.".repeat(40)] {
            check(bad, false);
        }
    }
}
