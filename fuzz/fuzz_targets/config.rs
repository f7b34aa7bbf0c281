//! An image's config: what is accepted is written and read again as the same,
//! and no text of it that reaches execve(2) has a NUL in it.

#![no_main]

use kelp::image::config::ImageConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = ImageConfig::parse(bytes) else { return };
    let written = config.to_bytes().expect("a config can be written");
    assert_eq!(ImageConfig::parse(&written).expect("a config that kelp wrote is a config"), config);
    let run = &config.config;
    let mut texts = [&run.env, &run.entrypoint, &run.cmd].into_iter().flatten();
    assert!(!texts.any(|text| text.contains('\0')));
    _ = config.platform();
});
