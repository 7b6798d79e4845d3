//! The portable half of a container's configuration and the body of `POST /containers/create`.
//! Everything that depends on the host is in [`HostConfig`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

use super::{Empty, HostConfig, NetworkingConfig, StrSlice};
use crate::object::is_zero;

object! {
    /// What runs in a container, independent of the host it runs on.
    #[serde(rename_all = "PascalCase")]
    pub struct Config {
        /// Host name inside the container; the short id when empty.
        pub hostname: String,
        /// Domain name inside the container.
        pub domainname: String,
        /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
        pub user: String,
        /// Whether the creating client attaches to stdin.
        pub attach_stdin: bool,
        /// Whether the creating client attaches to stdout.
        pub attach_stdout: bool,
        /// Whether the creating client attaches to stderr.
        pub attach_stderr: bool,
        /// Ports as `80/tcp`.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub exposed_ports: BTreeMap<String, Empty>,
        /// Whether the standard streams are one terminal.
        pub tty: bool,
        /// Whether stdin stays open with nobody attached.
        pub open_stdin: bool,
        /// Whether stdin closes when its first client leaves.
        pub stdin_once: bool,
        /// `NAME=value`; a bare `NAME` removes the image's variable.
        pub env: Option<Vec<String>>,
        /// Arguments of the entry point, or the command itself.
        pub cmd: Option<StrSlice>,
        /// Health check; replaces the image's.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Windows only: `Cmd` is one escaped command line.
        #[serde(skip_serializing_if = "is_zero")]
        pub args_escaped: bool,
        /// The image as the user named it.
        pub image: String,
        /// Mount points of anonymous volumes.
        pub volumes: Option<BTreeMap<String, Empty>>,
        /// Working directory; empty is `/`.
        pub working_dir: String,
        /// Words put before `Cmd`; a list of one empty string drops the image's.
        pub entrypoint: Option<StrSlice>,
        /// Whether the container has no network.
        #[serde(skip_serializing_if = "is_zero")]
        pub network_disabled: bool,
        /// MAC address of the first network; the endpoint's own setting wins since API 1.44.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        /// Dockerfile instructions run in an image built from this one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub on_build: Vec<String>,
        /// Labels of the user.
        pub labels: Option<BTreeMap<String, String>>,
        /// Signal of `stop`: name with or without `SIG`, or a number.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds from the stop signal to SIGKILL; negative waits for ever.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell of shell-form `RUN`, `CMD`, `ENTRYPOINT`.
        #[serde(skip_serializing_if = "is_zero")]
        pub shell: StrSlice,
    }

    /// How to tell whether a container works. All durations are nanoseconds, 0 inherits.
    #[serde(rename_all = "PascalCase")]
    pub struct HealthConfig {
        /// Empty inherits; `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", line]`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub test: Vec<String>,
        /// Time between checks, nanoseconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub interval: i64,
        /// Time one check may take, nanoseconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub timeout: i64,
        /// Time in which failures do not count, nanoseconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub start_period: i64,
        /// Time between checks within the start period, nanoseconds.
        #[serde(skip_serializing_if = "is_zero")]
        pub start_interval: i64,
        /// Consecutive failures that make it unhealthy; 0 inherits.
        #[serde(skip_serializing_if = "is_zero")]
        pub retries: i64,
    }

    /// Answer of `POST /containers/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct CreateResponse {
        /// Full id of the new container.
        pub id: String,
        /// What the engine did otherwise than asked; `[]` if nothing.
        pub warnings: Vec<String>,
    }
}

/// Body of `POST /containers/create`: the members of [`Config`] beside `HostConfig` and `NetworkingConfig`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateRequest {
    /// The portable half.
    pub config: Config,
    /// The half that depends on the host.
    pub host_config: HostConfig,
    /// Networks to connect to.
    pub networking_config: NetworkingConfig,
}

// By hand, because serde's flatten buffers every member and loses the place of a mistake.
impl<'de> Deserialize<'de> for CreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::<String, Value>::deserialize(deserializer)?;
        let mut part = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let (host_config, networking_config) = (part("HostConfig"), part("NetworkingConfig"));
        let at = |name: &'static str| {
            move |error: serde_json::Error| D::Error::custom(format_args!("{name}: {error}"))
        };
        Ok(Self {
            config: Config::deserialize(Value::Object(members)).map_err(D::Error::custom)?,
            host_config: host_config
                .map_or_else(|| Ok(HostConfig::default()), HostConfig::deserialize)
                .map_err(at("HostConfig"))?,
            networking_config: networking_config
                .map_or_else(
                    || Ok(NetworkingConfig::default()),
                    NetworkingConfig::deserialize,
                )
                .map_err(at("NetworkingConfig"))?,
        })
    }
}

impl Serialize for CreateRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire<'a> {
            #[serde(flatten)]
            config: &'a Config,
            host_config: &'a HostConfig,
            networking_config: &'a NetworkingConfig,
        }
        Wire {
            config: &self.config,
            host_config: &self.host_config,
            networking_config: &self.networking_config,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_config_has_the_zero_values_docker_shows() {
        assert_eq!(
            serde_json::to_value(Config::default()).unwrap(),
            json!({
                "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false,
                "AttachStdout": false, "AttachStderr": false, "Tty": false, "OpenStdin": false,
                "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null,
                "WorkingDir": "", "Entrypoint": null, "Labels": null
            })
        );
    }

    #[test]
    fn a_create_request_tolerates_null_missing_and_unknown_members() {
        let request: CreateRequest = serde_json::from_value(json!({
            "Image": "busybox", "Hostname": null, "Tty": null, "Cmd": "true", "Entrypoint": null,
            "ExposedPorts": {"80/tcp": null, "53/udp": {}}, "StopTimeout": null, "Healthcheck": null,
            "NoSuchMember": {"x": 1}, "HostConfig": {"Memory": null, "Binds": ["/a:/b"], "New": 3},
            "NetworkingConfig": null
        }))
        .unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd.unwrap().0, ["true"]);
        assert_eq!(request.config.exposed_ports.len(), 2);
        assert_eq!(request.host_config.binds.unwrap(), ["/a:/b"]);
        assert_eq!(request.host_config.memory, 0);
        assert!(request.networking_config.endpoints_config.is_empty());
    }

    #[test]
    fn a_create_request_round_trips() {
        let sent = json!({
            "Image": "busybox", "Cmd": ["sh"], "Env": ["A=b"], "Labels": {"x": "y"},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000},
            "StopSignal": "TERM", "StopTimeout": -1,
            "HostConfig": {"NetworkMode": "none", "RestartPolicy": {"Name": "always"}},
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}
        });
        let request: CreateRequest = serde_json::from_value(sent).unwrap();
        let wire = serde_json::to_value(&request).unwrap();
        assert_eq!(wire["StopTimeout"], json!(-1));
        assert_eq!(wire["HostConfig"]["NetworkMode"], json!("none"));
        assert_eq!(
            wire["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000})
        );
        assert_eq!(
            serde_json::from_value::<CreateRequest>(wire).unwrap(),
            request
        );
    }

    #[test]
    fn a_member_of_the_wrong_type_is_an_error_that_names_its_object() {
        let error =
            serde_json::from_value::<CreateRequest>(json!({"HostConfig": {"Memory": "1g"}}));
        assert!(error.unwrap_err().to_string().starts_with("HostConfig: "));
        assert!(serde_json::from_value::<CreateRequest>(json!([])).is_err());
    }
}
