//! Tar streams and compression formats, for layers, `cp` and build contexts.
//!
//! Everything here works on byte streams and is bounded in memory whatever the
//! stream says. It must not know what a layer or a container is, and it never
//! touches a file system: names come out as bytes, exactly as the archive has
//! them, and judging them is the consumer's work.

pub mod compression;
pub mod tar;
