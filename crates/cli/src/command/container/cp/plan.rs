//! Which directory to unpack into, and under which name: decided from both
//! paths and what is there, before a byte is copied. Text only.
//!
//! ```text
//! destination is   a directory   something else      nothing
//! source is
//!   a directory    into it       error               becomes it
//!   anything else  into it       replaces it         becomes it; an error if it ends in /
//! ```

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct End {
    /// The path; a slash or `/.` at its end has a meaning.
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_directory: bool,
    /// What the source is called in its archive, if not as its path says.
    pub(super) rebase: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The directory to unpack into.
    pub(super) into: String,
    /// What the source will be called there.
    pub(super) name: String,
}

/// Decides. Errors: complete texts for the user.
pub(super) fn plan(source: &End, destination: &End) -> Result<Plan, &'static str> {
    let own = match source.rebase.as_str() {
        "" => split_entry(&source.path).1,
        name => name.to_owned(),
    };
    let (directory, name) = split_entry(&destination.path);
    if destination.exists && destination.is_directory {
        return Ok(Plan {
            into: destination.path.clone(),
            name: own,
        });
    }
    if destination.exists && source.is_directory {
        return Err("cannot copy directory");
    }
    if !destination.exists && !source.is_directory && asserts_directory(&destination.path) {
        return Err("no such directory");
    }
    Ok(Plan {
        into: directory,
        name,
    })
}

/// Go's `filepath.Clean`.
pub(super) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if is_absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Go's `filepath.Base`.
pub(super) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// Directory and name of a path; the name is `.` if the path ends so.
pub(super) fn split_entry(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if is_content(path) {
        cleaned.push_str("/.");
    }
    let directory = match cleaned.rfind('/') {
        Some(at) => clean(&cleaned[..=at]),
        None => ".".to_owned(),
    };
    let name = base(&cleaned).to_owned();
    (directory, name)
}

/// Whether a path ends in `.`: what is in the directory is meant.
pub(super) fn is_content(path: &str) -> bool {
    base(path) == "."
}

/// Whether a path can only be a directory's.
pub(super) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_content(path)
}

/// A cleaned path with the end that the original one had.
pub(super) fn with_end_of(cleaned: &str, original: &str) -> String {
    let mut path = cleaned.to_owned();
    if !is_content(&path) && is_content(original) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push('.');
    }
    if !path.ends_with('/') && original.ends_with('/') {
        path.push('/');
    }
    path
}

/// Where a link at the end of `path` leads, with the same end, and what it is
/// to be called after all: as it was asked for.
pub(super) fn followed(path: &str, target: &str) -> (String, String) {
    let mut target = target.to_owned();
    if is_content(path) && !is_content(&target) {
        target.push_str("/.");
    }
    if path.ends_with('/') && !target.ends_with('/') {
        target.push('/');
    }
    let rebase = match base(path) {
        name if name != base(&target) => name.to_owned(),
        _ => String::new(),
    };
    (target, rebase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(path: &str, kind: Option<bool>) -> End {
        End {
            path: path.to_owned(),
            exists: kind.is_some(),
            is_directory: kind == Some(true),
            rebase: String::new(),
        }
    }

    #[test]
    fn every_case_of_the_table() {
        const FILE: Option<bool> = Some(false);
        const DIR: Option<bool> = Some(true);
        for (source, kind, destination, there, expected) in [
            ("/s/f", FILE, "/d", DIR, Ok(("/d", "f"))),
            ("/s/f", FILE, "/d/", DIR, Ok(("/d/", "f"))),
            ("/s/f", FILE, "/d/g", FILE, Ok(("/d", "g"))),
            ("/s/f", FILE, "/d/g", None, Ok(("/d", "g"))),
            ("/s/f", FILE, "/d/g/", None, Err("no such directory")),
            ("/s/f", FILE, "/d/g/.", None, Err("no such directory")),
            ("/s", DIR, "/d", DIR, Ok(("/d", "s"))),
            ("/s/.", DIR, "/d", DIR, Ok(("/d", "."))),
            ("/s", DIR, "/d/n", None, Ok(("/d", "n"))),
            ("/s", DIR, "/d/n/", None, Ok(("/d", "n"))),
            ("/s/.", DIR, "/d/n", None, Ok(("/d", "n"))),
            ("/s", DIR, "/d/f", FILE, Err("cannot copy directory")),
            ("/", DIR, "/d", DIR, Ok(("/d", "/"))),
        ] {
            let planned = plan(&end(source, kind), &end(destination, there));
            let expected = expected.map(|(into, name): (&str, &str)| Plan {
                into: into.to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(planned, expected, "{source} to {destination}");
        }
    }

    #[test]
    fn paths_are_gos() {
        for (path, cleaned, name) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a/b/../c/", "a/c", "c"),
            ("/a/./b", "/a/b", "b"),
            ("../a", "../a", "a"),
            ("/../a", "/a", "a"),
            ("a/.", "a", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
            assert_eq!(base(path), name, "{path:?}");
        }
        let split = |path| split_entry(path);
        assert_eq!(split("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split("/a/b/."), ("/a/b".into(), ".".into()));
        assert_eq!(split("/a"), ("/".into(), "a".into()));
        assert_eq!(split("a"), (".".into(), "a".into()));
        assert_eq!(with_end_of("/a", "a/."), "/a/.");
        assert_eq!(with_end_of("/a", "a/"), "/a/");
        assert_eq!(with_end_of("/", "/."), "/.");
    }

    #[test]
    fn what_a_link_leads_to_keeps_the_name_that_was_asked_for() {
        assert_eq!(
            followed("/a/link", "/b/real"),
            ("/b/real".into(), "link".into())
        );
        assert_eq!(
            followed("/a/link/", "/b/real"),
            ("/b/real/".into(), "link".into())
        );
        assert_eq!(
            followed("/a/link/.", "/b/real"),
            ("/b/real/.".into(), String::new())
        );
    }
}
