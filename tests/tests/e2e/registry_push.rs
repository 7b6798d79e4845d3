//! Push in its special forms: one platform, another compression, and blobs that have to come from elsewhere first.

use std::process::Command;

use conex_tests::client::{Cli, Client};
use conex_tests::proxy::{Fault, Proxy};
use conex_tests::registry::{Access, Registry, noise, runnable_layers, tar_of, with_registry};
use conex_tests::under_both_clients_with_registry;
use serde_json::Value;

under_both_clients_with_registry! { Access::Open;
    only_the_named_platform_is_pushed,
}

fn only_the_named_platform_is_pushed(cli: &Cli<'_>, registry: &Registry) {
    let host = &registry.address;
    let arm = vec![tar_of(&[("arm", b"x")])];
    let intel = vec![tar_of(&[("intel", b"x")])];
    registry.push_index("many:1", &[("arm64", arm), ("amd64", intel)]);
    let name = format!("{host}/many:1");
    cli.ok(&["pull", "--platform", "linux/arm64", &name]);
    let refused = cli.run(&["push", "--platform", "linux/s390x", &name]);
    assert_eq!(refused.code, Some(1), "{refused}");
    let note = "\n Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.\n         Other components, like attestations, will not be included.\n         To push the complete multi-platform image, remove the --platform flag.\n         \n";
    assert_eq!(refused.stdout, note);
    let text = format!(
        "Error response from daemon: image with reference {name} was found but its platform (linux/arm64) does not \
         match the specified platform (linux/s390x)\n"
    );
    assert_eq!(refused.stderr, text);

    let one = format!("{host}/one:1");
    cli.ok(&["tag", &name, &one]);
    let said = cli.ok(&["push", "--platform", "linux/arm64", &one]);
    let manifest: Value =
        serde_json::from_slice(&registry.content(&digest_of(&said))).expect("a manifest is JSON");
    assert!(manifest["layers"].is_array(), "no index: {manifest}");
    let answer = cli.engine.api(
        "POST",
        &format!("/images/{one}/push?platform=%7B%22os%22:%22linux%22%7D"),
        None,
    );
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(
        answer.message(),
        "both OS and Architecture must be provided"
    );
}

/// The digest of `1: digest: sha256:… size: …`.
fn digest_of(said: &str) -> String {
    let rest = said.split_once("digest: ").map(|(_, rest)| rest);
    let rest = rest.unwrap_or_else(|| panic!("no digest in {said}"));
    rest.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn layers_are_sent_as_zstd_where_that_is_asked_for_and_every_reader_takes_them() {
    with_registry(Client::Conex, Access::Open, |cli, registry| {
        let Some(layers) = runnable_layers(21) else {
            return;
        };
        let host = &registry.address;
        let name = format!("{host}/packed:1");
        registry.push("packed:1", &layers);
        cli.ok(&["pull", &name]);
        let id = cli.inspect(&name, "{{.Id}}");
        let push = ["push", "--compression-format", "zstd", &name];
        let first = cli.ok(&push);
        assert_eq!(first.matches(": Pushed").count(), 2, "{first}");
        let second = cli.ok(&push);
        assert_eq!(
            second.matches(": Layer already exists").count(),
            2,
            "{second}"
        );
        assert_eq!(digest_of(&first), digest_of(&second));
        let manifest: Value = serde_json::from_slice(&registry.content(&digest_of(&first)))
            .expect("a manifest is JSON");
        for layer in manifest["layers"].as_array().expect("it has layers") {
            assert_eq!(
                layer["mediaType"],
                "application/vnd.oci.image.layer.v1.tar+zstd"
            );
        }

        // Sent anew to a registry that has nothing, byte for byte the same.
        let other = Registry::start(Access::Open).expect("there was one before");
        let elsewhere = format!("{}/packed:1", other.address);
        cli.ok(&["tag", &name, &elsewhere]);
        let again = cli.ok(&["push", "--compression-format", "zstd", &elsewhere]);
        assert_eq!(digest_of(&again), digest_of(&first));

        // Another program and an engine without the image read it.
        let copied = tempfile::tempdir().expect("a temporary directory can be made");
        let skopeo = Command::new("skopeo")
            .args(["copy", "--src-tls-verify=false", "--insecure-policy"])
            .args([
                &format!("docker://{name}"),
                &format!("dir:{}", copied.path().display()),
            ])
            .output()
            .expect("skopeo can be started");
        assert!(
            skopeo.status.success(),
            "{}",
            String::from_utf8_lossy(&skopeo.stderr)
        );
        cli.ok(&["rmi", "-f", &id]);
        cli.ok(&["pull", "-q", &name]);
        assert_eq!(cli.inspect(&name, "{{.Id}}"), id);
        assert_eq!(cli.run_once(&name, &["wc", "-c", "/file"]), "300000 /file");

        let gzip = cli.ok(&["push", "--compression-format", "gzip", &name]);
        assert_ne!(digest_of(&gzip), digest_of(&first));
        let error = cli.fails(1, &["push", "--compression-format", "xz", &name]);
        assert!(
            error.contains("invalid compression format \"xz\": it must be \"gzip\" or \"zstd\""),
            "{error}"
        );
    });
}

#[test]
fn a_pulled_image_keeps_its_digest_even_if_its_registry_wants_to_know_who_asks_again() {
    with_registry(Client::Conex, Access::Password, |cli, private| {
        let open = Registry::start(Access::Open).expect("there was one before");
        // Not compressed as it would be here.
        let digest = private.push("secret:1", &[tar_of(&[("file", &noise(200_000, 22))])]);
        let name = format!("{}/secret:1", private.address);
        let login = ["login", "-u", "ann", "--password-stdin", &private.address];
        assert_eq!(cli.run_with_input(&login, b"secret").code, Some(0));
        cli.ok(&["pull", &name]);
        let proxy = Proxy::start(&open.address);
        proxy.judge(|_| Fault::None);
        let elsewhere = format!("{}/copy:1", proxy.address);
        cli.ok(&["tag", &name, &elsewhere]);
        let said = cli.ok(&["push", &elsewhere]);
        assert_eq!(digest_of(&said), digest, "{said}");
        // What is for one registry is not shown to another.
        assert!(
            proxy
                .seen()
                .iter()
                .all(|asked| asked.authorization.is_empty())
        );

        // Without credentials the layer is compressed here, and the push still works.
        cli.ok(&["logout", &private.address]);
        let third = Registry::start(Access::Open).expect("there was one before");
        let anew = format!("{}/copy:1", third.address);
        cli.ok(&["tag", &name, &anew]);
        cli.ok(&["rmi", &elsewhere]);
        drop(open);
        let said = cli.ok(&["push", &anew]);
        assert_ne!(digest_of(&said), digest, "{said}");
        cli.ok(&["rmi", &anew]);
        cli.ok(&["pull", "-q", &anew]);
    });
}
