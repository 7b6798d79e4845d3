//! Root file systems: imported as tar files, listed, run, removed.

use conex_tests::client::{Cli, Client, engine_for};
use conex_tests::fixture::{self, Fixture};
use conex_tests::{skip, under_both_clients};

fn with_debian(client: Client) {
    let Some(engine) = engine_for(client) else {
        return;
    };
    let tar = match fixture::make(Fixture::Debian) {
        Ok(tar) => tar,
        Err(reason) => return skip(&reason),
    };
    let cli = engine.cli(client);
    let id = cli.ok(&[
        "import",
        "-m",
        "a whole Debian",
        &tar.to_string_lossy(),
        "debian:12",
    ]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");

    let said = cli.ok(&[
        "run", "--rm", "--network", "none", "debian:12", "bash", "-c",
        ". /etc/os-release; echo $ID $VERSION_ID; dpkg -l libc6 | tail -n 1 | cut -c1-2; stat -c %a /tmp",
    ]);
    assert_eq!(said, "debian 12\nii\n1777");

    // A root that was packed by tar must come out as tar would unpack it.
    let setuid = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "debian:12",
        "stat",
        "-c",
        "%a %u",
        "/bin/su",
    ]);
    assert_eq!(setuid, "4755 0");

    // Names of neighbours, as its own library asks for them.
    let network = format!("names-{}", std::process::id());
    cli.ok(&["network", "create", &network]);
    let flags = ["run", "-d", "--name", "db", "--network", &network];
    let sleep = ["--network-alias", "store", "debian:12", "sleep", "1000"];
    cli.ok(&[&flags[..], &sleep].concat());
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        &network,
        "debian:12",
        "sh",
        "-c",
        "getent ahostsv4 store | cut -d' ' -f1 | sort -u; getent hosts db; getent hosts $(getent hosts db | cut -d' ' -f1)",
    ]);
    let address = cli.inspect(
        "db",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    );
    let lines: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let full_name = format!("db.{network}");
    assert_eq!(
        lines,
        [
            vec![address.as_str()],
            vec![&address, "db"],
            vec![&address, &full_name]
        ],
        "{said}"
    );
    cli.ok(&["rm", "-f", "db"]);
    cli.ok(&["network", "rm", &network]);
    cli.ok(&["rmi", "debian:12"]);
    assert_eq!(engine.layer_directories(), Vec::<String>::new());
}

#[test]
fn a_debian_root_imports_runs_and_goes_with_conex() {
    with_debian(Client::Conex);
}

#[test]
fn a_debian_root_imports_runs_and_goes_with_docker() {
    with_debian(Client::Docker);
}

under_both_clients! {
    a_busybox_root_runs,
    an_import_from_standard_input_takes_changes,
    an_image_in_use_stays,
    two_images_of_the_same_root_share_its_layer,
}

fn a_busybox_root_runs(cli: &Cli<'_>) {
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "hello"
        ]),
        "hello"
    );
    assert_eq!(cli.engine.container_count(), 0);
}

fn an_import_from_standard_input_takes_changes(cli: &Cli<'_>) {
    let tar = fixture::make(Fixture::Busybox).map(|path| std::fs::read(path).unwrap_or_default());
    let tar = tar.expect("the busybox image was imported from it");
    let output = cli.run_with_input(
        &[
            "import",
            "-c",
            "ENV A=b",
            "-c",
            "CMD [\"echo\", \"from the image\"]",
            "-c",
            "WORKDIR /tmp",
            "-",
            "changed:1",
        ],
        &tar,
    );
    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(
        cli.ok(&["run", "--rm", "--network", "none", "changed:1"]),
        "from the image"
    );
    let said = cli.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "changed:1",
        "sh",
        "-c",
        "echo $A $PWD",
    ]);
    assert_eq!(said, "b /tmp");
    let list = cli.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<&str> = list.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["busybox:latest", "changed:1"]);
}

fn an_image_in_use_stays(cli: &Cli<'_>) {
    cli.ok(&[
        "run",
        "-d",
        "--name",
        "user",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    let complaint = cli.fails(1, &["rmi", "busybox"]);
    assert!(complaint.contains("conflict"), "{complaint}");
    cli.ok(&["rm", "-f", "user"]);
    let gone = cli.ok(&["rmi", "busybox"]);
    assert!(
        gone.contains("Untagged: busybox:latest") && gone.contains("Deleted: sha256:"),
        "{gone}"
    );
    assert_eq!(cli.ok(&["images", "-q"]), "");
}

fn two_images_of_the_same_root_share_its_layer(cli: &Cli<'_>) {
    let before = cli.engine.layer_directories();
    let tar = fixture::make(Fixture::Busybox).expect("the busybox image was imported from it");
    cli.ok(&["import", "-m", "again", &tar.to_string_lossy(), "again"]);
    assert_eq!(cli.engine.layer_directories(), before);
    cli.ok(&["rmi", "again"]);
    assert_eq!(
        cli.ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "echo",
            "still"
        ]),
        "still"
    );
}
