//! What the value of a flag may be, by the flag's name. Pure.

use super::{Candidate, Object, Wanted};
use crate::flag::Flag;

/// Flags whose values are names of objects.
const OBJECTS: &[(&str, &[Object])] = &[
    ("context", &[Object::Context]),
    ("from", &[Object::Context]),
    ("link", &[Object::Container]),
    ("network", &[Object::Network]),
    ("volume", &[Object::Volume]),
    ("volumes-from", &[Object::Container]),
];

/// Flags whose values are paths.
const FILES: &[&str] = &[
    "cidfile",
    "config",
    "env-file",
    "label-file",
    "tlscacert",
    "tlscert",
    "tlskey",
];

const SIGNALS: &[&str] = &[
    "SIGABRT", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGTERM",
    "SIGUSR1", "SIGUSR2", "SIGWINCH",
];

/// Flags whose values are few.
const WORDS: &[(&str, &[&str])] = &[
    ("attach", &["stdin", "stdout", "stderr"]),
    ("cgroupns", &["host", "private"]),
    (
        "ipc",
        &["container:", "host", "none", "private", "shareable"],
    ),
    ("log-driver", &["json-file", "none"]),
    ("log-level", &["debug", "info", "warn", "error", "fatal"]),
    ("pid", &["container:", "host"]),
    ("pull", &["always", "missing", "never"]),
    ("restart", &["always", "no", "on-failure", "unless-stopped"]),
    ("signal", SIGNALS),
    ("stop-signal", SIGNALS),
    ("type", &["container", "image", "network", "volume"]),
    ("userns", &["host"]),
    ("uts", &["host"]),
    ("volume-driver", &["local"]),
];

/// What may be the value of a flag.
pub(super) fn of(flag: &Flag) -> Wanted {
    if let Some((_, objects)) = OBJECTS.iter().find(|(name, _)| *name == flag.long) {
        return Wanted::Names(objects);
    }
    if FILES.contains(&flag.long) {
        return Wanted::Files;
    }
    if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == flag.long) {
        let candidates = words.iter().map(|word| Candidate::new(*word, ""));
        return Wanted::Words(candidates.collect());
    }
    if flag.long == "env" {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let candidates = names.into_iter().map(|name| Candidate::new(name, ""));
        return Wanted::Words(candidates.collect());
    }
    Wanted::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Entry, GLOBAL_FLAGS, Node, ROOT};

    fn flags(entries: &'static [Entry], found: &mut Vec<&'static str>) {
        for entry in entries {
            match &entry.node {
                Node::Group { entries, .. } => flags(entries, found),
                Node::Command(command) => {
                    let all = command.flags.iter().flat_map(|table| table.iter());
                    found.extend(all.map(|flag| flag.long));
                }
            }
        }
    }

    #[test]
    fn every_flag_named_here_exists() {
        let mut known = Vec::new();
        flags(ROOT, &mut known);
        known.extend(
            GLOBAL_FLAGS
                .iter()
                .flat_map(|t| t.iter())
                .map(|flag| flag.long),
        );
        let named = OBJECTS.iter().map(|(name, _)| *name);
        let named = named.chain(FILES.iter().copied());
        for name in named.chain(WORDS.iter().map(|(name, _)| *name)) {
            assert!(known.contains(&name), "--{name}");
        }
    }
}
