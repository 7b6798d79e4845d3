//! `conex image pull`, also `conex pull`: fetches an image from its registry.

use std::io::Write;
use std::process::ExitCode;

use conex_api::progress::Message;
use conex_client::{Client, query};
use conex_spec::reference::Reference;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::credential::{self, Credentials};
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::output::Output;
use crate::progress;

/// Fetches an image.
pub static COMMAND: Command = Command {
    about: "Download an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    spellings: &["image pull", "pull"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
    Flag::bool("disable-content-trust", "Skip image verification")
        .default("true")
        .hidden(),
    Flag::string(
        "platform",
        "Set platform if server is multi-platform capable",
    ),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = matches
        .args()
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let mut reference = parse(name)?;
    let (all, quiet) = (matches.bool("all-tags"), matches.bool("quiet"));
    let exact = reference.tag().is_some() || reference.digest().is_some();
    if all && exact {
        return Err(CliError::message("tag can't be used with --all-tags/-a"));
    }
    if !all && !exact {
        reference = reference.with_default_tag();
        if !quiet {
            let tag = reference.tag().unwrap_or_default();
            writeln!(ctx.out, "Using default tag: {tag}")?;
            ctx.out.flush()?;
        }
    }
    let platform = platform(matches);
    let client = authorized(ctx, &reference)?;
    let runtime = ctx.runtime();
    let out = (!quiet).then_some(&mut ctx.out);
    runtime.block_on(pull(&client, &reference, &platform, out))?;
    writeln!(ctx.out, "{reference}")?;
    Ok(ExitCode::SUCCESS)
}

/// The name of an image, with Docker's words for one that is none.
pub(super) fn parse(name: &str) -> Result<Reference, CliError> {
    Reference::parse(name).map_err(|error| CliError::message(error.to_string()))
}

/// `--platform`, else the environment's.
pub(super) fn platform(matches: &Matches) -> String {
    match matches.str("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    }
}

/// A client that shows the credentials kept for an image's registry.
pub(crate) fn authorized(ctx: &Context, reference: &Reference) -> Result<Client, CliError> {
    let client = ctx.client()?;
    let server = credential::server_of(reference);
    let auth = Credentials::open(&ctx.globals.config_dir).and_then(|store| store.get(&server));
    // A file that cannot be read was warned of; public images need none.
    let auth = auth.unwrap_or_default();
    Ok(client.also_with_header("X-Registry-Auth", &credential::header(&auth)))
}

/// Has the engine pull; without a place for its progress nothing is printed.
pub(crate) async fn pull(
    client: &Client,
    reference: &Reference,
    platform: &str,
    out: Option<&mut Output>,
) -> Result<(), CliError> {
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    };
    let mut pairs = vec![("fromImage", reference.familiar_name())];
    if !version.is_empty() {
        pairs.push(("tag", &version));
    }
    if !platform.is_empty() {
        pairs.push(("platform", platform));
    }
    let path = format!("/images/create{}", query(&pairs));
    let mut messages = client.post_messages::<Message>(&path).await?;
    match out {
        Some(out) => progress::show(&mut messages, out).await.map(drop),
        None => progress::wait(&mut messages).await,
    }
}
