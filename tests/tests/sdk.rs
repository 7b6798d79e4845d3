//! The Docker SDKs for Python and Node, and testcontainers of both, against the
//! real engine: the scripts in `tests/sdk/`, and the integration suite the Python SDK came with, each on an
//! engine of its own.
//!
//! The SDKs are installed once into the target directory; where that cannot be
//! done the cases are skipped with a reason.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use conex_tests::certificates::Certificates;
use conex_tests::engine::Engine;
use conex_tests::fixture::{self, Fixture};
use conex_tests::process::{self, Output};
use conex_tests::registry::{Access, Registry, busybox, tar_of};
use conex_tests::{skip, workspace};

/// Past this pip or npm counts as hung.
const INSTALL_LIMIT: Duration = Duration::from_secs(180);

/// Past this a script does.
const SCRIPT_LIMIT: Duration = Duration::from_secs(180);

/// The last release of the SDK whose source archive has its tests.
const SUITE_VERSION: &str = "6.1.3";

/// The last testcontainers for Node 18, which Debian has.
const TESTCONTAINERS_VERSION: &str = "10";

/// The interpreter that has the SDK, or why there is none.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let home = workspace::target().join("venv");
    let python = home.join("bin/python");
    let _lock = lock("venv.lock")?;
    if !imports(&python, "docker") {
        let Some(system) = workspace::program("python3") else {
            return Err("no python3 here".into());
        };
        let mut create = Command::new(system);
        create.args(["-m", "venv"]).arg(&home);
        succeed(create)?;
        pip(&python, &["install", "docker"])?;
    }
    if !imports(&python, "websocket") {
        pip(&python, &["install", "websocket-client"])?;
    }
    Ok(python)
});

/// The directory of the SDK's own tests, or why there is none.
static SUITE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let python = PYTHON.clone()?;
    let home = workspace::target().join("sdk-suite");
    let suite = home.join(format!("docker-{SUITE_VERSION}/tests"));
    let _lock = lock("sdk-suite.lock")?;
    if !imports(&python, "pytest, pytest_timeout, paramiko") {
        pip(
            &python,
            &["install", "pytest", "pytest-timeout", "paramiko"],
        )?;
    }
    if suite.is_dir() {
        return Ok(suite);
    }
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let version = format!("docker=={SUITE_VERSION}");
    let into = home.display().to_string();
    let download = [
        "download",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        &into,
        &version,
    ];
    pip(&python, &download)?;
    let mut unpack = Command::new("tar");
    unpack
        .arg("-xzf")
        .arg(home.join(format!("docker-{SUITE_VERSION}.tar.gz")))
        .arg("-C")
        .arg(&home)
        .arg(format!("docker-{SUITE_VERSION}/tests"));
    succeed(unpack)?;
    Ok(suite)
});

/// The directory of modules that has dockerode, or why there is none.
static NODE_MODULES: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| npm("dockerode"));

/// Installs a package of Node's and gives the directory of modules that has it.
fn npm(package: &str) -> Result<PathBuf, String> {
    if workspace::program("node").is_none() {
        return Err("no node here".into());
    }
    let name = package.split('@').next().unwrap_or(package);
    let folder = match name {
        "dockerode" => "node".to_owned(),
        other => format!("node-{other}"),
    };
    let home = workspace::target().join(&folder);
    let modules = home.join("node_modules");
    let _lock = lock(&format!("{folder}.lock"))?;
    if modules.join(name).join("package.json").is_file() {
        return Ok(modules);
    }
    let Some(npm) = workspace::program("npm") else {
        return Err("no npm here".into());
    };
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let mut install = Command::new(npm);
    install
        .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
        .arg(&home)
        .arg(package);
    succeed(install)?;
    Ok(modules)
}

/// The interpreter that has testcontainers too, or why there is none.
static TESTCONTAINERS: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let python = PYTHON.clone()?;
    let _lock = lock("testcontainers.lock")?;
    if !imports(&python, "testcontainers.core.wait_strategies") {
        pip(&python, &["install", "testcontainers"])?;
    }
    Ok(python)
});

/// The directory of modules that has testcontainers, or why there is none.
static NODE_TESTCONTAINERS: LazyLock<Result<PathBuf, String>> =
    LazyLock::new(|| npm(&format!("testcontainers@{TESTCONTAINERS_VERSION}")));

/// Test programs of other packages may run at the same time.
fn lock(name: &str) -> Result<std::fs::File, String> {
    std::fs::File::create(workspace::target().join(name))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock {name}: {error}"))
}

fn imports(python: &Path, modules: &str) -> bool {
    let import = Command::new(python)
        .args(["-c", &format!("import {modules}")])
        .output();
    import.is_ok_and(|output| output.status.success())
}

fn pip(python: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--quiet", "--retries", "1"]);
    command.args(arguments);
    succeed(command)
}

fn succeed(command: Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = process::output_limited(command, b"", INSTALL_LIMIT);
    match output.code {
        Some(0) => Ok(()),
        _ => Err(format!("{shown}: {}", output.stderr.trim())),
    }
}

/// An engine that has the image `busybox`, and the tar it was made of; `None`,
/// with the reason printed, where that cannot be.
fn engine() -> Option<(Engine, PathBuf)> {
    engine_with(&[])
}

/// The same with more flags of the daemon.
fn engine_with(flags: &[&str]) -> Option<(Engine, PathBuf)> {
    let tar = match fixture::make(Fixture::Busybox) {
        Ok(tar) => tar,
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    let engine = Engine::start_with(flags, &[])?;
    let imported = engine.conex(&["import", &tar.to_string_lossy(), "busybox"]);
    assert_eq!(imported.code, Some(0), "{imported}");
    Some((engine, tar))
}

/// Something that was installed; `None`, with the reason printed, if it was not.
fn installed(what: &LazyLock<Result<PathBuf, String>>) -> Option<PathBuf> {
    match LazyLock::force(what) {
        Ok(path) => Some(path.clone()),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

fn script(
    mut command: Command,
    name: &str,
    engine: &Engine,
    tar: &Path,
    arguments: &[&str],
) -> Output {
    command
        .arg(workspace::root().join("tests/sdk").join(name))
        .arg(tar)
        .args(arguments)
        .env("HOME", engine.root().join("home"))
        .env("DOCKER_HOST", engine.host())
        // Its image is not here: what is left behind is the script's fault.
        .env("TESTCONTAINERS_RYUK_DISABLED", "true");
    process::output_limited(command, b"", SCRIPT_LIMIT)
}

/// Runs a script of the Python SDK on an engine of its own.
fn python(name: &str) -> Option<Output> {
    python_with(name, &[])
}

/// The same with more arguments.
fn python_with(name: &str, arguments: &[&str]) -> Option<Output> {
    python_of(&PYTHON, name, arguments)
}

/// The same with an interpreter that has more.
fn python_of(
    interpreter: &LazyLock<Result<PathBuf, String>>,
    name: &str,
    arguments: &[&str],
) -> Option<Output> {
    let mut command = Command::new(installed(interpreter)?);
    let (engine, tar) = engine()?;
    command.env_clear();
    Some(script(command, name, &engine, &tar, arguments))
}

#[test]
fn containers_live_under_the_python_sdk() {
    if let Some(output) = python("containers.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output.stdout.contains("events_tell_it_all_again"),
            "{output}"
        );
    }
}

#[test]
fn execs_and_volumes_are_as_the_python_sdk_knows_them() {
    if let Some(output) = python("exec.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(output.stdout.contains("keeps_volumes"), "{output}");
    }
}

#[test]
fn images_and_refusals_are_as_the_python_sdk_knows_them() {
    if let Some(output) = python("images.py") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(output.stdout.contains("names_come_and_go"), "{output}");
    }
}

#[test]
fn files_of_containers_travel_under_the_python_sdk() {
    if let Some(output) = python("files.py") {
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
    if let Some(output) = python_with("registry.py", &[&open.address, &private.address]) {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output.stdout.contains("tells_what_is_not_there"),
            "{output}"
        );
    }
}

#[test]
fn an_engine_under_tls_is_spoken_to_by_the_python_sdk() {
    let certificates = Certificates::make();
    let flags = certificates.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let Some(python) = installed(&PYTHON) else {
        return;
    };
    let Some((engine, tar)) = engine_with(&flags) else {
        return;
    };
    let clients = ["client", "late", "stranger"].map(|name| certificates.of(name));
    let clients = clients.map(|dir| dir.display().to_string());
    let mut arguments = vec![engine.tcp_address()];
    arguments.extend(clients);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = Command::new(python);
    command.env_clear();
    let output = script(command, "tls.py", &engine, &tar, &arguments);
    assert_eq!(output.code, Some(0), "{output}");
    assert!(
        output.stdout.contains("speaks_through_a_socket"),
        "{output}"
    );
}

#[test]
fn a_container_is_attached_to_by_websocket_under_the_python_sdk() {
    let Some(python) = installed(&PYTHON) else {
        return;
    };
    let Some((engine, tar)) = engine_with(&["-H", "tcp://127.0.0.1:0"]) else {
        return;
    };
    let mut command = Command::new(python);
    command.env_clear();
    let address = engine.tcp_address();
    let output = script(command, "websocket_attach.py", &engine, &tar, &[&address]);
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("keeps_its_limits"), "{output}");
}

#[test]
fn containers_of_tests_live_under_testcontainers_for_python() {
    if let Some(output) = python_of(&TESTCONTAINERS, "testcontainers_core.py", &[]) {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output
                .stdout
                .contains("a_network_joins_containers_and_goes"),
            "{output}"
        );
    }
}

/// Runs a script of Node's on an engine of its own.
fn node(packages: &LazyLock<Result<PathBuf, String>>, name: &str) -> Option<Output> {
    let modules = installed(packages)?;
    let (engine, tar) = engine()?;
    let mut command = Command::new(workspace::program("node").expect("it was found before"));
    command.env("NODE_PATH", modules);
    Some(script(command, name, &engine, &tar, &[]))
}

#[test]
fn containers_live_under_dockerode() {
    if let Some(output) = node(&NODE_MODULES, "dockerode.js") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(output.stdout.contains("keeps_volumes"), "{output}");
    }
}

#[test]
fn containers_of_tests_live_under_testcontainers_for_node() {
    if let Some(output) = node(&NODE_TESTCONTAINERS, "testcontainers.js") {
        assert_eq!(output.code, Some(0), "{output}");
        assert!(
            output.stdout.contains("imagesAreMadeOfContainers"),
            "{output}"
        );
    }
}

/// The files of the SDK's own suite that concern what this engine has.
const SUITE_FILES: [&str; 9] = [
    "api_client_test.py",
    "api_container_test.py",
    "api_exec_test.py",
    "api_volume_test.py",
    "client_test.py",
    "errors_test.py",
    "models_containers_test.py",
    "models_volumes_test.py",
    "regression_test.py",
];

#[test]
fn the_integration_suite_of_the_python_sdk_passes_but_for_the_listed_cases() {
    let (Some(python), Some(suite)) = (installed(&PYTHON), installed(&SUITE)) else {
        return;
    };
    let Some((engine, _)) = engine() else {
        return;
    };
    // What its cases expect of alpine.
    let more = "echo postgres:x:70:70::/:/bin/sh >>/etc/passwd; mkdir -p /var/opt";
    let make = [
        "run",
        "--name",
        "more",
        "--network",
        "none",
        "busybox",
        "sh",
    ];
    let asked: [&[&str]; 5] = [
        &[&make[..], &["-c", more]].concat(),
        &["commit", "more", "alpine:3.10"],
        &["rm", "more"],
        &["tag", "alpine:3.10", "alpine:latest"],
        &["tag", "busybox", "busybox:1"],
    ];
    for command in asked {
        let output = engine.conex(command);
        assert_eq!(output.code, Some(0), "{output}");
    }
    let mut command = Command::new(python);
    command
        .current_dir(suite.parent().expect("it is below a directory"))
        .args(["-m", "pytest", "-q", "--tb=short", "--timeout=60"])
        .args(["-p", "no:cacheprovider", "-p", "no:unraisableexception"]);
    // One case a line, with the reason why it is not for this engine.
    let listed = workspace::root().join("tests/sdk/suite-exceptions.txt");
    let listed = std::fs::read_to_string(listed).expect("the list is part of the tree");
    let cases = listed.lines().filter(|line| !line.starts_with('#'));
    for case in cases.filter_map(|line| line.split_whitespace().next()) {
        command.arg(format!("--deselect=tests/integration/{case}"));
    }
    for file in SUITE_FILES {
        command.arg(format!("tests/integration/{file}"));
    }
    command
        .env("HOME", engine.root().join("home"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("DOCKER_TEST_API_VERSION", "1.43")
        .env("DOCKER_HOST", engine.host());
    let output = process::output_limited(command, b"", SCRIPT_LIMIT);
    assert_eq!(output.code, Some(0), "{output}");
}
