//! Where things lie: the workspace, its target directory, the binary under test.
//!
//! Knows paths only; starts nothing and makes nothing.

use std::path::{Path, PathBuf};

/// The workspace's root directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in a folder of the workspace")
}

/// Cargo's target directory (`CARGO_TARGET_DIR` or `target`).
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The directory cargo put this profile's programs into: the parent of the
/// `deps` directory in which the running test lies.
pub fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running test has a path");
    let mut dir = program
        .parent()
        .expect("a program lies in a directory")
        .to_path_buf();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

/// The conex binary under test: `CONEX_BIN`, else the one built beside the test.
pub fn conex() -> PathBuf {
    match std::env::var_os("CONEX_BIN") {
        Some(path) => PathBuf::from(path),
        None => profile_dir().join("conex"),
    }
}

/// The test program of this name (`conex_runtime` for a package's unit tests),
/// the newest where several builds are kept; `None` when it was not built.
pub fn test_program(name: &str) -> Option<PathBuf> {
    let prefix = format!("{name}-");
    let entries = std::fs::read_dir(profile_dir().join("deps")).ok()?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.strip_prefix(&prefix)
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        .max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok())
        .map(|entry| entry.path())
}

/// The first of the usual program directories that holds `name`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}
