//! Names of containers and volumes: which are legal, and made-up ones.

use crate::error::Result;
use crate::paths;

/// Reads a name.
pub fn parse(text: &str) -> Result<String> {
    paths::check_name(text)?;
    Ok(text.to_owned())
}

#[rustfmt::skip]
const ADJECTIVES: [&str; 60] = [
    "agile", "amber", "ancient", "azure", "brave", "bright", "brisk", "calm", "cheerful", "clear",
    "clever", "coastal", "cool", "coral", "crisp", "curious", "daring", "deep", "drifting", "eager",
    "early", "fair", "floating", "foamy", "fresh", "gentle", "glassy", "gliding", "golden", "green",
    "hardy", "hidden", "humble", "ivory", "jolly", "kind", "late", "leafy", "lively", "lucid",
    "lunar", "mellow", "misty", "nimble", "northern", "patient", "pearly", "placid", "polar", "quiet",
    "rapid", "salty", "serene", "silver", "smooth", "steady", "sunny", "swift", "tidal", "wild",
];

#[rustfmt::skip]
const NOUNS: [&str; 60] = [
    "abalone", "alga", "anchovy", "anemone", "barnacle", "bream", "clam", "clover", "cockle", "cod",
    "conch", "cormorant", "crab", "cuttlefish", "dolphin", "dulse", "eelgrass", "fern", "flounder", "gannet",
    "gull", "halibut", "heron", "herring", "ibis", "iris", "kelpfish", "krill", "laver", "lichen",
    "limpet", "lobster", "mackerel", "mangrove", "manta", "marlin", "moss", "mussel", "nautilus", "octopus",
    "osprey", "otter", "oyster", "pelican", "perch", "petrel", "plankton", "plover", "porpoise", "prawn",
    "puffin", "reed", "samphire", "seahorse", "seal", "sedge", "sponge", "tern", "turtle", "urchin",
];

/// A made-up name; the same for the same `random`. Names can collide: the one
/// who takes it tries again with another number.
pub fn random(random: u64) -> String {
    let count = ADJECTIVES.len() as u64;
    let pick =
        |words: &[&'static str; 60], number: u64| words.get((number % count) as usize).copied().unwrap_or("kelp");
    format!("{}_{}", pick(&ADJECTIVES, random), pick(&NOUNS, random / count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, legal: bool) {
        assert_eq!(parse(text).is_ok(), legal, "{text}");
    }

    #[test]
    fn names_are_file_names() {
        check("web", true);
        check("a1", true);
        check("Web_1.x-2", true);
        for bad in ["", "a", ".", "..", "-x", "_x", "a/b", "a b", "é", "a\n", "a\0", &"x".repeat(129)] {
            check(bad, false);
        }
    }

    #[test]
    fn words_are_sorted_without_doubles() {
        assert!(ADJECTIVES.is_sorted_by(|a, b| a < b) && NOUNS.is_sorted_by(|a, b| a < b));
    }

    proptest! {
        #[test]
        fn made_up_names_are_legal(number: u64) {
            prop_assert!(parse(&random(number)).is_ok());
        }
    }
}
