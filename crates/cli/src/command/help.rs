//! Help texts, derived from the tables, in the layout Docker's users know.
//!
//! It must not know any single command.

use std::collections::BTreeMap;

use super::{Command, Entry, Section};
use crate::flag::{Flag, Kind};
use crate::plugin::Metadata;

/// Columns when standard input is no terminal.
const DEFAULT_COLUMNS: usize = 80;
/// Narrowest column of names in a list of commands.
const NAME_COLUMNS: usize = 11;
/// Stands in a default for the configuration directory.
pub(super) const CONFIG_DIR: &str = "{config}";

/// Columns of the terminal help is shown on.
pub(super) fn columns() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_COLUMNS,
    }
}

/// The usage line of a command: `conex run [OPTIONS] IMAGE`.
pub(super) fn usage_line(path: &str, command: &Command) -> String {
    format!("{path} {}", command.usage).trim_end().to_owned()
}

/// Help of a command.
pub(super) fn command(path: &str, program: &str, command: &Command, columns: usize) -> String {
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_line(path, command),
        command.about
    );
    if !command.spellings.is_empty() {
        let spellings: Vec<String> = command
            .spellings
            .iter()
            .map(|spelling| format!("{program} {spelling}"))
            .collect();
        text.push_str(&format!("\nAliases:\n  {}\n", spellings.join(", ")));
    }
    let options = options(command.flags, "", columns);
    if !options.is_empty() {
        text.push_str(&format!("\nOptions:\n{options}"));
    }
    text
}

/// Help of a group.
pub(super) fn group(path: &str, about: &str, entries: &[Entry]) -> String {
    let mut text = format!("Usage:  {path} COMMAND\n\n{about}\n");
    for (heading, sections) in [
        ("Management Commands", [Section::Management].as_slice()),
        ("Commands", &[Section::Common, Section::Other]),
    ] {
        text.push_str(&list(heading, entries, sections));
    }
    text.push_str(&format!(
        "\nRun '{path} COMMAND --help' for more information on a command.\n"
    ));
    text
}

/// Help of the program itself.
pub(super) fn root(
    program: &str,
    entries: &[Entry],
    globals: &'static [&'static [Flag]],
    config_dir: &str,
    columns: usize,
    plugins: &BTreeMap<String, Metadata>,
) -> String {
    let mut text =
        format!("Usage:  {program} [OPTIONS] COMMAND\n\nA container engine in one binary\n");
    for (heading, section) in [
        ("Common Commands", Section::Common),
        ("Management Commands", Section::Management),
        ("Commands", Section::Other),
    ] {
        text.push_str(&list(heading, entries, &[section]));
    }
    if !plugins.is_empty() {
        text.push_str("\nPlugins:\n");
    }
    for (name, plugin) in plugins {
        let about = &plugin.short_description;
        text.push_str(&format!("  {name:NAME_COLUMNS$} {about}\n"));
    }
    text.push_str("\nGlobal Options:\n");
    text.push_str(&options(globals, config_dir, columns));
    text.push_str(&format!(
        "\nRun '{program} COMMAND --help' for more information on a command.\n"
    ));
    text
}

/// The entries of some sections under a heading, nothing when there are none.
fn list(heading: &str, entries: &[Entry], sections: &[Section]) -> String {
    let listed: Vec<&Entry> = entries
        .iter()
        .filter(|entry| sections.contains(&entry.section))
        .collect();
    if listed.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{heading}:\n");
    for entry in listed {
        text.push_str(&format!(
            "  {:NAME_COLUMNS$} {}\n",
            entry.name,
            entry.about()
        ));
    }
    text
}

/// The lines about flags, by name, wrapped to the terminal.
fn options(tables: &[&[Flag]], config_dir: &str, columns: usize) -> String {
    let mut flags: Vec<&Flag> = tables
        .iter()
        .flat_map(|table| table.iter())
        .filter(|flag| !flag.hidden)
        .collect();
    flags.sort_by_key(|flag| flag.long);
    let rows: Vec<(String, String)> = flags
        .iter()
        .map(|flag| (spelling(flag), explanation(flag, config_dir)))
        .collect();
    // One column for the gap before the text, as the original reckons it.
    let left = rows
        .iter()
        .map(|(spelling, _)| spelling.len() + 1)
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (spelling, explanation) in rows {
        text.push_str(&format!("{spelling:left$}  "));
        text.push_str(&wrap(&explanation, left + 2, columns.saturating_sub(1)));
        text.push('\n');
    }
    text
}

/// `  -m, --memory bytes`.
fn spelling(flag: &Flag) -> String {
    let mut text = match flag.short {
        Some(letter) => format!("  -{letter}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    let name = flag.kind.type_name();
    if !name.is_empty() {
        text.push_str(&format!(" {name}"));
    }
    if let Kind::OptionalString(implied) = flag.kind {
        text.push_str(&format!("[=\"{implied}\"]"));
    }
    text
}

/// The help text and the default.
fn explanation(flag: &Flag, config_dir: &str) -> String {
    let default = flag.default.replace(CONFIG_DIR, config_dir);
    match flag.kind {
        _ if default.is_empty() => flag.help.to_owned(),
        Kind::String | Kind::OptionalString(_) => {
            format!(
                "{} (default {})",
                flag.help,
                crate::flag::go_quote(&default)
            )
        }
        _ => format!("{} (default {default})", flag.help),
    }
}

/// Wraps a text to `columns`, its lines after the first indented.
///
/// Up to five characters too many stay on the line rather than wrap.
fn wrap(text: &str, indent: usize, columns: usize) -> String {
    const SLOP: usize = 5;
    const NARROWEST: usize = 24;
    let mut indent = indent;
    let mut wrapped = String::new();
    let mut room = columns.saturating_sub(indent);
    if room < NARROWEST {
        indent = 16;
        room = columns.saturating_sub(indent);
        wrapped.push('\n');
        wrapped.push_str(&" ".repeat(indent));
    }
    let break_line = format!("\n{}", " ".repeat(indent));
    if room < NARROWEST {
        return text.replace('\n', &break_line);
    }
    let mut rest = text;
    let mut first = true;
    while first || !rest.is_empty() {
        let (line, tail) = cut(rest, room - SLOP, SLOP);
        if !first {
            wrapped.push_str(&break_line);
        }
        wrapped.push_str(&line.replace('\n', &break_line));
        rest = tail;
        first = false;
    }
    wrapped
}

/// The text up to a blank before `room`, and the rest.
fn cut(text: &str, room: usize, slop: usize) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let room = (0..=room)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let head = &text[..room];
    let Some(blank) = head.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else {
        return (text, "");
    };
    let at = head
        .rfind('\n')
        .filter(|newline| *newline > 0 && *newline < blank)
        .unwrap_or(blank);
    (&text[..at], &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::Kind;

    const FLAGS: &[Flag] = &[
        Flag::bool(
            "detach",
            "Run container in background and print container ID",
        )
        .short('d'),
        Flag::list(
            "blkio-weight-device",
            "Block IO weight (relative device weight)",
        )
        .default("[]"),
        Flag::string(
            "pull",
            "Pull image before running (\"always\", \"missing\", \"never\")",
        )
        .default("missing"),
        Flag::new(Kind::Bytes, "memory", "Memory limit").short('m'),
        Flag::bool("secret", "not shown").hidden(),
    ];

    #[test]
    fn options_are_sorted_aligned_and_wrapped() {
        let expected = "      --blkio-weight-device list   Block IO weight (relative device\n                                   weight) (default [])\n  -d, --detach                     Run container in background and print\n                                   container ID\n  -m, --memory bytes               Memory limit\n      --pull string                Pull image before running (\"always\",\n                                   \"missing\", \"never\") (default \"missing\")\n";
        assert_eq!(options(&[FLAGS], "", 80), expected);
    }

    #[test]
    fn line_breaks_in_help_are_kept_and_indented() {
        let flags = &[Flag::string(
            "format",
            "Format output:\n'json':  Print in JSON format",
        )];
        let expected = "      --format string   Format output:\n                        'json':  Print in JSON format\n";
        assert_eq!(options(&[flags], "", 80), expected);
    }

    #[test]
    fn a_narrow_terminal_puts_the_text_below() {
        let flags = &[Flag::string(
            "format-of-everything",
            "Format output in some way",
        )];
        let expected =
            "      --format-of-everything string   \n                Format output in some way\n";
        assert_eq!(options(&[flags], "", 50), expected);
    }
}
