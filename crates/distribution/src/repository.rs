//! One image's repository, and the hosts that have it: the one that answered last is asked first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_spec::reference::Reference;

use crate::endpoint::Role;
use crate::error::Error;
use crate::session::Session;
use crate::settings::Settings;
use crate::word;

/// What a repository is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// A repository and the way to it.
#[derive(Debug)]
pub struct Repository {
    pub(crate) settings: Arc<Settings>,
    pub(crate) reference: Reference,
    sessions: Vec<Session>,
    preferred: AtomicUsize,
    access: Access,
    /// Repository of the same registry that blobs may be mounted from.
    mount_from: Option<String>,
}

impl Repository {
    pub(crate) fn new(
        settings: Arc<Settings>,
        reference: Reference,
        sessions: Vec<Session>,
        access: Access,
    ) -> Self {
        Self {
            settings,
            reference,
            sessions,
            preferred: AtomicUsize::new(0),
            access,
            mount_from: None,
        }
    }

    /// The image it was opened for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The same, with tokens that also read another repository of the registry, for mounting blobs out of it.
    #[must_use]
    pub fn mounting_from(mut self, repository: &str) -> Self {
        self.mount_from = Some(repository.to_owned());
        self
    }

    /// Scopes of the token that requests to a host need.
    pub(crate) fn scope(&self, session: &Session) -> String {
        let repository = &session.endpoint.repository;
        match (self.access, &self.mount_from) {
            (Access::Pull, _) => format!("repository:{repository}:pull"),
            (Access::Push, None) => format!("repository:{repository}:pull,push"),
            (Access::Push, Some(other)) => {
                format!("repository:{other}:pull repository:{repository}:pull,push")
            }
        }
    }

    /// Whether the registry has answered in another way (http for https) than this session's.
    fn is_settled(&self, index: usize) -> bool {
        let another = self.sessions.iter().enumerate().any(|(other, session)| {
            other != index && session.endpoint.role == Role::Registry && session.has_answered()
        });
        another && !self.sessions[index].has_answered()
    }

    /// Asks one host after the other until one has an answer.
    ///
    /// A mirror's failure is passed over. The registry itself is asked in another way (http after https) only if it
    /// has not answered in the first.
    pub(crate) async fn first<T>(
        &self,
        suits: impl Fn(&Session) -> bool,
        mut ask: impl AsyncFnMut(&Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.sessions.len()).collect();
        order.sort_by_key(|index| *index != preferred);
        let mut failure: Option<(Role, Error)> = None;
        for index in order {
            let session = &self.sessions[index];
            let role = session.endpoint.role;
            if !suits(session) || (role == Role::Registry && self.is_settled(index)) {
                continue;
            }
            match ask(session).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if !error.another_host_may_help() => return Err(error),
                Err(error) => {
                    if role == Role::Mirror {
                        tracing::warn!(
                            mirror = session.endpoint.authority(),
                            %error,
                            "a mirror does not help"
                        );
                    }
                    // The registry's own error is the one to tell, and of its two ways the one that answered.
                    let told = failure.as_ref().is_some_and(|(role, error)| {
                        *role == Role::Registry && !spoke_otherwise(error)
                    });
                    if !told || (role == Role::Registry && session.has_answered()) {
                        failure = Some((role, error));
                    }
                }
            }
        }
        Err(match failure {
            Some((_, error)) => error,
            None => Error::Answer {
                message: format!("no host is configured for {}", self.reference.familiar()),
                transient: false,
                after: None,
            },
        })
    }
}

/// Whether a host is there and has no TLS.
fn spoke_otherwise(error: &Error) -> bool {
    matches!(error, Error::Unreachable { reason, .. } if reason == word::PLAIN_ANSWER)
}
