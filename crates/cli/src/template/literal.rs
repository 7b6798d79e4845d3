//! Go's string and character literals.
//!
//! It must not know tokens or nodes.

/// The text of a Go string or character literal, none when malformed.
pub(super) fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next()? {
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{b}'),
            '\\' => text.push('\\'),
            escaped @ ('"' | '\'') if escaped == quote => text.push(escaped),
            'x' => text.push(code_point(&mut chars, 2, 16, None)?),
            'u' => text.push(code_point(&mut chars, 4, 16, None)?),
            'U' => text.push(code_point(&mut chars, 8, 16, None)?),
            first @ '0'..='7' => text.push(code_point(&mut chars, 2, 8, Some(first))?),
            _ => return None,
        }
    }
    Some(text)
}

/// A character written as so many digits.
fn code_point(
    chars: &mut std::str::Chars<'_>,
    count: usize,
    base: u32,
    first: Option<char>,
) -> Option<char> {
    let mut code = match first {
        Some(digit) => digit.to_digit(base)?,
        None => 0,
    };
    for _ in 0..count {
        code = code
            .checked_mul(base)?
            .checked_add(chars.next()?.to_digit(base)?)?;
    }
    char::from_u32(code)
}
