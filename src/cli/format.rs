//! `--format`: how a listing is printed. One table of fields serves the
//! columns, docker's templates and their headings.
//!
//! ```text
//!   table               columns for people (the default)
//!   table TEMPLATE      columns of one's own, with headings
//!   TEMPLATE            a line for each row; {{json .}} is docker's own JSON
//!   json                one array of documents for programs, stable
//! ```
//!
//! Template fields are texts under docker's names, as people read them
//! (`.Size` is `7.8MB`); documents have exact values (`"size": 7800000`).

use std::str::FromStr;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output;
use super::template::{LABEL_FIELD, Template};
use crate::error::{Failure, Result};

/// How something is printed.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// Columns for people.
    Table,
    /// Columns of one's own.
    Columns(Template),
    /// One line for each row.
    Lines(Template),
    /// One JSON document, stable and documented.
    Json,
}

impl FromStr for Format {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("table") {
            _ if text == "json" => Ok(Self::Json),
            Some("") => Ok(Self::Table),
            Some(columns) if columns.contains("{{") => Ok(Self::Columns(Template::parse(columns.trim_matches(' '))?)),
            _ if text.contains("{{") => Ok(Self::Lines(Template::parse(text.trim_matches(' '))?)),
            // Docker would print it as it is, once for each row.
            _ => Err(Failure::usage("it is table, json or a template such as \"{{.ID}}\"")),
        }
    }
}

/// The flag, for verbs that list.
#[derive(Debug, Args)]
pub(super) struct FormatFlag {
    /// How to print: table, json, or a Go template such as 'table {{.ID}}\t{{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub(super) format: Format,
}

/// The values of one row's fields, under docker's names. `Label` is the labels
/// as JSON, for templates that ask for single ones.
pub(super) type Fields = Vec<(&'static str, String)>;

/// What is listed.
pub(super) struct Listing {
    /// Every field of a row and the heading of its column.
    pub(super) headings: &'static [(&'static str, &'static str)],
    /// The fields that are shown unasked.
    pub(super) shown: &'static [&'static str],
}

impl Listing {
    /// Prints `items`: as `fields` for people and templates, as `document`
    /// for programs.
    pub(super) fn print<'a, T, D: Serialize>(
        &self,
        format: &Format,
        items: &'a [T],
        fields: impl Fn(&T) -> Fields,
        document: impl Fn(&'a T) -> D,
    ) -> Result<()> {
        let row = |template: &Template, item: &T| -> Map<String, Value> {
            let value = |(name, value): (&str, String)| match name {
                LABEL_FIELD if !template.asks_for_labels => None,
                LABEL_FIELD => Some((name.to_owned(), serde_json::from_str(&value).unwrap_or_default())),
                _ => Some((name.to_owned(), Value::String(value))),
            };
            fields(item).into_iter().filter_map(value).collect()
        };
        let render = |template: &Template, item: &T| {
            template.render(&Value::Object(row(template, item))).map_err(|failure| self.with_fields(failure))
        };
        match format {
            Format::Json => output::json(&items.iter().map(document).collect::<Vec<_>>()),
            Format::Lines(template) => items.iter().try_for_each(|item| {
                output::text(&render(template, item)?);
                Ok(())
            }),
            Format::Columns(template) => {
                let headings = self.headings.iter().map(|(name, heading)| ((*name).to_owned(), Value::from(*heading)));
                let headings = template.render_headings(&headings.collect())?;
                let lines = items.iter().map(|item| render(template, item)).collect::<Result<Vec<_>>>()?;
                let cells = |line: &String| line.split('\t').map(str::to_owned).collect();
                output::table(&headings.split('\t').collect::<Vec<_>>(), lines.iter().map(cells).collect());
                Ok(())
            }
            Format::Table => {
                let heading = |shown: &&str| {
                    let heading = self.headings.iter().find(|(name, _)| name == shown);
                    heading.map_or("", |(_, heading)| heading)
                };
                let cells = |item: &T| {
                    let fields = fields(item);
                    let value = |shown: &&str| fields.iter().find(|(name, _)| name == shown);
                    let cell = |shown: &&str| value(shown).map(|(_, value)| value.clone()).unwrap_or_default();
                    self.shown.iter().map(cell).collect()
                };
                let headings: Vec<&str> = self.shown.iter().map(heading).collect();
                output::table(&headings, items.iter().map(cells).collect());
                Ok(())
            }
        }
    }

    fn with_fields(&self, failure: Failure) -> Failure {
        let names: Vec<String> = self.headings.iter().map(|(name, _)| format!(".{name}")).collect();
        failure.hint(format!("there are {}", names.join(", ")))
    }
}

/// How documents are printed (`inspect`).
#[derive(Debug, Clone)]
pub(super) enum DocumentFormat {
    /// All of them in one array.
    Json,
    /// A line for each.
    Lines(Template),
}

impl FromStr for DocumentFormat {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        match Format::from_str(text) {
            Ok(Format::Json) => Ok(Self::Json),
            Ok(Format::Lines(template)) => Ok(Self::Lines(template)),
            Err(failure) if text.contains("{{") => Err(failure),
            _ => Err(Failure::usage("it is json or a template such as \"{{.Id}}\"")),
        }
    }
}

impl DocumentFormat {
    /// Prints `documents`, in docker's field names.
    pub(super) fn print(&self, documents: &[Value]) -> Result<()> {
        match self {
            Self::Json => output::json(&documents),
            Self::Lines(template) => documents.iter().try_for_each(|document| {
                let text = template.render(document);
                output::text(&text.map_err(|failure| failure.hint("without --format you see all fields"))?);
                Ok(())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_forms() {
        let read = |text: &str| text.parse::<Format>();
        assert!(matches!(read("table"), Ok(Format::Table)));
        assert!(matches!(read("table {{.ID}}"), Ok(Format::Columns(_))));
        assert!(matches!(read("{{.ID}}"), Ok(Format::Lines(_))));
        assert!(matches!(read("json"), Ok(Format::Json)));
        for text in ["jsno", "tabel", "table x", "", "{{.ID", "table {{if}}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(matches!("json".parse(), Ok(DocumentFormat::Json)));
        assert!("table".parse::<DocumentFormat>().unwrap_err().to_string().contains("json or a template"));
        assert!("{{.ID".parse::<DocumentFormat>().unwrap_err().to_string().contains("not valid"));
    }
}
