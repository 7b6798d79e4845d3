//! Command-line flags: constant tables, the parser over them and what it found.
//!
//! The rules and the error texts are those users of Go's pflag know: bundled
//! shorthands (`-itd`, `-p8080:80`, `-p=80`), `--flag=value`, `--flag value`,
//! booleans that take a value only after `=`, `--`, and flag errors that quote
//! the value. It must not know any command, nor print anything.

mod parse;
mod value;

pub use parse::{FlagError, parse};
pub(crate) use value::go_quote;
pub use value::{parse_bool, parse_duration_ns, parse_float, parse_int, split_csv};

/// What a flag's value is and how often it may be given.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// True when named; a value only after `=`.
    Bool,
    /// One string, the last one given wins.
    String,
    /// One string; the flag alone, without `=value`, means the one named here.
    OptionalString(&'static str),
    /// One signed 64-bit number in Go's notation (`10`, `0x10`).
    Int,
    /// One unsigned 64-bit number.
    Uint,
    /// One unsigned 16-bit number.
    Uint16,
    /// One floating-point number.
    Float,
    /// One Go duration such as `1m30s`.
    Duration,
    /// One size in bytes with an optional binary suffix, such as `64m`.
    Bytes,
    /// Repeatable, each value taken as it is.
    List,
    /// Repeatable, each value a CSV line whose fields are added.
    CommaList,
    /// One value of a named type, refused with the checker's text.
    Checked {
        /// Type name shown in help.
        name: &'static str,
        /// Refuses a value with the text shown to the user.
        check: Check,
    },
    /// Repeatable values of a named type, each refused with the checker's text.
    CheckedList {
        /// Type name shown in help.
        name: &'static str,
        /// Refuses a value with the text shown to the user.
        check: Check,
    },
}

/// Refuses a flag's value with the text that follows `invalid argument … flag: `.
pub type Check = fn(&str) -> Result<(), String>;

impl Kind {
    /// The word shown after the flag in help, empty for booleans.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::String | Self::OptionalString(_) => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Uint16 => "uint16",
            Self::Float => "float",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::CommaList => "strings",
            Self::Checked { name, .. } | Self::CheckedList { name, .. } => name,
        }
    }
}

/// One flag of a command, built in constants.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name after `--`.
    pub long: &'static str,
    /// Letter after `-`.
    pub short: Option<char>,
    /// Type and repetition.
    pub kind: Kind,
    /// Text shown by `--help`; may hold line breaks.
    pub help: &'static str,
    /// Value when the flag is not given, shown in help unless empty.
    pub default: &'static str,
    /// Whether help leaves the flag out.
    pub hidden: bool,
    /// Warning printed when the flag is used, after "has been deprecated, ".
    pub deprecated: Option<&'static str>,
}

impl Flag {
    /// A flag of any kind.
    pub const fn new(kind: Kind, long: &'static str, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            kind,
            help,
            default: "",
            hidden: false,
            deprecated: None,
        }
    }

    /// A boolean flag, false unless given.
    pub const fn bool(long: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Bool, long, help)
    }

    /// A flag with one string value.
    pub const fn string(long: &'static str, help: &'static str) -> Self {
        Self::new(Kind::String, long, help)
    }

    /// A flag with one signed number.
    pub const fn int(long: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Int, long, help)
    }

    /// A repeatable flag.
    pub const fn list(long: &'static str, help: &'static str) -> Self {
        Self::new(Kind::List, long, help)
    }

    /// A repeatable flag whose values are checked while parsing.
    pub const fn checked_list(
        long: &'static str,
        name: &'static str,
        check: Check,
        help: &'static str,
    ) -> Self {
        Self::new(Kind::CheckedList { name, check }, long, help)
    }

    /// A flag with one value checked while parsing.
    pub const fn checked(
        long: &'static str,
        name: &'static str,
        check: Check,
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Checked { name, check }, long, help)
    }

    /// The flag with a one-letter spelling.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// The flag with a default value, which help shows.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    /// The flag left out of help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The flag with a deprecation warning; also left out of help.
    #[must_use]
    pub const fn deprecated(mut self, advice: &'static str) -> Self {
        self.deprecated = Some(advice);
        self.hidden = true;
        self
    }

    /// Both spellings as errors show them: `-m, --memory` or `--rm`.
    pub fn spelling(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// What one command line held: values by flag name and the arguments after them.
#[derive(Debug, Default)]
pub struct Matches {
    /// The command's tables, for defaults.
    flags: &'static [&'static [Flag]],
    /// Values in order for every flag given.
    values: Vec<(&'static str, Vec<String>)>,
    /// Arguments that are no flags, in order.
    args: Vec<String>,
    /// How the command was spelt, program first: `conex container ls`.
    command_path: String,
    /// Whether `--help` (or `-h` where it means nothing else) was given.
    help: bool,
    /// What to say about deprecated spellings that were used.
    notices: Vec<String>,
}

impl Matches {
    /// The command as it was spelt, program first: `conex run`.
    pub fn command_path(&self) -> &str {
        &self.command_path
    }

    /// The program's name: the first word of [`Matches::command_path`].
    pub fn program(&self) -> &str {
        self.command_path.split(' ').next().unwrap_or_default()
    }

    /// The same matches spelt as the given command path.
    #[must_use]
    pub fn with_command_path(mut self, path: String) -> Self {
        self.command_path = path;
        self
    }

    /// Whether usage was asked for.
    pub fn wants_help(&self) -> bool {
        self.help
    }

    /// What to say about deprecated spellings that were used.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Arguments that are no flags.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Whether the flag was given at all.
    pub fn is_set(&self, long: &str) -> bool {
        self.given(long).is_some()
    }

    /// Every value of a repeatable flag in order, the last one alone of the others.
    pub fn list(&self, long: &str) -> &[String] {
        self.given(long).unwrap_or_default()
    }

    /// The flag's value, its default when not given.
    pub fn str(&self, long: &str) -> &str {
        match self.given(long).and_then(<[String]>::last) {
            Some(value) => value,
            None => self.flag(long).default,
        }
    }

    /// The flag's value, none when not given.
    pub fn opt_str(&self, long: &str) -> Option<&str> {
        self.given(long)
            .and_then(<[String]>::last)
            .map(String::as_str)
    }

    /// A boolean flag's value.
    pub fn bool(&self, long: &str) -> bool {
        parse_bool(self.str(long)).unwrap_or(false)
    }

    /// A number flag's value, 0 without value or default.
    pub fn int(&self, long: &str) -> i64 {
        parse_int(self.str(long)).unwrap_or(0)
    }

    /// A [`Kind::Uint`] flag's value, 0 without value or default.
    pub fn uint(&self, long: &str) -> u64 {
        value::parse_uint(self.str(long), 64).unwrap_or(0)
    }

    /// A duration flag's value in nanoseconds, 0 without value or default.
    pub fn duration_ns(&self, long: &str) -> i64 {
        parse_duration_ns(self.str(long)).unwrap_or(0)
    }

    /// A size flag's value in bytes, 0 without value or default.
    pub fn bytes(&self, long: &str) -> i64 {
        crate::units::ram_in_bytes(self.str(long)).unwrap_or(0)
    }

    /// A floating-point flag's value, 0 without value or default.
    pub fn float(&self, long: &str) -> f64 {
        parse_float(self.str(long)).unwrap_or(0.0)
    }

    /// Values given for a flag.
    fn given(&self, long: &str) -> Option<&[String]> {
        debug_assert!(
            self.declared(long),
            "flag --{long} is not in the command's tables"
        );
        self.values
            .iter()
            .find(|(name, _)| *name == long)
            .map(|(_, values)| values.as_slice())
    }

    /// Whether the command's tables hold the flag.
    fn declared(&self, long: &str) -> bool {
        self.flags
            .iter()
            .any(|table| table.iter().any(|flag| flag.long == long))
    }

    /// The declaration of a flag.
    fn flag(&self, long: &str) -> &'static Flag {
        self.flags
            .iter()
            .flat_map(|table| table.iter())
            .find(|flag| flag.long == long)
            .expect("a command asks only for flags of its own tables")
    }
}

#[cfg(test)]
mod tests;
