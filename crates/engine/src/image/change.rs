//! `--change`: lines of a Dockerfile that alter a config.

use conex_spec::image::{ContainerConfig, Healthcheck};

use crate::Error;

/// Applies one line: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
/// SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR.
pub(crate) fn apply(config: &mut ContainerConfig, line: &str) -> Result<(), Error> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (word.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(Error::invalid(format!(
            "{name} requires at least one argument"
        )));
    }
    match name.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(rest));
            config.cmd = None;
        }
        "SHELL" => {
            config.shell = Some(json_list(rest).ok_or_else(|| {
                Error::invalid("SHELL requires the arguments to be in JSON form")
            })?);
        }
        "ENV" => {
            for (key, value) in pairs(rest, "ENV")? {
                config
                    .env
                    .retain(|e| e.split_once('=').is_none_or(|(k, _)| k != key));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest, "LABEL")?),
        "EXPOSE" => {
            for port in words(rest)? {
                let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
                if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol) {
                    return Err(Error::invalid(format!("invalid containerPort: {port}")));
                }
                config.exposed_ports.insert(format!("{number}/{protocol}"));
            }
        }
        "VOLUME" => match json_list(rest) {
            Some(list) => config.volumes.extend(list),
            None => config.volumes.extend(words(rest)?),
        },
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            let path = std::path::Path::new("/")
                .join(&config.working_dir)
                .join(rest);
            config.working_dir = path.display().to_string();
        }
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        _ => {
            return Err(Error::invalid(format!(
                "{} is not a valid change command",
                name.to_lowercase()
            )));
        }
    }
    Ok(())
}

/// `[--interval=30s …] CMD …`, or `NONE`. Texts are the Dockerfile's.
fn health(text: &str) -> Result<Healthcheck, Error> {
    let mut health = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (name, value) = flag
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("Missing a value on flag: {flag}")))?;
        let place = match name {
            "interval" => &mut health.interval_ns,
            "timeout" => &mut health.timeout_ns,
            "start-period" => &mut health.start_period_ns,
            "start-interval" => &mut health.start_interval_ns,
            "retries" => {
                let retries = value.parse::<i64>().ok().filter(|retries| *retries >= 0);
                health.retries = Some(retries.ok_or_else(|| {
                    Error::invalid(format!("--retries cannot be negative: {value}"))
                })?);
                continue;
            }
            other => return Err(Error::invalid(format!("Unknown flag: {other}"))),
        };
        let span = value.parse::<jiff::SignedDuration>();
        let span = span.map_err(|_| Error::invalid(format!("time: invalid duration {value:?}")))?;
        if !span.is_zero() && span < jiff::SignedDuration::from_millis(1) {
            return Err(Error::invalid(format!(
                "Interval {name:?} cannot be less than 1ms"
            )));
        }
        *place = i64::try_from(span.as_nanos()).ok();
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    health.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".into()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if rest.is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match json_list(rest) {
            Some(list) => std::iter::once("CMD".into()).chain(list).collect(),
            None => vec!["CMD-SHELL".into(), rest.to_owned()],
        },
        _ => {
            return Err(Error::invalid(format!(
                "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
            )));
        }
    };
    Ok(health)
}

/// JSON form as it is, anything else through the shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.to_owned()])
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `a=b c="d e"`, or the old form `a b c` for one pair.
fn pairs(text: &str, name: &str) -> Result<Vec<(String, String)>, Error> {
    let words = words(text)?;
    if words.first().is_some_and(|w| !w.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::invalid(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Splits at white space outside quotes; a backslash keeps the next letter.
fn words(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => {
                let next = letters.next().unwrap_or('\\');
                word.get_or_insert_default().push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!(
            "unexpected end of statement while looking for matching quote: {text}"
        )));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(lines: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        for line in lines {
            apply(&mut config, line).unwrap();
        }
        config
    }

    #[test]
    fn a_health_check_is_given_with_its_times_or_taken_away() {
        let health = |line: &str| {
            let mut config = ContainerConfig::default();
            apply(&mut config, line).map(|()| config.healthcheck.unwrap_or_default())
        };
        let it = health("HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://x").unwrap();
        assert_eq!(it.test, ["CMD-SHELL", "curl -f http://x"]);
        assert_eq!(
            (it.interval_ns, it.retries),
            (Some(90_000_000_000), Some(3))
        );
        let it = health("healthcheck --start-period=5s cmd [\"a\", \"b\"]").unwrap();
        assert_eq!(it.test, ["CMD", "a", "b"]);
        assert_eq!(it.start_period_ns, Some(5_000_000_000));
        assert_eq!(health("HEALTHCHECK NONE").unwrap().test, ["NONE"]);
        for (line, text) in [
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
            (
                "HEALTHCHECK x",
                "Unknown type \"x\" in HEALTHCHECK (try CMD)",
            ),
            ("HEALTHCHECK --x=1 CMD y", "Unknown flag: x"),
            (
                "HEALTHCHECK --timeout=1us CMD y",
                "Interval \"timeout\" cannot be less than 1ms",
            ),
        ] {
            assert_eq!(health(line).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn lines_change_the_config() {
        let config = applied(&[
            "CMD [\"sh\", \"-c\", \"true\"]",
            "env A=b C=\"d e\"",
            "ENV A x y",
            "EXPOSE 80 53/udp",
            "LABEL k='v w'",
            "VOLUME /data",
            "WORKDIR /a",
            "WORKDIR b",
            "USER nobody",
        ]);
        assert_eq!(config.cmd.unwrap(), ["sh", "-c", "true"]);
        assert_eq!(config.env, ["C=d e", "A=x y"]);
        assert!(config.exposed_ports.contains("80/tcp") && config.exposed_ports.contains("53/udp"));
        assert_eq!(config.labels["k"], "v w");
        assert!(config.volumes.contains("/data"));
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str()),
            ("/a/b", "nobody")
        );
    }

    #[test]
    fn shell_form_goes_through_the_shell() {
        assert_eq!(
            applied(&["ENTRYPOINT exec top"]).entrypoint.unwrap(),
            ["/bin/sh", "-c", "exec top"]
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let mut config = ContainerConfig::default();
        for (line, text) in [
            ("RUN true", "run is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("EXPOSE abc", "invalid containerPort: abc"),
            (
                "LABEL a='b",
                "unexpected end of statement while looking for matching quote: a='b",
            ),
        ] {
            assert_eq!(apply(&mut config, line).unwrap_err().to_string(), text);
        }
    }
}
