//! What registries answer through the engine: searches, what is under a name, and logins.

use crate::descriptor::{Descriptor, Platform};
use crate::object::is_zero;

object! {
    /// A repository that a search found.
    pub struct SearchResult {
        /// Stars.
        pub star_count: i64,
        /// Whether it is official.
        pub is_official: bool,
        /// Its name.
        pub name: String,
        /// Whether the index builds it.
        pub is_automated: bool,
        /// One line.
        pub description: String,
    }

    /// Answer of `GET /distribution/{name}/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct DistributionInspect {
        /// Of the manifest or index.
        pub descriptor: Descriptor,
        /// What it runs on.
        pub platforms: Vec<Platform>,
    }

    /// Body of `POST /auth`, and what a credential store keeps.
    pub struct AuthConfig {
        /// User.
        #[serde(skip_serializing_if = "is_zero")]
        pub username: String,
        /// Password.
        #[serde(skip_serializing_if = "is_zero")]
        pub password: String,
        /// `base64(user:password)`.
        #[serde(skip_serializing_if = "is_zero")]
        pub auth: String,
        /// The registry.
        #[serde(rename = "serveraddress", skip_serializing_if = "is_zero")]
        pub server_address: String,
        /// In place of a password.
        #[serde(rename = "identitytoken", skip_serializing_if = "is_zero")]
        pub identity_token: String,
        /// Sent to the registry as it is.
        #[serde(rename = "registrytoken", skip_serializing_if = "is_zero")]
        pub registry_token: String,
    }

    /// Answer of `POST /auth`.
    #[serde(rename_all = "PascalCase")]
    pub struct AuthResponse {
        /// `Login Succeeded`.
        pub status: String,
        /// To be kept in place of the password; empty if there is none.
        pub identity_token: String,
    }
}
