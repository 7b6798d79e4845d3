//! Manual pages, one for the program, each group and each command, made from
//! the tables that parsing and help are made from. Pure: text in roff(7), man(7).
//!
//! It must not know any single command.

use crate::command::{Command, Entry, Node, Section};
use crate::flag::{Flag, Kind};

/// A page: its file name, `conex-container-run.1`, and its text.
pub(crate) type Page = (String, String);

/// Every page of a tree.
pub(crate) fn pages(
    program: &str,
    tree: &'static [Entry],
    globals: &'static [&'static [Flag]],
) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut text = head(&[program], "a container engine in one binary");
    text.push_str(&format!(
        ".SH SYNOPSIS\n\\fB{program}\\fR [OPTIONS] COMMAND [ARG...]\n"
    ));
    text.push_str(".SH OPTIONS\n");
    options(&mut text, globals);
    commands(&mut text, &[program], tree);
    text.push_str(
        ".SH FILES\n.TP\n\\fI~/.docker/config.json\\fR\nSettings of the client, shared with Docker's tools.\n\
         .TP\n\\fI~/.docker/cli-plugins\\fR\nMore commands: programs called \\fBdocker\\-NAME\\fR.\n\
         .SH ENVIRONMENT\n.TP\n\\fBCONEX_HOST\\fR, \\fBDOCKER_HOST\\fR\nWhere the engine listens.\n\
         .TP\n\\fBDOCKER_CONTEXT\\fR\nThe context to use.\n\
         .TP\n\\fBDOCKER_CONFIG\\fR\nThe directory of the client's settings.\n"
    );
    pages.push((format!("{program}.1"), text));
    below(&mut pages, &[program], tree);
    pages
}

fn below(pages: &mut Vec<Page>, path: &[&str], entries: &'static [Entry]) {
    for entry in entries
        .iter()
        .filter(|entry| entry.section != Section::Hidden)
    {
        let path = [path, &[entry.name]].concat();
        let text = match &entry.node {
            Node::Command(command) => of_command(&path, command),
            Node::Group { about, entries } => {
                below(pages, &path, entries);
                let mut text = head(&path, about);
                text.push_str(&format!(
                    ".SH SYNOPSIS\n\\fB{}\\fR COMMAND\n",
                    escaped(&path.join(" "))
                ));
                commands(&mut text, &path, entries);
                see_also(&mut text, &path);
                text
            }
        };
        pages.push((format!("{}.1", path.join("-")), text));
    }
}

fn of_command(path: &[&str], command: &Command) -> String {
    let mut text = head(path, command.about);
    text.push_str(".SH SYNOPSIS\n");
    for form in command.usage.lines().chain(
        // A command without arguments has an empty usage, which has no lines.
        command.usage.is_empty().then_some(""),
    ) {
        let form = escaped(form.trim());
        text.push_str(&format!(
            "\\fB{}\\fR {form}\n.br\n",
            escaped(&path.join(" "))
        ));
    }
    text.push_str(&format!(".SH DESCRIPTION\n{}\n", escaped(command.about)));
    if !command.spellings.is_empty() {
        let program = path.first().copied().unwrap_or_default();
        text.push_str(".PP\nThe same by other names:\n");
        for spelling in command.spellings {
            text.push_str(&format!(
                ".br\n\\fB{}\\fR\n",
                escaped(&format!("{program} {spelling}"))
            ));
        }
    }
    if command
        .flags
        .iter()
        .any(|table| table.iter().any(|flag| !flag.hidden))
    {
        text.push_str(".SH OPTIONS\n");
        options(&mut text, command.flags);
    }
    see_also(&mut text, path);
    text
}

fn head(path: &[&str], about: &str) -> String {
    let name = path.join("-");
    let about = about.trim_end_matches('.');
    format!(
        ".TH \"{}\" 1 \"\" \"Conex {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        crate::VERSION,
        escaped(&name),
        escaped(about)
    )
}

fn options(text: &mut String, tables: &[&[Flag]]) {
    let mut flags: Vec<&Flag> = tables.iter().flat_map(|table| table.iter()).collect();
    flags.retain(|flag| !flag.hidden);
    flags.sort_by_key(|flag| flag.long);
    for flag in flags {
        text.push_str(".TP\n");
        if let Some(letter) = flag.short {
            text.push_str(&format!("\\fB\\-{letter}\\fR, "));
        }
        text.push_str(&format!("\\fB\\-\\-{}\\fR", escaped(flag.long)));
        match flag.kind {
            Kind::Bool => {}
            kind => text.push_str(&format!(" \\fI{}\\fR", escaped(kind.type_name()))),
        }
        text.push('\n');
        for line in flag.help.lines() {
            text.push_str(&format!("{}\n.br\n", escaped(line)));
        }
        if !flag.default.is_empty() && flag.default != "map[]" {
            let default = flag.default.replace("{config}", "~/.docker");
            text.push_str(&format!("Default: {}\n", escaped(&default)));
        }
    }
}

fn commands(text: &mut String, path: &[&str], entries: &[Entry]) {
    text.push_str(".SH COMMANDS\n");
    for entry in entries
        .iter()
        .filter(|entry| entry.section != Section::Hidden)
    {
        let page = [path, &[entry.name]].concat().join("-");
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR\n{} See \\fB{}\\fR(1).\n",
            escaped(entry.name),
            escaped(&format!("{}.", entry.about().trim_end_matches('.'))),
            escaped(&page)
        ));
    }
}

fn see_also(text: &mut String, path: &[&str]) {
    let above = &path[..path.len().saturating_sub(1)];
    text.push_str(&format!(
        ".SH SEE ALSO\n\\fB{}\\fR(1)\n",
        escaped(&above.join("-"))
    ));
}

/// Text that roff prints as it is.
fn escaped(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::{GLOBAL_FLAGS, ROOT};

    #[test]
    fn every_command_has_a_page_with_every_flag() {
        fn check(pages: &[Page], path: &str, entries: &'static [Entry]) {
            for entry in entries {
                let path = format!("{path}-{}", entry.name);
                let page = pages.iter().find(|(name, _)| *name == format!("{path}.1"));
                if entry.section == Section::Hidden {
                    assert!(page.is_none(), "{path}");
                    continue;
                }
                let (_, text) = page.unwrap();
                match &entry.node {
                    Node::Group { entries, .. } => check(pages, &path, entries),
                    Node::Command(command) => {
                        for flag in command.flags.iter().flat_map(|table| table.iter()) {
                            let spelt = format!("\\-\\-{}\\fR", escaped(flag.long));
                            assert_eq!(text.contains(&spelt), !flag.hidden, "{path} {spelt}");
                        }
                    }
                }
            }
        }
        let pages = pages("conex", ROOT, GLOBAL_FLAGS);
        check(&pages, "conex", ROOT);
    }

    #[test]
    fn no_line_is_taken_for_a_request() {
        assert_eq!(escaped(".dockerignore a-b"), "\\&.dockerignore a\\-b");
        assert_eq!(escaped("C:\\x"), "C:\\ex");
        for (name, text) in pages("conex", ROOT, GLOBAL_FLAGS) {
            for line in text.lines().filter(|line| line.starts_with('.')) {
                let word = line.split(' ').next().unwrap();
                assert!(
                    [".TH", ".SH", ".TP", ".PP", ".br"].contains(&word),
                    "{name}: {line}"
                );
            }
        }
    }
}
