//! What a new engine finds: containers that ran on without it, others that
//! ended, and leftovers of a crash.
//!
//! For every record: its monitor answers (adopt it), or it left an exit record
//! (apply it), or nothing is known (the host rebooted, or monitor and
//! container were killed: end what is left, record it). Then the disk: a record
//! without a directory finishes its removal, a container directory without a
//! record is adopted again, other strangers go to `lost/`.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conex_layers::driver::Listed;
use conex_monitor::protocol::{Event, Started};
use conex_monitor::{ExitRecord, Link};
use conex_store::records::containers::{self, ContainerRecord};
use rustix::io::Errno;

use super::health::{Check, Health};
use super::state::{Change, Phase, State};
use super::task::Monitored;
use super::{Container, Record, boot, task};
use crate::engine::{Inner, OpenError};
use crate::network::{Sandbox, Survivor};
use crate::time::now_ns;

/// How long monitors may take to greet, all of them together. One that is just
/// starting its container greets when it is done.
const PATIENCE: Duration = Duration::from_secs(30);

/// One container as it was found.
struct Found {
    record: Record,
    name: String,
    state: State,
    /// The state differs from the one in the database.
    changed: bool,
    monitor: Option<(Link, OwnedFd)>,
}

impl Found {
    fn survivor(&self) -> Option<Survivor<'_>> {
        Some(Survivor {
            record: &self.record,
            name: &self.name,
            state: &self.state,
            sandbox: self.state.sandbox.as_ref()?,
            process: self.monitor.as_ref().map(|(_, process)| process.as_fd()),
        })
    }
}

/// Brings every container back.
pub(crate) async fn restore(engine: &Arc<Inner>) -> Result<(), OpenError> {
    let worker = Arc::clone(engine);
    let found = tokio::task::spawn_blocking(move || {
        let found = find_all(&worker)?;
        // Places on networks are known before anybody may take one.
        let survivors: Vec<Survivor<'_>> = found.iter().filter_map(Found::survivor).collect();
        worker.restore_networks(&survivors)?;
        Ok::<_, OpenError>(found)
    })
    .await
    .map_err(std::io::Error::other)??;
    for found in &found {
        let names = found.record.volume_names();
        let is_running = found.state.is_running();
        engine.volumes.adopt(&found.record.id, names, is_running);
    }
    let worker = Arc::clone(engine);
    tokio::task::spawn_blocking(move || worker.volumes.unmount_idle())
        .await
        .map_err(std::io::Error::other)?;
    let mut to_start = Vec::new();
    for found in found {
        let monitored = match found.monitor {
            Some((link, pidfd)) => Some(Monitored::new(link, pidfd)?),
            None => None,
        };
        if found.changed
            && let Err(error) = engine.save_state(&found.record.id, &found.state).await
        {
            tracing::error!(container = found.record.id, %error, "state not saved");
        }
        let container = task::spawn(engine, found.record, found.name, found.state, monitored);
        engine.table_mut().insert(Arc::clone(&container));
        if resume(engine, &container).await {
            to_start.push(container);
        }
    }
    boot::start_all(engine, to_start);
    Ok(())
}

/// Whether a policy asks for the start of a container that ended while nobody looked. One that
/// its end removes is removed.
async fn resume(engine: &Arc<Inner>, container: &Arc<Container>) -> bool {
    let state = container.state();
    let host = container.host_config();
    if state.is_running() {
        return false;
    }
    let api = crate::Engine {
        inner: Arc::clone(engine),
    };
    let id = container.id().to_owned();
    if host.auto_remove && state.phase != Phase::Created {
        let options = conex_api::container::RemoveOptions {
            force: true,
            volumes: true,
            link: false,
        };
        if let Err(error) = api.container_remove(&id, options).await {
            tracing::warn!(container = id, %error, "not removed");
        }
        return false;
    }
    match host.restart_policy.name.as_str() {
        // `docker stop` suppresses it only until the daemon restarts (D2.8).
        "always" => state.started_ns != 0,
        "unless-stopped" => state.started_ns != 0 && !state.stopped_by_user,
        "on-failure" => {
            state.phase != Phase::Created && state.exit_code != 0 && !state.stopped_by_user
        }
        _ => false,
    }
}

fn find_all(engine: &Inner) -> Result<Vec<Found>, OpenError> {
    let rows = engine.state_db.run(containers::load_all)?;
    let runs = names_in(&engine.root.container_runs())?;
    let mut seen = BTreeSet::new();
    let mut knocked = Vec::new();
    for row in rows {
        if !engine.root.container(&row.id).is_dir() {
            finish_removal(engine, &row)?;
            continue;
        }
        seen.insert(row.id.clone());
        let record: Record = match serde_json::from_str(&row.config) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(container = row.id, %error, "its record is damaged, it is left alone");
                continue;
            }
        };
        let state: State = serde_json::from_str(&row.state).unwrap_or_default();
        // All are asked before the first answer is waited for.
        let run_dir = engine.root.container_run(&row.id);
        let may_run = runs.contains(&row.id) || state.is_running();
        let link = may_run.then(|| knock(&run_dir));
        knocked.push((record, row.name, state, link));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut found: Vec<Found> = knocked
        .into_iter()
        .map(|(record, name, state, link)| {
            let run_dir = engine.root.container_run(&record.id);
            let answer = link.map(|link| greeting(link, &run_dir, deadline));
            look_at(engine, record, name, state, answer)
        })
        .collect();
    adopt_strangers(engine, &seen, &runs, &mut found)?;
    Ok(found)
}

/// What a monitor said, with its link and the pidfd of its container.
type Greeting = (Started, Link, OwnedFd);

/// `answer` is that of its monitor, if there may be one.
fn look_at(
    engine: &Inner,
    record: Record,
    name: String,
    before: State,
    answer: Option<Option<Greeting>>,
) -> Found {
    let mut state = before.clone();
    let mut monitor = None;
    if matches!(state.phase, Phase::Removing | Phase::Restarting) {
        // Neither outlives its engine: the removal is asked for again, and a
        // policy decides anew.
        state.phase = Phase::Exited;
    }
    let run_dir = engine.root.container_run(&record.id);
    if let Some(answer) = answer {
        match answer {
            Some((hello, link, pidfd)) => {
                let sandbox = Sandbox::load(&run_dir).map(Arc::new);
                let started = Change::Started {
                    pid: hello.pid,
                    at_ns: hello.started_ns,
                    sandbox: sandbox.clone(),
                };
                state = match state.after(started) {
                    Ok(started) => started,
                    // It was known to run.
                    Err(_) => State {
                        pid: hello.pid,
                        started_ns: hello.started_ns,
                        sandbox,
                        ..state
                    },
                };
                if super::commit::was_cut_short(&run_dir)
                    && let Err(error) = engine.set_frozen(&record, false)
                {
                    tracing::warn!(container = record.id, %error, "it stays frozen after a commit");
                }
                state.paused = engine.is_frozen(&record);
                if state.health.is_none() && Check::of(&record.config).is_some() {
                    state.health = Some(Health::starting());
                }
                monitor = Some((link, pidfd));
            }
            None => state = ended(engine, &record, state, &run_dir),
        }
    }
    let changed = state != before;
    Found {
        record,
        name,
        state,
        changed,
        monitor,
    }
}

/// The state of a container whose monitor does not answer.
fn ended(engine: &Inner, record: &Record, state: State, run_dir: &Path) -> State {
    let was_cut_short = engine.clear_run(record);
    if let Some(exit) = ExitRecord::read(run_dir).filter(|exit| is_news(exit, &state)) {
        let running = State {
            phase: Phase::Running,
            started_ns: exit.started_ns,
            ..state.clone()
        };
        let change = Change::Exited {
            exit_code: exit.exit_code,
            oom_killed: exit.oom_killed,
            at_ns: exit.finished_ns,
        };
        return running.after(change).unwrap_or(state);
    }
    if !state.is_running() {
        return state;
    }
    let (exit_code, error) = match was_cut_short {
        true => (
            137,
            "the container's monitor was killed, so the container was ended",
        ),
        false => (255, "the host was restarted while the container ran"),
    };
    let change = Change::Lost {
        exit_code,
        error: error.into(),
        at_ns: now_ns(),
    };
    state.after(change).unwrap_or(state)
}

/// Whether an exit record tells more than the state knows: the container may
/// have been started, and have ended, before that was written down; and the
/// record of an end that is known stays until the next start.
fn is_news(exit: &ExitRecord, state: &State) -> bool {
    exit.started_ns > state.started_ns
        || (state.is_running() && exit.started_ns == state.started_ns)
}

/// Connects to a monitor, if there is one.
fn knock(run_dir: &Path) -> Result<Link, Errno> {
    Link::connect(run_dir, PATIENCE)
}

/// Takes a monitor's greeting. One that is there and says nothing in time is killed: it would go
/// on writing where the next one writes.
fn greeting(link: Result<Link, Errno>, run_dir: &Path, deadline: Instant) -> Option<Greeting> {
    let silent = || crate::process::kill_monitor(&dir_name(run_dir));
    let link = match link {
        Ok(link) => link,
        Err(Errno::AGAIN) => {
            silent();
            return None;
        }
        Err(_) => return None,
    };
    // Past the deadline what was said before is still heard.
    let left = deadline.saturating_duration_since(Instant::now());
    let patience = left.max(Duration::from_millis(1));
    let heard = link
        .set_patience(patience)
        .map_err(Into::into)
        .and_then(|()| link.receive_event());
    match heard {
        Ok((Event::Hello(hello), mut fds)) => Some((hello, link, fds.pop()?)),
        Err(error) if Link::is_timeout(&error) => {
            silent();
            None
        }
        _ => None,
    }
}

/// A record without a directory: the rest of its removal, or of its making,
/// which was cut short.
fn finish_removal(engine: &Inner, row: &ContainerRecord) -> Result<(), OpenError> {
    let id = row.id.clone();
    if engine.root.draft(&id).exists()
        && let Ok(record) = serde_json::from_str::<Record>(&row.config)
    {
        // It was never made, so its volumes were never anybody's.
        engine.drop_volumes(&record);
    }
    match engine.driver.discard(&Inner::layer_id(&id)) {
        Ok(discarded) => crate::image::delete_behind(discarded),
        Err(error) => tracing::warn!(container = id, %error, "its layer is left"),
    }
    engine.state_db.run(move |db| containers::delete(db, &id))?;
    Ok(())
}

fn adopt_strangers(
    engine: &Inner,
    known: &BTreeSet<String>,
    runs: &BTreeSet<String>,
    found: &mut Vec<Found>,
) -> Result<(), OpenError> {
    let mut ids = known.clone();
    for name in names_in(&engine.root.containers())? {
        if known.contains(&name) {
            continue;
        }
        let dir = engine.root.container(&name);
        match adopt(engine, &dir, &name) {
            Some(record) => {
                tracing::warn!(container = name, "its record was lost and is made anew");
                ids.insert(name.clone());
                let name = record.name.clone();
                let answer = runs.contains(&record.id).then(|| {
                    let run_dir = engine.root.container_run(&record.id);
                    greeting(knock(&run_dir), &run_dir, Instant::now() + PATIENCE)
                });
                found.push(look_at(engine, record, name, State::default(), answer));
            }
            None => set_aside(engine, &dir),
        }
    }
    for name in runs.difference(&ids) {
        let dir = engine.root.container_run(name);
        match greeting(knock(&dir), &dir, Instant::now() + PATIENCE) {
            None => {
                let _left = std::fs::remove_dir_all(&dir).is_err();
            }
            Some((hello, ..)) => {
                tracing::error!(
                    container = name,
                    pid = hello.pid,
                    "it runs without a record"
                );
            }
        }
    }
    remove_strange_layers(engine, &ids)
}

fn dir_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Makes a record from a container directory's own config, unless it is not
/// one or its name is taken.
fn adopt(engine: &Inner, dir: &Path, id: &str) -> Option<Record> {
    let json = conex_store::persist::read_limited(&dir.join("config.json"), 16 << 20).ok()?;
    let mut record: Record = serde_json::from_slice(&json).ok()?;
    if record.id != id {
        return None;
    }
    let insert = |name: &str| {
        let row = ContainerRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            created_ns: record.created_ns,
            config: String::from_utf8_lossy(&json).into_owned(),
            state: serde_json::to_string(&State::default()).unwrap_or_default(),
        };
        engine
            .state_db
            .run(move |db| containers::insert(db, &row))
            .is_ok()
    };
    if !insert(&record.name) {
        let name = crate::id::short(id).to_owned();
        if !insert(&name) {
            return None;
        }
        record.name = name;
    }
    Some(record)
}

fn set_aside(engine: &Inner, path: &Path) {
    match engine.root.set_aside(path) {
        Ok(place) => {
            let (path, place) = (path.display(), place.display());
            tracing::warn!(%path, %place, "not ours to delete: moved");
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "a stranger stays"),
    }
}

/// Layers nobody knows: an image's is rebuilt by the next load and removed, a
/// container's may hold work and is kept in `lost`.
fn remove_strange_layers(engine: &Inner, containers: &BTreeSet<String>) -> Result<(), OpenError> {
    let Ok(layers) = engine.driver.list() else {
        return Ok(());
    };
    let known = engine.images.layer_directories();
    for Listed {
        id: layer,
        is_container,
    } in layers
    {
        let name = layer.as_str();
        if containers.contains(name) || known.contains(name) {
            continue;
        }
        let path = engine
            .root
            .data()
            .join(engine.driver.kind().name())
            .join(name);
        if is_container {
            set_aside(engine, &path);
            continue;
        }
        match engine.driver.discard(&layer) {
            Ok(discarded) => crate::image::delete_behind(discarded),
            Err(error) => tracing::warn!(layer = name, %error, "a layer without a record is left"),
        }
    }
    Ok(())
}

fn names_in(dir: &Path) -> Result<BTreeSet<String>, OpenError> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_record_is_applied_once() {
        let exit = |started_ns| ExitRecord {
            id: "c".into(),
            pid: 7,
            exit_code: 3,
            oom_killed: false,
            started_ns,
            finished_ns: started_ns + 1,
        };
        let state = |phase, started_ns| State {
            phase,
            started_ns,
            ..State::default()
        };
        assert!(is_news(&exit(5), &state(Phase::Running, 5)));
        assert!(!is_news(&exit(5), &state(Phase::Exited, 5)));
        // A start that was never written down, and one whose record is older.
        assert!(is_news(&exit(5), &state(Phase::Created, 0)));
        assert!(is_news(&exit(5), &state(Phase::Exited, 4)));
        assert!(!is_news(&exit(5), &state(Phase::Running, 6)));
    }
}
