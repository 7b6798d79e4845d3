//! What registries hold that is no ordinary image, and what the engine makes of it.

use conex_tests::client::Client;
use conex_tests::proxy::{Fault, Proxy};
use conex_tests::registry::{Access, Registry, tar_of, with_registry};
use serde_json::{Value, json};

/// A proxy that has one more manifest, `odd` in the repository `many`.
fn with_odd(registry: &Registry, media_type: &str, manifest: &Value) -> (Proxy, String) {
    let proxy = Proxy::start(&registry.address);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}");
    let body = manifest.to_string().into_bytes();
    proxy.judge(move |asked| match asked.line.as_str() {
        "HEAD /v2/many/manifests/odd" => {
            Fault::Answer("HTTP/1.1 405 Method Not Allowed".into(), Vec::new())
        }
        line if line.starts_with("GET /v2/many/manifests/") && !line.contains("sha256:") => {
            Fault::Answer(head.clone(), body.clone())
        }
        _ => Fault::None,
    });
    let name = format!("{}/many:odd", proxy.address);
    (proxy, name)
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn an_index_may_not_say_what_its_images_run_on_and_hold_what_is_none() {
    with_registry(Client::Conex, Access::Open, |cli, registry| {
        let images = |own: &str, other: &str| {
            let pushed = registry.push_index(
                "many:1",
                &[
                    (own, vec![tar_of(&[("own", b"x")])]),
                    (other, vec![tar_of(&[("other", b"x")])]),
                ],
            );
            let index = registry.content(&pushed);
            serde_json::from_slice::<Value>(&index).expect("an index is JSON")
        };
        let (own, other) = match cfg!(target_arch = "aarch64") {
            true => ("arm64", "amd64"),
            false => ("amd64", "arm64"),
        };
        let mut index = images(own, other);
        let fields = index["manifests"][0].as_object_mut().expect("an entry");
        fields.remove("platform");
        let unknown = json!({
            "mediaType": "application/vnd.unknown+json", "size": 1,
            "digest": format!("sha256:{}", "1".repeat(64)),
            "platform": {"os": "linux", "architecture": own},
        });
        let entries = index["manifests"].as_array_mut().expect("it has entries");
        entries.insert(0, unknown);
        let (_proxy, name) = with_odd(registry, INDEX, &index);
        cli.ok(&["pull", &name]);
        assert_eq!(cli.inspect(&name, "{{.Architecture}}"), own);

        // The one without a name for it is another platform's: then there is none for this machine.
        let mut index = images(other, other);
        for entry in index["manifests"].as_array_mut().expect("it has entries") {
            entry.as_object_mut().expect("an entry").remove("platform");
        }
        let (_proxy, name) = with_odd(registry, INDEX, &index);
        let error = cli.fails(1, &["pull", &name]);
        let text = format!("no matching manifest for linux/{own} in the manifest list entries");
        assert!(error.contains(&text), "{error}");
    });
}

#[test]
fn manifests_of_another_age_or_system_are_refused_with_a_way_on() {
    with_registry(Client::Conex, Access::Open, |cli, registry| {
        let old = json!({"schemaVersion": 1, "name": "many", "tag": "odd", "fsLayers": []});
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        let (_proxy, name) = with_odd(registry, signed, &old);
        let error = cli.fails(1, &["pull", &name]);
        assert!(
            error.contains(&format!(
                "Suggest the author of {name} to upgrade the image to the OCI Format"
            )),
            "{error}"
        );
        // A refusal is the registry's own, with its status, where only its word was asked for.
        let proxy = Proxy::start(&registry.address);
        for (refusal, status) in [
            ("401 Unauthorized", 401),
            ("403 Forbidden", 403),
            ("404 Not Found", 404),
        ] {
            proxy.judge(move |_| Fault::Answer(format!("HTTP/1.1 {refusal}"), Vec::new()));
            let path = format!("/distribution/{}/x:1/json", proxy.address);
            let answer = cli.engine.api("GET", &path, None);
            assert_eq!(answer.status, status, "{}", answer.text());
            if status == 404 {
                assert_eq!(answer.message(), "manifest unknown: manifest unknown");
            }
        }
    });
}
