//! `commit`: what a container changed becomes a layer, and with its
//! configuration an image.
//!
//! A running container stands still meanwhile unless that is not wanted. A file
//! in its run directory says so from before it is frozen until it goes on, so
//! that an engine that comes back after a crash lets it go on.
//!
//! Source: moby `daemon/commit.go`; COMPAT D2.20.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_api::container::Config;
use conex_api::image::CommitOptions;
use conex_spec::image::ContainerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::changes::mount_points;
use super::state::Phase;
use super::{Container, merge};
use crate::engine::Inner;
use crate::image::{Commit, apply_change, parse_name};
use crate::{Engine, Error, ErrorKind};

/// In the run directory of a container that stands still for its commit.
const MARK: &str = "committing";

impl Engine {
    /// Makes an image of a container and gives its id. `given` is laid over the
    /// container's own configuration, the changes over that.
    ///
    /// Errors: conflict when the container is being removed; invalid parameter
    /// for a name, a change, or an image of too many layers. On an error
    /// nothing is left, and the container goes on.
    pub async fn container_commit(
        &self,
        options: CommitOptions,
        given: Option<Config>,
    ) -> Result<String, Error> {
        let container = self.inner.find(&options.container)?;
        check(&container)?;
        let name = parse_name(&options.repo, &options.tag)?;
        let config = new_config(&container.record.config, given, &options.changes)?;
        let parent = self.inner.images.find(&container.record.image_id)?;
        let commit = Commit {
            parent,
            name: name.clone(),
            config,
            author: options.author,
            comment: options.comment.clone(),
            created_by: container
                .record
                .config
                .cmd
                .clone()
                .unwrap_or_default()
                .join(" "),
        };
        let still = Still::begin(self, &container, options.pause).await?;
        let engine = Arc::clone(&self.inner);
        let committed = Arc::clone(&container);
        let made = tokio::task::spawn_blocking(move || engine.commit(&committed, commit))
            .await
            .map_err(|e| Error::system("commit the container", &e));
        still.end(self).await;
        let id = made??;
        let mut extra = vec![("comment", options.comment), ("imageID", id.clone())];
        extra.extend(name.map(|name| ("imageRef", name.familiar())));
        container.publish(&self.inner.events, "commit", &extra);
        Ok(id)
    }
}

impl Inner {
    /// Blocks.
    fn commit(&self, container: &Container, commit: Commit) -> Result<String, Error> {
        let record = &container.record;
        let difference = self.difference(record)?;
        let points = mount_points(record);
        // A removal deletes files under the walk: what was packed until then
        // would be an image of half a container.
        let still_there = || check(container);
        self.commit_image(difference, points, commit, &still_there)
    }
}

fn check(container: &Container) -> Result<(), Error> {
    let (state, id) = (container.state(), container.id());
    let why = match state.phase {
        Phase::Dead => "is Dead",
        _ if state.removed => "is being removed",
        Phase::Removing => "is being removed",
        _ => return Ok(()),
    };
    Err(Error::conflict(format!(
        "You cannot commit container {id} which {why}"
    )))
}

/// The container's configuration under what was given, without what only a
/// container has.
fn new_config(
    own: &Config,
    given: Option<Config>,
    changes: &[String],
) -> Result<ContainerConfig, Error> {
    let own_config: ContainerConfig = as_written(own)?;
    let mut config: ContainerConfig = match &given {
        Some(given) => as_written(given)?,
        None => own_config.clone(),
    };
    for line in changes {
        apply_change(&mut config, line)?;
    }
    let mut merged: Config = as_written(&config)?;
    merge::merge(&mut merged, Some(&own_config))?;
    let on_build = config.on_build;
    let mut config: ContainerConfig = as_written(&merged)?;
    config.on_build = on_build;
    Ok(config)
}

/// Both kinds of configuration speak the same JSON.
fn as_written<T: DeserializeOwned>(config: &impl Serialize) -> Result<T, Error> {
    serde_json::to_value(config)
        .and_then(serde_json::from_value)
        .map_err(|e| Error::system("read the container's config", &e))
}

/// A container that stands still, if it was to.
struct Still {
    name: Option<String>,
    mark: PathBuf,
}

impl Still {
    async fn begin(engine: &Engine, container: &Container, wanted: bool) -> Result<Self, Error> {
        let mut still = Self {
            name: None,
            mark: container.run_dir.join(MARK),
        };
        let state = container.state();
        if !wanted || !state.is_running() || state.is_paused() {
            return Ok(still);
        }
        std::fs::write(&still.mark, b"")
            .map_err(|e| Error::system("pause the container for its commit", &e))?;
        match engine.container_pause(container.id()).await {
            Ok(()) => still.name = Some(container.id().to_owned()),
            // It ended, or somebody else paused it.
            Err(error) if error.kind() == ErrorKind::Conflict => still.unmark(),
            Err(error) => {
                still.unmark();
                return Err(error);
            }
        }
        Ok(still)
    }

    async fn end(mut self, engine: &Engine) {
        if let Some(name) = self.name.take() {
            // Killed or let go by others meanwhile.
            if let Err(error) = engine.container_unpause(&name).await {
                tracing::debug!(container = name, %error, "not unpaused after its commit");
            }
            self.unmark();
        }
    }

    fn unmark(&self) {
        let _gone_with_the_run = std::fs::remove_file(&self.mark).is_err();
    }
}

/// Whether a container was frozen for a commit that an engine did not end; asks
/// once.
pub(super) fn was_cut_short(run_dir: &Path) -> bool {
    std::fs::remove_file(run_dir.join(MARK)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_given_lies_over_the_containers_and_changes_over_that() {
        let own = config(
            r#"{"Hostname":"h","Cmd":["sh","-c","x"],"Env":["A=b","P=q"],"Labels":{"x":"y"},
                "ExposedPorts":{"80/tcp":{}},"User":"u","OnBuild":["RUN x"],"Tty":true}"#,
        );
        let given = config(r#"{"Labels":{"a":"b"},"Env":["A=c"]}"#);
        let changes = ["CMD true".to_owned(), "EXPOSE 53/udp".to_owned()];
        let made = new_config(&own, Some(given), &changes).unwrap();
        assert_eq!(made.cmd.unwrap(), ["/bin/sh", "-c", "true"]);
        assert_eq!(made.env, ["A=c", "P=q"]);
        assert_eq!(
            (made.labels["a"].as_str(), made.labels["x"].as_str()),
            ("b", "y")
        );
        assert_eq!(made.exposed_ports.len(), 2);
        assert_eq!(made.user, "u");
        assert!(made.on_build.is_empty());
        let alike = new_config(&own, None, &[]).unwrap();
        assert_eq!(alike.cmd.unwrap(), ["sh", "-c", "x"]);
        assert_eq!(alike.on_build, ["RUN x"]);
    }

    #[test]
    fn an_entrypoint_of_the_changes_takes_the_command_away() {
        let own = config(r#"{"Cmd":["x"],"Entrypoint":["/e"]}"#);
        let made = new_config(&own, None, &["ENTRYPOINT [\"/new\"]".to_owned()]).unwrap();
        assert_eq!(made.entrypoint.unwrap(), ["/new"]);
        assert_eq!(made.cmd, None);
    }
}
