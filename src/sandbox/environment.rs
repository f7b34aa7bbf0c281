//! Environments as lists of `NAME=VALUE`.

use std::collections::HashMap;

/// `base` with wishes applied in order: a variable is replaced where it stands
/// or added at the end; one without a value is taken away. Lines of `base`
/// without `=` are left out.
pub fn apply<'a>(base: &'a [String], wishes: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<String> {
    let mut result: Vec<Option<String>> = Vec::with_capacity(base.len());
    let mut places = HashMap::new();
    let settings = base.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name, Some(value)));
    for (name, value) in settings.chain(wishes) {
        let line = value.map(|value| format!("{name}={value}"));
        let place = *places.entry(name).or_insert(result.len());
        match result.get_mut(place) {
            Some(slot) => *slot = line,
            None => result.push(line),
        }
    }
    result.into_iter().flatten().collect()
}
