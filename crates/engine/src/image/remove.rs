//! `rmi` and `tag`: names come and go; an image goes with its last name, and
//! its layers with the last image that stands on them.

use std::sync::Arc;

use conex_api::image::{DeleteItem, RemoveOptions};
use conex_spec::reference::Reference;
use conex_store::records::images::{self as records, LayerRecord, ReferenceRecord};

use super::{Image, Names, familiar};
use crate::engine::Inner;
use crate::time::now_ns;
use crate::{Engine, Error};

impl Engine {
    /// Gives an image one more name; the name leaves the image it had before.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<(), Error> {
        let image = self.inner.images.find(name)?;
        let invalid = |e: &dyn std::error::Error| Error::invalid(e.to_string());
        let target = Reference::parse(repo).map_err(|e| invalid(&e))?;
        if target.digest().is_some() {
            return Err(Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let target = match tag {
            "" => target.with_default_tag(),
            tag => target.with_tag(tag).map_err(|e| invalid(&e))?,
        };
        let engine = Arc::clone(&self.inner);
        blocking(move || {
            let (full, id, now) = (target.to_string(), image.id.to_string(), now_ns());
            let row = ReferenceRecord {
                reference: full.clone(),
                image_id: id.clone(),
                updated_ns: now,
            };
            engine
                .images
                .db
                .run(move |db| records::set_reference(db, &row))
                .map_err(|e| Error::system("record the name", &e))?;
            engine
                .images
                .known_mut()
                .references
                .insert(full, (id.clone(), now));
            engine.image_event("tag", &id, &target.familiar());
            Ok(())
        })
        .await
    }

    /// Removes a name, and the image with its last one.
    ///
    /// Errors: conflict when a container uses the image, or when it is asked
    /// for by id and has several names (COMPAT D3.9).
    pub async fn image_remove(
        &self,
        name: &str,
        options: RemoveOptions,
    ) -> Result<Vec<DeleteItem>, Error> {
        let engine = Arc::clone(&self.inner);
        let word = name.to_owned();
        blocking(move || engine.remove_image(&word, options)).await
    }
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|e| Error::system("change images", &e))?
}

/// A full name without tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or_default();
    let tag = name
        .rfind(':')
        .filter(|colon| !name[*colon..].contains('/'));
    tag.map_or(name, |colon| &name[..colon])
}

/// What is taken away with a name: the last tag of a repository takes the repository's digests with it.
fn going_with<'a>(full: &'a str, names: &'a [String]) -> Vec<&'a str> {
    let own = repository(full);
    let others = names
        .iter()
        .filter(|name| *name != full && repository(name) == own);
    let (digests, tags): (Vec<&String>, Vec<&String>) = others.partition(|name| name.contains('@'));
    let mut going = vec![full];
    if tags.is_empty() && !full.contains('@') {
        going.extend(digests.iter().map(|name| name.as_str()));
    }
    going
}

/// Whether all names are of one repository, with one tag at most.
fn is_single(names: &[String]) -> bool {
    let tags = names.iter().filter(|name| !name.contains('@')).count();
    let mut repositories = names.iter().map(|name| repository(name));
    let first = repositories.next();
    tags <= 1 && repositories.all(|other| Some(other) == first)
}

impl Inner {
    pub(super) fn remove_image(
        &self,
        word: &str,
        options: RemoveOptions,
    ) -> Result<Vec<DeleteItem>, Error> {
        let image = self.images.find(word)?;
        let id = image.id.to_string();
        let names: Vec<String> = {
            let known = self.images.known();
            let own = known.references.iter().filter(|(_, (i, _))| *i == id);
            own.map(|(name, _)| name.clone()).collect()
        };
        let asked = Reference::parse(word)
            .ok()
            .map(|r| r.with_default_tag().to_string());
        let by_name = asked.filter(|full| names.contains(full));
        let short = crate::id::short(&id).to_owned();
        let mut done = Vec::new();
        let users = self.users_of(&id);
        match &by_name {
            Some(full) => {
                let going = going_with(full, &names);
                if going.len() < names.len() {
                    for name in going {
                        self.untag(name, &id, &mut done)?;
                    }
                    return Ok(done);
                }
                if let Some((user, running)) = users.first()
                    && (*running || !options.force)
                {
                    let verb = "remove repository reference";
                    return Err(in_use(&familiar(full), user, *running, verb, &short));
                }
            }
            None => {
                if !is_single(&names) && !options.force {
                    return Err(Error::conflict(format!(
                        "conflict: unable to delete {short} (must be forced) - image is \
                         referenced in multiple repositories"
                    )));
                }
                if let Some((user, running)) = users.first()
                    && (*running || !options.force)
                {
                    return Err(in_use(&short, user, *running, "delete", &short));
                }
            }
        }
        for name in &names {
            self.untag(name, &id, &mut done)?;
        }
        // A stopped container keeps what it stands on: the name goes, the
        // image stays without one.
        if !self.has_children(&id) && self.table_mut().condemn(&id) {
            let deleted = self.delete_image(&image, options.noprune, &mut done);
            self.table_mut().absolve(&id);
            deleted?;
        }
        Ok(done)
    }

    fn untag(&self, full: &str, id: &str, done: &mut Vec<DeleteItem>) -> Result<(), Error> {
        let row = full.to_owned();
        self.images
            .db
            .run(move |db| records::delete_reference(db, &row))
            .map_err(|e| Error::system("remove the name", &e))?;
        self.images.known_mut().references.remove(full);
        let shown = familiar(full);
        self.image_event("untag", id, &shown);
        done.push(DeleteItem::untagged(shown));
        Ok(())
    }

    fn delete_image(
        &self,
        image: &Image,
        noprune: bool,
        done: &mut Vec<DeleteItem>,
    ) -> Result<(), Error> {
        let id = image.id.to_string();
        let row = id.clone();
        let layering = self.images.layering();
        self.images
            .db
            .run(move |db| records::delete_image(db, &row))
            .map_err(|e| Error::system("remove the image", &e))?;
        self.images.known_mut().images.remove(&id);
        self.image_event("delete", &id, &id);
        done.push(DeleteItem::deleted(&id));
        for layer in self.unused_layers(image) {
            self.images.drop_layer(self.driver.as_ref(), &layer)?;
            if !layer.chain_id.starts_with("init:") {
                done.push(DeleteItem::deleted(layer.chain_id));
            }
        }
        drop(layering);
        let parent = image.parent.clone().filter(|_| !noprune);
        if let Some(parent) = parent
            && let Ok(parent) = self.images.find(&parent)
        {
            let parent_id = parent.id.to_string();
            let free = self.images.names_of(&parent_id) == Names::default()
                && !self.has_children(&parent_id)
                && self.table_mut().condemn(&parent_id);
            if free {
                let deleted = self.delete_image(&parent, noprune, done);
                self.table_mut().absolve(&parent_id);
                deleted?;
            }
        }
        Ok(())
    }

    /// Layers of a removed image that no other image has and no image being
    /// made needs, top first, each preceded by its init layer.
    fn unused_layers(&self, image: &Image) -> Vec<LayerRecord> {
        let known = self.images.known();
        let mut unused = Vec::new();
        for chain in image.chains.iter().rev() {
            if known.images.values().any(|i| i.chains.contains(chain))
                || known.holds.contains_key(chain.as_str())
            {
                break;
            }
            let init = known.layers.get(&format!("init:{}", chain.hex()));
            unused.extend(init.cloned());
            unused.extend(known.layers.get(chain.as_str()).cloned());
        }
        unused
    }

    fn has_children(&self, id: &str) -> bool {
        self.images
            .known()
            .images
            .values()
            .any(|i| i.parent.as_deref() == Some(id))
    }

    /// Containers of an image, running ones first: id, and whether it runs.
    fn users_of(&self, image: &str) -> Vec<(String, bool)> {
        let mut users = self.table().users_of(image);
        users.sort_by_key(|(_, running)| !running);
        users
    }
}

fn in_use(what: &str, user: &str, running: bool, verb: &str, image: &str) -> Error {
    let user = crate::id::short(user);
    Error::conflict(match (running, verb) {
        (true, "delete") => format!(
            "conflict: unable to delete {what} (cannot be forced) - image is being used by \
             running container {user}"
        ),
        (false, "delete") => format!(
            "conflict: unable to delete {what} (must be forced) - image is being used by \
             stopped container {user}"
        ),
        (true, _) => format!(
            "conflict: unable to remove repository reference \"{what}\" (cannot be forced) - \
             container {user} is using its referenced image {image}"
        ),
        (false, _) => format!(
            "conflict: unable to remove repository reference \"{what}\" (must force) - \
             container {user} is using its referenced image {image}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repositorys_digests_go_with_its_last_tag() {
        let names = ["r:5/a:1", "r:5/a@sha256:x", "r:5/b@sha256:x"].map(str::to_owned);
        assert_eq!(going_with("r:5/a:1", &names), ["r:5/a:1", "r:5/a@sha256:x"]);
        assert_eq!(going_with("r:5/a@sha256:x", &names), ["r:5/a@sha256:x"]);
        let two = ["r/a:1", "r/a:2", "r/a@sha256:x"].map(str::to_owned);
        assert_eq!(going_with("r/a:1", &two), ["r/a:1"]);
    }

    #[test]
    fn one_tag_and_its_digests_are_one_name() {
        let single =
            |names: &[&str]| is_single(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert!(single(&[]) && single(&["r/a:1"]) && single(&["r/a:1", "r/a@sha256:x"]));
        assert!(!single(&["r/a:1", "r/a:2"]) && !single(&["r/a:1", "r/b@sha256:x"]));
    }
}
