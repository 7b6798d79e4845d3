//! `conex system events`, also `conex events`: what happens in the engine, as it happens.

use std::io::Write;
use std::process::ExitCode;

use conex_client::query;
use serde_json::{Value, json};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::filter;
use crate::flag::{Flag, Matches};
use crate::listing;
use crate::template::{Document, Template};
use crate::time;

/// Follows events.
pub static COMMAND: Command = Command {
    about: "Get real time events from the server",
    usage: "[OPTIONS]",
    spellings: &["system events", "events"],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    filter::FLAG,
    Flag::string("format", listing::INSPECT_FORMAT_HELP),
    Flag::string("since", "Show all events created since timestamp"),
    Flag::string("until", "Stream events until this timestamp"),
];

/// Exit code of a template that cannot work.
const EXIT_TEMPLATE: u8 = 64;

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let template = prepare(matches.str("format"))?;
    let path = request(matches, time::now_s() as i64)?;
    let client = ctx.client()?;
    let runtime = ctx.runtime();
    let out = &mut ctx.out;
    runtime.block_on(async {
        let mut events = client.get_messages::<Value>(&path).await?;
        while let Some(event) = events.next().await {
            let line = show(event?, template.as_ref())?;
            out.write_all(line.as_bytes())?;
            out.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The template of a format, tried on an empty event; none is the plain form.
fn prepare(format: &str) -> Result<Option<Template>, CliError> {
    let text = match format {
        "" => return Ok(None),
        listing::JSON => "{{json .}}",
        text => text,
    };
    let refuse = |source| CliError::Template {
        prefix: "Error parsing format: ",
        source,
        code: EXIT_TEMPLATE,
    };
    let template = Template::parse(text).map_err(refuse)?;
    template
        .execute_row(&document(Value::Null))
        .map_err(refuse)?;
    Ok(Some(template))
}

/// An event with every field templates may ask for, absent ones empty.
fn document(event: Value) -> Document {
    let mut value = json!({
        "status": "", "id": "", "from": "", "Type": "", "Action": "",
        "Actor": {"ID": "", "Attributes": {}}, "scope": "", "time": 0, "timeNano": 0,
    });
    if let (Value::Object(fields), Value::Object(given)) = (&mut value, event) {
        fields.extend(given);
    }
    if let Some(Value::Object(actor)) = value.get_mut("Actor") {
        actor.entry("ID").or_insert_with(|| "".into());
        actor.entry("Attributes").or_insert_with(|| json!({}));
    }
    Document {
        value,
        type_name: "*events.Message",
    }
}

/// The path and query of the request.
fn request(matches: &Matches, now_s: i64) -> Result<String, CliError> {
    let stamp = |flag: &str| match matches.str(flag) {
        "" => Ok(None),
        text => time::query_timestamp(text, now_s)
            .map(Some)
            .map_err(CliError::Message),
    };
    let (since, until) = (stamp("since")?, stamp("until")?);
    let filters = filter::to_query(matches.list("filter"));
    let mut pairs = Vec::new();
    for (key, value) in [("since", &since), ("until", &until), ("filters", &filters)] {
        pairs.extend(value.as_deref().map(|value| (key, value)));
    }
    Ok(format!("/events{}", query(&pairs)))
}

/// One event as a line.
fn show(event: Value, template: Option<&Template>) -> Result<String, CliError> {
    let Some(template) = template else {
        return Ok(plain(&event));
    };
    // The whole event is printed as it came, without the fields made up for templates.
    let line = if template.is_whole_json() {
        event.to_string()
    } else {
        template
            .execute_row(&document(event))
            .map_err(|source| CliError::Template {
                prefix: "",
                source,
                code: crate::error::EXIT_FAILURE,
            })?
    };
    Ok(line + "\n")
}

/// `TIME TYPE ACTION ID (KEY=VALUE, ...)`.
fn plain(event: &Value) -> String {
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let number = |key: &str| event.get(key).and_then(Value::as_i64).unwrap_or(0);
    let mut line = match (number("timeNano"), number("time")) {
        (0, 0) => String::new(),
        (0, seconds) => format!("{} ", time::event_time(i128::from(seconds) * 1_000_000_000)),
        (nanos, _) => format!("{} ", time::event_time(i128::from(nanos))),
    };
    line.push_str(&format!(
        "{} {} {}",
        text("/Type"),
        text("/Action"),
        text("/Actor/ID")
    ));
    if let Some(Value::Object(attributes)) = event.pointer("/Actor/Attributes")
        && !attributes.is_empty()
    {
        let mut pairs: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        pairs.sort_unstable();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn event() -> Value {
        json!({
            "status": "create", "id": "18a4", "from": "busybox", "Type": "container", "Action": "create",
            "Actor": {"ID": "18a4", "Attributes": {"name": "g1", "image": "busybox"}},
            "scope": "local", "time": 1795326747, "timeNano": 1795326747656410600i64,
        })
    }

    #[test]
    fn an_event_is_a_line_with_sorted_attributes() {
        let line = plain(&event());
        let (stamp, rest) = line.split_once(' ').unwrap();
        assert!(stamp.contains(":27.656410600"), "{stamp}");
        assert_eq!(rest, "container create 18a4 (image=busybox, name=g1)\n");
    }

    #[test]
    fn templates_see_go_names_and_absent_fields_as_empty() {
        let template =
            prepare("{{.Type}} {{.Actor.ID}} {{.Actor.Attributes.nope}} {{.Time}} [{{.From}}]")
                .unwrap();
        let volume = json!({"Type": "volume", "Action": "create", "Actor": {"ID": "v"}, "time": 5});
        assert_eq!(
            show(event(), template.as_ref()).unwrap(),
            "container 18a4 <no value> 1795326747 [busybox]\n"
        );
        assert_eq!(
            show(volume, template.as_ref()).unwrap(),
            "volume v <no value> 5 []\n"
        );
    }

    #[test]
    fn json_is_the_event_as_it_came() {
        let template = prepare("json").unwrap();
        assert_eq!(
            show(json!({"Type": "x", "b": 1}), template.as_ref()).unwrap(),
            "{\"Type\":\"x\",\"b\":1}\n"
        );
    }

    #[test]
    fn a_format_that_cannot_work_is_refused_before_the_engine_is_asked() {
        let error = prepare("{{.Nope}}").unwrap_err();
        assert_eq!(
            error.text().unwrap(),
            "Error parsing format: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *events.Message"
        );
        assert_eq!(error.exit_code(), 64);
    }
}
