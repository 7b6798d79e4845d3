//! The Docker SDK for Python against the real engine: the scripts in
//! `tests/sdk/`, each on an engine of its own.
//!
//! The SDK is installed once into a virtual environment of the target
//! directory; where that cannot be done the cases are skipped with a reason.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::registry::{Access, Registry, busybox, tar_of};
use conex_tests::{skip, workspace};

/// Past this pip counts as hung.
const INSTALL_LIMIT: Duration = Duration::from_secs(180);

/// Past this a script does.
const SCRIPT_LIMIT: Duration = Duration::from_secs(180);

/// The interpreter that has the SDK, or why there is none.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let home = workspace::target().join("venv");
    let python = home.join("bin/python");
    // Test programs of other packages may run at the same time.
    let lock = std::fs::File::create(workspace::target().join("venv.lock"))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock the virtual environment: {error}"))?;
    if !has_sdk(&python) {
        let Some(system) = workspace::program("python3") else {
            return Err("no python3 here".into());
        };
        let mut create = Command::new(system);
        create.args(["-m", "venv"]).arg(&home);
        succeed(create)?;
        let mut install = Command::new(&python);
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--retries",
            "1",
            "docker",
        ]);
        succeed(install)?;
    }
    drop(lock);
    Ok(python)
});

fn has_sdk(python: &Path) -> bool {
    let import = Command::new(python).args(["-c", "import docker"]).output();
    import.is_ok_and(|output| output.status.success())
}

fn succeed(command: Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = process::output_limited(command, b"", INSTALL_LIMIT);
    match output.code {
        Some(0) => Ok(()),
        _ => Err(format!("{shown}: {}", output.stderr.trim())),
    }
}

/// Runs a script on an engine of its own that has the image `busybox`; `None`,
/// with the reason printed, where that cannot be.
fn run(script: &str) -> Option<Output> {
    run_with(script, &[])
}

/// The same with more arguments.
fn run_with(script: &str, arguments: &[&str]) -> Option<Output> {
    let prepared = PYTHON
        .clone()
        .and_then(|python| Ok((python, fixture::make(Fixture::Busybox)?)));
    let (python, tar) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    let engine = Engine::start()?;
    let imported = engine.conex(&["import", &tar.to_string_lossy(), "busybox"]);
    assert_eq!(imported.code, Some(0), "{imported}");
    let mut command = Command::new(python);
    command
        .arg(workspace::root().join("tests/sdk").join(script))
        .arg(tar)
        .args(arguments)
        .env_clear()
        .env("HOME", engine.root().join("home"))
        .env("DOCKER_HOST", engine.host());
    Some(process::output_limited(command, b"", SCRIPT_LIMIT))
}

#[test]
fn containers_live_under_the_python_sdk() {
    if let Some(output) = run("containers.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output.stdout.contains("events_tell_it_all_again"),
            "{output}"
        );
    }
}

#[test]
fn images_and_refusals_are_as_the_python_sdk_knows_them() {
    if let Some(output) = run("images.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(output.stdout.contains("names_come_and_go"), "{output}");
    }
}

#[test]
fn files_of_containers_travel_under_the_python_sdk() {
    if let Some(output) = run("files.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output
                .stdout
                .contains("a_container_is_committed_and_exported"),
            "{output}"
        );
    }
}

#[test]
fn registries_are_pulled_from_pushed_to_and_logged_in_to_by_the_python_sdk() {
    let (Some(open), Some(private)) = (
        Registry::start(Access::Open),
        Registry::start(Access::Password),
    ) else {
        return;
    };
    let root = match busybox() {
        Ok(root) => root,
        Err(reason) => return skip(&reason),
    };
    // A layer the engine has not, whose own busybox is made of the same root.
    let layers = [root, tar_of(&[("more", b"of it")])];
    open.push("there:1", &layers);
    private.push("private:1", &layers);
    if let Some(output) = run_with("registry.py", &[&open.address, &private.address]) {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output.stdout.contains("tells_what_is_not_there"),
            "{output}"
        );
    }
}
