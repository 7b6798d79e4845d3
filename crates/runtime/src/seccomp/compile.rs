//! From a profile's rules to a program. It must not know which calls are
//! harmless.
//!
//! Where rules of one call disagree, the words of libseccomp and runc hold: a
//! rule without conditions decides alone, the first of several; among rules
//! with conditions the first that holds decides; a rule with two conditions on
//! the same argument stands for one rule each; what a masked comparison compares
//! with is masked too.

use std::collections::{BTreeMap, BTreeSet};

use conex_spec::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOp};
use conex_sys::seccomp as bpf;
use conex_sys::seccomp::{MAX_INSTRUCTIONS, OFFSET_ARCH, OFFSET_NR, Program};

use super::Error;
use super::arch::{Arch, X32_BIT};
use super::assemble::{Assembler, Target};

const EPERM: u32 = 1;
const ENOSYS: u32 = bpf::ERRNO | 38;
const MAX_ERRNO: u32 = 4095;
/// Number with which a tracer says that the call is to be skipped.
const SKIPPED: u32 = u32::MAX;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Program,
    /// `FLAG_*` bits for the installation, without the listener's.
    pub flags: u32,
    /// Whether a rule asks a listener, which makes one descriptor on installation.
    pub notify: bool,
}

/// Compiles a profile for this machine's architecture and those the profile adds.
///
/// Architectures without a table of system calls are left out, and calls of an
/// architecture that is not in the filter kill the process, as no rule could
/// say what their numbers mean. x32 calls fail with `ENOSYS`.
pub fn compile(profile: &Seccomp) -> Result<Filter, Error> {
    compile_for(profile, Arch::native())
}

/// Compiles a profile for a machine of the given architecture.
pub fn compile_for(profile: &Seccomp, native: Arch) -> Result<Filter, Error> {
    let default = answer(profile.default_action, profile.default_errno_ret)?;
    if profile.default_action == SeccompAction::Notify {
        return Err(Error::Notify("as default action"));
    }
    let mut arches = vec![native];
    for arch in profile.architectures.iter().copied() {
        if let Some(arch) = Arch::from_spec(arch)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }

    let mut assembler = Assembler::default();
    // The native block is written last, so that it is nearest to the start.
    let mut blocks = Vec::new();
    for &arch in arches.iter().rev() {
        let block = block(&mut assembler, profile, arch, default)?;
        blocks.push((arch, block));
    }
    let mut dispatch = Target::Return(bpf::KILL_PROCESS);
    for (arch, block) in blocks {
        dispatch = assembler.branch(bpf::JEQ, arch.audit(), block, dispatch);
    }
    let entry = assembler.load(OFFSET_ARCH, dispatch);
    let program = assembler.finish(entry);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(Filter {
        program,
        flags: flags(profile)?,
        notify: profile
            .syscalls
            .iter()
            .any(|rule| rule.action == SeccompAction::Notify),
    })
}

/// The word a filter returns for an action.
fn answer(action: SeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        SeccompAction::Kill | SeccompAction::KillThread => bpf::KILL_THREAD,
        SeccompAction::KillProcess => bpf::KILL_PROCESS,
        SeccompAction::Trap => bpf::TRAP,
        SeccompAction::Errno if data > MAX_ERRNO => return Err(Error::Errno(data)),
        SeccompAction::Errno => bpf::ERRNO | data,
        SeccompAction::Trace => bpf::TRACE | (data & 0xffff),
        SeccompAction::Allow => bpf::ALLOW,
        SeccompAction::Log => bpf::LOG,
        SeccompAction::Notify => bpf::NOTIFY,
    })
}

/// Whether a call that gets this answer may happen.
fn permits(answer: u32) -> bool {
    matches!(
        answer & 0xffff_0000,
        bpf::ALLOW | bpf::LOG | bpf::TRACE | bpf::NOTIFY
    )
}

fn flags(profile: &Seccomp) -> Result<u32, Error> {
    let Some(names) = &profile.flags else {
        // What runc does: the mitigation costs much and protects only itself.
        return Ok(bpf::FLAG_SPEC_ALLOW);
    };
    let mut flags = 0;
    for name in names {
        flags |= match name.as_str() {
            // One thread is all there is before exec.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => bpf::FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => bpf::FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => bpf::FLAG_WAIT_KILLABLE_RECV,
            _ => return Err(Error::Flag(name.clone())),
        };
    }
    Ok(flags)
}

/// A condition on an argument, all of them to hold, and the answer then.
#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<SeccompArg>,
    answer: u32,
}

/// The rules of one architecture.
#[derive(Debug, Default)]
struct Numbered {
    rules: BTreeMap<u32, Vec<Rule>>,
    /// The greatest number named, also by rules that say what the default says.
    greatest: Option<u32>,
}

fn resolve(profile: &Seccomp, arch: Arch, default: u32) -> Result<Numbered, Error> {
    let Numbered {
        mut rules,
        mut greatest,
    } = Numbered::default();
    for entry in &profile.syscalls {
        let answer = answer(entry.action, entry.errno_ret)?;
        for name in &entry.names {
            if let Some(condition) = entry.args.iter().find(|condition| condition.index > 5) {
                return Err(Error::Argument {
                    syscall: name.clone(),
                    index: condition.index,
                });
            }
            if entry.action == SeccompAction::Notify && name == "write" {
                // The descriptor itself is handed over by a write.
                return Err(Error::Notify("for the write syscall"));
            }
            let number = arch.number(name);
            greatest = greatest.max(number);
            if answer == default {
                continue;
            }
            if let Some(number) = number {
                rules
                    .entry(number)
                    .or_default()
                    .extend(alternatives(&entry.args, answer));
            }
            // Behind the old door the arguments cannot be seen: refuse what
            // is refused for some of them, permit only what is for all.
            if let Some(door) = arch.multiplexed(name)
                && (entry.args.is_empty() || !permits(answer))
                && let Some(through) = arch.number(door.through)
            {
                rules.entry(through).or_default().push(Rule {
                    conditions: vec![SeccompArg {
                        index: 0,
                        value: door.mask.into(),
                        value_two: door.selector.into(),
                        op: SeccompOp::MaskedEqual,
                    }],
                    answer,
                });
            }
        }
    }
    Ok(Numbered { rules, greatest })
}

fn alternatives(conditions: &[SeccompArg], answer: u32) -> Vec<Rule> {
    let mut seen = [false; 6];
    let repeated = conditions
        .iter()
        .any(|condition| std::mem::replace(&mut seen[condition.index as usize], true));
    let rule = |conditions: &[SeccompArg]| Rule {
        conditions: conditions.to_vec(),
        answer,
    };
    if repeated {
        conditions.chunks(1).map(rule).collect()
    } else {
        vec![rule(conditions)]
    }
}

/// Writes the part of the program for one architecture.
fn block(
    assembler: &mut Assembler,
    profile: &Seccomp,
    arch: Arch,
    default: u32,
) -> Result<Target, Error> {
    let Numbered { rules, greatest } = resolve(profile, arch, default)?;
    let younger = match greatest {
        Some(_) if !permits(default) => ENOSYS,
        _ => default,
    };
    let mut ranges = vec![(0, Target::Return(default))];
    let mut put = |first: u32, target: Target| match ranges.last_mut() {
        Some(last) if last.0 == first => last.1 = target,
        _ => ranges.push((first, target)),
    };
    for (number, rules) in rules {
        let target = decision(assembler, &rules, arch, default);
        put(number, target);
        put(number + 1, Target::Return(default));
    }
    if let Some(greatest) = greatest {
        put(greatest + 1, Target::Return(younger));
    }
    if arch == Arch::X86_64 {
        put(X32_BIT, Target::Return(ENOSYS));
        put(SKIPPED, Target::Return(younger));
    }
    ranges.dedup_by_key(|(_, target)| *target);
    let search = assembler.search(&ranges);
    Ok(assembler.load(OFFSET_NR, search))
}

/// Writes what decides about one call.
fn decision(assembler: &mut Assembler, rules: &[Rule], arch: Arch, default: u32) -> Target {
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return Target::Return(rule.answer);
    }
    if let Some(index) = single_argument(rules) {
        return by_value(assembler, rules, index, arch, default);
    }
    rules
        .iter()
        .rev()
        .fold(Target::Return(default), |otherwise, rule| {
            rule.conditions
                .iter()
                .rev()
                .fold(Target::Return(rule.answer), |then, condition| {
                    compare(assembler, condition, arch, then, otherwise)
                })
        })
}

/// The argument that all rules compare with plain numbers, if they do.
fn single_argument(rules: &[Rule]) -> Option<u8> {
    let mut indexes = rules.iter().map(|rule| match rule.conditions[..] {
        [condition] if condition.op != SeccompOp::MaskedEqual => u8::try_from(condition.index).ok(),
        _ => None,
    });
    let first = indexes.next()??;
    indexes.all(|index| index == Some(first)).then_some(first)
}

/// Writes rules on one argument as a search: its values fall into ranges.
fn by_value(
    assembler: &mut Assembler,
    rules: &[Rule],
    index: u8,
    arch: Arch,
    default: u32,
) -> Target {
    let conditions = rules.iter().flat_map(|rule| &rule.conditions);
    let mut firsts = BTreeSet::from([0u64]);
    for condition in conditions {
        firsts.insert(condition.value);
        firsts.extend(condition.value.checked_add(1));
    }
    let answer_to = |value: u64| {
        rules
            .iter()
            .find(|rule| {
                rule.conditions
                    .iter()
                    .all(|condition| holds(condition, value))
            })
            .map_or(default, |rule| rule.answer)
    };

    let low_word = bpf::offset_arg(index);
    let mut highs = Vec::new();
    let boundaries: BTreeSet<u32> = firsts
        .iter()
        .map(|first| (first >> 32) as u32)
        .flat_map(|high| [Some(high), high.checked_add(1)])
        .flatten()
        .collect();
    for high in boundaries {
        let base = u64::from(high) << 32;
        let mut lows = vec![(0, Target::Return(answer_to(base)))];
        for &first in firsts.range(base + 1..=base + u64::from(u32::MAX)) {
            lows.push((first as u32, Target::Return(answer_to(first))));
        }
        lows.dedup_by_key(|(_, target)| *target);
        let search = assembler.search(&lows);
        highs.push((high, assembler.load(low_word, search)));
    }
    if arch.is_32_bit() {
        return highs[0].1;
    }
    highs.dedup_by_key(|(_, target)| *target);
    if let [(_, only)] = highs[..] {
        return only;
    }
    let search = assembler.search(&highs);
    assembler.load(low_word + 4, search)
}

fn holds(condition: &SeccompArg, value: u64) -> bool {
    match condition.op {
        SeccompOp::NotEqual => value != condition.value,
        SeccompOp::LessThan => value < condition.value,
        SeccompOp::LessEqual => value <= condition.value,
        SeccompOp::EqualTo => value == condition.value,
        SeccompOp::GreaterEqual => value >= condition.value,
        SeccompOp::GreaterThan => value > condition.value,
        SeccompOp::MaskedEqual => (value ^ condition.value_two) & condition.value == 0,
    }
}

/// Writes one 64-bit comparison, high word first.
fn compare(
    assembler: &mut Assembler,
    condition: &SeccompArg,
    arch: Arch,
    then: Target,
    otherwise: Target,
) -> Target {
    let low_word = bpf::offset_arg(condition.index as u8);
    let high_word = low_word + 4;
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = split(condition.value);

    if condition.op == SeccompOp::MaskedEqual {
        // libseccomp leaves what is outside of the mask out on both sides.
        let (want_high, want_low) = split(condition.value_two & condition.value);
        let test = assembler.branch(bpf::JEQ, want_low, then, otherwise);
        let test = masked(assembler, low, test);
        let test = assembler.load(low_word, test);
        if want_high == 0 && (high == 0 || arch.is_32_bit()) {
            return test;
        }
        let test = assembler.branch(bpf::JEQ, want_high, test, otherwise);
        let test = masked(assembler, high, test);
        return assembler.load(high_word, test);
    }

    let (code, then, otherwise) = match condition.op {
        SeccompOp::NotEqual => (bpf::JEQ, otherwise, then),
        SeccompOp::LessThan => (bpf::JGE, otherwise, then),
        SeccompOp::LessEqual => (bpf::JGT, otherwise, then),
        SeccompOp::GreaterEqual => (bpf::JGE, then, otherwise),
        SeccompOp::GreaterThan => (bpf::JGT, then, otherwise),
        SeccompOp::EqualTo | SeccompOp::MaskedEqual => (bpf::JEQ, then, otherwise),
    };
    let test = assembler.branch(code, low, then, otherwise);
    let test = assembler.load(low_word, test);
    if high == 0 && arch.is_32_bit() {
        return test;
    }
    let test = assembler.branch(bpf::JEQ, high, test, otherwise);
    let test = if code == bpf::JEQ {
        test
    } else {
        assembler.branch(bpf::JGT, high, then, test)
    };
    assembler.load(high_word, test)
}

fn masked(assembler: &mut Assembler, mask: u32, test: Target) -> Target {
    if mask == u32::MAX {
        test
    } else {
        assembler.then(bpf::AND, mask, test)
    }
}

#[cfg(test)]
mod tests;
