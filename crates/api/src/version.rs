//! API versions and their order.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The newest version spoken.
pub const MAX: ApiVersion = ApiVersion::new(1, 56);

/// The oldest version spoken, unless the engine is told otherwise.
pub const MIN: ApiVersion = ApiVersion::new(1, 24);

/// A version of the API, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// A text that is no API version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid API version {0:?}: must be <major>.<minor>")]
pub struct ParseVersionError(pub String);

impl ApiVersion {
    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u16>().unwrap_or(u16::MAX))
        };
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self::new(number(major)?, number(minor)?)))
            .ok_or_else(|| ParseVersionError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_order_by_number_and_not_by_text() {
        let parse = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(parse("1.9") < parse("1.24"));
        assert!(parse("2.0") > MAX);
        assert_eq!(parse("1.56"), MAX);
        assert_eq!(MAX.to_string(), "1.56");
        assert!(parse("1.99999999999") > MAX);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "1", "1.", ".4", "1.x", "v1.4", "1.2.3", "+1.4", "1.4 "] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text:?}");
        }
    }
}
