//! Docker Engine API types, one module per resource; pure.
//!
//! The JSON of every type is that of the newest API version ([`version::MAX`]): names, nulls against empty
//! lists, zero values, presence of fields. What older versions show differently is one table in the server.
//! Reading is as tolerant as Docker's: unknown fields are skipped, a missing or `null` field is its zero value.
//!
//! *Invariant*: no I/O, no async, no knowledge of who serves or asks.

#[macro_use]
mod object;

pub mod check;
pub mod container;
pub mod descriptor;
pub mod detach;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod image;
pub mod network;
pub mod progress;
pub mod query;
pub mod stream;
pub mod system;
pub mod usage;
pub mod version;
pub mod volume;

/// The zero time as the API writes it (RFC 3339).
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
