//! What a registry sends as `WWW-Authenticate`, a header a line: reading it ends, and makes
//! nothing that the header did not have room for.

#![no_main]

use kelp::image::registry::challenge::{self, Challenge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|headers: &str| {
    let sent = headers.len();
    let challenges = challenge::parse(headers.lines());
    assert!(challenges.len() <= sent);
    for challenge in challenges {
        if let Challenge::Bearer { realm, service } = challenge {
            assert!(realm.len() + service.map_or(0, |service| service.len()) <= sent);
        }
    }
});
