//! Subvolumes, snapshots and quotas of btrfs, by ioctl. Source: linux/btrfs.h.
//!
//! ```text
//! SUBVOL_CREATE, SNAP_DESTROY   struct btrfs_ioctl_vol_args     8 + 4088 bytes
//! SNAP_CREATE_V2                struct btrfs_ioctl_vol_args_v2  56 + 4040 bytes
//! QGROUP_LIMIT                  struct btrfs_ioctl_qgroup_limit_args
//! ```

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

const SUBVOL_CREATE: u64 = 0x5000_940e;
const SNAP_DESTROY: u64 = 0x5000_940f;
const SNAP_CREATE_V2: u64 = 0x5000_9417;
const QUOTA_CTL: u64 = 0xc010_9428;
const QGROUP_LIMIT: u64 = 0x8030_942b;
const QUOTA_RESCAN_WAIT: u64 = 0x942e;
const QUOTA_CTL_ENABLE: u64 = 1;
const QGROUP_LIMIT_MAX_RFER: u64 = 1;

/// The inode number of every subvolume's root.
pub const SUBVOLUME_ROOT_INODE: u64 = 256;

#[repr(C)]
struct VolArgs {
    fd: i64,
    /// Ends with a NUL.
    name: [u8; 4088],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    /// Ends with a NUL.
    name: [u8; 4040],
}

#[repr(C)]
struct QuotaCtl {
    cmd: u64,
    status: u64,
}

#[repr(C)]
struct QgroupLimit {
    /// 0 means the subvolume the call is made on.
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// Makes an empty subvolume in a directory opened for reading.
///
/// Errors: `EEXIST`, `ENOTTY` where there is no btrfs, `ENAMETOOLONG`.
pub fn create_subvolume(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut args = VolArgs {
        fd: 0,
        name: padded(name)?,
    };
    call(parent, SUBVOL_CREATE, &mut args)
}

/// Makes a writable snapshot of the subvolume `of` (its root, opened for
/// reading) in a directory. What was written to it before is in it, and it is
/// on the disk when this returns.
///
/// Errors: `EEXIST`, `EINVAL` when `of` is no subvolume's root, `EXDEV`.
pub fn create_snapshot(
    of: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &str,
) -> Result<(), Errno> {
    let mut args = VolArgsV2 {
        fd: of.as_raw_fd().into(),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: padded(name)?,
    };
    call(parent, SNAP_CREATE_V2, &mut args)
}

/// Takes a subvolume away in one step; its blocks are freed behind the call.
///
/// Errors: `ENOTEMPTY` while another subvolume is in it, `EPERM`, `EBUSY`.
pub fn destroy_subvolume(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut args = VolArgs {
        fd: 0,
        name: padded(name)?,
    };
    call(parent, SNAP_DESTROY, &mut args)
}

/// Turns quotas on for the file system a directory is on; they may be on
/// already. Waits until what is there has been counted.
pub fn enable_quota(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut args = QuotaCtl {
        cmd: QUOTA_CTL_ENABLE,
        status: 0,
    };
    match call(directory, QUOTA_CTL, &mut args) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    call(directory, QUOTA_RESCAN_WAIT, &mut ())
}

/// Bounds what the subvolume refers to, shared blocks included.
///
/// Errors: `ENOTCONN` while quotas are off.
pub fn limit_subvolume(root: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let mut args = QgroupLimit {
        qgroupid: 0,
        flags: QGROUP_LIMIT_MAX_RFER,
        max_rfer: bytes,
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    call(root, QGROUP_LIMIT, &mut args)
}

fn padded<const N: usize>(name: &str) -> Result<[u8; N], Errno> {
    let mut room = [0; N];
    // The last byte stays NUL.
    room[..N - 1]
        .get_mut(..name.len())
        .ok_or(Errno::NAMETOOLONG)?
        .copy_from_slice(name.as_bytes());
    Ok(room)
}

fn call<T>(on: BorrowedFd<'_>, request: u64, args: &mut T) -> Result<(), Errno> {
    // SAFETY: each request above comes with the struct it was made for, which
    // lives through the call; the kernel keeps no pointer to it.
    let result = unsafe {
        libc::ioctl(
            on.as_raw_fd(),
            request as libc::c_ulong as _,
            std::ptr::from_mut(args),
        )
    };
    if result < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_structs_have_the_sizes_the_requests_encode() {
        let size = |request: u64| usize::try_from(request >> 16 & 0x3fff).unwrap_or(0);
        assert_eq!(size_of::<VolArgs>(), size(SUBVOL_CREATE));
        assert_eq!(size_of::<VolArgs>(), size(SNAP_DESTROY));
        assert_eq!(size_of::<VolArgsV2>(), size(SNAP_CREATE_V2));
        assert_eq!(size_of::<QuotaCtl>(), size(QUOTA_CTL));
        assert_eq!(size_of::<QgroupLimit>(), size(QGROUP_LIMIT));
    }

    #[test]
    fn names_that_do_not_fit_and_other_file_systems_are_told() {
        let proc = std::fs::File::open("/proc").expect("there is a /proc");
        let create = |name: &str| create_subvolume(proc.as_fd(), name);
        assert_eq!(create(&"x".repeat(4088)), Err(Errno::NAMETOOLONG));
        assert_eq!(create("x"), Err(Errno::NOTTY));
    }
}
