//! Volumes: what list, inspect and prune answer, and what create asks for.

use std::collections::BTreeMap;

use crate::object::is_zero;

object! {
    /// One volume.
    #[serde(rename_all = "PascalCase")]
    pub struct Volume {
        /// When it was made, RFC 3339 in whole seconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub created_at: String,
        /// Name of its driver.
        pub driver: String,
        /// Labels; `null` without any.
        pub labels: Option<BTreeMap<String, String>>,
        /// The directory on the host.
        pub mountpoint: String,
        /// Its name, which is its identity.
        pub name: String,
        /// Options of its driver; `null` without any.
        pub options: Option<BTreeMap<String, String>>,
        /// `local`.
        pub scope: String,
        /// Only in `GET /system/df`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub usage_data: Option<UsageData>,
    }

    /// What a volume takes.
    #[serde(rename_all = "PascalCase")]
    pub struct UsageData {
        /// Bytes on disk, -1 where nobody can say.
        pub size: i64,
        /// How many containers have it, -1 where nobody can say.
        pub ref_count: i64,
    }

    /// Body of `POST /volumes/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct CreateRequest {
        /// Its name; empty for one that is made up.
        pub name: String,
        /// Its driver; empty for `local`.
        pub driver: String,
        /// Options of the driver.
        pub driver_opts: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
    }

    /// Answer of `GET /volumes`.
    #[serde(rename_all = "PascalCase")]
    pub struct ListResponse {
        /// The volumes.
        pub volumes: Vec<Volume>,
        /// What went wrong while they were listed; `null` when nothing did.
        pub warnings: Option<Vec<String>>,
    }

    /// Answer of `POST /volumes/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct PruneReport {
        /// Names of what is gone.
        pub volumes_deleted: Vec<String>,
        /// Bytes given back to the file system.
        pub space_reclaimed: u64,
    }
}
