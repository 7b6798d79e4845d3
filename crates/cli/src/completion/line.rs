//! What a line wants at its end, from the tables of commands and flags. Pure.

use super::{Candidate, Object, Wanted, value};
use crate::command::{Command, Entry, Node, Section};
use crate::flag::{Flag, Kind};

/// What may stand in the place of the last word.
pub(super) fn wanted(
    tree: &'static [Entry],
    globals: &'static [&'static [Flag]],
    words: &[String],
) -> Wanted {
    let Some((typed, before)) = words.split_last() else {
        return entries(tree);
    };
    let scanned = Scan::of(globals, before, false);
    if let Some(wanted) = scanned.flag(globals, typed) {
        return wanted;
    }
    let mut names = tree;
    let mut path = scanned.args.iter();
    while let Some(word) = path.next() {
        if *word == "help" && std::ptr::eq(names, tree) {
            continue;
        }
        match names.iter().find(|entry| entry.is_called(word)) {
            Some(Entry {
                node: Node::Group { entries, .. },
                ..
            }) => names = entries,
            Some(Entry {
                node: Node::Command(command),
                ..
            }) => {
                let rest: Vec<String> = path.map(|word| (*word).to_owned()).collect();
                return of_command(command, &rest, typed);
            }
            None => return Wanted::Nothing,
        }
    }
    entries(names)
}

fn entries(names: &'static [Entry]) -> Wanted {
    let shown = names
        .iter()
        .filter(|entry| entry.section != Section::Hidden);
    Wanted::Words(
        shown
            .map(|entry| Candidate::new(entry.name, entry.about()))
            .collect(),
    )
}

fn of_command(command: &'static Command, before: &[String], typed: &str) -> Wanted {
    let scanned = Scan::of(command.flags, before, command.interspersed);
    if let Some(wanted) = scanned.flag(command.flags, typed) {
        return wanted;
    }
    argument(command.usage, scanned.args.len())
}

/// What a command's usage says about its n-th argument.
fn argument(usage: &'static str, index: usize) -> Wanted {
    let first_form = usage.lines().next().unwrap_or_default();
    let places: Vec<&str> = first_form
        .split_whitespace()
        .filter(|word| *word != "[OPTIONS]")
        .collect();
    let place = match places.get(index) {
        Some(place) => place,
        None => match places.last() {
            Some(last) if last.contains("...") => last,
            _ => return Wanted::Nothing,
        },
    };
    let word = place.trim_start_matches('[');
    let end = word.find([':', '[', ']', '|', '=', '/', '.']);
    let word = &word[..end.unwrap_or(word.len())];
    match word {
        "CONTAINER" => Wanted::Names(&[Object::Container]),
        "IMAGE" | "SOURCE_IMAGE" | "TARGET_IMAGE" | "REPOSITORY" => Wanted::Names(&[Object::Image]),
        "VOLUME" => Wanted::Names(&[Object::Volume]),
        "NETWORK" => Wanted::Names(&[Object::Network]),
        "CONTEXT" => Wanted::Names(&[Object::Context]),
        "NAME" => Wanted::Names(&[
            Object::Container,
            Object::Image,
            Object::Volume,
            Object::Network,
        ]),
        "file" | "FILE" | "PATH" | "DIRECTORY" | "COMMAND" | "ARG" => Wanted::Files,
        _ => Wanted::Nothing,
    }
}

/// The words before the last one, read without complaint.
struct Scan<'a> {
    /// A flag that waits for its value.
    pending: Option<&'static Flag>,
    args: Vec<&'a str>,
    /// Whether no flag may follow.
    is_closed: bool,
}

impl<'a> Scan<'a> {
    fn of(tables: &'static [&'static [Flag]], words: &'a [String], interspersed: bool) -> Self {
        let mut scan = Self {
            pending: None,
            args: Vec::new(),
            is_closed: false,
        };
        for word in words {
            if scan.pending.take().is_some() {
                continue;
            }
            if scan.is_closed || !word.starts_with('-') || word == "-" {
                scan.args.push(word);
                scan.is_closed |= !interspersed;
            } else if word == "--" {
                scan.is_closed = true;
            } else if let Some(long) = word.strip_prefix("--") {
                let flag = all(tables).find(|flag| flag.long == long);
                scan.pending = flag.filter(|flag| takes_value(flag));
            } else {
                scan.pending = last_of_bundle(tables, &word[1..]);
            }
        }
        scan
    }

    /// What is wanted if the cursor is at a flag or its value.
    fn flag(&self, tables: &'static [&'static [Flag]], typed: &str) -> Option<Wanted> {
        if let Some(flag) = self.pending {
            return Some(value::of(flag));
        }
        if self.is_closed || !typed.starts_with('-') {
            return None;
        }
        if let Some((long, _)) = typed.split_once('=') {
            let long = long.trim_start_matches('-');
            let flag = all(tables).find(|flag| flag.long == long);
            return Some(flag.map_or(Wanted::Nothing, value::of));
        }
        let mut flags: Vec<&Flag> = all(tables).filter(|flag| !flag.hidden).collect();
        flags.sort_by_key(|flag| flag.long);
        let mut words: Vec<Candidate> = flags
            .iter()
            .map(|flag| Candidate::new(format!("--{}", flag.long), flag.help))
            .collect();
        if !typed.starts_with("--") {
            let short = flags.iter().filter_map(|flag| Some((flag.short?, flag)));
            words.extend(short.map(|(c, flag)| Candidate::new(format!("-{c}"), flag.help)));
        }
        words.push(Candidate::new("--help", "Print usage"));
        Some(Wanted::Words(words))
    }
}

fn all(tables: &'static [&'static [Flag]]) -> impl Iterator<Item = &'static Flag> {
    tables.iter().flat_map(|table| table.iter())
}

fn takes_value(flag: &Flag) -> bool {
    !matches!(flag.kind, Kind::Bool | Kind::OptionalString(_))
}

/// The flag of `-itv` that waits for a value; none if its value is in the word.
fn last_of_bundle(tables: &'static [&'static [Flag]], letters: &str) -> Option<&'static Flag> {
    let mut letters = letters.chars().peekable();
    while let Some(letter) = letters.next() {
        let flag = all(tables).find(|flag| flag.short == Some(letter))?;
        if takes_value(flag) {
            return letters.peek().is_none().then_some(flag);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::{GLOBAL_FLAGS, ROOT};

    fn of(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wanted(ROOT, GLOBAL_FLAGS, &words)
    }

    fn words(line: &str) -> Vec<String> {
        match of(line) {
            Wanted::Words(words) => words.into_iter().map(|it| it.word).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_command_and_every_flag_is_offered() {
        fn check(path: &str, entries: &'static [Entry]) {
            let offered = words(format!("{path} ").trim_start());
            for entry in entries {
                let path = format!("{path} {}", entry.name).trim_start().to_owned();
                let is_shown = entry.section != Section::Hidden;
                assert_eq!(
                    offered.iter().any(|word| word == entry.name),
                    is_shown,
                    "{path}"
                );
                match &entry.node {
                    Node::Group { entries, .. } => check(&path, entries),
                    Node::Command(command) => {
                        let offered = words(&format!("{path} -"));
                        for flag in all(command.flags).filter(|flag| !flag.hidden) {
                            assert!(offered.contains(&format!("--{}", flag.long)), "{path}");
                        }
                    }
                }
            }
        }
        check("", ROOT);
    }

    #[test]
    fn arguments_are_what_the_usage_says() {
        let container = || Wanted::Names(&[Object::Container]);
        for line in [
            "stop ",
            "stop one t",
            "container rm -f ",
            "exec -it ",
            "logs --tail 5 ",
        ] {
            assert_eq!(of(line), container(), "{line}");
        }
        let image = || Wanted::Names(&[Object::Image]);
        for line in [
            "run ",
            "run -it --rm --name x ",
            "rmi a ",
            "tag ",
            "images ",
            "-D run -v a:b ",
        ] {
            assert_eq!(of(line), image(), "{line}");
        }
        assert_eq!(of("volume rm "), Wanted::Names(&[Object::Volume]));
        assert_eq!(of("run busybox -"), Wanted::Files);
        assert_eq!(of("rename a "), Wanted::Nothing);
        assert_eq!(of("version "), Wanted::Nothing);
        assert_eq!(of("nosuch "), Wanted::Nothing);
    }

    #[test]
    fn values_of_flags_come_before_arguments() {
        assert_eq!(of("run --network "), Wanted::Names(&[Object::Network]));
        assert_eq!(of("run --network="), Wanted::Names(&[Object::Network]));
        assert_eq!(
            of("run -ite "),
            value::of(all(container_flags()).find(|f| f.long == "env").unwrap())
        );
        assert_eq!(of("run -p8080:80 "), Wanted::Names(&[Object::Image]));
        assert_eq!(of("--context "), Wanted::Names(&[Object::Context]));
        assert_eq!(of("-c "), Wanted::Names(&[Object::Context]));
        assert!(words("run --restart ").contains(&"unless-stopped".to_owned()));
        assert!(words("help ").contains(&"volume".to_owned()));
        assert!(words("help volume ").contains(&"prune".to_owned()));
    }

    fn container_flags() -> &'static [&'static [Flag]] {
        crate::command::container::run::COMMAND.flags
    }
}
