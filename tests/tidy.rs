//! The rules of this source tree that no compiler holds, as tests: layers,
//! sizes, names, and where unsafe code, prints and documentation may be.
//!
//! It reads text, not syntax: rustfmt's layout (checked before) is what makes
//! that reliable. Each rule says why it is there and what to do about a breach.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of src/ in reading order; code may look only to the right. Rooms
/// of one group do not see each other (docs/architecture.md).
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["api"],
    &["compose"],
    &["build"],
    &["engine"],
    &["container"],
    &["sandbox", "network", "storage"],
    &["image", "process"],
    &["kernel"],
];

/// Common ground: what each of these files may look at itself. Every room but
/// the kernel may look at all of them.
const COMMON_GROUND: &[(&str, &[&str])] = &[
    ("error", &["kernel"]),
    ("limits", &["error"]),
    ("paths", &["error", "limits"]),
    ("failpoint", &["paths"]),
    ("host", &["error", "kernel", "limits", "paths"]),
    ("settings", &["error", "limits", "paths"]),
];

/// Words that say nothing about what a thing is.
const BANNED_WORDS: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];

/// A function fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with its length, which can only shrink,
/// and the reason.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// A file has one job.
const FILE_LINES_MAX: usize = 900;

/// Files that may be longer, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// A source file, by its path below the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers, comments cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).filter_map(|(number, line)| {
            let code = line.split_once(" // ").map_or(line, |(code, _)| code);
            (!line.trim_start().starts_with("//")).then_some((number, code))
        })
    }

    /// The room, or the name of a file on common ground.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or(below);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![top().join(folder)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(top()).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(!found.is_empty() || folder != "src", "no sources found below {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The product, its tests and what they run.
fn all_sources() -> Vec<Source> {
    ["src", "tests", "examples", "benches", "fuzz/fuzz_targets"].into_iter().flat_map(sources).collect()
}

/// Fails with all breaches of one rule.
fn hold(why: &str, remedy: &str, breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\nwhy: {why}\nwhat to do: {remedy}\n", breaches.join("\n"));
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|group| group.contains(&room))
}

/// Whether code of room `from` may name room `to`.
fn may_see(from: &str, to: &str) -> Result<bool, String> {
    if from == to {
        return Ok(true);
    }
    let unknown = |room: &str| format!("\"{room}\" is in no layer");
    if let Some((_, seen)) = COMMON_GROUND.iter().find(|(name, _)| *name == from) {
        return Ok(seen.contains(&to));
    }
    let own = layer(from).ok_or_else(|| unknown(from))?;
    if COMMON_GROUND.iter().any(|(name, _)| *name == to) {
        return Ok(from != "kernel");
    }
    Ok(own < layer(to).ok_or_else(|| unknown(to))?)
}

/// Rooms named on one line: after `crate::`, also in braces, and after enough
/// `super::` to be at the top.
fn named_rooms(line: &str, source: &Source) -> Vec<String> {
    let mut rooms = Vec::new();
    let top_level = source.path.matches('/').count() <= 1 || source.path.ends_with("/mod.rs");
    let mut starts = vec!["crate::"];
    if top_level && source.path.matches('/').count() <= 2 {
        starts.push("super::");
    }
    for start in starts {
        for (at, _) in line.match_indices(start) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == '$') {
                continue;
            }
            let rest = &line[at + start.len()..];
            let words: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.split(['}', ';']).next().unwrap_or("").split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for word in words {
                let name: String = word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_room = name.chars().next().is_some_and(char::is_lowercase);
                if is_room && (start == "crate::" || layer(&name).is_some()) {
                    rooms.push(name);
                }
            }
        }
    }
    rooms
}

#[test]
fn code_looks_only_to_the_right() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        if matches!(source.path.as_str(), "src/main.rs" | "src/lib.rs") {
            continue;
        }
        for (number, line) in source.code() {
            for room in named_rooms(line, &source) {
                match may_see(source.room(), &room) {
                    Ok(true) => {}
                    Ok(false) => breaches.push(format!("{}:{number}: {} sees {room}", source.path, source.room())),
                    Err(unknown) => breaches.push(format!("{}:{number}: {unknown}", source.path)),
                }
            }
        }
    }
    hold(
        "layers are what lets a part be read, tested and replaced without the parts that use it",
        "move the code to the room that may see both, or pass in what it needs; a new room goes into LAYERS \
         and docs/architecture.md",
        breaches,
    );
}

#[test]
fn the_layer_table_is_what_the_design_says() {
    let seen = |from, to| may_see(from, to).unwrap();
    assert!(seen("cli", "engine") && seen("engine", "kernel") && seen("container", "storage"));
    assert!(!seen("sandbox", "storage") && !seen("storage", "sandbox") && !seen("image", "process"));
    assert!(!seen("kernel", "error") && seen("error", "kernel") && seen("image", "limits"));
    assert!(!seen("kernel", "process") && !seen("engine", "cli"));
    assert!(may_see("cli", "garage").is_err());
}

#[test]
fn unsafe_code_stays_in_the_kernel_room() {
    let mut breaches = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_in("src/kernel/")) {
        for (number, line) in source.code() {
            let is_use = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe_code)]"]
                .iter()
                .any(|word| line.contains(word));
            let is_the_gate = source.path == "src/lib.rs" && line.contains("unsafe_code)]");
            if is_use && !is_the_gate {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    hold(
        "every unsafe block is a proof by hand; one room keeps them few and near each other",
        "write a wrapper in src/kernel, one system call each, and call that",
        breaches,
    );
}

#[test]
fn only_one_file_prints() {
    let mut breaches = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != "src/cli/output.rs") {
        for (number, line) in source.code() {
            if ["println!", "print!", "dbg!"].iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    hold(
        "what people and programs see is one contract, and a stage has no terminal",
        "return it; a verb prints through cli::output",
        breaches,
    );
}

#[test]
fn every_file_says_what_it_is() {
    let breaches = all_sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: line 1", source.path))
        .collect();
    hold(
        "a reader decides by the first line whether a file is the one that is looked for",
        "begin the file with a `//!` comment: what it is, what it is not, what always holds",
        breaches,
    );
}

/// The name that a line declares, if it declares one.
fn declared(line: &str) -> Option<(&'static str, &str)> {
    let mut words = line.split_whitespace().peekable();
    while words.peek().is_some_and(|word| {
        word.starts_with("pub") || matches!(*word, "const" | "unsafe" | "async" | "extern" | "\"C\"" | "in")
    }) {
        words.next();
    }
    let kind = ["fn", "struct", "enum", "trait", "type", "mod", "macro_rules!"]
        .into_iter()
        .find(|kind| words.peek() == Some(kind))?;
    words.next();
    let name = words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (!name.is_empty()).then_some((kind, name))
}

/// The words of a name, in lower case: `IdMap` and `id_map` are `id`, `map`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in name.chars() {
        if character == '_' || character == '-' || character.is_uppercase() {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
    }
    words
}

#[test]
fn names_say_something() {
    let banned = |name: &str| words_of(name).iter().any(|word| BANNED_WORDS.contains(&word.as_str()));
    let mut breaches = Vec::new();
    for source in all_sources() {
        if source.path.trim_end_matches(".rs").split('/').any(banned) {
            breaches.push(format!("{}: the file's name", source.path));
        }
        for (number, line) in source.code() {
            if let Some((kind, name)) = declared(line)
                && banned(name)
            {
                breaches.push(format!("{}:{number}: {kind} {name}", source.path));
            }
        }
    }
    hold(
        "util, helper, common, misc and manager are where unrelated code gathers",
        "name it after the noun or verb of the specification that it implements",
        breaches,
    );
}

/// Functions of a file, by name, with their first line and length.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(("fn", name)) = declared(line) else { continue };
        if line.trim_start().starts_with("//") || line.ends_with(['}', ';']) {
            continue;
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        let (end, declaration_end) = (format!("{indentation}}}"), format!("{indentation})"));
        let length = lines[index..]
            .iter()
            .position(|line| *line == end || (line.starts_with(&declaration_end) && line.ends_with(';')));
        found.push((name.to_owned(), index + 1, length.map_or(1, |length| length + 1)));
    }
    found
}

#[test]
fn functions_fit_on_a_screen() {
    let mut breaches = Vec::new();
    let mut used = Vec::new();
    for source in all_sources() {
        for (name, line, length) in functions(&source) {
            let excuse = LONG_FUNCTIONS.iter().find(|(path, long, ..)| *path == source.path && *long == name);
            let most = excuse.map_or(FUNCTION_LINES_MAX, |(_, _, lines, _)| *lines);
            used.extend(excuse);
            if length > most {
                breaches.push(format!("{}:{line}: {name} has {length} lines, at most {most}", source.path));
            } else if excuse.is_some() && length < most {
                breaches.push(format!("{}:{line}: {name} shrank to {length} lines: say so here", source.path));
            }
        }
    }
    let stale = LONG_FUNCTIONS.iter().filter(|entry| !used.contains(entry));
    breaches.extend(stale.map(|(path, name, ..)| format!("{path}: {name} is in LONG_FUNCTIONS but is gone")));
    hold(
        "a function that fits on a screen is read whole; small ones do not grow back unseen",
        "cut it where a step has a name; a pure table goes into LONG_FUNCTIONS with its reason",
        breaches,
    );
}

#[test]
fn files_have_one_job() {
    let mut breaches = Vec::new();
    for source in all_sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX && !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
            breaches.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        }
    }
    breaches.extend(
        LONG_FILES.iter().filter(|(path, _)| !top().join(path).exists()).map(|(path, _)| format!("{path} is gone")),
    );
    hold(
        "nobody reads a long file, so nobody notices when it gets a second job",
        "find the second noun in it and give it a file; a pure table goes into LONG_FILES with its reason",
        breaches,
    );
}

/// Where `mod NAME;` of a file must stand.
fn parents(path: &Path) -> Vec<PathBuf> {
    let directory = path.parent().unwrap();
    let (name, around) = if path.file_name().unwrap() == "mod.rs" {
        (directory.file_name().unwrap(), directory.parent().unwrap())
    } else {
        (path.file_stem().unwrap(), directory)
    };
    assert!(!name.is_empty());
    ["mod.rs", "lib.rs", "main.rs"].iter().map(|file| around.join(file)).chain([around.with_extension("rs")]).collect()
}

#[test]
fn no_file_is_dead() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        let path = Path::new(&source.path);
        if matches!(source.path.as_str(), "src/main.rs" | "src/lib.rs") {
            continue;
        }
        let name = if path.ends_with("mod.rs") { path.parent().unwrap().file_name() } else { path.file_stem() };
        let declaration = format!("mod {};", name.unwrap().display());
        let is_declared = parents(path).iter().any(|parent| {
            fs::read_to_string(top().join(parent))
                .is_ok_and(|text| text.lines().any(|line| line.ends_with(&declaration)))
        });
        if !is_declared {
            breaches.push(format!("{}: nobody declares it", source.path));
        }
    }
    hold("a file that is not compiled looks as if it held", "declare it with `mod`, or delete it", breaches);
}

#[test]
fn nothing_is_left_for_later_without_a_reason() {
    let mut breaches = Vec::new();
    // In two pieces, so that this file does not name itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let ignore = concat!("#[ig", "nore");
    for source in all_sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            for mark in marks {
                let Some((before, reason)) = line.split_once(mark) else { continue };
                let is_part_of_word = before.ends_with(|c: char| c.is_alphanumeric() || "_\"/".contains(c))
                    || reason.starts_with(|c: char| c.is_alphanumeric() || c == '_');
                let says_why = reason.trim_start_matches(':').split_whitespace().count() >= 4;
                if !is_part_of_word && !says_why {
                    breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
            if line.contains(ignore) {
                breaches.push(format!("{}:{number}: a test that does not run", source.path));
            }
        }
    }
    hold(
        "a mark without a reason is never come back to",
        "do it, or write behind the mark what is missing and why it can wait; a test that cannot run here is \
         skipped with a reason (tests/it/harness)",
        breaches,
    );
}

/// The verbs of the command line, from its table.
fn verbs() -> Vec<String> {
    let text = fs::read_to_string(top().join("src/cli/verbs.rs")).unwrap();
    let name = |line: &str| line.trim().strip_prefix("verb!(\"")?.split('"').next().map(str::to_owned);
    text.lines().filter_map(name).collect()
}

/// All text a user may read about verbs.
fn documentation() -> String {
    let mut text = fs::read_to_string(top().join("README.md")).unwrap_or_default();
    let mut open = vec![top().join("docs/reference")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                text.push_str(&fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    text
}

#[test]
fn every_verb_is_documented() {
    let (verbs, text) = (verbs(), documentation());
    assert!(verbs.iter().any(|verb| verb == "run"), "src/cli/verbs.rs is not read rightly any more");
    let mentioned = |verb: &String| {
        text.match_indices(&format!("kelp {verb}")).any(|(at, found)| {
            !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_')
        })
    };
    let breaches = verbs.into_iter().filter(|verb| !mentioned(verb)).map(|verb| format!("kelp {verb}")).collect();
    hold(
        "a command that is not written down is found by nobody",
        "describe it in docs/reference, or mention it in README.md",
        breaches,
    );
}
