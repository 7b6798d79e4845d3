//! The process of an exec: the container's own, with what the exec asks for in
//! its place.

use std::os::fd::BorrowedFd;

use conex_api::exec::CreateRequest;
use conex_runtime::capability;
use conex_spec::runtime::{Process, Seccomp};

use super::{Host, Joined, process, security};
use crate::Error;
use crate::container::Container;
use crate::container::validate::SecurityOptions;
use crate::engine::Inner;
use crate::error::chain;

/// Builds the process of an exec, and the system call filter it runs under:
/// always the container's, a privileged exec has more capabilities alone.
///
/// `root` is the container's root, where the user is looked up.
pub(crate) fn exec_process(
    engine: &Inner,
    container: &Container,
    wanted: &CreateRequest,
    root: BorrowedFd<'_>,
) -> Result<(Process, Option<Seccomp>), Error> {
    let mut record = container.record.clone();
    let mut command = wanted.cmd.iter().flatten().cloned();
    record.path = command.next().unwrap_or_default();
    record.args = command.collect();
    let config = &mut record.config;
    config.tty = wanted.tty;
    if !wanted.user.is_empty() {
        config.user.clone_from(&wanted.user);
    }
    if !wanted.working_dir.is_empty() {
        config.working_dir.clone_from(&wanted.working_dir);
    }
    let variables = wanted.env.iter().flatten().cloned();
    config.env.get_or_insert_default().extend(variables);
    record.host_config.console_size = wanted.console_size.unwrap_or_default();

    let asked = &record.host_config;
    let host = Host {
        config: &engine.config,
        cgroup_path: String::new(),
        unified: false,
        files: &container.dir,
        own_oom_score: engine.own_oom_score,
        joined: Joined::default(),
        linked: Vec::new(),
    };
    let options = SecurityOptions::parse(asked.security_opt.as_deref().unwrap_or_default())?;
    let own = security::capabilities(asked)?;
    let all = || capability::apply(&[], &[], true);
    let granted = match wanted.privileged {
        true => all().map_err(|error| Error::invalid(error.to_string()))?,
        false => own,
    };
    let mut process = process::process(&host, &record, root, &options, granted)?;
    if wanted.privileged {
        process.apparmor_profile = None;
        if let Some(sets) = &mut process.capabilities {
            // Whoever it runs as.
            sets.permitted.clone_from(&sets.bounding);
            sets.effective.clone_from(&sets.bounding);
        }
    }
    process
        .validate()
        .map_err(|error| Error::invalid(chain(&error)))?;
    let seccomp = security::seccomp(&engine.config, asked, &options, own)?;
    Ok((process, seccomp))
}
