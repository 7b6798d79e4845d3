//! `conex commit`: an image of a container's changes.

use std::io::Write;
use std::process::ExitCode;

use conex_api::image::CommitResponse;
use conex_client::{Client, query};
use conex_spec::reference::Reference;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Makes an image of a container.
pub static COMMAND: Command = Command {
    about: "Create a new image from a container's changes",
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    spellings: &["container commit", "commit"],
    flags: &[FLAGS],
    args: Args::Range(1, 2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string(
        "author",
        "Author (e.g., \"John Hannibal Smith\n<hannibal@a-team.com>\")",
    )
    .short('a'),
    Flag::list(
        "change",
        "Apply Dockerfile instruction to the created image",
    )
    .short('c'),
    Flag::string("message", "Commit message").short('m'),
    Flag::bool("no-pause", "Disable pausing container during commit"),
    Flag::bool("pause", "Pause container during commit")
        .short('p')
        .default("true"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let path = path(matches)?;
    let client = Client::clone(&*ctx.client()?);
    let body: Option<&()> = None;
    let committed: CommitResponse = ctx.block_on(client.post_json(&path, body))?;
    writeln!(ctx.out, "{}", committed.id)?;
    Ok(ExitCode::SUCCESS)
}

fn path(matches: &Matches) -> Result<String, CliError> {
    if matches.is_set("pause") && matches.is_set("no-pause") {
        return Err(CliError::message(
            "conflicting options: --no-pause and --pause cannot be used together",
        ));
    }
    let args = matches.args();
    let mut pairs = vec![("container", args[0].as_str())];
    let (mut repo, mut tag) = (String::new(), String::new());
    if let Some(name) = args.get(1) {
        let name = Reference::parse(name).map_err(|error| CliError::message(error.to_string()))?;
        if name.digest().is_some() {
            return Err(CliError::message(
                "refusing to create a tag with a digest reference",
            ));
        }
        let familiar = name.with_default_tag().familiar();
        let (name, given) = familiar.rsplit_once(':').unwrap_or((&familiar, "latest"));
        (repo, tag) = (name.to_owned(), given.to_owned());
    }
    pairs.extend([("repo", repo.as_str()), ("tag", tag.as_str())]);
    pairs.extend([
        ("comment", matches.str("message")),
        ("author", matches.str("author")),
    ]);
    pairs.extend(
        matches
            .list("change")
            .iter()
            .map(|c| ("changes", c.as_str())),
    );
    if !matches.bool("pause") || matches.bool("no-pause") {
        pairs.push(("pause", "0"));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    Ok(format!("/commit{}", query(&pairs)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
        path(&matches).map_err(|error| error.text().unwrap())
    }

    #[test]
    fn options_become_the_query() {
        assert_eq!(of(&["web"]).unwrap(), "/commit?container=web");
        assert_eq!(
            of(&[
                "-m",
                "why",
                "-a",
                "me",
                "-c",
                "CMD x",
                "--pause=false",
                "web",
                "r.io:5/a:1"
            ])
            .unwrap(),
            "/commit?container=web&repo=r.io%3A5%2Fa&tag=1&comment=why&author=me&changes=CMD%20x&pause=0"
        );
        assert_eq!(
            of(&["--no-pause", "web", "a"]).unwrap(),
            "/commit?container=web&repo=a&tag=latest&pause=0"
        );
        assert!(of(&["web", "UPPER"]).is_err());
    }
}
