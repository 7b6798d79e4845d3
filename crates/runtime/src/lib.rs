//! The OCI runtime as a library: namespaces, mounts, cgroups, capabilities,
//! seccomp. It must not know Docker's API, images or the daemon.

pub mod capability;
pub mod cgroup;
pub mod command;
pub mod launch;
pub mod seccomp;
pub mod user;
