//! Execs: further commands in a running container.

use crate::object::is_zero;

object! {
    /// The body of `POST /containers/{id}/exec`.
    #[serde(rename_all = "PascalCase")]
    pub struct CreateRequest {
        /// User and group: `user`, `user:group`, by name or number; empty is the container's.
        pub user: String,
        /// Whether it gets every capability.
        pub privileged: bool,
        /// Whether it gets a terminal.
        pub tty: bool,
        /// First size of the terminal: rows, columns.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
        /// Whether its input comes from the client.
        pub attach_stdin: bool,
        /// Whether the client gets its error output.
        pub attach_stderr: bool,
        /// Whether the client gets its output.
        pub attach_stdout: bool,
        /// Keys that leave it, such as `ctrl-p,ctrl-q`; empty is the default.
        // As the Python SDK spells it; Docker reads names in any case.
        #[serde(alias = "detachKeys")]
        pub detach_keys: String,
        /// Variables over those of the container, `NAME=value`.
        pub env: Option<Vec<String>>,
        /// Directory it starts in; empty is the container's.
        pub working_dir: String,
        /// The program and its arguments.
        pub cmd: Option<Vec<String>>,
    }

    /// The answer of `POST /containers/{id}/exec`.
    #[serde(rename_all = "PascalCase")]
    pub struct Created {
        /// The exec's id.
        pub id: String,
    }

    /// The body of `POST /exec/{id}/start`.
    #[serde(rename_all = "PascalCase")]
    pub struct StartRequest {
        /// Whether the client does not stay connected.
        pub detach: bool,
        /// Whether the client expects raw bytes instead of frames.
        pub tty: bool,
        /// First size of the terminal: rows, columns.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<[u32; 2]>,
    }

    /// The answer of `GET /exec/{id}/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct Inspect {
        /// The exec's id.
        #[serde(rename = "ID")]
        pub id: String,
        /// Whether it runs.
        pub running: bool,
        /// Exit code, 128 + n for signal n; `None` until it ended.
        pub exit_code: Option<i32>,
        /// The program.
        pub process_config: ProcessConfig,
        /// Whether its input comes from the client.
        pub open_stdin: bool,
        /// Whether the client gets its error output.
        pub open_stderr: bool,
        /// Whether the client gets its output.
        pub open_stdout: bool,
        /// Always false.
        pub can_remove: bool,
        /// The container's full id.
        #[serde(rename = "ContainerID")]
        pub container_id: String,
        /// Keys that leave it; empty is the default.
        pub detach_keys: String,
        /// Its process in the engine's pid namespace; 0 before the start.
        pub pid: i32,
    }

    /// The program of an exec.
    #[serde(rename_all = "camelCase")]
    pub struct ProcessConfig {
        /// Whether it has a terminal.
        pub tty: bool,
        /// The program.
        pub entrypoint: String,
        /// Its arguments.
        pub arguments: Vec<String>,
        /// Whether it has every capability.
        pub privileged: bool,
        /// Whom it runs as; absent when nothing was asked for.
        #[serde(skip_serializing_if = "is_zero")]
        pub user: String,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exec_that_did_not_end_has_a_null_exit_code() {
        let value = serde_json::to_value(Inspect::default()).unwrap();
        assert_eq!(value["ExitCode"], serde_json::Value::Null);
        let names: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for name in [
            "ID",
            "ContainerID",
            "ProcessConfig",
            "CanRemove",
            "DetachKeys",
            "Pid",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(value["ProcessConfig"].get("user").is_none());
        assert_eq!(value["ProcessConfig"]["arguments"], serde_json::json!([]));
    }

    #[test]
    fn what_clients_leave_out_is_nothing() {
        let request: CreateRequest =
            serde_json::from_str(r#"{"Cmd":["sh"],"Env":null,"ConsoleSize":null}"#).unwrap();
        assert_eq!(request.cmd, Some(vec!["sh".to_owned()]));
        assert!(!request.tty && request.env.is_none() && request.console_size.is_none());
        let start: StartRequest = serde_json::from_str(r#"{"ConsoleSize":[24,80]}"#).unwrap();
        assert_eq!(start.console_size, Some([24, 80]));
    }
}
