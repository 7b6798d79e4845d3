//! `NAME=value` pairs: `--env`, `--env-file`, `--label`, `--label-file` and the maps of other flags.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::error::CliError;

/// Longest file of variables or labels read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where a name without a value gets one from.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The client's own environment.
pub(super) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// One `--env`: a bare name takes its value from `lookup`, and stays bare without one.
pub(super) fn env(text: &str, lookup: Lookup) -> Result<String, String> {
    let (name, value) = cut(text);
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    match value.map_or_else(|| lookup(name), |_| None) {
        Some(found) => Ok(format!("{name}={found}")),
        None => Ok(text.to_owned()),
    }
}

/// Refuses an `--env` without a name.
pub(in crate::command::container) fn check_env(text: &str) -> Result<(), String> {
    env(text, &|_| None).map(drop)
}

/// Refuses a label without a name or with white space in it.
pub(super) fn check_label(text: &str) -> Result<(), String> {
    let name = cut(text).0.trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("label '{name}' contains whitespaces"));
    }
    Ok(())
}

/// The pairs of a file, one per line: no quoting, `#` begins a comment line, a byte order mark goes.
pub(super) fn read_file(path: &Path, lookup: Lookup) -> Result<Vec<String>, CliError> {
    let open = |source| CliError::open(path, source);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(open)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(CliError::message(format!(
            "invalid env file ({}): it is longer than 16 MiB",
            path.display()
        )));
    }
    parse_lines(&bytes, path, lookup).map_err(CliError::Message)
}

fn parse_lines(bytes: &[u8], path: &Path, lookup: Lookup) -> Result<Vec<String>, String> {
    let mut pairs = Vec::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| {
            format!(
                "invalid env file ({}): invalid utf8 bytes at line {}: {line:?}",
                path.display(),
                index + 1
            )
        })?;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = cut(line);
        let name = name.trim_start_matches([' ', '\t']);
        if name.contains([' ', '\t']) {
            return Err(format!(
                "invalid env file ({}): variable '{name}' contains whitespaces",
                path.display()
            ));
        }
        if name.is_empty() {
            return Err(format!(
                "invalid env file ({}): no variable name on line '{line}'",
                path.display()
            ));
        }
        // The value passes as it is, blanks and quotes included.
        pairs.push(match value {
            Some(value) => format!("{name}={value}"),
            // A name nobody gives a value is left out, unlike one named by a flag.
            None => match lookup(name) {
                Some(found) => format!("{name}={found}"),
                None => continue,
            },
        });
    }
    Ok(pairs)
}

/// Pairs as a map; a bare name has an empty value, the last of equal names wins.
pub(super) fn map<'a>(pairs: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| {
            let (name, value) = cut(pair);
            (name.to_owned(), value.unwrap_or_default().to_owned())
        })
        .collect()
}

/// A pair at its first `=`.
pub(super) fn cut(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn a_bare_variable_copies_the_clients_or_stays_bare() {
        assert_eq!(env("A=b", &lookup), Ok("A=b".into()));
        assert_eq!(env("A=", &lookup), Ok("A=".into()));
        assert_eq!(env("HOME", &lookup), Ok("HOME=/root".into()));
        assert_eq!(env("HOME=x", &lookup), Ok("HOME=x".into()));
        assert_eq!(env("NOPE", &lookup), Ok("NOPE".into()));
        assert_eq!(
            env("=x", &lookup),
            Err("invalid environment variable: =x".into())
        );
        assert_eq!(check_env(""), Err("invalid environment variable: ".into()));
    }

    #[test]
    fn a_file_is_taken_literally() {
        let text =
            b"\xef\xbb\xbfA=\"quoted\"\r\n\n  # comment\n  B= kept  \nC=a=b\nHOME\nNOPE\n#x\n";
        let pairs = parse_lines(text, Path::new("f"), &lookup).unwrap();
        assert_eq!(pairs, ["A=\"quoted\"", "B= kept  ", "C=a=b", "HOME=/root"]);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let parse = |text: &[u8]| parse_lines(text, Path::new("f"), &lookup).unwrap_err();
        assert_eq!(
            parse(b"a b=c"),
            "invalid env file (f): variable 'a b' contains whitespaces"
        );
        assert_eq!(
            parse(b"=c"),
            "invalid env file (f): no variable name on line '=c'"
        );
        assert_eq!(
            parse(b"ok=1\n\xff"),
            "invalid env file (f): invalid utf8 bytes at line 2: [255]"
        );
    }

    #[test]
    fn a_label_needs_a_name_without_blanks() {
        assert_eq!(check_label("a=b c"), Ok(()));
        assert_eq!(check_label("  a"), Ok(()));
        assert_eq!(
            check_label("=b"),
            Err("invalid label '=b': empty name".into())
        );
        assert_eq!(
            check_label("a b=c"),
            Err("label 'a b' contains whitespaces".into())
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_file(Path::new("/nonexistent/env"), &lookup).unwrap_err();
        assert_eq!(
            error.text().unwrap(),
            "open /nonexistent/env: no such file or directory"
        );
    }
}
