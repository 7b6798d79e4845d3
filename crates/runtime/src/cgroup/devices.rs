//! Device access: rules as lines of the version 1 controller, or compiled to an
//! eBPF program for a version 2 cgroup. It must not know device nodes.
//!
//! For each kind of access asked for, the last rule that matches decides; where
//! none does, what the parent cgroup allows is allowed. Version 1 keeps a list
//! instead, with the same outcome but where a rule takes away part of what an
//! earlier rule with wildcards gave: there the kernel keeps the part.

use std::os::fd::{AsFd, BorrowedFd};

use conex_spec::runtime::{DeviceCgroup, DeviceKind, Resources};
use conex_sys::bpf;
use conex_sys::bpf::{
    ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE, AND32_IMM, ATTACH_ALLOW_MULTI, ATTACH_REPLACE, EXIT,
    Insn, JEQ_IMM, JNE32_IMM, KIND_BLOCK, KIND_CHAR, LDX_W, MOV32_REG, MOV64_IMM, RSH32_IMM,
};

use super::Error;
use super::file::{Dir, Place};

const EVERY_ACCESS: u32 = ACCESS_READ | ACCESS_WRITE | ACCESS_MKNOD;

/// What every container may use: nothing but nodes may be made of anything, and
/// null, zero, full, random, urandom, tty, console, ptmx and pseudo-terminals used.
pub fn default_rules() -> Vec<DeviceCgroup> {
    let rule = |allow, kind, major, minor, access: &str| DeviceCgroup {
        allow,
        kind,
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules = vec![
        rule(false, None, None, None, "rwm"),
        rule(true, Some(DeviceKind::Char), None, None, "m"),
        rule(true, Some(DeviceKind::Block), None, None, "m"),
    ];
    let nodes = [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ];
    for (major, minor) in nodes {
        let char = Some(DeviceKind::Char);
        rules.push(rule(true, char, Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, Some(DeviceKind::Char), Some(136), None, "rwm"));
    rules
}

/// A rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `None` is every kind.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Rule {
    fn of(rule: &DeviceCgroup) -> Result<Self, Error> {
        let kind = match rule.kind {
            None | Some(DeviceKind::All) => None,
            Some(DeviceKind::Block) => Some(KIND_BLOCK),
            Some(DeviceKind::Char | DeviceKind::UnbufferedChar) => Some(KIND_CHAR),
            Some(DeviceKind::Fifo) => {
                return Err(Error::Invalid("a fifo needs no device rule".to_owned()));
            }
        };
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| Error::Invalid(format!("{number} is no device number"))),
        };
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => ACCESS_READ,
                'w' => ACCESS_WRITE,
                'm' => ACCESS_MKNOD,
                _ => {
                    return Err(Error::Invalid(format!(
                        "{letter:?} is no device access, which is of \"rwm\""
                    )));
                }
            };
        }
        Ok(Self {
            allow: rule.allow,
            kind,
            major: number(rule.major)?,
            minor: number(rule.minor)?,
            access,
        })
    }

    fn matches_everything(&self) -> bool {
        self.kind.is_none()
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == EVERY_ACCESS
    }

    /// Its lines for `devices.allow` or `devices.deny`.
    fn lines(&self) -> Vec<String> {
        if self.matches_everything() {
            return vec!["a".to_owned()];
        }
        // The kernel takes `a` to mean every device whatever stands after it.
        let kinds: &[char] = match self.kind {
            Some(KIND_BLOCK) => &['b'],
            Some(_) => &['c'],
            None => &['b', 'c'],
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        let access: String = [(ACCESS_READ, 'r'), (ACCESS_WRITE, 'w'), (ACCESS_MKNOD, 'm')]
            .into_iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect();
        kinds
            .iter()
            .map(|kind| format!("{kind} {major}:{minor} {access}"))
            .collect()
    }
}

/// Applies the rules; without any, what the parent cgroup allows stays allowed.
pub(super) fn apply(
    place: Place<'_>,
    unified: Option<BorrowedFd<'_>>,
    resources: &Resources,
) -> Result<(), Error> {
    if resources.devices.is_empty() {
        return Ok(());
    }
    let rules = resources
        .devices
        .iter()
        .map(Rule::of)
        .collect::<Result<Vec<_>, _>>()?;
    match (place, unified) {
        (Place::V1(dir), _) => apply_v1(dir, &rules),
        (_, Some(cgroup)) => attach(cgroup, &rules),
        // Leaving it at a warning would hand every device of the host out.
        _ => Err(Error::NoDeviceController),
    }
}

fn apply_v1(dir: Dir<'_>, rules: &[Rule]) -> Result<(), Error> {
    for rule in rules.iter().filter(|rule| rule.access != 0) {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        for line in rule.lines() {
            dir.write(file, line)?;
        }
    }
    Ok(())
}

/// Puts a program for the rules in the place of those that are attached.
fn attach(cgroup: BorrowedFd<'_>, rules: &[Rule]) -> Result<(), Error> {
    let failed = |action| move |source| Error::DeviceProgram { action, source };
    let attached = bpf::attached_cgroup_devices(cgroup).map_err(failed("query"))?;
    if attached.is_empty()
        && rules
            .last()
            .is_some_and(|r| r.allow && r.matches_everything())
    {
        // A privileged container: the program would say yes to everything.
        return Ok(());
    }
    let program = bpf::load_cgroup_device(&compile(rules)).map_err(failed("load"))?;
    let program = program.as_fd();
    if let [old] = &attached[..]
        && bpf::attach_cgroup_device(
            cgroup,
            program,
            ATTACH_ALLOW_MULTI | ATTACH_REPLACE,
            Some(old.as_fd()),
        )
        .is_ok()
    {
        return Ok(());
    }
    // All attached programs must allow, so old and new together are never too lax.
    bpf::attach_cgroup_device(cgroup, program, ATTACH_ALLOW_MULTI, None)
        .map_err(failed("attach"))?;
    for old in attached {
        bpf::detach_cgroup_device(cgroup, old.as_fd()).map_err(failed("detach"))?;
    }
    Ok(())
}

const R0: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access no rule has decided about yet.
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Compiles rules, the last of which is asked first.
fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        Insn::new(LDX_W, KIND, CONTEXT, 0, 0),
        Insn::new(MOV32_REG, WANTED, KIND, 0, 0),
        Insn::new(AND32_IMM, KIND, 0, 0, 0xffff),
        Insn::new(RSH32_IMM, WANTED, 0, 0, 16),
        Insn::new(LDX_W, MAJOR, CONTEXT, 4, 0),
        Insn::new(LDX_W, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev().filter(|rule| rule.access != 0) {
        program.extend(block(rule));
        if rule.matches_everything() {
            // Nothing comes past it, and the verifier refuses what is never reached.
            return program;
        }
    }
    program.extend(answer(true));
    program
}

/// One rule: on to the next unless it decides.
fn block(rule: &Rule) -> Vec<Insn> {
    // A jump's distance is only known when what it jumps over is, so from behind.
    let mut block = Vec::from(answer(rule.allow));
    block.reverse();
    // Skips to the end of the block from in front of what there is of it.
    let skip_unless = |block: &mut Vec<Insn>, code, register, value: u32| {
        let distance = block.len() as i16;
        block.push(Insn::new(code, register, 0, distance, value.cast_signed()));
    };
    if rule.access != EVERY_ACCESS {
        if rule.allow {
            skip_unless(&mut block, JNE32_IMM, WANTED, 0);
            let others = !rule.access;
            block.push(Insn::new(AND32_IMM, WANTED, 0, 0, others.cast_signed()));
        } else {
            skip_unless(&mut block, JEQ_IMM, SCRATCH, 0);
            let access = rule.access.cast_signed();
            block.push(Insn::new(AND32_IMM, SCRATCH, 0, 0, access));
            block.push(Insn::new(MOV32_REG, SCRATCH, WANTED, 0, 0));
        }
    }
    for (register, value) in [(MINOR, rule.minor), (MAJOR, rule.major), (KIND, rule.kind)] {
        if let Some(value) = value {
            skip_unless(&mut block, JNE32_IMM, register, value);
        }
    }
    block.reverse();
    block
}

fn answer(allow: bool) -> [Insn; 2] {
    [
        Insn::new(MOV64_IMM, R0, 0, 0, i32::from(allow)),
        Insn::new(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
