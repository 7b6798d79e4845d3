//! Profiles as people write them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::capability::DEFAULT;

const HERE: Conditions = Conditions {
    capabilities: DEFAULT,
    arch: Arch::X86_64,
    kernel: KernelVersion(6, 1),
};

fn read(text: &str) -> Result<Option<Seccomp>, Error> {
    from_json(text.as_bytes(), &HERE)
}

fn names(text: &str, conditions: &Conditions) -> Vec<String> {
    from_json(text.as_bytes(), conditions)
        .unwrap()
        .unwrap()
        .syscalls
        .into_iter()
        .flat_map(|rule| rule.names)
        .collect()
}

#[test]
fn the_oci_form_is_taken_as_it_is() {
    let profile = read(
        r#"{
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86"],
            "flags": [],
            "syscalls": [{
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 97,
                "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]
            }]
        }"#,
    )
    .unwrap()
    .unwrap();
    assert_eq!(profile.architectures, [SeccompArch::X86]);
    assert_eq!(profile.flags, Some(Vec::new()));
    assert_eq!(profile.syscalls[0].errno_ret, Some(97));
    assert_eq!(profile.syscalls[0].args[0].value, 40);
}

#[test]
fn the_arch_map_brings_the_sub_architectures_of_this_machine() {
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
        ],
        "syscalls": null
    }"#;
    let profile = read(text).unwrap().unwrap();
    assert_eq!(
        profile.architectures,
        [SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32]
    );
    let arm = Conditions {
        arch: Arch::Aarch64,
        ..HERE
    };
    let profile = from_json(text.as_bytes(), &arm).unwrap().unwrap();
    assert_eq!(
        profile.architectures,
        [SeccompArch::Aarch64, SeccompArch::Arm]
    );
}

const CONDITIONAL: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {"names": ["always"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "x",
         "includes": {}, "excludes": {}},
        {"name": "legacy", "action": "SCMP_ACT_ALLOW"},
        {"names": ["with_admin"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["without_admin"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["both_caps"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}},
        {"names": ["no_such_cap"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_TOMORROW"]}},
        {"names": ["on_amd64"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["not_on_s390"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390"]}},
        {"names": ["since_4_8"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["since_6_10"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.10"}},
        {"names": ["before_6_10"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.10"}}
    ]
}"#;

#[test]
fn conditions_are_settled_by_capabilities_architecture_and_kernel() {
    assert_eq!(
        names(CONDITIONAL, &HERE),
        [
            "always",
            "legacy",
            "without_admin",
            "on_amd64",
            "not_on_s390",
            "since_4_8",
            "before_6_10"
        ]
    );
    let elsewhere = Conditions {
        capabilities: CapSet::ALL,
        arch: Arch::Aarch64,
        kernel: KernelVersion(6, 12),
    };
    assert_eq!(
        names(CONDITIONAL, &elsewhere),
        [
            "always",
            "legacy",
            "with_admin",
            "both_caps",
            "not_on_s390",
            "since_4_8",
            "since_6_10"
        ]
    );
}

#[test]
fn a_profile_that_says_nothing_filters_nothing() {
    assert_eq!(read("{}").unwrap(), None);
    assert_eq!(read(r#"{"syscalls": []}"#).unwrap(), None);
    let rules = r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    assert!(matches!(read(rules), Err(Error::NoDefaultAction)));
}

#[test]
fn contradictions_and_broken_texts_are_refused() {
    let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}]}"#;
    assert_eq!(
        read(both).unwrap_err().to_string(),
        "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
    );
    let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#;
    assert!(matches!(read(both), Err(Error::Both { .. })));
    for text in [
        "",
        "[]",
        "null",
        "{\"defaultAction\": \"SCMP_ACT_MAYBE\"}",
        "\u{0}",
    ] {
        assert!(matches!(read(text), Err(Error::Decode(_))), "{text:?}");
    }
    for version in ["4", "4.8.1", "0.0", "a.b", "300.1", ""] {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [],
            "action": "SCMP_ACT_ALLOW", "includes": {{"minKernel": "{version}"}}}}]}}"#
        );
        let refused = matches!(read(&text), Err(Error::KernelVersion(_)));
        assert_eq!(refused, !version.is_empty(), "{version:?}");
    }
}

#[test]
fn releases_are_read_up_to_their_second_number() {
    for (release, expected) in [
        ("6.1.0-13-amd64", KernelVersion(6, 1)),
        ("4.8", KernelVersion(4, 8)),
        ("5.10-rc5", KernelVersion(5, 10)),
        ("strange", KernelVersion(0, 0)),
    ] {
        assert_eq!(KernelVersion::of_release(release), expected, "{release}");
    }
    assert!(KernelVersion::running() >= KernelVersion(4, 8));
}
