//! `images` and `image inspect`: snapshots in the API's shape.

use std::collections::{BTreeMap, HashMap};

use conex_api::container::DriverData;
use conex_api::filters::InvalidFilter;
use conex_api::image::{Config, Inspect, ListOptions, Metadata, RootFs as ApiRootFs, Summary};

use conex_spec::digest::Digest;

use super::{Image, Known, Names, familiar};
use crate::container::storage::overlay_directories;
use crate::time::rfc3339;
use crate::{Engine, Error};

const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

impl Engine {
    /// Images, newest first. Intermediate ones (parents of others) only when
    /// `all` is given.
    pub fn image_list(&self, options: ListOptions) -> Result<Vec<Summary>, Error> {
        let filters = &options.filters;
        filters.validate(&FILTERS)?;
        let images = &self.inner.images;
        let dangling = filters.boolean("dangling")?;
        let time_of = |key: &str| -> Result<Option<i64>, Error> {
            let mut times = Vec::new();
            for word in filters.get(key) {
                times.push(created_ns(&*images.find(word)?));
            }
            Ok(if key == "before" {
                times.into_iter().max()
            } else {
                times.into_iter().min()
            })
        };
        let (before, since) = (time_of("before")?, time_of("since")?);
        let until = match filters.get("until").next() {
            Some(word) => Some(until_ns(word)?),
            None => None,
        };
        let patterns: Vec<&str> = filters.get("reference").collect();
        let users = self.containers_by_image();
        let known = images.known();
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, (id, _)) in &known.references {
            names.entry(id).or_default().push(name);
        }
        let parents: std::collections::HashSet<&str> = known
            .images
            .values()
            .filter_map(|i| i.parent.as_deref())
            .collect();
        let stacks = match options.shared_size {
            true => known.users_of_chains(),
            false => HashMap::new(),
        };
        let mut found = Vec::new();
        for (id, image) in &known.images {
            let mut own: Vec<&str> = names.get(id.as_str()).cloned().unwrap_or_default();
            if !options.all && own.is_empty() && parents.contains(id.as_str()) {
                continue;
            }
            if !patterns.is_empty() {
                own.retain(|name| patterns.iter().any(|p| matches_reference(p, name)));
                if own.is_empty() {
                    continue;
                }
            }
            let labels = labels_of(image);
            let shared_size = match options.shared_size {
                true => shared_bytes(&known, &stacks, image),
                false => -1,
            };
            let created = created_ns(image);
            if dangling.is_some_and(|d| d != own.iter().all(|name| name.contains('@')))
                || before.is_some_and(|t| created >= t)
                || since.is_some_and(|t| created <= t)
                || until.is_some_and(|t| created > t)
                || !filters.label("label", &labels)
            {
                continue;
            }
            let shown = Names::of(own.iter().copied());
            found.push((
                created,
                Summary {
                    containers: users.get(id.as_str()).copied().unwrap_or(0),
                    created: created / 1_000_000_000,
                    id: id.clone(),
                    labels: Some(labels),
                    parent_id: image.parent.clone().unwrap_or_default(),
                    repo_tags: shown.tags,
                    repo_digests: shown.digests,
                    shared_size,
                    size: image.size_bytes,
                    ..Summary::default()
                },
            ));
        }
        found.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
        Ok(found.into_iter().map(|(_, summary)| summary).collect())
    }

    /// How many containers, running or not, have each image.
    pub(super) fn containers_by_image(&self) -> HashMap<String, i64> {
        let mut users = HashMap::new();
        for container in self.inner.table().iter() {
            let id = &container.record.image_id;
            match users.get_mut(id) {
                Some(count) => *count += 1,
                None => {
                    users.insert(id.clone(), 1);
                }
            }
        }
        users
    }

    /// Everything about an image. Errors: not found, also if it is not for
    /// `platform`.
    pub fn image_inspect(&self, name: &str, platform: Option<&str>) -> Result<Inspect, Error> {
        let image = self.inner.images.find(name)?;
        image.check_platform(name, platform)?;
        let id = image.id.to_string();
        let config = &image.config;
        let last_tag = {
            let known = self.inner.images.known();
            let times = known
                .references
                .values()
                .filter(|(i, _)| *i == id)
                .map(|(_, t)| *t);
            times.max()
        };
        // Both speak the same JSON; the API's leaves out what is not set.
        let shown: Config = serde_json::to_value(config.config.clone().unwrap_or_default())
            .and_then(serde_json::from_value)
            .map_err(|e| Error::system("read the image's config", &e))?;
        let names = self.inner.images.names_of(&id);
        Ok(Inspect {
            repo_tags: names.tags,
            repo_digests: names.digests,
            parent: image.parent.clone().unwrap_or_default(),
            comment: config.comment.clone().unwrap_or_default(),
            created: config.created.clone().unwrap_or_default(),
            author: config.author.clone().unwrap_or_default(),
            config: Some(shown),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().unwrap_or_default(),
            os: config.os.clone(),
            os_version: config.os_version.clone().unwrap_or_default(),
            size: image.size_bytes,
            graph_driver: Some(self.image_driver(&image)),
            root_fs: ApiRootFs {
                kind: "layers".into(),
                layers: config
                    .rootfs
                    .diff_ids
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            metadata: Metadata {
                last_tag_time: last_tag.map(rfc3339).unwrap_or_default(),
            },
            id,
            ..Inspect::default()
        })
    }

    fn image_driver(&self, image: &Image) -> DriverData {
        let top = image
            .chains
            .last()
            .and_then(|chain| self.inner.layer_of(chain).ok());
        let driver = self.inner.driver.as_ref();
        DriverData {
            name: driver.kind().name().to_owned(),
            data: top.and_then(|top| overlay_directories(driver, &top)),
        }
    }
}

pub(super) fn labels_of(image: &Image) -> BTreeMap<String, String> {
    image
        .config
        .config
        .as_ref()
        .map(|c| c.labels.clone())
        .unwrap_or_default()
}

/// Bytes of those layers of an image that other images stand on too.
fn shared_bytes(known: &Known, stacks: &HashMap<String, usize>, image: &Image) -> i64 {
    let shared = |chain: &&Digest| stacks.get(chain.as_str()).is_some_and(|images| *images > 1);
    let layers = image.chains.iter().filter(shared);
    layers
        .filter_map(|chain| known.layers.get(chain.as_str()))
        .map(|l| l.size_bytes)
        .sum()
}

/// When the image says it was made; 0 when it does not.
pub(super) fn created_ns(image: &Image) -> i64 {
    let created = image.config.created.as_deref().unwrap_or_default();
    conex_logs::timestamp::parse(created.as_bytes()).map_or(0, |ns| ns as i64)
}

/// A point in time, or how long ago: RFC 3339 with parts left out, seconds with
/// a fraction, or a Go duration (COMPAT D4.4). Without a zone it is the engine's.
pub(crate) fn until_ns(word: &str) -> Result<i64, Error> {
    // What is beyond 64 bits of nanoseconds has not come yet.
    let clamped = |ns: i128| i64::try_from(ns).unwrap_or(i64::MAX);
    if let Some(ns) = conex_logs::timestamp::parse(word.as_bytes()) {
        return Ok(clamped(ns));
    }
    if let Ok(seconds) = word.parse::<jiff::SignedDuration>() {
        return Ok(crate::time::now_ns() - seconds.as_nanos() as i64);
    }
    let (seconds, fraction) = word.split_once('.').unwrap_or((word, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    if let (Ok(seconds), Ok(ns)) = (seconds.parse::<i64>(), digits.parse::<i64>()) {
        return Ok(seconds.saturating_mul(1_000_000_000).saturating_add(ns));
    }
    let local = word.parse::<jiff::civil::DateTime>().ok();
    let zoned = local.and_then(|it| it.to_zoned(jiff::tz::TimeZone::system()).ok());
    let since = zoned.map(|it| clamped(it.timestamp().as_nanosecond()));
    since.ok_or_else(|| {
        let (key, value) = ("until".into(), word.into());
        InvalidFilter::Value { key, value }.into()
    })
}

/// COMPAT D4.3: a pattern of Go's `path.Match` against the familiar name, with
/// and without its tag, and against the full one.
fn matches_reference(pattern: &str, full: &str) -> bool {
    let shown = familiar(full);
    let bare = |name: &str| match name.rfind(':') {
        Some(at) if !name[at..].contains('/') => name[..at].to_owned(),
        _ => name.to_owned(),
    };
    [shown.clone(), bare(&shown), full.to_owned(), bare(full)]
        .iter()
        .any(|name| glob(pattern.as_bytes(), name.as_bytes()))
}

/// `*` and `?` stop at slashes, `[a-z]` is a class, `\` escapes.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let reach = name.iter().position(|c| *c == b'/').unwrap_or(name.len());
            (0..=reach).any(|n| glob(rest, &name[n..]))
        }
        (Some((b'?', rest)), Some((c, tail))) => *c != b'/' && glob(rest, tail),
        (Some((b'[', rest)), Some((c, tail))) => {
            let Some(end) = rest.iter().position(|c| *c == b']') else {
                return false;
            };
            let (class, rest) = (&rest[..end], &rest[end + 1..]);
            let (class, negated) = match class.split_first() {
                Some((b'^', class)) => (class, true),
                _ => (class, false),
            };
            let mut inside = false;
            let mut at = 0;
            while at < class.len() {
                if at + 2 < class.len() && class[at + 1] == b'-' {
                    inside |= (class[at]..=class[at + 2]).contains(c);
                    at += 3;
                } else {
                    inside |= class[at] == *c;
                    at += 1;
                }
            }
            inside != negated && glob(rest, tail)
        }
        (Some((b'\\', rest)), Some((c, tail))) => match rest.split_first() {
            Some((escaped, rest)) => escaped == c && glob(rest, tail),
            None => false,
        },
        (Some((p, rest)), Some((c, tail))) => p == c && glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_store::records::images::{LayerRecord, LayerState};

    #[test]
    fn references_match_by_any_of_their_names() {
        let full = "docker.io/library/busybox:1.36";
        for pattern in [
            "busybox",
            "busy*",
            "busybox:1.*",
            "busybox:1.3[0-9]",
            full,
            "b?sybox",
        ] {
            assert!(matches_reference(pattern, full), "{pattern}");
        }
        for pattern in ["busy", "*:latest", "library/*:2", "busybox:1.3[^6]"] {
            assert!(!matches_reference(pattern, full), "{pattern}");
        }
    }

    #[test]
    fn only_layers_of_several_images_are_shared() {
        let sha = |digit: u8| format!("sha256:{}", char::from(digit).to_string().repeat(64));
        let image = |layers: &[u8], arch: &str| {
            let layers: Vec<String> = layers.iter().map(|d| sha(*d)).collect();
            let config = serde_json::json!({
                "architecture": arch, "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": layers}
            });
            Image::load(config.to_string().as_bytes(), 0, None).unwrap()
        };
        let images = [image(b"1", "a"), image(b"12", "a"), image(b"3", "a")];
        let mut known = Known::default();
        for image in images {
            for (chain, size_bytes) in image.chains.iter().zip([10, 5]) {
                known.layers.insert(
                    chain.to_string(),
                    LayerRecord {
                        chain_id: chain.to_string(),
                        diff_id: String::new(),
                        parent_chain: None,
                        layer_dir: String::new(),
                        size_bytes,
                        state: LayerState::Ready,
                    },
                );
            }
            known.images.insert(image.id.to_string(), image.into());
        }
        let mut shared: Vec<(usize, i64)> = known
            .images
            .values()
            .map(|i| {
                let stacks = known.users_of_chains();
                (i.chains.len(), shared_bytes(&known, &stacks, i))
            })
            .collect();
        shared.sort_unstable();
        assert_eq!(shared, [(1, 0), (1, 10), (2, 10)]);
    }

    #[test]
    fn a_point_in_time_may_be_a_span() {
        assert_eq!(until_ns("5").ok(), Some(5_000_000_000));
        assert_eq!(until_ns("5.25").ok(), Some(5_250_000_000));
        assert_eq!(until_ns("1970-01-01T00:00:01Z").ok(), Some(1_000_000_000));
        let day = until_ns("2020-01-02").unwrap();
        assert_eq!(
            until_ns("2020-01-02T00:00:01").unwrap(),
            day + 1_000_000_000
        );
        assert_eq!(
            until_ns("2020-01-02T01:00").unwrap(),
            day + 3_600_000_000_000
        );
        assert!(until_ns("10m").is_ok_and(|t| t < crate::time::now_ns()));
        assert!(until_ns("soon").is_err());
    }
}
