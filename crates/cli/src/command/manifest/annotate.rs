//! `conex manifest annotate`: says what an image of a list runs on.

use std::process::ExitCode;

use super::{named, store};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::manifests::is_known;

/// Changes an image's platform in a list.
pub static COMMAND: Command = Command {
    about: "Add additional information to a local image manifest",
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("arch", "Set architecture"),
    Flag::string("os", "Set operating system"),
    Flag::list("os-features", "Set operating system feature"),
    Flag::string("os-version", "Set operating system version"),
    Flag::string("variant", "Set architecture variant"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [list, image] = matches.args() else {
        return Err(CliError::message("a list and an image are needed"));
    };
    let parse = |what: &str, text: &str| {
        named(text).map_err(|error| {
            let problem = error.text().unwrap_or_default();
            CliError::message(format!(
                "annotate: error parsing name for {what} {text}: {problem}"
            ))
        })
    };
    let list_name = parse("manifest list", list)?;
    let image_name = parse("manifest", image)?;
    let store = store(ctx);
    let Some(mut entry) = store.get(&list_name, &image_name)? else {
        return Err(CliError::message(format!(
            "manifest for image {image} does not exist in {list}"
        )));
    };
    let platform = entry.descriptor.platform.get_or_insert_default();
    let (os, architecture) = (matches.str("os"), matches.str("arch"));
    let given = |flag: &str| Some(matches.str(flag).to_owned()).filter(|text| !text.is_empty());
    if let Some(os) = given("os") {
        platform.os = os;
    }
    if let Some(architecture) = given("arch") {
        platform.architecture = architecture;
    }
    for feature in matches
        .list("os-features")
        .iter()
        .flat_map(|all| all.split(','))
    {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    platform.variant = given("variant").or(platform.variant.take());
    platform.os_version = given("os-version").or(platform.os_version.take());
    if !is_known(platform) {
        return Err(CliError::message(format!(
            "manifest entry for image has unsupported os/arch combination: {os}/{architecture}"
        )));
    }
    store.put(&list_name, &image_name, &entry)?;
    Ok(ExitCode::SUCCESS)
}
