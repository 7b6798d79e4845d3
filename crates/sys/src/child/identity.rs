//! Who the child becomes: ids, capability sets, scheduling. Raw system calls,
//! since glibc's wrappers would signal threads that a fork does not have.

use rustix::io::Errno;

use super::run::{Result, check};
use super::step::{CapabilityMasks, SchedulerAttributes};

pub(super) fn identity(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    // SAFETY: calls on this single-threaded child; the slice outlives them.
    unsafe {
        // Otherwise leaving root drops the capabilities the plan sets later.
        check(libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_KEEPCAPS,
            1,
            0,
            0,
            0,
        ))?;
        if let Some(groups) = groups {
            check(libc::syscall(
                libc::SYS_setgroups,
                groups.len(),
                groups.as_ptr(),
            ))?;
        }
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

pub(super) fn bounding_set(keep: u64) -> Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: changes this process's bounding set only.
        match check(unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0)
        }) {
            // Past the last capability this kernel knows.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

pub(super) fn capabilities(masks: &CapabilityMasks) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let half = |mask: u64, high: bool| (if high { mask >> 32 } else { mask & 0xffff_ffff }) as u32;
    let header = [VERSION_3, 0];
    let row = |high: bool| {
        [
            half(masks.effective, high),
            half(masks.permitted, high),
            half(masks.inheritable, high),
        ]
    };
    let data = [row(false), row(true)];
    // SAFETY: header and data have the layout of capget(2)'s version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
    for capability in 0..64u64 {
        if masks.ambient & (1 << capability) != 0 {
            // SAFETY: changes this process's ambient set only.
            check(unsafe {
                libc::syscall(
                    libc::SYS_prctl,
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_RAISE,
                    capability,
                    0,
                    0,
                )
            })?;
        }
    }
    Ok(())
}

pub(super) fn scheduler(attributes: &SchedulerAttributes) -> Result<()> {
    // SAFETY: the struct has sched_setattr(2)'s layout and says its own size.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0,
            std::ptr::from_ref(attributes),
            0,
        )
    })
}

pub(super) fn io_priority(value: i32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

pub(super) fn personality(domain: u64) -> Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })
}

/// A session keyring of the child's own, so that it cannot reach its starter's.
pub(super) fn new_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: no name is given, a fresh keyring is made.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) })
    {
        // A kernel without keys, or one around us that does not let us have any.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other,
    }
}
