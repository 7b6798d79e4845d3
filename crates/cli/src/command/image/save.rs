//! `conex image save`, also `conex save`: images as one archive.

use std::process::ExitCode;

use conex_client::query;

use super::platform_json;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::transfer::Destination;

/// Writes images to an archive.
pub static COMMAND: Command = Command {
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    spellings: &["image save", "save"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("output", "Write to a file, instead of STDOUT").short('o'),
    Flag::string(
        "platform",
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let destination = Destination::of(matches.opt_str("output"), "save", "image")?;
    let path = request(matches)?;
    let client = ctx.client()?;
    ctx.block_on(async { destination.receive(client.get_stream(&path).await?).await })?;
    Ok(ExitCode::SUCCESS)
}

/// The path and query of the request.
fn request(matches: &Matches) -> Result<String, CliError> {
    let names = matches.args().iter();
    let mut pairs: Vec<(&str, &str)> = names.map(|name| ("names", name.as_str())).collect();
    let platform = matches.opt_str("platform").filter(|text| !text.is_empty());
    let platform = platform.map(platform_json).transpose()?;
    pairs.extend(platform.iter().map(|json| ("platform", json.as_str())));
    Ok(format!("/images/get{}", query(&pairs)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_image_is_asked_for_in_one_request() {
        let words = ["busybox", "--platform", "linux/arm64", "a/b:1"].map(str::to_owned);
        let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
        let path = request(&matches).unwrap();
        assert!(
            path.starts_with("/images/get?names=busybox&names=a%2Fb%3A1&platform=%7B"),
            "{path}"
        );
        assert!(path.contains("arm64"), "{path}");
    }
}
