//! The tour of real services, Debian's nginx, Redis and Tomcat: an image sent and
//! fetched, run with a published port, changed, kept, sent and fetched again.
//! Engine and registry share a network namespace, so any port may be taken.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use conex_tests::client::Cli;
use conex_tests::fixture::{self, Fixture};
use conex_tests::registry::{Access, Registry};
use conex_tests::{archive, http, skip, under_both_clients_in_namespaces};
use serde_json::{Value, json};

under_both_clients_in_namespaces! {
    an_nginx_is_sent_fetched_published_changed_and_kept,
    a_redis_keeps_its_data_in_a_volume_over_a_new_container,
}

/// Loads an image of Debian and this layer; `None`, with the reason printed,
/// where it cannot be made.
fn load(cli: &Cli<'_>, layer: Fixture, name: &str, config: Value) -> Option<()> {
    let mut layers = Vec::new();
    for fixture in [Fixture::Debian, layer] {
        match fixture::make(fixture) {
            Ok(tar) => layers.push(std::fs::read(tar).expect("the fixture can be read")),
            Err(reason) => {
                skip(&reason);
                return None;
            }
        }
    }
    let mut image = archive::config(&layers);
    image["config"] = config;
    let path = cli.engine.root().join("image.tar");
    let bytes = archive::docker(&image, &layers, &[name]);
    std::fs::write(&path, bytes).expect("a fresh file");
    let said = cli.ok(&["load", "-i", &path.to_string_lossy()]);
    assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
    std::fs::remove_file(&path).expect("it was just written");
    Some(())
}

/// Loopback of the engine's host, with half a minute's patience.
fn connect(cli: &Cli<'_>, address: &str) -> TcpStream {
    let stream = cli
        .engine
        .namespace()
        .inside(|| TcpStream::connect(address));
    let stream = stream.unwrap_or_else(|e| panic!("{address}: {e}"));
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket takes a timeout");
    stream
}

/// The page at `/`.
fn page(cli: &Cli<'_>, address: &str) -> String {
    let mut stream = connect(cli, address);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")
        .expect("the service reads");
    let answer = http::read_response(&mut BufReader::new(stream), false);
    let answer = answer.unwrap_or_else(|e| panic!("{address}: {e}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// Sends an image, removes it with every layer and fetches it again.
fn send_and_fetch(cli: &Cli<'_>, name: &str) -> String {
    let id = cli.inspect(name, "{{.Id}}");
    let said = cli.ok(&["push", name]);
    assert!(said.contains(": digest: sha256:"), "{said}");
    cli.ok(&["rmi", "-f", name]);
    cli.fails(1, &["image", "inspect", name]);
    cli.ok(&["pull", "-q", name]);
    assert_eq!(cli.inspect(name, "{{.Id}}"), id);
    said
}

fn registry(cli: &Cli<'_>) -> Option<Registry> {
    let host = cli.engine.namespace();
    host.inside(|| Registry::start(Access::Open))
}

/// What a web service is made and kept with.
struct Web {
    layer: Fixture,
    config: Value,
    port: u16,
    /// What its log says when it answers.
    ready: &'static str,
    index: &'static str,
    /// Of its own page.
    words: &'static str,
    /// What an orderly stop leaves.
    exit_code: &'static str,
}

fn a_web_service_goes_round(cli: &Cli<'_>, web: &Web) {
    let Some(registry) = registry(cli) else {
        return;
    };
    let first = format!("{}/web:1", registry.address);
    if load(cli, web.layer, &first, web.config.clone()).is_none() {
        return;
    }
    send_and_fetch(cli, &first);

    // On a port of the engine's choice.
    let publish = format!("127.0.0.1::{}", web.port);
    cli.ok(&["run", "-d", "--name", "web", "-p", &publish, &first]);
    cli.wait_for_words("web", web.ready);
    let address = cli.ok(&["port", "web", &web.port.to_string()]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let own = page(cli, &address);
    assert!(own.contains(web.words), "{own}");
    let change = format!("echo changed >{}", web.index);
    cli.ok(&["exec", "web", "sh", "-c", &change]);
    assert_eq!(page(cli, &address), "changed\n");

    let second = format!("{}/web:2", registry.address);
    cli.ok(&["commit", "-m", "a page", "-a", "me", "web", &second]);
    cli.ok(&["stop", "-t", "60", "web"]);
    assert_eq!(cli.inspect("web", "{{.State.ExitCode}}"), web.exit_code);
    cli.ok(&["rm", "web"]);
    let said = send_and_fetch(cli, &second);
    let there = said.matches("Layer already exists").count();
    assert_eq!(there, 2, "{said}");
    assert_eq!(
        cli.inspect(&second, "{{.Author}}: {{.Comment}}"),
        "me: a page"
    );
    cli.ok(&["rmi", &first, &second]);
    cli.engine.settle();
    let kept = cli.engine.layer_directories();
    assert_eq!(kept.len(), 1, "busybox's alone: {kept:?}");
    cli.ok(&["pull", "-q", &second]);

    // On a port of the user's, as the tutorial has it.
    let publish = format!("8080:{}", web.port);
    cli.ok(&["run", "-d", "--name", "again", "-p", &publish, &second]);
    cli.wait_for_words("again", web.ready);
    assert_eq!(page(cli, "127.0.0.1:8080"), "changed\n");
    cli.ok(&["rm", "-f", "again"]);
}

fn an_nginx_is_sent_fetched_published_changed_and_kept(cli: &Cli<'_>) {
    let config = json!({
        "Cmd": ["nginx", "-g", "daemon off; error_log stderr notice;"],
        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    });
    let web = Web {
        layer: Fixture::Nginx,
        config,
        port: 80,
        ready: "start worker process ",
        index: "/var/www/html/index.html",
        words: "Welcome to nginx!",
        exit_code: "0",
    };
    a_web_service_goes_round(cli, &web);
}

fn a_tomcat_goes_round(cli: &Cli<'_>) {
    let config = json!({
        "Cmd": ["/usr/share/tomcat10/bin/catalina.sh", "run"],
        "Env": [
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "CATALINA_HOME=/usr/share/tomcat10",
            "CATALINA_BASE=/var/lib/tomcat10",
            "CATALINA_TMPDIR=/tmp",
            "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64",
        ],
        "ExposedPorts": {"8080/tcp": {}},
    });
    let web = Web {
        layer: Fixture::Tomcat,
        config,
        port: 8080,
        ready: "Server startup in",
        index: "/var/lib/tomcat10/webapps/ROOT/index.html",
        words: "It works !",
        // Java's after SIGTERM.
        exit_code: "143",
    };
    a_web_service_goes_round(cli, &web);
}

#[test]
#[ignore = "soak: Tomcat and its Java are over 200 MB"]
fn a_tomcat_goes_round_with_conex() {
    let client = conex_tests::client::Client::Conex;
    conex_tests::client::with_busybox_in_namespace(client, &[], a_tomcat_goes_round);
}

#[test]
#[ignore = "soak: Tomcat and its Java are over 200 MB"]
fn a_tomcat_goes_round_with_docker() {
    let client = conex_tests::client::Client::Docker;
    conex_tests::client::with_busybox_in_namespace(client, &[], a_tomcat_goes_round);
}

/// Redis's answer to one command: its line, and the value where one follows.
fn ask(stream: &mut BufReader<TcpStream>, command: &str) -> String {
    let asked = stream
        .get_mut()
        .write_all(format!("{command}\r\n").as_bytes());
    asked.expect("the service reads");
    let mut line = String::new();
    stream.read_line(&mut line).expect("the service answers");
    let line = line.trim_end().to_owned();
    let Some(length) = line.strip_prefix('$') else {
        return line;
    };
    let length: usize = length.parse().unwrap_or_else(|_| panic!("{line}"));
    let mut value = vec![0; length + 2];
    stream.read_exact(&mut value).expect("the value follows");
    String::from_utf8_lossy(&value[..length]).into_owned()
}

fn a_redis_keeps_its_data_in_a_volume_over_a_new_container(cli: &Cli<'_>) {
    let config = json!({
        "Cmd": ["redis-server", "--dir", "/data", "--protected-mode", "no"],
        "Env": ["PATH=/usr/bin:/bin"],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
    });
    let Some(registry) = registry(cli) else {
        return;
    };
    let image = format!("{}/redis:1", registry.address);
    if load(cli, Fixture::Redis, &image, config).is_none() {
        return;
    }
    send_and_fetch(cli, &image);
    let start = |publish: &str| {
        let flags = ["run", "-d", "--name", "db", "-v", "data:/data", "-p"];
        cli.ok(&[&flags[..], &[publish, &image]].concat());
        cli.wait_for_words("db", "Ready to accept connections");
        let address = cli.ok(&["port", "db", "6379"]);
        let address = address.lines().next().unwrap_or_default();
        BufReader::new(connect(cli, &address.replace("0.0.0.0", "127.0.0.1")))
    };
    let mut redis = start("127.0.0.1::6379");
    assert_eq!(ask(&mut redis, "PING"), "+PONG");
    assert_eq!(ask(&mut redis, "SET place Kiel"), "+OK");
    assert_eq!(ask(&mut redis, "GET place"), "Kiel");
    // Told to stop it writes its data, which takes it a moment.
    cli.ok(&["stop", "-t", "60", "db"]);
    assert_eq!(cli.inspect("db", "{{.State.ExitCode}}"), "0");
    cli.ok(&["rm", "-v", "db"]);

    let mut redis = start("6379:6379");
    assert_eq!(ask(&mut redis, "GET place"), "Kiel");
    cli.ok(&["rm", "-f", "-v", "db"]);
    assert_eq!(cli.ok(&["volume", "ls", "-q"]), "data");
}
