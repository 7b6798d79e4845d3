//! The tutorial's tour: a real Debian out of a registry, changed, kept, sent and fetched again.

use std::process::Command;

use conex_tests::client::{Cli, Client, engine_for};
use conex_tests::fixture::{self, Fixture};
use conex_tests::registry::{Access, Registry};
use conex_tests::skip;

fn with_debian(client: Client, case: impl FnOnce(&Cli<'_>, &Registry)) {
    let tar = match fixture::make(Fixture::Debian) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let (Some(registry), Some(engine)) = (Registry::start(Access::Open), engine_for(client)) else {
        return;
    };
    let tar = std::fs::read(tar).expect("the fixture can be read");
    registry.push("debian:12", &[tar]);
    case(&engine.cli(client), &registry);
}

fn a_debian_is_pulled_changed_kept_sent_and_fetched_again(cli: &Cli<'_>, registry: &Registry) {
    let host = &registry.address;
    let name = format!("{host}/debian:12");
    cli.ok(&["pull", &name]);
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        &name,
        "sleep",
        "infinity",
    ]);
    let said = cli.ok(&[
        "exec",
        "web",
        "bash",
        "-c",
        ". /etc/os-release; echo $ID $VERSION_ID",
    ]);
    assert_eq!(said, "debian 12");
    // dpkg's own sums say that every file came through the registry as it was.
    let sums = cli.run(&[
        "exec",
        "web",
        "bash",
        "-c",
        "cd / && md5sum --quiet -c /var/lib/dpkg/info/{dpkg,bash,libc6:amd64,coreutils}.md5sums",
    ]);
    assert_eq!(sums.code, Some(0), "{sums}");
    cli.ok(&["exec", "web", "sh", "-c", "echo changed > /srv/page"]);

    let changed = format!("{host}/me/web:2");
    let asked = cli.engine.api("POST", "/commit?container=nosuch", None);
    if asked.message() != "page not found" {
        cli.ok(&["commit", "-m", "a page", "-a", "me", "web", &changed]);
    } else {
        skip("commit is not there yet: the image is sent unchanged");
        cli.ok(&["tag", &name, &changed]);
    }
    let committed = cli.inspect(&changed, "{{.Id}}");
    let pushed = cli.ok(&["push", &changed]);
    assert!(pushed.contains("2: digest: sha256:"), "{pushed}");
    // The lower layer is the registry's own and does not travel again.
    assert!(pushed.contains("Mounted from debian"), "{pushed}");
    cli.ok(&["rm", "-f", "web"]);
    cli.ok(&["rmi", &changed, &name]);
    cli.engine.settle();
    assert_eq!(cli.engine.layer_directories(), Vec::<String>::new());

    cli.ok(&["pull", "-q", &changed]);
    assert_eq!(cli.inspect(&changed, "{{.Id}}"), committed);
    assert_eq!(cli.run_once(&changed, &["bash", "-c", "echo back"]), "back");

    // Another tool finds nothing to object to.
    let seen = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Os}}"])
        .arg(format!("docker://{changed}"))
        .output()
        .expect("skopeo can be started");
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "linux");
}

#[test]
fn a_debian_goes_round_with_conex() {
    with_debian(
        Client::Conex,
        a_debian_is_pulled_changed_kept_sent_and_fetched_again,
    );
}

#[test]
fn a_debian_goes_round_with_docker() {
    with_debian(
        Client::Docker,
        a_debian_is_pulled_changed_kept_sent_and_fetched_again,
    );
}
