//! Device rules: their lines, and their program against a small interpreter.
#![allow(clippy::unwrap_used)]

use super::*;

/// Runs a program of ours; a jump or an end outside of it panics.
fn run(program: &[Insn], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0;
    loop {
        let insn = program[at];
        at += 1;
        let (dst, src) = (usize::from(insn.dst()), usize::from(insn.src()));
        let immediate = insn.imm.cast_unsigned();
        let jump = match insn.code {
            LDX_W => {
                assert_eq!(insn.src(), CONTEXT);
                registers[dst] = context[insn.off as usize / 4].into();
                false
            }
            MOV64_IMM => {
                registers[dst] = insn.imm as u64;
                false
            }
            MOV32_REG => {
                registers[dst] = registers[src] as u32 as u64;
                false
            }
            AND32_IMM => {
                registers[dst] = (registers[dst] as u32 & immediate).into();
                false
            }
            RSH32_IMM => {
                registers[dst] = (registers[dst] as u32 >> immediate).into();
                false
            }
            JEQ_IMM => registers[dst] == insn.imm as u64,
            JNE32_IMM => registers[dst] as u32 != immediate,
            EXIT => return registers[0] == 1,
            code => panic!("unknown code {code:#x}"),
        };
        if jump {
            at += insn.off as usize;
        }
    }
}

fn rules(rules: &[DeviceCgroup]) -> Vec<Rule> {
    rules.iter().map(|rule| Rule::of(rule).unwrap()).collect()
}

/// Reads `+c 1:3 rw` and `-a *:* rwm`.
fn rule(text: &str) -> Rule {
    let mut words = text[1..].split(' ');
    let kind = match words.next().unwrap() {
        "a" => None,
        "b" => Some(DeviceKind::Block),
        "c" => Some(DeviceKind::Char),
        other => panic!("{other}"),
    };
    let (major, minor) = words.next().unwrap().split_once(':').unwrap();
    let number = |text: &str| text.parse().ok();
    Rule::of(&DeviceCgroup {
        allow: text.starts_with('+'),
        kind,
        major: number(major),
        minor: number(minor),
        access: Some(words.next().unwrap().to_owned()),
    })
    .unwrap()
}

/// What the rules mean, said in another way than the program says it.
fn expected(rules: &[Rule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    [ACCESS_READ, ACCESS_WRITE, ACCESS_MKNOD]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            rules
                .iter()
                .rfind(|rule| {
                    rule.access & bit != 0
                        && rule.kind.is_none_or(|of| of == kind)
                        && rule.major.is_none_or(|of| of == major)
                        && rule.minor.is_none_or(|of| of == minor)
                })
                .is_none_or(|rule| rule.allow)
        })
}

#[test]
fn the_default_rules_allow_the_harmless_nodes_only() {
    let program = compile(&rules(&default_rules()));
    let rw = ACCESS_READ | ACCESS_WRITE;
    for minor in [3, 5, 7, 8, 9] {
        assert!(run(&program, KIND_CHAR, rw, 1, minor), "1:{minor}");
    }
    for (major, minor) in [(5, 0), (5, 1), (5, 2), (136, 0), (136, 1_000_000)] {
        assert!(
            run(&program, KIND_CHAR, rw, major, minor),
            "{major}:{minor}"
        );
    }
    for (kind, major, minor) in [
        (KIND_CHAR, 1, 1),
        (KIND_CHAR, 1, 11),
        (KIND_CHAR, 10, 229),
        (KIND_BLOCK, 1, 3),
        (KIND_BLOCK, 8, 0),
        (KIND_CHAR, 5, 3),
    ] {
        assert!(
            !run(&program, kind, ACCESS_READ, major, minor),
            "{major}:{minor}"
        );
        assert!(
            run(&program, kind, ACCESS_MKNOD, major, minor),
            "{major}:{minor}"
        );
        assert!(!run(
            &program,
            kind,
            ACCESS_MKNOD | ACCESS_READ,
            major,
            minor
        ));
    }
}

#[test]
fn the_last_matching_rule_wins_for_each_access() {
    let lists: [&[&str]; 8] = [
        &["-a *:* rwm"],
        &["+a *:* rwm"],
        &["-a *:* rwm", "+c 1:* r", "+c 1:3 w", "-c 1:3 r"],
        &["+a *:* rwm", "-c 1:3 w", "-b *:* m"],
        &["-c 1:3 rwm"],
        &["-a *:* rwm", "+c 4294967295:0 rw", "+b *:7 rm"],
        &["-c 1:3 r", "-a *:* rwm", "+a 1:* r", "+a *:* w"],
        &["+c 1:3 rwm", "-a *:* w", "+a *:0 "],
    ];
    for list in lists {
        let rules: Vec<_> = list.iter().map(|text| rule(text)).collect();
        let program = compile(&rules);
        for kind in [KIND_BLOCK, KIND_CHAR] {
            for access in 1..=7 {
                for major in [0, 1, 2, u32::MAX] {
                    for minor in [0, 3, 7] {
                        assert_eq!(
                            run(&program, kind, access, major, minor),
                            expected(&rules, kind, access, major, minor),
                            "{list:?}: kind {kind} access {access} of {major}:{minor}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_program_passes_the_verifier() {
    let lists: [&[&str]; 5] = [
        &["-a *:* rwm"],
        &["-c 1:3 r"],
        &["-a *:* rwm", "+c 1:* r", "-c 1:3 r", "+b 4294967295:0 wm"],
        &["+c *:* m", "+a *:* rwm", "-b 8:* rw"],
        &["+a *:* w", "-a *:* rm"],
    ];
    let mut programs: Vec<_> = lists
        .iter()
        .map(|list| compile(&list.iter().map(|text| rule(text)).collect::<Vec<_>>()))
        .collect();
    programs.push(compile(&rules(&default_rules())));
    for (index, program) in programs.iter().enumerate() {
        match bpf::load_cgroup_device(program) {
            Ok(_) => {}
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => {
                eprintln!("skipped: bpf(2) is not permitted");
                return;
            }
            Err(error) => panic!("program {index} is refused: {error}"),
        }
    }
}

#[test]
fn lines_of_version_1_are_the_kernels() {
    for (text, lines) in [
        ("-a *:* rwm", &["a"][..]),
        ("+a 1:* r", &["b 1:* r", "c 1:* r"]),
        ("+c 136:* rwm", &["c 136:* rwm"]),
        ("+b 8:16 wr", &["b 8:16 rw"]),
        ("+c *:* m", &["c *:* m"]),
    ] {
        assert_eq!(rule(text).lines(), lines, "{text}");
    }
}

#[test]
fn rules_that_mean_nothing_are_refused() {
    let valid = DeviceCgroup {
        kind: Some(DeviceKind::Char),
        major: Some(-1),
        ..DeviceCgroup::default()
    };
    assert_eq!(Rule::of(&valid).unwrap().major, None);
    for broken in [
        DeviceCgroup {
            kind: Some(DeviceKind::Fifo),
            ..valid.clone()
        },
        DeviceCgroup {
            major: Some(-2),
            ..valid.clone()
        },
        DeviceCgroup {
            minor: Some(1 << 32),
            ..valid.clone()
        },
        DeviceCgroup {
            access: Some("rx".to_owned()),
            ..valid
        },
    ] {
        assert!(Rule::of(&broken).is_err(), "{broken:?}");
    }
}
