//! The harness of the end-to-end tests: private engines, fixtures, clients and
//! the test machine.
//!
//! It drives the real binary from outside; of its crates it knows only which names
//! an engine gives its things in the kernel.

pub mod archive;
pub mod certificates;
pub mod client;
pub mod engine;
pub mod fixture;
pub mod forward;
pub mod http;
pub mod leftovers;
pub mod nameserver;
pub mod netns;
pub mod process;
pub mod proxy;
pub mod recorded;
pub mod registry;
pub mod terminal;
pub mod vm;
pub mod workspace;

/// Says on the test's output why a case is not run here.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
