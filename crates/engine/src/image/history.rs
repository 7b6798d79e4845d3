//! `history`: how an image came to be, newest step first (COMPAT D7.11).

use std::sync::Arc;

use conex_api::image::HistoryItem;

use super::Image;
use crate::{Engine, Error};

impl Engine {
    /// The steps of an image. A step has the id of the image it made where that
    /// image is here as a parent; of others only the config tells.
    pub fn image_history(
        &self,
        name: &str,
        platform: Option<&str>,
    ) -> Result<Vec<HistoryItem>, Error> {
        let images = &self.inner.images;
        let image = images.find(name)?;
        image.check_platform(name, platform)?;
        let mut steps = steps(&image, |chain| {
            let known = images.known();
            known.layers.get(chain).map_or(0, |layer| layer.size_bytes)
        });
        let mut made_by = Some(Arc::clone(&image));
        for step in &mut steps {
            let Some(image) = made_by else { break };
            step.id = image.id.to_string();
            step.tags = Some(images.names_of(&step.id).tags).filter(|tags| !tags.is_empty());
            made_by = image
                .parent
                .as_ref()
                .and_then(|parent| images.known().images.get(parent).cloned());
        }
        Ok(steps)
    }
}

/// What the config says, newest first, with the sizes of layers by chain.
fn steps(image: &Image, size_of: impl Fn(&str) -> i64) -> Vec<HistoryItem> {
    let mut chains = image.chains.iter();
    let mut steps: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|entry| {
            let created = entry.created.as_deref().unwrap_or_default();
            let created = conex_logs::timestamp::parse(created.as_bytes());
            let chain = match entry.empty_layer {
                true => None,
                // A history may tell of more layers than there are.
                false => chains.next(),
            };
            HistoryItem {
                comment: entry.comment.clone().unwrap_or_default(),
                created: created.map_or(0, |ns| (ns / 1_000_000_000) as i64),
                created_by: entry.created_by.clone().unwrap_or_default(),
                id: "<missing>".into(),
                size: chain.map_or(0, |chain| size_of(chain.as_str())),
                tags: None,
            }
        })
        .collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_steps_have_no_size_and_the_newest_comes_first() {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [
                format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64))
            ]},
            "history": [
                {"created": "2026-11-22T03:53:58.087249052Z", "comment": "Imported from -"},
                {"created_by": "ENV A=b", "empty_layer": true},
                {"created_by": "RUN x"},
                {"created_by": "a layer too many"}
            ]
        });
        let image = Image::load(config.to_string().as_bytes(), 0, None).unwrap();
        let sizes = [100, 7];
        let chains: Vec<String> = image.chains.iter().map(ToString::to_string).collect();
        let steps = steps(&image, |chain| {
            sizes[chains.iter().position(|c| c == chain).unwrap()]
        });
        let seen: Vec<(&str, i64)> = steps
            .iter()
            .map(|s| (s.created_by.as_str(), s.size))
            .collect();
        assert_eq!(
            seen,
            [
                ("a layer too many", 0),
                ("RUN x", 7),
                ("ENV A=b", 0),
                ("", 100)
            ]
        );
        assert_eq!((steps[3].created, steps[1].created), (1_795_319_638, 0));
        assert!(
            steps
                .iter()
                .all(|s| s.id == "<missing>" && s.tags.is_none())
        );
    }
}
