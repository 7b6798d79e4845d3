//! Kernel parameters: only those that a namespace of the container's own
//! keeps from the host.

use conex_spec::runtime::{NamespaceKind, Spec};
use conex_sys::child::{Plan, Step};

use super::namespaces::is_own;
use super::{LaunchError, c_string};

pub(super) fn push(spec: &Spec, plan: &mut Plan) -> Result<(), LaunchError> {
    let Some(linux) = &spec.linux else {
        return Ok(());
    };
    for (name, value) in &linux.sysctl {
        // A key may use dots, or slashes where a component holds a dot.
        let path = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        let refuse = |why: &str| LaunchError::Unsupported(format!("sysctl {name:?} {why}"));
        let kind =
            namespace_of(&path).ok_or_else(|| refuse("is not in a separate kernel namespace"))?;
        let separate = linux
            .namespace(kind)
            .is_some_and(|n| n.path.as_ref().is_none_or(|path| !is_own(path, kind)));
        if !separate {
            return Err(refuse(&format!(
                "needs a {kind} namespace of the container's own"
            )));
        }
        plan.push(Step::Sysctl {
            path: c_string(&path)?,
            value: c_string(value)?,
        });
    }
    Ok(())
}

/// Which namespace a parameter belongs to; `None` is the machine.
/// Source: namespaces(7) and each kind's page.
fn namespace_of(path: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 8] = [
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    ];
    let (top, rest) = path.split_once('/')?;
    match (top, rest) {
        ("net", _) => Some(NamespaceKind::Network),
        ("fs", rest) if rest.starts_with("mqueue/") => Some(NamespaceKind::Ipc),
        ("kernel", name) if IPC.contains(&name) => Some(NamespaceKind::Ipc),
        ("kernel", "domainname" | "hostname") => Some(NamespaceKind::Uts),
        ("user", _) => Some(NamespaceKind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_spec::runtime::{Linux, Namespace};

    fn push_one(name: &str, namespaces: &[NamespaceKind]) -> Result<Plan, LaunchError> {
        let linux = Linux {
            sysctl: [(name.to_owned(), "1".to_owned())].into(),
            namespaces: namespaces
                .iter()
                .map(|kind| Namespace::new(*kind))
                .collect(),
            ..Linux::default()
        };
        let mut plan = Plan::new();
        push(
            &Spec {
                linux: Some(linux),
                ..Spec::default()
            },
            &mut plan,
        )?;
        Ok(plan)
    }

    #[test]
    fn a_parameter_of_the_machine_is_refused() {
        for name in [
            "kernel.panic",
            "vm.swappiness",
            "kernel.sem.x",
            "fs.file-max",
            "net",
        ] {
            let error = push_one(name, &NamespaceKind::ALL).unwrap_err();
            assert!(
                error.to_string().contains("separate kernel namespace"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_parameter_needs_its_namespace() {
        assert!(push_one("net.ipv4.ip_forward", &[NamespaceKind::Ipc]).is_err());
        let plan = push_one("net/ipv4/conf/eth0.1/forwarding", &[NamespaceKind::Network]).unwrap();
        assert!(
            matches!(plan.steps(), [Step::Sysctl { path, .. }] if path.as_c_str() == c"net/ipv4/conf/eth0.1/forwarding")
        );
    }
}
