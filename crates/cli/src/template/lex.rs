//! The lexer: template text into tokens, with the trimming of `{{-` and `-}}` done.
//!
//! It must not know the grammar beyond what tokens look like.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The lexer's complaint; nothing follows.
    Error,
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    /// One run of blanks inside an action.
    Space,
    /// A name that is no keyword.
    Identifier,
    Bool,
    /// `.` alone.
    Dot,
    /// `.Name`.
    Field,
    /// `$` or `$name`.
    Variable,
    Str,
    RawStr,
    Char,
    Number,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    /// Any other single character, such as a comma.
    Other,
    /// `if`, `range`, `end`, `nil` …
    Keyword,
}

/// One token and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The token's text, or the complaint.
    pub(super) text: String,
    /// Byte offset in the template.
    pub(super) at: usize,
    /// Line, counted from 1.
    pub(super) line: usize,
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }
}

const KEYWORDS: &[&str] = &[
    "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with",
];

/// Splits a template into tokens; the last one is `Eof` or `Error`.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
        tokens: Vec::new(),
        trim_next: false,
    };
    match lexer.run() {
        Ok(()) => lexer.push(Kind::Eof, lexer.at, lexer.at),
        Err(complaint) => {
            let token = Token {
                kind: Kind::Error,
                text: complaint,
                at: lexer.at,
                line: lexer.line,
            };
            lexer.tokens.push(token);
        }
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    /// The last action ended in `-}}`.
    trim_next: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Adds the text between two offsets as a token; `line` is where it starts.
    fn push(&mut self, kind: Kind, from: usize, to: usize) {
        let text = &self.text[from..to];
        self.tokens.push(Token {
            kind,
            text: text.to_owned(),
            at: from,
            line: self.line,
        });
        self.line += text.matches('\n').count();
        self.at = to;
    }

    fn run(&mut self) -> Result<(), String> {
        loop {
            let found = self.rest().find("{{");
            let end = found.map_or(self.text.len(), |offset| self.at + offset);
            let mut from = self.at;
            let mut to = end;
            if self.trim_next {
                from += leading_blanks(&self.text[from..to]);
            }
            let trims_left = found.is_some() && is_left_trim(&self.text[end + 2..]);
            if trims_left {
                to -= trailing_blanks(&self.text[from..to]);
            }
            self.line += self.text[self.at..from].matches('\n').count();
            if to > from {
                self.push(Kind::Text, from, to);
            }
            self.line += self.text[to..end].matches('\n').count();
            self.at = end;
            self.trim_next = false;
            if found.is_none() {
                return Ok(());
            }
            let marker = if trims_left { 2 } else { 0 };
            if self.text[end + 2 + marker..].starts_with("/*") {
                self.comment(end + 2 + marker)?;
            } else {
                self.push(Kind::LeftDelim, end, end + 2);
                self.at += marker;
                self.action()?;
            }
        }
    }

    /// Skips a comment that starts at the given offset, with its closing delimiter.
    fn comment(&mut self, from: usize) -> Result<(), String> {
        let Some(length) = self.text[from..].find("*/") else {
            return Err("unclosed comment".to_owned());
        };
        let after = from + length + 2;
        let tail = &self.text[after..];
        let (end, trims) = match right_delim(tail) {
            Some((length, trims)) => (after + length, trims),
            None => return Err("comment ends before closing delimiter".to_owned()),
        };
        self.line += self.text[self.at..end].matches('\n').count();
        self.at = end;
        self.trim_next = trims;
        Ok(())
    }

    /// Tokens up to and with the closing delimiter.
    fn action(&mut self) -> Result<(), String> {
        let mut parens = 0usize;
        loop {
            if let Some((length, trims)) = right_delim(self.rest()) {
                if parens > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                let from = self.at + length - 2;
                self.push(Kind::RightDelim, from, from + 2);
                self.trim_next = trims;
                return Ok(());
            }
            let from = self.at;
            let Some(c) = self.peek() else {
                return Err("unclosed action".to_owned());
            };
            match c {
                ' ' | '\t' | '\r' | '\n' => self.space(),
                ':' => {
                    if !self.rest().starts_with(":=") {
                        return Err("expected :=".to_owned());
                    }
                    self.push(Kind::Declare, from, from + 2);
                }
                '=' => self.push(Kind::Assign, from, from + 1),
                '|' => self.push(Kind::Pipe, from, from + 1),
                '"' => self.quoted('"', Kind::Str, "unterminated quoted string")?,
                '`' => self.raw_quoted()?,
                '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
                '$' => self.name(Kind::Variable)?,
                '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    self.name(Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                '(' => {
                    parens += 1;
                    self.push(Kind::LeftParen, from, from + 1);
                }
                ')' => {
                    let Some(fewer) = parens.checked_sub(1) else {
                        return Err("unexpected right paren".to_owned());
                    };
                    parens = fewer;
                    self.push(Kind::RightParen, from, from + 1);
                }
                c if is_alphanumeric(c) => self.identifier()?,
                c if c.is_ascii_graphic() => self.push(Kind::Other, from, from + 1),
                c => return Err(format!("unrecognized character in action: {}", unicode(c))),
            }
        }
    }

    /// A run of blanks; those before ` -}}` belong to the delimiter.
    fn space(&mut self) {
        let from = self.at;
        let length = leading_blanks(self.rest());
        let mut end = from + length;
        // The last blank belongs to a trimming delimiter that follows it.
        if self.text[end..].starts_with("-}}") {
            end -= 1;
        }
        if end > from {
            self.push(Kind::Space, from, end);
        }
    }

    /// `.name`, `$name`, or the mark alone.
    fn name(&mut self, kind: Kind) -> Result<(), String> {
        let from = self.at;
        let end = self.end_of_name(from + 1);
        self.check_terminator(end)?;
        let kind = if kind == Kind::Field && end == from + 1 {
            Kind::Dot
        } else {
            kind
        };
        self.push(kind, from, end);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        let from = self.at;
        let end = self.end_of_name(from);
        self.check_terminator(end)?;
        let word = &self.text[from..end];
        let kind = if KEYWORDS.contains(&word) {
            Kind::Keyword
        } else if word == "true" || word == "false" {
            Kind::Bool
        } else {
            Kind::Identifier
        };
        self.push(kind, from, end);
        Ok(())
    }

    fn end_of_name(&self, from: usize) -> usize {
        let tail = &self.text[from..];
        from + tail.find(|c| !is_alphanumeric(c)).unwrap_or(tail.len())
    }

    /// Complains unless what follows a name may follow one.
    fn check_terminator(&self, at: usize) -> Result<(), String> {
        let tail = &self.text[at..];
        match tail.chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(_) if tail.starts_with("}}") => Ok(()),
            Some(c) => Err(format!("bad character {}", unicode(c))),
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, complaint: &str) -> Result<(), String> {
        let from = self.at;
        let mut escaped = false;
        for (offset, c) in self.text[from + 1..].char_indices() {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.push(kind, from, from + 1 + offset + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(complaint.to_owned())
    }

    fn raw_quoted(&mut self) -> Result<(), String> {
        let from = self.at;
        match self.text[from + 1..].find('`') {
            Some(offset) => {
                self.push(Kind::RawStr, from, from + 1 + offset + 1);
                Ok(())
            }
            None => Err("unterminated raw quoted string".to_owned()),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let from = self.at;
        let tail = &self.text[from..];
        let mut end = tail.len();
        let mut previous = ' ';
        let hex = tail
            .trim_start_matches(['+', '-'])
            .to_ascii_lowercase()
            .starts_with("0x");
        for (offset, c) in tail.char_indices() {
            let sign = matches!(c, '+' | '-')
                && (offset == 0
                    || (!hex && matches!(previous, 'e' | 'E'))
                    || matches!(previous, 'p' | 'P'));
            if !(sign || c == '.' || is_alphanumeric(c)) {
                end = offset;
                break;
            }
            previous = c;
        }
        let word = &tail[..end];
        let digits = word.trim_start_matches(['+', '-']);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || parse_number(word).is_none()
        {
            // The complaint shows what was a number and the first letter that is none.
            let hex_or_digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | '_' | '+' | '-');
            let shown = word.find(|c| !hex_or_digit(c)).map_or(word, |at| {
                let letter = word[at..].chars().next().map_or(0, char::len_utf8);
                &word[..at + letter]
            });
            return Err(format!(
                "bad number syntax: {}",
                crate::flag::go_quote(shown)
            ));
        }
        self.push(Kind::Number, from, from + end);
        Ok(())
    }
}

/// The value of a number token.
pub(super) fn parse_number(word: &str) -> Option<serde_json::Number> {
    let plain = word.replace('_', "");
    if let Ok(int) = crate::flag::parse_int(&plain) {
        return Some(int.into());
    }
    let starts_like_number = plain
        .trim_start_matches(['+', '-'])
        .starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let float: f64 = plain.parse().ok().filter(|_| starts_like_number)?;
    serde_json::Number::from_f64(float)
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn leading_blanks(text: &str) -> usize {
    text.find(|c| !is_blank(c)).unwrap_or(text.len())
}

fn trailing_blanks(text: &str) -> usize {
    text.len() - text.trim_end_matches(is_blank).len()
}

/// Whether what follows `{{` is `-` and a blank.
fn is_left_trim(tail: &str) -> bool {
    tail.strip_prefix('-')
        .is_some_and(|tail| tail.starts_with(is_blank))
}

/// Length of `}}` or ` -}}` at the start, and whether it trims.
fn right_delim(tail: &str) -> Option<(usize, bool)> {
    if tail.starts_with(is_blank) && tail[1..].starts_with("-}}") {
        return Some((4, true));
    }
    tail.starts_with("}}").then_some((2, false))
}

/// A character as Go's `%#U` shows it: `U+007D '}'`.
fn unicode(c: char) -> String {
    if c.is_control() {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}
