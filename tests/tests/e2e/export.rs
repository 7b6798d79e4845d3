//! A real root, exported and committed, against GNU tar's view of it.

use std::collections::BTreeMap;
use std::process::Command;

use conex_tests::client::Client;
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::skip;

/// Kind, mode, owner, size, time and link of everything, as GNU tar sees it.
fn listing(archive: &std::path::Path) -> BTreeMap<String, String> {
    let output = Command::new("tar")
        .args([
            "--full-time",
            "--numeric-owner",
            "--quoting-style=escape",
            "-tvf",
        ])
        .arg(archive)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .expect("tar can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let mut take = || fields.next().unwrap_or_default().to_owned();
        let looks = [take(), take(), take(), take(), take()].join(" ");
        let rest: Vec<&str> = fields.collect();
        let name = rest.join(" ");
        let name = name.trim_start_matches("./").to_owned();
        if !name.is_empty() {
            listed.insert(name, looks);
        }
    }
    listed
}

#[test]
fn a_debian_root_is_exported_as_gnu_tar_packs_it_and_survives_a_commit() {
    let (Some(engine), Ok(tar)) = (Engine::start(), fixture::make(Fixture::Debian)) else {
        return skip("no engine or no Debian root");
    };
    let cli = engine.cli(Client::Conex);
    cli.ok(&["import", &tar.to_string_lossy(), "debian"]);
    let script = "cd /usr/share/doc && rm -r perl-base && mkdir perl-base && mv libc6 libc7 && \
                  chown -R 1234:5678 tar && ln bash/copyright bash/again && rm -rf /var/cache && \
                  echo changed >>/etc/debian_version && chmod u+s /bin/cat && truncate -s 3G /big && \
                  setfattr -n user.x -v y /etc/issue 2>/dev/null; touch -d @5.000000001 /etc/hosts.old; \
                  mkfifo /run/fifo; mknod /dev-null c 1 3";
    cli.ok(&[
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "debian",
        "sh",
        "-c",
        script,
    ]);
    cli.ok(&["commit", "web", "debian:2"]);
    cli.ok(&["create", "--name", "again", "debian:2", "true"]);
    assert_eq!(cli.ok(&["diff", "again"]), "");
    let out = |name: &str| engine.root().join(name);
    for name in ["web", "again"] {
        cli.ok(&["export", "-o", &out(name).to_string_lossy(), name]);
    }
    // The other side of the comparison: the same root as GNU tar packs it.
    let view = engine.data_root().join("view");
    std::fs::create_dir(&view).expect("the data root takes a folder");
    let layers = cli.inspect(
        "web",
        "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}",
    );
    let script = format!(
        "mount -t overlay overlay -o ro,lowerdir={layers} {0} && tar -C {0} --numeric-owner --sort=name -cf {1} .",
        view.display(),
        out("gnu").display()
    );
    let packed = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .output()
        .expect("unshare can be started");
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let gnu = listing(&out("gnu"));
    assert!(gnu.len() > 5000, "{}", gnu.len());
    // Which of a file's names comes first is each packer's own.
    // What the engine itself puts there is as old as the first container.
    let own = [
        ".dockerenv",
        "dev/console",
        "etc/hosts",
        "etc/mtab -> /proc/mounts",
    ];
    let plain = |mut all: BTreeMap<String, String>| {
        all.retain(|name, looks| !looks.starts_with('h') && !own.contains(&&**name));
        all
    };
    let exported = listing(&out("web"));
    let count =
        |all: &BTreeMap<String, String>| all.keys().filter(|n| !n.contains(" link to ")).count();
    assert_eq!(exported.len(), gnu.len());
    let (exported, gnu) = (plain(exported), plain(gnu));
    for (name, looks) in &gnu {
        // GNU tar shows whole seconds of what it packed in its own format.
        let shown = exported
            .get(name)
            .map(|looks| looks.split('.').next().unwrap_or_default());
        if name.contains("bash/") {
            continue;
        }
        assert_eq!(shown, looks.split('.').next(), "{name}");
    }
    let committed = plain(listing(&out("again")));
    assert_eq!(count(&exported), count(&committed));
    for (name, looks) in &exported {
        assert_eq!(committed.get(name), Some(looks), "{name}");
    }
}
