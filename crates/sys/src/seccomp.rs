//! Seccomp filters: the classic BPF a filter is written in, its installation
//! with seccomp(2), and an interpreter that tells what a filter would answer
//! without installing it. It must not know system call names or profiles.
//!
//! A filter reads one `struct seccomp_data` and returns one word:
//!
//! ```text
//!  offset  0        4        8                     16 + 8*i (i < 6)
//!          nr: u32  arch:u32 instruction_ptr: u64  args[i]: u64, low word first
//!
//!  return  action (upper 16 bits) | data (lower 16 bits: errno, trace message)
//! ```

use std::ops::Deref;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// The longest program the kernel accepts, in instructions (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Loads the word at absolute offset `k` into the accumulator.
pub const LD_ABS: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Ands the accumulator with `k`.
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Skips `k` instructions.
pub const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// Skips `jt` instructions if the accumulator equals `k`, else `jf`.
pub const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Skips `jt` instructions if the accumulator is greater than `k`, else `jf`.
pub const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// Skips `jt` instructions if the accumulator is at least `k`, else `jf`.
pub const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Skips `jt` instructions if accumulator and `k` share a bit, else `jf`.
pub const JSET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// Ends the program with `k`.
pub const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Kills the whole process.
pub const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
/// Kills the calling thread.
pub const KILL_THREAD: u32 = libc::SECCOMP_RET_KILL_THREAD;
/// Sends SIGSYS.
pub const TRAP: u32 = libc::SECCOMP_RET_TRAP;
/// Fails the call with the errno in the lower 16 bits.
pub const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
/// Hands the call to the listener.
pub const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// Tells the tracer, with the message in the lower 16 bits.
pub const TRACE: u32 = libc::SECCOMP_RET_TRACE;
/// Lets the call through and logs it.
pub const LOG: u32 = libc::SECCOMP_RET_LOG;
/// Lets the call through.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// Applies the filter to every thread of the process.
pub const FLAG_TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
/// Logs every action but allow.
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Leaves speculative store bypass as it is.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Returns a descriptor on which [`NOTIFY`] calls arrive.
pub const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// Reports a thread that cannot follow `FLAG_TSYNC` as `ESRCH`; needed with a listener.
pub const FLAG_TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
/// Lets only fatal signals interrupt a call that its listener has received.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// `AUDIT_ARCH_X86_64`: what `seccomp_data.arch` holds for x86-64 and x32 calls.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// `AUDIT_ARCH_AARCH64`.
pub const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;

/// Offset of the system call's number in `seccomp_data`.
pub const OFFSET_NR: u32 = 0;
/// Offset of the audit architecture in `seccomp_data`.
pub const OFFSET_ARCH: u32 = 4;

/// Offset of an argument's low word in `seccomp_data`; the high word follows it.
pub const fn offset_arg(index: u8) -> u32 {
    16 + 8 * index as u32
}

/// One classic BPF instruction, laid out as `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Instructions to skip where a condition holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A filter, first instruction first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program(pub Vec<Instruction>);

impl Deref for Program {
    type Target = [Instruction];

    fn deref(&self) -> &[Instruction] {
        &self.0
    }
}

/// Installs a filter on the calling thread.
///
/// Allocates nothing, so it may be called between clone and exec. Flags are the
/// `FLAG_*` bits but [`FLAG_NEW_LISTENER`]. Errors: `EACCES` without
/// `no_new_privs` and `CAP_SYS_ADMIN`, `EINVAL` for a program or flag the kernel
/// refuses, `ESRCH` with [`FLAG_TSYNC`] where a thread cannot follow. Source: seccomp(2).
pub fn install(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    if flags & FLAG_NEW_LISTENER != 0 {
        return Err(Errno::INVAL);
    }
    match set_mode_filter(program, flags)? {
        0 => Ok(()),
        _thread_that_cannot_follow => Err(Errno::SRCH),
    }
}

/// Installs a filter on the calling thread and returns its listener.
///
/// As [`install`], with [`FLAG_NEW_LISTENER`] added to the flags; `EBUSY` where a
/// listener exists already. Source: seccomp_unotify(2).
pub fn install_with_listener(program: &[Instruction], flags: u32) -> Result<OwnedFd, Errno> {
    let flags = flags | FLAG_NEW_LISTENER;
    let fd = i32::try_from(set_mode_filter(program, flags)?).map_err(|_| Errno::BADF)?;
    // SAFETY: with this flag the answer is a descriptor the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_mode_filter(program: &[Instruction], flags: u32) -> Result<libc::c_long, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `fprog` points at `len` instructions of `sock_filter`'s layout
    // (asserted below), alive for the call; the kernel only reads them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_ulong::from(flags),
            &raw const fprog,
        )
    };
    if answer < 0 {
        return Err(crate::last_errno());
    }
    Ok(answer)
}

const _: () = assert!(
    size_of::<Instruction>() == size_of::<libc::sock_filter>()
        && align_of::<Instruction>() == align_of::<libc::sock_filter>()
);

/// What a filter is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Data {
    /// The system call's number.
    pub nr: u32,
    /// The audit architecture.
    pub arch: u32,
    /// The address of the calling instruction.
    pub instruction_pointer: u64,
    /// The six arguments.
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> Option<u32> {
        let halves = |value: u64, high: bool| {
            if high {
                (value >> 32) as u32
            } else {
                value as u32
            }
        };
        match offset {
            OFFSET_NR => Some(self.nr),
            OFFSET_ARCH => Some(self.arch),
            8 | 12 => Some(halves(self.instruction_pointer, offset == 12)),
            16..64 if offset.is_multiple_of(4) => {
                let index = (offset - 16) as usize / 8;
                Some(halves(self.args[index], offset % 8 == 4))
            }
            _ => None,
        }
    }
}

/// Why a program has no answer; the kernel would have refused to install it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A jump or the end of the program leads outside of it.
    #[error("execution leaves the program at instruction {0}")]
    OutOfProgram(usize),
    /// A load is not a word of `seccomp_data`.
    #[error("instruction {at} loads offset {offset}, which is no word of seccomp_data")]
    BadOffset {
        /// The instruction.
        at: usize,
        /// The offset it loads.
        offset: u32,
    },
    /// An operation this interpreter, and a filter of ours, does not have.
    #[error("instruction {at} has the unknown code {code:#x}")]
    UnknownCode {
        /// The instruction.
        at: usize,
        /// Its operation.
        code: u16,
    },
}

/// Tells what a filter answers, without installing it.
pub fn evaluate(program: &[Instruction], data: &Data) -> Result<u32, Fault> {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    // Jumps only lead forward, so this ends.
    loop {
        let Some(&Instruction { code, jt, jf, k }) = program.get(at) else {
            return Err(Fault::OutOfProgram(at));
        };
        let holds = match code {
            LD_ABS => {
                accumulator = data.word(k).ok_or(Fault::BadOffset { at, offset: k })?;
                at += 1;
                continue;
            }
            AND => {
                accumulator &= k;
                at += 1;
                continue;
            }
            JA => {
                at += 1 + k as usize;
                continue;
            }
            RET => return Ok(k),
            JEQ => accumulator == k,
            JGT => accumulator > k,
            JGE => accumulator >= k,
            JSET => accumulator & k != 0,
            code => return Err(Fault::UnknownCode { at, code }),
        };
        at += 1 + usize::from(if holds { jt } else { jf });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    /// `sethostname` with a length above 64 fails with 77, everything else is allowed.
    fn sample() -> Program {
        Program(vec![
            op(LD_ABS, 0, 0, OFFSET_NR),
            op(JEQ, 0, 5, libc::SYS_sethostname as u32),
            op(LD_ABS, 0, 0, offset_arg(1) + 4),
            op(JGT, 2, 0, 0),
            op(LD_ABS, 0, 0, offset_arg(1)),
            op(JGT, 0, 1, 64),
            op(RET, 0, 0, ERRNO | 77),
            op(RET, 0, 0, ALLOW),
        ])
    }

    #[test]
    fn the_interpreter_follows_loads_and_jumps() {
        let ask = |nr: i64, len: u64| {
            let mut data = Data {
                nr: nr as u32,
                ..Data::default()
            };
            data.args[1] = len;
            evaluate(&sample(), &data).unwrap()
        };
        assert_eq!(ask(libc::SYS_getpid, 65), ALLOW);
        assert_eq!(ask(libc::SYS_sethostname, 64), ALLOW);
        assert_eq!(ask(libc::SYS_sethostname, 65), ERRNO | 77);
        assert_eq!(ask(libc::SYS_sethostname, 1 << 32), ERRNO | 77);
    }

    #[test]
    fn a_faulty_program_is_reported_not_run() {
        let data = Data::default();
        assert_eq!(evaluate(&[], &data), Err(Fault::OutOfProgram(0)));
        assert_eq!(
            evaluate(&[op(JA, 0, 0, 9)], &data),
            Err(Fault::OutOfProgram(10))
        );
        assert_eq!(
            evaluate(&[op(LD_ABS, 0, 0, 64)], &data),
            Err(Fault::BadOffset { at: 0, offset: 64 })
        );
        assert_eq!(
            evaluate(&[op(0xffff, 0, 0, 0)], &data),
            Err(Fault::UnknownCode {
                at: 0,
                code: 0xffff
            })
        );
    }

    #[test]
    fn an_installed_filter_answers_as_the_interpreter_does() {
        // A filter belongs to a thread, so a thread of its own is enough to try it.
        let answers = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&sample(), FLAG_SPEC_ALLOW).unwrap();
            let call = |len: libc::c_ulong| {
                // SAFETY: the filter or the kernel refuses the length before reading the name.
                let ret =
                    unsafe { libc::syscall(libc::SYS_sethostname, std::ptr::null::<u8>(), len) };
                (ret, crate::last_errno().raw_os_error())
            };
            (call(65), call(1 << 32))
        })
        .join()
        .unwrap();
        assert_eq!(answers, ((-1, 77), (-1, 77)));
        // SAFETY: an over-long name is refused before it is read.
        let ret = unsafe { libc::syscall(libc::SYS_sethostname, std::ptr::null::<u8>(), 65usize) };
        assert_eq!(ret, -1);
        assert_eq!(crate::last_errno(), Errno::INVAL, "this thread is free");
    }

    #[test]
    fn a_listener_comes_back_as_a_descriptor() {
        let listener = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let program = [op(RET, 0, 0, ALLOW)];
            assert_eq!(install(&program, FLAG_NEW_LISTENER), Err(Errno::INVAL));
            install_with_listener(&program, 0)
        })
        .join()
        .unwrap();
        assert!(listener.is_ok());
    }

    #[test]
    fn the_kernel_refuses_an_empty_and_an_endless_program() {
        assert_eq!(install(&[], 0).unwrap_err(), Errno::INVAL);
        let long = vec![op(RET, 0, 0, ALLOW); MAX_INSTRUCTIONS + 1];
        assert_eq!(install(&long, 0).unwrap_err(), Errno::INVAL);
        let huge = vec![op(RET, 0, 0, ALLOW); 70_000];
        assert_eq!(install(&huge, 0).unwrap_err(), Errno::INVAL);
    }
}
