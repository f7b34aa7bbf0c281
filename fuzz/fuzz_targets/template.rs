//! Go templates of `--format`, read and filled in: bounded in time and size.

#![no_main]

use kelp::cli::template::Template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse(text) else { return };
    let data = serde_json::json!({
        "ID": "0123", "Names": ["a", "b"], "Size": 12, "Ratio": 0.5, "Parent": null, "Dangling": false,
        "Config": {"Labels": {"a.b": "c"}, "Env": ["PATH=/bin"]},
    });
    _ = template.render(&data);
});
