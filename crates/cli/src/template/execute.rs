//! The evaluator: nodes on data into text.
//!
//! It must not know the functions' bodies, only how they are called.

use serde_json::Value;

use super::node::{Command, Node, Operand, Pipe};
use super::value::{Hint, Val};
use super::{MAX_DEPTH, MAX_OUTPUT_BYTES, Mode, Template, TemplateError, function, print};
use crate::flag::go_quote;

/// Executes a parsed template.
pub(super) fn execute(
    template: &Template,
    data: Val<'_>,
    mode: Mode,
) -> Result<String, TemplateError> {
    let mut state = State {
        template,
        mode,
        variables: vec![("$".to_owned(), data.clone())],
        output: String::new(),
        depth: 0,
        current: (0, String::new()),
    };
    match state.list(&template.root, &data) {
        Ok(_) => Ok(state.output),
        Err(Stop(message)) => {
            let (at, context) = &state.current;
            let before = &template.text[..*at];
            let line = 1 + before.matches('\n').count();
            let column = before.rfind('\n').map_or(*at, |newline| at - newline - 1);
            let name = &template.name;
            Err(TemplateError(format!(
                "template: {name}:{line}:{column}: executing {} at <{context}>: {message}",
                go_quote(name)
            )))
        }
    }
}

/// Why execution stopped; where is in the state.
struct Stop(String);

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Done,
    Break,
    Continue,
}

struct State<'a, 't> {
    template: &'t Template,
    mode: Mode,
    variables: Vec<(String, Val<'a>)>,
    output: String,
    depth: usize,
    /// Position and text of the node errors are about.
    current: (usize, String),
}

impl<'a> State<'a, '_> {
    fn here(&mut self, at: usize, node: impl std::fmt::Display) {
        self.current = (at, node.to_string());
    }

    fn write(&mut self, text: &str) -> Result<(), Stop> {
        if self.output.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(Stop(format!("output longer than {MAX_OUTPUT_BYTES} bytes")));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn list(&mut self, list: &[Node], dot: &Val<'a>) -> Result<Flow, Stop> {
        for node in list {
            let flow = self.node(node, dot)?;
            if flow != Flow::Done {
                return Ok(flow);
            }
        }
        Ok(Flow::Done)
    }

    fn node(&mut self, node: &Node, dot: &Val<'a>) -> Result<Flow, Stop> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipeline(pipe, dot)?;
                if pipe.declared.is_empty() {
                    self.write(&print::show(&value))?;
                }
            }
            Node::If {
                pipe,
                list,
                otherwise,
            } => {
                let outer = self.variables.len();
                let branch = if self.pipeline(pipe, dot)?.truth() {
                    list
                } else {
                    otherwise
                };
                let flow = self.list(branch, dot)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::With {
                pipe,
                list,
                otherwise,
            } => {
                let outer = self.variables.len();
                let value = self.pipeline(pipe, dot)?;
                let flow = if value.truth() {
                    self.list(list, &value)?
                } else {
                    self.list(otherwise, dot)?
                };
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Range {
                pipe,
                list,
                otherwise,
            } => {
                let outer = self.variables.len();
                let flow = self.range(pipe, list, otherwise, dot)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Template { name, pipe, at } => {
                self.call_template(name, pipe.as_ref(), *at, dot)?
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Done)
    }

    fn call_template(
        &mut self,
        name: &str,
        pipe: Option<&Pipe>,
        at: usize,
        dot: &Val<'a>,
    ) -> Result<(), Stop> {
        let template = self.template;
        let quoted = go_quote(name);
        self.here(at, format!("{{{{template {quoted}}}}}"));
        let Some(body) = template.defined.get(name) else {
            return Err(Stop(format!("template {quoted} not defined")));
        };
        if self.depth >= MAX_DEPTH {
            return Err(Stop(format!(
                "exceeded maximum template depth ({MAX_DEPTH})"
            )));
        }
        let data = match pipe {
            Some(pipe) => self.pipeline(pipe, dot)?,
            None => Val::Missing,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        self.depth += 1;
        self.list(body, &data)?;
        self.depth -= 1;
        self.variables = outer;
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        list: &[Node],
        otherwise: &[Node],
        dot: &Val<'a>,
    ) -> Result<Flow, Stop> {
        let value = self.pipeline_value(pipe, dot)?;
        self.here(pipe.commands.first().map_or(0, |command| command.at), pipe);
        let pairs: Vec<(Val<'a>, Val<'a>)> = match &value {
            Val::Missing => Vec::new(),
            Val::Row(_) => {
                return Err(Stop(format!(
                    "range can't iterate over {}",
                    value.type_name()
                )));
            }
            Val::Json(json, _) => match json.as_ref() {
                Value::Null => Vec::new(),
                Value::Array(items) => (0..items.len())
                    .filter_map(|index| {
                        Some((Val::owned(Value::from(index)), value.element(index)?))
                    })
                    .collect(),
                Value::Object(fields) => {
                    let mut keys: Vec<&String> = fields.keys().collect();
                    keys.sort();
                    keys.into_iter()
                        .filter_map(|key| {
                            let value = match value.member(key)? {
                                Val::Json(json, _) => Val::Json(json, Hint::None),
                                other => other,
                            };
                            Some((Val::text(key.as_str()), value))
                        })
                        .collect()
                }
                Value::Number(number) if number.is_i64() || number.is_u64() => {
                    return self.range_to(number.as_i64().unwrap_or(0), pipe, list, otherwise, dot);
                }
                other => {
                    let shown = print::show_json(other);
                    return Err(Stop(format!("range can't iterate over {shown}")));
                }
            },
        };
        if pairs.is_empty() {
            return self.list(otherwise, dot);
        }
        for (key, element) in pairs {
            if self.turn(pipe, list, key, element)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Done)
    }

    /// `range 5`.
    fn range_to(
        &mut self,
        limit: i64,
        pipe: &Pipe,
        list: &[Node],
        otherwise: &[Node],
        dot: &Val<'a>,
    ) -> Result<Flow, Stop> {
        if limit <= 0 {
            return self.list(otherwise, dot);
        }
        if limit > MAX_OUTPUT_BYTES as i64 {
            return Err(Stop(format!(
                "range over more than {MAX_OUTPUT_BYTES} turns"
            )));
        }
        for index in 0..limit {
            let number = Val::owned(Value::from(index));
            if self.turn(pipe, list, number.clone(), number)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Done)
    }

    /// One turn of a range; its variables end with it.
    fn turn(
        &mut self,
        pipe: &Pipe,
        list: &[Node],
        key: Val<'a>,
        element: Val<'a>,
    ) -> Result<Flow, Stop> {
        let outer = self.variables.len();
        let bindings = match pipe.declared.as_slice() {
            [value] => vec![(value, element.clone())],
            [name, value] => vec![(name, key), (value, element.clone())],
            _ => Vec::new(),
        };
        for (name, value) in bindings {
            self.bind(name, value, pipe.assigns);
        }
        let flow = self.list(list, &element)?;
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn bind(&mut self, name: &str, value: Val<'a>, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|slot| slot.0 == name) {
            slot.1 = value;
        } else {
            self.variables.push((name.to_owned(), value));
        }
    }

    /// A pipeline's value, its variables bound.
    fn pipeline(&mut self, pipe: &Pipe, dot: &Val<'a>) -> Result<Val<'a>, Stop> {
        let value = self.pipeline_value(pipe, dot)?;
        for name in &pipe.declared {
            self.bind(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn pipeline_value(&mut self, pipe: &Pipe, dot: &Val<'a>) -> Result<Val<'a>, Stop> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Val::Missing))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Stop> {
        let (first, rest) = command
            .words
            .split_first()
            .expect("the parser refuses empty commands");
        match first {
            Operand::Function { name, at } => self.function(command, name, *at, rest, dot, piped),
            Operand::Field { .. } | Operand::Variable { .. } | Operand::Chain { .. }
                if !rest.is_empty() || piped.is_some() =>
            {
                let mut args = Vec::with_capacity(rest.len() + 1);
                for word in rest {
                    args.push(self.operand(word, dot)?);
                }
                args.extend(piped);
                self.method(first, dot, args)
            }
            _ if !rest.is_empty() || piped.is_some() => {
                self.here(command.at, first);
                if matches!(first, Operand::Nil) {
                    return Err(Stop("nil is not a command".to_owned()));
                }
                Err(Stop(format!("can't give argument to non-function {first}")))
            }
            Operand::Nil => {
                self.here(command.at, first);
                Err(Stop("nil is not a command".to_owned()))
            }
            _ => self.operand(first, dot),
        }
    }

    fn function(
        &mut self,
        command: &Command,
        name: &str,
        at: usize,
        words: &[Operand],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Stop> {
        self.here(at, name);
        if name == "and" || name == "or" {
            return self.short_circuit(command, name, words, dot, piped);
        }
        if let Some(complaint) =
            function::check_count(name, words.len() + usize::from(piped.is_some()))
        {
            return Err(Stop(complaint));
        }
        let mut args = Vec::with_capacity(words.len() + 1);
        for word in words {
            args.push(self.operand(word, dot)?);
        }
        args.extend(piped);
        self.here(command.at, command);
        function::call(name, args, self.mode).map_err(|failure| match failure {
            function::Failure::Argument(message) => Stop(message),
            function::Failure::Call(message) => Stop(format!("error calling {name}: {message}")),
        })
    }

    /// `and` and `or` evaluate no more arguments than they need.
    fn short_circuit(
        &mut self,
        command: &Command,
        name: &str,
        words: &[Operand],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>, Stop> {
        let stops_at = name == "or";
        let mut last = None;
        for word in words {
            let value = self.operand(word, dot)?;
            if value.truth() == stops_at {
                return Ok(value);
            }
            last = Some(value);
        }
        match piped.or(last) {
            Some(value) => Ok(value),
            None => {
                self.here(command.at, command);
                Err(Stop(format!(
                    "wrong number of args for {name}: want at least 1 got 0"
                )))
            }
        }
    }

    /// A field chain whose last name is called with arguments.
    fn method(
        &mut self,
        operand: &Operand,
        dot: &Val<'a>,
        args: Vec<Val<'a>>,
    ) -> Result<Val<'a>, Stop> {
        let (base, path, at) = self.chain(operand, dot)?;
        self.here(at, operand);
        let Some((last, inner)) = path.split_last() else {
            return Err(Stop(format!(
                "can't give argument to non-function {operand}"
            )));
        };
        let receiver = self.fields(base, inner)?;
        match &receiver {
            Val::Row(row) => {
                let json: Vec<Value> = args.iter().map(|arg| arg.json().into_owned()).collect();
                self.row_field(*row, last, &json)
            }
            Val::Json(json, _) if json.is_object() => {
                Err(Stop(format!("{last} is not a method but has arguments")))
            }
            other => Err(Stop(no_field(other, last))),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Val<'a>) -> Result<Val<'a>, Stop> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Val::Missing),
            Operand::Bool(value) => Ok(Val::owned(Value::Bool(*value))),
            Operand::Number(number, _) => Ok(Val::owned(Value::Number(number.clone()))),
            Operand::Str(text, _) => Ok(Val::text(text.as_str())),
            Operand::Function { name, at } => {
                let command = Command {
                    words: vec![operand.clone()],
                    at: *at,
                };
                self.function(&command, name, *at, &[], dot, None)
            }
            Operand::Paren(pipe) => self.pipeline(pipe, dot),
            Operand::Field { .. } | Operand::Variable { .. } | Operand::Chain { .. } => {
                let (base, path, at) = self.chain(operand, dot)?;
                self.here(at, operand);
                self.fields(base, &path)
            }
        }
    }

    /// What a field chain starts from, its names and its position.
    fn chain(
        &mut self,
        operand: &Operand,
        dot: &Val<'a>,
    ) -> Result<(Val<'a>, Vec<String>, usize), Stop> {
        match operand {
            Operand::Field { path, at } => Ok((dot.clone(), path.clone(), *at)),
            Operand::Variable { name, path, at } => {
                let slot = self.variables.iter().rev().find(|slot| slot.0 == *name);
                let value = slot.map_or(Val::Missing, |slot| slot.1.clone());
                Ok((value, path.clone(), *at))
            }
            Operand::Chain { inner, path, at } => {
                let base = self.operand(inner, dot)?;
                if matches!(inner.as_ref(), Operand::Nil) {
                    return Err(Stop("indirection through explicit nil in (nil)".to_owned()));
                }
                Ok((base, path.clone(), *at))
            }
            other => Ok((self.operand(other, dot)?, Vec::new(), 0)),
        }
    }

    fn fields(&mut self, base: Val<'a>, path: &[String]) -> Result<Val<'a>, Stop> {
        let mut value = base;
        for name in path {
            value = self.field(&value, name)?;
        }
        Ok(value)
    }

    fn field(&mut self, receiver: &Val<'a>, name: &str) -> Result<Val<'a>, Stop> {
        match receiver {
            // A field of an absent key's value is absent too.
            Val::Missing => Ok(Val::Missing),
            Val::Row(row) => self.row_field(*row, name, &[]),
            Val::Json(json, hint) => match json.as_ref() {
                Value::Object(_) => match receiver.member(name) {
                    // The user's keys say nothing about a value's type.
                    Some(Val::Json(json, _)) if *hint == Hint::Map => {
                        Ok(Val::Json(json, Hint::None))
                    }
                    Some(value) => Ok(value),
                    None if *hint == Hint::Map || self.mode == Mode::Header => Ok(Val::Missing),
                    None => receiver.exported(name).ok_or_else(|| {
                        Stop(format!("map has no entry for key {}", go_quote(name)))
                    }),
                },
                Value::Null if *hint == Hint::Map => Ok(Val::Missing),
                _ => Err(Stop(no_field(receiver, name))),
            },
        }
    }

    fn row_field(
        &mut self,
        row: &dyn super::Row,
        name: &str,
        args: &[Value],
    ) -> Result<Val<'a>, Stop> {
        let wanted = row.arguments(name);
        if args.len() != wanted && row.field(name, &[]).is_some() {
            let got = args.len();
            return Err(Stop(format!(
                "wrong number of args for {name}: want {wanted} got {got}"
            )));
        }
        match row.field(name, args) {
            Some(Ok(value)) => Ok(Val::Json(std::borrow::Cow::Owned(value), Hint::of(name))),
            Some(Err(message)) => Err(Stop(message)),
            None => Err(Stop(no_field(&Val::Row(row), name))),
        }
    }
}

/// The text for a field of something that has none.
fn no_field(receiver: &Val<'_>, name: &str) -> String {
    match receiver {
        Val::Json(json, _) if json.is_null() => {
            format!("nil pointer evaluating interface {{}}.{name}")
        }
        Val::Json(..) => format!("can't evaluate field {name} in type interface {{}}"),
        other => format!("can't evaluate field {name} in type {}", other.type_name()),
    }
}
