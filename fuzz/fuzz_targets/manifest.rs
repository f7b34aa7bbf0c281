//! Manifests and indexes, under a declared media type and under none: what is
//! accepted is written and read again as the same, and a platform is chosen
//! from any index. The first byte, if even, says that no type was declared.

#![no_main]

use kelp::image::manifest::Document;
use kelp::image::platform::Platform;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (declared, bytes) = input;
    match Document::parse(bytes, declared) {
        Ok(Document::Manifest(manifest)) => {
            let written = manifest.to_bytes().expect("a manifest can be written");
            let again = Document::parse(&written, declared).expect("a manifest that kelp wrote is a manifest");
            assert_eq!(again, Document::Manifest(manifest));
        }
        Ok(Document::Index(index)) => _ = Platform::host().select(&index.manifests),
        Err(failure) => assert!(!failure.to_string().is_empty()),
    }
});
