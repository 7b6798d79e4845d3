//! `conex image import`, also `conex import`: an image from a tar archive.

use std::fs::File;
use std::process::ExitCode;

use conex_client::query;
use conex_spec::reference::Reference;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::transfer::{chunks, show};

/// Makes an image from a tar archive.
pub static COMMAND: Command = Command {
    about: "Import the contents from a tarball to create a filesystem image",
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    spellings: &["image import", "import"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::list(
        "change",
        "Apply Dockerfile instruction to the created image",
    )
    .short('c'),
    Flag::string("message", "Set commit message for imported image").short('m'),
    Flag::string(
        "platform",
        "Set platform if server is multi-platform capable",
    ),
];

/// Where the archive comes from.
enum Source {
    /// Sent by us.
    File(File),
    /// Fetched by the engine.
    Url(String),
}

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let (source, name) = match matches.args() {
        [source, name, ..] => (source, Some(name.as_str())),
        [source] => (source, None),
        [] => return Err(CliError::message("an archive is needed")),
    };
    let source = open(source)?;
    if let Some(name) = name {
        Reference::parse(name).map_err(|error| CliError::message(error.to_string()))?;
    }
    let path = request(&source, name, matches);
    let client = ctx.client()?;
    let runtime = ctx.runtime();
    let out = &mut ctx.out;
    runtime.block_on(async {
        let mut progress = match source {
            Source::File(file) => {
                client
                    .post_stream(&path, "application/x-tar", chunks(file))
                    .await?
            }
            Source::Url(_) => client.post_messages(&path).await?,
        };
        show(&mut progress, out).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn open(source: &str) -> Result<Source, CliError> {
    if source == "-" {
        let stdin = rustix::io::dup(rustix::stdio::stdin())
            .map_err(|error| CliError::open("/dev/stdin", error.into()))?;
        return Ok(Source::File(File::from(stdin)));
    }
    if source.starts_with("http://") || source.starts_with("https://") {
        return Ok(Source::Url(source.to_owned()));
    }
    let file = File::open(source).map_err(|error| CliError::open(source, error))?;
    Ok(Source::File(file))
}

/// The path and query of the request.
fn request(source: &Source, name: Option<&str>, matches: &Matches) -> String {
    let from = match source {
        Source::File(_) => "-",
        Source::Url(url) => url,
    };
    let mut pairs = vec![("fromSrc", from)];
    pairs.extend(name.map(|name| ("repo", name)));
    for (flag, key) in [("message", "message"), ("platform", "platform")] {
        pairs.extend(
            matches
                .opt_str(flag)
                .filter(|text| !text.is_empty())
                .map(|text| (key, text)),
        );
    }
    pairs.extend(
        matches
            .list("change")
            .iter()
            .map(|change| ("changes", change.as_str())),
    );
    format!("/images/create{}", query(&pairs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn options_become_the_query() {
        let words = [
            "-m",
            "a b",
            "-c",
            "CMD x",
            "--change=ENV a=b",
            "--platform",
            "linux/arm64",
            "-",
        ];
        let words = words.map(str::to_owned);
        let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
        let source = Source::Url("http://x/y.tar".to_owned());
        assert_eq!(
            request(&source, Some("a/b:1"), &matches),
            "/images/create?fromSrc=http%3A%2F%2Fx%2Fy.tar&repo=a%2Fb%3A1&message=a%20b&platform=linux%2Farm64&changes=CMD%20x&changes=ENV%20a%3Db"
        );
    }

    #[test]
    fn a_missing_file_is_said_as_the_system_says_it() {
        let error = open("/nosuch/file.tar").err().unwrap();
        assert_eq!(
            error.text().unwrap(),
            "open /nosuch/file.tar: no such file or directory"
        );
    }
}
