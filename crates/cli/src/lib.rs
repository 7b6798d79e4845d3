//! Commands, flags and output formats of the conex command line.
//!
//! The command tree, its flags and its texts are those Docker's users know. It
//! speaks to an engine only through `conex-client` and never links one.

pub mod command;
mod completion;
pub mod config;
pub mod connect;
pub mod context;
pub mod contexts;
mod credential;
pub mod error;
pub mod filter;
pub mod flag;
pub mod listing;
mod man;
mod manifests;
pub mod output;
mod plugin;
mod progress;
pub mod prompt;
pub mod table;
pub mod template;
pub mod time;
mod transfer;
pub mod units;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use output::Output;

/// The client's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, when the build was told.
pub const GIT_COMMIT: &str = match option_env!("CONEX_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// When it was built, when the build was told.
pub const BUILD_TIME: &str = match option_env!("CONEX_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};
/// The newest version of the Engine API it speaks.
pub const API_VERSION: &str = "1.56";

/// Runs the command line; `args` start with the program's own name.
///
/// Words that are not UTF-8 have the offending bytes replaced, since nothing of
/// a command line reaches an engine but as JSON.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let program = args.next().map_or("conex", |name| program_name(&name));
    let words: Vec<String> = args
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    command::dispatch(program, &words, Output::stdout(), Output::stderr())
}

/// The name texts show: `docker` when called so, else `conex`.
fn program_name(name: &OsString) -> &'static str {
    match Path::new(name).file_name().and_then(|name| name.to_str()) {
        Some("docker") => "docker",
        _ => "conex",
    }
}

/// What `--version` prints.
pub(crate) fn version_line(program: &str) -> String {
    let name = if program == "docker" {
        "Docker"
    } else {
        "Conex"
    };
    format!("{name} version {VERSION}, build {GIT_COMMIT}")
}
