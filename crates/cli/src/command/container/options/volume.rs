//! `--volume` in its colon form: what is a bind mount, a named volume or an anonymous one.

use std::path::{Path, PathBuf};

/// What one `--volume` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// A volume without a name at this path of the container.
    Anonymous(String),
    /// `source:target[:mode]` for `HostConfig.Binds`; the engine judges path and mode.
    Bind(String),
}

/// Reads one `--volume`; a source that begins with `.` is taken from `current_dir`.
pub(super) fn parse(spec: &str, current_dir: &Path) -> Result<Volume, String> {
    let sections = match spec.chars().count() {
        0 => return Err("invalid empty volume spec".to_owned()),
        // Too short for two sections, whatever the colon means.
        1 | 2 => return Ok(Volume::Anonymous(spec.to_owned())),
        _ => sections(spec),
    };
    let invalid = |reason: &str| format!("invalid spec: {spec}: {reason}");
    if sections.iter().any(String::is_empty) {
        return Err(invalid("empty section between colons"));
    }
    match sections.as_slice() {
        [target] => Ok(Volume::Anonymous(target.clone())),
        [source, _] | [source, _, _] => Ok(Volume::Bind(bind(spec, source, current_dir))),
        _ => Err(invalid("too many colons")),
    }
}

/// Splits at colons, except after a single letter: that could be a Windows drive.
fn sections(spec: &str) -> Vec<String> {
    let mut sections = Vec::new();
    let mut section = String::new();
    for c in spec.chars() {
        let is_drive = section.chars().count() == 1 && section.chars().all(char::is_alphabetic);
        if c == ':' && !is_drive {
            sections.push(std::mem::take(&mut section));
        } else {
            section.push(c);
        }
    }
    sections.push(section);
    sections
}

fn bind(spec: &str, source: &str, current_dir: &Path) -> String {
    // Only the text before the very first colon is a path of this machine.
    match spec.split_once(':') {
        Some((host, rest)) if source.starts_with('.') && host.starts_with('.') => {
            format!("{}:{rest}", clean(&current_dir.join(host)).display())
        }
        _ => spec.to_owned(),
    }
}

/// A path without `.` and `..`, resolved as text like Go's `filepath.Clean`.
pub(super) fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if out.parent().is_some() && !out.ends_with("..") => {
                out.pop();
            }
            Component::ParentDir if out.has_root() => {}
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_form_of_volume_is_understood() {
        let bind = |s: &str| Volume::Bind(s.to_owned());
        for (spec, want) in [
            ("/data", Volume::Anonymous("/data".into())),
            ("/a", Volume::Anonymous("/a".into())),
            ("/src:/dst", bind("/src:/dst")),
            ("/src:/dst:ro,z", bind("/src:/dst:ro,z")),
            ("name:/dst", bind("name:/dst")),
            ("./x/../y:/dst:ro", bind("/here/y:/dst:ro")),
            ("../x:/dst", bind("/x:/dst")),
            (".:/dst", bind("/here:/dst")),
            (".hidden:/dst", bind("/here/.hidden:/dst")),
            // A single letter is taken for a Windows drive; the engine says what is wrong.
            ("rel:x:y:z", bind("rel:x:y:z")),
        ] {
            assert_eq!(parse(spec, Path::new("/here")).unwrap(), want, "{spec}");
        }
    }

    #[test]
    fn a_malformed_volume_is_refused_by_the_client() {
        for (spec, want) in [
            ("", "invalid empty volume spec"),
            (
                "/a::/b",
                "invalid spec: /a::/b: empty section between colons",
            ),
            (":/dst", "invalid spec: :/dst: empty section between colons"),
            (
                "/src:/dst:",
                "invalid spec: /src:/dst:: empty section between colons",
            ),
            (
                "/aa:/bb:ro:cc",
                "invalid spec: /aa:/bb:ro:cc: too many colons",
            ),
        ] {
            assert_eq!(parse(spec, Path::new("/")).unwrap_err(), want, "{spec}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_text() {
        for (path, want) in [
            ("/a/./b/../c", "/a/c"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("../a", "../a"),
            ("/", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(want), "{path}");
        }
    }
}
