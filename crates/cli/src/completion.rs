//! Completion of a command line: what the word under the cursor may become.
//!
//! ```text
//! shell script ──► conex __complete WORD...  ──► line (what is wanted, from the tables alone)
//!   (command/completion)                          └► names (asked of the engine, never started for it)
//! ```
//!
//! The answer is in the form of the `cobra` library, one `word<TAB>explanation`
//! a line and a last line `:DIRECTIVE`, so that scripts made for Docker's own
//! command line work too. It must not know any single command.

mod line;
mod names;
mod value;

use std::io::Write;
use std::process::ExitCode;

use crate::command::Entry;
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Flag;

/// First word of a request for completion, with explanations and without.
const REQUESTS: [(&str, bool); 2] = [("__complete", true), ("__completeNoDesc", false)];

/// A word and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    about: String,
}

/// What may stand at the cursor.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these.
    Words(Vec<Candidate>),
    /// The name of an object of one of these kinds.
    Names(&'static [Object]),
    /// The path of a file.
    Files,
    /// Something nobody can guess.
    Nothing,
}

/// Kinds of objects that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Container,
    Image,
    Volume,
    Network,
    Context,
}

/// Nothing more to add, and no files.
const NO_FILES: u8 = 4;
/// The shell may offer files if there is no candidate.
const DEFAULT: u8 = 0;

/// Whether the words are a request for completion, and whether explanations are wanted.
pub(crate) fn request(words: &[String]) -> Option<(&[String], bool)> {
    let (first, rest) = words.split_first()?;
    let (_, with_explanations) = REQUESTS.iter().find(|(name, _)| name == first)?;
    Some((rest, *with_explanations))
}

/// Prints what the last of the words may become.
pub(crate) fn answer(
    ctx: &mut Context,
    tree: &'static [Entry],
    globals: &'static [&'static [Flag]],
    words: &[String],
    with_explanations: bool,
) -> Result<ExitCode, CliError> {
    let typed = words.last().map_or("", String::as_str);
    let wanted = line::wanted(tree, globals, words);
    // `--flag=value` and the value alone are completed alike.
    let typed = match typed.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => value,
        _ => typed,
    };
    let (candidates, directive) = match wanted {
        Wanted::Words(words) => (words, NO_FILES),
        Wanted::Names(objects) => (names::of(ctx, objects), NO_FILES),
        Wanted::Files => (Vec::new(), DEFAULT),
        Wanted::Nothing => (Vec::new(), NO_FILES),
    };
    for candidate in candidates {
        if !candidate.word.starts_with(typed) {
            continue;
        }
        match with_explanations && !candidate.about.is_empty() {
            true => writeln!(ctx.out, "{}\t{}", candidate.word, candidate.about)?,
            false => writeln!(ctx.out, "{}", candidate.word)?,
        }
    }
    writeln!(ctx.out, ":{directive}")?;
    Ok(ExitCode::SUCCESS)
}

impl Candidate {
    fn new(word: impl Into<String>, about: &str) -> Self {
        Self {
            word: word.into(),
            // One line, whatever it says.
            about: about.lines().next().unwrap_or_default().to_owned(),
        }
    }
}
