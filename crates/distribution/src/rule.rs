//! Mirror rules: where else than in its registry an image may be found. Pure.
//!
//! ```text
//! prefix             location                       image                        asked first
//! ghcr.io            https://mirror.lan             ghcr.io/org/app              https://mirror.lan/v2/org/app
//! ghcr.io/org        https://mirror.lan/cache/org   ghcr.io/org/app              https://mirror.lan/v2/cache/org/app
//! ```
//!
//! What follows the prefix is kept; the longest prefix goes first, and of the same prefix the one named first.

use std::str::FromStr;

use reqwest::Url;

/// One rule: `prefix=location`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRule {
    prefix: String,
    location: Url,
}

/// Not a mirror rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mirror {text:?}: {reason}")]
pub struct InvalidRule {
    text: String,
    reason: String,
}

impl MirrorRule {
    /// A rule for images whose full name begins with `prefix`.
    ///
    /// # Errors
    /// If the prefix has no registry or the location is no `http` or `https` URL of a host and a path.
    pub fn new(prefix: &str, location: &str) -> Result<Self, InvalidRule> {
        let invalid = |reason: &str| InvalidRule {
            text: format!("{prefix}={location}"),
            reason: reason.to_owned(),
        };
        let prefix_text = prefix.trim_end_matches('/');
        let registry = prefix_text.split('/').next().unwrap_or_default();
        if !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err(invalid("the prefix must begin with a registry"));
        }
        Ok(Self {
            prefix: prefix_text.to_owned(),
            location: mirror_url(location).map_err(|reason| invalid(&reason))?,
        })
    }

    /// How much of a full name (`ghcr.io/org/app`) the rule is about, and the repository to ask for.
    pub(crate) fn apply(&self, name: &str) -> Option<(usize, String)> {
        let rest = name.strip_prefix(&self.prefix)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let repository = format!("{}{rest}", self.location.path().trim_end_matches('/'));
        let repository = repository.trim_start_matches('/');
        (!repository.is_empty()).then(|| (self.prefix.len(), repository.to_owned()))
    }

    /// The host asked.
    pub(crate) fn host(&self) -> &Url {
        &self.location
    }
}

impl FromStr for MirrorRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (prefix, location) = text.split_once('=').ok_or_else(|| InvalidRule {
            text: text.to_owned(),
            reason: "it must be prefix=location".to_owned(),
        })?;
        Self::new(prefix, location)
    }
}

/// Reads a mirror's URL; one without a scheme has TLS.
pub(crate) fn mirror_url(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme must be http or https".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("query and fragment are not allowed in the URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("username/password not allowed in URL".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(rule: &str, name: &str) -> Option<String> {
        let rule: MirrorRule = rule.parse().unwrap();
        Some(rule.apply(name)?.1)
    }

    #[test]
    fn what_follows_the_prefix_is_kept() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(applied("ghcr.io=m.lan", "ghcr.io/o/a"), some("o/a"));
        assert_eq!(
            applied("ghcr.io/o=http://m.lan/c/o/", "ghcr.io/o/a"),
            some("c/o/a")
        );
        assert_eq!(applied("ghcr.io/o/a=m.lan/x", "ghcr.io/o/a"), some("x"));
    }

    #[test]
    fn a_prefix_ends_where_a_component_ends() {
        assert_eq!(applied("ghcr.io/o=m.lan/c", "ghcr.io/other/a"), None);
        assert_eq!(applied("ghcr.io=m.lan", "ghcr.io.evil/a"), None);
        assert_eq!(applied("ghcr.io/o/a=m.lan", "ghcr.io/o/a"), None);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "ghcr.io",
            "library=m.lan",
            "ghcr.io=ftp://m.lan",
            "ghcr.io=https://u:p@m.lan",
            "ghcr.io=https://m.lan?q=1",
        ] {
            assert!(text.parse::<MirrorRule>().is_err(), "{text}");
        }
    }
}
