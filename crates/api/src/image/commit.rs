//! `POST /commit`: what is asked for, and the answer.

/// Options of `POST /commit`; the body is a container configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// The container.
    pub container: String,
    /// Repository of the new image; empty leaves it unnamed.
    pub repo: String,
    /// Tag of the new image.
    pub tag: String,
    /// Message.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Whether a running container stands still meanwhile.
    pub pause: bool,
    /// Dockerfile instructions applied to the new image's configuration.
    pub changes: Vec<String>,
}

object! {
    /// Answer of `POST /commit`.
    #[serde(rename_all = "PascalCase")]
    pub struct CommitResponse {
        /// The new image.
        pub id: String,
    }
}
