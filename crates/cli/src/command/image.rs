//! `conex image …`: commands on images, and what they share.

pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod pull;
pub mod push;
pub(crate) mod remote;
pub mod rm;
pub mod save;
pub mod tag;
pub mod verify;

use conex_client::query;

use crate::error::CliError;
use crate::flag::Matches;

/// A platform `os[/arch[/variant]]` as the JSON the engine takes.
pub(crate) fn platform_json(text: &str) -> Result<String, CliError> {
    let platform: conex_spec::platform::Platform = text
        .parse()
        .map_err(|error| CliError::message(format!("invalid platform: {error}")))?;
    Ok(serde_json::to_string(&platform).expect("a platform is a JSON object"))
}

/// The query of a request for one platform; empty without the flag.
fn platform_query(matches: &Matches) -> Result<String, CliError> {
    match matches.opt_str("platform").filter(|text| !text.is_empty()) {
        Some(text) => Ok(query(&[("platform", &platform_json(text)?)])),
        None => Ok(String::new()),
    }
}
