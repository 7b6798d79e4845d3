//! Flags as runc takes them: `--name value`, `--name=value`, one dash or two,
//! short names, up to the first word that is none. It must not know verbs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;

/// Whether a flag takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// On, or off by `=false`.
    Switch,
    /// Takes a value; may be repeated.
    Value,
}

/// One flag a verb has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
}

/// A flag without a value.
pub(super) const fn switch(long: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        kind: Kind::Switch,
    }
}

/// A flag with a value.
pub(super) const fn value(long: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        kind: Kind::Value,
    }
}

impl Flag {
    pub(super) const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    fn is_called(&self, name: &[u8]) -> bool {
        let short = self
            .short
            .is_some_and(|s| name.len() == 1 && char::from(name[0]) == s);
        short || self.long.as_bytes() == name
    }
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, Vec<OsString>>,
    /// The words after the flags.
    pub(super) words: Vec<OsString>,
}

impl Given {
    /// Reads flags up to the first word that is none, or `--`.
    pub(super) fn parse(flags: &[Flag], args: &[OsString]) -> Result<Given, Error> {
        let mut given = Given::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let bytes = arg.as_bytes();
            if bytes == b"--" {
                break;
            }
            let Some(name) = bytes.strip_prefix(b"-").filter(|name| !name.is_empty()) else {
                given.words.push(arg.clone());
                break;
            };
            let name = name.strip_prefix(b"-").unwrap_or(name);
            let (name, inline) = match name.iter().position(|b| *b == b'=') {
                Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
                None => (name, None),
            };
            let Some(flag) = flags.iter().find(|flag| flag.is_called(name)) else {
                given.bundle(flags, arg, name, inline)?;
                continue;
            };
            let value = match (flag.kind, inline) {
                (_, Some(value)) => value.to_owned(),
                (Kind::Switch, None) => "true".into(),
                (Kind::Value, None) => rest.next().cloned().ok_or_else(|| {
                    Error::usage(format!("flag needs an argument: {}", arg.to_string_lossy()))
                })?,
            };
            given.values.entry(flag.long).or_default().push(value);
        }
        given.words.extend(rest.cloned());
        Ok(given)
    }

    /// `-dt`: several switches behind one dash.
    fn bundle(
        &mut self,
        flags: &[Flag],
        arg: &OsStr,
        name: &[u8],
        inline: Option<&OsStr>,
    ) -> Result<(), Error> {
        let unknown = || {
            Error::usage(format!(
                "flag provided but not defined: {}",
                arg.to_string_lossy()
            ))
        };
        if arg.as_bytes().starts_with(b"--") || inline.is_some() {
            return Err(unknown());
        }
        for letter in name {
            let flag = flags
                .iter()
                .find(|f| f.kind == Kind::Switch && f.short == Some(char::from(*letter)))
                .ok_or_else(unknown)?;
            self.values
                .entry(flag.long)
                .or_default()
                .push("true".into());
        }
        Ok(())
    }

    /// Whether a switch is on.
    pub(super) fn on(&self, long: &str) -> Result<bool, Error> {
        let Some(value) = self.values.get(long).and_then(|v| v.last()) else {
            return Ok(false);
        };
        match value.as_bytes() {
            b"true" | b"1" => Ok(true),
            b"false" | b"0" => Ok(false),
            _ => Err(Error::usage(format!(
                "invalid boolean value {value:?} for --{long}"
            ))),
        }
    }

    /// The last value of a flag.
    pub(super) fn value(&self, long: &str) -> Option<&OsStr> {
        self.values
            .get(long)
            .and_then(|v| v.last())
            .map(OsString::as_os_str)
    }

    /// The last value of a flag as a path from the root, whatever the working
    /// directory is later; an empty one counts as none.
    pub(super) fn path(&self, long: &str) -> Result<Option<PathBuf>, Error> {
        let Some(value) = self.value(long).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        std::path::absolute(value)
            .map(Some)
            .map_err(|e| Error::io("find", value, e))
    }

    /// The last value of a flag as text.
    pub(super) fn text(&self, long: &str) -> Result<Option<&str>, Error> {
        self.value(long).map(|value| text(value)).transpose()
    }

    /// Every value of a flag as text.
    pub(super) fn texts(&self, long: &str) -> Result<Vec<String>, Error> {
        let values = self.values.get(long).into_iter().flatten();
        values.map(|value| text(value).map(str::to_owned)).collect()
    }

    /// The last value of a flag as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, long: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.text(long)? else {
            return Ok(None);
        };
        value
            .parse()
            .map(Some)
            .map_err(|_| Error::usage(format!("invalid value {value:?} for --{long}")))
    }

    /// The only word: a container's id.
    pub(super) fn id(&self) -> Result<&str, Error> {
        match self.words.as_slice() {
            [id] => text(id),
            words => Err(Error::usage(format!(
                "one argument is needed, the container's id, not {}",
                words.len()
            ))),
        }
    }
}

/// Words and ids are text; paths need not be.
pub(super) fn text(value: &OsStr) -> Result<&str, Error> {
    value
        .to_str()
        .ok_or_else(|| Error::usage(format!("{value:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FLAGS: [Flag; 4] = [
        value("bundle").short('b'),
        switch("detach").short('d'),
        switch("tty").short('t'),
        value("env").short('e'),
    ];

    fn parse(args: &[&str]) -> Result<Given, Error> {
        Given::parse(&FLAGS, &args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn values_stand_behind_a_space_or_an_equals_sign() {
        for args in [
            ["--bundle", "/x"].as_slice(),
            &["-b", "/x"],
            &["--bundle=/x"],
            &["-bundle=/x"],
        ] {
            assert_eq!(
                parse(args).unwrap().path("bundle").unwrap().unwrap(),
                PathBuf::from("/x")
            );
        }
    }

    #[test]
    fn flags_end_at_the_first_word() {
        let given = parse(&["-dt", "-e", "A=b", "-e=C", "id", "ls", "--all"]).unwrap();
        assert!(given.on("detach").unwrap() && given.on("tty").unwrap());
        assert_eq!(given.texts("env").unwrap(), ["A=b", "C"]);
        assert_eq!(given.words, ["id", "ls", "--all"]);
        assert_eq!(parse(&["--", "-x"]).unwrap().words, ["-x"]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for args in [["--what"].as_slice(), &["-dx"], &["--bundle"], &["--dt"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&["--tty=maybe"]).unwrap().on("tty").is_err());
        assert!(!parse(&["--tty=false"]).unwrap().on("tty").unwrap());
    }
}
