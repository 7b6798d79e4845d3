//! What a container takes from its image where its user says nothing, and the
//! command line that comes of both. It must not know where images are kept.
//!
//! Source: moby `daemon/commit.go` (merge) and `daemon/create.go`.

use std::collections::BTreeMap;

use conex_api::container::{Config, Empty, HealthConfig, StrSlice};
use conex_spec::image::{ContainerConfig, Healthcheck};

use crate::Error;

/// Fills what `config` leaves open from the image.
///
/// An `--entrypoint` takes the image's command away with its entrypoint
/// (COMPAT D2.28), and one that is a single empty word only takes it away.
/// `OnBuild` is for builds from the image, not for its containers.
pub(super) fn merge(config: &mut Config, image: Option<&ContainerConfig>) -> Result<(), Error> {
    if let Some(image) = image {
        fill(config, image);
    }
    let is_reset = |words: &StrSlice| matches!(words.as_slice(), [only] if only.is_empty());
    if config.entrypoint.as_ref().is_some_and(is_reset) {
        config.entrypoint = None;
    }
    Ok(())
}

fn fill(config: &mut Config, image: &ContainerConfig) {
    fill_text(&mut config.user, &image.user);
    fill_text(&mut config.working_dir, &image.working_dir);
    for port in &image.exposed_ports {
        config.exposed_ports.entry(port.clone()).or_insert(Empty {});
    }
    if !image.volumes.is_empty() {
        let volumes = config.volumes.get_or_insert_with(BTreeMap::new);
        for path in &image.volumes {
            volumes.entry(path.clone()).or_insert(Empty {});
        }
    }
    fill_env(config, &image.env);
    let labels = config.labels.get_or_insert_with(BTreeMap::new);
    for (name, value) in &image.labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    fill_command(config, image);
    if let Some(inherited) = &image.healthcheck {
        fill_health(
            config.healthcheck.get_or_insert_with(HealthConfig::default),
            inherited,
        );
    }
    if let Some(signal) = &image.stop_signal {
        fill_text(&mut config.stop_signal, signal);
    }
    config.stop_timeout = config.stop_timeout.or(image.stop_timeout_seconds);
    if config.shell.is_empty() {
        // Health checks in shell form are run with it.
        config.shell = image.shell.clone().unwrap_or_default().into();
    }
}

fn fill_text(text: &mut String, inherited: &str) {
    if text.is_empty() {
        inherited.clone_into(text);
    }
}

/// The user's variables, then those of the image that the user does not name;
/// inspect shows them in this order.
fn fill_env(config: &mut Config, inherited: &[String]) {
    let own = config.env.get_or_insert_with(Vec::new);
    let said = own.len();
    for variable in inherited {
        let is_said = own[..said]
            .iter()
            .any(|other| name_of(other) == name_of(variable));
        if !is_said {
            own.push(variable.clone());
        }
    }
    if own.is_empty() {
        config.env = None;
    }
}

/// `NAME` of `NAME=value`.
fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

fn fill_command(config: &mut Config, image: &ContainerConfig) {
    let is_empty = |words: &Option<StrSlice>| words.as_ref().is_none_or(|words| words.is_empty());
    if !is_empty(&config.entrypoint) {
        return;
    }
    if is_empty(&config.cmd) {
        config.cmd = image.cmd.clone().map(StrSlice);
        config.args_escaped = image.args_escaped;
    }
    if config.entrypoint.is_none() {
        config.entrypoint = image.entrypoint.clone().map(StrSlice);
    }
}

fn fill_health(health: &mut HealthConfig, inherited: &Healthcheck) {
    if health.test.is_empty() {
        health.test.clone_from(&inherited.test);
    }
    for (own, inherited) in [
        (&mut health.interval, inherited.interval_ns),
        (&mut health.timeout, inherited.timeout_ns),
        (&mut health.start_period, inherited.start_period_ns),
        (&mut health.start_interval, inherited.start_interval_ns),
        (&mut health.retries, inherited.retries),
    ] {
        if *own == 0 {
            *own = inherited.unwrap_or(0);
        }
    }
}

/// The program and its arguments: entrypoint and command in one line.
pub(super) fn command(config: &Config) -> Result<(String, Vec<String>), Error> {
    let mut words = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .flat_map(|words| words.iter());
    let path = words
        .next()
        .ok_or_else(|| Error::invalid("no command specified"))?;
    Ok((path.clone(), words.cloned().collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn slice(list: Option<&[&str]>) -> Option<StrSlice> {
        list.map(|list| StrSlice(words(list)))
    }

    #[test]
    fn an_entrypoint_takes_the_images_command_away() {
        type Words = Option<&'static [&'static str]>;
        // The user's entrypoint and command, the image's, and the line.
        let cases: [(Words, Words, Words, Words, &[&str]); 8] = [
            (None, None, Some(&["/e"]), Some(&["c"]), &["/e", "c"]),
            (
                None,
                Some(&["x"]),
                Some(&["/e"]),
                Some(&["c"]),
                &["/e", "x"],
            ),
            (Some(&["/u"]), None, Some(&["/e"]), Some(&["c"]), &["/u"]),
            (
                Some(&["/u"]),
                Some(&["x"]),
                Some(&["/e"]),
                Some(&["c"]),
                &["/u", "x"],
            ),
            (
                Some(&[""]),
                Some(&["x"]),
                Some(&["/e"]),
                Some(&["c"]),
                &["x"],
            ),
            (Some(&[]), None, Some(&["/e"]), Some(&["c"]), &["c"]),
            (None, Some(&[]), None, Some(&["sh"]), &["sh"]),
            (None, Some(&["x", "y"]), None, None, &["x", "y"]),
        ];
        for (entrypoint, cmd, image_entrypoint, image_cmd, line) in cases {
            let mut config = Config {
                entrypoint: slice(entrypoint),
                cmd: slice(cmd),
                ..Config::default()
            };
            let image = ContainerConfig {
                entrypoint: image_entrypoint.map(words),
                cmd: image_cmd.map(words),
                ..ContainerConfig::default()
            };
            merge(&mut config, Some(&image)).unwrap();
            let (path, args) = command(&config).unwrap();
            assert_eq!(path, line[0], "{line:?}");
            assert_eq!(args, line[1..], "{line:?}");
        }
    }

    #[test]
    fn without_a_word_there_is_no_command() {
        let mut config = Config {
            entrypoint: slice(Some(&[""])),
            ..Config::default()
        };
        let image = ContainerConfig {
            cmd: Some(words(&["sh"])),
            ..ContainerConfig::default()
        };
        merge(&mut config, Some(&image)).unwrap();
        let error = command(&config).unwrap_err();
        assert_eq!(error.to_string(), "no command specified");
        assert_eq!(error.kind(), crate::ErrorKind::InvalidParameter);
    }

    #[test]
    fn a_variable_of_the_user_hides_the_images() {
        let mut config = Config {
            env: Some(words(&["A=1", "GONE", "PATHX=p"])),
            ..Config::default()
        };
        let image = ContainerConfig {
            env: words(&["PATH=/bin", "A=0", "GONE=x", "B=2"]),
            ..ContainerConfig::default()
        };
        merge(&mut config, Some(&image)).unwrap();
        assert_eq!(
            config.env.unwrap(),
            ["A=1", "GONE", "PATHX=p", "PATH=/bin", "B=2"]
        );
    }

    #[test]
    fn sets_are_united_and_single_values_are_the_users_where_given() {
        let mut config = Config {
            user: "me".into(),
            exposed_ports: BTreeMap::from([("80/tcp".into(), Empty {})]),
            labels: Some(BTreeMap::from([("a".into(), "mine".into())])),
            stop_timeout: Some(3),
            ..Config::default()
        };
        let image = ContainerConfig {
            user: "image".into(),
            working_dir: "/w".into(),
            exposed_ports: ["80/tcp".into(), "53/udp".into()].into(),
            volumes: ["/v".into()].into(),
            labels: [("a".into(), "image".into()), ("b".into(), "image".into())].into(),
            stop_signal: Some("SIGINT".into()),
            stop_timeout_seconds: Some(7),
            shell: Some(words(&["/bin/ash", "-c"])),
            on_build: words(&["RUN x"]),
            ..ContainerConfig::default()
        };
        merge(&mut config, Some(&image)).unwrap();
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("me", "/w")
        );
        assert_eq!(config.exposed_ports.len(), 2);
        assert!(config.volumes.unwrap().contains_key("/v"));
        let labels = config.labels.unwrap();
        assert_eq!(
            (labels["a"].as_str(), labels["b"].as_str()),
            ("mine", "image")
        );
        assert_eq!(
            (config.stop_signal.as_str(), config.stop_timeout),
            ("SIGINT", Some(3))
        );
        assert_eq!(config.shell.as_slice(), ["/bin/ash", "-c"]);
        assert!(config.on_build.is_empty());
    }

    #[test]
    fn a_health_check_is_inherited_member_by_member() {
        let mut config = Config {
            healthcheck: Some(HealthConfig {
                retries: 9,
                ..HealthConfig::default()
            }),
            ..Config::default()
        };
        let image = ContainerConfig {
            healthcheck: Some(Healthcheck {
                test: words(&["CMD", "true"]),
                interval_ns: Some(5),
                retries: Some(2),
                ..Healthcheck::default()
            }),
            ..ContainerConfig::default()
        };
        merge(&mut config, Some(&image)).unwrap();
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, ["CMD", "true"]);
        assert_eq!((health.interval, health.retries, health.timeout), (5, 9, 0));
    }

    #[test]
    fn an_image_without_configuration_changes_nothing() {
        let mut config = Config {
            cmd: slice(Some(&["x"])),
            ..Config::default()
        };
        let before = config.clone();
        merge(&mut config, None).unwrap();
        assert_eq!(config, before);
    }
}
