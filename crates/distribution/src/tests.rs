//! The protocol against a server that answers as it is told, also badly.

#![allow(clippy::unwrap_used)]

mod access;
mod content;
mod parts;
mod sending;
