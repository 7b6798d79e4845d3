//! `linux.seccomp`: the system call filter in libseccomp's words. It must not
//! know system call numbers or BPF.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::absent::{empty_is_none, null_is_default};

/// A system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// What happens to a call no rule names.
    pub default_action: SeccompAction,
    /// The errno (or trace message) of the default action; `EPERM` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures besides the native one.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub architectures: Vec<SeccompArch>,
    /// `SECCOMP_FILTER_FLAG_…` names; `None` lets the runtime choose, an empty list asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Unix socket that gets the listener descriptor of `SCMP_ACT_NOTIFY`.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub listener_path: Option<PathBuf>,
    /// Opaque text sent along with that descriptor.
    #[serde(
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub syscalls: Vec<SeccompSyscall>,
}

/// One rule: system calls, conditions on their arguments, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompSyscall {
    /// System calls by name; unknown ones are skipped.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: SeccompAction,
    /// The errno (or trace message) of the action; `EPERM` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; for [`SeccompOp::MaskedEqual`] the mask.
    pub value: u64,
    /// For [`SeccompOp::MaskedEqual`], what the masked argument is compared with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// How they are compared.
    pub op: SeccompOp,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Kill the thread (the older name of [`SeccompAction::KillThread`]).
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Kill the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Kill the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Send SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Fail with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Notify the tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Let it through.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Let it through and log it.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Ask the listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompOp {
    /// `!=`
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// `<`
    #[serde(rename = "SCMP_CMP_LT")]
    LessThan,
    /// `<=`
    #[serde(rename = "SCMP_CMP_LE")]
    LessEqual,
    /// `==`
    #[serde(rename = "SCMP_CMP_EQ")]
    EqualTo,
    /// `>=`
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterEqual,
    /// `>`
    #[serde(rename = "SCMP_CMP_GT")]
    GreaterThan,
    /// `argument & value == valueTwo`
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A system call architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // each is named after the architecture it is
#[rustfmt::skip]
pub enum SeccompArch {
    #[serde(rename = "SCMP_ARCH_X86")] X86,
    #[serde(rename = "SCMP_ARCH_X86_64")] X86_64,
    #[serde(rename = "SCMP_ARCH_X32")] X32,
    #[serde(rename = "SCMP_ARCH_ARM")] Arm,
    #[serde(rename = "SCMP_ARCH_AARCH64")] Aarch64,
    #[serde(rename = "SCMP_ARCH_LOONGARCH64")] LoongArch64,
    #[serde(rename = "SCMP_ARCH_M68K")] M68k,
    #[serde(rename = "SCMP_ARCH_MIPS")] Mips,
    #[serde(rename = "SCMP_ARCH_MIPS64")] Mips64,
    #[serde(rename = "SCMP_ARCH_MIPS64N32")] Mips64N32,
    #[serde(rename = "SCMP_ARCH_MIPSEL")] Mipsel,
    #[serde(rename = "SCMP_ARCH_MIPSEL64")] Mipsel64,
    #[serde(rename = "SCMP_ARCH_MIPSEL64N32")] Mipsel64N32,
    #[serde(rename = "SCMP_ARCH_PPC")] Ppc,
    #[serde(rename = "SCMP_ARCH_PPC64")] Ppc64,
    #[serde(rename = "SCMP_ARCH_PPC64LE")] Ppc64le,
    #[serde(rename = "SCMP_ARCH_S390")] S390,
    #[serde(rename = "SCMP_ARCH_S390X")] S390x,
    #[serde(rename = "SCMP_ARCH_PARISC")] Parisc,
    #[serde(rename = "SCMP_ARCH_PARISC64")] Parisc64,
    #[serde(rename = "SCMP_ARCH_RISCV64")] Riscv64,
    #[serde(rename = "SCMP_ARCH_SH")] Sh,
    #[serde(rename = "SCMP_ARCH_SHEB")] Sheb,
}
