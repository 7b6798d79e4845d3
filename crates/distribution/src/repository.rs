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
        }
    }

    /// The image it was opened for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Scope of the token that requests to a host need.
    pub(crate) fn scope(&self, session: &Session) -> String {
        let repository = &session.endpoint.repository;
        match self.access {
            Access::Pull => format!("repository:{repository}:pull"),
            Access::Push => format!("repository:{repository}:pull,push"),
        }
    }

    /// Whether the registry has answered in another way (http for https) than this session's.
    fn is_settled(&self, index: usize) -> bool {
        let another = self.sessions.iter().enumerate().any(|(other, session)| {
            other != index && session.endpoint.role == Role::Registry && session.has_answered()
        });
        another && !self.sessions[index].has_answered()
    }

    /// The hosts to ask, one after the other until one has an answer.
    pub(crate) fn round(&self, suits: impl Fn(&Session) -> bool) -> Round<'_> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.sessions.len()).collect();
        order.retain(|index| suits(&self.sessions[*index]));
        order.sort_by_key(|index| *index != preferred);
        Round {
            repository: self,
            left: order.into_iter(),
            asked: 0,
            failure: None,
        }
    }
}

/// One question to the hosts of a repository.
///
/// A mirror's failure is passed over. The registry itself is asked in another way (http after https) only if it has
/// not answered in the first.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    repository: &'a Repository,
    left: std::vec::IntoIter<usize>,
    asked: usize,
    failure: Option<(Role, Error)>,
}

impl<'a> Round<'a> {
    /// The next host to ask.
    pub(crate) fn next(&mut self) -> Option<&'a Session> {
        let repository = self.repository;
        for index in self.left.by_ref() {
            let session = &repository.sessions[index];
            if session.endpoint.role == Role::Registry && repository.is_settled(index) {
                continue;
            }
            self.asked = index;
            return Some(session);
        }
        None
    }

    /// What the host said: an answer ends the round, an error only if no other host can help.
    pub(crate) fn heard<T>(&mut self, said: Result<T, Error>) -> Result<Option<T>, Error> {
        let session = &self.repository.sessions[self.asked];
        let role = session.endpoint.role;
        match said {
            Ok(answer) => {
                self.repository
                    .preferred
                    .store(self.asked, Ordering::Relaxed);
                Ok(Some(answer))
            }
            Err(error) if !error.another_host_may_help() => Err(error),
            Err(error) => {
                if role == Role::Mirror {
                    tracing::warn!(
                        mirror = session.endpoint.authority(),
                        %error,
                        "a mirror does not help"
                    );
                }
                // The registry's own error is the one to tell, and of its two ways the one that answered.
                let told = self.failure.as_ref().is_some_and(|(role, error)| {
                    *role == Role::Registry && !spoke_otherwise(error)
                });
                if !told || (role == Role::Registry && session.has_answered()) {
                    self.failure = Some((role, error));
                }
                Ok(None)
            }
        }
    }

    /// Nobody had an answer.
    pub(crate) fn error(self) -> Error {
        match self.failure {
            Some((_, error)) => error,
            None => Error::Answer {
                message: format!(
                    "no host is configured for {}",
                    self.repository.reference.familiar()
                ),
                transient: false,
                after: None,
            },
        }
    }
}

/// Whether a host is there and has no TLS.
fn spoke_otherwise(error: &Error) -> bool {
    matches!(error, Error::Unreachable { reason, .. } if reason == word::PLAIN_ANSWER)
}
