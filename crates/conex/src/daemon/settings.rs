//! Flags and file together: what the daemon will do.

mod network;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conex_api::container::Ulimit;
use conex_cli::flag::Matches;
use conex_server::{Config as ServerConfig, Listener};

use super::{file, flags};

mod registry;
mod server;

/// Everything resolved.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) engine: conex_engine::Config,
    pub(super) server: ServerConfig,
    pub(super) warnings: Vec<String>,
    pub(super) validate: bool,
    pub(super) auto_start: bool,
    /// `None` waits for ever.
    pub(super) shutdown_timeout: Option<Duration>,
    pidfile: PathBuf,
    log_level: String,
    log_json: bool,
}

/// A flag's value, wherever it came from.
struct Values<'a> {
    matches: &'a Matches,
    file: BTreeMap<String, Vec<String>>,
    stop_timeout: Option<i64>,
    /// The file's `proxies`, by its own keys.
    proxies: BTreeMap<String, String>,
}

impl Values<'_> {
    fn all(&self, flag: &str) -> Vec<String> {
        match self.file.get(flag) {
            Some(words) => words.clone(),
            None => self.matches.list(flag).to_vec(),
        }
    }

    fn text(&self, flag: &str) -> String {
        match self.file.get(flag).and_then(|w| w.last()) {
            Some(word) => word.clone(),
            None => self.matches.str(flag).to_owned(),
        }
    }

    fn yes(&self, flag: &str) -> bool {
        matches!(
            self.text(flag).as_str(),
            "true" | "1" | "t" | "T" | "TRUE" | "True"
        )
    }

    fn given(&self, flag: &str) -> bool {
        self.file.contains_key(flag) || self.matches.is_set(flag)
    }
}

/// Reads the file and puts it together with the flags.
pub(super) fn resolve(matches: &Matches) -> Result<Settings, String> {
    let values = read(matches)?;
    for flag in flags::REFUSED {
        if values.given(flag.long) && values.text(flag.long) != "false" {
            return Err(format!(
                "--{} is not supported yet, and starting without it would be less secure than \
                 asked for",
                flag.long
            ));
        }
    }
    let mut warnings = Vec::new();
    for flag in flags::WITHOUT_EFFECT {
        if values.given(flag.long) {
            warnings.push(format!("--{} has no effect in this version", flag.long));
        }
    }
    let mut engine = conex_engine::Config::new(values.text("data-root"), values.text("exec-root"));
    engine.storage_driver = storage_driver(&values)?;
    engine.labels = labels(&values.all("label"))?;
    engine.log_driver = values.text("log-driver");
    for option in values.all("log-opt") {
        let (key, value) = pair(&option, "log option")?;
        engine.log_options.insert(key, value);
    }
    engine.shm_size_bytes = size(&values.text("default-shm-size"))?;
    engine.ulimits = values
        .all("default-ulimit")
        .iter()
        .map(|u| ulimit(u))
        .collect::<Result<_, _>>()?;
    engine.cgroup_parent = Some(values.text("cgroup-parent")).filter(|s| !s.is_empty());
    engine.cgroupns_mode = Some(values.text("default-cgroupns-mode")).filter(|s| !s.is_empty());
    if let Some(mode) = engine
        .cgroupns_mode
        .as_deref()
        .filter(|m| !["host", "private"].contains(m))
    {
        return Err(format!(
            "default cgroup namespace mode ({mode}) is invalid; use \"host\" or \"private\""
        ));
    }
    engine.network = network::resolve(&values)?;
    engine.no_new_privileges = values.yes("no-new-privileges");
    engine.init = values.yes("init");
    engine.seccomp_profile = match values.text("seccomp-profile").as_str() {
        "" | "builtin" => None,
        path => Some(path.into()),
    };
    engine.experimental = values.yes("experimental");
    engine.debug = values.yes("debug");
    engine.live_restore = values.yes("live-restore");
    if let Some(seconds) = values.stop_timeout {
        engine.stop_timeout_seconds = seconds;
    }
    engine.registry = registry::settings(&values)?;
    let runtime = values.text("default-runtime");
    if !["conex", "runc", "io.containerd.runc.v2"].contains(&runtime.as_str()) {
        return Err(format!(
            "specified default runtime '{runtime}' does not exist"
        ));
    }

    let server = server::resolve(&values, &mut warnings)?;
    let seconds: i64 = values.text("shutdown-timeout").parse().map_err(|_| {
        format!(
            "invalid shutdown-timeout: {}",
            values.text("shutdown-timeout")
        )
    })?;
    let default_roots = matches.str("data-root") == "/var/lib/conex";
    let pidfile = match values.given("pidfile") || default_roots {
        true => values.text("pidfile").into(),
        // Several engines on one machine do not share a pid file.
        false => Path::new(&values.text("exec-root")).join("conex.pid"),
    };
    let level = if engine.debug {
        "debug".into()
    } else {
        values.text("log-level")
    };
    if !["debug", "info", "warn", "error", "fatal"].contains(&level.as_str()) {
        return Err(format!("invalid logging level: {level}"));
    }
    let format = values.text("log-format");
    if !["text", "json"].contains(&format.as_str()) {
        return Err(format!("invalid log format: {format}"));
    }
    engine
        .warnings
        .extend(warnings.iter().map(|w| format!("WARNING: {w}")));
    Ok(Settings {
        engine,
        server,
        warnings,
        validate: matches.bool("validate"),
        auto_start: matches.bool("auto-start"),
        shutdown_timeout: u64::try_from(seconds).ok().map(Duration::from_secs),
        pidfile,
        log_level: level,
        log_json: format == "json",
    })
}

/// The file's keys as flags; one that is also given as a flag is a conflict,
/// lists excepted as dockerd has it not: there too it is one.
fn read(matches: &Matches) -> Result<Values<'_>, String> {
    let mut path = PathBuf::from(matches.str("config-file"));
    let asked = matches.is_set("config-file");
    if !asked && !path.exists() {
        // Docker's own place, for a machine that changes over.
        path = "/etc/docker/daemon.json".into();
    }
    let map = file::read(&path, asked)?;
    let names: Vec<&str> = [flags::EFFECTIVE, flags::WITHOUT_EFFECT, flags::REFUSED]
        .iter()
        .flat_map(|table| table.iter().map(|f| f.long))
        .collect();
    let mut values = Values {
        matches,
        file: BTreeMap::new(),
        stop_timeout: None,
        proxies: BTreeMap::new(),
    };
    for (key, value) in &map {
        if let ("proxies", Some(map)) = (key.as_str(), value.as_object()) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            values.proxies = map.iter().map(|(k, v)| (k.clone(), text(v))).collect();
        }
        if key == "default-stop-timeout" {
            values.stop_timeout = value.as_i64();
        }
        let Some(flag) = file::flag_of(key, &names)? else {
            continue;
        };
        let words = file::words(value);
        if matches.is_set(flag) {
            return Err(format!(
                "unable to configure the daemon with file {}: the following directives are \
                 specified both as a flag and in the configuration file: {key}: (from flag: {}, \
                 from file: {})",
                path.display(),
                matches.list(flag).join(","),
                words.join(",")
            ));
        }
        values.file.insert(flag.to_owned(), words);
    }
    Ok(values)
}

fn pair(text: &str, what: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("invalid {what}: {text}: expected key=value")),
    }
}

fn labels(list: &[String]) -> Result<Vec<String>, String> {
    for label in list {
        pair(label, "label")?;
    }
    Ok(list.to_vec())
}

fn size(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) => conex_cli::units::ram_in_bytes(text),
    }
}

/// The driver asked for by flag or file, else by `DOCKER_DRIVER`.
///
/// Errors: an option of a storage driver that nothing here heeds.
fn storage_driver(values: &Values) -> Result<Option<String>, String> {
    for option in values.all("storage-opt") {
        // What it overrides is not checked here: any kernel that mounts will do.
        if !option.starts_with("overlay2.override_kernel_check=") {
            return Err(format!("storage option {option:?} is not supported"));
        }
    }
    let asked = Some(values.text("storage-driver")).filter(|s| !s.is_empty());
    let environment = || {
        std::env::var("DOCKER_DRIVER")
            .ok()
            .filter(|s| !s.is_empty())
    };
    Ok(asked.or_else(environment))
}

/// `name=soft[:hard]`.
fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = pair(text, "ulimit argument")?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("invalid ulimit argument: {name}={limits}"))
    };
    Ok(Ulimit {
        name: name.clone(),
        soft: number(soft)?,
        hard: number(hard)?,
    })
}

/// A pid file that goes with its daemon.
pub(super) struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0).is_err();
    }
}

impl Settings {
    /// Logs go to standard error; `RUST_LOG` refines what is shown.
    pub(super) fn start_logging(&self) {
        let level = if self.log_level == "fatal" {
            "error"
        } else {
            &self.log_level
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        if self.log_json {
            logs.json().init();
        } else {
            logs.with_ansi(false).with_target(false).init();
        }
    }

    /// Refuses when the file names a process that lives.
    pub(super) fn write_pidfile(&self) -> Result<PidFile, String> {
        let path = &self.pidfile;
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<i32>()
            && pid != std::process::id() as i32
            && is_daemon(pid)
        {
            return Err(format!(
                "process with PID {pid} is still running; remove {} if it is not conex",
                path.display()
            ));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        std::fs::write(path, std::process::id().to_string())
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(PidFile(path.clone()))
    }

    /// For whoever started us: a client's pipe, or a service manager.
    pub(super) fn announce_ready(&self) {
        if self.auto_start {
            let mut out = std::io::stdout();
            let _nobody = out
                .write_all(b"ready\n")
                .and_then(|()| out.flush())
                .is_err();
        }
        if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
            let told = std::os::unix::net::UnixDatagram::unbound()
                .and_then(|socket| socket.send_to(b"READY=1\n", path));
            if let Err(error) = told {
                tracing::warn!(%error, "the service manager was not told");
            }
        }
    }

    /// Sockets of ours, so that clients see at once that nobody serves them.
    pub(super) fn remove_sockets(&self) {
        for listener in &self.server.listeners {
            if let Listener::Unix { path, .. } = listener {
                let _gone = std::fs::remove_file(path).is_err();
            }
        }
    }
}

/// A pid file outlives a crash, and its number may be another process's.
fn is_daemon(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
    words
        .iter()
        .take(2)
        .any(|w| *w == b"daemon" || w.ends_with(b"dockerd") || w.ends_with(b"conexd"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(super) fn resolved(words: &[&str]) -> Result<Settings, String> {
        let mut all = vec!["--config-file".to_owned(), "/dev/null".to_owned()];
        all.extend(words.iter().map(|w| (*w).to_owned()));
        match flags::parse(&all)? {
            flags::Asked::Run(matches) => resolve(&matches),
            _ => Err("not a run".into()),
        }
    }

    #[test]
    fn a_flag_without_effect_warns() {
        let settings = resolved(&["--metrics-addr", "127.0.0.1:9", "--data-root", "/d"]).unwrap();
        assert_eq!(
            settings.warnings,
            ["--metrics-addr has no effect in this version"]
        );
        assert_eq!(settings.engine.data_root, Path::new("/d"));
    }

    #[test]
    fn a_flag_that_would_weaken_security_is_refused() {
        let error = resolved(&["--ip-forward=false"]).unwrap_err();
        assert!(
            error.starts_with("--ip-forward=false is not supported yet"),
            "{error}"
        );
        let error = resolved(&["--rootless"]).unwrap_err();
        assert!(
            error.starts_with("--rootless is not supported yet"),
            "{error}"
        );
    }

    #[test]
    fn hosts_may_be_repeated() {
        let settings = resolved(&["-H", "unix:///a.sock", "-H", "tcp://127.0.0.1:1"]).unwrap();
        assert_eq!(settings.server.listeners.len(), 2);
        assert_eq!(settings.warnings.len(), 1);
    }

    #[test]
    fn file_and_flag_together_are_a_conflict() {
        let dir = std::env::temp_dir().join(format!("conex-daemon-json-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("daemon.json");
        std::fs::write(
            &path,
            r#"{"log-level": "warn", "default-ulimits": {"core": {"Soft": 1, "Hard": 2}}}"#,
        )
        .unwrap();
        let with = |more: &[&str]| {
            let mut words = vec!["--config-file".to_owned(), path.display().to_string()];
            words.extend(more.iter().map(|w| (*w).to_owned()));
            match flags::parse(&words).unwrap() {
                flags::Asked::Run(matches) => resolve(&matches),
                _ => unreachable!("neither help nor version was asked for"),
            }
        };
        let settings = with(&[]).unwrap();
        assert_eq!(settings.log_level, "warn");
        assert_eq!(settings.engine.ulimits[0].hard, 2);
        let error = with(&["--log-level", "info"]).unwrap_err();
        assert!(
            error.contains("specified both as a flag and in the configuration file"),
            "{error}"
        );
        std::fs::write(&path, r#"{"nope": 1}"#).unwrap();
        assert!(
            with(&[])
                .unwrap_err()
                .contains("don't match any configuration option: nope")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
