//! More commands: programs called `docker-NAME` in the directories where
//! Docker's command line looks for its plugins (`docker compose`, `docker buildx`).
//!
//! A plugin is executed in our place with the whole command line, and told where
//! the engine is. It must not know any single plugin.
//!
//! Source: docker/cli `cli-plugins/manager`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::context::Context;
use crate::error::CliError;

const PREFIX: &str = "docker-";

/// Where plugins of the whole machine are; the first of a name wins.
const DIRECTORIES: [&str; 5] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/conex/cli-plugins",
];

/// What a plugin says of itself when it is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Metadata {
    schema_version: String,
    vendor: String,
    /// A line for help.
    pub(crate) short_description: String,
}

/// The program of a plugin, if there is one of this name.
pub(crate) fn find(ctx: &Context, name: &str) -> Option<PathBuf> {
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_name {
        return None;
    }
    let file = format!("{PREFIX}{name}");
    let mut paths = directories(ctx).into_iter().map(|dir| dir.join(&file));
    paths.find(is_executable)
}

/// Every plugin with what it says of itself, by name, for help.
pub(crate) fn list(ctx: &Context) -> BTreeMap<String, Metadata> {
    let mut found = BTreeMap::new();
    for directory in directories(ctx) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_prefix(PREFIX) else {
                continue;
            };
            if found.contains_key(name) || find(ctx, name).is_none() {
                continue;
            }
            if let Some(metadata) = metadata(&entry.path()) {
                found.insert(name.to_owned(), metadata);
            }
        }
    }
    found
}

/// Becomes the plugin; returns only if that fails. `words` is the whole line.
pub(crate) fn become_plugin(ctx: &Context, program: &PathBuf, words: &[String]) -> CliError {
    let mut command = Command::new(program);
    command.args(words);
    let own = std::env::args_os().next().unwrap_or_default();
    command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", own);
    // A plugin knows Docker's variables and default alone.
    if std::env::var_os("DOCKER_HOST").is_none_or(|value| value.is_empty())
        && ctx.globals.hosts.is_empty()
        && ctx.globals.context.is_none()
        && let Ok(endpoint) = crate::connect::endpoint(ctx)
        && endpoint.context == crate::connect::DEFAULT_CONTEXT
    {
        if endpoint.is_default {
            // It may be started for a plugin as for a command of our own; a
            // plugin that needs none goes on without.
            let _absent = ctx.client().is_err();
        }
        command.env("DOCKER_HOST", endpoint.host.to_string());
    }
    CliError::open(program, command.exec())
}

/// In the order of precedence: the user's, the settings', the machine's.
fn directories(ctx: &Context) -> Vec<PathBuf> {
    let own = ctx.globals.config_dir.join("cli-plugins");
    let extra = ctx
        .config()
        .cli_plugins_extra_dirs
        .iter()
        .map(PathBuf::from);
    extra
        .chain([own])
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .collect()
}

fn is_executable(path: &PathBuf) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn metadata(program: &PathBuf) -> Option<Metadata> {
    let answer = Command::new(program)
        .arg("docker-cli-plugin-metadata")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let metadata: Metadata = serde_json::from_slice(&answer.stdout).ok()?;
    let is_valid = metadata.schema_version.starts_with("0.") && !metadata.vendor.is_empty();
    is_valid.then_some(metadata)
}
