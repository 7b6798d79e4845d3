//! The suites of `tests/vm/suite` in the test machine: what needs a pure
//! cgroup v2 hierarchy or a kernel other than the host's.

use std::time::Duration;

use conex_tests::{skip, vm, workspace};

/// Test programs that are worth a second run on cgroup v2.
const TESTS: &[&str] = &["conex_runtime", "conex_sys", "oci"];

/// What `oci` starts: the runtime's command line.
const EXAMPLE: &str = "examples/oci";

#[test]
fn every_suite_passes_on_a_cgroup_v2_kernel() {
    let example = workspace::profile_dir().join(EXAMPLE);
    let mut programs: Vec<_> = TESTS
        .iter()
        .filter(|name| **name != "oci" || example.is_file())
        .filter_map(|name| {
            workspace::test_program(name).map(|path| (format!("tests/{name}"), path))
        })
        .collect();
    if example.is_file() {
        programs.push((EXAMPLE.to_owned(), example));
    }
    let outcome = match vm::run(&programs, Duration::from_secs(240)) {
        Ok(outcome) => outcome,
        Err(reason) => return skip(&reason),
    };
    eprintln!(
        "{}\n(machine ran {:.1} s)",
        outcome.console,
        outcome.took.as_secs_f64()
    );
    let (passed, failed) = outcome
        .counts
        .expect("the machine reports a verdict before it powers off");
    assert_eq!(
        failed, 0,
        "{failed} checks failed in the machine, see its console above"
    );
    assert!(passed >= 10, "only {passed} checks ran");
}
