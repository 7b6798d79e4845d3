//! `hooks`: programs run at points of the container's life. It must not know
//! how they are run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::process::path_bytes;
use crate::absent::null_is_default;

/// All hooks of a container, each list in the order its hooks are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated: after the namespaces exist, before `createRuntime`, on the host.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub prestart: Vec<Hook>,
    /// After the namespaces exist, before the root changes, on the host.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub create_runtime: Vec<Hook>,
    /// After `createRuntime`, before the root changes, in the container's namespaces.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub create_container: Vec<Hook>,
    /// On `start`, before the program is executed, in the container.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub start_container: Vec<Hook>,
    /// After the program is executed, on the host; failures are only logged.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub poststart: Vec<Hook>,
    /// After `delete`, on the host; failures are only logged.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Every list with its name in config.json.
    #[must_use]
    pub fn lists(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, hooks)| hooks.is_empty())
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        for hook in self.lists().iter().flat_map(|(_, hooks)| hooks.iter()) {
            if !hook.path.is_absolute() {
                return Err(SpecError::HookNotAbsolute {
                    path: hook.path.clone(),
                });
            }
            if hook.timeout_seconds.is_some_and(|seconds| seconds <= 0) {
                return Err(SpecError::HookTimeout {
                    path: hook.path.clone(),
                });
            }
            super::no_nul("hooks.path", path_bytes(&hook.path))?;
            for text in hook.args.iter().chain(&hook.env) {
                super::no_nul("hooks", text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// One program; it gets the container's [`State`](super::State) as JSON on stdin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, the first being its name.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<String>,
    /// Its environment, and nothing else, as `NAME=value`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// After how many seconds it is killed; greater than zero.
    #[serde(rename = "timeout", default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
}
