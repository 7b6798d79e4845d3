//! From a command line to an exit code: global flags, the walk down the tree,
//! help, usage errors, and the command itself.
//!
//! It must not know any single command.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Args, Command, Entry, Node, ROOT, help};
use crate::context::{Context, Globals};
use crate::error::{CliError, EXIT_FAILURE, EXIT_STATUS};
use crate::flag::{self, Flag, FlagError, Matches};
use crate::output::Output;
use crate::{completion, plugin};

/// Flags before the command.
pub const GLOBAL_FLAGS: &[&[Flag]] = &[GLOBALS];

const GLOBALS: &[Flag] = &[
    Flag::string("config", "Location of client config files").default(help::CONFIG_DIR),
    Flag::string("context", "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")")
        .short('c'),
    Flag::bool("debug", "Enable debug mode").short('D'),
    Flag::list("host", "Daemon socket to connect to").short('H'),
    Flag::string("log-level", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info"),
    Flag::bool("tls", "Use TLS; implied by --tlsverify"),
    Flag::string("tlscacert", "Trust certs signed only by this CA").default("{config}/ca.pem"),
    Flag::string("tlscert", "Path to TLS certificate file").default("{config}/cert.pem"),
    Flag::string("tlskey", "Path to TLS key file").default("{config}/key.pem"),
    Flag::bool("tlsverify", "Use TLS and verify the remote"),
    Flag::bool("version", "Print version information and quit").short('v'),
];

const NO_FLAGS: &[&[Flag]] = &[];

/// Runs the command a line names and prints what went wrong; `words` leave out the program.
pub fn dispatch(program: &str, words: &[String], out: Output, err: Output) -> ExitCode {
    let mut ctx = Context::new(program.to_owned(), out, err, Globals::default());
    let result = root(&mut ctx, words);
    finish(&mut ctx, result)
}

/// Prints what a command left to say.
fn finish(ctx: &mut Context, result: Result<ExitCode, CliError>) -> ExitCode {
    let result = match ctx.out.flush() {
        Err(error) if result.is_ok() => Err(CliError::from(error)),
        _ => result,
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(text) = error.text() {
                // Nobody is left to tell when standard error is gone too.
                drop(writeln!(ctx.err, "{text}"));
            }
            ExitCode::from(error.exit_code())
        }
    };
    drop(ctx.err.flush());
    code
}

/// The words before the command, and the command.
fn root(ctx: &mut Context, words: &[String]) -> Result<ExitCode, CliError> {
    let program = ctx.program.clone();
    if let Some((line, with_explanations)) = completion::request(words) {
        // The options before the command as far as they can be read: a line
        // that is being typed is often none yet.
        let typed = line.len().saturating_sub(1);
        let read = flag::parse(GLOBAL_FLAGS, &line[..typed], false);
        ctx.globals = globals(&read.unwrap_or_default());
        return completion::answer(ctx, ROOT, GLOBAL_FLAGS, line, with_explanations);
    }
    let matches = flag::parse(GLOBAL_FLAGS, words, false).map_err(|error| {
        wrong_flag(
            &error,
            &format!("{program} [OPTIONS] COMMAND [ARG...]"),
            &program,
        )
    })?;
    ctx.globals = globals(&matches);
    let help = |ctx: &Context| {
        let config_dir = ctx.globals.config_dir.to_string_lossy();
        help::root(
            &program,
            ROOT,
            GLOBAL_FLAGS,
            &config_dir,
            help::columns(),
            &plugin::list(ctx),
        )
    };
    if matches.wants_help() {
        let text = help(ctx);
        ctx.out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if matches.bool("version") {
        writeln!(ctx.out, "{}", crate::version_line(&program))?;
        return Ok(ExitCode::SUCCESS);
    }
    let level = matches.str("log-level");
    if ![
        "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic",
    ]
    .contains(&level)
    {
        return Err(CliError::message(format!(
            "Unable to parse logging level: {level}"
        )));
    }
    match matches.args() {
        [] => {
            let text = help(ctx);
            ctx.err.write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        [word, topic @ ..] if word == "help" => match topic {
            [] => {
                let text = help(ctx);
                ctx.out.write_all(text.as_bytes())?;
                Ok(ExitCode::SUCCESS)
            }
            topic => topic_help(ctx, topic),
        },
        [word, rest @ ..] => match ROOT.iter().find(|entry| entry.is_called(word)) {
            Some(entry) => walk(ctx, &program, entry, rest),
            None => match plugin::find(ctx, word) {
                Some(path) => Err(plugin::become_plugin(ctx, &path, words)),
                None => Err(CliError::Status {
                    code: EXIT_FAILURE,
                    text: format!(
                        "{program}: unknown command: {program} {word}\n\nRun '{program} --help' for more information"
                    ),
                }),
            },
        },
    }
}

/// `conex help TOPIC...`.
fn topic_help(ctx: &mut Context, topic: &[String]) -> Result<ExitCode, CliError> {
    let mut path = ctx.program.clone();
    let mut entries = ROOT;
    let mut found = None;
    for (index, word) in topic.iter().enumerate() {
        let Some(entry) = entries.iter().find(|entry| entry.is_called(word)) else {
            if let (0, Some(path)) = (index, plugin::find(ctx, word)) {
                let words = [topic, &["--help".to_owned()]].concat();
                return Err(plugin::become_plugin(ctx, &path, &words));
            }
            let rest = topic[index..].join(" ");
            return Err(CliError::message(format!("unknown help topic: {rest}")));
        };
        path = format!("{path} {}", entry.name);
        entries = match &entry.node {
            Node::Group { entries, .. } => entries,
            Node::Command(_) => &[],
        };
        found = Some(entry);
    }
    if let Some(entry) = found {
        let text = entry_help(entry, &path, &ctx.program);
        ctx.out.write_all(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn entry_help(entry: &Entry, path: &str, program: &str) -> String {
    match &entry.node {
        Node::Command(command) => help::command(path, program, command, help::columns()),
        Node::Group { about, entries } => help::group(path, about, entries),
    }
}

/// A name found in the tree, with the words after it.
fn walk(
    ctx: &mut Context,
    parent: &str,
    entry: &Entry,
    words: &[String],
) -> Result<ExitCode, CliError> {
    let path = format!("{parent} {}", entry.name);
    match &entry.node {
        Node::Command(command) => run(ctx, path, entry, command, words),
        Node::Group { entries, .. } => {
            let matches = flag::parse(NO_FLAGS, words, false)
                .map_err(|error| wrong_flag(&error, &format!("{path} COMMAND"), &path))?;
            let text = entry_help(entry, &path, &ctx.program);
            if matches.wants_help() {
                ctx.out.write_all(text.as_bytes())?;
                return Ok(ExitCode::SUCCESS);
            }
            match matches.args() {
                [] => {
                    ctx.err.write_all(text.as_bytes())?;
                    Ok(ExitCode::SUCCESS)
                }
                [word, rest @ ..] => match entries.iter().find(|entry| entry.is_called(word)) {
                    Some(entry) => walk(ctx, &path, entry, rest),
                    None => Err(CliError::Status {
                        code: EXIT_FAILURE,
                        text: format!(
                            "{}: unknown command: {path} {word}\n\nUsage:  {path}\n\nRun '{path} --help' for more information",
                            ctx.program
                        ),
                    }),
                },
            }
        }
    }
}

/// A command with the words after its name.
fn run(
    ctx: &mut Context,
    path: String,
    entry: &Entry,
    command: &'static Command,
    words: &[String],
) -> Result<ExitCode, CliError> {
    let matches = flag::parse(command.flags, words, command.interspersed)
        .map_err(|error| wrong_flag(&error, &help::usage_line(&path, command), &path))?;
    for notice in matches.notices() {
        writeln!(ctx.err, "{notice}")?;
    }
    if matches.wants_help() {
        let text = entry_help(entry, &path, &ctx.program);
        ctx.out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(complaint) = wrong_count(command.args, matches.args().len()) {
        let pointer = match command.args {
            Args::AtLeast(_) => "See",
            _ => "Run",
        };
        return Err(CliError::Status {
            code: EXIT_FAILURE,
            text: format!(
                "{}: '{path}' {complaint}\n\nUsage:  {}\n\n{pointer} '{path} --help' for more information",
                ctx.program,
                help::usage_line(&path, command)
            ),
        });
    }
    let matches = matches.with_command_path(path);
    let result = (command.run)(ctx, &matches);
    if let Some(warning) = ctx.config_warning() {
        writeln!(ctx.err, "{warning}")?;
    }
    result
}

/// What is wrong with a number of arguments.
fn wrong_count(args: Args, got: usize) -> Option<String> {
    let arguments = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match args {
        Args::None if got > 0 => Some("accepts no arguments".to_owned()),
        Args::Exactly(count) if got != count => {
            Some(format!("requires {count} {}", arguments(count)))
        }
        Args::AtLeast(least) if got < least => {
            Some(format!("requires at least {least} {}", arguments(least)))
        }
        Args::AtMost(most) if got > most => {
            Some(format!("requires at most {most} {}", arguments(most)))
        }
        Args::Range(least, most) if got < least || got > most => Some(format!(
            "requires at least {least} and at most {most} {}",
            arguments(most)
        )),
        _ => None,
    }
}

/// A flag error with the usage line and where to find help.
fn wrong_flag(error: &FlagError, usage: &str, path: &str) -> CliError {
    CliError::Status {
        code: EXIT_STATUS,
        text: format!("{error}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information"),
    }
}

/// The options before the command.
fn globals(matches: &Matches) -> Globals {
    let path = |name: &str| matches.opt_str(name).map(PathBuf::from);
    Globals {
        config_dir: crate::config::directory(matches.opt_str("config")),
        context: matches.opt_str("context").map(str::to_owned),
        hosts: matches.list("host").to_vec(),
        debug: matches.bool("debug"),
        tls: matches.bool("tls"),
        tls_verify: matches
            .is_set("tlsverify")
            .then(|| matches.bool("tlsverify")),
        tls_ca_cert: path("tlscacert"),
        tls_cert: path("tlscert"),
        tls_key: path("tlskey"),
    }
}

#[cfg(test)]
mod tests;
