//! `inspect`: a snapshot in the API's shape.

use conex_api::container::{Inspect, State as ApiState};

use super::health::Health;
use super::state::Phase;
use super::{Record, State};
use crate::engine::Inner;
use crate::time::rfc3339;
use crate::{Engine, Error};

impl Engine {
    /// Everything about a container; `size` also counts its files.
    pub fn container_inspect(&self, name: &str, size: bool) -> Result<Inspect, Error> {
        let container = self.inner.find(name)?;
        let record = &container.record;
        let state = container.state();
        // The files are made by the first start, even by one that fails.
        let was_started = state.started_ns != 0 || !state.error.is_empty();
        let log = record.log_path.as_ref().filter(|_| was_started);
        let file = |name: &str| {
            let path = container.dir.join(name);
            if was_started {
                path.display().to_string()
            } else {
                String::new()
            }
        };
        let (size_rw, size_root_fs) = match size {
            true => self
                .inner
                .sizes(record)
                .map(|(rw, root)| (Some(rw), Some(root)))?,
            false => (None, None),
        };
        Ok(Inspect {
            id: record.id.clone(),
            created: rfc3339(record.created_ns),
            path: record.path.clone(),
            args: record.args.clone(),
            state: api_state(&state),
            image: record.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: log.map(|p| p.display().to_string()).unwrap_or_default(),
            name: format!("/{}", container.name()),
            restart_count: state.restart_count.into(),
            driver: record.driver.clone(),
            platform: "linux".into(),
            host_config: conex_api::container::HostConfig {
                links: self.inner.shown_links(&container),
                ..container.host_config().into_owned()
            },
            graph_driver: Some(self.inner.graph_driver(record)),
            size_rw,
            size_root_fs,
            mounts: record.mounts.clone(),
            exec_ids: Some(self.inner.execs.of_container(container.id()))
                .filter(|ids| !ids.is_empty()),
            config: record.config.clone(),
            network_settings: self.inner.network_settings(&container, &state),
            ..Inspect::default()
        })
    }
}

fn api_state(state: &State) -> ApiState {
    ApiState {
        status: state.status().into(),
        running: state.is_running() || state.phase == Phase::Restarting,
        paused: state.is_paused(),
        restarting: state.phase == Phase::Restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == Phase::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: rfc3339(state.started_ns),
        finished_at: rfc3339(state.finished_ns),
        health: state.health.as_ref().map(Health::shown),
    }
}

impl Inner {
    /// Bytes of a container's own layer, and of its whole root.
    pub(super) fn sizes(&self, record: &Record) -> Result<(i64, i64), Error> {
        let usage = self
            .driver
            .usage(&Inner::layer_id(&record.id))
            .map_err(|e| Error::system("count the container's files", &e))?;
        let own = usage.bytes as i64;
        Ok((own, own + self.images.size_of(&record.image_id)))
    }
}
