//! What `pull` and `push` share: the name on the command line, who its owner is to the registry, and the engine's
//! messages on their way to the user.

use std::io::Write;

use conex_api::image::AuthConfig;
use conex_api::progress::Message;
use conex_client::Client;
use conex_spec::reference::Reference;

use crate::context::Context;
use crate::credential::{self, Credentials};
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::output::Output;
use crate::progress;

/// Accepted for scripts: there is no content trust here.
pub(super) const fn content_trust(help: &'static str) -> Flag {
    Flag::bool("disable-content-trust", help)
        .default("true")
        .hidden()
}

/// The argument as a reference: with `latest`, which is told, unless `--all-tags` takes all.
pub(super) fn named(ctx: &mut Context, matches: &Matches) -> Result<Reference, CliError> {
    let name = matches.args().first();
    let name = name.map(String::as_str).unwrap_or_default();
    let reference = Reference::parse(name).map_err(|error| CliError::message(error.to_string()))?;
    let is_exact = reference.tag().is_some() || reference.digest().is_some();
    match (matches.bool("all-tags"), is_exact) {
        (true, true) => Err(CliError::message("tag can't be used with --all-tags/-a")),
        (false, false) => {
            let reference = reference.with_default_tag();
            if !matches.bool("quiet") {
                let tag = reference.tag().unwrap_or_default();
                writeln!(ctx.out, "Using default tag: {tag}")?;
                ctx.out.flush()?;
            }
            Ok(reference)
        }
        _ => Ok(reference),
    }
}

/// `--platform`, else the environment's.
pub(super) fn platform(matches: &Matches) -> String {
    match matches.str("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    }
}

/// The credentials kept for a registry; nobody where they cannot be had.
pub(crate) fn credentials(ctx: &Context, server: &str) -> AuthConfig {
    // A file that cannot be read was warned of; public images need none.
    let store = Credentials::open(&ctx.globals.config_dir);
    store
        .and_then(|store| store.get(server))
        .unwrap_or_default()
}

/// A client that shows the credentials kept for an image's registry.
pub(crate) fn authorized(ctx: &Context, reference: &Reference) -> Result<Client, CliError> {
    let client = ctx.client()?;
    let auth = credentials(ctx, &credential::server_of(reference));
    Ok(client.also_with_header("X-Registry-Auth", &credential::header(&auth)))
}

/// Has the engine do it; without a place for its progress nothing is printed.
pub(super) async fn transfer(
    client: &Client,
    path: &str,
    out: Option<&mut Output>,
) -> Result<(), CliError> {
    let mut messages = client.post_messages::<Message>(path).await?;
    match out {
        Some(out) => progress::show(&mut messages, out).await.map(drop),
        None => progress::wait(&mut messages).await,
    }
}
