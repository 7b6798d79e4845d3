//! What older API versions show and mean differently, as one table: the types are those of the newest version, an
//! answer to an older client is changed on its way out and its request on its way in.
//!
//! Each row names the version *below* which it applies, as `api/docs/CHANGELOG.md` of moby dates the change.

use conex_api::filters::Filters;
use conex_api::usage::DiskUsage;
use conex_api::version::ApiVersion;
use conex_api::{container, image};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Which answer is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `GET /containers/{id}/json`.
    ContainerInspect,
    /// An element of `GET /images/json`.
    ImageSummary,
    /// `GET /images/{name}/json`.
    ImageInspect,
    /// `GET /info`.
    Info,
    /// An element of `GET /events`.
    Event,
    /// `GET /networks/{id}` and an element of `GET /networks`.
    Network,
}

/// Changes what older clients see of a `T`.
type Change<T> = fn(&mut T);

/// A change of an object's JSON, below a version.
type Row = (Shape, ApiVersion, Change<Map<String, Value>>);

/// Changes of an object's JSON.
const CHANGES: &[Row] = &[
    (Shape::ContainerInspect, v(48), |it| {
        drop_members(it, &["ImageManifestDescriptor"])
    }),
    (Shape::ImageSummary, v(44), |it| {
        copy_member(it, "Size", "VirtualSize")
    }),
    (Shape::ImageSummary, v(47), |it| {
        drop_members(it, &["Manifests"])
    }),
    (Shape::ImageSummary, v(48), |it| {
        drop_members(it, &["Descriptor"])
    }),
    (Shape::ImageInspect, v(44), |it| {
        copy_member(it, "Size", "VirtualSize")
    }),
    (Shape::ImageInspect, v(44), |it| {
        add_members(it, json!({"Created": conex_api::ZERO_TIME}))
    }),
    (Shape::ImageInspect, v(48), |it| {
        drop_members(it, &["Descriptor", "Manifests"])
    }),
    (Shape::ImageInspect, v(50), |it| {
        let members = json!({
            "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "",
            "Hostname": "", "Image": "", "OpenStdin": false, "StdinOnce": false, "Tty": false
        });
        add_members(object(it, "Config"), members);
    }),
    (Shape::ImageInspect, v(52), |it| {
        let members = json!({
            "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null,
            "User": "", "Volumes": null, "WorkingDir": ""
        });
        add_members(object(it, "Config"), members);
    }),
    // docker-compose 1, if it speaks such a version, looks there for volumes.
    (Shape::ImageInspect, v(45), |it| {
        copy_member(it, "Config", "ContainerConfig")
    }),
    (Shape::ImageInspect, v(52), |it| {
        add_members(
            it,
            json!({"Author": "", "Comment": "", "DockerVersion": ""}),
        );
    }),
    (Shape::Info, v(49), |it| {
        drop_members(it, &["FirewallBackend"]);
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            copy_member(object(it, name), "ID", "Expected");
        }
        let registries = json!({
            "AllowNondistributableArtifactsCIDRs": null,
            "AllowNondistributableArtifactsHostnames": null
        });
        add_members(object(it, "RegistryConfig"), registries);
    }),
    (Shape::Info, v(50), |it| {
        drop_members(it, &["DiscoveredDevices"]);
        add_members(
            it,
            json!({"BridgeNfIptables": false, "BridgeNfIp6tables": false}),
        );
    }),
    (Shape::Info, v(53), |it| drop_members(it, &["NRI"])),
    (Shape::Event, v(52), event_members),
    (Shape::ContainerInspect, v(45), short_id_alias),
    (Shape::Network, v(48), |it| {
        drop_members(it, &["EnableIPv4"])
    }),
    (Shape::Network, v(52), |it| drop_members(it, &["Status"])),
];

/// Since when the last change of any shape is in effect: from here on nothing is looked at.
const LATEST_CHANGE: ApiVersion = v(53);

/// Removals from the elements of `GET /containers/json`, which is too long a list to go through its JSON.
const SUMMARY_CHANGES: &[(ApiVersion, Change<container::Summary>)] = &[
    (v(46), |it| it.host_config.annotations.clear()),
    (v(48), |it| it.image_manifest_descriptor = None),
    (v(52), |it| it.health = None),
];

/// Changes of the elements of `GET /images/json` alone: `GET /system/df` has counted containers, and shared bytes,
/// for every version.
const IMAGE_LIST_CHANGES: &[(ApiVersion, Change<image::Summary>)] = &[
    (v(42), |it| it.shared_size = -1),
    (v(43), |it| {
        if it.repo_tags.is_empty() && it.repo_digests.is_empty() {
            it.repo_tags.push("<none>:<none>".to_owned());
            it.repo_digests.push("<none>@<none>".to_owned());
        }
    }),
    (v(51), |it| it.containers = -1),
];

/// What an older client leaves to itself when it creates a container.
const CREATE_CHANGES: &[(ApiVersion, Change<container::CreateRequest>)] = &[
    // It removes a container of `run --rm` when it sees the end, and fails if that is gone.
    (v(25), |it| it.host_config.auto_remove = false),
];

/// Image inspect has said whose child an image is until this version.
const LAST_PARENT: ApiVersion = v(52);

const fn v(minor: u16) -> ApiVersion {
    ApiVersion::new(1, minor)
}

/// An object as a client of that version expects it.
pub(crate) fn object_for(version: ApiVersion, shape: Shape, it: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(it).expect("API types have string keys");
    if version < LATEST_CHANGE
        && let Value::Object(members) = &mut value
    {
        let changes = CHANGES
            .iter()
            .filter(|(of, below, _)| *of == shape && version < *below);
        for (_, _, change) in changes {
            change(members);
        }
    }
    value
}

/// The parent of an image is shown to older clients only.
pub(crate) fn image_inspect_for(version: ApiVersion, it: &image::Inspect) -> Value {
    let mut value = object_for(version, Shape::ImageInspect, it);
    if version >= LAST_PARENT
        && let Value::Object(members) = &mut value
    {
        drop_members(members, &["Parent"]);
    }
    value
}

/// The addresses in the default bridge are told once more beside the networks, as below 1.52 but in every
/// version: templates of a decade say `.NetworkSettings.IPAddress` (docs/compat.md).
pub(crate) fn container_inspect_for(version: ApiVersion, it: &container::Inspect) -> Value {
    let mut value = object_for(version, Shape::ContainerInspect, it);
    if let Value::Object(members) = &mut value {
        default_network(members);
    }
    value
}

/// A list of containers as a client of that version expects it.
pub(crate) fn summaries_for(version: ApiVersion, list: &mut [container::Summary]) {
    for (_, change) in SUMMARY_CHANGES.iter().filter(|(below, _)| version < *below) {
        list.iter_mut().for_each(change);
    }
}

/// A list of images as a client of that version expects it.
pub(crate) fn image_list_for(version: ApiVersion, mut list: Vec<image::Summary>) -> Vec<Value> {
    let changes = IMAGE_LIST_CHANGES.iter();
    for (_, change) in changes.filter(|(below, _)| version < *below) {
        list.iter_mut().for_each(change);
    }
    let list = list.iter();
    list.map(|image| object_for(version, Shape::ImageSummary, image))
        .collect()
}

/// Disk usage: lists and one sum below 1.52, sums per kind and lists on demand since.
pub(crate) fn disk_usage_for(version: ApiVersion, mut it: DiskUsage, verbose: bool) -> Value {
    if version >= v(52) {
        if !verbose {
            it.image_usage.iter_mut().for_each(|u| u.items.clear());
            it.container_usage.iter_mut().for_each(|u| u.items.clear());
            it.volume_usage.iter_mut().for_each(|u| u.items.clear());
        }
        return serde_json::to_value(&it).expect("API types have string keys");
    }
    let layers_size = it.image_usage.as_ref().map_or(0, |u| u.total_size);
    let images = it.image_usage.map(|u| {
        let images = u.items.iter();
        let images = images.map(|image| object_for(version, Shape::ImageSummary, image));
        images.collect::<Vec<Value>>()
    });
    let containers = it.container_usage.map(|mut u| {
        summaries_for(version, &mut u.items);
        u.items
    });
    json!({
        "LayersSize": layers_size,
        "Images": images,
        "Containers": containers,
        "Volumes": it.volume_usage.map(|u| u.items),
        "BuildCache": it.build_cache_usage.map(|u| u.items),
    })
}

/// What a client of that version meant when it asked for a container.
pub(crate) fn create_from(version: ApiVersion, it: &mut container::CreateRequest) {
    let changes = CREATE_CHANGES.iter().filter(|(below, _)| version < *below);
    changes.for_each(|(_, change)| change(it));
}

/// What a client of that version meant by a prune of volumes: named ones went too.
pub(crate) fn volume_prune_from(version: ApiVersion, filters: &mut Filters) {
    if version < v(42) {
        filters.add("all", "true");
    }
}

fn drop_members(it: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        it.shift_remove(*name);
    }
}

/// Adds those members of an object that are not there.
fn add_members(it: &mut Map<String, Value>, members: Value) {
    let Value::Object(members) = members else {
        return;
    };
    for (name, value) in members {
        it.entry(name).or_insert(value);
    }
}

fn copy_member(it: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = it.get(from).cloned() {
        it.insert(to.to_owned(), value);
    }
}

/// The object under a name, made empty if there is none.
fn object<'a>(it: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = it.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

/// Empty for a container that is on other networks alone.
fn default_network(it: &mut Map<String, Value>) {
    let settings = object(it, "NetworkSettings");
    let bridge = settings
        .get("Networks")
        .and_then(|networks| networks.get("bridge"))
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let members = json!({
        "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": ""
    });
    let Value::Object(members) = members else {
        return;
    };
    for (name, unset) in members {
        let value = bridge.get(&name).cloned().unwrap_or(unset);
        settings.insert(name, value);
    }
}

/// A container's short id was one of its aliases in networks that have any.
fn short_id_alias(it: &mut Map<String, Value>) {
    let id = it.get("Id").and_then(Value::as_str).unwrap_or_default();
    let short = id.get(..12).unwrap_or_default().to_owned();
    let endpoints = object(object(it, "NetworkSettings"), "Networks");
    for (name, endpoint) in endpoints {
        let predefined = matches!(name.as_str(), "bridge" | "host" | "none");
        if let Some(endpoint) = endpoint.as_object_mut().filter(|_| !predefined) {
            let aliases = endpoint.entry("Aliases").or_insert(Value::Null);
            if aliases.is_null() {
                *aliases = json!([]);
            }
            if let Some(list) = aliases.as_array_mut() {
                list.push(json!(short));
            }
        }
    }
}

/// Events of containers and images were told once more, in three members.
fn event_members(it: &mut Map<String, Value>) {
    let kind = it
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if kind != "container" && kind != "image" {
        return;
    }
    copy_member(it, "Action", "status");
    let actor = it.get("Actor").cloned().unwrap_or_default();
    if let Some(id) = actor.get("ID") {
        it.insert("id".to_owned(), id.clone());
    }
    if kind == "container" {
        let image = actor
            .get("Attributes")
            .and_then(|attributes| attributes.get("image"));
        it.insert(
            "from".to_owned(),
            image.cloned().unwrap_or_else(|| json!("")),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_api::container::{EndpointSettings, NetworkSettings};
    use conex_api::usage::Usage;
    use conex_api::{event, system, version};

    #[test]
    fn no_row_is_newer_than_the_latest_change() {
        assert_eq!(
            CHANGES.iter().map(|(_, below, _)| *below).max(),
            Some(LATEST_CHANGE)
        );
        let summaries = SUMMARY_CHANGES.iter().map(|(below, _)| *below);
        let images = IMAGE_LIST_CHANGES.iter().map(|(below, _)| *below);
        assert!(summaries.chain(images).all(|below| below <= LATEST_CHANGE));
    }

    #[test]
    fn the_default_bridge_is_told_beside_the_networks() {
        let endpoint = EndpointSettings {
            ip_address: "172.17.0.2".into(),
            ..EndpointSettings::default()
        };
        let mut it = container::Inspect {
            network_settings: NetworkSettings {
                networks: [("bridge".to_owned(), endpoint.clone())].into(),
                ..NetworkSettings::default()
            },
            ..container::Inspect::default()
        };
        let settings = |version, it: &container::Inspect| {
            container_inspect_for(version, it)["NetworkSettings"].clone()
        };
        for version in [v(24), v(51), version::MAX] {
            let shown = settings(version, &it);
            assert_eq!(shown["IPAddress"], json!("172.17.0.2"));
            assert_eq!(shown["IPPrefixLen"], json!(0));
            assert_eq!(shown.as_object().unwrap().len(), 4 + 8);
        }
        it.network_settings.networks = [("gnet".to_owned(), endpoint)].into();
        assert_eq!(settings(v(51), &it)["IPAddress"], json!(""));
    }

    #[test]
    fn an_image_shows_unset_members_to_older_clients() {
        let it = image::Inspect {
            parent: "sha256:1".into(),
            size: 5,
            ..image::Inspect::default()
        };
        let now = image_inspect_for(v(52), &it);
        assert_eq!(
            (now.get("Parent"), now.get("Author"), &now["Config"]),
            (None, None, &Value::Null)
        );
        let then = image_inspect_for(v(50), &it);
        assert_eq!(then["Parent"], json!("sha256:1"));
        assert_eq!(then["DockerVersion"], json!(""));
        assert_eq!(then["Config"].as_object().unwrap().len(), 8);
        assert_eq!(then.get("VirtualSize"), None);
        assert_eq!(then.get("ContainerConfig"), None);
        let long_ago = image_inspect_for(v(40), &it);
        assert_eq!(long_ago["ContainerConfig"], long_ago["Config"]);
        assert_eq!(long_ago["VirtualSize"], json!(5));
        assert_eq!(long_ago["Created"], json!("0001-01-01T00:00:00Z"));
        assert_eq!(long_ago["Config"].as_object().unwrap().len(), 17);
    }

    #[test]
    fn events_have_their_legacy_members_below_1_52() {
        let mut it = event::Message {
            kind: "container".into(),
            action: "start".into(),
            actor: event::Actor {
                id: "18a4".into(),
                attributes: [("image".to_owned(), "busybox".to_owned())].into(),
            },
            ..event::Message::default()
        };
        let event = |version, it: &event::Message| object_for(version, Shape::Event, it);
        let old = event(v(51), &it);
        assert_eq!(
            (&old["status"], &old["id"], &old["from"]),
            (&json!("start"), &json!("18a4"), &json!("busybox"))
        );
        assert_eq!(event(v(52), &it).get("status"), None);
        it.kind = "image".into();
        let old = event(v(51), &it);
        assert_eq!(
            (old.get("status"), old.get("from")),
            (Some(&json!("start")), None)
        );
        it.kind = "network".into();
        assert_eq!(event(v(51), &it).get("status"), None);
    }

    #[test]
    fn lists_lose_what_older_clients_do_not_know() {
        let mut list = [container::Summary {
            health: Some(container::HealthSummary::default()),
            image_manifest_descriptor: Some(conex_api::descriptor::Descriptor::default()),
            ..container::Summary::default()
        }];
        summaries_for(v(50), &mut list);
        assert!(list[0].health.is_none() && list[0].image_manifest_descriptor.is_some());
        summaries_for(v(47), &mut list);
        assert!(list[0].image_manifest_descriptor.is_none());
    }

    #[test]
    fn containers_of_a_listed_image_are_counted_since_1_51_and_in_disk_usage_ever() {
        let dangling = image::Summary {
            containers: 2,
            shared_size: 5,
            ..image::Summary::default()
        };
        let shown = |version| {
            let it = image_list_for(version, vec![dangling.clone()]).remove(0);
            (
                it["Containers"].clone(),
                it["SharedSize"].clone(),
                it["RepoTags"].clone(),
            )
        };
        assert_eq!(shown(version::MAX), (json!(2), json!(5), json!([])));
        assert_eq!(shown(v(51)), (json!(2), json!(5), json!([])));
        assert_eq!(shown(v(50)), (json!(-1), json!(5), json!([])));
        let none = json!(["<none>:<none>"]);
        assert_eq!(shown(v(41)), (json!(-1), json!(-1), none));
        let usage = DiskUsage {
            image_usage: Some(Usage {
                items: vec![dangling.clone()],
                ..Usage::default()
            }),
            ..DiskUsage::default()
        };
        let old = disk_usage_for(v(41), usage, false);
        assert_eq!(old["Images"][0]["Containers"], json!(2));
    }

    #[test]
    fn disk_usage_is_lists_below_1_52_and_sums_since() {
        let usage = || DiskUsage {
            image_usage: Some(Usage {
                total_size: 7,
                items: vec![image::Summary::default()],
                ..Usage::default()
            }),
            volume_usage: Some(Usage::default()),
            ..DiskUsage::default()
        };
        let old = disk_usage_for(v(51), usage(), false);
        let members: Vec<&String> = old.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "LayersSize",
                "Images",
                "Containers",
                "Volumes",
                "BuildCache"
            ]
        );
        assert_eq!(
            (&old["LayersSize"], &old["Volumes"]),
            (&json!(7), &json!([]))
        );
        assert_eq!(old["Images"].as_array().unwrap().len(), 1);
        assert_eq!(old["Containers"], Value::Null, "not asked for");
        let new = |verbose| disk_usage_for(v(52), usage(), verbose)["ImageUsage"]["Items"].clone();
        assert!(new(false).is_null() && new(true).is_array());
    }

    #[test]
    fn clients_below_1_25_remove_containers_themselves() {
        let asked = |version| {
            let mut it = container::CreateRequest::default();
            it.host_config.auto_remove = true;
            create_from(version, &mut it);
            it.host_config.auto_remove
        };
        assert!(!asked(v(24)) && asked(v(25)) && asked(version::MAX));
    }

    #[test]
    fn info_had_more_to_say_below_1_49() {
        let it = system::Info::default();
        let old = object_for(v(24), Shape::Info, &it);
        assert_eq!(old["RuncCommit"], json!({"ID": "", "Expected": ""}));
        assert_eq!(old["BridgeNfIptables"], json!(false));
        assert_eq!(
            object_for(v(50), Shape::Info, &it).get("BridgeNfIptables"),
            None
        );
    }
}
