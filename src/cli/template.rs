//! Go templates over JSON: the language of docker's `--format`.
//!
//! The crate `gotmpl` is the engine: syntax, builtin functions and the way
//! values are printed are Go's text/template and fmt. Added here are docker's
//! functions (docker/cli, templates/templates.go), its missing labels, and
//! answers that help: an unknown field is an error that proposes the right one.
//!
//! ```text
//!   \t and \n outside of {{ }}     become what they stand for
//!   .Config.Labels.NAME            may be missing: <no value>, as with docker
//!   .Nmae                          there is no field "Nmae", did you mean "Name"?
//! ```
//!
//! What a template can cost is bounded by the engine (depth, iterations,
//! widths) and here (limits.rs, `FORMAT_BYTES_MAX`).

use std::fmt;
use std::sync::Arc;

use gotmpl::{MissingKey, TemplateError, Value as GoValue};
use serde_json::{Map, Value};

use crate::error::{Failure, Result};
use crate::limits;

/// Objects whose keys are data and not fields (Go's maps, where docker has
/// structs elsewhere): a key that is not there is no mistake in the template.
const MAPS: [&str; 11] = [
    "Annotations",
    "Attributes",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Lists in Docker's API that are null when empty. Go knows the type all the
/// same: they are printed as `[]`, and have a length of 0.
const LISTS: [&str; 20] = [
    "Aliases",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "Log",
    "Mounts",
    "OnBuild",
    "SecurityOpt",
    "Shell",
    "VolumesFrom",
];

/// The function that a key of one of [`MAPS`] is read with.
const ENTRY: &str = "kelp_entry";

/// The field of a row that has its labels as a map, for [`LABEL`].
pub(super) const LABEL_FIELD: &str = "Label";

/// What `.Label "name"` becomes: docker's rows have a method of that name.
const LABEL: &str = "kelp_label";

/// A template that was read.
#[derive(Clone)]
pub struct Template {
    engine: Arc<gotmpl::Template>,
    /// The same, for the headings of its columns.
    headings: Arc<gotmpl::Template>,
    /// It asks for single labels.
    pub(super) asks_for_labels: bool,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self> {
        let source = prepared(text)?;
        let read = |template: gotmpl::Template| {
            template.parse(&source).map(Arc::new).map_err(|error| {
                let said = error.to_string();
                let said = said.strip_prefix("template: ").unwrap_or(&said);
                Failure::usage(format!("the template is not valid: {said}"))
            })
        };
        let engine = read(with_functions(gotmpl::Template::new("").missing_key(MissingKey::Error)))?;
        let asks_for_labels = source.contains(LABEL);
        Ok(Self { engine, headings: read(with_heading_functions(gotmpl::Template::new("")))?, asks_for_labels })
    }

    /// What the template makes of `data`, without a line's end.
    pub fn render(&self, data: &Value) -> Result<String> {
        execute(&self.engine, &to_go(data)).map_err(|error| match error {
            TemplateError::MissingKey { key } => {
                let mut names = Vec::new();
                names_in(data, "", &mut names);
                let failure = Failure::user(format!("the template asks for a field \"{key}\", which there is not"));
                // Other elements of a list have it, or what is around them: nobody misspelt it.
                if names.iter().any(|(_, path)| path.strip_prefix('.') == Some(key.as_str())) {
                    return failure;
                }
                let pairs = names.iter().map(|(name, path)| (name.as_str(), path.as_str()));
                failure.did_you_mean_by_spelling(&key, pairs)
            }
            error => failed(&error),
        })
    }

    /// The template with headings in the place of values: functions leave
    /// them as they are.
    pub(super) fn render_headings(&self, headings: &Map<String, Value>) -> Result<String> {
        execute(&self.headings, &to_go(&Value::Object(headings.clone()))).map_err(|error| failed(&error))
    }
}

fn failed(error: &TemplateError) -> Failure {
    match error {
        TemplateError::Write => {
            Failure::user(format!("the template makes more than {} bytes", limits::FORMAT_BYTES_MAX))
        }
        error => Failure::user(format!("the template cannot be filled in: {error}")),
    }
}

fn execute(template: &gotmpl::Template, data: &GoValue) -> gotmpl::Result<String> {
    let mut bounded = Bounded(String::new());
    template.execute_fmt(&mut bounded, data)?;
    Ok(bounded.0)
}

/// Text of at most [`limits::FORMAT_BYTES_MAX`] bytes.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len().saturating_add(text.len()) > limits::FORMAT_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// All names of fields in `data` and how they are written, nested ones first,
/// for "did you mean".
fn names_in(data: &Value, prefix: &str, names: &mut Vec<(String, String)>) {
    match data {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{prefix}.{name}");
                if !MAPS.contains(&name.as_str()) {
                    names_in(value, &path, names);
                }
                names.push((name.clone(), path));
            }
        }
        // Within a range, the dot is the element.
        Value::Array(values) => values.iter().for_each(|value| names_in(value, "", names)),
        _ => {}
    }
}

/// The template as the engine gets it: escapes outside of actions replaced,
/// keys of [`MAPS`] read by [`ENTRY`].
fn prepared(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut blocks = 0_usize;
    while let Some((before, action)) = rest.split_once("{{") {
        push_unescaped(&mut out, before);
        out.push_str("{{");
        // The engine (0.6) takes an `end` too many for the end of the text.
        let word = action.trim_start_matches('-').trim_start().split(|c: char| !c.is_alphanumeric()).next();
        match word {
            Some("if" | "range" | "with" | "define" | "block") => blocks += 1,
            Some("end") => {
                let open = blocks.checked_sub(1);
                blocks = open.ok_or_else(|| Failure::usage("the template is not valid: unexpected {{end}}"))?;
            }
            _ => {}
        }
        rest = push_action(&mut out, action);
    }
    push_unescaped(&mut out, rest);
    Ok(out)
}

fn push_unescaped(out: &mut String, text: &str) {
    out.push_str(&text.replace("\\t", "\t").replace("\\n", "\n"));
}

/// Copies an action up to its `}}` and returns what follows.
fn push_action<'a>(out: &mut String, action: &'a str) -> &'a str {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '$');
    let mut rest = action;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '}' if rest.starts_with("}}") => return rest,
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' | '\'' | '`' => quoted_length(rest, first),
            word if is_word(word) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        // A chain behind a parenthesis has its beginning in there.
        match as_entry(token).filter(|_| before != ')') {
            Some(entry) => out.push_str(&entry),
            None => out.push_str(token),
        }
        before = first;
        rest = after;
    }
    rest
}

/// Bytes of the literal that `text` begins with, its quotes counted.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if quote != '`' => is_escaped = true,
            character if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `.Config.Labels.name` as a call of [`ENTRY`].
fn as_entry(chain: &str) -> Option<String> {
    if !chain.starts_with(['.', '$']) {
        return None;
    }
    if let Some(row) = [(".Label", "."), ("$.Label", "$")].iter().find(|(label, _)| *label == chain) {
        return Some(format!("{LABEL} {}", row.1));
    }
    let parts: Vec<&str> = chain.split('.').collect();
    let place = parts.iter().position(|part| MAPS.contains(part))?;
    let (map, rest) = parts.split_at(place + 1);
    let (key, rest) = rest.split_first()?;
    let rest: String = rest.iter().map(|part| format!(".{part}")).collect();
    Some(format!("({ENTRY} {} \"{key}\"){rest}", map.join(".")))
}

fn to_go(value: &Value) -> GoValue {
    match value {
        Value::Null => GoValue::Nil,
        Value::Bool(value) => GoValue::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => GoValue::Int(number),
            (None, Some(number)) => GoValue::Uint(number),
            (None, None) => GoValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text_value(text),
        Value::Array(values) => GoValue::List(values.iter().map(to_go).collect()),
        Value::Object(fields) => GoValue::Map(Arc::new(
            fields.iter().map(|(name, value)| (name.as_str().into(), field(name, value))).collect(),
        )),
    }
}

/// A field's value; null is the empty value of [`LISTS`] and [`MAPS`].
fn field(name: &str, value: &Value) -> GoValue {
    match value {
        Value::Null if LISTS.contains(&name) => to_go(&Value::Array(Vec::new())),
        Value::Null if MAPS.contains(&name) => to_go(&Value::Object(Map::new())),
        value => to_go(value),
    }
}

fn to_json(value: &GoValue) -> Value {
    match value {
        GoValue::Nil | GoValue::Function(_) => Value::Null,
        GoValue::Bool(value) => (*value).into(),
        GoValue::Int(number) => (*number).into(),
        GoValue::Uint(number) => (*number).into(),
        GoValue::Float(number) => (*number).into(),
        GoValue::String(text) => Value::String(text.to_string()),
        GoValue::List(values) => values.iter().map(to_json).collect(),
        GoValue::Map(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect())
        }
    }
}

fn text_value(text: &str) -> GoValue {
    GoValue::String(text.into())
}

/// Docker's functions, and `index` and [`ENTRY`] as its data behave.
fn with_functions(template: gotmpl::Template) -> gotmpl::Template {
    template
        .func("json", |arguments| {
            let [value] = exactly("json", arguments)?;
            Ok(text_value(&to_json(value).to_string()))
        })
        .func("lower", |arguments| Ok(text_value(&text_of("lower", arguments)?.to_lowercase())))
        .func("upper", |arguments| Ok(text_value(&text_of("upper", arguments)?.to_uppercase())))
        .func("title", |arguments| Ok(text_value(&title(&text_of("title", arguments)?))))
        .func("split", |arguments| {
            let [value, separator] = exactly("split", arguments)?;
            Ok(GoValue::List(split(text("split", value)?, text("split", separator)?).map(text_value).collect()))
        })
        .func("join", |arguments| {
            let [list, separator] = exactly("join", arguments)?;
            let parts: Vec<String> = match list {
                GoValue::List(values) => values.iter().map(ToString::to_string).collect(),
                GoValue::Nil => Vec::new(),
                other => return Err(wrong("join", other)),
            };
            Ok(text_value(&parts.join(text("join", separator)?)))
        })
        .func("pad", |arguments| {
            let [value, before, after] = exactly("pad", arguments)?;
            let [before, after] = [count("pad", before)?, count("pad", after)?]
                .map(|spaces| " ".repeat(spaces.min(limits::FORMAT_PAD_MAX)));
            let value = text("pad", value)?;
            Ok(text_value(&if value.is_empty() { String::new() } else { format!("{before}{value}{after}") }))
        })
        .func("truncate", |arguments| {
            let [value, length] = exactly("truncate", arguments)?;
            let (value, length) = (text("truncate", value)?, count("truncate", length)?);
            Ok(text_value(value.get(..value.floor_char_boundary(length)).unwrap_or(value)))
        })
        .func("index", index)
        .func(LABEL, |arguments| {
            let [row, name] = exactly("Label", arguments)?;
            let name = text("Label", name)?;
            match row {
                GoValue::Map(fields) => match fields.get(LABEL_FIELD) {
                    Some(GoValue::Map(labels)) => Ok(labels.get(name).cloned().unwrap_or_else(|| text_value(""))),
                    _ => Err(TemplateError::Exec("there are no labels".to_owned())),
                },
                other => Err(wrong("Label", other)),
            }
        })
        .func(ENTRY, |arguments| {
            let [map, key] = exactly("field", arguments)?;
            match map {
                GoValue::Map(fields) => Ok(fields.get(text("field", key)?).cloned().unwrap_or(GoValue::Nil)),
                GoValue::Nil => Ok(GoValue::Nil),
                other => Err(wrong("field", other)),
            }
        })
}

/// The same functions, for headings: each returns its first argument.
fn with_heading_functions(template: gotmpl::Template) -> gotmpl::Template {
    ["json", "lower", "upper", "title", "split", "join", "truncate", "index", ENTRY]
        .into_iter()
        .fold(with_functions(template), |template, name| {
            template.func(name, |arguments| Ok(arguments.first().cloned().unwrap_or(GoValue::Nil)))
        })
        .func(LABEL, |arguments| {
            // The last part of its name, as docker has it.
            let [_, name] = exactly("Label", arguments)?;
            let last = text("Label", name)?.rsplit('.').next().unwrap_or_default();
            Ok(text_value(&last.replace(['-', '_'], " ")))
        })
}

/// Go's `index`, with docker's types: a map of texts has the empty text for
/// a key that is missing, and so has one that is null.
fn index(arguments: &[GoValue]) -> gotmpl::Result<GoValue> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(TemplateError::ArgCount { name: "index".to_owned(), expected: 1, got: 0 });
    };
    let is_text = |value: &GoValue| matches!(value, GoValue::String(_));
    keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
        (GoValue::Nil, GoValue::String(_)) => Ok(text_value("")),
        (GoValue::Map(fields), GoValue::String(key)) => Ok(match fields.get(key) {
            Some(value) => value.clone(),
            None if fields.values().all(is_text) => text_value(""),
            None => GoValue::Nil,
        }),
        (value, key) => value.index(key),
    })
}

fn exactly<'a, const N: usize>(name: &str, arguments: &'a [GoValue]) -> gotmpl::Result<[&'a GoValue; N]> {
    let all: Vec<&GoValue> = arguments.iter().collect();
    let got = all.len();
    all.try_into().map_err(|_| TemplateError::ArgCount { name: name.to_owned(), expected: N, got })
}

fn text_of(name: &str, arguments: &[GoValue]) -> gotmpl::Result<String> {
    let [value] = exactly(name, arguments)?;
    text(name, value).map(str::to_owned)
}

fn text<'a>(name: &str, value: &'a GoValue) -> gotmpl::Result<&'a str> {
    match value {
        GoValue::String(text) => Ok(text),
        other => Err(wrong(name, other)),
    }
}

fn count(name: &str, value: &GoValue) -> gotmpl::Result<usize> {
    match value {
        GoValue::Int(count) => usize::try_from(*count).map_err(|_| wrong(name, value)),
        other => Err(wrong(name, other)),
    }
}

fn wrong(name: &str, value: &GoValue) -> TemplateError {
    TemplateError::Exec(format!("{name} cannot take {value}"))
}

/// Go's strings.Split: an empty separator splits into characters.
fn split<'a>(text: &'a str, separator: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    if separator.is_empty() {
        return Box::new(text.split("").filter(|part| !part.is_empty()));
    }
    Box::new(text.split(separator))
}

/// Go's strings.Title: the first letter of each word.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let is_inside = before.is_alphanumeric() || before == '_' || (!before.is_ascii() && !before.is_whitespace());
        if is_inside {
            out.push(character);
        } else {
            out.extend(character.to_uppercase());
        }
        before = character;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn data() -> Value {
        json!({
            "Id": "sha256:abc", "Name": "web app", "Size": 7_800_000, "Ratio": 0.5, "Big": u64::MAX, "Running": false,
            "RepoTags": ["a:1", "b:2"], "Empty": [], "None": null,
            "Config": {
                "Env": ["PATH=/bin", "A=b"], "Cmd": null, "Labels": {"maintainer": "me", "com.example/x": "y"},
                "ExposedPorts": {"80/tcp": {}}, "Volumes": null,
            },
            "State": {"Status": "exited", "ExitCode": 3},
            "Rows": [{"Nick": "a"}, {}],
        })
    }

    #[track_caller]
    fn check(template: &str, expected: &str) {
        assert_eq!(Template::parse(template).unwrap().render(&data()).unwrap(), expected, "{template}");
    }

    #[test]
    fn prints_values_as_go_does() {
        check("{{.Id}}", "sha256:abc");
        check("{{.Size}} {{.Ratio}} {{.Big}} {{.Running}}", "7800000 0.5 18446744073709551615 false");
        check("{{.RepoTags}} {{.Empty}}", "[a:1 b:2] []");
        check("{{.None}} {{.Config.Cmd}} {{.Config.Volumes}}", "<no value> [] map[]");
        check("{{len .Config.Cmd}} {{len .Config.Volumes}} {{json .Config.Cmd}}", "0 0 []");
        check("{{if .Config.Cmd}}x{{end}}{{with .None}}x{{end}}{{range .Config.Cmd}}x{{else}}none{{end}}", "none");
        check("{{.Config.Labels}}", "map[com.example/x:y maintainer:me]");
        check("{{.State}}", "map[ExitCode:3 Status:exited]");
        check("{{json .Config.Env}} {{json .None}}", r#"["PATH=/bin","A=b"] null"#);
        check("{{json .State}}", r#"{"ExitCode":3,"Status":"exited"}"#);
        check("{{.Name}} {{/* a comment {{ */}}x", "web app x");
    }

    #[test]
    fn knows_the_language() {
        check("{{range .RepoTags}}{{.}};{{end}}", "a:1;b:2;");
        check("{{range $i, $e := .RepoTags}}{{$i}}={{$e}} {{end}}", "0=a:1 1=b:2 ");
        check("{{range .Empty}}x{{else}}none{{end}}", "none");
        check("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}", "com.example/x=y,maintainer=me,");
        check("{{if .Running}}up{{else if eq .State.ExitCode 3}}three{{else}}down{{end}}", "three");
        check("{{with .State}}{{.Status}} {{$.Id}}{{end}}", "exited sha256:abc");
        check("a {{- .Id -}} b", "asha256:abcb");
        check("{{index .RepoTags 1}} {{index .Config.Labels \"com.example/x\"}} {{len .RepoTags}}", "b:2 y 2");
        check("{{and .Running 1}} {{or .Running \"x\"}} {{not .Running}}", "false x true");
        check("{{ne .Size 1}} {{eq .Id \"a\" \"sha256:abc\"}} {{lt 1 2}}", "true true true");
        check("{{(index .RepoTags 0) | upper | printf \"%-5s|%q\" \"x\"}}", "x    |\"A:1\"");
        check("{{println .Id}}{{$x := .Size}}{{$x}}", "sha256:abc\n7800000");
        check("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Id}}", "<sha256:abc>");
    }

    #[test]
    fn has_dockers_functions() {
        check("{{join .RepoTags \", \"}} [{{join .None \",\"}}]", "a:1, b:2 []");
        check(
            "{{lower \"AB\"}} {{upper .Name}} {{title .Name}} {{title \"x_y o'neil\"}}",
            "ab WEB APP Web App X_y O'Neil",
        );
        check("{{split .Id \":\"}} {{index (split .Id \":\") 1}} {{len (split \"abc\" \"\")}}", "[sha256 abc] abc 3");
        check("[{{pad \"x\" 1 2}}] [{{pad \"\" 1 2}}] {{truncate .Id 6}} {{truncate \"é\" 1}}", "[ x  ] [] sha256 ");
    }

    #[test]
    fn labels_may_be_missing_fields_may_not() {
        check("{{.Config.Labels.maintainer}} {{.Config.Labels.nobody}}", "me <no value>");
        check("{{index .Config.Labels \"nobody\"}}|{{index .Config.Volumes \"/x\"}}|", "||");
        check("{{if .Config.Volumes.x}}y{{end}}{{with $c := .Config}}{{$c.Labels.maintainer}}{{end}}", "me");
        check("{{\".Labels.x\"}} {{(index .Config.ExposedPorts \"80/tcp\")}}", ".Labels.x map[]");
        let refused = |template: &str| Template::parse(template).unwrap().render(&data()).unwrap_err();
        let failure = refused("{{.State.Staus}}");
        assert_eq!(failure.to_string(), "the template asks for a field \"Staus\", which there is not");
        assert_eq!(failure.hints, ["did you mean \".State.Status\"?"]);
        // The very field that was asked for, elsewhere, is no correction.
        assert_eq!(refused("{{range .Rows}}{{.Nick}}{{end}}").hints, [""; 0]);
        assert_eq!(refused("{{.id}}").hints, ["did you mean \".Id\"?"]);
        assert!(refused("{{.Id.X}}").to_string().contains("can't evaluate field X"));
        assert!(refused("{{join .Id \"\"}}").to_string().contains("join cannot take sha256:abc"));
        assert!(refused("{{index .RepoTags 7}}").to_string().contains("out of range"));
        for template in ["{{.Id", "{{nofunction .Id}}", "{{if}}x{{end}}", "{{end}}", "{{\"}}"] {
            let result = Template::parse(template).and_then(|template| template.render(&data()));
            assert!(result.is_err(), "{template}");
        }
    }

    #[test]
    fn escapes_stand_for_what_they_mean() {
        check("{{.Id}}\\t{{.Size}}\\n", "sha256:abc\t7800000\n");
        check("{{printf \"a\\tb\"}} {{`c\\td`}} {{'\\n'}}", "a\tb c\\td 10");
    }

    #[test]
    fn headings_pass_through_functions() {
        let headings = json!({"ID": "IMAGE ID", "Size": "SIZE"});
        let template = Template::parse("{{lower .ID}}\\t{{json .Size}} {{.Other}}").unwrap();
        assert_eq!(template.render_headings(headings.as_object().unwrap()).unwrap(), "IMAGE ID\tSIZE <no value>");
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Template::parse(&deep).is_err());
        assert!(Template::parse(&"{{if 1}}".repeat(10_000)).is_err());
        for template in [
            "{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}",
            "{{range 100000}}{{printf \"%60000s\" \"x\"}}{{end}}",
            "{{range 1000000000000}}{{end}}",
        ] {
            assert!(Template::parse(template).unwrap().render(&data()).is_err(), "{template}");
        }
        check("{{len (pad \"x\" 1000000000000 0)}}", &(limits::FORMAT_PAD_MAX + 1).to_string());
    }

    #[test]
    fn single_labels_of_a_row() {
        let row = json!({"Names": "web", "Label": {"com.example.role": "db", "tier": "1"}});
        let template = Template::parse(
            "{{.Names}} {{.Label \"com.example.role\"}} {{.Label \"none\" | upper}}{{$.Label \"tier\"}}",
        )
        .unwrap();
        assert!(template.asks_for_labels);
        assert_eq!(template.render(&row).unwrap(), "web db 1");
        let headings = json!({"Names": "NAMES"});
        assert_eq!(template.render_headings(headings.as_object().unwrap()).unwrap(), "NAMES role nonetier");
        assert!(!Template::parse("{{.Labels}} {{.MountLabel}}").unwrap().asks_for_labels);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(\\{\\{|\\}\\}|[a-z.$()|\" \\\\'`0-9]|\\.Config|\\.Labels|range|if|end|index|join|len|printf|%|\\.RepoTags|-|:=|,){0,30}") {
            if let Ok(template) = Template::parse(&text) {
                drop(template.render(&data()));
                drop(template.render_headings(&Map::new()));
            }
        }

        #[test]
        fn text_without_actions_is_itself(text in "[^{}\\\\]{0,40}") {
            prop_assert_eq!(Template::parse(&text).unwrap().render(&Value::Null).unwrap(), text);
        }
    }
}
