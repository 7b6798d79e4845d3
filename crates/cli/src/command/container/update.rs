//! `conex update`: changes limits and restart policy of containers.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::{HostConfig, UpdateResponse};
use conex_client::segment;

use super::options::{self, policy, resource};
use super::several;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Kind, Matches};

/// Changes containers.
pub static COMMAND: Command = Command {
    about: "Update configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container update", "update"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::new(
        Kind::Uint,
        "blkio-weight",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    Flag::int(
        "cpu-period",
        "Limit CPU CFS (Completely Fair Scheduler) period",
    ),
    Flag::int(
        "cpu-quota",
        "Limit CPU CFS (Completely Fair Scheduler) quota",
    ),
    Flag::int(
        "cpu-rt-period",
        "Limit the CPU real-time period in microseconds",
    ),
    Flag::int(
        "cpu-rt-runtime",
        "Limit the CPU real-time runtime in microseconds",
    ),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::checked("cpus", "decimal", resource::check_cpus, "Number of CPUs"),
    Flag::string("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::string("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::new(Kind::Bytes, "memory", "Memory limit").short('m'),
    Flag::new(Kind::Bytes, "memory-reservation", "Memory soft limit"),
    Flag::checked(
        "memory-swap",
        "bytes",
        resource::check_memory_swap,
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    Flag::int(
        "pids-limit",
        "Tune container pids limit (set -1 for unlimited)",
    ),
    Flag::string("restart", "Restart policy to apply when a container exits"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let wanted = wanted(matches).map_err(CliError::Message)?;
    if !FLAGS.iter().any(|flag| matches.is_set(flag.long)) {
        return Err(CliError::message(
            "you must provide one or more flags when using this command",
        ));
    }
    let client = ctx.client()?;
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for name in matches.args() {
        let path = format!("/containers/{}/update", segment(name));
        let answer: Result<UpdateResponse, _> =
            ctx.block_on(client.post_json(&path, Some(&wanted)));
        match answer {
            Ok(answer) => {
                writeln!(ctx.out, "{name}")?;
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => errors.push(CliError::from(error)),
        }
    }
    if !warnings.is_empty() {
        writeln!(ctx.out, "{}", warnings.join("\n"))?;
    }
    several::report(errors)
}

fn wanted(matches: &Matches) -> Result<HostConfig, String> {
    let text = |flag: &str| matches.str(flag).to_owned();
    let optional = |flag: &str, parse: fn(&str) -> Result<i64, String>| {
        options::optional(matches, flag, parse)
    };
    let restart_policy = match matches.str("restart") {
        "" => conex_api::container::RestartPolicy::default(),
        word => policy::restart(word)?,
    };
    Ok(HostConfig {
        blkio_weight: u16::try_from(matches.uint("blkio-weight"))
            .map_err(|_| "--blkio-weight: value out of range".to_owned())?,
        cpu_period: matches.int("cpu-period"),
        cpu_quota: matches.int("cpu-quota"),
        cpu_realtime_period: matches.int("cpu-rt-period"),
        cpu_realtime_runtime: matches.int("cpu-rt-runtime"),
        cpu_shares: matches.int("cpu-shares"),
        nano_cpus: optional("cpus", resource::nano_cpus)?,
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        memory: matches.bytes("memory"),
        memory_reservation: matches.bytes("memory-reservation"),
        memory_swap: optional("memory-swap", resource::memory_swap)?,
        pids_limit: matches
            .is_set("pids-limit")
            .then(|| matches.int("pids-limit")),
        restart_policy,
        ..HostConfig::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flag::parse;

    #[test]
    fn flags_become_what_is_wanted() {
        let words: Vec<String> = ["-m", "1g", "--memory-swap", "-1", "--cpus", "1.5", "c"]
            .map(str::to_owned)
            .into();
        let wanted = wanted(&parse(&[FLAGS], &words, true).unwrap()).unwrap();
        assert_eq!((wanted.memory, wanted.memory_swap), (1 << 30, -1));
        assert_eq!(wanted.nano_cpus, 1_500_000_000);
        assert_eq!(
            (wanted.pids_limit, wanted.restart_policy.name.as_str()),
            (None, "")
        );
    }
}
