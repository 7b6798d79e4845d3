//! `conex stats`: what containers use, in a table that is drawn anew every second on a
//! terminal and printed anew elsewhere.
//!
//! ```text
//!  one task a container ──samples──► shared figures ──every second──► table
//!  events (start, die, rename, …) ──► who is in it
//! ```

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conex_api::container::{Stats, Summary};
use conex_client::{Client, query, segment};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::listing::{self, Listing, short_id};
use crate::template::Row;
use crate::units;

/// Shows what containers use.
pub static COMMAND: Command = Command {
    about: "Display a live stream of container(s) resource usage statistics",
    usage: "[OPTIONS] [CONTAINER...]",
    spellings: &["container stats", "stats"],
    flags: &[FLAGS],
    args: Args::Any,
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all containers (default shows just running)").short('a'),
    Flag::string("format", listing::FORMAT_HELP),
    Flag::bool(
        "no-stream",
        "Disable streaming stats and only pull the first result",
    ),
    Flag::bool("no-trunc", "Do not truncate output"),
];

/// Between two tables.
const PERIOD: Duration = Duration::from_secs(1);

const DEFAULT_TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

const HEADERS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let format = match matches.str("format") {
        "" => match ctx.config().stats_format.as_str() {
            "" => DEFAULT_TABLE,
            own => own,
        },
        listing::TABLE => DEFAULT_TABLE,
        given => given,
    };
    let listing = Listing::new(format)?;
    let client = Client::clone(&*ctx.client()?);
    let shows = Shows {
        all: matches.bool("all"),
        shorten: !matches.bool("no-trunc"),
        named: matches.args().to_vec(),
    };
    let runtime = ctx.runtime();
    runtime.block_on(async {
        if matches.bool("no-stream") {
            return once(ctx, &client, &shows, &listing).await;
        }
        stream(ctx, &client, &shows, &listing).await
    })
}

/// Which containers are shown, and how.
struct Shows {
    all: bool,
    shorten: bool,
    /// Empty means those there are.
    named: Vec<String>,
}

impl Shows {
    /// Words for the containers that are shown now.
    async fn words(&self, client: &Client) -> Result<Vec<String>, CliError> {
        if !self.named.is_empty() {
            return Ok(self.named.clone());
        }
        let all = if self.all { "1" } else { "0" };
        let path = format!("/containers/json{}", query(&[("all", all)]));
        let list: Vec<Summary> = client.get_json(&path).await?;
        Ok(list.into_iter().map(|container| container.id).collect())
    }

    fn row(&self, word: &str, stats: Stats) -> StatsRow {
        StatsRow {
            word: word.to_owned(),
            stats,
            shorten: self.shorten,
        }
    }
}

/// All are asked side by side, since each answer takes the engine a period.
async fn once(
    ctx: &mut Context,
    client: &Client,
    shows: &Shows,
    listing: &Listing,
) -> Result<ExitCode, CliError> {
    let words = shows.words(client).await?;
    let asked = words.iter().map(async |word| {
        let path = format!("/containers/{}/stats?stream=0", segment(word));
        client.get_json::<Stats>(&path).await
    });
    let answers = join_all(asked).await;
    let mut rows = Vec::new();
    for (word, answer) in words.iter().zip(answers) {
        match answer {
            Ok(stats) => rows.push(shows.row(word, stats)),
            // One that nobody named may have gone meanwhile.
            Err(_) if shows.named.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The last sample of every container shown, in the order they came.
#[derive(Default)]
struct Figures {
    order: Vec<String>,
    samples: HashMap<String, Stats>,
}

type Shared = Arc<Mutex<Figures>>;

fn locked(figures: &Shared) -> std::sync::MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows one container until it is gone; then it is no longer shown.
fn follow(client: Client, word: String, figures: Shared) -> JoinHandle<Result<(), CliError>> {
    tokio::spawn(async move {
        let path = format!("/containers/{}/stats", segment(&word));
        let result = async {
            let mut samples = client.get_messages::<Stats>(&path).await?;
            while let Some(sample) = samples.next().await {
                locked(&figures).samples.insert(word.clone(), sample?);
            }
            Ok(())
        };
        let ended = result.await;
        let mut figures = locked(&figures);
        figures.samples.remove(&word);
        figures.order.retain(|other| *other != word);
        ended
    })
}

async fn stream(
    ctx: &mut Context,
    client: &Client,
    shows: &Shows,
    listing: &Listing,
) -> Result<ExitCode, CliError> {
    let figures = Shared::default();
    let mut followed: HashMap<String, JoinHandle<Result<(), CliError>>> = HashMap::new();
    let filters = r#"{"type":["container"],"event":["create","start","die","destroy"]}"#;
    let path = format!("/events{}", query(&[("filters", filters)]));
    let mut events = client.get_messages::<Value>(&path).await?;
    let mut ticks = tokio::time::interval(PERIOD);
    let mut changed = true;
    loop {
        if std::mem::take(&mut changed) {
            let words = shows.words(client).await?;
            // Those that left the list.
            followed.retain(|word, task| {
                let stays = words.contains(word);
                if !stays {
                    task.abort();
                    let mut figures = locked(&figures);
                    figures.samples.remove(word);
                    figures.order.retain(|other| other != word);
                }
                stays
            });
            for word in words {
                if followed.contains_key(&word) {
                    continue;
                }
                locked(&figures).order.push(word.clone());
                let task = follow(client.clone(), word.clone(), Arc::clone(&figures));
                followed.insert(word, task);
            }
        }
        tokio::select! {
            _ = ticks.tick() => {
                if !shows.named.is_empty() && followed.values().all(JoinHandle::is_finished) {
                    // Nothing is left of what was asked for, or it was never there.
                    for (_, task) in followed {
                        task.await.unwrap_or(Ok(()))?;
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                draw(ctx, shows, listing, &figures)?;
            }
            event = events.next() => match event {
                Some(event) => {
                    event?;
                    changed = shows.named.is_empty();
                }
                None => return Ok(ExitCode::SUCCESS),
            },
        }
    }
}

fn draw(
    ctx: &mut Context,
    shows: &Shows,
    listing: &Listing,
    figures: &Shared,
) -> Result<(), CliError> {
    let rows: Vec<StatsRow> = {
        let figures = locked(figures);
        let shown = figures.order.iter();
        let sample = |word: &String| figures.samples.get(word).cloned().unwrap_or_default();
        shown.map(|word| shows.row(word, sample(word))).collect()
    };
    if ctx.out.is_terminal() {
        // Home, and everything below goes.
        write!(ctx.out, "\x1b[H\x1b[J")?;
    }
    listing.print(&mut ctx.out, HEADERS, &rows)?;
    ctx.out.flush()?;
    Ok(())
}

/// One container in the table.
struct StatsRow {
    word: String,
    stats: Stats,
    shorten: bool,
}

impl StatsRow {
    fn id(&self) -> &str {
        let id = self.stats.id.as_str();
        let id = if id.is_empty() { &self.word } else { id };
        if self.shorten { short_id(id) } else { id }
    }

    /// Its share of one processor since the sample before, in percent.
    fn cpu_percent(&self) -> f64 {
        let (now, before) = (&self.stats.cpu_stats, &self.stats.precpu_stats);
        let spent = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
        let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
        if before.system_cpu_usage == 0 || passed <= 0.0 || spent <= 0.0 {
            return 0.0;
        }
        let online = match now.online_cpus {
            0 => now.cpu_usage.percpu_usage.len() as f64,
            online => f64::from(online),
        };
        spent / passed * online * 100.0
    }

    /// Memory without the part of the page cache that goes first.
    fn memory(&self) -> u64 {
        let memory = &self.stats.memory_stats;
        let cache = ["total_inactive_file", "inactive_file"]
            .iter()
            .find_map(|key| memory.stats.get(*key))
            .copied()
            .unwrap_or(0);
        if cache < memory.usage {
            memory.usage - cache
        } else {
            memory.usage
        }
    }

    fn memory_percent(&self) -> f64 {
        match self.stats.memory_stats.limit {
            0 => 0.0,
            limit => self.memory() as f64 / limit as f64 * 100.0,
        }
    }

    fn network(&self) -> String {
        let (mut received, mut sent) = (0, 0);
        for interface in self.stats.networks.iter().flat_map(|all| all.values()) {
            received += interface.rx_bytes;
            sent += interface.tx_bytes;
        }
        pair(received, sent)
    }

    fn block_io(&self) -> String {
        let entries = &self.stats.blkio_stats.io_service_bytes_recursive;
        let (mut read, mut written) = (0, 0);
        for entry in entries.iter().flatten() {
            match entry.op.as_bytes().first() {
                Some(b'r' | b'R') => read += entry.value,
                Some(b'w' | b'W') => written += entry.value,
                _ => {}
            }
        }
        pair(read, written)
    }
}

fn pair(one: u64, other: u64) -> String {
    let size = |bytes: u64| units::short_size(bytes as f64);
    format!("{} / {}", size(one), size(other))
}

impl Row for StatsRow {
    fn type_name(&self) -> &'static str {
        "*container.statsContext"
    }

    fn field(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let memory = &self.stats.memory_stats;
        let text = match name {
            "Container" => self.word.clone(),
            "ID" => self.id().to_owned(),
            "Name" => match self.stats.name.trim_start_matches('/') {
                "" => "--".to_owned(),
                name => name.to_owned(),
            },
            "CPUPerc" => format!("{:.2}%", self.cpu_percent()),
            "MemUsage" => format!(
                "{} / {}",
                units::binary_size(self.memory() as f64),
                units::binary_size(memory.limit as f64)
            ),
            "MemPerc" => format!("{:.2}%", self.memory_percent()),
            "NetIO" => self.network(),
            "BlockIO" => self.block_io(),
            "PIDs" => self.stats.pids_stats.current.to_string(),
            _ => return None,
        };
        Some(Ok(Value::String(text)))
    }

    fn to_json(&self) -> Value {
        let names = [
            "BlockIO",
            "CPUPerc",
            "Container",
            "ID",
            "MemPerc",
            "MemUsage",
            "Name",
            "NetIO",
            "PIDs",
        ];
        let fields = names.iter().filter_map(|name| {
            let value = self.field(name, &[])?.ok()?;
            Some(((*name).to_owned(), value))
        });
        Value::Object(fields.collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row() -> StatsRow {
        let stats = serde_json::from_str(
            r#"{"id": "18a4bf6a296f296272530151f4d8b06e", "name": "/g1",
            "cpu_stats": {"cpu_usage": {"total_usage": 110870755},
                "system_cpu_usage": 17506790000000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 89208855},
                "system_cpu_usage": 17504780000000},
            "memory_stats": {"usage": 2592768, "limit": 67108864,
                "stats": {"total_inactive_file": 372736}},
            "networks": {"eth0": {"rx_bytes": 736, "tx_bytes": 126}},
            "pids_stats": {"current": 1},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 1982464}, {"op": "Write", "value": 0},
                {"op": "Total", "value": 1982464}]}}"#,
        );
        StatsRow {
            word: "g1".into(),
            stats: stats.unwrap(),
            shorten: true,
        }
    }

    #[test]
    fn figures_are_computed_as_docker_does() {
        let row = row();
        let text = |name: &str| row.field(name, &[]).unwrap().unwrap();
        for (name, expected) in [
            ("ID", "18a4bf6a296f"),
            ("Name", "g1"),
            ("CPUPerc", "2.16%"),
            ("MemUsage", "2.117MiB / 64MiB"),
            ("MemPerc", "3.31%"),
            ("NetIO", "736B / 126B"),
            ("BlockIO", "1.98MB / 0B"),
            ("PIDs", "1"),
        ] {
            assert_eq!(text(name), expected, "{name}");
        }
        assert_eq!(row.to_json()["CPUPerc"], "2.16%");
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing() {
        let row = StatsRow {
            stats: Stats::default(),
            ..row()
        };
        let text = |name: &str| row.field(name, &[]).unwrap().unwrap();
        assert_eq!(text("CPUPerc"), "0.00%");
        assert_eq!(text("MemUsage"), "0B / 0B");
        assert_eq!((text("Name"), text("ID")), ("--".into(), "g1".into()));
    }
}
