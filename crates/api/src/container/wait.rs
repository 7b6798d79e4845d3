//! The answer of `POST /containers/{id}/wait`.

use crate::object::is_zero;

object! {
    /// How a container ended.
    #[serde(rename_all = "PascalCase")]
    pub struct WaitResponse {
        /// Exit code; 128 + n for signal n.
        pub status_code: i64,
        /// Why waiting itself failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitExitError>,
    }

    /// Why waiting for a container failed.
    #[serde(rename_all = "PascalCase")]
    pub struct WaitExitError {
        /// The engine's message.
        #[serde(skip_serializing_if = "is_zero")]
        pub message: String,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exit_without_error_has_no_error_member() {
        let response = WaitResponse {
            status_code: 137,
            error: None,
        };
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"StatusCode":137}"#
        );
        let with_null: WaitResponse =
            serde_json::from_str(r#"{"StatusCode":0,"Error":null}"#).unwrap();
        assert_eq!(with_null, WaitResponse::default());
    }
}
