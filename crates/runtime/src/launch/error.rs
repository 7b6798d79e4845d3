//! Why a launch failed, in the words Docker's clients match.

use std::io;
use std::path::PathBuf;

use conex_sys::child::{ExecCandidates, Failure, Reason, SpawnError, Step};
use rustix::io::Errno;
use thiserror::Error;

/// Why a container's process could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The configuration has no `process`, or one without arguments.
    #[error("the configuration names no process to run")]
    NoProcess,
    /// A string for the kernel holds a nul byte.
    #[error("{text:?} holds a nul byte")]
    NulByte {
        /// The string.
        text: String,
    },
    /// The program cannot be executed. The texts are those of Go's `exec`
    /// package: clients derive the exit codes 126 and 127 from them.
    #[error("exec: {program:?}: {problem}")]
    Exec {
        /// `args[0]`.
        program: String,
        /// What is wrong with it.
        problem: String,
        /// The exit code a shell would give: 127 not found, 126 not executable.
        code: i32,
    },
    /// One step between clone and exec failed.
    #[error("{step}")]
    Step {
        /// What the child was doing.
        step: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A mount's source cannot be opened.
    #[error("mount source {path}")]
    Source {
        /// Path on the host.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A mount is not understood.
    #[error("mount at {destination}: {problem}")]
    Mount {
        /// Path in the container.
        destination: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A part of a mount's source cannot be opened.
    #[error("cannot access path {path}")]
    Beneath {
        /// Path on the host.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A part of a mount's source is not in it.
    #[error("path concatenation escapes the base directory, base: {base:?}, subpath: {beneath:?}")]
    Escape {
        /// The source on the host.
        base: PathBuf,
        /// The part that was asked for.
        beneath: PathBuf,
    },
    /// A namespace given by path cannot be opened.
    #[error("namespace {path}")]
    Namespace {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A namespace is asked for in a way this runtime cannot serve.
    #[error("{0}")]
    Unsupported(String),
    /// The cgroup cannot be joined.
    #[error("join the cgroup")]
    Cgroup(#[source] io::Error),
    /// The seccomp profile does not compile.
    #[error("seccomp profile: {0}")]
    Seccomp(String),
    /// A hook failed.
    #[error("error running {point} hook #{index}: {problem}")]
    Hook {
        /// Its list in config.json.
        point: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// How it ended and what it said.
        problem: String,
    },
    /// The clone failed.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The process was killed before its program ran (out of memory, mostly).
    #[error("the process was killed before its program could run")]
    Vanished,
}

impl LaunchError {
    pub(crate) fn cgroup(source: io::Error) -> LaunchError {
        LaunchError::Cgroup(source)
    }

    pub(crate) fn hook_socket(source: Errno) -> LaunchError {
        LaunchError::Step {
            step: "receive the container's root for its hooks".into(),
            source,
        }
    }

    pub(crate) fn from_failure(step: Option<&Step>, failure: Failure, program: &str) -> Self {
        let Some(step) = step else {
            return LaunchError::Step {
                step: "unknown step".into(),
                source: failure.errno,
            };
        };
        let program = program.to_owned();
        let exec = |problem: String, code| LaunchError::Exec {
            program: program.clone(),
            problem,
            code,
        };
        let (Step::Exec(ExecCandidates { paths, .. })
        | Step::FindProgram(ExecCandidates { paths, .. })) = step
        else {
            return LaunchError::Step {
                step: step.describe(),
                source: failure.errno,
            };
        };
        match (failure.reason, failure.errno) {
            (Reason::NotFound, _) if paths.len() > 1 => {
                exec("executable file not found in $PATH".into(), 127)
            }
            (Reason::NotFound, _) => {
                exec(format!("stat {program}: no such file or directory"), 127)
            }
            (Reason::InterpreterMissing, _) => exec(
                "no such file or directory (its interpreter or dynamic loader is missing)".into(),
                127,
            ),
            (Reason::IsDirectory, _) => exec("is a directory".into(), 126),
            (_, Errno::ACCESS | Errno::PERM) => exec("permission denied".into(), 126),
            (_, Errno::NOEXEC) => exec("exec format error".into(), 126),
            (_, errno) => exec(conex_sys::describe(errno), 126),
        }
    }

    /// The exit code to record for the container: 126, 127, or Docker's 128
    /// for everything that is not the program's fault.
    pub fn exit_code(&self) -> i32 {
        match self {
            LaunchError::Exec { code, .. } => *code,
            LaunchError::Step {
                source: Errno::ACCESS,
                step,
            } if step.starts_with("chdir") => 126,
            LaunchError::Step {
                source: Errno::NOTDIR | Errno::NOENT,
                step,
            } if step.starts_with("chdir") => 127,
            _ => 128,
        }
    }

    /// The whole chain in one line, as an API message needs it.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&match error.downcast_ref::<Errno>() {
                Some(errno) => conex_sys::describe(*errno),
                None => error.to_string(),
            });
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(paths: usize) -> Step {
        let paths = vec![c"x".into(); paths];
        Step::Exec(ExecCandidates {
            paths,
            args: vec![],
            env: vec![],
        })
    }

    fn failure(errno: Errno, reason: Reason) -> Failure {
        Failure {
            step: 0,
            errno,
            reason,
        }
    }

    #[test]
    fn exec_failures_read_as_docker_words_them() {
        let cases = [
            (
                2,
                Errno::NOENT,
                Reason::NotFound,
                "exec: \"x\": executable file not found in $PATH",
                127,
            ),
            (
                1,
                Errno::NOENT,
                Reason::NotFound,
                "exec: \"x\": stat x: no such file or directory",
                127,
            ),
            (
                1,
                Errno::ACCESS,
                Reason::Errno,
                "exec: \"x\": permission denied",
                126,
            ),
            (
                1,
                Errno::ACCESS,
                Reason::IsDirectory,
                "exec: \"x\": is a directory",
                126,
            ),
            (
                1,
                Errno::NOEXEC,
                Reason::Errno,
                "exec: \"x\": exec format error",
                126,
            ),
        ];
        for (paths, errno, reason, text, code) in cases {
            let error = LaunchError::from_failure(Some(&exec(paths)), failure(errno, reason), "x");
            assert_eq!(error.report(), text);
            assert_eq!(error.exit_code(), code);
        }
    }

    #[test]
    fn a_failed_step_names_itself_and_the_cause() {
        let step = Step::Hostname(c"h".into());
        let error =
            LaunchError::from_failure(Some(&step), failure(Errno::PERM, Reason::Errno), "x");
        assert_eq!(error.report(), "set the host name: operation not permitted");
        assert_eq!(error.exit_code(), 128);
    }
}
