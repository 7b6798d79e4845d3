//! Rules of conduct: `--restart`, `--security-opt`, `--log-opt`, `--storage-opt`, namespaces, `--attach`.

use std::collections::BTreeMap;

use conex_api::container::RestartPolicy;

use super::key_value::{cut, map};
use crate::error::{CliError, chain};

/// Refuses a stream that no container has.
pub(super) fn check_attach(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// `name[:retries]`.
pub(in crate::command::container) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

/// What the `--security-opt` flags ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    /// What the engine is told; a seccomp file is replaced by its text.
    pub(super) options: Vec<String>,
    /// Whether no path is masked or made read-only.
    pub(super) open_system_paths: bool,
}

/// Reads every `--security-opt`.
pub(super) fn security(values: &[String]) -> Result<Security, String> {
    let mut security = Security::default();
    for value in values {
        let (key, setting) = match cut(value) {
            (key, None) if key != "no-new-privileges" => match value.split_once(':') {
                Some((key, setting)) => (key, Some(setting)),
                None => (key, None),
            },
            pair => pair,
        };
        if setting.unwrap_or_default().is_empty() && key != "no-new-privileges" {
            return Err(format!("Invalid --security-opt: {value:?}"));
        }
        match (key, setting) {
            ("systempaths", Some("unconfined")) if value.contains('=') => {
                security.open_system_paths = true
            }
            ("seccomp", Some(profile)) if !matches!(profile, "builtin" | "unconfined") => {
                security
                    .options
                    .push(format!("seccomp={}", seccomp_profile(profile)?));
            }
            _ => security.options.push(value.clone()),
        }
    }
    Ok(security)
}

/// The text of a seccomp profile, which only this machine may have.
fn seccomp_profile(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        format!(
            "opening seccomp profile ({path}) failed: {}",
            chain(&CliError::open(path, e))
        )
    })?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    Ok(compact(&text))
}

/// Valid JSON without the white space between its words.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if in_string {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => in_string = false,
                    _ => {}
                }
                return true;
            }
            in_string = *c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

/// The options of a log driver; `none` takes none.
pub(super) fn log_options(
    driver: &str,
    values: &[String],
) -> Result<BTreeMap<String, String>, String> {
    if driver == "none" && !values.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(map(values))
}

/// The options of the storage driver.
pub(super) fn storage_options(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    if values.iter().any(|value| !value.contains('=')) {
        return Err("invalid storage option".to_owned());
    }
    Ok(map(values))
}

/// Refuses namespace modes that do not exist.
pub(super) fn check_namespaces(
    pid: &str,
    uts: &str,
    userns: &str,
    cgroupns: &str,
) -> Result<(), String> {
    let of_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    if !matches!(pid, "" | "host") && !of_container(pid) {
        return Err("--pid: invalid PID mode".to_owned());
    }
    if !matches!(uts, "" | "host") {
        return Err("--uts: invalid UTS mode".to_owned());
    }
    if !matches!(userns, "" | "host") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    if !matches!(cgroupns, "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn restart_policies_have_a_name_and_a_count() {
        let policy = |text: &str| restart(text).map(|p| (p.name, p.maximum_retry_count));
        assert_eq!(policy("on-failure:3"), Ok(("on-failure".into(), 3)));
        assert_eq!(policy("always"), Ok(("always".into(), 0)));
        assert_eq!(policy("always:"), Ok(("always".into(), 0)));
        assert_eq!(policy(""), Ok((String::new(), 0)));
        assert_eq!(
            policy(":1").unwrap_err(),
            "invalid restart policy format: no policy provided before colon"
        );
        assert_eq!(
            policy("on-failure:x").unwrap_err(),
            "invalid restart policy format: maximum retry count must be an integer"
        );
    }

    #[test]
    fn security_options_are_checked_and_seccomp_files_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        std::fs::write(&path, "{ \"a b\" : [ 1, \"\\\" x\" ]\n}").unwrap();
        let values = [
            "no-new-privileges".to_owned(),
            "label:disable".to_owned(),
            "apparmor=x".to_owned(),
            "seccomp=unconfined".to_owned(),
            "systempaths=unconfined".to_owned(),
            format!("seccomp={}", path.display()),
        ];
        let security = security(&values).unwrap();
        assert!(security.open_system_paths);
        assert_eq!(
            security.options,
            [
                "no-new-privileges",
                "label:disable",
                "apparmor=x",
                "seccomp=unconfined",
                r#"seccomp={"a b":[1,"\" x"]}"#
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_a_security_option_is_said() {
        let of = |text: &str| security(&[text.to_owned()]).unwrap_err();
        assert_eq!(of("label"), "Invalid --security-opt: \"label\"");
        assert_eq!(of("apparmor="), "Invalid --security-opt: \"apparmor=\"");
        assert_eq!(
            of("seccomp=/nonexistent"),
            "opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.json");
        std::fs::write(&path, "{").unwrap();
        let error = of(&format!("seccomp={}", path.display()));
        assert!(error.starts_with(&format!(
            "compacting json for seccomp profile ({}) failed: ",
            path.display()
        )));
    }

    #[test]
    fn namespaces_have_few_modes() {
        assert_eq!(
            check_namespaces("container:x", "host", "host", "private"),
            Ok(())
        );
        assert_eq!(
            check_namespaces("container:", "", "", ""),
            Err("--pid: invalid PID mode".into())
        );
        assert_eq!(
            check_namespaces("", "x", "", ""),
            Err("--uts: invalid UTS mode".into())
        );
        assert_eq!(
            check_namespaces("", "", "x", ""),
            Err("--userns: invalid USER mode".into())
        );
        assert_eq!(
            check_namespaces("", "", "", "x"),
            Err("--cgroupns: invalid CGROUP mode".into())
        );
    }

    #[test]
    fn other_options_are_pairs() {
        assert_eq!(
            storage_options(&["size".into()]),
            Err("invalid storage option".into())
        );
        assert_eq!(storage_options(&["size=1g".into()]).unwrap()["size"], "1g");
        assert_eq!(
            log_options("none", &["a=b".into()]),
            Err("invalid logging opts for driver none".into())
        );
        assert_eq!(
            log_options("json-file", &["max-size=1m".into()]).unwrap()["max-size"],
            "1m"
        );
        assert!(check_attach("STDIN").is_ok());
        assert_eq!(
            check_attach("x"),
            Err("valid streams are STDIN, STDOUT and STDERR".into())
        );
    }
}
