//! Who the process is and what it may do: limits, user, capabilities,
//! seccomp, labels.

use std::path::Path;

use conex_spec::runtime::{Process, Seccomp};
use conex_sys::child::{CapabilityMasks, Plan, Step};
use rustix::process::Resource;

use super::{LaunchError, c_path, c_string, schedule};
use crate::capability::mask;

/// Everything that must happen with root's rights, before a start is awaited,
/// but for the OOM score ([`oom_score`]).
pub(crate) fn push_before_start(
    process: &Process,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), LaunchError> {
    schedule::push(process, plan)?;
    if let Some(profile) = process.apparmor_profile.as_deref() {
        plan.push(Step::AppArmor(c_string(profile)?));
    }
    if let Some(label) = process.selinux_label.as_deref() {
        plan.push(Step::SelinuxLabel(c_string(label)?));
    }
    plan.push(Step::OwnStdio(process.user.uid));
    plan.push(Step::BoundingSet(masks(process).bounding));
    plan.push(Step::Chdir(c_path(cwd(process))?));
    // Behind all that opens files: the limit may be lower than what is open here
    // (`--ulimit nofile=10`). Before the change of user, which may take the right
    // to raise limits.
    for limit in &process.rlimits {
        push_rlimit(&limit.kind, limit.soft, limit.hard, plan, warnings)?;
    }
    Ok(())
}

fn cwd(process: &Process) -> &Path {
    if process.cwd.as_os_str().is_empty() {
        Path::new("/")
    } else {
        &process.cwd
    }
}

/// From the change of user to the last step before the exec.
pub(crate) fn push_after_start(
    process: &Process,
    seccomp: Option<&Seccomp>,
    set_groups: bool,
    plan: &mut Plan,
) -> Result<(), LaunchError> {
    let user = &process.user;
    plan.push(Step::Umask(user.umask.unwrap_or(0o022)));
    plan.push(Step::Identity {
        uid: user.uid,
        gid: user.gid,
        groups: user.additional_gids.clone(),
        set_groups,
    });
    plan.push(Step::RetryChdir(c_path(cwd(process))?));
    let compiled = seccomp.map(crate::seccomp::compile).transpose();
    let filter = compiled.map_err(|e| LaunchError::Seccomp(e.to_string()))?;
    if filter.as_ref().is_some_and(|f| f.notify) {
        return Err(LaunchError::Unsupported(
            "a seccomp profile with SCMP_ACT_NOTIFY is not supported".into(),
        ));
    }
    let masks = masks(process);
    if process.no_new_privileges {
        plan.push(Step::NoNewPrivileges);
        plan.push(Step::Capabilities(masks));
        plan.extend(filter.map(|f| Step::Seccomp(f.program, f.flags)));
    } else {
        if let Some(filter) = filter {
            // Installing a filter takes CAP_SYS_ADMIN, which the change of
            // user took out of the effective set but not the permitted one.
            const SYS_ADMIN: u64 = 1 << 21;
            let held = masks.permitted | masks.effective | SYS_ADMIN;
            plan.push(Step::Capabilities(CapabilityMasks {
                effective: held,
                permitted: held,
                ambient: 0,
                ..masks
            }));
            plan.push(Step::Seccomp(filter.program, filter.flags));
        }
        plan.push(Step::Capabilities(masks));
    }
    Ok(())
}

/// The sets as far as this process can hand them on; a configuration without
/// any means none. The ambient set is what the kernel lets it be.
fn masks(process: &Process) -> CapabilityMasks {
    let Some(sets) = &process.capabilities else {
        return CapabilityMasks::default();
    };
    let (permitted, inheritable) = (mask(&sets.permitted), mask(&sets.inheritable));
    CapabilityMasks {
        bounding: mask(&sets.bounding),
        effective: mask(&sets.effective) & permitted,
        permitted,
        inheritable,
        ambient: mask(&sets.ambient) & permitted & inheritable,
    }
}

/// The score to set, unless this process may not lower its own so far.
pub(crate) fn oom_score(process: &Process, warnings: &mut Vec<String>) -> Option<i32> {
    let score = process.oom_score_adj?;
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if score < own && !has_sys_resource() {
        warnings.push(format!(
            "oom_score_adj {score} is below the engine's own {own} and CAP_SYS_RESOURCE is \
             missing: it stays {own}"
        ));
        return None;
    }
    Some(score)
}

fn push_rlimit(
    name: &str,
    soft: u64,
    hard: u64,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), LaunchError> {
    let (number, resource) = rlimit(name)
        .ok_or_else(|| LaunchError::Unsupported(format!("rlimit {name} is not known")))?;
    let own = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let (mut soft, mut hard) = (soft, hard);
    if hard > own && !has_sys_resource() {
        warnings.push(format!(
            "{name} {hard} is above the inherited hard limit {own} and CAP_SYS_RESOURCE is \
             missing: {own} is used"
        ));
        hard = own;
        soft = soft.min(own);
    }
    // Not even CAP_SYS_RESOURCE goes past fs.nr_open (getrlimit(2)).
    if resource == Resource::Nofile
        && let Some(ceiling) = nr_open().filter(|ceiling| hard > *ceiling)
    {
        warnings.push(format!(
            "{name} {hard} is above fs.nr_open {ceiling}: {ceiling} is used"
        ));
        hard = ceiling;
        soft = soft.min(ceiling);
    }
    plan.push(Step::Rlimit {
        resource: number,
        soft,
        hard,
    });
    Ok(())
}

fn nr_open() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn has_sys_resource() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_RESOURCE)
    })
}

/// Number and name of a limit: getrlimit(2).
fn rlimit(name: &str) -> Option<(u32, Resource)> {
    let short = name.strip_prefix("RLIMIT_")?.to_ascii_lowercase();
    Some(match short.as_str() {
        "cpu" => (libc::RLIMIT_CPU, Resource::Cpu),
        "fsize" => (libc::RLIMIT_FSIZE, Resource::Fsize),
        "data" => (libc::RLIMIT_DATA, Resource::Data),
        "stack" => (libc::RLIMIT_STACK, Resource::Stack),
        "core" => (libc::RLIMIT_CORE, Resource::Core),
        "rss" => (libc::RLIMIT_RSS, Resource::Rss),
        "nproc" => (libc::RLIMIT_NPROC, Resource::Nproc),
        "nofile" => (libc::RLIMIT_NOFILE, Resource::Nofile),
        "memlock" => (libc::RLIMIT_MEMLOCK, Resource::Memlock),
        "as" => (libc::RLIMIT_AS, Resource::As),
        "locks" => (libc::RLIMIT_LOCKS, Resource::Locks),
        "sigpending" => (libc::RLIMIT_SIGPENDING, Resource::Sigpending),
        "msgqueue" => (libc::RLIMIT_MSGQUEUE, Resource::Msgqueue),
        "nice" => (libc::RLIMIT_NICE, Resource::Nice),
        "rtprio" => (libc::RLIMIT_RTPRIO, Resource::Rtprio),
        "rttime" => (libc::RLIMIT_RTTIME, Resource::Rttime),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_rlimit_above_the_inherited_one_is_lowered_with_a_word() {
        if has_sys_resource() {
            eprintln!("skipped: CAP_SYS_RESOURCE is held, so no limit is out of reach");
            return;
        }
        let own = rustix::process::getrlimit(Resource::Nofile)
            .maximum
            .unwrap();
        let (mut plan, mut warnings) = (Plan::new(), Vec::new());
        push_rlimit("RLIMIT_NOFILE", own + 1, own + 1, &mut plan, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(
            matches!(plan.steps(), [Step::Rlimit { soft, hard, .. }] if *soft == own && *hard == own)
        );
    }

    #[test]
    fn an_unknown_rlimit_is_refused() {
        let (mut plan, mut warnings) = (Plan::new(), Vec::new());
        let error = push_rlimit("RLIMIT_X", 1, 1, &mut plan, &mut warnings).unwrap_err();
        assert_eq!(error.to_string(), "rlimit RLIMIT_X is not known");
    }
}
