//! Ways out through a proxy: the daemon's to registries, and what containers are told of it.

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::forward::ForwardProxy;
use conex_tests::registry::{Access, Registry, noise, tar_of};
use conex_tests::under_both_clients;
use serde_json::json;

/// A name that nobody but a proxy can resolve.
const NAME: &str = "registry.invalid";

fn one_layer(seed: u64) -> Vec<Vec<u8>> {
    vec![tar_of(&[("file", &noise(50_000, seed))])]
}

#[test]
fn a_plain_registry_is_reached_through_the_proxy_of_the_environment_both_ways() {
    let Some(registry) = Registry::start(Access::Open) else {
        return;
    };
    let digest = registry.push("one:1", &one_layer(31));
    // ann:secret
    let proxy = ForwardProxy::guarded(&registry.address, "Basic YW5uOnNlY3JldA==");
    let url = format!("http://ann:secret@{}", proxy.address);
    let Some(engine) = Engine::start_with(
        &["--insecure-registry", NAME],
        &[("HTTP_PROXY", &url), ("HTTPS_PROXY", &url)],
    ) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let name = format!("{NAME}/one:1");
    let said = cli.ok(&["pull", &name]);
    assert!(said.contains(&digest), "{said}");
    let seen = proxy.seen();
    let manifest = format!("GET http://{NAME}/v2/one/manifests/{digest}");
    assert!(seen.contains(&manifest), "{seen:?}");
    // With TLS it was tried first.
    assert!(seen.contains(&format!("CONNECT {NAME}:443")), "{seen:?}");
    let other = format!("{NAME}/two:1");
    cli.ok(&["tag", &name, &other]);
    cli.ok(&["push", &other]);
    let put = format!("PUT http://{NAME}/v2/two/manifests/1");
    assert!(proxy.seen().contains(&put), "{:?}", proxy.seen());

    let info = engine.api("GET", "/info", None).json();
    let shown = format!("http://xxxxx:xxxxx@{}", proxy.address);
    assert_eq!(info["HttpProxy"], shown.as_str(), "without the password");
}

#[test]
fn a_registry_with_tls_is_reached_through_a_tunnel_unless_it_is_excepted() {
    let Some(registry) = Registry::start(Access::Tls) else {
        return;
    };
    registry.push("safe:1", &one_layer(32));
    let proxy = ForwardProxy::start(&registry.address);
    let host = &registry.address;
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let write = |proxies: serde_json::Value| {
        let text = json!({"insecure-registries": [host], "proxies": proxies});
        std::fs::write(file.path(), text.to_string()).expect("it can be written");
    };
    let url = format!("http://{}", proxy.address);
    write(json!({"https-proxy": url}));
    let path = file.path().display().to_string();
    let Some(mut engine) = Engine::start_with(&["--config-file", &path], &[]) else {
        return;
    };
    let name = format!("{host}/safe:1");
    engine.cli(Client::Conex).ok(&["pull", &name]);
    let tunnels = proxy.seen();
    let tunnel = format!("CONNECT {host}");
    assert!(
        !tunnels.is_empty() && tunnels.iter().all(|line| *line == tunnel),
        "{tunnels:?}"
    );

    // The daemon's file goes before its environment, and an exception before both.
    let address = host.split(':').next().unwrap_or_default();
    write(json!({"https-proxy": url, "no-proxy": format!("{address},other.invalid")}));
    engine.terminate();
    engine.resume();
    let cli = engine.cli(Client::Conex);
    cli.ok(&["rmi", &name]);
    cli.ok(&["pull", &name]);
    assert_eq!(proxy.seen().len(), tunnels.len(), "the proxy was not asked");
    let info = cli.ok(&["info", "--format", "{{.HTTPSProxy}} {{.NoProxy}}"]);
    assert_eq!(info, format!("{url} {address},other.invalid"));
}

#[test]
fn a_proxy_that_refuses_is_named_with_what_it_says() {
    let Some(registry) = Registry::start(Access::Open) else {
        return;
    };
    let proxy = ForwardProxy::guarded(&registry.address, "Basic YW5uOnNlY3JldA==");
    let url = format!("http://{}", proxy.address);
    let flags = ["--https-proxy", &url, "--max-download-attempts", "1"];
    let Some(engine) = Engine::start_with(&flags, &[]) else {
        return;
    };
    let name = format!("{NAME}/one:1");
    let error = engine.cli(Client::Conex).fails(1, &["pull", &name]);
    assert!(
        error.contains(&format!(
            "Head \"https://{NAME}/v2/one/manifests/1\": Proxy Authentication Required"
        )),
        "{error}"
    );
    assert_eq!(proxy.seen(), [format!("CONNECT {NAME}:443")]);
}

under_both_clients! {
    containers_are_told_of_the_clients_proxies,
}

fn containers_are_told_of_the_clients_proxies(cli: &Cli<'_>) {
    let directory = cli.engine.root().join("home/.docker");
    std::fs::create_dir_all(&directory).expect("a fresh directory");
    let config = json!({"proxies": {
        "default": {"httpProxy": "http://wrong:1"},
        cli.engine.host(): {
            "httpProxy": "http://proxy.invalid:3128",
            "noProxy": "localhost,.invalid",
            "allProxy": "socks5://proxy.invalid",
        },
    }});
    std::fs::write(directory.join("config.json"), config.to_string()).expect("a fresh file");
    let run = |flags: &[&str]| {
        let words = [
            &["run", "--rm", "--network", "none"],
            flags,
            &["busybox", "env"],
        ]
        .concat();
        let said = cli.ok(&words);
        let mut lines: Vec<String> = said
            .lines()
            .filter(|line| line.to_lowercase().contains("_proxy"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        run(&[]),
        [
            "ALL_PROXY=socks5://proxy.invalid",
            "HTTP_PROXY=http://proxy.invalid:3128",
            "NO_PROXY=localhost,.invalid",
            "all_proxy=socks5://proxy.invalid",
            "http_proxy=http://proxy.invalid:3128",
            "no_proxy=localhost,.invalid",
        ]
    );
    // The user's own word counts; a bare name that the client does not have stays without.
    assert_eq!(
        run(&[
            "-e",
            "http_proxy=mine",
            "-e",
            "NO_PROXY",
            "-e",
            "all_proxy="
        ]),
        [
            "ALL_PROXY=socks5://proxy.invalid",
            "HTTP_PROXY=http://proxy.invalid:3128",
            "all_proxy=",
            "http_proxy=mine",
            "no_proxy=localhost,.invalid",
        ]
    );
}
