//! The vocabulary of log drivers: their names, and what `--log-driver` and `--log-opt` say.
//!
//! Two stories:
//! - `docker run --log-opt max-size=10m --log-opt max-file=3`: the engine calls
//!   [`Kind::from_name`] and [`Options::parse`], puts the labels and variables that
//!   [`Options::selection`] asks for into [`Options::attrs`], and hands both to the
//!   monitor, which opens [`crate::json_file::Writer`].
//! - `docker logs`: the engine asks [`Kind::check_readable`] and opens
//!   [`crate::json_file::Reader`].
//!
//! This file must not know how a driver stores anything, nor what labels a container has.
//! Source of the texts: moby `daemon/logger/{factory.go,jsonfilelog}`, go-units.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// The log drivers that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One JSON object per line in a file beside the container; the default.
    JsonFile,
    /// Nothing is kept.
    None,
}

impl Kind {
    /// Every driver, in the order `info` lists them.
    pub const ALL: [Kind; 2] = [Kind::JsonFile, Kind::None];

    /// The driver called `name`; the empty name is the default driver.
    pub fn from_name(name: &str) -> Result<Kind, OptionsError> {
        if name.is_empty() {
            return Ok(Kind::JsonFile);
        }
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| OptionsError::UnknownDriver(name.to_owned()))
    }

    /// The name a user types.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::JsonFile => "json-file",
            Kind::None => "none",
        }
    }

    /// Fails with Docker's text where `logs` has nothing to read from.
    pub fn check_readable(self) -> Result<(), NotReadable> {
        match self {
            Kind::JsonFile => Ok(()),
            Kind::None => Err(NotReadable),
        }
    }
}

/// The driver keeps no messages, so there are none to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("configured logging driver does not support reading")]
pub struct NotReadable;

/// What happens to a container that writes faster than its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// The container waits in write(2).
    #[default]
    Blocking,
    /// Up to this many bytes wait in memory, and what exceeds them is dropped.
    NonBlocking {
        /// Size of the buffer in bytes.
        max_buffer_bytes: u64,
    },
}

/// Which labels and variables of the container a user wants in each message's `attrs`.
///
/// The texts are as typed: comma-separated names, or a regular expression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of labels.
    pub labels: Option<String>,
    /// Expression on the names of labels.
    pub labels_regex: Option<String>,
    /// Names of variables.
    pub env: Option<String>,
    /// Expression on the names of variables.
    pub env_regex: Option<String>,
    /// Go template of the `tag` attribute.
    pub tag: Option<String>,
}

/// The options of a driver, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// A file that has reached this size is rotated before the next message.
    pub max_size_bytes: Option<u64>,
    /// How many files are kept, the current one included; at least 1.
    pub max_file: u32,
    /// Whether rotated files are compressed with gzip.
    pub compress: bool,
    /// What happens when the log is slower than the container.
    pub mode: Mode,
    /// What belongs into `attrs`; evaluating it takes a container, so the engine does.
    pub selection: Selection,
    /// What every message carries as `attrs`; the member is left out when there are none.
    pub attrs: BTreeMap<String, String>,
}

impl Default for Options {
    /// One file without a limit, as Docker has it.
    fn default() -> Self {
        Options {
            max_size_bytes: None,
            max_file: 1,
            compress: false,
            mode: Mode::Blocking,
            selection: Selection::default(),
            attrs: BTreeMap::new(),
        }
    }
}

/// Why options were refused; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// No driver has that name.
    #[error("logger: no log driver named '{0}' is registered")]
    UnknownDriver(String),
    /// The driver has no such option.
    #[error("unknown log opt '{name}' for {driver} log driver")]
    UnknownOption {
        /// The option as typed.
        name: String,
        /// The driver's name.
        driver: &'static str,
    },
    /// `mode` is none of the two.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// `max-buffer-size` was given without `mode=non-blocking`.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    BufferWithoutMode,
    /// `max-buffer-size` is not a size.
    #[error("error parsing option max-buffer-size")]
    BufferSize(#[source] SizeError),
    /// `max-size` is not a size.
    #[error(transparent)]
    MaxSize(SizeError),
    /// `max-size` is zero.
    #[error("max-size must be a positive number")]
    MaxSizeNotPositive,
    /// `max-file` is not a number.
    #[error("strconv.Atoi: parsing \"{0}\": invalid syntax")]
    MaxFile(String),
    /// `max-file` is zero or negative.
    #[error("max-file cannot be less than 1")]
    MaxFileTooSmall,
    /// `compress` is not a boolean.
    #[error("strconv.ParseBool: parsing \"{0}\": invalid syntax")]
    Compress(String),
    /// There would never be a rotated file to compress.
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    CompressWithoutRotation,
}

/// A text that is not a size such as `10m` or `1.5 GB`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid size: '{0}'")]
pub struct SizeError(String);

/// Default of `max-buffer-size`: 1 MiB.
const DEFAULT_BUFFER_BYTES: u64 = 1 << 20;

impl Options {
    /// Checks a user's `--log-opt` map for the driver `kind`.
    ///
    /// The options of `none` are ignored, as Docker ignores them.
    pub fn parse(kind: Kind, map: &HashMap<String, String>) -> Result<Options, OptionsError> {
        let mut options = Options::default();
        if kind == Kind::None {
            return Ok(options);
        }
        options.mode = parse_mode(map)?;
        // The smallest unknown name, so that the answer does not depend on the map's order.
        let known = [
            "max-size",
            "max-file",
            "compress",
            "labels",
            "labels-regex",
            "env",
            "env-regex",
            "tag",
            "mode",
            "max-buffer-size",
        ];
        if let Some(name) = map
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .min()
        {
            return Err(OptionsError::UnknownOption {
                name: name.clone(),
                driver: kind.as_str(),
            });
        }
        if let Some(text) = map.get("max-size") {
            let size_bytes = parse_size(text, 1000).map_err(OptionsError::MaxSize)?;
            if size_bytes == 0 {
                return Err(OptionsError::MaxSizeNotPositive);
            }
            options.max_size_bytes = Some(size_bytes);
        }
        if let Some(text) = map.get("max-file") {
            let count: i64 = text
                .parse()
                .map_err(|_| OptionsError::MaxFile(text.clone()))?;
            if count < 1 {
                return Err(OptionsError::MaxFileTooSmall);
            }
            options.max_file =
                u32::try_from(count).map_err(|_| OptionsError::MaxFile(text.clone()))?;
        }
        if let Some(text) = map.get("compress") {
            options.compress =
                parse_bool(text).ok_or_else(|| OptionsError::Compress(text.clone()))?;
            if options.compress && (options.max_file == 1 || options.max_size_bytes.is_none()) {
                return Err(OptionsError::CompressWithoutRotation);
            }
        }
        let text = |name: &str| map.get(name).filter(|text| !text.is_empty()).cloned();
        options.selection = Selection {
            labels: text("labels"),
            labels_regex: text("labels-regex"),
            env: text("env"),
            env_regex: text("env-regex"),
            tag: text("tag"),
        };
        Ok(options)
    }
}

fn parse_mode(map: &HashMap<String, String>) -> Result<Mode, OptionsError> {
    let buffer = map.get("max-buffer-size");
    match map.get("mode").map(String::as_str) {
        None | Some("" | "blocking") if buffer.is_some() => Err(OptionsError::BufferWithoutMode),
        None | Some("" | "blocking") => Ok(Mode::Blocking),
        Some("non-blocking") => {
            let max_buffer_bytes = match buffer {
                Some(text) => parse_size(text, 1024).map_err(OptionsError::BufferSize)?,
                None => DEFAULT_BUFFER_BYTES,
            };
            Ok(Mode::NonBlocking { max_buffer_bytes })
        }
        Some(other) => Err(OptionsError::Mode(other.to_owned())),
    }
}

/// Reads `10m`, `1.5 GB`, `512`, `64KiB`; `base` is what `k` stands for, whatever the spelling.
pub fn parse_size(text: &str, base: u32) -> Result<u64, SizeError> {
    let invalid = || SizeError(text.to_owned());
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let split = split.ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at(split);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain {
        return Err(invalid());
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let suffix = suffix.to_ascii_lowercase();
    let unit = match suffix.as_bytes() {
        [] => b'b',
        [unit] | [unit, b'b'] | [unit, b'i', b'b'] => *unit,
        _ => return Err(invalid()),
    };
    let power = match unit {
        b'b' if suffix.len() <= 1 => 0,
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        _ => return Err(invalid()),
    };
    // `as` saturates, and no file reaches the saturated value.
    Ok((number * f64::from(base).powi(power)) as u64)
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, String> {
        let map = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Options::parse(Kind::JsonFile, &map).map_err(|e| e.to_string())
    }

    #[test]
    fn a_drivers_name_leads_back_to_it() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.as_str()), Ok(kind));
        }
        assert_eq!(Kind::from_name(""), Ok(Kind::JsonFile));
        assert_eq!(
            Kind::from_name("journal").unwrap_err().to_string(),
            "logger: no log driver named 'journal' is registered"
        );
    }

    #[test]
    fn a_log_that_keeps_nothing_cannot_be_read() {
        assert_eq!(Kind::JsonFile.check_readable(), Ok(()));
        assert_eq!(
            Kind::None.check_readable().unwrap_err().to_string(),
            "configured logging driver does not support reading"
        );
    }

    #[test]
    fn no_options_mean_one_file_without_a_limit() {
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn the_usual_options_are_read() {
        let options = parse(&[
            ("max-size", "10m"),
            ("max-file", "3"),
            ("compress", "true"),
            ("labels", "a,b"),
            ("env-regex", "^X"),
            ("mode", "non-blocking"),
            ("max-buffer-size", "4m"),
        ])
        .unwrap();
        assert_eq!(options.max_size_bytes, Some(10_000_000));
        assert_eq!((options.max_file, options.compress), (3, true));
        assert_eq!(
            options.mode,
            Mode::NonBlocking {
                max_buffer_bytes: 4 << 20
            }
        );
        assert_eq!(options.selection.labels.as_deref(), Some("a,b"));
        assert_eq!(options.selection.env_regex.as_deref(), Some("^X"));
    }

    #[test]
    fn sizes_are_read_like_dockers() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("1k", 1000),
            ("1kb", 1000),
            ("1KiB", 1000),
            ("1.5 GB", 1_500_000_000),
            ("0.5k", 500),
            ("2p", 2_000_000_000_000_000),
        ] {
            assert_eq!(parse_size(text, 1000), Ok(bytes), "{text}");
        }
        for text in [
            "", "m", "-1", "1x", "1bb", "1mbb", "1e5", "1..5", ".5", " 5", "5  m", "hello",
        ] {
            assert_eq!(
                parse_size(text, 1000),
                Err(SizeError(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn refusals_speak_dockers_words() {
        for (pairs, text) in [
            (
                &[("foo", "1")][..],
                "unknown log opt 'foo' for json-file log driver",
            ),
            (&[("max-size", "x")], "invalid size: 'x'"),
            (&[("max-size", "0")], "max-size must be a positive number"),
            (&[("max-file", "0")], "max-file cannot be less than 1"),
            (
                &[("max-file", "two")],
                "strconv.Atoi: parsing \"two\": invalid syntax",
            ),
            (
                &[("compress", "yes")],
                "strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (
                &[("compress", "true"), ("max-size", "1m")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            (
                &[("mode", "lossy")],
                "logger: logging mode not supported: lossy",
            ),
            (
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
        ] {
            assert_eq!(parse(pairs).unwrap_err(), text);
        }
    }

    #[test]
    fn the_driver_none_ignores_its_options() {
        let map = HashMap::from([("foo".to_owned(), "bar".to_owned())]);
        assert_eq!(Options::parse(Kind::None, &map), Ok(Options::default()));
    }
}
