//! The log an engine reads: one line an event, as logrus writes them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Log {
    file: Option<Arc<File>>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Standard error alone.
    pub(super) fn to_stderr() -> Log {
        Log {
            file: None,
            format: Format::Text,
            debug: false,
        }
    }

    /// A file that lines are appended to, as asked by `--log` and `--log-format`.
    pub(super) fn open(
        path: Option<PathBuf>,
        format: Option<&str>,
        debug: bool,
    ) -> Result<Log, Error> {
        let format = match format {
            None | Some("text" | "") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(Error::usage(format!("invalid log-format: {other:?}"))),
        };
        let file = match path {
            None => None,
            Some(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(&path);
                Some(Arc::new(
                    opened.map_err(|e| Error::io("open log", &path, e))?,
                ))
            }
        };
        Ok(Log {
            file,
            format,
            debug,
        })
    }

    /// An error, which is also told on standard error.
    pub(super) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.line("error", message);
        }
        to_stderr(message);
    }

    /// Something asked for that was not had.
    pub(super) fn warn(&self, message: &str) {
        if self.file.is_some() {
            self.line("warning", message);
        } else {
            to_stderr(&format!("warning: {message}"));
        }
    }

    /// For `--debug` only.
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    fn line(&self, level: &str, message: &str) {
        let time = jiff::Timestamp::now();
        let line = format_line(self.format, level, message, &format!("{time:.0}"));
        match &self.file {
            // A log that cannot be written must not stop a container.
            Some(file) => drop(file.as_ref().write_all(line.as_bytes())),
            None => to_stderr(line.trim_end()),
        }
    }
}

fn to_stderr(line: &str) {
    // There is nowhere left to say that it failed.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

fn format_line(format: Format, level: &str, message: &str, time: &str) -> String {
    match format {
        Format::Json => {
            let line = serde_json::json!({ "level": level, "msg": message, "time": time });
            format!("{line}\n")
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_engines_parse() {
        let json = format_line(
            Format::Json,
            "error",
            "exec: \"x\": no",
            "2026-01-02T03:04:05Z",
        );
        assert_eq!(
            json,
            "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": no\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        let text = format_line(Format::Text, "warning", "a \"b\"", "T");
        assert_eq!(text, "time=\"T\" level=warning msg=\"a \\\"b\\\"\"\n");
    }
}
