//! The Dockerfile instructions of `import --change` and `commit --change`, one a line: a
//! config they were applied to is one that kelp reads again.

#![no_main]

use kelp::image::config::{ImageConfig, change};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let changes: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut config = ImageConfig::parse(br#"{"rootfs":{"type":"layers"},"config":{"Env":["PATH=/bin"]}}"#)
        .expect("the smallest config is one");
    if change::apply(&mut config, &changes).is_ok() {
        let written = config.to_bytes().expect("a config can be written");
        ImageConfig::parse(&written).expect("a config that kelp changed is a config");
    }
});
