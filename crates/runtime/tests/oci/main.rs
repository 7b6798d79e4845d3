//! The OCI runtime from its command line, on this machine, as root: every
//! container is a real one with a busybox root.
#![allow(clippy::unwrap_used)]

mod bundle;
mod cgroup;
mod exec;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod terminal;
