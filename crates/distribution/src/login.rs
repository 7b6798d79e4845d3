//! Login: whether a registry believes credentials, and the identity token it may give for them.

use reqwest::{Method, StatusCode};

use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::Error;
use crate::registries::Registries;
use crate::session::{Ask, Session, challenges, named, refused};

/// The names Docker Hub has in `config.json`.
const HUB_SERVERS: [&str; 4] = [
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
    "www.docker.com",
];

/// A login that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// To be kept in place of the password, if the registry gave one.
    pub identity_token: Option<String>,
}

/// The registry of a server's address: `https://index.docker.io/v1/` is Docker Hub's.
pub(crate) fn registry_of(server: &str) -> String {
    let host = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    let host = host.split('/').next().unwrap_or_default();
    if host.is_empty() || HUB_SERVERS.contains(&host) {
        return conex_spec::reference::DEFAULT_DOMAIN.to_owned();
    }
    host.to_owned()
}

impl Registries {
    /// Shows credentials to the registry they are for.
    ///
    /// Errors: it cannot be reached, or does not believe them; of an insecure registry's two ways the last is told.
    pub async fn login(&self, credentials: &Credentials) -> Result<Login, Error> {
        let settings = self.settings();
        let registry = registry_of(&credentials.server_address);
        let credentials = credentials.clone();
        let opening = tokio::task::spawn_blocking(move || {
            endpoint::of_registry(&settings, &registry, "")?
                .into_iter()
                .map(|endpoint| Session::new(&settings, endpoint, &credentials))
                .collect::<Result<Vec<_>, _>>()
        });
        let sessions = opening.await.map_err(|e| Error::Local(e.into()))??;
        let mut failure = None;
        for session in &sessions {
            match log_in(session).await {
                Err(error @ Error::Unreachable { .. }) => failure = Some(error),
                answered => return answered,
            }
        }
        Err(failure.unwrap_or_else(|| Error::NotFound("no such registry".into())))
    }
}

async fn log_in(session: &Session) -> Result<Login, Error> {
    let ask = Ask::new(Method::GET, session.endpoint.base.clone(), "");
    let challenge = {
        // Without credentials first, to hear what it wants.
        let request = session.http.get(ask.url.clone()).send();
        let response = request.await.map_err(|error| Error::Unreachable {
            request: crate::word::of_request(&ask.method, &ask.url),
            reason: crate::word::of_failure(&error, &ask.url),
        })?;
        match response.status() {
            StatusCode::UNAUTHORIZED => challenges(&response),
            status if status.is_success() => {
                return Ok(Login {
                    identity_token: None,
                });
            }
            _ => return Err(refused(response, &ask.method, &ask.url).await),
        }
    };
    let granted = session
        .authorizer
        .answer(&session.http, &challenge, "", None, true)
        .await
        .map_err(|error| match error {
            // Told of the registry, and not of its token server.
            Error::Unauthorized(text) => {
                let words = text.split_once("\": ").map_or(&*text, |(_, words)| words);
                named(Error::Unauthorized(words.to_owned()), &ask.method, &ask.url)
            }
            other => other,
        })?;
    let response = session.send(&ask).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(Login {
            identity_token: granted.and_then(|granted| granted.identity_token),
        });
    }
    let text = format!("login attempt to {} failed with status: {status}", ask.url);
    Err(match status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized(text),
        _ => Error::Answer {
            message: text,
            transient: false,
            after: None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::registry_of;

    #[test]
    fn a_servers_address_is_read_with_and_without_scheme_and_path() {
        for (server, registry) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://r.lan:5000/v2/", "r.lan:5000"),
        ] {
            assert_eq!(registry_of(server), registry);
        }
    }
}
