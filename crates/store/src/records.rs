//! The tables: what the engine must find again after its own death.
//!
//! Each operation is a plain function on a connection, for
//! [`crate::db::Database::submit`] and [`crate::db::Database::run`] alike. What is in the
//! JSON texts is the engine's business.

pub mod blobs;
pub mod containers;
pub mod images;
pub mod networks;

/// Whether an operation found the row it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The row was there and is changed.
    Yes,
    /// There is no such row.
    No,
}

impl From<usize> for Found {
    /// From the number of changed rows.
    fn from(rows: usize) -> Self {
        if rows > 0 { Found::Yes } else { Found::No }
    }
}
