//! The nodes of a parsed template, and how error texts show them.
//!
//! It must not know how they are parsed or executed.

/// Nodes in order.
pub(super) type List = Vec<Node>;

/// A piece of the template that produces text or controls it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If {
        pipe: Pipe,
        list: List,
        otherwise: List,
    },
    With {
        pipe: Pipe,
        list: List,
        otherwise: List,
    },
    Range {
        pipe: Pipe,
        list: List,
        otherwise: List,
    },
    Template {
        name: String,
        pipe: Option<Pipe>,
        at: usize,
    },
    Break,
    Continue,
}

/// `$x := command | command`.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) declared: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Operand>,
    pub(super) at: usize,
}

/// One word of a command.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Number(serde_json::Number, String),
    Str(String, String),
    /// `.A.B`; the position is the second field's where there is one, as in Go.
    Field {
        path: Vec<String>,
        at: usize,
    },
    /// `$x.A.B`.
    Variable {
        name: String,
        path: Vec<String>,
        at: usize,
    },
    Function {
        name: String,
        at: usize,
    },
    Paren(Pipe),
    /// `(pipe).A.B`.
    Chain {
        inner: Box<Self>,
        path: Vec<String>,
        at: usize,
    },
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dotted = |path: &[String]| {
            path.iter()
                .map(|name| format!(".{name}"))
                .collect::<String>()
        };
        match self {
            Self::Dot => write!(f, "."),
            Self::Nil => write!(f, "nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(_, text) | Self::Str(_, text) => write!(f, "{text}"),
            Self::Field { path, .. } => write!(f, "{}", dotted(path)),
            Self::Variable { name, path, .. } => write!(f, "{name}{}", dotted(path)),
            Self::Function { name, .. } => write!(f, "{name}"),
            Self::Paren(pipe) => write!(f, "({pipe})"),
            Self::Chain { inner, path, .. } => write!(f, "{inner}{}", dotted(path)),
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            write!(f, "{}{word}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.declared.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.declared.join(", "))?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if index > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

/// Whether a field of this name is read anywhere in a list.
pub(super) fn reads(list: &[Node], field: &str) -> bool {
    list.iter().any(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => false,
        Node::Action(pipe) => pipe_reads(pipe, field),
        Node::Template { pipe, .. } => pipe.as_ref().is_some_and(|pipe| pipe_reads(pipe, field)),
        Node::If {
            pipe,
            list,
            otherwise,
        }
        | Node::With {
            pipe,
            list,
            otherwise,
        }
        | Node::Range {
            pipe,
            list,
            otherwise,
        } => pipe_reads(pipe, field) || reads(list, field) || reads(otherwise, field),
    })
}

fn pipe_reads(pipe: &Pipe, field: &str) -> bool {
    fn operand(word: &Operand, field: &str) -> bool {
        match word {
            Operand::Dot => true,
            Operand::Field { path, .. } => path.iter().any(|name| name == field),
            Operand::Variable { name, path, .. } => {
                (name == "$" && path.is_empty()) || path.iter().any(|name| name == field)
            }
            Operand::Paren(pipe) => pipe_reads(pipe, field),
            Operand::Chain { inner, path, .. } => {
                operand(inner, field) || path.iter().any(|name| name == field)
            }
            _ => false,
        }
    }
    pipe.commands
        .iter()
        .any(|command| command.words.iter().any(|word| operand(word, field)))
}
