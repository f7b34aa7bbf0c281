//! The file that logins are in, podman's or docker's: no failure quotes it.

#![no_main]

use kelp::image::registry::authfile::AuthFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = AuthFile::parse(bytes) else { return };
    for name in ["docker.io", "a.example", "a.example:5000/b/c"] {
        _ = file.credentials(name);
    }
});
