//! `conex image push`, also `conex push`: sends an image to its registry.

use std::io::Write;
use std::process::ExitCode;

use conex_client::{Client, query, segment};
use conex_spec::reference::Reference;
use serde_json::{Map, Value};

use super::{platform_json, remote};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::credential::{self, Credentials};
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Sends an image.
pub static COMMAND: Command = Command {
    about: "Upload an image to a registry",
    usage: "[OPTIONS] NAME[:TAG]",
    spellings: &["image push", "push"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Push all tags of an image to the repository").short('a'),
    Flag::string(
        "compression-format",
        "Send every layer in this form: gzip or zstd (zstd makes an OCI manifest)",
    ),
    remote::content_trust("Skip image signing"),
    Flag::string(
        "platform",
        "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
];

/// What Docker says to `--platform`.
const PLATFORM_NOTE: &str = "
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         ";

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let platform = remote::platform(matches);
    let platform = match platform.as_str() {
        "" => None,
        text => Some(platform_json(text)?),
    };
    if platform.is_some() {
        writeln!(ctx.out, "{PLATFORM_NOTE}")?;
        ctx.out.flush()?;
    }
    let reference = remote::named(ctx, matches)?;
    if reference.digest().is_some() {
        return Err(CliError::message("cannot push a digest reference"));
    }
    let mut pairs = Vec::new();
    pairs.extend(reference.tag().map(|tag| ("tag", tag)));
    pairs.extend(platform.iter().map(|json| ("platform", json.as_str())));
    let compression = matches.opt_str("compression-format");
    pairs.extend(compression.map(|format| ("compressionFormat", format)));
    let path = format!(
        "/images/{}/push{}",
        segment(reference.familiar_name()),
        query(&pairs)
    );
    let client = remote::authorized(ctx, &reference)?;
    let client = knowing_its_origin(ctx, client, &reference)?;
    let quiet = matches.bool("quiet");
    let runtime = ctx.runtime();
    let out = (!quiet).then_some(&mut ctx.out);
    runtime.block_on(remote::transfer(&client, &path, out))?;
    if quiet {
        writeln!(ctx.out, "{reference}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The client, with credentials of the registries an image is from: its blobs may have to come again from there, so
/// that it keeps its digest. It shows those the image names and no others.
fn knowing_its_origin(
    ctx: &Context,
    client: Client,
    reference: &Reference,
) -> Result<Client, CliError> {
    let store = Credentials::open(&ctx.globals.config_dir).ok();
    let Some(store) = store.filter(|store| store.has_any() && reference.tag().is_some()) else {
        return Ok(client);
    };
    let path = format!("/images/{}/json", segment(&reference.familiar()));
    let Ok(image) = ctx.block_on(client.get_value(&path)) else {
        // The push itself says what is wrong with it.
        return Ok(client);
    };
    let own = credential::server_of(reference);
    let mut others = Map::new();
    for name in image["RepoDigests"].as_array().into_iter().flatten() {
        let Some(Ok(origin)) = name.as_str().map(Reference::parse) else {
            continue;
        };
        let server = credential::server_of(&origin);
        if server == own || others.contains_key(&server) {
            continue;
        }
        let auth = store.get(&server).unwrap_or_default();
        if !auth.username.is_empty() || !auth.identity_token.is_empty() {
            let auth = serde_json::to_value(auth).expect("credentials are a JSON object");
            others.insert(server, auth);
        }
    }
    if others.is_empty() {
        return Ok(client);
    }
    let header = credential::config_header(&Value::Object(others));
    Ok(client.also_with_header("X-Registry-Config", &header))
}
