//! `features`: what this runtime can do, whatever the host has.

use conex_spec::runtime::{
    CgroupFeatures, Features, Hooks, LinuxFeatures, MountExtensions, NamespaceKind, OCI_VERSION,
    SeccompAction, SeccompFeatures, SeccompOp, Support,
};
use serde::Serialize;

use super::{Error, Given, Globals, Verb, print_json};
use crate::capability::CapSet;
use crate::launch::mount_options;
use crate::seccomp::Arch;

pub(super) const VERB: Verb = Verb {
    name: "features",
    about: "show what this runtime can do",
    usage: "",
    flags: &[],
    run: |_: &Globals, _: &Given| print_json(&features()?),
};

fn features() -> Result<Features, Error> {
    let enabled = |enabled| {
        Some(Support {
            enabled: Some(enabled),
        })
    };
    let actions = [
        SeccompAction::Allow,
        SeccompAction::Errno,
        SeccompAction::Kill,
        SeccompAction::KillProcess,
        SeccompAction::KillThread,
        SeccompAction::Log,
        SeccompAction::Trace,
        SeccompAction::Trap,
    ];
    let operators = [
        SeccompOp::EqualTo,
        SeccompOp::GreaterEqual,
        SeccompOp::GreaterThan,
        SeccompOp::LessEqual,
        SeccompOp::LessThan,
        SeccompOp::MaskedEqual,
        SeccompOp::NotEqual,
    ];
    let arches = [Arch::X86_64, Arch::X86, Arch::Aarch64].map(Arch::to_spec);
    Ok(Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        hooks: Some(
            Hooks::default()
                .lists()
                .map(|(name, _)| name.to_owned())
                .to_vec(),
        ),
        mount_options: Some(mount_options()),
        linux: Some(LinuxFeatures {
            namespaces: Some(NamespaceKind::ALL.map(|kind| kind.to_string()).to_vec()),
            capabilities: Some(CapSet::ALL.names()),
            cgroup: Some(CgroupFeatures {
                v1: Some(true),
                v2: Some(true),
                systemd: Some(false),
                systemd_user: Some(false),
                rdma: Some(true),
            }),
            seccomp: Some(SeccompFeatures {
                enabled: Some(true),
                actions: Some(names(&actions)?),
                operators: Some(names(&operators)?),
                archs: Some(names(&arches)?),
                ..SeccompFeatures::default()
            }),
            apparmor: enabled(true),
            selinux: enabled(true),
            intel_rdt: enabled(false),
            mount_extensions: Some(MountExtensions {
                idmap: enabled(true),
            }),
        }),
        ..Features::default()
    })
}

/// What values are called in a configuration.
fn names<T: Serialize>(values: &[T]) -> Result<Vec<String>, Error> {
    let name = |value: &T| match serde_json::to_value(value).map_err(Error::encode)? {
        serde_json::Value::String(name) => Ok(name),
        other => Ok(other.to_string()),
    };
    values.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn features_speak_the_words_of_the_configuration() {
        let json = serde_json::to_value(features().unwrap()).unwrap();
        let has = |pointer: &str, word: &str| {
            json.pointer(pointer)
                .unwrap()
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v == word)
        };
        assert!(has("/hooks", "createRuntime"));
        assert!(has("/mountOptions", "rro"));
        assert!(has("/linux/namespaces", "cgroup"));
        assert!(has("/linux/capabilities", "CAP_SYS_ADMIN"));
        assert!(has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"));
        assert!(has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ"));
        assert_eq!(json.pointer("/linux/cgroup/systemd").unwrap(), false);
    }
}
