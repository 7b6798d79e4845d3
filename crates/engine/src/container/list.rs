//! `ps`: snapshots, filtered and sorted.

use std::sync::Arc;

use conex_api::container::{ListOptions, Port, Summary, SummaryHostConfig, SummaryNetworkSettings};
use conex_api::filters::{Filters, InvalidFilter};
use regex::Regex;

use super::health::Health;
use super::{Container, State};
use crate::time::now_ns;
use crate::{Engine, Error};

/// moby daemon/list.go.
const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

impl Engine {
    /// Containers, newest first: those that run, or all, or those a status
    /// filter names.
    pub fn container_list(&self, options: ListOptions) -> Result<Vec<Summary>, Error> {
        let filters = &options.filters;
        filters.validate(&FILTERS)?;
        let test = Test::new(self, filters)?;
        let limit = options.limit.filter(|n| *n > 0).map(|n| n as usize);
        let all = options.all || limit.is_some() || filters.contains("status");
        let mut found: Vec<Arc<Container>> = {
            let table = self.inner.table();
            table.iter().cloned().collect()
        };
        found.sort_unstable_by_key(|c| std::cmp::Reverse(c.record.created_ns));
        let now = now_ns();
        let mut summaries = Vec::new();
        let mut images = std::collections::HashMap::new();
        for container in found {
            let state = container.state();
            let listed = all || state.is_running() || state.status() == "restarting";
            if !listed || state.removed || !test.passes(&container, &state) {
                continue;
            }
            let record = &container.record;
            // Most containers share few images, and a name is dear to parse.
            let image = images
                .entry((record.config.image.clone(), record.image_id.clone()))
                .or_insert_with_key(|(word, id)| self.inner.images.shown_name(word, id))
                .clone();
            match self.summary(&container, &state, image, now, options.size) {
                Ok(summary) => summaries.push(summary),
                // It went while its files were counted.
                Err(_) if container.state().is_leaving() => continue,
                Err(error) => return Err(error),
            }
            if limit == Some(summaries.len()) {
                break;
            }
        }
        Ok(summaries)
    }

    fn summary(
        &self,
        container: &Container,
        state: &State,
        image: String,
        now: i64,
        size: bool,
    ) -> Result<Summary, Error> {
        let record = &container.record;
        let (size_rw, size_root_fs) = match size {
            true => self
                .inner
                .sizes(record)
                .map(|(rw, root)| (Some(rw), Some(root)))?,
            false => (None, None),
        };
        let networks = self.inner.endpoints_of(container, state);
        Ok(Summary {
            id: record.id.clone(),
            names: vec![format!("/{}", container.name())],
            image,
            image_id: record.image_id.clone(),
            command: command_line(&record.path, &record.args),
            created: record.created_ns / 1_000_000_000,
            ports: ports(container, state),
            size_rw,
            size_root_fs,
            labels: record.config.labels.clone().unwrap_or_default(),
            state: state.status().into(),
            status: state.description(now),
            health: Some(Health::summary(state.health.as_ref())),
            host_config: SummaryHostConfig {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: SummaryNetworkSettings { networks },
            mounts: record.mounts.clone(),
            ..Summary::default()
        })
    }
}

/// The COMMAND column: arguments with a space stand in quotes, which makes no
/// shell's syntax of them (moby daemon/container/view.go).
fn command_line(path: &str, args: &[String]) -> String {
    let mut line = path.to_owned();
    for arg in args {
        line.push(' ');
        if arg.contains(' ') {
            line.extend(["'", arg, "'"]);
        } else {
            line.push_str(arg);
        }
    }
    line
}

/// Ports of a container that runs, published and exposed.
fn ports(container: &Container, state: &State) -> Vec<Port> {
    let record = &container.record;
    let host = record.host_config.network_mode == "host";
    if host || !state.is_running() {
        return Vec::new();
    }
    let published = state.sandbox.as_ref().map(|sandbox| sandbox.ports());
    crate::network::port::list(&record.config, &published.unwrap_or_default())
}

/// Refuses a filter that no port can be, which would silently find nothing.
fn check_port(key: &str, wanted: &str) -> Result<(), Error> {
    let (range, _) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let refused = |reason: String| {
        Err(Error::invalid(format!(
            "error while looking up for {key} {wanted}: {reason}"
        )))
    };
    for number in [first, last] {
        if number.parse::<u16>().is_err() {
            return refused(format!(
                "strconv.ParseUint: parsing {number:?}: invalid syntax"
            ));
        }
    }
    if first.parse::<u16>().ok() > last.parse::<u16>().ok() {
        return refused(format!("invalid range specified for port: {range}"));
    }
    Ok(())
}

/// Whether a port is the one of a filter, or within it: `80`, `80/udp`,
/// `8000-8010/tcp`.
fn is_port(wanted: &str, number: u16, protocol: &str) -> bool {
    let (range, of) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return false;
    };
    of == protocol && (first..=last).contains(&number)
}

/// A set of filters, compiled.
struct Test<'a> {
    filters: &'a Filters,
    networks: &'a crate::network::Networks,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
    ancestors: Option<Vec<String>>,
    exited: Vec<i32>,
    /// There are none here: they are swarm's.
    wants_tasks: Option<bool>,
}

impl<'a> Test<'a> {
    /// By the name or the id of a network it asked for.
    fn is_on_network(&self, container: &Container, state: &State) -> bool {
        let asked = crate::network::settings::asked(&container.record, state);
        self.filters.get("network").any(|wanted| {
            asked.contains_key(wanted)
                || wanted == container.record.host_config.network_mode
                || self
                    .networks
                    .find(wanted)
                    .is_ok_and(|network| asked.contains_key(&network.name))
        })
    }

    fn new(engine: &'a Engine, filters: &'a Filters) -> Result<Test<'a>, Error> {
        for status in filters.get("status") {
            if !STATES.contains(&status) {
                return Err(InvalidFilter::Because {
                    key: "status".into(),
                    value: status.into(),
                    reason: format!(
                        "invalid value for state ({status}): must be one of created, running, \
                         paused, restarting, removing, exited, dead"
                    ),
                }
                .into());
            }
        }
        for health in filters.get("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health) {
                return Err(Error::invalid(format!("invalid filter 'health={health}'")));
            }
        }
        for key in ["publish", "expose"] {
            filters
                .get(key)
                .try_for_each(|wanted| check_port(key, wanted))?;
        }
        let regexes = |key: &str| -> Result<Vec<Regex>, Error> {
            let compile = |word: &str| {
                regex::RegexBuilder::new(word)
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|_| {
                        Error::from(InvalidFilter::Value {
                            key: key.into(),
                            value: word.into(),
                        })
                    })
            };
            filters.get(key).map(compile).collect()
        };
        let created = |key: &str| -> Result<Option<i64>, Error> {
            let mut times = Vec::new();
            for word in filters.get(key) {
                times.push(engine.inner.find(word)?.record.created_ns);
            }
            Ok(if key == "before" {
                times.into_iter().max()
            } else {
                times.into_iter().min()
            })
        };
        let ancestors = filters.contains("ancestor").then(|| {
            filters
                .get("ancestor")
                .filter_map(|w| engine.inner.images.id_of(w))
                .collect()
        });
        let mut exited = Vec::new();
        for code in filters.get("exited") {
            exited.push(code.parse().map_err(|_| {
                Error::from(InvalidFilter::Because {
                    key: "exited".into(),
                    value: code.into(),
                    reason: format!("strconv.Atoi: parsing {code:?}: invalid syntax"),
                })
            })?);
        }
        Ok(Test {
            filters,
            networks: &engine.inner.networks,
            names: regexes("name")?,
            ids: regexes("id")?,
            before_ns: created("before")?,
            since_ns: created("since")?,
            ancestors,
            exited,
            wants_tasks: filters.boolean("is-task")?,
        })
    }

    fn passes(&self, container: &Container, state: &State) -> bool {
        let record = &container.record;
        let one_of = |key: &str, test: &dyn Fn(&str) -> bool| {
            !self.filters.contains(key) || self.filters.get(key).any(test)
        };
        let name = container.name();
        let slashed = format!("/{name}");
        let matches_name = self.names.is_empty()
            || self
                .names
                .iter()
                .any(|r| r.is_match(&name) || r.is_match(&slashed));
        let matches_id = self.ids.is_empty() || self.ids.iter().any(|r| r.is_match(&record.id));
        let none = std::collections::BTreeMap::new();
        let labels = record.config.labels.as_ref().unwrap_or(&none);
        let any_port = |test: &dyn Fn(&Port) -> bool| ports(container, state).iter().any(test);
        matches_name
            && matches_id
            && one_of("status", &|s| s == state.status())
            && (self.exited.is_empty()
                || (state.status() == "exited" && self.exited.contains(&state.exit_code)))
            && self.before_ns.is_none_or(|t| record.created_ns < t)
            && self.since_ns.is_none_or(|t| record.created_ns > t)
            && self
                .ancestors
                .as_ref()
                .is_none_or(|a| a.contains(&record.image_id))
            && self.filters.label("label", labels)
            && (!self.filters.contains("network") || self.is_on_network(container, state))
            && one_of("health", &|h| {
                h == Health::summary(state.health.as_ref()).status
            })
            && self.wants_tasks != Some(true)
            && one_of("isolation", &|v| v == "default" || v.is_empty())
            && one_of("expose", &|wanted| {
                any_port(&|p| is_port(wanted, p.private_port, &p.protocol))
            })
            && one_of("publish", &|wanted| {
                any_port(&|p| p.public_port != 0 && is_port(wanted, p.public_port, &p.protocol))
            })
            && one_of("volume", &|v| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.name == v || m.source == v || m.destination == v)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_alone_or_in_a_range_of_its_protocol() {
        assert!(is_port("80", 80, "tcp") && is_port("80/tcp", 80, "tcp"));
        assert!(is_port("8000-8010", 8010, "tcp"));
        assert!(!is_port("80", 80, "udp") && !is_port("8000-8010", 8011, "tcp"));
        assert!(!is_port("http", 80, "tcp"));
        assert!(check_port("publish", "8000-8010/udp").is_ok());
        for word in ["http", "80-", "90-80", "70000"] {
            assert!(check_port("publish", word).is_err(), "{word}");
        }
    }

    #[test]
    fn arguments_with_a_space_are_shown_in_quotes() {
        let args = ["-c".to_owned(), "echo hi; exit 4".to_owned()];
        assert_eq!(command_line("sh", &args), "sh -c 'echo hi; exit 4'");
        assert_eq!(command_line("my prog", &[]), "my prog");
    }
}
