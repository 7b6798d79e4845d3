//! All containers by id and by name, and how a user's word finds one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Container;
use crate::Error;

/// The index. Names are reserved before their container exists, so that two
/// creations cannot take the same.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_id: BTreeMap<String, Arc<Container>>,
    names: HashMap<String, String>,
    /// Images of containers that are being created, by the containers' ids.
    creating: HashMap<String, String>,
    /// Images that are being removed.
    condemned: HashSet<String>,
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

    /// Holds an image for a container to be; `false` when it is being removed.
    pub(crate) fn begin(&mut self, id: &str, image_id: &str) -> bool {
        let is_there = !self.condemned.contains(image_id);
        if is_there {
            self.creating.insert(id.to_owned(), image_id.to_owned());
        }
        is_there
    }

    /// The container came to be, or did not.
    pub(crate) fn end(&mut self, id: &str) {
        self.creating.remove(id);
    }

    /// Containers, existing and to be, of an image, and whether they run.
    pub(crate) fn users_of(&self, image_id: &str) -> Vec<(String, bool)> {
        let own = self
            .by_id
            .values()
            .filter(|c| c.record.image_id == image_id);
        let existing = own.map(|c| (c.id().to_owned(), c.state().is_running()));
        let to_be = self
            .creating
            .iter()
            .filter(|(id, image)| *image == image_id && !self.by_id.contains_key(*id));
        existing
            .chain(to_be.map(|(id, _)| (id.clone(), false)))
            .collect()
    }

    /// Lets no container begin that would use an image; `false` when one does already.
    pub(crate) fn condemn(&mut self, image_id: &str) -> bool {
        let is_free = self.users_of(image_id).is_empty();
        if is_free {
            self.condemned.insert(image_id.to_owned());
        }
        is_free
    }

    /// An image that was condemned is gone, or stays.
    pub(crate) fn absolve(&mut self, image_id: &str) {
        self.condemned.remove(image_id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_not_removed_under_a_container_to_be_nor_begun_with_while_it_goes() {
        let mut table = Table::default();
        assert!(table.begin("c", "image"));
        assert_eq!(table.users_of("image"), [("c".to_owned(), false)]);
        assert!(!table.condemn("image"));
        table.end("c");
        assert!(table.condemn("image"));
        assert!(!table.begin("d", "image"));
        table.absolve("image");
        assert!(table.begin("d", "image"));
    }
}
