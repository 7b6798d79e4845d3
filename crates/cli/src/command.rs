//! The command tree: constant tables, and how one is found, explained and run.
//!
//! The folders under `command/` follow the tree: `conex container run` is
//! `container/run.rs`, and the short spelling `conex run` is another entry for
//! the same table. It must not know what any single command does.

use std::process::ExitCode;

use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

pub mod completion;
pub mod container;
pub mod context;
mod dispatch;
mod help;
pub mod image;
pub mod inspect;
pub mod man;
pub mod manifest;
pub mod network;
pub mod registry;
pub mod system;
mod tree;
pub mod volume;

pub use dispatch::{GLOBAL_FLAGS, dispatch};
pub use tree::ROOT;

/// What a command does once its line is parsed and its argument count is right.
pub type Run = fn(&mut Context, &Matches) -> Result<ExitCode, CliError>;

/// One command: everything to parse, explain and run it.
#[derive(Debug)]
pub struct Command {
    /// One line about it.
    pub about: &'static str,
    /// What follows its name in the usage line: `[OPTIONS] IMAGE [COMMAND] [ARG...]`.
    pub usage: &'static str,
    /// Every full spelling without the program, as help lists them:
    /// `&["container run", "run"]`; empty when there is but one.
    pub spellings: &'static [&'static str],
    /// Its flags, as one or several tables (those shared with other commands).
    pub flags: &'static [&'static [Flag]],
    /// How many arguments it takes.
    pub args: Args,
    /// Whether flags may follow arguments; false where a command line follows (`run`, `exec`).
    pub interspersed: bool,
    /// What it does.
    pub run: Run,
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    /// Any number.
    Any,
    /// No argument.
    None,
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// This many or fewer.
    AtMost(usize),
    /// Between the two, inclusive.
    Range(usize, usize),
}

/// A name in the tree and what it leads to.
#[derive(Debug)]
pub struct Entry {
    /// The name help and errors show.
    pub name: &'static str,
    /// Other names that lead to the same.
    pub aliases: &'static [&'static str],
    /// Where the root's help lists it.
    pub section: Section,
    /// A command or a group of them.
    pub node: Node,
}

/// What a name leads to.
#[derive(Debug)]
pub enum Node {
    /// A command to run.
    Command(&'static Command),
    /// More names.
    Group {
        /// One line about the group.
        about: &'static str,
        /// Its names.
        entries: &'static [Entry],
    },
}

/// The heading under which help lists a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What most people need first.
    Common,
    /// Groups named by the object they manage.
    Management,
    /// Everything else.
    Other,
    /// In no list.
    Hidden,
}

impl Entry {
    /// A command under a name.
    pub const fn command(name: &'static str, command: &'static Command) -> Self {
        Self {
            name,
            aliases: &[],
            section: Section::Other,
            node: Node::Command(command),
        }
    }

    /// A group of commands under a name.
    pub const fn group(name: &'static str, about: &'static str, entries: &'static [Self]) -> Self {
        Self {
            name,
            aliases: &[],
            section: Section::Management,
            node: Node::Group { about, entries },
        }
    }

    /// The entry with more names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The entry under another heading.
    #[must_use]
    pub const fn section(mut self, section: Section) -> Self {
        self.section = section;
        self
    }

    /// One line about what the name leads to.
    pub fn about(&self) -> &'static str {
        match &self.node {
            Node::Command(command) => command.about,
            Node::Group { about, .. } => about,
        }
    }

    /// Whether the entry goes by this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}
