//! `conex version`: the client's version and the engine's.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE};
use crate::flag::{Flag, Matches};
use crate::table::{self, Layout};
use crate::template::{Document, Template};
use crate::{API_VERSION, BUILD_TIME, GIT_COMMIT, VERSION, listing};

/// Shows versions.
pub static COMMAND: Command = Command {
    about: "Show the version information",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[&[Flag::string("format", listing::INSPECT_FORMAT_HELP).short('f')]],
    args: Args::None,
    interspersed: true,
    run,
};

/// Exit code of a template that cannot be parsed.
const EXIT_TEMPLATE: u8 = 64;
/// Two columns.
const LAYOUT: Layout = Layout {
    min_width: 20,
    padding: 1,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let template = match matches.str("format") {
        "" => None,
        listing::JSON => Some(Template::parse_named("version", "{{json .}}")),
        text => Some(Template::parse_named("version", text)),
    };
    let template = template.transpose().map_err(|source| CliError::Template {
        prefix: "template parsing error: ",
        source,
        code: EXIT_TEMPLATE,
    })?;
    // The client's half is worth printing even where no engine answers.
    let server = ctx.client().and_then(|client| {
        Ok((
            ctx.block_on(client.get_value("/version"))?,
            client.version(),
        ))
    });
    let (server, spoken, failure) = match server {
        Ok((server, spoken)) => (Some(server), spoken, None),
        Err(error) => (None, API_VERSION.to_owned(), Some(error)),
    };
    let client = client_version(ctx, &spoken);
    let shown = match template {
        Some(template) => {
            let value = json!({"Client": client, "Server": server});
            let document = Document {
                value,
                type_name: "system.versionInfo",
            };
            template
                .execute_row(&document)
                .map(|text| text + "\n")
                .map_err(|source| CliError::Template {
                    prefix: "",
                    source,
                    code: EXIT_FAILURE,
                })
        }
        None => Ok(plain(&client, server.as_ref())),
    };
    ctx.out
        .write_all(shown.as_deref().unwrap_or("\n").as_bytes())?;
    match (shown, failure) {
        (Err(error), _) | (Ok(_), Some(error)) => Err(error),
        (Ok(_), None) => Ok(ExitCode::SUCCESS),
    }
}

fn client_version(ctx: &Context, spoken: &str) -> Value {
    json!({
        "Version": VERSION,
        "ApiVersion": spoken,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": GIT_COMMIT,
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "BuildTime": BUILD_TIME,
        "Context": ctx.context_name(),
    })
}

/// The processor in Go's words, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// A member of an object as text, empty when absent.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Both halves in two columns.
fn plain(client: &Value, server: Option<&Value>) -> String {
    let mut lines = String::from("Client:\n");
    let spoken = text(client, "ApiVersion");
    let newest = text(client, "DefaultAPIVersion");
    let api = if spoken == newest {
        spoken.to_owned()
    } else {
        format!("{spoken} (downgraded from {newest})")
    };
    let platform = |value: &Value| format!("{}/{}", text(value, "Os"), text(value, "Arch"));
    for (title, value) in [
        ("Version", text(client, "Version")),
        ("API version", &api),
        ("Git commit", text(client, "GitCommit")),
        ("Built", text(client, "BuildTime")),
        ("OS/Arch", &platform(client)),
        ("Context", text(client, "Context")),
    ] {
        lines.push_str(&format!(" {title}:\t{value}\n"));
    }
    if let Some(server) = server {
        lines.push_str(&plain_server(server));
    }
    table::align(&lines, LAYOUT)
}

fn plain_server(server: &Value) -> String {
    let name = server
        .get("Platform")
        .map_or("", |platform| text(platform, "Name"));
    let mut lines = if name.is_empty() {
        "\nServer:\n".to_owned()
    } else {
        format!("\nServer: {name}\n")
    };
    let empty = Vec::new();
    let components = server
        .get("Components")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    // Engines from before components were listed describe themselves in the answer itself.
    let alone = json!({"Name": "Engine", "Version": text(server, "Version"), "Details": server});
    let components: Vec<&Value> = if components.is_empty() {
        vec![&alone]
    } else {
        components.iter().collect()
    };
    for component in components {
        let details = component.get("Details").unwrap_or(&Value::Null);
        lines.push_str(&format!(" {}:\n", text(component, "Name")));
        lines.push_str(&format!("  Version:\t{}\n", text(component, "Version")));
        if text(component, "Name") == "Engine" {
            let api = format!(
                "{} (minimum version {})",
                text(details, "ApiVersion"),
                text(details, "MinAPIVersion")
            );
            lines.push_str(&format!("  API version:\t{api}\n"));
            for (title, key) in [
                ("Go version", "GoVersion"),
                ("Git commit", "GitCommit"),
                ("Built", "BuildTime"),
            ] {
                let value = text(details, key);
                if !value.is_empty() || key != "GoVersion" {
                    lines.push_str(&format!("  {title}:\t{}\n", readable_time(value)));
                }
            }
            lines.push_str(&format!(
                "  OS/Arch:\t{}/{}\n",
                text(details, "Os"),
                text(details, "Arch")
            ));
            let experimental = match details.get("Experimental") {
                Some(Value::Bool(value)) => value.to_string(),
                Some(Value::String(value)) => value.clone(),
                _ => "false".to_owned(),
            };
            lines.push_str(&format!("  Experimental:\t{experimental}\n"));
        } else if let Some(details) = details.as_object() {
            let mut keys: Vec<&String> = details.keys().collect();
            keys.sort_unstable();
            for key in keys {
                let value = details[key].as_str().unwrap_or_default();
                lines.push_str(&format!("  {key}:\t{value}\n"));
            }
        }
    }
    lines
}

/// An RFC 3339 time as C's `asctime` writes it, anything else as it is.
fn readable_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_aligned_in_two_columns() {
        let client = json!({
            "Version": "1.0", "ApiVersion": "1.50", "DefaultAPIVersion": "1.56", "GitCommit": "abc",
            "Os": "linux", "Arch": "amd64", "BuildTime": "unknown", "Context": "default",
        });
        let server = json!({
            "Platform": {"Name": ""},
            "Components": [
                {"Name": "Engine", "Version": "2.0", "Details": {
                    "ApiVersion": "1.55", "MinAPIVersion": "1.24", "GitCommit": "def",
                    "BuildTime": "2025-05-30T12:07:14.000000000+00:00", "Os": "linux", "Arch": "amd64",
                    "Experimental": "false",
                }},
                {"Name": "runtime", "Version": "1.5", "Details": {"GitCommit": ""}},
            ],
        });
        let expected = "\
Client:
 Version:           1.0
 API version:       1.50 (downgraded from 1.56)
 Git commit:        abc
 Built:             unknown
 OS/Arch:           linux/amd64
 Context:           default

Server:
 Engine:
  Version:          2.0
  API version:      1.55 (minimum version 1.24)
  Git commit:       def
  Built:            Fri May 30 12:07:14 2025
  OS/Arch:          linux/amd64
  Experimental:     false
 runtime:
  Version:          1.5
  GitCommit:        \n";
        assert_eq!(plain(&client, Some(&server)), expected);
    }
}
