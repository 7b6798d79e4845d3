//! Pull, push and login against Debian's registry, under both command lines.

use std::os::unix::fs::PermissionsExt;

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::proxy::{Fault, Proxy};
use conex_tests::registry::{Access, Registry, busybox, runnable_layers as layers, tar_of};
use conex_tests::{skip, under_both_clients_with_registry};
use serde_json::Value;

under_both_clients_with_registry! { Access::Open;
    an_image_is_pulled_run_pushed_removed_and_pulled_again,
    a_run_pulls_what_is_missing_and_obeys_its_policy,
    an_index_gives_the_platforms_image,
    all_tags_and_digests_are_pulled,
    an_image_made_here_is_sent_once_and_then_known,
    what_cannot_be_pulled_is_told_in_dockers_words,
    tags_of_a_repository_are_pushed_together,
}

under_both_clients_with_registry! { Access::Password;
    a_login_opens_a_registry_and_a_logout_closes_it,
}

fn an_image_is_pulled_run_pushed_removed_and_pulled_again(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(1) else { return };
    let host = &registry.address;
    let digest = registry.push("one:1", &layers);
    let name = format!("{host}/one:1");
    let said = cli.ok(&["pull", &name]);
    for line in [
        "1: Pulling from one".to_owned(),
        format!("Digest: {digest}"),
        format!("Status: Downloaded newer image for {name}"),
        name.clone(),
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in {said}");
    }
    for step in ["Pulling fs layer", "Download complete", "Pull complete"] {
        let count = said.lines().filter(|l| l.ends_with(step)).count();
        assert_eq!(count, 2, "{step:?} in {said}");
    }
    let again = cli.ok(&["pull", &name]);
    assert!(again.contains(&format!("Status: Image is up to date for {name}")));

    assert_eq!(cli.run_once(&name, &["wc", "-c", "/file"]), "300000 /file");
    assert_eq!(
        cli.inspect(&name, "{{index .RepoDigests 0}}"),
        format!("{host}/one@{digest}")
    );

    // Elsewhere, and yet the same: the manifest and every blob are kept byte for byte.
    let elsewhere = format!("{host}/two:2");
    cli.ok(&["tag", &name, &elsewhere]);
    let said = cli.ok(&["push", &elsewhere]);
    assert!(said.contains(&format!("The push refers to repository [{host}/two]")));
    assert!(said.contains("Mounted from one"), "{said}");
    assert!(
        said.contains(&format!("2: digest: {digest} size: ")),
        "{said}"
    );

    cli.ok(&["rmi", &name, &elsewhere]);
    let containers_own: Vec<String> = cli.engine.layer_directories();
    assert_eq!(containers_own, Vec::<String>::new());
    cli.ok(&["pull", "-q", &elsewhere]);
    assert_eq!(cli.run_once(&elsewhere, &["echo", "again"]), "again");
}

fn a_run_pulls_what_is_missing_and_obeys_its_policy(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(2) else { return };
    let name = format!("{}/missing:1", registry.address);
    registry.push("missing:1", &layers);
    let run = |policy: &'static str| {
        [
            "run",
            "--rm",
            "--network",
            "none",
            "--pull",
            policy,
            &name,
            "cat",
            "/version",
        ]
        .map(str::to_owned)
    };
    let run = |policy| {
        let words = run(policy);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cli.run(&words)
    };
    let never = run("never");
    assert_eq!(never.code, Some(125), "{never}");
    assert!(never.stderr.contains("No such image"), "{never}");
    let missing = run("missing");
    let told = format!("Unable to find image '{name}' locally");
    assert!(missing.stderr.contains(&told), "{missing}");
    assert!(missing.stderr.contains("Pull complete"), "{missing}");

    let mut newer = layers;
    newer.push(tar_of(&[("version", b"2\n")]));
    registry.push("missing:1", &newer);
    assert_ne!(run("missing").code, Some(0), "what is here is taken");
    let always = run("always");
    assert_eq!(
        (always.code, always.stdout.as_str()),
        (Some(0), "2\n"),
        "{always}"
    );
    // The older image has lost its name and is still here.
    assert_eq!(
        cli.ok(&["images", "-q", "-f", "dangling=true"])
            .lines()
            .count(),
        1
    );
}

fn an_index_gives_the_platforms_image(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(3) else { return };
    let arm = vec![tar_of(&[("arm", b"x")])];
    let index = registry.push_index("many:1", &[("arm64", arm), ("amd64", layers)]);
    let name = format!("{}/many:1", registry.address);
    let said = cli.ok(&["pull", &name]);
    assert!(said.contains(&format!("Digest: {index}")), "{said}");
    let own = match cfg!(target_arch = "aarch64") {
        true => "arm64",
        false => "amd64",
    };
    assert_eq!(cli.inspect(&name, "{{.Architecture}}"), own);
    cli.ok(&["pull", "--platform", "linux/arm64", &name]);
    assert_eq!(cli.inspect(&name, "{{.Architecture}}"), "arm64");
    let error = cli.fails(1, &["pull", "--platform", "linux/s390x", &name]);
    assert!(
        error.contains("no matching manifest for linux/s390x in the manifest list entries"),
        "{error}"
    );
}

fn all_tags_and_digests_are_pulled(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(4) else { return };
    let host = &registry.address;
    let first = registry.push("all:1", &layers);
    registry.push("all:2", &layers[..1]);
    cli.ok(&["pull", "-a", &format!("{host}/all")]);
    let tags = cli.ok(&["images", "--format", "{{.Tag}}", &format!("{host}/all")]);
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "2"]);
    cli.ok(&["rmi", &format!("{host}/all:1"), &format!("{host}/all:2")]);
    let by_digest = format!("{host}/all@{first}");
    cli.ok(&["pull", &by_digest]);
    assert_eq!(cli.inspect(&by_digest, "{{len .RepoTags}}"), "0");
    assert_eq!(cli.run_once(&by_digest, &["echo", "exact"]), "exact");
}

fn an_image_made_here_is_sent_once_and_then_known(cli: &Cli<'_>, registry: &Registry) {
    let Ok(root) = busybox() else {
        return skip("no busybox");
    };
    let host = &registry.address;
    let name = format!("{host}/own:1");
    let imported = cli.run_with_input(&["import", "-", &name], &root);
    assert_eq!(imported.code, Some(0), "{imported}");
    let digest_of = |said: &str| {
        let line = said
            .lines()
            .find(|line| line.contains("digest: "))
            .map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("no digest in {said}"));
        line.split(' ').nth(2).unwrap_or_default().to_owned()
    };
    let first = cli.ok(&["push", &name]);
    assert!(first.contains(": Pushed"), "{first}");
    let second = cli.ok(&["push", &name]);
    assert!(second.contains(": Layer already exists"), "{second}");
    assert_eq!(digest_of(&first), digest_of(&second));
    assert!(
        cli.inspect(&name, "{{.RepoDigests}}")
            .contains(&digest_of(&first)),
        "the registry's name for it is known"
    );

    // Skopeo reads what was sent, and another engine gets the same image.
    let id = cli.inspect(&name, "{{.Id}}");
    cli.ok(&["rmi", &name]);
    cli.ok(&["pull", &name]);
    assert_eq!(cli.inspect(&name, "{{.Id}}"), id);
    let blob = registry.layers(&digest_of(&first)).remove(0);
    let gzip = std::process::Command::new("gzip")
        .arg("-t")
        .stdin(std::fs::File::open(registry.blob(&blob)).expect("the registry keeps blobs"))
        .status();
    assert!(gzip.is_ok_and(|status| status.success()));
}

fn what_cannot_be_pulled_is_told_in_dockers_words(cli: &Cli<'_>, registry: &Registry) {
    let host = &registry.address;
    for (name, text) in [
        (
            format!("{host}/nosuch:1"),
            format!(
                "Error response from daemon: manifest for {host}/nosuch:1 not found: manifest unknown: manifest unknown\n"
            ),
        ),
        (
            "127.0.0.1:1/x:1".to_owned(),
            "Error response from daemon: failed to resolve reference \"127.0.0.1:1/x:1\": failed to do request: \
             Head \"https://127.0.0.1:1/v2/x/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused\n"
                .to_owned(),
        ),
    ] {
        assert_eq!(cli.fails(1, &["pull", &name]), text);
    }
    let error = cli.fails(1, &["push", &format!("{host}/nosuch:1")]);
    assert!(
        error.contains(&format!(
            "An image does not exist locally with the tag: {host}/nosuch"
        )),
        "{error}"
    );
}

fn tags_of_a_repository_are_pushed_together(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(5) else { return };
    let host = &registry.address;
    registry.push("base:1", &layers);
    cli.ok(&["pull", &format!("{host}/base:1")]);
    for tag in ["a", "b"] {
        cli.ok(&[
            "tag",
            &format!("{host}/base:1"),
            &format!("{host}/set:{tag}"),
        ]);
    }
    let said = cli.ok(&["push", "-a", &format!("{host}/set")]);
    assert!(
        said.contains("a: digest: ") && said.contains("b: digest: "),
        "{said}"
    );
    cli.ok(&["pull", &format!("{host}/set:b")]);
}

fn a_login_opens_a_registry_and_a_logout_closes_it(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(6) else { return };
    let host = &registry.address;
    registry.push("private:1", &layers);
    let name = format!("{host}/private:1");
    let error = cli.fails(1, &["pull", &name]);
    assert!(error.contains("no basic auth credentials"), "{error}");

    let wrong = cli.run_with_input(&["login", "-u", "ann", "--password-stdin", host], b"no\n");
    assert_eq!(wrong.code, Some(1), "{wrong}");
    assert!(wrong.stderr.contains("401 Unauthorized"), "{wrong}");
    let right = cli.run_with_input(
        &["login", "-u", "ann", "--password-stdin", host],
        b"secret\n",
    );
    assert_eq!(right.code, Some(0), "{right}");
    assert!(right.stdout.contains("Login Succeeded"), "{right}");
    let file = cli.engine.root().join("home/.docker/config.json");
    let mode = std::fs::metadata(&file)
        .expect("it was written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("it can be read");
    let config: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(config["auths"][host.as_str()]["auth"], "YW5uOnNlY3JldA==");

    cli.ok(&["pull", &name]);
    cli.ok(&["tag", &name, &format!("{host}/mine:1")]);
    cli.ok(&["push", &format!("{host}/mine:1")]);
    cli.ok(&["logout", host]);
    let error = cli.run(&["push", &format!("{host}/mine:1")]);
    assert_ne!(error.code, Some(0), "{error}");
}

under_both_clients_with_registry! { Access::Open;
    a_token_is_fetched_from_the_realm_and_shown,
    a_search_lists_what_the_index_found,
}

fn a_token_is_fetched_from_the_realm_and_shown(cli: &Cli<'_>, registry: &Registry) {
    let Some(layers) = layers(9) else { return };
    registry.push("guarded:1", &layers);
    let proxy = Proxy::start(&registry.address);
    let realm = format!("http://{}/token", proxy.address);
    let challenge = format!(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"s\""
    );
    proxy.judge(move |asked| {
        if asked.line.starts_with("GET /token?") {
            let token = br#"{"token":"good","expires_in":300}"#;
            return Fault::Answer("HTTP/1.1 200 OK".into(), token.to_vec());
        }
        match asked.authorization.as_str() {
            "Bearer good" => Fault::None,
            _ => Fault::Answer(challenge.clone(), Vec::new()),
        }
    });
    let name = format!("{}/guarded:1", proxy.address);
    cli.ok(&["pull", &name]);
    let asked: Vec<String> = proxy.seen().into_iter().map(|asked| asked.line).collect();
    let tokens: Vec<&String> = asked
        .iter()
        .filter(|line| line.contains("/token?"))
        .collect();
    assert_eq!(tokens.len(), 1, "one token is enough: {asked:?}");
    assert!(
        tokens[0].contains("scope=repository%3Aguarded%3Apull"),
        "{tokens:?}"
    );
}

fn a_search_lists_what_the_index_found(cli: &Cli<'_>, registry: &Registry) {
    let index = Proxy::start(&registry.address);
    let found = br#"{"num_results":2,"results":[
        {"name":"ann/web","description":"not official","star_count":3},
        {"name":"web","description":"official","star_count":90,"is_official":true}]}"#;
    index.judge(move |_| Fault::Answer("HTTP/1.1 200 OK".into(), found.to_vec()));
    let term = format!("{}/web", index.address);
    let format = "{{.Name}} {{.StarCount}} {{.IsOfficial}}";
    let all = cli.ok(&["search", "--format", format, &term]);
    assert_eq!(all, "ann/web 3 \nweb 90 [OK]");
    let few = cli.ok(&[
        "search",
        "--filter",
        "stars=10",
        "--format",
        "{{.Name}}",
        &term,
    ]);
    assert_eq!(few, "web");
    let table = cli.ok(&["search", "--limit", "5", &term]);
    let head = table.lines().next().unwrap_or_default();
    let columns: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(
        columns,
        ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"],
        "{table}"
    );
    assert!(
        index
            .seen()
            .iter()
            .any(|asked| asked.line == "GET /v1/search?q=web&n=5")
    );
    let error = cli.fails(1, &["search", "--limit", "101", &term]);
    assert!(
        error.contains("limit 101 is outside the range of [1, 100]"),
        "{error}"
    );
}

#[test]
fn certificates_are_taken_from_folders_of_docker_and_of_containerd() {
    let Some(registry) = Registry::start(Access::Tls) else {
        return;
    };
    let Some(layers) = layers(7) else { return };
    registry.push("safe:1", &layers);
    let host = &registry.address;
    let name = format!("{host}/safe:1");
    let certificates = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = certificates.path().display().to_string();
    let Some(engine) = Engine::start_with(&["--certificate-dir", &dir], &[]) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let error = cli.fails(1, &["pull", &name]);
    assert!(
        error.contains("x509: certificate signed by unknown authority"),
        "{error}"
    );
    // Docker's.
    let folder = certificates.path().join(host);
    std::fs::create_dir(&folder).expect("a fresh directory");
    std::fs::copy(registry.authority(), folder.join("ca.crt")).expect("it can be copied");
    cli.ok(&["pull", &name]);
    cli.ok(&["rmi", &name]);
    // containerd's.
    std::fs::rename(folder.join("ca.crt"), folder.join("own.pem")).expect("it can be renamed");
    cli.fails(1, &["pull", &name]);
    let text = format!("server = \"https://{host}\"\nca = \"own.pem\"\n");
    std::fs::write(folder.join("hosts.toml"), text).expect("a fresh file");
    cli.ok(&["pull", &name]);
}

#[test]
fn a_listed_registry_needs_no_certificate_and_a_reload_lists_it() {
    let Some(registry) = Registry::start(Access::Tls) else {
        return;
    };
    let Some(layers) = layers(8) else { return };
    registry.push("any:1", &layers);
    let name = format!("{}/any:1", registry.address);
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), "{}").expect("it can be written");
    let path = file.path().display().to_string();
    let Some(engine) = Engine::start_with(&["--config-file", &path], &[]) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    cli.fails(1, &["pull", &name]);
    let text = serde_json::json!({"insecure-registries": [registry.address]});
    std::fs::write(file.path(), text.to_string()).expect("it can be written");
    let pid = i32::try_from(engine.pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::HUP)
        .expect("a child can be signalled");
    engine.wait_for_log("the configuration was read again");
    cli.ok(&["pull", &name]);
}
