//! Documents as registries and Docker write them.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::digest::Digest;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn manifest() -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": {"mediaType": media_type::DOCKER_CONFIG, "size": 1472, "digest": A},
        "layers": [{"mediaType": media_type::DOCKER_LAYER_GZIP, "size": 2_207_176, "digest": B}],
    })
}

fn index() -> serde_json::Value {
    let entry = |digest: &str, os: &str, architecture: &str, variant: &str| {
        json!({
            "mediaType": media_type::OCI_MANIFEST, "size": 610, "digest": digest,
            "platform": {"os": os, "architecture": architecture, "variant": variant},
        })
    };
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [
            entry(A, "unknown", "unknown", ""),
            entry(A, "linux", "386", ""),
            entry(B, "linux", "amd64", ""),
            entry(A, "linux", "arm", "v6"),
            {"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": A},
        ],
    })
}

#[test]
fn a_docker_image_configuration_is_read_with_all_its_nulls() {
    let image = ImageConfig::load(&bytes(&json!({
        "architecture": "amd64",
        "config": {
            "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "Tty": false,
            "Env": ["PATH=/bin"], "Cmd": ["sh"], "Image": "sha256:x", "Volumes": null,
            "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 30_000_000_000_i64, "Timeout": 0, "Retries": 3},
        },
        "container": "abc",
        "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) CMD"], "Entrypoint": null},
        "created": "2023-05-18T22:34:17.123456789Z",
        "docker_version": "20.10.23",
        "history": [
            {"created": "2023-05-18T22:34:17Z", "created_by": "ADD file:x in / "},
            {"created_by": "CMD [\"sh\"]", "empty_layer": true},
        ],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [A]},
    })))
    .unwrap();
    assert_eq!(
        image.created.as_deref(),
        Some("2023-05-18T22:34:17.123456789Z")
    );
    assert_eq!(image.platform().to_string(), "linux/amd64");
    assert_eq!(image.history.len(), 2);
    assert!(image.history[1].empty_layer);
    assert_eq!(image.rootfs.diff_ids, [A.parse::<Digest>().unwrap()]);
    let config = image.config.unwrap();
    assert_eq!(config.cmd, Some(vec!["sh".to_owned()]));
    assert_eq!(config.entrypoint, None);
    assert_eq!(
        config.exposed_ports.iter().collect::<Vec<_>>(),
        ["53/udp", "80/tcp"]
    );
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    let healthcheck = config.healthcheck.unwrap();
    assert_eq!(healthcheck.interval_ns, Some(30_000_000_000));
    assert_eq!(healthcheck.timeout_ns, None);
    assert_eq!(healthcheck.retries, Some(3));
}

#[test]
fn a_command_may_be_one_text() {
    let config: ContainerConfig = serde_json::from_value(
        json!({"Cmd": "top", "Entrypoint": [], "Shell": ["/bin/bash", "-c"]}),
    )
    .unwrap();
    assert_eq!(config.cmd, Some(vec!["top".to_owned()]));
    assert_eq!(config.entrypoint, Some(vec![]));
    assert_eq!(config.shell.unwrap().len(), 2);
}

#[test]
fn what_an_image_configuration_does_not_have_is_not_written() {
    let mut image = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        ..ImageConfig::default()
    };
    assert_eq!(
        serde_json::to_value(&image).unwrap(),
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    );
    image.config = Some(ContainerConfig {
        exposed_ports: ["80/tcp".to_owned()].into(),
        volumes: ["/data".to_owned()].into(),
        ..ContainerConfig::default()
    });
    assert_eq!(
        serde_json::to_value(&image.config).unwrap(),
        json!({"ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}})
    );
    assert_eq!(
        ImageConfig::load(&serde_json::to_vec(&image).unwrap()).unwrap(),
        image
    );
}

#[test]
fn an_image_configuration_without_layers_of_ours_is_refused() {
    let error = ImageConfig::load(br#"{"os":"linux","architecture":"amd64"}"#).unwrap_err();
    assert!(matches!(error, ImageError::Json { .. }));
    let error = ImageConfig::load(br#"{"rootfs":{"type":"squashfs"}}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported root file system type \"squashfs\""
    );
    let error = ImageConfig::load(&vec![b' '; MAX_CONFIG_BYTES + 1]).unwrap_err();
    assert!(matches!(error, ImageError::TooLong { .. }));
}

#[test]
fn chain_ids_build_on_each_other() {
    let [a, b] = [A, B].map(|text| text.parse::<Digest>().unwrap());
    let rootfs = RootFs {
        diff_ids: vec![a.clone(), b.clone()],
        ..RootFs::default()
    };
    assert_eq!(
        rootfs.chain_ids(),
        [a.clone(), crate::digest::chain_id(Some(&a), &b)]
    );
    assert!(RootFs::default().chain_ids().is_empty());
}

#[test]
fn a_manifest_and_an_index_are_told_apart() {
    let loaded = Manifest::load(&bytes(&manifest())).unwrap();
    assert_eq!(loaded.config.digest.as_str(), A);
    assert_eq!(loaded.layers[0].size_bytes, 2_207_176);
    assert_eq!(serde_json::to_value(&loaded).unwrap(), manifest());
    assert_eq!(Index::load(&bytes(&index())).unwrap().manifests.len(), 5);

    let error = Manifest::load(&bytes(&index())).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest has media type {:?}", media_type::OCI_INDEX)
    );
    let error = Index::load(&bytes(&manifest())).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("index has media type {:?}", media_type::DOCKER_MANIFEST)
    );
}

#[test]
fn a_manifest_may_leave_its_media_type_to_its_sender() {
    let mut plain = manifest();
    plain.as_object_mut().unwrap().remove("mediaType");
    for sender in [
        None,
        Some(media_type::OCI_MANIFEST),
        Some("application/json"),
    ] {
        assert!(matches!(
            Document::load(&bytes(&plain), sender),
            Ok(Document::Manifest(_))
        ));
    }
    let error = Document::load(&bytes(&plain), Some(media_type::DOCKER_MANIFEST_LIST)).unwrap_err();
    assert!(matches!(
        error,
        ImageError::MediaType {
            what: "manifest",
            ..
        }
    ));
}

#[test]
fn a_document_of_two_meanings_is_refused() {
    let mut both = manifest();
    both["manifests"] = json!([]);
    assert!(matches!(
        Document::load(&bytes(&both), None),
        Err(ImageError::Ambiguous)
    ));
    let mut lying = manifest();
    lying["mediaType"] = json!(media_type::OCI_INDEX);
    assert!(matches!(
        Document::load(&bytes(&lying), None),
        Err(ImageError::MediaType { .. })
    ));
    assert!(matches!(
        Document::load(br#"{"schemaVersion":2}"#, None),
        Err(ImageError::Unrecognised)
    ));
}

#[test]
fn an_index_without_a_list_is_an_empty_one() {
    let json =
        bytes(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": null}));
    assert!(Index::load(&json).unwrap().manifests.is_empty());
}

#[test]
fn schema_1_is_refused_by_its_number() {
    let error = Document::load(br#"{"schemaVersion":1,"fsLayers":[]}"#, None).unwrap_err();
    assert_eq!(error.to_string(), "unsupported manifest schema version 1");
    let error = Document::load(&vec![b' '; MAX_MANIFEST_BYTES + 1], None).unwrap_err();
    assert!(matches!(error, ImageError::TooLong { .. }));
}

#[test]
fn the_best_entry_for_a_platform_is_chosen() {
    let index = Index::load(&bytes(&index())).unwrap();
    let choose = |platform: &str| {
        index
            .choose(&platform.parse().unwrap())
            .map(|entry| entry.platform.as_ref().unwrap().to_string())
    };
    assert_eq!(choose("linux/amd64").as_deref(), Some("linux/amd64"));
    assert_eq!(choose("linux/386").as_deref(), Some("linux/386"));
    assert_eq!(choose("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
    assert_eq!(choose("linux/s390x"), None);
    assert_eq!(choose("windows/amd64"), None);
}

#[test]
fn a_size_below_zero_and_a_digest_of_no_algorithm_are_refused() {
    for (member, value) in [
        ("size", json!(-1)),
        ("digest", json!("md5:00")),
        ("digest", json!(null)),
    ] {
        let mut wrong = manifest();
        wrong["config"][member] = value;
        assert!(matches!(
            Manifest::load(&bytes(&wrong)),
            Err(ImageError::Json { .. })
        ));
    }
}

#[test]
fn media_types_of_docker_and_oci_mean_the_same() {
    assert!(media_type::is_layer(media_type::DOCKER_LAYER_GZIP));
    assert!(media_type::is_layer(media_type::OCI_LAYER_ZSTD));
    assert!(media_type::is_layer(media_type::DOCKER_FOREIGN_LAYER_GZIP));
    assert!(media_type::is_foreign_layer(media_type::OCI_FOREIGN_LAYER));
    assert!(!media_type::is_foreign_layer(media_type::OCI_LAYER));
    assert!(media_type::is_config(media_type::DOCKER_CONFIG));
    assert!(!media_type::is_layer(media_type::OCI_EMPTY));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(json in "[\\[\\]{}\":,a-zA-Z0-9 ]{0,80}") {
        prop_assert!(Document::load(json.as_bytes(), None).is_err());
        prop_assert!(ImageConfig::load(json.as_bytes()).is_err());
    }
}

#[test]
fn what_is_no_image_is_not_chosen_and_what_does_not_say_its_platform_comes_last() {
    let json = br#"{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.foo+json", "size": 1, "platform": {"os": "linux", "architecture": "amd64"},
         "digest": "sha256:1111111111111111111111111111111111111111111111111111111111111111"},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
         "digest": "sha256:2222222222222222222222222222222222222222222222222222222222222222"}]}"#;
    let index = Index::load(json).unwrap();
    assert_eq!(index.choose(&"linux/amd64".parse().unwrap()), None);
    let unlabelled = index.unlabelled().unwrap();
    assert!(unlabelled.digest.as_str().starts_with("sha256:2222"));
}
