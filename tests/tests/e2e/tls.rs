//! The engine's TCP socket under TLS: who is let in and who is not, and that everything that goes over a
//! socket goes over TLS, half-closed connections too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conex_tests::certificates::Certificates;
use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::{skip, terminal, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// An engine that has the image busybox and verifies its clients, and its address, `127.0.0.1:port`.
fn engine(certificates: &Certificates) -> Option<(Engine, String)> {
    let flags = certificates.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let engine = Engine::start_with(&flags, &[])?;
    match fixture::make(Fixture::Busybox) {
        Ok(tar) => {
            let imported = engine.conex(&["import", &tar.to_string_lossy(), "busybox"]);
            assert_eq!(imported.code, Some(0), "{imported}");
        }
        Err(reason) => {
            skip(&reason);
            return None;
        }
    }
    let address = engine.tcp_address();
    Some((engine, address))
}

/// A command over TLS, all said by the environment.
fn command(cli: &Cli<'_>, address: &str, identity: &Path, args: &[&str]) -> Command {
    let mut command = cli.command(args);
    command
        .env("DOCKER_HOST", format!("tcp://{address}"))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", identity);
    command
}

fn run(cli: &Cli<'_>, address: &str, identity: &Path, args: &[&str], input: &[u8]) -> Output {
    process::output_limited(command(cli, address, identity, args), input, LIMIT)
}

/// Runs each case under the clients there are, on an engine of its own.
fn under(client: Client, case: fn(&Cli<'_>, &str, &Certificates)) {
    if client == Client::Docker && workspace::program("docker").is_none() {
        return skip("no docker command line here");
    }
    let certificates = Certificates::make();
    if let Some((engine, address)) = engine(&certificates) {
        case(&engine.cli(client), &address, &certificates);
    }
}

macro_rules! under_both_clients_with_tls {
    ($($case:ident),* $(,)?) => {
        mod conex {
            $(#[test]
            fn $case() {
                super::under(conex_tests::client::Client::Conex, super::$case);
            })*
        }
        mod docker {
            $(#[test]
            fn $case() {
                super::under(conex_tests::client::Client::Docker, super::$case);
            })*
        }
    };
}

under_both_clients_with_tls! {
    streams_and_their_ends_pass_both_ways,
    only_those_with_a_valid_certificate_come_in,
    contexts_carry_their_certificates,
}

fn streams_and_their_ends_pass_both_ways(
    cli: &Cli<'_>,
    address: &str,
    certificates: &Certificates,
) {
    let identity = certificates.of("client");
    let go = |args: &[&str], input: &[u8]| {
        let output = run(cli, address, &identity, args, input);
        assert_eq!(output.code, Some(0), "{args:?}: {output}");
        output.stdout
    };
    // The end of the input is told while the output is still to come.
    let lines = "0123456789abcdef\n".repeat(60_000);
    let count = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
    ];
    let script = "wc -c; echo over >&2; head -c 1000000 /dev/zero | tr '\\0' x";
    let output = go(&[&count[..], &[script]].concat(), lines.as_bytes());
    assert!(output.starts_with("1020000\n"), "{}", &output[..20]);
    assert_eq!(output.len(), "1020000\n".len() + 1_000_000);
    // And both ways at once.
    let echo = ["run", "--rm", "-i", "--network", "none", "busybox", "cat"];
    assert!(go(&echo, lines.as_bytes()) == lines, "the echo differs");
    let create = ["create", "-i", "--name", "it", "--network", "none"];
    go(&[&create[..], &["busybox", "cat"]].concat(), b"");
    assert_eq!(go(&["start", "-a", "-i", "it"], b"again\n"), "again\n");
    // A terminal, with input of a hand and detach keys.
    go(
        &[
            "run",
            "-d",
            "-it",
            "--name",
            "tty",
            "--network",
            "none",
            "busybox",
            "sh",
        ],
        b"",
    );
    let (mut client, master) =
        terminal::spawn(command(cli, address, &identity, &["attach", "tty"]));
    let mut seen = String::new();
    terminal::type_in(&master, "echo $((40 + 2))\n");
    terminal::read_until(&master, &mut seen, "\r\n42\r\n");
    terminal::type_in(&master, "\u{10}\u{11}");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert!(status.is_some(), "it does not detach: {seen:?}");
    let counted = go(&["exec", "-i", "tty", "wc", "-c"], lines.as_bytes());
    assert_eq!(counted, "1020000\n");
}

fn only_those_with_a_valid_certificate_come_in(
    cli: &Cli<'_>,
    address: &str,
    certificates: &Certificates,
) {
    let engine = certificates.of("engine");
    let asks = |files: &[(&str, &Path)], flags: &[&str]| {
        let mut command = cli.command(&[]);
        command
            .env("DOCKER_HOST", format!("tcp://{address}"))
            .args(flags);
        for (flag, path) in files {
            command.arg(format!("--{flag}={}", path.display()));
        }
        command.args(["ps", "-q"]);
        process::output_limited(command, b"", LIMIT)
    };
    let of = |name: &str, ca: &Path| {
        let dir = certificates.of(name);
        let files = [
            ("tlscacert", ca.join("ca.pem")),
            ("tlscert", dir.join("cert.pem")),
            ("tlskey", dir.join("key.pem")),
        ];
        let files: Vec<(&str, &Path)> = files.iter().map(|(f, p)| (*f, p.as_path())).collect();
        asks(&files, &["--tlsverify"])
    };
    let is_refused = |output: Output, why: &str| {
        assert_eq!(output.code, Some(1), "{output}");
        assert!(output.stderr.contains(why), "{why:?}: {output}");
    };
    assert_eq!(of("client", &engine).code, Some(0));
    is_refused(of("stranger", &engine), "remote error: tls: ");
    is_refused(of("late", &engine), "remote error: tls: ");
    let ca = engine.join("ca.pem");
    is_refused(
        asks(&[("tlscacert", &ca)], &["--tlsverify"]),
        "tls: certificate required",
    );
    // Somebody else's engine, as far as this client knows.
    let strange = certificates.of("stranger");
    is_refused(
        of("client", &strange),
        "x509: certificate signed by unknown authority",
    );
    // A name the certificate is not for.
    let (_, port) = address.rsplit_once(':').expect("it has a port");
    let mut elsewhere = command(cli, address, &certificates.of("client"), &["ps"]);
    elsewhere.env("DOCKER_HOST", format!("tcp://localhost:{port}"));
    is_refused(
        process::output_limited(elsewhere, b"", LIMIT),
        "tls: failed to verify certificate: x509: certificate is",
    );
    // In clear text.
    is_refused(
        asks(&[], &[]),
        "Client sent an HTTP request to an HTTPS server.",
    );
    // TLS alone does not ask who answers, but the engine still does.
    let dir = certificates.of("client");
    let mut careless = cli.command(&["--tls", "ps", "-q"]);
    careless
        .env("DOCKER_HOST", format!("tcp://localhost:{port}"))
        .env("DOCKER_CERT_PATH", &dir);
    assert_eq!(process::output_limited(careless, b"", LIMIT).code, Some(0));
}

fn contexts_carry_their_certificates(cli: &Cli<'_>, address: &str, certificates: &Certificates) {
    let go = |cli: &Cli<'_>, args: &[&str]| {
        let mut command = cli.command(args);
        command
            .env_remove("DOCKER_HOST")
            .current_dir(cli.engine.root());
        let output = process::output_limited(command, b"", LIMIT);
        assert_eq!(output.code, Some(0), "{args:?}: {output}");
        output.stdout
    };
    let dir = certificates.of("client");
    let docker = format!(
        "host=tcp://{address},ca={0}/ca.pem,cert={0}/cert.pem,key={0}/key.pem",
        dir.display()
    );
    go(cli, &["context", "create", "far", "--docker", &docker]);
    let material = ["context", "inspect", "-f", "{{json .TLSMaterial}}"];
    let files = "{\"docker\":[\"ca.pem\",\"cert.pem\",\"key.pem\"]}\n";
    assert_eq!(go(cli, &[&material[..], &["far"]].concat()), files);
    go(cli, &["context", "create", "copy", "--from", "far"]);
    go(cli, &["context", "export", "far"]);
    go(cli, &["context", "import", "moved", "far.dockercontext"]);
    let careless = docker.replace("/ca.pem,", "/cert.pem,") + ",skip-tls-verify=true";
    go(
        cli,
        &["context", "create", "careless", "--docker", &careless],
    );
    // Whoever made them, both clients use them.
    let names: Vec<String> = ["far", "copy", "moved", "careless"]
        .map(str::to_owned)
        .into();
    for client in [Client::Conex, Client::Docker] {
        if client == Client::Docker && workspace::program("docker").is_none() {
            continue;
        }
        let other = cli.engine.cli(client);
        for name in &names {
            assert_eq!(go(&other, &["--context", name, "ps", "-aq"]), "", "{name}");
        }
        let again = format!("again-{}", client.name());
        go(&other, &["context", "import", &again, "far.dockercontext"]);
        assert_eq!(go(&other, &[&material[..], &[&again]].concat()), files);
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(cli.engine.root().join("far.dockercontext"))
            .expect("it was written")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_client_that_stalls_in_its_handshake_keeps_nobody_waiting() {
    let certificates = Certificates::make();
    let Some((engine, address)) = engine(&certificates) else {
        return;
    };
    // Nothing at all, and the beginning of a greeting; more of them than handshakes may be under way.
    let mut stalled = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(&address).expect("the engine listens");
        if number % 2 == 0 {
            stream
                .write_all(&[22, 3, 1, 2, 0, 1])
                .expect("a socket takes six bytes");
        }
        stalled.push(stream);
    }
    let cli = engine.cli(Client::Conex);
    let served = run(
        &cli,
        &address,
        &certificates.of("client"),
        &["ps", "-q"],
        b"",
    );
    assert_eq!(served.code, Some(0), "{served}");
    // The oldest had to go.
    let oldest = &mut stalled[0];
    oldest
        .set_read_timeout(Some(LIMIT))
        .expect("a socket takes a limit");
    match oldest.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_verifies_nobody_serves_everybody_and_says_so() {
    let certificates = Certificates::make();
    let mut flags = certificates.flags();
    flags[0] = "--tlsverify=false".into();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let Some(engine) = Engine::start_with(&flags, &[]) else {
        return;
    };
    let address = engine.tcp_address();
    let engines_own = certificates.of("engine").join("ca.pem");
    let args = [
        "--tlsverify",
        &format!("--tlscacert={}", engines_own.display()),
        &format!("-H=tcp://{address}"),
        "info",
    ];
    let mut command = engine.cli(Client::Conex).command(&args);
    command.env_remove("DOCKER_HOST");
    let info = process::output_limited(command, b"", LIMIT);
    assert_eq!(info.code, Some(0), "{info}");
    let warning = "API is accessible on https://127.0.0.1:0 without TLS client verification";
    assert!(info.stderr.contains(warning), "{info}");
}

#[test]
fn a_daemon_without_usable_certificates_does_not_start() {
    let Some(engine) = Engine::unstarted() else {
        return;
    };
    let certificates = Certificates::make();
    let file = |name: &str, file: &str| certificates.of(name).join(file).display().to_string();
    let (cert, key) = (file("engine", "cert.pem"), file("engine", "key.pem"));
    let foreign = file("client", "key.pem");
    let pair = |cert: &str, key: &str| [format!("--tlscert={cert}"), format!("--tlskey={key}")];
    let refused = |flags: &[&str], [cert, key]: [String; 2], problem: &str| {
        let flags = [flags, &[cert.as_str(), key.as_str()]].concat();
        let said = engine.refuses_to_start(&flags);
        assert!(said.contains(problem), "{said}");
    };
    refused(
        &["--tlsverify"],
        pair("/nosuch", "/nosuch"),
        "invalid TLS configuration: could not load X509 key pair (cert: \"/nosuch\", key: \"/nosuch\")",
    );
    let ca = file("engine", "ca.pem");
    refused(
        &["--tls", &format!("--tlscacert={ca}")],
        pair(&cert, &foreign),
        "invalid TLS configuration: error reading X509 key pair",
    );
    refused(
        &["--tls", &format!("--tlscacert={key}")],
        pair(&cert, &key),
        "failed to append certificates from PEM file",
    );
}
