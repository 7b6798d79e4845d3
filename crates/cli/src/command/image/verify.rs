//! `conex image verify`: whether every file of an image's layers is what it was
//! when it came. A command of our own.

use std::io::Write;
use std::process::ExitCode;

use conex_api::check::{Verification, VerifiedLayer};
use conex_client::segment;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::short_id;

/// Verifies images.
pub static COMMAND: Command = Command {
    about: "Compare the files of images with their digests",
    usage: "[OPTIONS] [IMAGE...]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Any,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[Flag::string(
    "format",
    "Format of the answer: 'json' for the engine's own",
)];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = ctx.client()?;
    let paths: Vec<String> = match matches.args() {
        [] => vec!["/conex/images/verify".to_owned()],
        names => names
            .iter()
            .map(|name| format!("/conex/images/{}/verify", segment(name)))
            .collect(),
    };
    let mut layers: Vec<VerifiedLayer> = Vec::new();
    for path in paths {
        let answer: Verification = ctx.block_on(client.get_json(&path))?;
        for layer in answer.layers {
            if layers.iter().all(|known| known.chain_id != layer.chain_id) {
                layers.push(layer);
            }
        }
    }
    let damaged = layers.iter().filter(|l| !l.problem.is_empty()).count();
    let exit = match damaged {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    match matches.str("format") {
        "json" => {
            let answer = Verification { layers };
            let text = serde_json::to_string(&answer)
                .map_err(|error| CliError::message(error.to_string()))?;
            writeln!(ctx.out, "{text}")?;
        }
        "" => {
            for layer in layers.iter().filter(|l| !l.problem.is_empty()) {
                let images: Vec<&str> = layer.images.iter().map(|id| short_id(id)).collect();
                let layer_id = short_id(&layer.diff_id);
                let images = images.join(", ");
                writeln!(
                    ctx.out,
                    "layer {layer_id} of image {images}: {}",
                    layer.problem
                )?;
            }
            let count = layers.len();
            match damaged {
                0 => writeln!(ctx.out, "{count} layers verified")?,
                _ => writeln!(ctx.out, "{count} layers verified, {damaged} damaged")?,
            }
        }
        _ => return Err(CliError::message("the only format is json")),
    }
    Ok(exit)
}
