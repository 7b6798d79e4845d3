//! For tests: threads in network namespaces of their own.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::Command;

/// Runs a test in a thread with a network namespace of its own; skips with a
/// printed reason where that is not allowed or a program is missing.
pub(crate) fn isolated(programs: &[&str], test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to make network namespaces");
        return;
    }
    for program in programs {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: {program} is not installed");
            return;
        }
    }
    let result = std::thread::spawn(move || {
        conex_sys::process::unshare(libc::CLONE_NEWNET).unwrap();
        test();
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// What a program prints; panics if it fails.
pub(crate) fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    // nft writes what --debug asks for to standard error or output, by version.
    String::from_utf8(output.stdout).unwrap() + &error
}

/// Sets this thread's loopback interface up.
pub(crate) fn loopback_up() {
    output("ip", &["link", "set", "lo", "up"]);
}
