//! `HOME`, which every runtime sets where the configuration does not: shells
//! and programs without number expect it.

use std::os::fd::BorrowedFd;

use conex_spec::runtime::Process;

use crate::user;

/// Adds the home directory that the container's files have for the user.
pub(super) fn add(process: &mut Process, root: BorrowedFd<'_>) {
    // An empty one is what callers send that know of none.
    process.env.retain(|variable| variable != "HOME=");
    let is_set = |variable: &String| variable.starts_with("HOME=");
    if process.env.iter().any(is_set) {
        return;
    }
    // Files that cannot be read must not keep a container from starting.
    let found = user::resolve(root, &process.user.uid.to_string(), &[]);
    let home = found.map_or_else(|_| "/".into(), |user| user.home);
    process.env.push(format!("HOME={}", home.display()));
}
