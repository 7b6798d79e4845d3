//! `conex system check`: whether the data root and its records agree. A command
//! of our own.

use std::io::Write;
use std::process::ExitCode;

use conex_api::check::Report;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Checks the data root.
pub static COMMAND: Command = Command {
    about: "Compare what lies in the data root with what is recorded",
    usage: "[OPTIONS]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::None,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string(
        "format",
        "Format of the answer: 'json' for the engine's own",
    ),
    Flag::bool(
        "repair",
        "Put right what can be put right without deleting what may be somebody's",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = ctx.client()?;
    let report: Report = match matches.bool("repair") {
        true => ctx.block_on(client.post_json("/conex/repair", None::<&()>))?,
        false => ctx.block_on(client.get_json("/conex/check"))?,
    };
    let is_open = |finding: &&conex_api::check::Finding| !finding.repaired && !finding.note;
    let open = report.findings.iter().filter(is_open).count();
    match matches.str("format") {
        "json" => {
            let text = serde_json::to_string(&report)
                .map_err(|error| CliError::message(error.to_string()))?;
            writeln!(ctx.out, "{text}")?;
        }
        "" => {
            for finding in &report.findings {
                let mark = match (finding.repaired, finding.note) {
                    (true, _) => "repaired: ",
                    (_, true) => "note: ",
                    _ => "",
                };
                let (kind, object, message) = (&finding.kind, &finding.object, &finding.message);
                write!(ctx.out, "{mark}{kind} {object}: {message}")?;
                match finding.path.is_empty() {
                    true => writeln!(ctx.out)?,
                    false => writeln!(ctx.out, " ({})", finding.path)?,
                }
            }
            let (images, layers, containers) = (report.images, report.layers, report.containers);
            writeln!(
                ctx.out,
                "{images} images, {layers} layers and {containers} containers checked: {open} \
                 problems"
            )?;
        }
        _ => return Err(CliError::message("the only format is json")),
    }
    Ok(match open {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
