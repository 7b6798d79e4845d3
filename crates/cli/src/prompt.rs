//! Questions on the terminal before something is destroyed.

use std::io::{BufRead, Write};

use crate::context::Context;
use crate::error::CliError;

/// Warns and asks; only a line that begins with `y` is a yes, the end of the
/// input is a no.
pub fn confirm(ctx: &mut Context, warning: &str) -> Result<bool, CliError> {
    write!(
        ctx.out,
        "{warning}\nAre you sure you want to continue? [y/N] "
    )?;
    ctx.out.flush()?;
    let mut line = String::new();
    let limited = std::io::Read::take(std::io::stdin(), 4096);
    std::io::BufReader::new(limited).read_line(&mut line)?;
    Ok(is_yes(&line))
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().as_bytes().first(), Some(b'y' | b'Y'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes("Yes\n"));
        assert!(!is_yes("") && !is_yes("n\n") && !is_yes("\n"));
    }
}
