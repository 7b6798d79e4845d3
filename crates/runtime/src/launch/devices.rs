//! `/dev`: the device nodes and links every container has, and those the
//! configuration adds.

use std::path::Path;

use conex_spec::runtime::{Device, DeviceKind, Spec};
use conex_sys::child::{Plan, Step};

use super::{LaunchError, c_path, mounts};

/// runtime-spec, "Default Devices": name, major, minor; all 0666, root.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

pub(super) fn push(spec: &Spec, own_users: bool, plan: &mut Plan) -> Result<(), LaunchError> {
    // A bind mount at /dev brings its own nodes.
    let foreign = spec.mounts.iter().any(|m| {
        m.destination == Path::new("/dev") && m.options.iter().any(|o| o == "bind" || o == "rbind")
    });
    if foreign {
        return Ok(());
    }
    plan.push(Step::MakeDirs(vec![c"/dev".into()]));
    // mknod(2) is refused inside a user namespace: the host's nodes are bound.
    let by_bind = own_users;
    for (name, major, minor) in DEFAULT {
        let path = Path::new("/dev").join(name);
        if by_bind {
            mounts::push_bound_file(&path, &path, plan)?;
            continue;
        }
        plan.push(Step::Device {
            path: c_path(&path)?,
            mode: libc::S_IFCHR | 0o666,
            device: rustix::fs::makedev(major, minor),
            uid: 0,
            gid: 0,
        });
    }
    for device in spec.linux.iter().flat_map(|l| &l.devices) {
        if by_bind {
            mounts::push_bound_file(&device.path, &device.path, plan)?;
        } else {
            push_device(device, plan)?;
        }
    }
    for (target, path) in LINKS {
        plan.push(Step::Symlink {
            target: c_path(Path::new(target))?,
            path: c_path(Path::new(path))?,
        });
    }
    if Path::new("/proc/kcore").exists() {
        plan.push(Step::Symlink {
            target: c"/proc/kcore".into(),
            path: c"/dev/core".into(),
        });
    }
    Ok(())
}

fn push_device(device: &Device, plan: &mut Plan) -> Result<(), LaunchError> {
    let kind = match device.kind {
        DeviceKind::Char | DeviceKind::UnbufferedChar => libc::S_IFCHR,
        DeviceKind::Block => libc::S_IFBLK,
        DeviceKind::Fifo => libc::S_IFIFO,
        DeviceKind::All => {
            return Err(LaunchError::Unsupported(format!(
                "device {} has no type that can be made",
                device.path.display()
            )));
        }
    };
    let number = |n: i64| u32::try_from(n).unwrap_or(0);
    mounts::push_parent_dirs(&device.path, plan)?;
    plan.push(Step::Device {
        path: c_path(&device.path)?,
        mode: kind | (device.file_mode.unwrap_or(0o666) & 0o7777),
        device: rustix::fs::makedev(number(device.major), number(device.minor)),
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    });
    Ok(())
}
