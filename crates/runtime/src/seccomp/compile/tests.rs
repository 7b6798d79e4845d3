//! Programs against what their profiles mean, said in another way.
#![allow(clippy::unwrap_used)]

use conex_spec::runtime::{SeccompArch, SeccompSyscall};
use conex_sys::seccomp::{ALLOW, Data, ERRNO, KILL_PROCESS, LOG, TRAP, evaluate};

use super::*;

fn profile(default_action: SeccompAction, syscalls: Vec<SeccompSyscall>) -> Seccomp {
    Seccomp {
        default_action,
        default_errno_ret: None,
        architectures: vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

fn rule(
    name: &str,
    action: SeccompAction,
    errno: Option<u32>,
    args: &[SeccompArg],
) -> SeccompSyscall {
    SeccompSyscall {
        names: vec![name.to_owned()],
        action,
        errno_ret: errno,
        args: args.to_vec(),
    }
}

fn on(index: u32, op: SeccompOp, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg {
        index,
        value,
        value_two,
        op,
    }
}

fn compiled(profile: &Seccomp) -> Filter {
    compile_for(profile, Arch::X86_64).unwrap()
}

fn ask(filter: &Filter, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    let data = Data {
        nr,
        arch: arch.audit(),
        instruction_pointer: 0,
        args,
    };
    evaluate(&filter.program, &data).unwrap()
}

fn ask_name(filter: &Filter, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    ask(filter, arch, arch.number(name).unwrap(), args)
}

const OPS: [SeccompOp; 7] = [
    SeccompOp::NotEqual,
    SeccompOp::LessThan,
    SeccompOp::LessEqual,
    SeccompOp::EqualTo,
    SeccompOp::GreaterEqual,
    SeccompOp::GreaterThan,
    SeccompOp::MaskedEqual,
];

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0x2_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

#[test]
fn every_operator_compares_all_64_bits() {
    // Beside another argument, so that the general way is taken, and alone.
    for op in OPS {
        for value in VALUES {
            for value_two in [0, 1, 0x1_0000_0000] {
                let tested = on(1, op, value, value_two);
                let alone = [tested];
                let beside = [on(0, SeccompOp::EqualTo, 7, 0), tested];
                for conditions in [&alone[..], &beside] {
                    let filter = compiled(&profile(
                        SeccompAction::Errno,
                        vec![rule("read", SeccompAction::Allow, None, conditions)],
                    ));
                    for argument in VALUES {
                        let expected = if holds(&tested, argument) {
                            ALLOW
                        } else {
                            ERRNO | 1
                        };
                        assert_eq!(
                            ask(&filter, Arch::X86_64, 0, [7, argument, 0, 0, 0, 0]),
                            expected,
                            "{argument:#x} {tested:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn arguments_of_i386_are_compared_by_their_32_bits() {
    for op in OPS {
        for value in VALUES {
            let tested = on(2, op, value, 1);
            let filter = compiled(&profile(
                SeccompAction::Errno,
                vec![rule("read", SeccompAction::Log, None, &[tested])],
            ));
            for argument in VALUES.into_iter().filter(|value| *value < 1 << 32) {
                let expected = if holds(&tested, argument) {
                    LOG
                } else {
                    ERRNO | 1
                };
                let args = [0, 0, argument, 0, 0, 0];
                assert_eq!(
                    ask_name(&filter, Arch::X86, "read", args),
                    expected,
                    "{argument:#x} {tested:?}"
                );
            }
        }
    }
}

/// The rules of a call applied one after the other, as the module says.
fn expected(profile: &Seccomp, name: &str, args: [u64; 6]) -> u32 {
    let default = answer(profile.default_action, profile.default_errno_ret).unwrap();
    let rules: Vec<_> = profile
        .syscalls
        .iter()
        .filter(|rule| rule.names.iter().any(|of| of == name))
        .map(|rule| (rule, answer(rule.action, rule.errno_ret).unwrap()))
        .filter(|(_, answer)| *answer != default)
        .collect();
    if let Some((_, answer)) = rules.iter().find(|(rule, _)| rule.args.is_empty()) {
        return *answer;
    }
    rules
        .iter()
        .find(|(rule, _)| {
            let holds = |arg: &SeccompArg| holds(arg, args[arg.index as usize]);
            let repeated = (0..6).any(|i| rule.args.iter().filter(|a| a.index == i).count() > 1);
            if repeated {
                rule.args.iter().any(holds)
            } else {
                rule.args.iter().all(holds)
            }
        })
        .map_or(default, |(_, answer)| *answer)
}

#[test]
fn any_mixture_of_rules_means_what_it_says() {
    // A fixed sequence, so that a failure can be had again.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let names = ["read", "write", "openat", "mmap", "clone", "prctl", "close"];
    let actions = [
        SeccompAction::Allow,
        SeccompAction::Errno,
        SeccompAction::Trap,
        SeccompAction::Log,
    ];
    for round in 0..200 {
        let rules = (0..random(20))
            .map(|_| {
                let conditions: Vec<_> = (0..random(4))
                    .map(|_| {
                        let value = VALUES[random(VALUES.len())];
                        let mask = VALUES[random(VALUES.len())];
                        on(random(3) as u32, OPS[random(7)], value, mask)
                    })
                    .collect();
                let action = actions[random(actions.len())];
                rule(
                    names[random(names.len())],
                    action,
                    Some(random(3) as u32),
                    &conditions,
                )
            })
            .collect();
        let profile = profile(actions[random(actions.len())], rules);
        let filter = compiled(&profile);
        for name in names {
            for _ in 0..40 {
                let mut args = [0; 6];
                args.fill_with(|| VALUES[random(VALUES.len())]);
                let number = Arch::X86_64.number(name).unwrap();
                let named = profile.syscalls.iter().flat_map(|rule| &rule.names);
                let greatest = named.filter_map(|name| Arch::X86_64.number(name)).max();
                let younger = profile.default_action != SeccompAction::Allow
                    && profile.default_action != SeccompAction::Log
                    && greatest.is_some_and(|greatest| number > greatest);
                let expected = if younger {
                    ENOSYS
                } else {
                    expected(&profile, name, args)
                };
                assert_eq!(
                    ask(&filter, Arch::X86_64, number, args),
                    expected,
                    "round {round}: {name}{args:x?} by {profile:#?}"
                );
            }
        }
    }
}

#[test]
fn a_rule_without_conditions_decides_alone() {
    let family = on(0, SeccompOp::EqualTo, 1, 0);
    let filter = compiled(&profile(
        SeccompAction::Errno,
        vec![
            rule("socket", SeccompAction::Errno, Some(97), &[family]),
            rule("socket", SeccompAction::Allow, None, &[]),
            rule("socket", SeccompAction::Trap, None, &[]),
        ],
    ));
    assert_eq!(ask_name(&filter, Arch::X86_64, "socket", [1; 6]), ALLOW);
}

#[test]
fn calls_younger_than_the_profile_are_missing_not_forbidden() {
    let rules = vec![rule("openat2", SeccompAction::Allow, None, &[])];
    let strict = compiled(&profile(SeccompAction::KillProcess, rules.clone()));
    for arch in [Arch::X86_64, Arch::X86] {
        assert_eq!(ask(&strict, arch, 436, [0; 6]), KILL_PROCESS);
        assert_eq!(ask(&strict, arch, 437, [0; 6]), ALLOW);
        assert_eq!(ask(&strict, arch, 438, [0; 6]), ENOSYS);
    }
    let permissive = compiled(&profile(SeccompAction::Log, rules));
    assert_eq!(ask(&permissive, Arch::X86_64, 438, [0; 6]), LOG);
    let empty = compiled(&profile(SeccompAction::Trap, Vec::new()));
    assert_eq!(ask(&empty, Arch::X86_64, 5000, [0; 6]), TRAP);
}

#[test]
fn x32_calls_are_missing_whatever_the_default() {
    let x32_getpid = 39 | X32_BIT;
    for default in [SeccompAction::Allow, SeccompAction::KillThread] {
        let filter = compiled(&profile(
            default,
            vec![rule("read", SeccompAction::Trap, None, &[])],
        ));
        assert_eq!(ask(&filter, Arch::X86_64, x32_getpid, [0; 6]), ENOSYS);
        assert_eq!(ask(&filter, Arch::X86_64, SKIPPED - 1, [0; 6]), ENOSYS);
    }
    let permissive = compiled(&profile(SeccompAction::Allow, Vec::new()));
    assert_eq!(
        ask(&permissive, Arch::X86_64, SKIPPED, [0; 6]),
        ALLOW,
        "a tracer skips a call this way"
    );
}

#[test]
fn a_foreign_architecture_is_killed() {
    let mut profile = profile(SeccompAction::Allow, Vec::new());
    profile.architectures.clear();
    let filter = compiled(&profile);
    assert_eq!(ask(&filter, Arch::X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(ask(&filter, Arch::X86, 0, [0; 6]), KILL_PROCESS);
    assert_eq!(ask(&filter, Arch::Aarch64, 0, [0; 6]), KILL_PROCESS);
    let aarch64 = compile_for(&profile, Arch::Aarch64).unwrap();
    assert_eq!(ask(&aarch64, Arch::Aarch64, 0, [0; 6]), ALLOW);
    assert_eq!(ask(&aarch64, Arch::X86_64, 0, [0; 6]), KILL_PROCESS);
}

#[test]
fn a_forbidden_call_is_forbidden_through_the_old_door_too() {
    let vsock = on(0, SeccompOp::EqualTo, 40, 0);
    let filter = compiled(&profile(
        SeccompAction::Allow,
        vec![
            rule("socket", SeccompAction::Errno, None, &[vsock]),
            rule("listen", SeccompAction::Errno, Some(13), &[]),
            rule("shmget", SeccompAction::Errno, Some(12), &[]),
        ],
    ));
    let door = |name: &str, selector| ask_name(&filter, Arch::X86, name, [selector, 0, 0, 0, 0, 0]);
    assert_eq!(
        door("socketcall", 1),
        ERRNO | 1,
        "its family cannot be seen"
    );
    assert_eq!(door("socketcall", 2), ALLOW);
    assert_eq!(door("socketcall", 4), ERRNO | 13);
    assert_eq!(door("ipc", 23), ERRNO | 12);
    assert_eq!(
        door("ipc", 0x1_0000 | 23),
        ERRNO | 12,
        "version 1 of the call"
    );
    assert_eq!(door("ipc", 22), ALLOW);
    assert_eq!(
        ask_name(&filter, Arch::X86_64, "listen", [0; 6]),
        ERRNO | 13
    );
    assert_eq!(ask_name(&filter, Arch::X86, "listen", [0; 6]), ERRNO | 13);

    let unix = on(0, SeccompOp::EqualTo, 1, 0);
    let filter = compiled(&profile(
        SeccompAction::Errno,
        vec![
            rule("socket", SeccompAction::Allow, None, &[unix]),
            rule("bind", SeccompAction::Allow, None, &[]),
        ],
    ));
    let door = |selector| ask_name(&filter, Arch::X86, "socketcall", [selector, 0, 0, 0, 0, 0]);
    assert_eq!(door(1), ERRNO | 1, "only some families are allowed");
    assert_eq!(door(2), ALLOW);
}

#[test]
fn flags_and_listener_are_told() {
    let mut asked = profile(SeccompAction::Errno, Vec::new());
    assert_eq!(compiled(&asked).flags, bpf::FLAG_SPEC_ALLOW);
    asked.flags = Some(Vec::new());
    assert_eq!(compiled(&asked).flags, 0);
    asked.flags = Some(vec![
        "SECCOMP_FILTER_FLAG_LOG".to_owned(),
        "SECCOMP_FILTER_FLAG_TSYNC".to_owned(),
    ]);
    assert_eq!(compiled(&asked).flags, bpf::FLAG_LOG);
    asked.flags = Some(vec!["SECCOMP_FILTER_FLAG_NEW_LISTENER".to_owned()]);
    assert!(matches!(compile(&asked), Err(Error::Flag(_))));

    let notified = |name| {
        let rules = vec![rule(name, SeccompAction::Notify, None, &[])];
        compile(&profile(SeccompAction::Allow, rules))
    };
    assert!(notified("mkdir").unwrap().notify);
    assert!(matches!(notified("write"), Err(Error::Notify(_))));
    let default = profile(SeccompAction::Notify, Vec::new());
    assert!(matches!(compile(&default), Err(Error::Notify(_))));
}

#[test]
fn what_no_kernel_could_do_is_refused() {
    let argument = on(6, SeccompOp::EqualTo, 0, 0);
    let rules = vec![rule("read", SeccompAction::Allow, None, &[argument])];
    assert!(matches!(
        compile(&profile(SeccompAction::Errno, rules)),
        Err(Error::Argument { index: 6, .. })
    ));
    let rules = vec![rule("read", SeccompAction::Errno, Some(4096), &[])];
    assert!(matches!(
        compile(&profile(SeccompAction::Allow, rules)),
        Err(Error::Errno(4096))
    ));
    let many: Vec<_> = (0..2000)
        .map(|value| on(value % 2, SeccompOp::MaskedEqual, value.into(), 1))
        .map(|condition| rule("read", SeccompAction::Allow, None, &[condition]))
        .collect();
    assert!(matches!(
        compile(&profile(SeccompAction::Errno, many)),
        Err(Error::TooLong(_))
    ));
    let unknown = vec![rule("no_such_call", SeccompAction::Allow, None, &[])];
    assert!(compile(&profile(SeccompAction::Errno, unknown)).is_ok());
}
