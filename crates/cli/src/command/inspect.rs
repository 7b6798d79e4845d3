//! `conex inspect`: any object as the engine describes it; and what the
//! `inspect` of each kind of object shares.

use std::io::Write;
use std::process::ExitCode;

use conex_client::segment;
use serde_json::Value;

use super::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE, chain};
use crate::flag::{Flag, Matches};
use crate::listing;
use crate::template::Template;

/// Describes objects of any kind.
pub static COMMAND: Command = Command {
    about: "Return low-level information on Docker objects",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    FORMAT_FLAG,
    Flag::bool("size", "Display total file sizes if the type is container").short('s'),
    Flag::string("type", "Only inspect objects of the given type"),
];

/// `--format` of every inspect.
pub const FORMAT_FLAG: Flag = Flag::string("format", listing::INSPECT_FORMAT_HELP).short('f');

/// Exit code of a template that cannot be parsed.
const EXIT_TEMPLATE: u8 = 64;

/// A kind of object: its name and where the engine describes one, before and after the name.
struct Kind(&'static str, &'static str, &'static str);

/// In the order in which a name is looked for.
const KINDS: &[Kind] = &[
    Kind("container", "/containers/", "/json"),
    Kind("image", "/images/", "/json"),
    Kind("network", "/networks/", ""),
    Kind("volume", "/volumes/", ""),
    Kind("service", "/services/", ""),
    Kind("task", "/tasks/", ""),
    Kind("node", "/nodes/", ""),
    Kind("plugin", "/plugins/", "/json"),
    Kind("secret", "/secrets/", ""),
    Kind("config", "/configs/", ""),
];

/// The kinds looked through when none is named; the others belong to a swarm.
const SEARCHED: usize = 4;

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let wanted = matches.opt_str("type").unwrap_or_default();
    let searched: Vec<&Kind> = if wanted.is_empty() {
        KINDS.iter().take(SEARCHED).collect()
    } else {
        KINDS.iter().filter(|kind| kind.0 == wanted).collect()
    };
    if searched.is_empty() {
        let mut names: Vec<String> = KINDS.iter().map(|kind| format!("\"{}\"", kind.0)).collect();
        names.sort_unstable();
        return Err(CliError::message(format!(
            "unknown type: {}: must be one of {}",
            crate::flag::go_quote(wanted),
            names.join(", ")
        )));
    }
    let with_size = matches.bool("size");
    describe(ctx, matches, |ctx, name| {
        for kind in &searched {
            let size = if with_size && kind.0 == "container" {
                "?size=1"
            } else {
                ""
            };
            let path = format!("{}{}{}{size}", kind.1, segment(name), kind.2);
            match get(ctx, &path) {
                Ok(value) => {
                    if with_size && kind.0 != "container" {
                        writeln!(ctx.err, "WARNING: --size ignored for {}", kind.0)?;
                    }
                    return Ok(value);
                }
                Err(CliError::Client(error)) if wanted.is_empty() && skippable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CliError::message(format!("Error: No such object: {name}")))
    })
}

/// Whether an answer says only that this kind has no object of the name.
fn skippable(error: &conex_client::Error) -> bool {
    let text = error.to_string();
    error.is_not_found()
        || text.contains("not supported")
        || text.contains("invalid reference format")
}

/// One object as JSON.
pub fn get(ctx: &Context, path: &str) -> Result<Value, CliError> {
    let client = ctx.client()?;
    Ok(ctx.block_on(client.get_value(path))?)
}

/// Describes every object named, in `--format`; goes on after failures and says them at the end.
pub fn describe(
    ctx: &mut Context,
    matches: &Matches,
    look_up: impl FnMut(&mut Context, &str) -> Result<Value, CliError>,
) -> Result<ExitCode, CliError> {
    describe_these(ctx, matches.str("format"), matches.args(), look_up)
}

/// The same for these names in this format.
pub fn describe_these(
    ctx: &mut Context,
    format: &str,
    names: &[String],
    mut look_up: impl FnMut(&mut Context, &str) -> Result<Value, CliError>,
) -> Result<ExitCode, CliError> {
    let template = match format {
        "" | listing::JSON => None,
        text => Some(Template::parse(text).map_err(|source| CliError::Template {
            prefix: "template parsing error: ",
            source,
            code: EXIT_TEMPLATE,
        })?),
    };
    let mut objects = Vec::new();
    let mut lines = String::new();
    let mut failures = Vec::new();
    for name in names {
        match (look_up(ctx, name), &template) {
            (Ok(object), None) => objects.push(object),
            (Ok(object), Some(template)) => match template.execute_json(&object) {
                Ok(text) => {
                    lines.push_str(&text);
                    lines.push('\n');
                }
                Err(error) => failures.push(format!("template parsing error: {error}")),
            },
            (Err(error), _) => failures.extend(error.text()),
        }
    }
    match template {
        Some(_) if lines.is_empty() => ctx.out.write_all(b"\n")?,
        Some(_) => ctx.out.write_all(lines.as_bytes())?,
        None if format == listing::JSON => {
            serde_json::to_writer(&mut ctx.out, &objects).map_err(std::io::Error::from)?;
            ctx.out.write_all(b"\n")?;
        }
        None => write_indented(&mut ctx.out, &Value::Array(objects))?,
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Status {
        code: EXIT_FAILURE,
        text: failures.join("\n"),
    })
}

/// JSON with four blanks per level and a line break at the end.
fn write_indented(out: &mut impl Write, value: &Value) -> Result<(), CliError> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, formatter);
    serde::Serialize::serialize(value, &mut serializer).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Several failures as one text, each with its causes, in order.
pub fn join_failures(failures: &[conex_client::Error]) -> String {
    failures
        .iter()
        .map(|error| chain(error))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::context::Globals;
    use crate::output::Output;

    fn described(format: &str, names: &[&str]) -> (String, Option<String>) {
        let mut ctx = Context::new(
            "conex".to_owned(),
            Output::keeping(),
            Output::keeping(),
            Globals::default(),
        );
        let mut words = vec!["-f".to_owned(), format.to_owned()];
        words.extend(names.iter().map(|name| (*name).to_owned()));
        let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
        let result = describe(&mut ctx, &matches, |_, name| match name {
            "web" => Ok(json!({"Id": "abc", "Config": {"Labels": {}, "Cmd": null}})),
            _ => Err(CliError::message(format!("Error: No such object: {name}"))),
        });
        let text = String::from_utf8(ctx.out.kept().to_vec()).unwrap();
        (text, result.err().and_then(|error| error.text()))
    }

    #[test]
    fn objects_are_an_indented_list_in_the_engines_order() {
        let (text, error) = described("", &["web"]);
        let expected = "[\n    {\n        \"Id\": \"abc\",\n        \"Config\": {\n            \"Labels\": {},\n            \"Cmd\": null\n        }\n    }\n]\n";
        assert_eq!((text.as_str(), error), (expected, None));
    }

    #[test]
    fn what_was_found_is_printed_before_what_failed() {
        let (text, error) = described("{{.Id}}", &["no", "web", "neither"]);
        assert_eq!(text, "abc\n");
        assert_eq!(
            error.unwrap(),
            "Error: No such object: no\nError: No such object: neither"
        );
    }

    #[test]
    fn nothing_found_is_an_empty_list_or_an_empty_line() {
        assert_eq!(described("", &["no"]).0, "[]\n");
        assert_eq!(described("json", &["no"]).0, "[]\n");
        assert_eq!(described("{{.Id}}", &["no"]).0, "\n");
    }
}
