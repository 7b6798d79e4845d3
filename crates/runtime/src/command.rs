//! `conex runtime`: the OCI runtime's command line, for engines that start
//! containers by executing one (podman, containerd). It must not know how any
//! of them works.
//!
//! ```text
//!  <root>/<id>/           made by create and run, removed by delete
//!      config.json        the bundle's, as it was
//!      state.json         record::Record: pid, bundle, cgroup …
//!      start.sock         while created: whoever connects starts the program
//! ```

mod bundle;
mod create;
mod delete;
mod error;
mod exec;
mod features;
mod flag;
mod foreground;
mod home;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod record;
mod resume;
mod run;
mod seal;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use error::Error;
use flag::{Flag, Given, switch, text, value};
use log::Log;

/// Where containers are remembered unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/conex/runtime";

/// What comes before the verb.
#[derive(Debug)]
struct Globals {
    root: PathBuf,
    log: Log,
}

/// One verb: its flags and what it does.
struct Verb {
    name: &'static str,
    about: &'static str,
    usage: &'static str,
    flags: &'static [Flag],
    run: fn(&Globals, &Given) -> Result<ExitCode, Error>,
}

const VERBS: [&Verb; 15] = [
    &create::VERB,
    &delete::VERB,
    &exec::VERB,
    &features::VERB,
    &kill::VERB,
    &list::VERB,
    &pause::VERB,
    &ps::VERB,
    &resume::VERB,
    &run::VERB,
    &spec::VERB,
    &start::VERB,
    &state::VERB,
    &update::VERB,
    &HELP,
];

const HELP: Verb = Verb {
    name: "help",
    about: "show this text",
    usage: "",
    flags: &[],
    run: |_, _| Ok(print(&help())),
};

const GLOBAL_FLAGS: [Flag; 9] = [
    value("root"),
    value("log"),
    value("log-format"),
    switch("debug"),
    switch("systemd-cgroup"),
    value("cgroup-manager"),
    value("rootless"),
    switch("version").short('v'),
    switch("help").short('h'),
];

/// Runs one command of the OCI runtime; `args` are the words after its name.
///
/// The process must have a single thread. The program's exit code comes from
/// `run` and `exec` in the foreground; 1 is an error, told on standard error
/// and in the log.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut log = Log::to_stderr();
    match dispatch(&args, &mut log) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error.report());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[OsString], log: &mut Log) -> Result<ExitCode, Error> {
    let given = Given::parse(&GLOBAL_FLAGS, args)?;
    *log = Log::open(
        given.path("log")?,
        given.text("log-format")?,
        given.on("debug")?,
    )?;
    if given.on("version")? {
        return Ok(print(&version()));
    }
    let Some((verb, args)) = given
        .words
        .split_first()
        .filter(|_| !matches!(given.on("help"), Ok(true)))
    else {
        return Ok(print(&help()));
    };
    let name = text(verb)?;
    let verb = VERBS
        .into_iter()
        .find(|v| v.name == name)
        .ok_or_else(|| Error::usage(format!("no such command: {name:?}")))?;
    if args
        .first()
        .is_some_and(|arg| arg == "--help" || arg == "-h")
    {
        return Ok(print(&format!(
            "usage: conex runtime {name} {}\n  {}\n",
            verb.usage, verb.about
        )));
    }
    let systemd = given
        .text("cgroup-manager")?
        .is_some_and(|m| m == "systemd");
    if systemd || given.on("systemd-cgroup")? {
        log.warn("cgroups are made directly, not by systemd");
    }
    let root = given.path("root")?.unwrap_or_else(|| DEFAULT_ROOT.into());
    let globals = Globals {
        root,
        log: log.clone(),
    };
    (verb.run)(&globals, &Given::parse(verb.flags, args)?)
}

fn version() -> String {
    format!(
        "conex runtime version {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        conex_spec::runtime::OCI_VERSION
    )
}

fn help() -> String {
    let mut out = String::from(
        "usage: conex runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND\n\n",
    );
    for verb in VERBS {
        out.push_str(&format!(
            "  {:<9} {:<45} {}\n",
            verb.name, verb.usage, verb.about
        ));
    }
    out
}

/// Writes a command's answer. A reader that went away has nothing to be told.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes an answer as JSON, as every runtime does with two spaces.
fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::encode)?;
    text.push('\n');
    Ok(print(&text))
}
