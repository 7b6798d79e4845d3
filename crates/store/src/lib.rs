//! What outlives a process: atomic files, locks, and the records database.
//!
//! This crate must not know what its records mean, nor an async runtime: identifiers are
//! texts here, and their types belong to who uses them. Two databases exist, each with one
//! writer thread: `state.db` for containers, whose commits cost no fsync, and
//! `image/image.db`, whose commits are on the disk when they are answered.

pub mod db;
pub mod lock;
pub mod persist;
pub mod records;
