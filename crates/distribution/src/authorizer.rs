//! What is shown to one host: nothing, user and password, or tokens, kept by scope until they expire.
//!
//! ```text
//! 401 + WWW-Authenticate ──► Basic:  user and password
//!                        └─► Bearer: registry token as it is, or from the realm
//!                                    GET  with user and password, or anonymous
//!                                    POST with an identity token (OAuth 2)
//! ```
//!
//! Source: distribution specification, "Token Authentication" and "OAuth2".

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::session::{read_limited, refused};
use crate::word;

/// Named to token servers.
const CLIENT_ID: &str = "conex";
/// What a token without a lifetime has, by the specification.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token this close to its end is not used for a new request.
const MARGIN: Duration = Duration::from_secs(5);
const MAX_TOKEN_ANSWER_BYTES: usize = 1 << 20;

/// The credentials for one host and what became of them.
#[derive(Debug)]
pub(crate) struct Authorizer {
    credentials: Credentials,
    /// Credentials go to the registry's host over a checked connection; its realm must be as safe.
    secure: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    basic: bool,
    tokens: HashMap<String, Token>,
}

#[derive(Debug, Clone)]
struct Token {
    header: String,
    until: Instant,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// A header that answers a challenge.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) header: String,
    /// For later logins in place of a password, if one was asked for and given.
    pub(crate) identity_token: Option<String>,
}

impl Authorizer {
    pub(crate) fn new(credentials: Credentials, secure: bool) -> Self {
        Self {
            credentials,
            secure,
            state: Mutex::default(),
        }
    }

    /// The header for a request, as far as it is known without asking.
    pub(crate) async fn known(&self, scope: &str) -> Option<String> {
        let state = self.state.lock().await;
        if state.basic {
            return self.credentials.basic();
        }
        let token = state.tokens.get(scope)?;
        (token.until > Instant::now() + MARGIN).then(|| token.header.clone())
    }

    /// Answers a challenge. `used` is the header that was refused; if somebody renewed it meanwhile, that one is
    /// returned. `None`: nothing here answers it.
    ///
    /// `offline` asks for an identity token too.
    pub(crate) async fn answer(
        &self,
        http: &Client,
        challenges: &[Challenge],
        scope: &str,
        used: Option<&str>,
        offline: bool,
    ) -> Result<Option<Granted>, Error> {
        let mut state = self.state.lock().await;
        let fresh = |header: String| {
            Some(Granted {
                header,
                identity_token: None,
            })
        };
        if let Some(token) = state.tokens.get(scope)
            && used.is_some_and(|used| used != token.header)
        {
            return Ok(fresh(token.header.clone()));
        }
        for challenge in challenges {
            match challenge.scheme.as_str() {
                "bearer" if !self.credentials.registry_token.is_empty() => {
                    let header = format!("Bearer {}", self.credentials.registry_token);
                    if used == Some(&header) {
                        return Ok(None);
                    }
                    return Ok(fresh(header));
                }
                "bearer" => {
                    let (token, identity_token) =
                        self.fetch(http, challenge, scope, offline).await?;
                    let header = token.header.clone();
                    state.tokens.insert(scope.to_owned(), token);
                    return Ok(Some(Granted {
                        header,
                        identity_token,
                    }));
                }
                "basic" => {
                    let Some(header) = self.credentials.basic() else {
                        return Err(Error::Unauthorized("no basic auth credentials".to_owned()));
                    };
                    if used == Some(&header) {
                        return Ok(None);
                    }
                    state.basic = true;
                    return Ok(fresh(header));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    async fn fetch(
        &self,
        http: &Client,
        challenge: &Challenge,
        scope: &str,
        offline: bool,
    ) -> Result<(Token, Option<String>), Error> {
        let broken = |problem: &str| Error::Answer {
            message: format!("the registry's token challenge cannot be answered: {problem}"),
            transient: false,
            after: None,
        };
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str);
        let realm = parameter("realm").ok_or_else(|| broken("it names no realm"))?;
        let mut url = Url::parse(realm).map_err(|e| broken(&e.to_string()))?;
        let basic = self.credentials.basic();
        let has_secret = basic.is_some() || !self.credentials.identity_token.is_empty();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(broken("its realm is no http URL"));
        }
        if has_secret && self.secure && url.scheme() == "http" {
            return Err(broken("its realm would take the credentials unencrypted"));
        }
        let service = parameter("service").unwrap_or_default();
        let scopes: Vec<&str> = scope.split(' ').filter(|s| !s.is_empty()).collect();
        let request = if self.credentials.identity_token.is_empty() {
            {
                let mut query = url.query_pairs_mut();
                if !service.is_empty() {
                    query.append_pair("service", service);
                }
                for scope in scopes {
                    query.append_pair("scope", scope);
                }
                if basic.is_some() {
                    query.append_pair("account", &self.credentials.username);
                }
                if offline {
                    query.append_pair("offline_token", "true");
                    query.append_pair("client_id", CLIENT_ID);
                }
            }
            let request = http.get(url.clone());
            match basic {
                Some(basic) => request.header("authorization", basic),
                None => request,
            }
        } else {
            let scope = scopes.join(" ");
            let form = form(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", &self.credentials.identity_token),
                ("service", service),
                ("client_id", CLIENT_ID),
                ("scope", &scope),
            ]);
            http.post(url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
        };
        let method = if self.credentials.identity_token.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let response = request.send().await.map_err(|error| Error::Unreachable {
            request: word::of_request(&method, &url),
            reason: word::of_failure(&error, &url),
        })?;
        if !response.status().is_success() {
            return Err(refused(response, &method, &url).await);
        }
        let body = read_limited(response, MAX_TOKEN_ANSWER_BYTES, &url).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| broken("the answer is not a token"))?;
        let value = answer
            .token
            .filter(|t| !t.is_empty())
            .or(answer.access_token)
            .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| broken("the answer has no token"))?;
        let lifetime = answer
            .expires_in
            .map_or(DEFAULT_LIFETIME, |s| Duration::from_secs(s.min(86_400)))
            .max(DEFAULT_LIFETIME);
        let token = Token {
            header: format!("Bearer {value}"),
            until: Instant::now() + lifetime,
        };
        Ok((token, answer.refresh_token.filter(|t| !t.is_empty())))
    }
}

/// `a=b&c=d`, percent-encoded.
fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://x").expect("it is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
