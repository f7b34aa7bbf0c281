//! registries.conf, and where it sends the names that are asked for.

#![no_main]

use std::path::Path;

use kelp::image::registry::{Registries, Transport};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut registries = Registries::default();
    if registries.add(text, Path::new("registries.conf")).is_err() {
        return;
    }
    for name in ["a", "a/b:c", "docker.io/library/a", "a.example/b", "b.a.example:5000/c/d:e"] {
        let Ok(reference) = registries.reference(name) else { continue };
        _ = registries.route(&reference, Transport::Auto, |_| Ok(None));
        _ = registries.destination(&reference, Transport::Auto, |_| Ok(None));
    }
});
