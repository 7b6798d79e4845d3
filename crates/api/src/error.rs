//! The body of every error answer.

object! {
    /// Body of an error answer.
    pub struct ErrorResponse {
        /// What clients print after `Error response from daemon: `.
        pub message: String,
    }
}
