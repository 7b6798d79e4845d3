//! The parser: words of a command line against constant flag tables.
//!
//! It must not know commands or print; a wrong word comes back as [`FlagError`].

use super::value::{go_quote, parse_bool, parse_duration_ns, parse_float, parse_int, parse_uint};
use super::{Flag, Kind, Matches, split_csv};

/// A word of the command line that no flag table explains; the text is the user's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such long flag.
    #[error("unknown flag: --{0}")]
    Unknown(String),
    /// No such letter.
    #[error("unknown shorthand flag: {} in -{rest}", quote_char(*.letter))]
    UnknownShorthand {
        /// The letter.
        letter: char,
        /// The bundle from that letter on.
        rest: String,
    },
    /// `---x` or `--=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A long flag at the end of the line without its value.
    #[error("flag needs an argument: {0}")]
    NeedsArgument(String),
    /// A letter at the end of the line without its value.
    #[error("flag needs an argument: {} in -{rest}", quote_char(*.letter))]
    ShorthandNeedsArgument {
        /// The letter.
        letter: char,
        /// The bundle from that letter on.
        rest: String,
    },
    /// A value its flag refuses.
    #[error("invalid argument {} for {} flag: {reason}", go_quote(.value), go_quote(.flag))]
    InvalidArgument {
        /// The value as given.
        value: String,
        /// The flag in both spellings.
        flag: String,
        /// Why it is refused.
        reason: String,
    },
}

/// Quotes a character as Go's `%q` does.
fn quote_char(letter: char) -> String {
    match letter {
        '\'' => "'\\''".to_owned(),
        '\\' => "'\\\\'".to_owned(),
        letter => format!("'{letter}'"),
    }
}

/// Parses the words after a command's name.
///
/// With `interspersed` false the first word that is no flag ends the flags:
/// what follows belongs to the container's command.
pub fn parse(
    flags: &'static [&'static [Flag]],
    words: &[String],
    interspersed: bool,
) -> Result<Matches, FlagError> {
    let mut parser = Parser {
        matches: Matches {
            flags,
            ..Matches::default()
        },
        words,
        at: 0,
    };
    while let Some(word) = parser.next_word() {
        if word.len() < 2 || !word.starts_with('-') {
            parser.matches.args.push(word.to_owned());
            if !interspersed {
                parser.take_rest();
            }
        } else if word == "--" {
            parser.take_rest();
        } else if let Some(name) = word.strip_prefix("--") {
            parser.long(word, name)?;
        } else {
            parser.bundle(&word[1..])?;
        }
    }
    Ok(parser.matches)
}

struct Parser<'a> {
    matches: Matches,
    words: &'a [String],
    at: usize,
}

impl<'a> Parser<'a> {
    fn next_word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn take_rest(&mut self) {
        self.matches.args.extend_from_slice(&self.words[self.at..]);
        self.at = self.words.len();
    }

    fn find(&self, wanted: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
        self.matches
            .flags
            .iter()
            .flat_map(|table| table.iter())
            .find(|flag| wanted(flag))
    }

    fn long(&mut self, word: &str, name: &str) -> Result<(), FlagError> {
        if name.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(word.to_owned()));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(flag) = self.find(|flag| flag.long == name) else {
            if name == "help" {
                self.matches.help = value.is_none_or(|value| parse_bool(value).unwrap_or(false));
                return Ok(());
            }
            return Err(FlagError::Unknown(name.to_owned()));
        };
        let value = match (value, value_without_equals(flag)) {
            (Some(value), _) => value,
            (None, Some(implied)) => implied,
            (None, None) => match self.next_word() {
                Some(next) => next,
                None => return Err(FlagError::NeedsArgument(word.to_owned())),
            },
        };
        self.set(flag, value)
    }

    fn bundle(&mut self, letters: &str) -> Result<(), FlagError> {
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            let Some(flag) = self.find(|flag| flag.short == Some(letter)) else {
                if letter == 'h' {
                    let notice = "Flag shorthand -h has been deprecated, use --help".to_owned();
                    self.matches.notices.push(notice);
                    self.matches.help = true;
                    return Ok(());
                }
                return Err(FlagError::UnknownShorthand {
                    letter,
                    rest: rest.to_owned(),
                });
            };
            // A lone `=` after the letter is the value itself, as in pflag.
            if after.len() > 1
                && let Some(value) = after.strip_prefix('=')
            {
                return self.set(flag, value);
            }
            if let Some(implied) = value_without_equals(flag) {
                self.set(flag, implied)?;
                rest = after;
                continue;
            }
            if !after.is_empty() {
                return self.set(flag, after);
            }
            return match self.next_word() {
                Some(next) => self.set(flag, next),
                None => Err(FlagError::ShorthandNeedsArgument {
                    letter,
                    rest: rest.to_owned(),
                }),
            };
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), FlagError> {
        let refused = |reason: String| FlagError::InvalidArgument {
            value: value.to_owned(),
            flag: flag.spelling(),
            reason,
        };
        let mut fields = None;
        match flag.kind {
            Kind::Bool => drop(parse_bool(value).map_err(refused)?),
            Kind::String | Kind::OptionalString(_) | Kind::List => {}
            Kind::Int => drop(parse_int(value).map_err(refused)?),
            Kind::Uint => drop(parse_uint(value, 64).map_err(refused)?),
            Kind::Uint16 => drop(parse_uint(value, 16).map_err(refused)?),
            Kind::Float => drop(parse_float(value).map_err(refused)?),
            Kind::Duration => drop(parse_duration_ns(value).map_err(refused)?),
            Kind::Bytes => drop(crate::units::ram_in_bytes(value).map_err(refused)?),
            Kind::CommaList => fields = Some(split_csv(value).map_err(refused)?),
            Kind::Checked { check, .. } | Kind::CheckedList { check, .. } => {
                check(value).map_err(refused)?;
            }
        }
        if let Some(advice) = flag.deprecated {
            let notice = format!("Flag --{} has been deprecated, {advice}", flag.long);
            self.matches.notices.push(notice);
        }
        if flag.long == "help" {
            self.matches.help = parse_bool(value).unwrap_or(true);
            return Ok(());
        }
        let repeatable = matches!(
            flag.kind,
            Kind::List | Kind::CommaList | Kind::CheckedList { .. }
        );
        let given = fields.unwrap_or_else(|| vec![value.to_owned()]);
        match self
            .matches
            .values
            .iter_mut()
            .find(|(name, _)| *name == flag.long)
        {
            Some((_, values)) if repeatable => values.extend(given),
            Some((_, values)) => *values = given,
            None => self.matches.values.push((flag.long, given)),
        }
        Ok(())
    }
}

/// The value of a flag given alone, for kinds that take one only after `=`.
fn value_without_equals(flag: &Flag) -> Option<&'static str> {
    match flag.kind {
        Kind::Bool => Some("true"),
        Kind::OptionalString(implied) => Some(implied),
        _ => None,
    }
}
