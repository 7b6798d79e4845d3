//! An engine's progress messages on a terminal, or as plain lines without one.
//!
//! On a terminal every layer has a line that is written over; without one only the steps are printed, no counts.
//! It must not know what is transferred.

use std::io::Write;

use conex_api::progress::{Message, ProgressDetail};
use conex_client::JsonStream;
use indexmap::IndexMap;
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use crate::error::CliError;
use crate::output::Output;
use crate::units::human_size;

/// Below this width a line has counts and no bar, as Docker's.
const WIDE_COLUMNS: u16 = 110;

/// Prints messages until the stream ends. Results for programs (`aux`) are returned.
///
/// # Errors
/// The failure that ends the stream, in the engine's words.
pub(crate) async fn show(
    messages: &mut JsonStream<Message>,
    out: &mut Output,
) -> Result<Vec<Value>, CliError> {
    let mut board = Board::new(out.is_terminal(), columns());
    let mut results = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        if let Some(failure) = failure(&message) {
            return Err(CliError::message(failure));
        }
        if let Some(aux) = message.aux {
            results.push(aux);
            continue;
        }
        board.show(&message, out)?;
        out.flush()?;
    }
    Ok(results)
}

/// Reads messages to their end and prints none.
///
/// # Errors
/// As [`show`].
pub(crate) async fn wait(messages: &mut JsonStream<Message>) -> Result<(), CliError> {
    while let Some(message) = messages.next().await {
        if let Some(failure) = failure(&message?) {
            return Err(CliError::message(failure));
        }
    }
    Ok(())
}

fn failure(message: &Message) -> Option<String> {
    let detail = message.error_detail.as_ref().map(|d| d.message.clone());
    detail.or_else(|| Some(message.error.clone()).filter(|text| !text.is_empty()))
}

fn columns() -> u16 {
    tcgetwinsize(rustix::stdio::stdout()).map_or(0, |size| size.ws_col)
}

/// The lines on the screen.
struct Board {
    terminal: bool,
    columns: u16,
    /// Object → its line, counted from the first.
    lines: IndexMap<String, ()>,
}

impl Board {
    fn new(terminal: bool, columns: u16) -> Self {
        Self {
            terminal,
            columns,
            lines: IndexMap::new(),
        }
    }

    fn show(&mut self, message: &Message, out: &mut dyn Write) -> std::io::Result<()> {
        let bar = message
            .progress_detail
            .as_ref()
            .and_then(|d| bar(d, self.columns));
        if !message.stream.is_empty() {
            self.lines.clear();
            return out.write_all(message.stream.as_bytes());
        }
        if !self.terminal {
            if bar.is_some() {
                return Ok(());
            }
            return line(message, "", "\n", out);
        }
        // A message about no object, or a first one without progress, is below all lines.
        let Some(_) = message
            .progress_detail
            .as_ref()
            .filter(|_| !message.id.is_empty())
        else {
            self.lines.clear();
            return line(message, "", "\n", out);
        };
        let known = self.lines.len();
        let (index, _) = self.lines.insert_full(message.id.clone(), ());
        if index == known {
            line(message, bar.as_deref().unwrap_or_default(), "\n", out)
        } else {
            let up = known - index;
            write!(out, "\x1b[{up}A\x1b[2K\r")?;
            line(message, bar.as_deref().unwrap_or_default(), "\r", out)?;
            write!(out, "\x1b[{up}B")
        }
    }
}

fn line(message: &Message, bar: &str, end: &str, out: &mut dyn Write) -> std::io::Result<()> {
    if !message.id.is_empty() {
        write!(out, "{}: ", message.id)?;
    }
    let space = if bar.is_empty() { "" } else { " " };
    write!(out, "{}{space}{bar}{end}", message.status)
}

/// `[====>      ]  1.2MB/3.4MB`; `None` if nothing is counted.
fn bar(detail: &ProgressDetail, columns: u16) -> Option<String> {
    let (current, total) = (detail.current, detail.total);
    if current <= 0 && total <= 0 {
        return None;
    }
    let size = |bytes: i64| human_size(bytes as f64);
    if total <= 0 {
        return Some(format!("{:>8}", size(current)));
    }
    let counts = match current > total {
        true => format!("{:>8}", size(current)),
        false => format!("{:>8}/{}", size(current), size(total)),
    };
    if columns <= WIDE_COLUMNS {
        return Some(counts);
    }
    let half = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
    let rest = 50 - half;
    Some(format!(
        "[{}>{}] {counts}",
        "=".repeat(half),
        " ".repeat(rest)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(id: &str, status: &str, current: i64, total: i64) -> Message {
        Message {
            id: id.into(),
            progress_detail: Some(ProgressDetail {
                current,
                total,
                ..ProgressDetail::default()
            }),
            ..Message::status(status)
        }
    }

    fn shown(terminal: bool, columns: u16, messages: &[Message]) -> String {
        let mut board = Board::new(terminal, columns);
        let mut out = Vec::new();
        for message in messages {
            board.show(message, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_a_terminal_steps_are_lines_and_counts_are_not_shown() {
        let messages = [
            Message {
                id: "1".into(),
                ..Message::status("Pulling from library/x")
            },
            message("aa", "Pulling fs layer", 0, 0),
            message("aa", "Downloading", 5, 10),
            message("aa", "Pull complete", 0, 0),
            Message::status("Digest: d"),
        ];
        assert_eq!(
            shown(false, 200, &messages),
            "1: Pulling from library/x\naa: Pulling fs layer\naa: Pull complete\nDigest: d\n"
        );
    }

    #[test]
    fn on_a_terminal_a_layers_line_is_written_over() {
        let messages = [
            message("aa", "Waiting", 0, 0),
            message("bb", "Waiting", 0, 0),
            message("aa", "Downloading", 500_000, 1_000_000),
        ];
        let bar = format!("[{}>{}]    500kB/1MB", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            shown(true, 200, &messages),
            format!("aa: Waiting\nbb: Waiting\n\x1b[2A\x1b[2K\raa: Downloading {bar}\r\x1b[2B")
        );
        assert!(shown(true, 80, &messages).contains("aa: Downloading    500kB/1MB\r"));
    }
}
