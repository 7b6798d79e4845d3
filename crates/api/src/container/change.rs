//! Answers of what changes containers by the way: update and prune.

object! {
    /// The answer of `POST /containers/{id}/update`.
    #[serde(rename_all = "PascalCase")]
    pub struct UpdateResponse {
        /// What could not be had.
        pub warnings: Option<Vec<String>>,
    }

    /// The answer of `POST /containers/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct PruneReport {
        /// Full ids.
        pub containers_deleted: Option<Vec<String>>,
        /// Bytes of their own layers.
        pub space_reclaimed: u64,
    }
}
