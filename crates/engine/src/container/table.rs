//! All containers by id and by name, and how a user's word finds one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Container;
use crate::Error;

/// The index. Names are reserved before their container exists, so that two
/// creations cannot take the same.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_id: BTreeMap<String, Arc<Container>>,
    names: HashMap<String, String>,
}

impl Table {
    /// Takes a name for an id; the id that has it already is the error.
    pub(crate) fn reserve(&mut self, name: &str, id: &str) -> Result<(), String> {
        match self.names.get(name) {
            Some(owner) => Err(owner.clone()),
            None => {
                self.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a reserved name back.
    pub(crate) fn release(&mut self, name: &str) {
        self.names.remove(name);
    }

    pub(crate) fn insert(&mut self, container: Arc<Container>) {
        self.names
            .insert(container.name().as_ref().clone(), container.id().to_owned());
        self.by_id.insert(container.id().to_owned(), container);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(container) = self.by_id.remove(id) {
            self.names.remove(container.name().as_str());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.by_id.values()
    }

    /// Full id, then exact name, then a prefix of one id only (COMPAT D3.2).
    pub(crate) fn find(&self, word: &str) -> Result<Arc<Container>, Error> {
        if let Some(container) = self.by_id.get(word) {
            return Ok(Arc::clone(container));
        }
        let name = word.strip_prefix('/').unwrap_or(word);
        if let Some(container) = self.names.get(name).and_then(|id| self.by_id.get(id)) {
            return Ok(Arc::clone(container));
        }
        if word.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        let mut found = self
            .by_id
            .range(word.to_owned()..)
            .take_while(|(id, _)| id.starts_with(word))
            .map(|(_, container)| container);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(Arc::clone(only)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {word}"
            ))),
            (None, _) => Err(Error::no_container(word)),
        }
    }
}
