//! Go's text/template language, as `--format` speaks it.
//!
//! ```text
//! text ──lex──► tokens ──parse──► nodes ──execute(data)──► text
//! ```
//!
//! Data is JSON or a [`Row`] of computed fields. Texts of errors and printed
//! values are those of Go's package, which users and scripts know. Size, nesting
//! and output are limited. It must not know any command or field name beyond the
//! hints in `value.rs`.

mod execute;
mod function;
mod lex;
mod literal;
mod node;
mod parse;
mod print;
mod printf;
mod value;

use std::collections::BTreeMap;

use node::List;
pub use value::{Document, Row, Val};

/// Longest template accepted, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Deepest nesting of blocks, parentheses and template calls.
const MAX_DEPTH: usize = 100;
/// Longest text one execution may produce, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// Why a template could not be parsed or executed, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    /// The name in error texts, mostly empty.
    name: String,
    text: String,
    root: List,
    /// Bodies of `define` and `block`, by name.
    defined: BTreeMap<String, List>,
}

/// What functions such as `upper` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What they say.
    Data,
    /// Nothing: the row is a table's header, printed as it is.
    Header,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_named("", text)
    }

    /// Parses a template whose errors carry a name.
    pub fn parse_named(name: &str, text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError(format!(
                "template: {name}:1: longer than {MAX_TEMPLATE_BYTES} bytes"
            )));
        }
        let (root, defined) = parse::parse(text)
            .map_err(|failure| TemplateError(format!("template: {name}:{failure}")))?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            root,
            defined,
        })
    }

    /// Executes the template on data.
    pub fn execute(&self, data: Val<'_>, mode: Mode) -> Result<String, TemplateError> {
        execute::execute(self, data, mode)
    }

    /// Executes the template on a row of computed fields.
    pub fn execute_row(&self, row: &dyn Row) -> Result<String, TemplateError> {
        self.execute(Val::Row(row), Mode::Data)
    }

    /// Executes the template on JSON.
    pub fn execute_json(&self, data: &serde_json::Value) -> Result<String, TemplateError> {
        self.execute(Val::borrowed(data), Mode::Data)
    }

    /// Whether the template is the data as JSON and nothing else.
    pub fn is_whole_json(&self) -> bool {
        self.text.trim() == "{{json .}}"
    }

    /// Whether a field of this name is read anywhere, such as `.Size`.
    ///
    /// A bare `.` counts, since it may print the whole row.
    pub fn reads(&self, field: &str) -> bool {
        node::reads(&self.root, field) || self.defined.values().any(|body| node::reads(body, field))
    }
}

#[cfg(test)]
mod tests;
