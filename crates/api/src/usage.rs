//! What the engine's objects take on disk: the answer of `GET /system/df`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::volume::Volume;
use crate::{container, image};

/// What all objects of one kind take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Usage<T> {
    /// How many are in use.
    pub active_count: i64,
    /// How many there are.
    pub total_count: i64,
    /// Bytes that come back when those not in use are removed.
    pub reclaimable: i64,
    /// Bytes of all of them, what is shared counted once.
    pub total_size: i64,
    /// They themselves; only when asked.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
}

/// Answer of `GET /system/df`; what was not asked for is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Images; the size is that of all their layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<Usage<image::Summary>>,
    /// Containers; the size is that of what they wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<Usage<container::Summary>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<Usage<Volume>>,
    /// Steps kept by a builder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<Usage<Value>>,
}

/// Which objects a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// `container`.
    pub containers: bool,
    /// `image`.
    pub images: bool,
    /// `volume`.
    pub volumes: bool,
    /// `build-cache`.
    pub build_cache: bool,
}

impl Kinds {
    /// Those named by the request's `type` words; without any, all.
    ///
    /// Errors: the word that is no kind.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut kinds = Self {
            containers: false,
            images: false,
            volumes: false,
            build_cache: false,
        };
        let mut is_all = true;
        for word in words {
            is_all = false;
            match word {
                "container" => kinds.containers = true,
                "image" => kinds.images = true,
                "volume" => kinds.volumes = true,
                "build-cache" => kinds.build_cache = true,
                other => return Err(other),
            }
        }
        if is_all {
            kinds = Self {
                containers: true,
                images: true,
                volumes: true,
                build_cache: true,
            };
        }
        Ok(kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_words_all_kinds_are_meant() {
        let all = Kinds::parse([].into_iter());
        assert!(all.is_ok_and(|k| k.containers && k.images && k.volumes && k.build_cache));
        let one = Kinds::parse(["image"].into_iter());
        assert!(one.is_ok_and(|k| k.images && !k.containers && !k.volumes && !k.build_cache));
        assert_eq!(Kinds::parse(["x"].into_iter()), Err("x"));
    }
}
