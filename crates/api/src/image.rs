//! Images: what list, inspect and registries answer, and the options of each verb.

mod commit;
mod inspect;
mod options;
mod registry;
mod summary;

pub use commit::{CommitOptions, CommitResponse};
pub use inspect::{Config, Inspect, Metadata, RootFs};
pub use options::{
    ImportOptions, ListOptions, LoadOptions, PullOptions, PushOptions, RemoveOptions, SaveOptions,
};
pub use registry::{AuthConfig, AuthResponse, DistributionInspect, SearchResult};
pub use summary::{DeleteItem, HistoryItem, PruneReport, Summary};
