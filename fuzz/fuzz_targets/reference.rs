//! An image's name, as users type it and as archives and registries send it:
//! what is accepted reads the same again from each of its spellings.

#![no_main]

use kelp::image::pattern::Pattern;
use kelp::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let again = |text: &str| Reference::parse(text).expect("a name that kelp wrote is a name");
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(again(&reference.to_string()), reference);
        assert_eq!(again(&reference.familiar()), reference);
        assert_eq!(again(&format!("{}{}", reference.name(), reference.suffix())), reference);
        assert!(!reference.repository().split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    for candidate in Reference::local_candidates(text).unwrap_or_default() {
        assert_eq!(Reference::parse_local(&candidate.to_string()).expect("a candidate is a name"), candidate);
    }
    _ = Reference::parse_short(text);
    if let (Ok(pattern), Ok(reference)) = (Pattern::parse(text), Reference::parse("a.example/b/c:d")) {
        pattern.accepts(&reference, None);
    }
});
