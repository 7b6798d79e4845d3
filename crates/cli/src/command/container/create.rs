//! `conex create`: creates a container, pulling its image first if need be.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conex_api::container::{CreateRequest, CreateResponse};
use conex_client::{Client, query};
use conex_spec::platform::Platform;
use conex_spec::reference::{Reference, is_image_id};

use super::options::{self, flags};
use super::terminal;
use crate::command::{Args, Command, image};
use crate::context::Context;
use crate::error::{CliError, EXIT_STATUS};
use crate::flag::{Flag, Matches};

/// Creates a container.
pub static COMMAND: Command = Command {
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    spellings: &["container create", "create"],
    flags: FLAGS,
    args: Args::AtLeast(1),
    interspersed: false,
    run,
};

const FLAGS: &[&[Flag]] = &[flags::CREATE, flags::AROUND, flags::REQUEST];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let usage = |text: &str| CliError::with_help(matches, EXIT_STATUS, text);
    check_pull(matches.str("pull")).map_err(|text| usage(&text))?;
    let mut request = options::create_request(matches)
        .map_err(|error| usage(&error.text().unwrap_or_default()))?;
    let client = Client::clone(&*ctx.client()?);
    let runtime = ctx.runtime();
    let id = runtime.block_on(create(ctx, &client, matches, &mut request))?;
    writeln!(ctx.out, "{id}")?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a `--pull` that is no policy.
pub(super) fn check_pull(policy: &str) -> Result<(), String> {
    match policy {
        "" | "always" | "missing" | "never" => Ok(()),
        other => Err(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        )),
    }
}

/// Creates the container and returns its id; warnings go to standard error, the id to `--cidfile`.
pub(super) async fn create(
    ctx: &mut Context,
    client: &Client,
    matches: &Matches,
    request: &mut CreateRequest,
) -> Result<String, CliError> {
    let id_file = IdFile::create(&request.host_config.container_id_file)?;
    let image = &request.config.image;
    // A full id names no repository to pull from.
    let is_id = is_image_id(image) && (image.len() == 64 || image.starts_with("sha256:"));
    let reference = if is_id {
        None
    } else {
        Some(Reference::parse(image).map_err(|error| CliError::message(error.to_string()))?)
    };
    let platform = match matches.str("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        given => given.to_owned(),
    };
    if !platform.is_empty() {
        platform.parse::<Platform>().map_err(|error| {
            CliError::message(format!("error parsing specified platform: {error}"))
        })?;
    }
    request.host_config.console_size = terminal::size();
    let engine = client.host().to_string();
    let proxies = ctx.config().proxy_variables(&engine, matches.list("env"));
    if !proxies.is_empty() {
        request.config.env.get_or_insert_default().extend(proxies);
    }

    let policy = matches.str("pull");
    let quiet = matches.bool("quiet");
    if let Some(reference) = reference.as_ref().filter(|_| policy == "always") {
        pull(ctx, reference, &platform, quiet).await?;
    }
    let mut pairs = Vec::new();
    for (key, value) in [
        ("name", matches.str("name")),
        ("platform", platform.as_str()),
    ] {
        if !value.is_empty() {
            pairs.push((key, value));
        }
    }
    let path = format!("/containers/create{}", query(&pairs));
    let mut created = client
        .post_json::<_, CreateResponse>(&path, Some(&*request))
        .await;
    if let (Err(error), Some(reference)) = (&created, &reference)
        && error.is_not_found()
        && policy == "missing"
    {
        if !quiet {
            let familiar = reference.clone().with_default_tag().familiar();
            writeln!(ctx.err, "Unable to find image '{familiar}' locally")?;
            ctx.err.flush()?;
        }
        pull(ctx, reference, &platform, quiet).await?;
        created = client.post_json(&path, Some(&*request)).await;
    }
    let created = created?;
    for warning in &created.warnings {
        writeln!(ctx.err, "WARNING: {warning}")?;
    }
    let mut servers = request.host_config.dns.iter().flatten();
    if let Some(server) = servers.find(|server| options::is_loopback(server)) {
        writeln!(
            ctx.err,
            "WARNING: Localhost DNS ({server}) may fail in containers."
        )?;
    }
    if let Some(file) = id_file {
        file.write(&created.id)?;
    }
    Ok(created.id)
}

/// Has the engine pull an image; its progress goes to standard error.
async fn pull(
    ctx: &mut Context,
    reference: &Reference,
    platform: &str,
    quiet: bool,
) -> Result<(), CliError> {
    let reference = reference.clone().with_default_tag();
    let client = image::remote::authorized(ctx, &reference)?;
    let out = (!quiet).then_some(&mut ctx.err);
    image::pull::pull(&client, &reference, platform, out).await
}

/// `--cidfile`: made before the container, removed again if there is none.
struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    fn create(path: &str) -> Result<Option<Self>, CliError> {
        if path.is_empty() {
            return Ok(None);
        }
        if Path::new(path).exists() {
            return Err(CliError::message(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = File::create_new(path).map_err(|source| {
            let open = CliError::open(path, source).text().unwrap_or_default();
            CliError::message(format!("failed to create the container ID file: {open}"))
        })?;
        Ok(Some(Self {
            path: path.into(),
            file,
            written: false,
        }))
    }

    fn write(mut self, id: &str) -> Result<(), CliError> {
        self.file.write_all(id.as_bytes()).map_err(|e| {
            CliError::message(format!("failed to write the container ID to the file: {e}"))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pull_policy_is_one_of_three() {
        assert_eq!(check_pull("missing"), Ok(()));
        assert_eq!(
            check_pull("x").unwrap_err(),
            "invalid pull option: 'x': must be one of \"always\", \"missing\" or \"never\""
        );
    }

    #[test]
    fn an_id_file_stays_only_with_an_id_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cid");
        let text = path.to_str().unwrap();
        drop(IdFile::create(text).unwrap().unwrap());
        assert!(!path.exists());
        IdFile::create(text).unwrap().unwrap().write("abc").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        let error = IdFile::create(text).err().unwrap().text().unwrap();
        assert_eq!(
            error,
            format!(
                "container ID file found, make sure the other container isn't running or delete {text}"
            )
        );
        assert!(IdFile::create("").unwrap().is_none());
    }
}
