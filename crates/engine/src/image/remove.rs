//! `rmi` and `tag`: names come and go; an image goes with its last name, and
//! its layers with the last image that stands on them.

use std::collections::HashMap;
use std::sync::Arc;

use conex_api::image::{DeleteItem, RemoveOptions};
use conex_spec::reference::Reference;
use conex_store::records::Found;
use conex_store::records::images::{self as records, LayerRecord, ReferenceRecord};

use super::{Image, familiar};
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
        let word = name.to_owned();
        blocking(move || {
            let (full, id, now) = (target.to_string(), image.id.to_string(), now_ns());
            let row = ReferenceRecord {
                reference: full.clone(),
                image_id: id.clone(),
                updated_ns: now,
            };
            let _committing = engine.images.committing();
            if !engine.images.known().images.contains_key(&id) {
                // It has gone since it was found.
                return Err(Error::no_image(&word));
            }
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
    /// for by id and has several names or children (COMPAT D3.9).
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

/// An image on its way out.
struct Leaving {
    image: Arc<Image>,
    /// All it has.
    names: Vec<String>,
    /// Whether it goes itself, and is condemned until then.
    goes: bool,
}

impl Inner {
    fn remove_image(&self, word: &str, options: RemoveOptions) -> Result<Vec<DeleteItem>, Error> {
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
        let users = self.users_of(&id);
        match &by_name {
            Some(full) => {
                let going = going_with(full, &names);
                if going.len() < names.len() {
                    return self.untag(&going, &id);
                }
                if let Some((user, running)) = users.first()
                    && (*running || !options.force)
                {
                    let verb = "remove repository reference";
                    return Err(in_use(&familiar(full), user, *running, verb, &short));
                }
            }
            None => {
                let is_parent = |other: &Arc<Image>| other.parent.as_deref() == Some(id.as_str());
                if self.images.known().images.values().any(is_parent) {
                    return Err(Error::conflict(format!(
                        "conflict: unable to delete {short} (cannot be forced) - image has \
                         dependent child images"
                    )));
                }
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
        self.take_away(&[image], !options.noprune)
    }

    fn untag(&self, names: &[&str], id: &str) -> Result<Vec<DeleteItem>, Error> {
        let rows: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let image = id.to_owned();
        let _committing = self.images.committing();
        self.images
            .db
            .run(move |db| {
                let delete = |row: &String| records::delete_reference_to(db, row, &image).map(drop);
                rows.iter().try_for_each(delete)
            })
            .map_err(|e| Error::system("remove the name", &e))?;
        Ok(self.show_untagged(names, id))
    }

    /// Names that are out of the records leave the memory, and it is told.
    fn show_untagged(&self, names: &[&str], id: &str) -> Vec<DeleteItem> {
        let untagged = |full: &&str| {
            let mut known = self.images.known_mut();
            // Unless it has been given to another image since.
            if known.references.get(*full).is_some_and(|(it, _)| it == id) {
                known.references.remove(*full);
            }
            drop(known);
            let shown = familiar(full);
            self.image_event("untag", id, &shown);
            DeleteItem::untagged(shown)
        };
        names.iter().map(untagged).collect()
    }

    /// Takes all names of images away, then those of the images that neither a container nor a child needs, with
    /// their layers. With `upwards` also parents that only these have kept.
    ///
    /// Two commits, however many there are: names and images, and the records of layers whose files are aside.
    pub(super) fn take_away(
        &self,
        images: &[Arc<Image>],
        upwards: bool,
    ) -> Result<Vec<DeleteItem>, Error> {
        let leaving = self.leaving(images, upwards);
        let layering = self.images.layering();
        let done = self.remove_leaving(&leaving);
        drop(layering);
        let mut table = self.table_mut();
        for one in leaving.iter().filter(|one| one.goes) {
            table.absolve(one.image.id.as_str());
        }
        done
    }

    /// What goes with these images, each after what stands on it. What goes is condemned.
    fn leaving(&self, images: &[Arc<Image>], upwards: bool) -> Vec<Leaving> {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        let mut children: HashMap<String, usize> = HashMap::new();
        {
            let known = self.images.known();
            for (name, (id, _)) in &known.references {
                names.entry(id.clone()).or_default().push(name.clone());
            }
            for parent in known.images.values().filter_map(|i| i.parent.as_deref()) {
                *children.entry(parent.to_owned()).or_default() += 1;
            }
        }
        let mut leaving = Vec::new();
        for image in images {
            let mut next = Some(Arc::clone(image));
            let mut is_asked = true;
            while let Some(image) = next.take() {
                let id = image.id.as_str();
                let own = match is_asked {
                    true => names.remove(id).unwrap_or_default(),
                    false if upwards && !names.contains_key(id) => Vec::new(),
                    false => break,
                };
                // A stopped container keeps what it stands on: the name goes, the image stays without one.
                let goes = !children.contains_key(id) && self.table_mut().condemn(id);
                if goes && let Some(parent) = &image.parent {
                    let left = children.get_mut(parent).map(|count| {
                        *count -= 1;
                        *count
                    });
                    if left == Some(0) {
                        children.remove(parent);
                    }
                    next = self.images.known().images.get(parent).cloned();
                }
                if goes || is_asked {
                    let names = own;
                    leaving.push(Leaving { image, names, goes });
                }
                is_asked = false;
            }
        }
        leaving
    }

    /// The caller keeps others from deciding about layers.
    fn remove_leaving(&self, leaving: &[Leaving]) -> Result<Vec<DeleteItem>, Error> {
        let row = |one: &Leaving| (one.image.id.to_string(), one.names.clone(), one.goes);
        let rows: Vec<(String, Vec<String>, bool)> = leaving.iter().map(row).collect();
        let committing = self.images.committing();
        let gone: Vec<bool> = self
            .images
            .db
            .run(move |db| {
                let remove = |(id, names, goes): &(String, Vec<String>, bool)| {
                    for name in names {
                        records::delete_reference_to(db, name, id)?;
                    }
                    // Somebody may have given it another name meanwhile.
                    Ok(*goes && records::delete_image(db, id)? == Found::Yes)
                };
                rows.iter().map(remove).collect()
            })
            .map_err(|e| Error::system("remove the image", &e))?;
        let mut users = self.images.known().users_of_chains();
        let mut done = Vec::new();
        let mut unused = Vec::new();
        for (one, is_gone) in leaving.iter().zip(gone) {
            let id = one.image.id.as_str();
            let names: Vec<&str> = one.names.iter().map(String::as_str).collect();
            done.extend(self.show_untagged(&names, id));
            if !is_gone {
                continue;
            }
            self.images.known_mut().images.remove(id);
            self.image_event("delete", id, id);
            done.push(DeleteItem::deleted(id));
            for layer in self.unused_layers(&one.image, &mut users) {
                if !layer.chain_id.starts_with("init:") {
                    done.push(DeleteItem::deleted(&layer.chain_id));
                }
                unused.push(layer);
            }
        }
        drop(committing);
        self.images.drop_layers(self.driver.as_ref(), &unused)?;
        Ok(done)
    }

    /// Layers of a removed image that no other image has and no image being
    /// made needs, top first, each preceded by its init layer. Of `users` it is
    /// taken away.
    fn unused_layers(&self, image: &Image, users: &mut HashMap<String, usize>) -> Vec<LayerRecord> {
        let known = self.images.known();
        let mut unused = Vec::new();
        let mut is_needed = false;
        for chain in image.chains.iter().rev() {
            let others = users.get_mut(chain.as_str()).map_or(0, |count| {
                *count = count.saturating_sub(1);
                *count
            });
            is_needed |= others > 0 || known.holds.contains_key(chain.as_str());
            if is_needed {
                continue;
            }
            let init = known.layers.get(&format!("init:{}", chain.hex()));
            unused.extend(init.cloned());
            unused.extend(known.layers.get(chain.as_str()).cloned());
        }
        unused
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
