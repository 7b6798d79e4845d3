//! eBPF as far as a device controller needs it: the instruction encoding and
//! the bpf(2) commands that load a `cgroup/dev` program and attach it to a
//! cgroup v2 directory. It must not know what a device rule is.
//!
//! ```text
//!  instruction  code: u8 | src: u4, dst: u4 | off: i16 | imm: i32
//!  context      access << 16 | kind: u32,  major: u32,  minor: u32   (r1 points at it)
//!  answer       r0 = 1 allow, 0 refuse (EPERM)
//! ```

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `r = *(u32 *)(src + off)`.
pub const LDX_W: u8 = 0x61;
/// `dst = imm`, 64 bits wide.
pub const MOV64_IMM: u8 = 0xb7;
/// `dst = src`, 32 bits wide.
pub const MOV32_REG: u8 = 0xbc;
/// `dst &= imm`, 32 bits wide.
pub const AND32_IMM: u8 = 0x54;
/// `dst >>= imm`, 32 bits wide.
pub const RSH32_IMM: u8 = 0x74;
/// Skips `off` instructions if `dst == imm`.
pub const JEQ_IMM: u8 = 0x15;
/// Skips `off` instructions if `dst != imm`, compared as 32 bits.
pub const JNE32_IMM: u8 = 0x56;
/// Returns r0.
pub const EXIT: u8 = 0x95;

/// `access` bit of the context: mknod.
pub const ACCESS_MKNOD: u32 = 1;
/// `access` bit of the context: read.
pub const ACCESS_READ: u32 = 2;
/// `access` bit of the context: write.
pub const ACCESS_WRITE: u32 = 4;
/// `kind` of the context: block device.
pub const KIND_BLOCK: u32 = 1;
/// `kind` of the context: character device.
pub const KIND_CHAR: u32 = 2;

/// Lets further programs stand beside this one; all must allow.
pub const ATTACH_ALLOW_MULTI: u32 = 2;
/// Replaces a program attached with [`ATTACH_ALLOW_MULTI`].
pub const ATTACH_REPLACE: u32 = 4;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;

/// No GPL-only helper is called, so the program need not claim to be GPL.
const LICENSE: &[u8] = b"Apache-2.0\0";

/// The most programs one cgroup may carry (`BPF_CGROUP_MAX_PROGS`).
const MAX_ATTACHED: usize = 64;

/// One eBPF instruction, laid out as `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// The operation.
    pub code: u8,
    registers: u8,
    /// Load displacement, or instructions to skip.
    pub off: i16,
    /// The operand.
    pub imm: i32,
}

impl Insn {
    /// Encodes an instruction; registers are 0 to 10.
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        let registers = if cfg!(target_endian = "little") {
            src << 4 | (dst & 0xf)
        } else {
            dst << 4 | (src & 0xf)
        };
        Self {
            code,
            registers,
            off,
            imm,
        }
    }

    /// The destination register.
    pub const fn dst(&self) -> u8 {
        if cfg!(target_endian = "little") {
            self.registers & 0xf
        } else {
            self.registers >> 4
        }
    }

    /// The source register.
    pub const fn src(&self) -> u8 {
        if cfg!(target_endian = "little") {
            self.registers >> 4
        } else {
            self.registers & 0xf
        }
    }
}

#[derive(Default)]
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[derive(Default)]
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

#[derive(Default)]
#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Runs one command; the attribute is the command's part of `union bpf_attr`.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is plain old data of the given size, and every pointer in
    // it was made from a slice that its caller keeps alive for this call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if ret < 0 {
        return Err(crate::last_errno());
    }
    Ok(ret)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Takes the descriptor a command has answered with.
fn owned(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(answer).map_err(|_| Errno::BADF)?;
    // SAFETY: only called with a descriptor the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a `cgroup/dev` program.
///
/// Errors: `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `EINVAL` or `EACCES`
/// where the verifier refuses it, `ENOSYS` on a kernel without bpf(2).
pub fn load_cgroup_device(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..LoadAttr::default()
    };
    attr.prog_name[..13].copy_from_slice(b"conex_devices");
    owned(bpf(PROG_LOAD, &mut attr)?)
}

/// Attaches a device program to a cgroup v2 directory.
///
/// Flags are `ATTACH_*`; `replaced` is the program that [`ATTACH_REPLACE`] puts
/// out. The cgroup keeps the program when the descriptor is closed.
pub fn attach_cgroup_device(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replaced.map_or(0, raw),
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program from a cgroup v2 directory.
pub fn detach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// The device programs attached to this very cgroup, inherited ones not counted.
pub fn attached_cgroup_devices(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_ATTACHED];
    let mut attr = QueryAttr {
        target_fd: raw(cgroup),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut attr)?;
    let found = (attr.prog_cnt as usize).min(MAX_ATTACHED);
    let mut programs = Vec::with_capacity(found);
    for &id in &ids[..found] {
        let mut attr = IdAttr {
            prog_id: id,
            ..IdAttr::default()
        };
        match bpf(PROG_GET_FD_BY_ID, &mut attr) {
            Ok(fd) => programs.push(owned(fd)?),
            // Gone since the query.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        assert_eq!(size_of::<Insn>(), 8);
        let insn = Insn::new(LDX_W, 2, 1, 4, -1);
        assert_eq!((insn.dst(), insn.src(), insn.off, insn.imm), (2, 1, 4, -1));
        if cfg!(target_endian = "little") {
            assert_eq!(insn.registers, 0x12);
        }
    }

    #[test]
    fn a_program_loads_where_bpf_is_permitted() {
        let allow = [
            Insn::new(MOV64_IMM, 0, 0, 0, 1),
            Insn::new(EXIT, 0, 0, 0, 0),
        ];
        match load_cgroup_device(&allow) {
            Ok(_) => {}
            Err(error @ (Errno::PERM | Errno::NOSYS)) => {
                eprintln!("skipped: bpf(2) answers {error}");
                return;
            }
            Err(error) => panic!("the verifier refused the simplest program: {error}"),
        }
        let endless = [Insn::new(EXIT, 0, 0, 0, 0)];
        assert!(
            load_cgroup_device(&endless).is_err(),
            "r0 is never set, so the verifier must refuse it"
        );
    }
}
