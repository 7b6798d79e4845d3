//! The event bus: what happened, to whoever listens, with a memory for those
//! who ask later (`since`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_api::event::{Actor, Message, Query};
use conex_api::filters::Filters;
use futures_util::Stream;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::time::now_ns;

/// Events remembered for `since`; Docker keeps 256.
const REMEMBERED: usize = 1024;
/// How far a slow listener may fall behind before it misses events.
const BEHIND: usize = 4096;

/// The bus.
#[derive(Debug)]
pub(crate) struct Events {
    past: Mutex<VecDeque<Message>>,
    live: broadcast::Sender<Message>,
    listeners: AtomicUsize,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events {
            past: Mutex::default(),
            live: broadcast::channel(BEHIND).0,
            listeners: AtomicUsize::new(0),
        }
    }

    /// Tells everybody. The object's state is visible already.
    pub(crate) fn publish(
        &self,
        kind: &str,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let mut past = self
            .past
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = now_ns();
        let message = Message {
            kind: kind.into(),
            action: action.into(),
            actor: Actor {
                id: id.into(),
                attributes,
            },
            scope: "local".into(),
            time: now / 1_000_000_000,
            time_nano: now,
        };
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(message.clone());
        // Sent under the lock, so that a listener sees each event once. An
        // error says that nobody listens.
        let _nobody = self.live.send(message).is_err();
    }

    /// How many listen now.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }

    /// Past events from `since` on, then live ones, up to `until`.
    pub(crate) fn subscribe(
        self: &std::sync::Arc<Self>,
        query: Query,
    ) -> impl Stream<Item = Message> + Send + use<> {
        let past = self
            .past
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let live = self.live.subscribe();
        let replay: VecDeque<Message> = match (query.since_ns, query.until_ns) {
            (None, None) => VecDeque::new(),
            (since, _) => past
                .iter()
                .filter(|m| since.is_none_or(|s| i128::from(m.time_nano) >= s))
                .cloned()
                .collect(),
        };
        drop(past);
        self.listeners.fetch_add(1, Ordering::Relaxed);
        let state = Subscription {
            replay,
            live,
            query,
            bus: std::sync::Arc::clone(self),
        };
        futures_util::stream::unfold(state, |mut s| async move {
            let message = s.next().await?;
            Some((message, s))
        })
    }
}

struct Subscription {
    replay: VecDeque<Message>,
    live: broadcast::Receiver<Message>,
    query: Query,
    bus: std::sync::Arc<Events>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bus.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Subscription {
    async fn next(&mut self) -> Option<Message> {
        loop {
            let message = match self.replay.pop_front() {
                Some(message) => message,
                None => self.live().await?,
            };
            if self
                .query
                .until_ns
                .is_some_and(|until| i128::from(message.time_nano) > until)
            {
                return None;
            }
            if matches(&self.query.filters, &message) {
                return Some(message);
            }
        }
    }

    async fn live(&mut self) -> Option<Message> {
        loop {
            let received = match self.query.until_ns {
                None => self.live.recv().await,
                Some(until) => {
                    let left = until - i128::from(now_ns());
                    let left = u64::try_from(left).ok()?;
                    let left = std::time::Duration::from_nanos(left);
                    tokio::time::timeout(left, self.live.recv()).await.ok()?
                }
            };
            match received {
                Ok(message) => return Some(message),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener to events was too slow");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// COMPAT D4.1, D5.4: values of one key are alternatives, labels add up, an
/// event's action matches by its first word too (`exec_create`).
fn matches(filters: &Filters, message: &Message) -> bool {
    let attributes = &message.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    let id = message.actor.id.as_str();
    let one_of = |key: &str, test: &dyn Fn(&str) -> bool| {
        !filters.contains(key) || filters.get(key).any(test)
    };
    let actor = |kind: &str| {
        one_of(kind, &|wanted| {
            message.kind == kind
                && (id.starts_with(wanted) || name == wanted.trim_start_matches('/'))
        })
    };
    one_of("event", &|wanted| {
        message.action == wanted
            || message
                .action
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with(':'))
    }) && one_of("type", &|wanted| message.kind == wanted)
        && one_of("scope", &|wanted| message.scope == wanted)
        && NAMED.into_iter().all(actor)
        && one_of("image", &|wanted| {
            let image = if message.kind == "image" {
                name
            } else {
                attributes.get("image").map_or("", String::as_str)
            };
            image == wanted
                || image
                    .split_once(':')
                    .is_some_and(|(repo, _)| repo == wanted)
                || (message.kind == "image"
                    && id
                        .trim_start_matches("sha256:")
                        .starts_with(wanted.trim_start_matches("sha256:")))
        })
        && filters.label("label", attributes)
}

/// Kinds that can be asked for by name or id, those of swarm included, which
/// have no events here.
const NAMED: [&str; 9] = [
    "config",
    "container",
    "daemon",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
];

/// The keys `GET /events` accepts.
pub(crate) const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::StreamExt;
    use std::sync::Arc;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn past_events_come_first_and_none_twice() {
        let bus = Arc::new(Events::new());
        bus.publish("container", "create", "a1", attributes(&[("name", "x")]));
        let query = Query {
            since_ns: Some(0),
            ..Query::default()
        };
        let mut stream = Box::pin(bus.subscribe(query));
        bus.publish("container", "start", "a1", attributes(&[("name", "x")]));
        assert_eq!(stream.next().await.unwrap().action, "create");
        assert_eq!(stream.next().await.unwrap().action, "start");
        assert_eq!(bus.listeners(), 1);
        drop(stream);
        assert_eq!(bus.listeners(), 0);
    }

    #[test]
    fn filters_follow_dockers_rules() {
        let message = Message {
            kind: "container".into(),
            action: "exec_create: sh -c true".into(),
            actor: Actor {
                id: "18a4bf".into(),
                attributes: attributes(&[("image", "busybox:1"), ("name", "web"), ("a", "b")]),
            },
            ..Message::default()
        };
        let check = |json: &str| matches(&Filters::parse(json).unwrap(), &message);
        assert!(check(r#"{"event":["exec_create"],"container":["web"]}"#));
        assert!(check(r#"{"container":["18a4"],"type":["container"]}"#));
        assert!(check(r#"{"image":["busybox"],"label":["a=b"]}"#));
        assert!(!check(r#"{"event":["exec"]}"#));
        assert!(!check(r#"{"label":["a=c"]}"#));
        assert!(!check(r#"{"type":["image"]}"#));
    }
}
