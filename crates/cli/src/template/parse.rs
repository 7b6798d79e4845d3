//! The parser: tokens into nodes.
//!
//! Error texts and the positions nodes keep are those of Go's parser. It must
//! not know what functions do, only which names exist.

use std::collections::BTreeMap;

use super::lex::{Kind, Token, lex, parse_number};
use super::literal::unquote;
use super::node::{Command, List, Node, Operand, Pipe};
use super::{MAX_DEPTH, function};
use crate::flag::go_quote;

/// Why parsing stopped: `LINE: what is wrong`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(String);

/// Parses a template into its nodes and its named bodies.
pub(super) fn parse(text: &str) -> Result<(List, BTreeMap<String, List>), Failure> {
    let mut parser = Parser {
        tokens: lex(text),
        at: 0,
        variables: vec!["$".to_owned()],
        defined: BTreeMap::new(),
        ranges: 0,
        depth: 0,
        action_line: 0,
    };
    let mut root = List::new();
    loop {
        match parser.peek().kind {
            Kind::Eof => break,
            Kind::LeftDelim if parser.define_follows() => parser.definition()?,
            _ => match parser.text_or_action()? {
                Parsed::Node(node) => root.push(node),
                Parsed::End => return Err(parser.error("unexpected {{end}}")),
                Parsed::Else => return Err(parser.error("unexpected {{else}}")),
            },
        }
    }
    Ok((root, parser.defined))
}

enum Parsed {
    Node(Node),
    End,
    Else,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    defined: BTreeMap<String, List>,
    /// Open `range` blocks, for `break` and `continue`.
    ranges: usize,
    depth: usize,
    /// Line on which the current action started.
    action_line: usize,
}

impl Parser {
    /// The next token; the last one repeats.
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn peek_non_space(&mut self) -> &Token {
        self.skip_space();
        self.peek()
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn error(&self, message: &str) -> Failure {
        let line = self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].line;
        Failure(format!("{line}: {message}"))
    }

    fn unexpected(&self, token: &Token, context: &str) -> Failure {
        let message = match token.kind {
            Kind::Error => {
                let mut extra = String::new();
                if self.action_line != 0 && self.action_line != token.line {
                    let prefix = if token.text.ends_with(" action") {
                        ""
                    } else {
                        " in action"
                    };
                    extra = format!("{prefix} started at :{}", self.action_line);
                }
                format!("{}{extra}", token.text)
            }
            _ => format!("unexpected {} in {context}", describe(token)),
        };
        Failure(format!("{}: {message}", token.line))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token, Failure> {
        let token = self.next_non_space();
        if token.kind == kind {
            Ok(token)
        } else {
            Err(self.unexpected(&token, context))
        }
    }

    /// Counts one level of nesting; the caller gives it back.
    fn deeper(&mut self) -> Result<(), Failure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(&format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn define_follows(&self) -> bool {
        self.tokens[self.at..]
            .iter()
            .skip(1)
            .find(|token| token.kind != Kind::Space)
            .is_some_and(|token| token.is_keyword("define"))
    }

    /// `{{define "name"}} … {{end}}`.
    fn definition(&mut self) -> Result<(), Failure> {
        self.next();
        self.next_non_space();
        let name = self.next_non_space();
        let name = self.template_name(&name, "define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (body, end) = self.item_list()?;
        self.variables = outer;
        if !matches!(end, Parsed::End) {
            return Err(self.error("unexpected {{else}} in define clause"));
        }
        self.defined.insert(name, body);
        Ok(())
    }

    fn template_name(&self, token: &Token, context: &str) -> Result<String, Failure> {
        match token.kind {
            Kind::Str | Kind::RawStr => {
                unquote(&token.text).ok_or_else(|| self.error("invalid syntax"))
            }
            _ => Err(self.unexpected(token, context)),
        }
    }

    /// Nodes up to `{{end}}` or `{{else}}`.
    fn item_list(&mut self) -> Result<(List, Parsed), Failure> {
        self.deeper()?;
        let mut list = List::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Parsed::Node(node) => list.push(node),
                end => {
                    self.depth -= 1;
                    return Ok((list, end));
                }
            }
        }
        self.at = self.tokens.len();
        Err(self.error("unexpected EOF"))
    }

    fn text_or_action(&mut self) -> Result<Parsed, Failure> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Parsed::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let parsed = self.action();
                self.action_line = 0;
                parsed
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    fn action(&mut self) -> Result<Parsed, Failure> {
        let token = self.peek_non_space().clone();
        if token.kind != Kind::Keyword || token.text == "nil" || token.text == "define" {
            return Ok(Parsed::Node(Node::Action(
                self.pipeline("command", Kind::RightDelim)?,
            )));
        }
        self.next();
        let node = match token.text.as_str() {
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Parsed::End);
            }
            "else" => {
                let next = self.peek_non_space();
                if !next.is_keyword("if") && !next.is_keyword("with") {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Parsed::Else);
            }
            "break" | "continue" => {
                let next = self.next_non_space();
                if next.kind != Kind::RightDelim {
                    return Err(self.unexpected(&next, &format!("{{{{{}}}}}", token.text)));
                }
                if self.ranges == 0 {
                    return Err(
                        self.error(&format!("{{{{{}}}}} outside {{{{range}}}}", token.text))
                    );
                }
                if token.text == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }
            }
            "template" => {
                let name = self.next_non_space();
                let at = name.at;
                let name = self.template_name(&name, "template clause")?;
                let pipe = if self.peek_non_space().kind == Kind::RightDelim {
                    self.next();
                    None
                } else {
                    Some(self.pipeline("template clause", Kind::RightDelim)?)
                };
                Node::Template { name, pipe, at }
            }
            "block" => {
                let name = self.next_non_space();
                let at = name.at;
                let name = self.template_name(&name, "block clause")?;
                let pipe = self.pipeline("block clause", Kind::RightDelim)?;
                let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
                let (body, end) = self.item_list()?;
                self.variables = outer;
                if !matches!(end, Parsed::End) {
                    return Err(self.error("unexpected {{else}} in block clause"));
                }
                self.defined.insert(name.clone(), body);
                Node::Template {
                    name,
                    pipe: Some(pipe),
                    at,
                }
            }
            control => self.control(control)?,
        };
        Ok(Parsed::Node(node))
    }

    /// `if`, `with` and `range`, after the word.
    fn control(&mut self, word: &str) -> Result<Node, Failure> {
        self.deeper()?;
        let variables = self.variables.len();
        let pipe = self.pipeline(word, Kind::RightDelim)?;
        if word == "range" {
            self.ranges += 1;
        }
        let (list, end) = self.item_list()?;
        if word == "range" {
            self.ranges -= 1;
        }
        let mut otherwise = List::new();
        if matches!(end, Parsed::Else) {
            if word != "range" && self.peek_non_space().is_keyword(word) {
                self.next();
                otherwise.push(self.control(word)?);
            } else if self.peek().kind == Kind::Keyword {
                let token = self.next();
                return Err(self.unexpected(&token, "input"));
            } else {
                let (list, end) = self.item_list()?;
                if !matches!(end, Parsed::End) {
                    return Err(self.error("expected end; found {{else}}"));
                }
                otherwise = list;
            }
        }
        self.variables.truncate(variables);
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If {
                pipe,
                list,
                otherwise,
            },
            "with" => Node::With {
                pipe,
                list,
                otherwise,
            },
            _ => Node::Range {
                pipe,
                list,
                otherwise,
            },
        })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, Failure> {
        let mut pipe = Pipe {
            declared: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.peek_non_space().clone();
            match token.kind {
                kind if kind == end => {
                    self.next();
                    self.check_pipeline(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::RawStr
                | Kind::Str
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                Kind::Keyword if token.text == "nil" => pipe.commands.push(self.command()?),
                _ => {
                    self.next();
                    return Err(self.unexpected(&token, context));
                }
            }
        }
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Failure> {
        while self.peek_non_space().kind == Kind::Variable {
            let before = self.at;
            let variable = self.next();
            let next = self.peek_non_space().clone();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = next.kind == Kind::Assign;
                    self.next();
                    self.declare(pipe, variable.text)?;
                    return Ok(());
                }
                Kind::Other if next.text == "," => {
                    self.next();
                    self.declare(pipe, variable.text)?;
                    if context != "range" || pipe.declared.len() >= 2 {
                        return Err(self.error(&format!("too many declarations in {context}")));
                    }
                    let follows = self.peek_non_space().kind;
                    if !matches!(
                        follows,
                        Kind::Variable | Kind::RightDelim | Kind::RightParen
                    ) {
                        return Err(self.error("range can only initialize variables"));
                    }
                }
                _ => {
                    self.at = before;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, pipe: &mut Pipe, name: String) -> Result<(), Failure> {
        if pipe.assigns && !self.variables.contains(&name) {
            return Err(self.error(&format!("undefined variable {}", go_quote(&name))));
        }
        self.variables.push(name.clone());
        pipe.declared.push(name);
        Ok(())
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Result<(), Failure> {
        if pipe.commands.is_empty() {
            return Err(self.error(&format!("missing value for {context}")));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            let first = &command.words[0];
            if matches!(
                first,
                Operand::Bool(_)
                    | Operand::Dot
                    | Operand::Nil
                    | Operand::Number(..)
                    | Operand::Str(..)
            ) {
                let stage = index + 1;
                return Err(
                    self.error(&format!("non executable command in pipeline stage {stage}"))
                );
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Failure> {
        let at = self.peek_non_space().at;
        let mut words = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                words.push(operand);
            }
            let token = self.peek().clone();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => {
                    self.next();
                    return Err(self.unexpected(&token, "operand"));
                }
            }
        }
        if words.is_empty() {
            return Err(self.error("empty command"));
        }
        Ok(Command { words, at })
    }

    fn operand(&mut self) -> Result<Option<Operand>, Failure> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let chain_at = self.peek().at;
        let mut more = Vec::new();
        while self.peek().kind == Kind::Field {
            more.push(self.next().text[1..].to_owned());
        }
        Ok(Some(match term {
            Operand::Field { mut path, .. } => {
                path.append(&mut more);
                Operand::Field { path, at: chain_at }
            }
            Operand::Variable { name, mut path, .. } => {
                path.append(&mut more);
                Operand::Variable {
                    name,
                    path,
                    at: chain_at,
                }
            }
            Operand::Bool(_)
            | Operand::Str(..)
            | Operand::Number(..)
            | Operand::Nil
            | Operand::Dot => {
                let term = go_quote(&term.to_string());
                return Err(self.error(&format!("unexpected . after term {term}")));
            }
            inner => Operand::Chain {
                inner: Box::new(inner),
                path: more,
                at: chain_at,
            },
        }))
    }

    fn term(&mut self) -> Result<Option<Operand>, Failure> {
        let token = self.peek_non_space().clone();
        let operand = match token.kind {
            Kind::Identifier => {
                self.next();
                if !function::exists(&token.text) {
                    let name = go_quote(&token.text);
                    return Err(self.error(&format!("function {name} not defined")));
                }
                Operand::Function {
                    name: token.text,
                    at: token.at,
                }
            }
            Kind::Dot => Operand::Dot,
            Kind::Keyword if token.text == "nil" => Operand::Nil,
            Kind::Variable => {
                self.next();
                if !self.variables.contains(&token.text) {
                    let name = go_quote(&token.text);
                    return Err(self.error(&format!("undefined variable {name}")));
                }
                return Ok(Some(Operand::Variable {
                    name: token.text,
                    path: Vec::new(),
                    at: token.at,
                }));
            }
            Kind::Field => Operand::Field {
                path: vec![token.text[1..].to_owned()],
                at: token.at,
            },
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::Number => match parse_number(&token.text) {
                Some(number) => Operand::Number(number, token.text),
                None => {
                    let word = go_quote(&token.text);
                    return Err(self.error(&format!("bad number syntax: {word}")));
                }
            },
            Kind::Char => match unquote(&token.text).map(|text| text.chars().collect::<Vec<_>>()) {
                Some(chars) if chars.len() == 1 => {
                    Operand::Number(u32::from(chars[0]).into(), token.text)
                }
                _ => {
                    return Err(
                        self.error(&format!("malformed character constant: {}", token.text))
                    );
                }
            },
            Kind::Str | Kind::RawStr => match unquote(&token.text) {
                Some(text) => Operand::Str(text, token.text),
                None => return Err(self.error("invalid syntax")),
            },
            Kind::LeftParen => {
                self.next();
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Operand::Paren(pipe)));
            }
            _ => return Ok(None),
        };
        if token.kind != Kind::Identifier {
            self.next();
        }
        Ok(Some(operand))
    }
}

/// A token as Go's messages show it.
fn describe(token: &Token) -> String {
    match token.kind {
        Kind::Eof => "EOF".to_owned(),
        Kind::Error => token.text.clone(),
        Kind::Keyword | Kind::Dot => format!("<{}>", token.text),
        _ if token.text.len() > 10 => {
            let short: String = token.text.chars().take(10).collect();
            format!("{}...", go_quote(&short))
        }
        _ => go_quote(&token.text),
    }
}
