//! The crate against a real kernel: every way to a published port, what must
//! not be reachable, and what is left when somebody is killed.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod keeper;
mod lab;
mod many;
mod reach;
mod spoof;
