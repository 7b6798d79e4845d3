//! Our own program, out of reach of the containers it becomes: a process that
//! is still ours can be found inside as `/proc/PID/exe`, and whoever may write
//! what that names owns the host (CVE-2019-5736).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{SealFlags, StatVfsMountFlags};

use super::Error;

const RDONLY: u64 = 0x1;
/// Set in the process that was executed again.
const MARK: &str = "_CONEX_RUNTIME_SEALED";

/// Executes this program again from where nobody can write it, unless it runs
/// from there: a detached read-only mount of itself, or else sealed memory.
/// Call before anything is opened.
pub(super) fn ensure() -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::io("protect", "/proc/self/exe", e);
    let mut own = conex_sys::process::own_executable().map_err(failed)?;
    if is_sealed(&own) {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(failed(std::io::ErrorKind::PermissionDenied.into()));
    }
    let protected = match read_only_mount(&own) {
        Ok(mount) => mount,
        Err(_not_permitted) => conex_sys::memfd::seal_executable(&mut own).map_err(failed)?,
    };
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let error = Command::new(format!("/proc/self/fd/{}", protected.as_raw_fd()))
        .arg0(name)
        .args(args)
        .env(MARK, "1")
        .exec();
    Err(failed(error))
}

fn is_sealed(executable: &File) -> bool {
    let read_only = rustix::fs::fstatvfs(executable)
        .is_ok_and(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY));
    let sealed = rustix::fs::fcntl_get_seals(executable)
        .is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SEAL));
    read_only || sealed
}

fn read_only_mount(executable: &File) -> rustix::io::Result<OwnedFd> {
    let mount = conex_sys::mount::clone_tree(executable, c"", false)?;
    conex_sys::mount::set_attributes(mount.as_fd(), RDONLY, 0, libc::MS_PRIVATE, false)?;
    Ok(mount)
}
