//! Hooks: programs of the configuration, run to their end with the container's
//! state on their standard input. It must not know when which list is due.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use conex_spec::runtime::{Hook, State};
use conex_sys::child::{ExecCandidates, Outcome, Plan, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::exec::Target;
use super::{LaunchError, c_path, c_string, discard};
use crate::cgroup::Cgroup;

/// How much of what a hook says goes into an error.
const MAX_OUTPUT_BYTES: u64 = 4096;

/// Where hooks are run.
#[derive(Debug)]
pub enum Place<'a> {
    /// Where this process is.
    Host,
    /// In the container's namespaces but with the host's files, and the
    /// container's at the root of its configuration. The mount namespace is a
    /// throw-away copy: mounts made there do not reach the container.
    WithRoot {
        /// The container.
        container: Target<'a>,
        /// Everything mounted in it, detached, once for each hook.
        trees: RefCell<Vec<OwnedFd>>,
        /// Where on the host the root is.
        at: &'a Path,
    },
    /// In the container.
    Inside {
        /// The container.
        container: Target<'a>,
        /// Its cgroup.
        cgroup: Option<&'a Cgroup>,
    },
}

/// Runs hooks one after the other, up to the first that fails.
///
/// Errors: [`LaunchError::Hook`] with what the hook said.
pub fn run(
    point: &'static str,
    hooks: &[Hook],
    state: &State,
    place: &Place<'_>,
) -> Result<(), LaunchError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, place).map_err(|problem| LaunchError::Hook {
            point,
            index,
            problem,
        })?;
    }
    Ok(())
}

/// Runs all hooks, whatever becomes of each, and returns the failures.
#[must_use]
pub fn run_all(
    point: &'static str,
    hooks: &[Hook],
    state: &State,
    place: &Place<'_>,
) -> Vec<LaunchError> {
    let failed = |(index, hook)| match run_one(hook, state, place) {
        Ok(()) => None,
        Err(problem) => Some(LaunchError::Hook {
            point,
            index,
            problem,
        }),
    };
    hooks.iter().enumerate().filter_map(failed).collect()
}

fn run_one(hook: &Hook, state: &State, place: &Place<'_>) -> Result<(), String> {
    let deadline = hook
        .timeout_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let said = |e: std::io::Error| format!("pass the state: {e}");
    // Files in memory, as a pipe would block whoever writes more than it holds.
    let input = memory(&serde_json::to_vec(state).map_err(|e| e.to_string())?).map_err(said)?;
    let mut output = File::from(memory(&[]).map_err(said)?);
    let (plan, born_in) = plan(hook, input, &output, place).map_err(|error| error.report())?;
    let mut spawned = plan
        .spawn(0, born_in)
        .map_err(|e| LaunchError::from(e).report())?;
    match spawned.outcome() {
        Ok(Outcome::Running) => {}
        Ok(Outcome::Failed(failure)) => {
            let program = hook.path.display().to_string();
            let error = LaunchError::from_failure(plan.failed_step(&failure), failure, &program);
            discard(spawned);
            return Err(error.report());
        }
        Ok(_) | Err(_) => {
            discard(spawned);
            return Err(LaunchError::Vanished.report());
        }
    }
    if !ends_before(&spawned.pidfd, deadline) {
        discard(spawned);
        return Err(format!("{} timed out", hook.path.display()));
    }
    match conex_sys::child::wait(spawned.pidfd.as_fd()) {
        Ok(0) => Ok(()),
        Ok(code) => {
            let said = said_in(&mut output);
            Err(format!(
                "{}: exit status {code}, output: {said}",
                hook.path.display()
            ))
        }
        Err(errno) => Err(format!("wait for {}: {errno}", hook.path.display())),
    }
}

fn memory(content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(c"hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn plan<'a>(
    hook: &Hook,
    input: OwnedFd,
    output: &File,
    place: &Place<'a>,
) -> Result<(Plan, Option<std::os::fd::BorrowedFd<'a>>), LaunchError> {
    let duplicate = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|e| LaunchError::Step {
            step: "duplicate a descriptor".into(),
            source: Errno::from_io_error(&e).unwrap_or(Errno::IO),
        })
    };
    let mut plan = Plan::new();
    let mut born_in = None;
    match place {
        Place::Host => {}
        Place::WithRoot {
            container,
            trees,
            at,
        } => {
            let tree = trees.borrow_mut().pop().ok_or(LaunchError::Vanished)?;
            plan.push(Step::Unshare(libc::CLONE_NEWNS));
            plan.push(Step::Propagation(
                libc::MS_REC as u32 | libc::MS_SLAVE as u32,
            ));
            plan.push(Step::Attach {
                tree,
                target: c_path(at)?,
            });
            let without = libc::CLONE_NEWNS | libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
            container.push_enter(!without, &mut plan)?;
        }
        Place::Inside { container, cgroup } => {
            if let Some(cgroup) = cgroup {
                let files = cgroup.join_files().map_err(LaunchError::cgroup)?;
                plan.extend(files.into_iter().map(Step::JoinCgroup));
                born_in = cgroup.unified_dir();
            }
            container.push_enter(!0, &mut plan)?;
        }
    }
    plan.push(Step::NewSession);
    plan.push(Step::Stdio(input, 0));
    plan.push(Step::Stdio(duplicate(output.as_fd())?, 1));
    plan.push(Step::Stdio(duplicate(output.as_fd())?, 2));
    let path = hook.path.to_string_lossy().into_owned();
    let args = if hook.args.is_empty() {
        std::slice::from_ref(&path)
    } else {
        &hook.args
    };
    let strings = |list: &[String]| list.iter().map(|s| c_string(s)).collect::<Result<_, _>>();
    plan.push(Step::Exec(ExecCandidates {
        paths: vec![c_path(&hook.path)?],
        args: strings(args)?,
        env: strings(&hook.env)?,
    }));
    Ok((plan, born_in))
}

fn ends_before(pidfd: &OwnedFd, deadline: Option<Instant>) -> bool {
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            Ok(_) | Err(_) => return true,
        }
    }
}

fn said_in(output: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is left out of the message.
    output.seek(SeekFrom::Start(0)).ok();
    output.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_spec::runtime::{OCI_VERSION, Status};

    fn hook(script: &str, timeout_seconds: Option<i64>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook {
            path: "/bin/sh".into(),
            args,
            env: vec!["X=y".into()],
            timeout_seconds,
        }
    }

    fn run_script(script: &str, timeout_seconds: Option<i64>) -> Result<(), String> {
        let state = State {
            oci_version: OCI_VERSION.into(),
            id: "abc".into(),
            status: Status::Creating,
            pid: Some(7),
            bundle: "/b".into(),
            annotations: Default::default(),
        };
        run(
            "prestart",
            &[hook(script, timeout_seconds)],
            &state,
            &Place::Host,
        )
        .map_err(|e| e.to_string())
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_environment_only() {
        let check = r#"read -r state; [ "$state" = '{"ociVersion":"1.2.1","id":"abc","status":"creating","pid":7,"bundle":"/b"}' ] || { echo "$state"; exit 1; }
            [ "$X" = y ] && [ -z "$HOME" ]"#;
        run_script(check, None).unwrap();
    }

    #[test]
    fn a_failure_tells_the_code_and_what_was_said() {
        let error = run_script("echo out; echo err >&2; exit 3", None).unwrap_err();
        assert_eq!(
            error,
            "error running prestart hook #0: /bin/sh: exit status 3, output: out\nerr"
        );
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let started = Instant::now();
        let error = run_script("exec sleep 60", Some(1)).unwrap_err();
        assert_eq!(error, "error running prestart hook #0: /bin/sh timed out");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
