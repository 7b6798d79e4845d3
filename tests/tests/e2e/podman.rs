//! The OCI runtime under somebody else's engine: podman, with its own storage,
//! conmon and cgroups, told to use `conex runtime`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conex_tests::engine::write_file;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::{leftovers, skip, workspace};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

/// A podman with a room of its own.
struct Podman {
    room: TempDir,
    runtime: PathBuf,
}

impl Podman {
    /// `None`, with the reason printed, where it cannot be.
    fn with_busybox() -> Option<Podman> {
        let missing = ["podman", "conmon"].into_iter().find(|name| {
            workspace::program(name).is_none()
                && !PathBuf::from(format!("/usr/bin/{name}")).exists()
        });
        if let Some(name) = missing {
            skip(&format!("no {name} here"));
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skip("this needs root");
            return None;
        }
        let tar = match fixture::make(Fixture::Busybox) {
            Ok(tar) => tar,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        let room = tempfile::Builder::new()
            .prefix("cx-")
            .tempdir_in("/tmp")
            .expect("a temporary directory can be made");
        let runtime = room.path().join("runtime");
        let conex = workspace::conex();
        let state = room.path().join("state");
        // podman names runtimes by one word.
        let script = format!(
            "#!/bin/sh\nexec {} runtime --root {} \"$@\"\n",
            conex.display(),
            state.display()
        );
        write_file(&runtime, &script);
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))
            .expect("a mode can be set");
        let podman = Podman { room, runtime };
        let imported = podman.run(&["import", "-q", &tar.to_string_lossy(), "busybox"]);
        if imported.code != Some(0) {
            skip(&format!(
                "podman does not work here: {}",
                imported.stderr.trim()
            ));
            return None;
        }
        Some(podman)
    }

    fn run(&self, args: &[&str]) -> Output {
        let at = |name: &str| self.room.path().join(name);
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(at("storage"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "none", "--runtime"])
            .arg(&self.runtime)
            .args(args)
            .env("HOME", self.room.path());
        process::output_limited(command, b"", LIMIT)
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "podman {args:?}: {output}");
        output.stdout.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = self.run(&["rm", "-f", "-a", "-t", "0"]);
        if removed.code != Some(0) {
            eprintln!("while removing podman's containers: {removed}");
        }
        leftovers::sweep(self.room.path(), self.room.path(), &[]);
    }
}

#[test]
fn podman_runs_executes_stops_and_removes_through_our_runtime() {
    let Some(podman) = Podman::with_busybox() else {
        return;
    };
    let none = ["--network", "none", "busybox"];
    let run = |args: &[&str], command: &[&str]| podman.run(&[args, &none, command].concat());
    let said = run(
        &["run", "--rm"],
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
    );
    assert_eq!(
        (said.code, &*said.stdout, &*said.stderr),
        (Some(3), "out\n", "err\n")
    );
    let missing = run(&["run", "--rm"], &["nosuch"]);
    assert_eq!(missing.code, Some(127), "{missing}");

    let trap = "trap 'exit 4' TERM; echo ready; while :; do usleep 10000; done";
    let started = run(
        &[
            "run", "-d", "--name", "web", "--memory", "64m", "-v", "/data",
        ],
        &["sh", "-c", trap],
    );
    assert_eq!(started.code, Some(0), "{started}");
    let path = podman.ok(&["inspect", "-f", "{{.OCIRuntime}}", "web"]);
    assert_eq!(path, podman.runtime.to_string_lossy());
    assert_eq!(
        podman.ok(&["exec", "web", "sh", "-c", "echo $((6 * 7))"]),
        "42"
    );
    assert_eq!(
        podman.ok(&[
            "exec",
            "-u",
            "nobody",
            "-w",
            "/tmp",
            "web",
            "sh",
            "-c",
            "id -un; pwd"
        ]),
        "nobody\n/tmp"
    );
    assert_eq!(
        podman.run(&["exec", "web", "sh", "-c", "exit 9"]).code,
        Some(9)
    );
    assert_eq!(podman.run(&["exec", "web", "nosuch"]).code, Some(127));
    podman.ok(&["exec", "web", "touch", "/data/file"]);
    podman.ok(&["pause", "web"]);
    assert_eq!(
        podman.ok(&["inspect", "-f", "{{.State.Status}}", "web"]),
        "paused"
    );
    podman.ok(&["unpause", "web"]);
    assert!(
        podman.ok(&["top", "web"]).contains("usleep") || podman.ok(&["top", "web"]).contains("sh")
    );
    podman.ok(&["stop", "web"]);
    assert_eq!(
        podman.ok(&["inspect", "-f", "{{.State.ExitCode}}", "web"]),
        "4"
    );
    podman.ok(&["start", "web"]);
    podman.ok(&["kill", "web"]);
    assert_eq!(podman.ok(&["wait", "web"]), "137");
    podman.ok(&["rm", "-v", "web"]);
    assert_eq!(podman.ok(&["ps", "-aq"]), "");
    let state = podman.room.path().join("state");
    assert_eq!(
        fs::read_dir(state).map_or(0, Iterator::count),
        0,
        "the runtime forgets what is gone"
    );
}
