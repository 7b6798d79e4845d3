//! How much was copied: a line that is written over on a terminal, a last one
//! that stays.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::units::short_size;

/// How often the line is written.
const INTERVAL: Duration = Duration::from_millis(100);

/// Counts an archive's bytes; shows them unless it is to be quiet.
#[derive(Clone)]
pub(super) struct Progress {
    header: &'static str,
    is_shown: bool,
    bytes: Arc<AtomicU64>,
    last: Instant,
}

impl Progress {
    pub(super) fn new(header: &'static str, quiet: bool, is_terminal: bool) -> Self {
        Self {
            header,
            is_shown: !quiet && is_terminal,
            bytes: Arc::default(),
            last: Instant::now(),
        }
    }

    /// So many more.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.is_shown && self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            let size = self.size();
            show(&format!("\r{}{size}\x1b[K", self.header));
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if self.is_shown {
            show("\r\x1b[K");
        }
    }

    /// What was copied, in words.
    pub(super) fn size(&self) -> String {
        short_size(self.bytes.load(Ordering::Relaxed) as f64)
    }
}

fn show(text: &str) {
    let mut stderr = io::stderr().lock();
    let _nobody_looks = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush())
        .is_err();
}
