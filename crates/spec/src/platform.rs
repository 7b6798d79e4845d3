//! Platforms, `os/architecture/variant`, in the words of Go that the image
//! specification uses. It must not know processors: what it says of the host
//! is what this program was compiled for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::absent::{empty_is_none, null_is_default};

/// What an image runs on. Deserialising keeps the spelling; see [`Platform::normalized`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor architecture, as Go's `GOARCH`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Operating system, as Go's `GOOS`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the operating system; of meaning on Windows.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features the operating system must have; of meaning on Windows.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7`, `v8`.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform of an operating system and an architecture, normalised.
    #[must_use]
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            ..Self::default()
        }
        .normalized()
    }

    /// The platform this program was compiled for.
    #[must_use]
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, host_architecture())
    }

    /// The same in the words of the image specification (`x86_64` → `amd64`), with `v7` where an ARM variant is
    /// missing and without the variants that say nothing (`amd64/v1`, `arm64/v8`).
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.take().unwrap_or_default().to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("amd64" | "x86_64" | "x86-64", "v1") => ("amd64", ""),
            ("amd64" | "x86_64" | "x86-64", variant) => ("amd64", variant),
            ("arm64" | "aarch64", "8" | "v8") => ("arm64", ""),
            ("arm64" | "aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("loongarch64", variant) => ("loong64", variant),
            other => other,
        };
        self.variant = (!variant.is_empty()).then(|| variant.to_owned());
        self.architecture = architecture.to_owned();
        self
    }

    /// How well an offered platform does where this one is wanted: 0 best, `None` not at all.
    ///
    /// Older variants of the same architecture do, and after them the 32-bit architecture
    /// the processor also runs. Versions of the operating system are not compared.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        let wanted = self.clone().normalized();
        let offered = offered.clone().normalized();
        let has_features = offered
            .os_features
            .iter()
            .all(|feature| wanted.os_features.contains(feature));
        if wanted.os != offered.os || !has_features {
            return None;
        }
        wanted.runs().iter().position(|(architecture, variant)| {
            *architecture == offered.architecture && *variant == offered.variant
        })
    }

    /// Normalised architectures and variants this normalised platform runs, best first.
    fn runs(&self) -> Vec<(String, Option<String>)> {
        let of = |architecture: &str, variant: String| (architecture.to_owned(), Some(variant));
        let mut runs = vec![(self.architecture.clone(), self.variant.clone())];
        let level = self
            .variant
            .as_deref()
            .and_then(|variant| variant.strip_prefix('v')?.parse::<u8>().ok());
        match self.architecture.as_str() {
            "amd64" => {
                let older = level.into_iter().flat_map(|level| (2..level).rev());
                runs.extend(older.map(|level| of("amd64", format!("v{level}"))));
                if self.variant.is_some() {
                    runs.push(("amd64".to_owned(), None));
                }
                runs.push(("386".to_owned(), None));
            }
            "arm" => {
                let older = level.into_iter().flat_map(|level| (5..level).rev());
                runs.extend(older.map(|level| of("arm", format!("v{level}"))));
            }
            "arm64" => {
                if self.variant.is_some() {
                    runs.push(("arm64".to_owned(), None));
                }
                runs.extend((5..=8).rev().map(|level| of("arm", format!("v{level}"))));
            }
            _ => {}
        }
        runs
    }
}

/// The architecture this program was compiled for, in Go's word.
fn host_architecture() -> &'static str {
    let little = cfg!(target_endian = "little");
    match std::env::consts::ARCH {
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "mips" if little => "mipsle",
        "mips64" if little => "mips64le",
        // Those of Platform::normalized, and those both have the same word for.
        architecture => architecture,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant`; what is missing is the host's.
    /// The version may follow the operating system in parentheses.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let format = || PlatformError::Format {
            platform: text.to_owned(),
        };
        let components: Vec<&str> = text.split('/').collect();
        let (os, version) = match components[0].strip_suffix(')') {
            Some(os) => {
                let (os, version) = os.split_once('(').ok_or_else(format)?;
                (os, Some(version))
            }
            None => (components[0], None),
        };
        let words = [os]
            .into_iter()
            .chain(version)
            .chain(components[1..].iter().copied());
        if !words.into_iter().all(is_word) {
            return Err(format());
        }

        let mut platform = Self::host();
        match components[1..] {
            [] => {
                let alone = Self::new(os, os);
                if OPERATING_SYSTEMS.contains(&alone.os.as_str()) {
                    platform.os = alone.os;
                } else if ARCHITECTURES.contains(&alone.architecture.as_str()) && version.is_none()
                {
                    platform.architecture = alone.architecture;
                    platform.variant = alone.variant;
                } else {
                    return Err(PlatformError::Unknown {
                        platform: text.to_owned(),
                    });
                }
            }
            [architecture] => platform = Self::new(os, architecture),
            [architecture, variant] => {
                platform = Self {
                    os: os.to_owned(),
                    architecture: architecture.to_owned(),
                    variant: Some(variant.to_owned()),
                    ..Self::default()
                }
                .normalized();
            }
            _ => return Err(format()),
        }
        platform.os_version = version.map(str::to_owned);
        Ok(platform)
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

const OPERATING_SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];

const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not of the form.
    #[error("invalid platform {platform:?}: must be of the form os/architecture/variant")]
    Format {
        /// The text.
        platform: String,
    },
    /// One word that is neither.
    #[error("{platform:?}: unknown operating system or architecture")]
    Unknown {
        /// The text.
        platform: String,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_of_a_platform_is_shown_in_one() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/x86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("linux/i686", "linux/386"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("macOS/arm64", "darwin/arm64"),
            ("linux/loongarch64", "linux/loong64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
            ("unknown/unknown", "unknown/unknown"),
        ] {
            let platform = parse(text);
            assert_eq!(platform.to_string(), shown, "{text}");
            assert_eq!(parse(shown), platform, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_the_hosts() {
        let host = Platform::host();
        assert_eq!(parse("windows").architecture, host.architecture);
        assert_eq!(parse("windows").os, "windows");
        assert_eq!(parse("s390x").to_string(), format!("{}/s390x", host.os));
        assert_eq!(parse("aarch64"), Platform::new(&host.os, "arm64"));
        assert_eq!(parse("linux").os, "linux");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn the_host_is_named_in_gos_words() {
        assert_eq!(Platform::host().to_string(), "linux/amd64");
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "lin ux/amd64",
            "linux)/amd64",
            "windows()/amd64",
        ] {
            assert!(
                matches!(text.parse::<Platform>(), Err(PlatformError::Format { .. })),
                "{text:?}"
            );
        }
        assert_eq!(
            "toaster".parse::<Platform>().unwrap_err().to_string(),
            "\"toaster\": unknown operating system or architecture"
        );
    }

    #[test]
    fn older_variants_do_and_newer_do_not() {
        for (wanted, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64/v3", Some(0)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/386", "linux/amd64", None),
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", Some(2)),
            ("linux/arm64", "linux/amd64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
        ] {
            assert_eq!(
                parse(wanted).rank(&parse(offered)),
                rank,
                "{wanted} {offered}"
            );
        }
    }

    #[test]
    fn an_image_that_asks_for_features_needs_them() {
        let mut offered = Platform::new("linux", "amd64");
        offered.os_features = vec!["sif".to_owned()];
        let plain = Platform::new("linux", "amd64");
        assert_eq!(plain.rank(&offered), None);
        assert_eq!(offered.rank(&plain), Some(0));
    }

    #[test]
    fn json_is_that_of_the_image_specification() {
        let json = r#"{"architecture":"arm","os":"linux","os.version":"1.2","os.features":["x"],"variant":"v7"}"#;
        let platform: Platform = serde_json::from_str(json).unwrap();
        assert_eq!(platform.os_version.as_deref(), Some("1.2"));
        assert_eq!(serde_json::to_string(&platform).unwrap(), json);
        let platform: Platform = serde_json::from_str(
            r#"{"architecture":"a","os":"b","variant":"","os.features":null}"#,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_string(&platform).unwrap(),
            r#"{"architecture":"a","os":"b"}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.to_string().parse::<Platform>(), Ok(platform));
            }
        }
    }
}
