//! Progress streams (pull, push, import, load, build): one JSON object per line.

use serde_json::Value;

use crate::object::is_zero;

object! {
    /// One message of a progress stream; only the members that say something are present.
    #[serde(rename_all = "camelCase")]
    pub struct Message {
        /// Text to print as it is.
        #[serde(skip_serializing_if = "is_zero")]
        pub stream: String,
        /// State of the object, or of the whole when it has no id.
        #[serde(skip_serializing_if = "is_zero")]
        pub status: String,
        /// How far; an empty object clears the bar.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub progress_detail: Option<ProgressDetail>,
        /// The object this is about (a layer).
        #[serde(skip_serializing_if = "is_zero")]
        pub id: String,
        /// The failure that ends the stream.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error_detail: Option<ErrorDetail>,
        /// The failure's text again, for older clients.
        #[serde(skip_serializing_if = "is_zero")]
        pub error: String,
        /// A result for programs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub aux: Option<Value>,
    }

    /// How far a transfer is.
    #[serde(rename_all = "camelCase")]
    pub struct ProgressDetail {
        /// Units done.
        #[serde(skip_serializing_if = "is_zero")]
        pub current: i64,
        /// Units in all; 0 is unknown.
        #[serde(skip_serializing_if = "is_zero")]
        pub total: i64,
        /// Unit; empty is bytes.
        #[serde(skip_serializing_if = "is_zero")]
        pub units: String,
        /// Whether counts are not to be shown.
        #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
        pub hide_counts: bool,
    }

    /// The failure that ended a stream.
    pub struct ErrorDetail {
        /// Exit code of a failed build step, or an HTTP status.
        #[serde(skip_serializing_if = "is_zero")]
        pub code: i64,
        /// The text.
        pub message: String,
    }
}

impl Message {
    /// A message that only says how things stand.
    pub fn status(status: impl Into<String>) -> Self {
        Self {
            status: status.into(),
            ..Self::default()
        }
    }

    /// The message that ends a stream with a failure.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.clone(),
            }),
            error: message,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_is_told_in_both_members() {
        assert_eq!(
            serde_json::to_string(&Message::failure("disk full")).unwrap(),
            r#"{"errorDetail":{"message":"disk full"},"error":"disk full"}"#
        );
    }

    #[test]
    fn an_empty_detail_is_an_empty_object() {
        let message = Message {
            id: "8d01".into(),
            progress_detail: Some(ProgressDetail::default()),
            ..Message::status("Pull complete")
        };
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"status":"Pull complete","progressDetail":{},"id":"8d01"}"#
        );
    }
}
