//! What restart policies ask of a new engine: all at once, but each after those it
//! stands on (COMPAT D2.9).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::Container;
use crate::Engine;
use crate::engine::Inner;

/// Starts containers; returns at once.
pub(super) fn start_all(engine: &Arc<Inner>, containers: Vec<Arc<Container>>) {
    let places: HashMap<&str, usize> = containers
        .iter()
        .enumerate()
        .map(|(place, container)| (container.id(), place))
        .collect();
    let needs: Vec<Vec<usize>> = containers
        .iter()
        .map(|container| {
            let words = needed(container);
            let found = words.filter_map(|word| engine.find(word).ok());
            found
                .filter_map(|other| places.get(other.id()).copied())
                .collect()
        })
        .collect();
    let (tried, awaited): (Vec<_>, Vec<_>) =
        containers.iter().map(|_| watch::channel(false)).unzip();
    let needs = without_circles(needs);
    for ((container, needs), tried) in containers.into_iter().zip(needs).zip(tried) {
        let api = Engine {
            inner: Arc::clone(engine),
        };
        let needs: Vec<_> = needs.iter().map(|place| awaited[*place].clone()).collect();
        tokio::spawn(async move {
            for mut need in needs {
                // One that could not be started was tried all the same.
                need.wait_for(|tried| *tried).await.ok();
            }
            if let Err(error) = api.container_start(container.id()).await {
                tracing::warn!(container = container.id(), %error, "not restarted");
            }
            tried.send_replace(true);
        });
    }
}

/// Words for the containers without which this one cannot be started.
fn needed(container: &Container) -> impl Iterator<Item = &str> {
    let host = &container.record.host_config;
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
    let joined = modes
        .into_iter()
        .filter_map(|mode| mode.strip_prefix("container:"));
    let links = host.links.iter().flatten();
    joined.chain(links.map(|link| link.split(':').next().unwrap_or(link)))
}

/// Whom each waits for, such that nobody waits for itself by whatever way.
fn without_circles(needs: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Under,
        Done,
    }
    let mut visits = vec![Visit::Not; needs.len()];
    let mut kept = vec![Vec::new(); needs.len()];
    for first in 0..needs.len() {
        // Each with how many of its needs were looked at.
        let mut path = vec![(first, 0)];
        while let Some((place, at)) = path.pop() {
            if at == 0 && visits[place] == Visit::Done {
                continue;
            }
            visits[place] = Visit::Under;
            let Some(next) = needs[place].get(at).copied() else {
                visits[place] = Visit::Done;
                continue;
            };
            path.push((place, at + 1));
            if visits[next] != Visit::Under {
                kept[place].push(next);
            }
            if visits[next] == Visit::Not {
                path.push((next, 0));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_waits_for_what_it_needs_and_nobody_for_itself() {
        let chain = vec![vec![1, 2], vec![2], vec![]];
        assert_eq!(without_circles(chain.clone()), chain);
        assert_eq!(without_circles(vec![vec![0]]), [vec![0; 0]]);
        // The last step of a circle is left out.
        let circle = without_circles(vec![vec![1], vec![2], vec![0], vec![0]]);
        assert_eq!(circle, [vec![1], vec![2], vec![], vec![0]]);
    }
}
