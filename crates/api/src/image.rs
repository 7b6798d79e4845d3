//! Images: what list and inspect answer, and the options of each verb.

mod inspect;
mod options;
mod summary;

pub use inspect::{Config, Inspect, Metadata, RootFs};
pub use options::{ImportOptions, ListOptions, LoadOptions, RemoveOptions, SaveOptions};
pub use summary::{DeleteItem, HistoryItem, PruneReport, Summary};
