//! The program: who runs it, where, with which environment and limits. It must
//! not know how it is executed.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use conex_api::container::Ulimit;
use conex_runtime::capability::{self, CapSet, Capability};
use conex_runtime::user;
use conex_spec::runtime::{Capabilities, ConsoleSize, Process, Rlimit, User};

use super::Host;
use crate::Error;
use crate::container::Record;
use crate::container::validate::{SecurityOptions, absolute_dir};
use crate::error::chain;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(
    host: &Host<'_>,
    record: &Record,
    root: BorrowedFd<'_>,
    options: &SecurityOptions,
    capabilities: CapSet,
) -> Result<Process, Error> {
    let (config, asked) = (&record.config, &record.host_config);
    let groups = asked.group_add.as_deref().unwrap_or_default();
    let user =
        user::resolve(root, &config.user, groups).map_err(|error| Error::invalid(chain(&error)))?;
    let cwd = match config.working_dir.as_str() {
        "" => "/".to_owned(),
        dir => absolute_dir(dir)?,
    };
    let [height, width] = asked.console_size;
    let mut args = vec![record.path.clone()];
    args.extend(record.args.iter().cloned());
    Ok(Process {
        terminal: config.tty,
        console_size: (config.tty && height > 0 && width > 0)
            .then_some(ConsoleSize { height, width }),
        env: environment(record, &host.linked, &user.home),
        user: User {
            uid: user.uid,
            gid: user.gid,
            additional_gids: user.supplementary,
            ..User::default()
        },
        args,
        cwd: cwd.into(),
        capabilities: Some(sets(capabilities, user.uid)),
        rlimits: rlimits(
            asked.ulimits.as_deref().unwrap_or_default(),
            &host.config.ulimits,
        ),
        no_new_privileges: options
            .no_new_privileges
            .unwrap_or(host.config.no_new_privileges),
        apparmor_profile: apparmor(options),
        oom_score_adj: oom_score(asked.oom_score_adj, host.own_oom_score),
        ..Process::default()
    })
}

/// Root has the whole set. Anybody else has what execve(2) would leave: a
/// bound, and nothing to use (COMPAT D10.1).
fn sets(capabilities: CapSet, uid: u32) -> Capabilities {
    let bounding = capabilities.names();
    let usable = if uid == 0 {
        bounding.clone()
    } else {
        Vec::new()
    };
    Capabilities {
        effective: usable.clone(),
        permitted: usable,
        bounding,
        ..Capabilities::default()
    }
}

/// The engine's variables, those of image and user over them, and at last a
/// home (COMPAT D2.24). A bare name takes a variable away.
fn environment(record: &Record, linked: &[String], home: &Path) -> Vec<String> {
    let config = &record.config;
    let mut all = vec![
        format!("PATH={DEFAULT_PATH}"),
        format!("HOSTNAME={}", config.hostname),
    ];
    if config.tty {
        all.push("TERM=xterm".to_owned());
    }
    all.extend_from_slice(linked);
    let name_of = |variable: &str| {
        variable
            .split_once('=')
            .map_or(variable, |(name, _)| name)
            .to_owned()
    };
    let mut places: HashMap<String, usize> = all
        .iter()
        .enumerate()
        .map(|(at, variable)| (name_of(variable), at))
        .collect();
    for variable in config.env.iter().flatten() {
        let name = name_of(variable);
        match (variable.contains('='), places.get(&name)) {
            (true, Some(&at)) => all[at].clone_from(variable),
            (true, None) => {
                places.insert(name, all.len());
                all.push(variable.clone());
            }
            // Its place is kept, should it be given again.
            (false, Some(&at)) => all[at].clear(),
            (false, None) => {}
        }
    }
    all.retain(|variable| !variable.is_empty());
    if !all.iter().any(|variable| variable.starts_with("HOME=")) {
        all.push(format!("HOME={}", home.display()));
    }
    all
}

/// The container's own limits, then the engine's for what it does not name.
fn rlimits(own: &[Ulimit], engine: &[Ulimit]) -> Vec<Rlimit> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in own.iter().rev().chain(engine) {
        let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        if !limits.iter().any(|known| known.kind == kind) {
            // -1 is no limit.
            let bound = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
            limits.push(Rlimit {
                kind,
                hard: bound(limit.hard),
                soft: bound(limit.soft),
            });
        }
    }
    limits
}

/// A profile somebody loaded; the engine has none of its own.
fn apparmor(options: &SecurityOptions) -> Option<String> {
    let profile = options
        .apparmor
        .clone()
        .filter(|name| !matches!(name.as_str(), "" | "unconfined"))?;
    let is_on = std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|word| word.starts_with(b"Y"));
    is_on.then_some(profile)
}

/// What is written; `None` where the inherited score is right, or where nothing
/// was asked for and lowering it is not allowed.
fn oom_score(asked: i32, own: i32) -> Option<i32> {
    let may_lower = capability::available().contains(Capability::SYS_RESOURCE);
    let is_kept = asked == own || (asked == 0 && own > 0 && !may_lower);
    (!is_kept).then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_limits_fill_in_for_the_containers() {
        let limit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        let own = [limit("nofile", 100, 200), limit("core", 0, -1)];
        let engine = [limit("nofile", 5, 5), limit("nproc", 7, 8)];
        let limits = rlimits(&own, &engine);
        let find = |kind: &str| limits.iter().find(|limit| limit.kind == kind);
        let nofile = find("RLIMIT_NOFILE").map(|limit| (limit.soft, limit.hard));
        assert_eq!(nofile, Some((100, 200)));
        assert_eq!(
            find("RLIMIT_CORE").map(|limit| (limit.soft, limit.hard)),
            Some((0, u64::MAX))
        );
        assert_eq!(
            find("RLIMIT_NPROC").map(|limit| (limit.soft, limit.hard)),
            Some((7, 8))
        );
        assert_eq!(limits.len(), 3);
    }

    #[test]
    fn an_inherited_score_is_not_written() {
        assert_eq!(oom_score(0, 0), None);
        assert_eq!(oom_score(0, -500), Some(0));
        assert_eq!(oom_score(300, 0), Some(300));
    }
}
