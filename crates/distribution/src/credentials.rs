//! Who asks: user and password, an identity token, or a ready registry token; and their form in the headers of the
//! Engine API. Pure.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// What a client says of itself. Debug output shows no secrets.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password of the user.
    pub password: String,
    /// `base64(user:password)`, from old clients.
    pub auth: String,
    /// The registry they are for.
    #[serde(rename = "serveraddress")]
    pub server_address: String,
    /// Exchanged for access tokens, in place of a password.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// Sent to the registry as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

/// URL-safe or not, padded or not: clients differ.
const LENIENT_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A header that is none. Its text is Docker's.
#[derive(Debug, thiserror::Error)]
#[error("invalid X-Registry-Auth header")]
pub struct InvalidHeader;

impl Credentials {
    /// Reads `X-Registry-Auth`: base64 of a JSON object (COMPAT D1.17). Empty is nobody.
    ///
    /// # Errors
    /// [`InvalidHeader`].
    pub fn from_header(value: &str) -> Result<Self, InvalidHeader> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(Self::default());
        }
        Ok(of_header::<Self>(value)?.completed())
    }

    /// Reads `X-Registry-Config`: base64 of a JSON object with credentials by registry, as `config.json` names them.
    /// The keys of the answer are as references name registries. Empty is none.
    ///
    /// # Errors
    /// [`InvalidHeader`].
    pub fn by_registry(value: &str) -> Result<HashMap<String, Self>, InvalidHeader> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(HashMap::new());
        }
        let read: HashMap<String, Self> = of_header(value)?;
        let named = |(server, credentials): (String, Self)| {
            (crate::login::registry_of(&server), credentials.completed())
        };
        Ok(read.into_iter().map(named).collect())
    }

    /// User and password out of `auth` where they are missing.
    #[must_use]
    pub fn completed(mut self) -> Self {
        if self.username.is_empty()
            && let Ok(pair) = LENIENT.decode(&self.auth)
            && let Ok(pair) = String::from_utf8(pair)
            && let Some((user, password)) = pair.split_once(':')
        {
            self.username = user.to_owned();
            // Some old clients padded with zero bytes.
            self.password = password.trim_end_matches('\0').to_owned();
        }
        self
    }

    /// The value of an `Authorization: Basic` header, if there are user and password.
    pub(crate) fn basic(&self) -> Option<String> {
        let has = !self.username.is_empty() && !self.password.is_empty();
        has.then(|| {
            let pair = format!("{}:{}", self.username, self.password);
            format!("Basic {}", STANDARD.encode(pair))
        })
    }

    /// The header other programs send: for tests of clients and for whoever speaks to another engine.
    #[must_use]
    pub fn to_header(&self) -> String {
        let json = serde_json::json!({
            "username": self.username,
            "password": self.password,
            "serveraddress": self.server_address,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        });
        URL_SAFE.encode(json.to_string())
    }
}

fn of_header<T: serde::de::DeserializeOwned>(value: &str) -> Result<T, InvalidHeader> {
    let json = LENIENT_URL
        .decode(value)
        .or_else(|_| LENIENT.decode(value))
        .map_err(|_| InvalidHeader)?;
    serde_json::from_slice(&json).map_err(|_| InvalidHeader)
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_is_read_with_and_without_padding_in_both_alphabets() {
        let credentials = Credentials {
            username: "ann".into(),
            password: "p?>~\u{fc}".into(),
            ..Credentials::default()
        };
        let header = credentials.to_header();
        let bare = header.trim_end_matches('=');
        let standard = bare.replace('-', "+").replace('_', "/");
        for text in [&header, bare, &standard] {
            let read = Credentials::from_header(text).unwrap();
            assert_eq!(read.password, credentials.password, "{text}");
        }
    }

    #[test]
    fn an_old_auth_member_is_user_and_password() {
        let header = STANDARD.encode(r#"{"auth":"YW5uOnNlOmNyZXQ="}"#);
        let read = Credentials::from_header(&header).unwrap();
        assert_eq!((&*read.username, &*read.password), ("ann", "se:cret"));
    }

    #[test]
    fn credentials_of_several_registries_are_found_by_the_names_in_references() {
        let json = r#"{"https://index.docker.io/v1/":{"username":"ann","password":"a"},
                       "https://r.lan:5000/v2/":{"auth":"Ym9iOmI="}}"#;
        let read = Credentials::by_registry(&URL_SAFE.encode(json)).unwrap();
        assert_eq!(read["docker.io"].password, "a");
        assert_eq!(read["r.lan:5000"].username, "bob");
        assert!(Credentials::by_registry("").unwrap().is_empty());
        assert!(Credentials::by_registry("e30x").is_err());
    }

    #[test]
    fn nobody_is_nobody_and_noise_is_an_error() {
        assert_eq!(
            Credentials::from_header("").unwrap(),
            Credentials::default()
        );
        assert!(Credentials::from_header("%%%").is_err());
        assert!(Credentials::from_header(&STANDARD.encode("[1]x")).is_err());
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let credentials = Credentials {
            password: "secret".into(),
            identity_token: "token".into(),
            ..Credentials::default()
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("secret") && !shown.contains("token\""));
    }
}
