//! `image verify`: every layer's archive is made again from its files and
//! compared with its digest, and its entries with the tree, so that a file that
//! changed or is gone on the disk is found and named, whether it is its content,
//! its owner or that it hides another one. It must not mend anything.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use conex_api::check::{Verification, VerifiedLayer};
use conex_layers::{compare, recipe};

use super::Image;
use crate::engine::Inner;
use crate::error::chain;
use crate::{Engine, Error};

impl Engine {
    /// Verifies the layers of one image, or of all. Reads every file of them.
    pub async fn image_verify(&self, name: Option<&str>) -> Result<Verification, Error> {
        let images: Vec<Arc<Image>> = match name {
            Some(name) => vec![self.inner.images.find(name)?],
            None => self.inner.images.known().images.values().cloned().collect(),
        };
        let engine = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || engine.verify(&images))
            .await
            .map_err(|e| Error::system("verify images", &e))
    }
}

impl Inner {
    fn verify(&self, images: &[Arc<Image>]) -> Verification {
        let mut layers: BTreeMap<String, VerifiedLayer> = BTreeMap::new();
        for image in images {
            for (index, id) in image.chains.iter().enumerate() {
                let layer = layers.entry(id.to_string()).or_insert_with(|| {
                    let (file, problem) = self.verify_layer(image, index);
                    VerifiedLayer {
                        chain_id: id.to_string(),
                        diff_id: image.config.rootfs.diff_ids[index].to_string(),
                        file,
                        problem,
                        ..VerifiedLayer::default()
                    }
                });
                layer.images.push(image.id.to_string());
            }
        }
        Verification {
            layers: layers.into_values().collect(),
        }
    }

    /// The first file that is not what it was, and what is wrong; both empty
    /// for a sound layer.
    fn verify_layer(&self, image: &Image, index: usize) -> (String, String) {
        let archive = match self.layer_archive(image, index) {
            Ok(archive) => archive,
            Err(error) => return (String::new(), error.to_string()),
        };
        let tree = self.layer_of(&image.chains[index]);
        let tree = tree.and_then(|id| {
            let content = self.driver.content(&id);
            content.map_err(|e| Error::system("open the layer", &e))
        });
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => return (String::new(), error.to_string()),
        };
        let mut archive = Noting {
            archive,
            failed: None,
        };
        let compared = compare::compare(&mut archive, tree, self.driver.kind().whiteouts());
        // What stands behind the end mark is in the digest too.
        if archive.failed.is_none() {
            let _noted = io::copy(&mut archive, &mut io::sink()).is_err();
        }
        match (archive.failed, compared) {
            (Some(failed), _) => failed,
            (None, Ok(None)) => Default::default(),
            (None, Ok(Some(found))) => {
                let problem = format!("{:?} is damaged: {}", found.path, found.problem);
                (found.path, problem)
            }
            (None, Err(error)) => (String::new(), chain(&error)),
        }
    }
}

/// A layer's archive that keeps what went wrong with it for whom the reader's
/// error does not tell.
struct Noting<R> {
    archive: R,
    failed: Option<(String, String)>,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.archive.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(told(error));
            }
        })
    }
}

fn told(error: &io::Error) -> (String, String) {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(error @ (recipe::Error::File { path, .. } | recipe::Error::Damaged { path, .. })) => {
            (path.clone(), chain(error))
        }
        Some(error) => (String::new(), chain(error)),
        None => (String::new(), chain(error)),
    }
}
