//! Lists of rows as `--format` asks: a table, JSON lines, or a template per row.
//!
//! It must not know which objects are listed.

use std::io::Write;

use serde_json::{Map, Value};

use crate::error::CliError;
use crate::output::Output;
use crate::table;
use crate::template::{Mode, Row, Template, Val};

/// The word for the default table.
pub const TABLE: &str = "table";
/// The word for one JSON object per line.
pub const JSON: &str = "json";
/// The word for several lines per object.
pub const RAW: &str = "raw";

/// Help of `--format` for lists.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// Help of `--format` for single objects.
pub const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// How a list is printed.
#[derive(Debug)]
pub struct Listing {
    template: Template,
    is_table: bool,
}

impl Listing {
    /// Prepares a format: `table TEMPLATE`, `json` or `TEMPLATE`.
    ///
    /// Outside of actions `\t` and `\n` stand for a tab and a line break.
    pub fn new(format: &str) -> Result<Self, CliError> {
        let (text, is_table) = match format {
            JSON => ("{{json .}}", false),
            _ => match format.strip_prefix(TABLE) {
                Some(rest) => (rest, true),
                None => (format, false),
            },
        };
        let text = text
            .trim_matches(' ')
            .replace("\\t", "\t")
            .replace("\\n", "\n");
        let template = Template::parse(&text).map_err(|source| CliError::Template {
            prefix: "template parsing error: ",
            source,
            code: crate::error::EXIT_FAILURE,
        })?;
        Ok(Self { template, is_table })
    }

    /// Prints the rows, under their headers where it is a table.
    pub fn print<R: Row>(
        &self,
        out: &mut Output,
        headers: &'static [(&'static str, &'static str)],
        rows: &[R],
    ) -> Result<(), CliError> {
        let mut text = String::new();
        if self.is_table {
            let header = Header(headers);
            // A template that fails on headers fails on the rows too, and says so there.
            text.push_str(
                &self
                    .template
                    .execute(Val::Row(&header), Mode::Header)
                    .unwrap_or_default(),
            );
            text.push('\n');
        }
        for row in rows {
            let line = self
                .template
                .execute_row(row)
                .map_err(|source| CliError::Template {
                    prefix: "template parsing error: ",
                    source,
                    code: crate::error::EXIT_FAILURE,
                })?;
            text.push_str(&line);
            text.push('\n');
        }
        let text = if self.is_table {
            table::align(&text, table::LIST)
        } else {
            text
        };
        out.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Column headers in place of a row.
struct Header(&'static [(&'static str, &'static str)]);

impl Row for Header {
    fn type_name(&self) -> &'static str {
        "formatter.SubHeaderContext"
    }

    fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        if name == "Label" {
            let label = args.first().and_then(Value::as_str).unwrap_or_default();
            let last = label.rsplit('.').next().unwrap_or_default();
            return Some(Ok(Value::String(last.replace(['-', '_'], " "))));
        }
        let header = self.0.iter().find(|(field, _)| *field == name);
        Some(Ok(header.map_or(Value::Null, |(_, header)| {
            Value::String((*header).to_owned())
        })))
    }

    fn arguments(&self, name: &str) -> usize {
        usize::from(name == "Label")
    }

    fn to_json(&self) -> Value {
        let fields = self
            .0
            .iter()
            .map(|(field, header)| ((*field).to_owned(), Value::from(*header)));
        Value::Object(fields.collect::<Map<_, _>>())
    }
}

/// A row's fields by sorted name, as JSON lines show them.
pub fn row_json(row: &dyn Row, names: &[&str]) -> Value {
    let mut names = names.to_vec();
    names.sort_unstable();
    let fields = names.into_iter().filter_map(|name| {
        let value = row.field(name, &[])?.ok()?;
        Some((name.to_owned(), value))
    });
    Value::Object(fields.collect())
}

/// The first 12 characters of an id, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.char_indices().nth(12).map_or(hex, |(at, _)| &hex[..at])
}

/// A text of at most `width` characters, the last one an ellipsis when cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct Pair(&'static str, &'static str);

    impl Row for Pair {
        fn type_name(&self) -> &'static str {
            "*formatter.pair"
        }

        fn field(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
            match name {
                "A" => Some(Ok(Value::from(self.0))),
                "B" => Some(Ok(Value::from(self.1))),
                "Label" => Some(Ok(args.first().cloned().unwrap_or_default())),
                _ => None,
            }
        }

        fn arguments(&self, name: &str) -> usize {
            usize::from(name == "Label")
        }

        fn to_json(&self) -> Value {
            row_json(self, &["B", "A"])
        }
    }

    const HEADERS: &[(&str, &str)] = &[("A", "FIRST"), ("B", "SECOND ONE")];

    fn printed(format: &str) -> Result<String, CliError> {
        let mut out = Output::keeping();
        Listing::new(format)?.print(
            &mut out,
            HEADERS,
            &[Pair("x", "y>z"), Pair("longer than that", "")],
        )?;
        Ok(String::from_utf8(out.kept().to_vec()).unwrap())
    }

    #[test]
    fn a_table_has_headers_and_columns() {
        assert_eq!(
            printed("table {{.A}}\\t{{.B}}").unwrap(),
            "FIRST              SECOND ONE\nx                  y>z\nlonger than that   \n"
        );
    }

    #[test]
    fn functions_leave_headers_as_they_are() {
        let text = printed("table {{upper .A}}\\t{{.Label \"com.example.my-label\"}}").unwrap();
        assert_eq!(text.lines().next().unwrap(), "FIRST              my label");
    }

    #[test]
    fn an_unknown_column_has_no_header_and_fails_on_rows() {
        let error = printed("table {{.C}}").unwrap_err();
        assert_eq!(
            error.text().unwrap(),
            "template parsing error: template: :1:2: executing \"\" at <.C>: can't evaluate field C in type *formatter.pair"
        );
    }

    #[test]
    fn json_lines_have_sorted_keys_and_escape_html() {
        assert_eq!(
            printed("json").unwrap().lines().next().unwrap(),
            r#"{"A":"x","B":"y\u003ez"}"#
        );
    }

    #[test]
    fn a_plain_template_keeps_tabs() {
        assert_eq!(
            printed("{{.A}}\\t{{.B}}").unwrap(),
            "x\ty>z\nlonger than that\t\n"
        );
    }

    #[test]
    fn ids_lose_their_algorithm_and_long_texts_their_end() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(
            ellipsis("sh -c 'echo hi; exit 4'", 20),
            "sh -c 'echo hi; exi…"
        );
        assert_eq!(ellipsis("exactly twenty chars", 20), "exactly twenty chars");
    }
}
