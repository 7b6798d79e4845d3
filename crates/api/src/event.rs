//! Events: what happened to which object, and which of them a client wants.

use std::collections::BTreeMap;

use crate::filters::Filters;

object! {
    /// Something that happened.
    pub struct Message {
        /// Kind of object: `container`, `image`, `volume`, `network`, `daemon`, ...
        #[serde(rename = "Type")]
        pub kind: String,
        /// What happened, with its detail after `: ` for execs and health.
        #[serde(rename = "Action")]
        pub action: String,
        /// To what it happened.
        #[serde(rename = "Actor")]
        pub actor: Actor,
        /// `local`, or `swarm` for cluster events.
        pub scope: String,
        /// Seconds since the epoch.
        pub time: i64,
        /// Nanoseconds since the epoch.
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
    }

    /// The object of an event.
    pub struct Actor {
        /// Id of the object, or name where objects have no id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Facts and labels.
        #[serde(rename = "Attributes")]
        pub attributes: BTreeMap<String, String>,
    }
}

/// Which events a client wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// First moment, nanoseconds since the epoch; `None` begins now.
    pub since_ns: Option<i128>,
    /// Last moment, nanoseconds since the epoch; `None` goes on for ever.
    pub until_ns: Option<i128>,
    /// Which events.
    pub filters: Filters,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_has_the_names_of_the_newest_version() {
        let message = Message {
            kind: "container".into(),
            action: "start".into(),
            actor: Actor {
                id: "18a4".into(),
                attributes: [("name".into(), "g1".into())].into(),
            },
            scope: "local".into(),
            time: 1,
            time_nano: 1_000_000_002,
        };
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(
            text,
            r#"{"Type":"container","Action":"start","Actor":{"ID":"18a4","Attributes":{"name":"g1"}},"scope":"local","time":1,"timeNano":1000000002}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
    }
}
