//! `conex image tag`, also `conex tag`: gives an image another name.

use std::process::ExitCode;

use conex_client::{query, segment};
use conex_spec::reference::{DEFAULT_TAG, Reference, is_image_id};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Matches, go_quote};

/// Names an image.
pub static COMMAND: Command = Command {
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    spellings: &["image tag", "tag"],
    flags: &[],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let (source, target) = match matches.args() {
        [source, target] => (source, target),
        _ => return Err(CliError::message("two images are needed")),
    };
    let path = request(source, target)?;
    let client = ctx.client()?;
    ctx.block_on(client.post_empty(&path))?;
    Ok(ExitCode::SUCCESS)
}

/// The path and query of the request.
fn request(source: &str, target: &str) -> Result<String, CliError> {
    let refuse = |text: &str, error: conex_spec::reference::ParseError| {
        let text = go_quote(text);
        CliError::message(format!(
            "Error parsing reference: {text} is not a valid repository/tag: {error}"
        ))
    };
    if !is_image_id(source) {
        Reference::parse(source).map_err(|error| refuse(source, error))?;
    }
    let reference = Reference::parse(target).map_err(|error| refuse(target, error))?;
    if reference.digest().is_some() {
        return Err(CliError::message(
            "refusing to create a tag with a digest reference",
        ));
    }
    let tag = reference.tag().unwrap_or(DEFAULT_TAG);
    let options = query(&[("repo", reference.name()), ("tag", tag)]);
    Ok(format!("/images/{}/tag{options}", segment(source)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_new_name_is_sent_in_full_with_a_tag() {
        assert_eq!(
            request("busybox", "g/two:2").unwrap(),
            "/images/busybox/tag?repo=docker.io%2Fg%2Ftwo&tag=2"
        );
        assert_eq!(
            request(
                "sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564",
                "localhost:5000/x"
            )
            .unwrap(),
            "/images/sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564/tag?repo=localhost%3A5000%2Fx&tag=latest"
        );
    }

    #[test]
    fn names_that_are_none_are_refused_before_the_engine_is_asked() {
        for (source, target) in [("busybox", "Bad"), ("Bad", "x")] {
            assert_eq!(
                request(source, target).unwrap_err().text().unwrap(),
                "Error parsing reference: \"Bad\" is not a valid repository/tag: invalid reference format: repository name (library/Bad) must be lowercase"
            );
        }
    }
}
