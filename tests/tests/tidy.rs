//! The house rules that a compiler does not check, over every file of the tree.
//!
//! The crate table here and the one in ARCHITECTURE.md are the same table; this
//! file is what holds them, and the manifests, together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conex_tests::workspace;

/// A crate may depend only on crates of lower levels.
const LEVELS: &[(&str, u32)] = &[
    ("sys", 0),
    ("spec", 0),
    ("api", 1),
    ("archive", 1),
    ("store", 1),
    ("logs", 1),
    ("network", 1),
    ("runtime", 1),
    ("layers", 2),
    ("monitor", 2),
    ("client", 2),
    ("distribution", 2),
    ("engine", 4),
    ("server", 5),
    ("cli", 5),
    ("conex", 6),
];

/// The crates that may know tokio; those below must work in a process without it.
const ASYNC: &[&str] = &["client", "distribution", "engine", "server", "cli", "conex"];

const MAX_LINES: usize = 600;

/// Opens a generated or purely tabular file that may be longer.
const TABLE_MARKER: &str = "// tidy: table";

/// Names that say nothing about what lies behind them.
const DRAWERS: &[&str] = &["utils", "helpers", "common", "misc", "manager", "types"];

#[test]
fn every_file_says_first_what_it_is() {
    complain(
        rust_files()
            .filter(|file| !file.text.starts_with("//!"))
            .map(|file| format!("{} does not open with //!", file.name)),
    );
}

#[test]
fn no_file_is_longer_than_600_lines() {
    complain(rust_files().filter_map(|file| {
        let lines = file.text.lines().count();
        let is_table = file.text.lines().any(|line| line.trim() == TABLE_MARKER);
        (lines > MAX_LINES && !is_table).then(|| format!("{} has {lines} lines", file.name))
    }));
}

#[test]
fn no_file_is_named_like_a_drawer() {
    complain(rust_files().filter_map(|file| {
        let path = Path::new(&file.name);
        path.with_extension("")
            .components()
            .any(|part| DRAWERS.iter().any(|drawer| part.as_os_str() == *drawer))
            .then(|| format!("{} is named like a drawer", file.name))
    }));
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    // Split, so that this file does not accuse itself.
    let allowance = concat!("allow(unsafe", "_code)");
    let keyword = concat!("unsafe", " ");
    complain(
        rust_files()
            .filter(|file| !file.name.starts_with("crates/sys/"))
            .flat_map(|file| {
                numbered_code(&file.text)
                    .filter(|(_, line)| {
                        line.contains(allowance)
                            || line.contains(&format!("{keyword}{{"))
                            || line.contains(&format!("{keyword}fn "))
                            || line.contains(&format!("{keyword}impl "))
                    })
                    .map(|(number, _)| format!("{}:{number} is unsafe outside sys", file.name))
                    .collect::<Vec<_>>()
            }),
    );
}

#[test]
fn no_file_names_a_path_of_the_machine_it_was_written_on() {
    // Split, so that this file does not accuse itself.
    let homes = [
        concat!("/wo", "rk/main"),
        concat!("/wo", "rk/shared"),
        concat!("/root/", "."),
    ];
    complain(all_texts().flat_map(|file| {
        file.text
            .lines()
            .enumerate()
            .filter(|(_, line)| homes.iter().any(|home| line.contains(home)))
            .map(|(number, line)| format!("{}:{}: {}", file.name, number + 1, line.trim()))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn crates_depend_on_lower_levels_only() {
    let levels: BTreeMap<&str, u32> = LEVELS.iter().copied().collect();
    let mut complaints = Vec::new();
    for (name, dependencies) in crate_graph() {
        let Some(&level) = levels.get(name.as_str()) else {
            complaints.push(format!("crates/{name} is not in the crate table"));
            continue;
        };
        for dependency in &dependencies {
            match levels.get(dependency.as_str()) {
                Some(&other) if other < level => {}
                Some(other) => complaints.push(format!(
                    "{name} (level {level}) depends on {dependency} (level {other})"
                )),
                None => {}
            }
            if name == "cli" && dependency == "engine" {
                complaints.push("cli must reach the engine over HTTP alone".into());
            }
            if dependency == "tokio" && !ASYNC.contains(&name.as_str()) {
                complaints.push(format!("{name} must not know tokio"));
            }
        }
    }
    complain(complaints.into_iter());
}

#[test]
fn the_crate_table_names_every_crate_and_no_other() {
    let mut table: Vec<String> = LEVELS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut found: Vec<String> = crate_graph().into_keys().collect();
    table.sort();
    found.sort();
    assert_eq!(table, found);
}

#[test]
fn the_architecture_page_tells_the_same_crate_table() {
    let page = workspace::root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let complaints = LEVELS.iter().filter_map(|(name, level)| {
        let row = text.lines().find(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            cells.next() == Some(&level.to_string())
                && cells
                    .next()
                    .is_some_and(|cell| cell.trim_matches('`') == *name)
        });
        row.is_none()
            .then(|| format!("ARCHITECTURE.md has no row | {level} | `{name}` |"))
    });
    complain(complaints);
}

#[test]
fn the_architecture_page_names_only_files_that_exist() {
    let page = workspace::root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    complain(
        text.split(['`', ' ', '(', ')', '\n', '\t', ','])
            .filter(|word| {
                (word.starts_with("crates/") || word.starts_with("tests/"))
                    && !word.contains(['<', '*', '{'])
            })
            .map(|word| word.trim_end_matches(['.', ':', ';']))
            .filter(|word| !workspace::root().join(word).exists())
            .map(|word| format!("ARCHITECTURE.md names {word}, which does not exist")),
    );
}

struct SourceFile {
    /// Relative to the workspace.
    name: String,
    text: String,
}

/// Every Rust file of the crates and the tests.
fn rust_files() -> impl Iterator<Item = SourceFile> {
    ["crates", "tests", "bench"]
        .into_iter()
        .flat_map(|dir| files_below(&workspace::root().join(dir)))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(read)
}

/// Every text a reader meets: code, scripts, pages, manifests.
fn all_texts() -> impl Iterator<Item = SourceFile> {
    files_below(workspace::root())
        .into_iter()
        .filter(|path| path.file_name().is_none_or(|name| name != "Cargo.lock"))
        .filter(|path| fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok()))
        .map(read)
}

fn read(path: PathBuf) -> SourceFile {
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.strip_prefix(workspace::root()).unwrap_or(&path);
    SourceFile {
        name: name.to_string_lossy().into_owned(),
        text,
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a directory can be listed").path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if name != ".git" && name != "target" && name != "out" {
                    folders.push(path);
                }
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_compatibility_page_names_only_tests_that_exist() {
    let page = fs::read_to_string(workspace::root().join("docs/compat.md"))
        .expect("the page is part of the tree");
    let scripts = fs::read_dir(workspace::root().join("tests/sdk")).expect("there are scripts");
    let mut code: Vec<String> = rust_files().map(|file| file.text).collect();
    code.extend(
        scripts
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok()),
    );
    // Every function's name, of Rust and of Python; `$case` of a macro is none.
    let functions: std::collections::BTreeSet<&str> = code
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            let words = line.trim_start();
            let (_, rest) = words.split_once("fn ").or(words.split_once("def "))?;
            rest.split(['(', '<']).next()
        })
        .collect();
    let mut named = 0;
    let mut has_tests = false;
    let mut missing = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let last = cells.last().expect("a line has a cell").trim();
        if cells[0].trim() == "#" {
            has_tests = last == "Test";
        } else if has_tests && !line.starts_with("|---") {
            let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
            if names.is_empty() {
                missing.push(format!("no test is named for {}", cells[0]));
            }
            named += names.len();
            let unknown = names.into_iter().filter(|name| !functions.contains(name));
            missing.extend(unknown.map(|name| format!("no test is called {name}")));
        }
    }
    assert!(named > 0, "the page names no test");
    complain(missing.into_iter());
}

/// Lines with their numbers, without comments.
fn numbered_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
}

/// Each of our crates with its dependencies (all kinds but dev), our own ones
/// without the `conex-` prefix, as cargo sees them.
fn crate_graph() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace::root())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let short = |name: &str| name.strip_prefix("conex-").unwrap_or(name).to_owned();
    metadata["packages"]
        .as_array()
        .expect("metadata lists packages")
        .iter()
        .filter(|package| package["name"] != "conex-tests")
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let names = dependencies
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| dependency["name"].as_str())
                .map(short)
                .collect();
            (short(package["name"].as_str().unwrap_or_default()), names)
        })
        .collect()
}

#[track_caller]
fn complain(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}
