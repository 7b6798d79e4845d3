//! `list`: all containers below the root.

use std::process::ExitCode;

use super::record::{self, Container};
use super::state::Answer;
use super::{Error, Given, Globals, Verb, print, print_json, switch, value};

pub(super) const VERB: Verb = Verb {
    name: "list",
    about: "list containers",
    usage: "[-q] [-f table|json]",
    flags: &[value("format").short('f'), switch("quiet").short('q')],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let mut answers = Vec::new();
    for id in record::ids(globals)? {
        let found = Container::open(globals, &id)
            .and_then(|container| Ok(Answer::of(&container, container.status()?)));
        match found {
            Ok(answer) => answers.push(answer),
            // Deleted meanwhile, or a directory that is none of ours.
            Err(Error::NotFound(_)) => {}
            Err(error) => globals.log.warn(&error.report()),
        }
    }
    if given.on("quiet")? {
        let lines: String = answers
            .iter()
            .map(|a| format!("{}\n", a.state.id))
            .collect();
        return Ok(print(&lines));
    }
    match given.text("format")? {
        None | Some("table") => Ok(print(&table(&answers))),
        Some("json") => print_json(&answers),
        Some(other) => Err(Error::usage(format!("invalid format option {other:?}"))),
    }
}

fn table(answers: &[Answer]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(answers.iter().map(|answer| {
        let state = &answer.state;
        [
            state.id.clone(),
            state.pid.unwrap_or(0).to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            answer.created.clone(),
            answer.owner.clone(),
        ]
    }));
    let width = |column: usize| {
        let longest = rows
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths).take(5) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}
