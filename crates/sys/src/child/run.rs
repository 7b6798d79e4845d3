//! The child itself. Nothing in this file allocates, locks or panics on
//! purpose: it runs in a fork, between clone3 and execve, with system calls
//! and the prepared plan only.

use std::ffi::{CStr, c_char};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::exec::{exec_first, find_first};
use super::filesystem::{
    attach, change_directory, clone_tree, empty_directory, make_device, make_dirs, make_file,
    make_mount, open_target, pivot_to, propagation,
};
use super::identity::{
    bounding_set, capabilities, identity, io_priority, new_keyring, personality, scheduler,
};
use super::init;
use super::spawn::{CREATED, EXECUTING, FAILED, Pipes, WAITING, clone_again};
use super::step::{Failure, PREPARED, Reason, Step};

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// What the child carries from step to step.
pub(super) struct Registers<'a> {
    /// Where failures go: the error pipe, later the start connection.
    errors: RawFd,
    pipes: Pipes,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    /// For [`Step::UnderInit`].
    init: Option<&'a mut init::Arguments>,
    /// The procfs this child mounted itself, or one proved to be one.
    proc: Option<ManuallyDrop<OwnedFd>>,
    /// A verified /dev/null.
    null: Option<ManuallyDrop<OwnedFd>>,
    /// An empty read-only tmpfs for masked directories.
    void: Option<ManuallyDrop<OwnedFd>>,
    /// What [`Step::Prepare`] made.
    prepared: [Option<ManuallyDrop<OwnedFd>>; PREPARED],
    /// Root itself was not let into the working directory.
    chdir_refused: bool,
}

impl<'a> Registers<'a> {
    pub(super) fn new(
        pipes: Pipes,
        argv: &'a [*const c_char],
        envp: &'a [*const c_char],
        init: Option<&'a mut init::Arguments>,
    ) -> Registers<'a> {
        Registers {
            errors: pipes.errors,
            pipes,
            argv,
            envp,
            init,
            proc: None,
            null: None,
            void: None,
            prepared: [const { None }; PREPARED],
            chdir_refused: false,
        }
    }

    /// Executes the plan and never returns.
    pub(super) fn run(&mut self, steps: &[Step]) -> ! {
        reset_signals();
        // Until the exec this is our program with our descriptors: nobody in
        // a namespace about to be entered may look into it (CVE-2016-9962).
        // SAFETY: changes an attribute of this process only.
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        if let Some((_, parents_end)) = self.pipes.release {
            // Else the end of the parent would not be the end of the pipe.
            // SAFETY: this child's copy, which nothing else names.
            unsafe { libc::close(parents_end) };
        }
        // Whatever the parent left open ends at the exec.
        // SAFETY: only sets a flag on this process's descriptors.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        for (index, step) in steps.iter().enumerate() {
            let failed = match step {
                Step::Exec(exec) => {
                    self.report(&[EXECUTING]);
                    Some(exec_first(&exec.paths, self.argv, self.envp))
                }
                Step::FindProgram(program) => find_first(&program.paths),
                other => self
                    .step(other)
                    .err()
                    .map(|e| (e.raw_os_error(), Reason::Errno)),
            };
            if let Some((errno, reason)) = failed {
                let mut record = [FAILED; 1 + Failure::SIZE];
                record[1..].copy_from_slice(&Failure::encode(index, errno, reason));
                self.report(&record);
                exit_now();
            }
        }
        exit_now();
    }

    fn report(&self, bytes: &[u8]) {
        // SAFETY: the descriptor is the error pipe or the start connection,
        // both open for the whole life of this child.
        let fd = unsafe { BorrowedFd::borrow_raw(self.errors) };
        // A parent that is gone cannot be told anything.
        let _gone = rustix::io::write(fd, bytes).is_err();
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::JoinCgroup(tasks) => write_all(tasks.as_fd(), b"0"),
            Step::EnterNamespace(fd, kind) => {
                // SAFETY: setns changes only this process's namespaces.
                check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), *kind) })
            }
            // SAFETY: changes this process's namespaces only.
            Step::Unshare(kind) => check(unsafe { libc::syscall(libc::SYS_unshare, *kind) }),
            Step::AwaitParent => self.await_parent(),
            Step::BecomeRoot => identity(0, 0, None),
            Step::CloneAgain(flags) => {
                clone_again(*flags, self.pipes.pid)?;
                self.pipes.pid = None;
                Ok(())
            }
            Step::TimeOffsets(lines) => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = fs::open(c"/proc/self/timens_offsets", flags, Mode::empty())?;
                write_all(file.as_fd(), lines.as_bytes())
            }
            Step::NewKeyring => new_keyring(),
            Step::NewSession => rustix::process::setsid().map(drop),
            Step::Propagation(flags) => propagation(c"/", u64::from(*flags)),
            Step::PropagationAt { path, flags } => propagation(path, *flags),
            Step::PivotTo(mount) => pivot_to(mount.as_fd()),
            Step::MakeDirs(prefixes) => make_dirs(prefixes),
            Step::SendRoot { socket, copies } => {
                let root = fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                for _ in 0..*copies {
                    let tree = clone_tree(root.as_fd())?;
                    crate::socket::send_with_fd(socket.as_fd(), b"r", tree.as_fd())?;
                }
                Ok(())
            }
            Step::MakeFile(prefixes) => make_file(prefixes),
            Step::Symlink { target, path } => {
                match fs::symlinkat(target.as_c_str(), CWD, path.as_c_str()) {
                    Err(Errno::EXIST) => Ok(()),
                    other => other,
                }
            }
            Step::Device {
                path,
                mode,
                device,
                uid,
                gid,
            } => make_device(path, *mode, *device, *uid, *gid),
            Step::Mount {
                filesystem,
                parameters,
                attributes,
                target,
                no_symlinks,
            } => {
                let tree = make_mount(filesystem, parameters, *attributes)?;
                self.attach_made(tree, target, *no_symlinks)
            }
            Step::Prepare {
                slot,
                filesystem,
                parameters,
                attributes,
            } => {
                let tree = make_mount(filesystem, parameters, *attributes)?;
                let place = self.prepared.get_mut(*slot).ok_or(Errno::INVAL)?;
                *place = Some(ManuallyDrop::new(tree));
                Ok(())
            }
            Step::AttachPrepared { slot, target } => {
                let tree = self
                    .prepared
                    .get_mut(*slot)
                    .and_then(Option::take)
                    .ok_or(Errno::INVAL)?;
                self.attach_made(ManuallyDrop::into_inner(tree), target, true)
            }
            Step::Attach { tree, target } => {
                let at = open_target(target, false)?;
                attach(tree.as_fd(), at.as_fd())
            }
            Step::KeepNull => {
                let null = fs::open(
                    c"/dev/null",
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let stat = fs::fstat(&null)?;
                let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
                if !character || stat.st_rdev != fs::makedev(1, 3) {
                    return Err(Errno::NODEV);
                }
                self.null = Some(ManuallyDrop::new(null));
                Ok(())
            }
            Step::Mask(path) => self.mask(path),
            Step::ReadOnlyPath(path) => self.read_only_path(path),
            Step::SetAttributes {
                path,
                set,
                clear,
                recursive,
            } => crate::mount::set_attributes_at(CWD, path, *set, *clear, 0, *recursive, false),
            Step::Sysctl { path, value } => {
                let root = self.proc_fd()?;
                let sys = fs::openat(root, c"sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                let file = fs::openat2(
                    &sys,
                    path.as_c_str(),
                    OFlags::WRONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                )?;
                write_all(file.as_fd(), value.as_bytes())
            }
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes()),
            Step::DomainName(name) => rustix::system::setdomainname(name.as_bytes()),
            Step::LoopbackUp => loopback_up(),
            Step::Console {
                socket,
                size,
                mount,
            } => super::console::open(socket.as_fd(), *size, *mount),
            Step::Stdio(fd, at) => {
                // SAFETY: dup3/dup2 onto 0..=2, which belong to this child alone.
                check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), *at, 0) })
            }
            Step::OwnStdio(uid) => own_stdio(*uid),
            Step::Rlimit {
                resource,
                soft,
                hard,
            } => {
                let limit = libc::rlimit64 {
                    rlim_cur: *soft,
                    rlim_max: *hard,
                };
                let none: *mut libc::rlimit64 = std::ptr::null_mut();
                // SAFETY: limit is a valid struct; the old value is not asked for.
                check(unsafe {
                    libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const limit, none)
                })
            }
            Step::OomScoreAdjust(score) => {
                let mut digits = [0u8; 12];
                let text = decimal(*score, &mut digits);
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
                write_all(file.as_fd(), text)
            }
            Step::Umask(mask) => {
                rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::Identity {
                uid,
                gid,
                groups,
                set_groups,
            } => identity(*uid, *gid, set_groups.then_some(groups.as_slice())),
            Step::BoundingSet(keep) => bounding_set(*keep),
            Step::Capabilities(masks) => capabilities(masks),
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
            Step::Seccomp(program, flags) => crate::seccomp::install(program, *flags),
            Step::AppArmor(profile) => {
                self.exec_label(c"self/attr/apparmor/exec", b"exec ", profile)
            }
            Step::SelinuxLabel(label) => self.exec_label(c"self/attr/exec", b"", label),
            Step::Personality(domain) => personality(*domain),
            Step::IoPriority(value) => io_priority(*value),
            Step::Scheduler(attributes) => scheduler(attributes),
            Step::KeepDescriptors(count) => keep_descriptors(*count),
            Step::Chdir(path) => match change_directory(path) {
                Err(Errno::ACCESS | Errno::PERM) => {
                    self.chdir_refused = true;
                    Ok(())
                }
                other => other,
            },
            Step::RetryChdir(path) if self.chdir_refused => change_directory(path),
            Step::RetryChdir(_) => Ok(()),
            Step::AwaitStart(listener) => self.await_start(listener.as_fd()),
            Step::UnderInit(init) => {
                let arguments = self.init.take().ok_or(Errno::INVAL)?;
                init::fork(init, arguments)
            }
            Step::FindProgram(_) | Step::Exec(_) => Ok(()),
        }
    }

    /// A procfs: our own, or `/proc` if it is the root of one.
    fn proc_fd(&mut self) -> Result<BorrowedFd<'_>> {
        if self.proc.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let found = fs::openat2(
                CWD,
                c"/proc",
                flags,
                Mode::empty(),
                ResolveFlags::NO_SYMLINKS,
            )?;
            if !is_proc_root(found.as_fd())? {
                return Err(Errno::NODEV);
            }
            self.proc = Some(ManuallyDrop::new(found));
        }
        self.proc.as_ref().map(|fd| fd.as_fd()).ok_or(Errno::NOENT)
    }

    fn await_parent(&mut self) -> Result<()> {
        let Some((read, _)) = self.pipes.release else {
            return Err(Errno::INVAL);
        };
        self.report(&[WAITING]);
        // SAFETY: the read end is open for the whole life of this child.
        let read = unsafe { BorrowedFd::borrow_raw(read) };
        let mut byte = [0u8; 1];
        loop {
            match rustix::io::read(read, &mut byte) {
                // The parent is gone, and with it whoever wanted this process.
                Ok(0) => return Err(Errno::PIPE),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn await_start(&mut self, listener: BorrowedFd<'_>) -> Result<()> {
        self.report(&[CREATED]);
        loop {
            match rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    // From here on the starter hears of failures.
                    self.errors = ManuallyDrop::new(connection).as_raw_fd();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Attaches a new mount. A procfs is kept, as the one that can be trusted.
    fn attach_made(&mut self, tree: OwnedFd, target: &CStr, no_symlinks: bool) -> Result<()> {
        let at = open_target(target, no_symlinks)?;
        attach(tree.as_fd(), at.as_fd())?;
        if is_proc_root(tree.as_fd())? {
            self.proc = Some(ManuallyDrop::new(tree));
        }
        Ok(())
    }

    /// Opens a path below the procfs we mounted through its own descriptor
    /// and by a walk that accepts no symbolic link.
    fn open_protected(&self, path: &CStr) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        if !path.to_bytes().starts_with(b"/proc") {
            return open_target(path, false);
        }
        match (path.to_bytes().strip_prefix(b"/proc/"), &self.proc) {
            (Some(rest), Some(proc)) if !rest.is_empty() => {
                let offset = path.to_bytes().len() - rest.len();
                let tail = CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[offset..])
                    .map_err(|_| Errno::INVAL)?;
                fs::openat2(
                    proc.as_fd(),
                    tail,
                    flags,
                    Mode::empty(),
                    resolve | ResolveFlags::BENEATH,
                )
            }
            _ => fs::openat2(CWD, path, flags, Mode::empty(), resolve),
        }
    }

    fn mask(&mut self, path: &CStr) -> Result<()> {
        let at = match self.open_protected(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(()),
            other => other?,
        };
        let directory = FileType::from_raw_mode(fs::fstat(&at)?.st_mode) == FileType::Directory;
        let source = if directory {
            if self.void.is_none() {
                let tree = empty_directory()?;
                self.void = Some(ManuallyDrop::new(tree));
                // The first use attaches the mount itself, later ones clones.
                let tree = self.void.as_ref().ok_or(Errno::INVAL)?;
                return attach(tree.as_fd(), at.as_fd());
            }
            self.void.as_ref()
        } else {
            self.null.as_ref()
        };
        let source = source.ok_or(Errno::INVAL)?;
        let tree = clone_tree(source.as_fd())?;
        attach(tree.as_fd(), at.as_fd())
    }

    fn read_only_path(&mut self, path: &CStr) -> Result<()> {
        let at = match self.open_protected(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other?,
        };
        let tree = clone_tree(at.as_fd())?;
        // What else the mount below forbids, its copy forbids too.
        let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        crate::mount::set_attributes(tree.as_fd(), set, 0, 0, true)?;
        attach(tree.as_fd(), at.as_fd())
    }

    fn exec_label(&mut self, file: &CStr, prefix: &[u8], label: &CStr) -> Result<()> {
        let root = self.proc_fd()?;
        let file = fs::openat(root, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut line = [0u8; 512];
        let length = prefix.len() + label.to_bytes().len();
        let room = line.get_mut(..length).ok_or(Errno::NAMETOOLONG)?;
        room[..prefix.len()].copy_from_slice(prefix);
        room[prefix.len()..].copy_from_slice(label.to_bytes());
        write_all(file.as_fd(), room)
    }
}

pub(super) fn exit_now() -> ! {
    // SAFETY: _exit runs no destructors and no atexit handlers of the parent.
    unsafe { libc::_exit(1) }
}

pub(super) fn check(result: libc::c_long) -> Result<()> {
    if result < 0 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

pub(super) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Every handler to its default, nothing blocked: the parent ignores SIGPIPE
/// and blocks what it reads from a signalfd.
fn reset_signals() {
    // SAFETY: async-signal-safe calls on zeroed, valid structs; numbers that
    // cannot be changed just fail.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    set_blocked(0);
}

/// Blocks these signals, bit n − 1 for signal n, and no others.
pub(super) fn set_blocked(signals: u64) {
    let none: *mut u64 = std::ptr::null_mut();
    // SAFETY: a valid set of the size the kernel has; the old one is not asked
    // for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const signals,
            none,
            8,
        );
    }
}

fn loopback_up() -> Result<()> {
    // SAFETY: a datagram socket and one ioctl on a zeroed ifreq that names lo;
    // the socket is closed before the return.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(crate::last_errno());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        let result = check(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request) as i64);
        libc::close(socket);
        result
    }
}

fn own_stdio(uid: u32) -> Result<()> {
    for fd in 0..3 {
        // SAFETY: 0..=2 are open in every child of ours.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let stat = fs::fstat(fd)?;
        let shared_null = stat.st_rdev == fs::makedev(1, 3);
        if stat.st_uid == uid || shared_null {
            continue;
        }
        match fs::fchown(fd, Some(rustix::process::Uid::from_raw(uid)), None) {
            // Not ours to give: an unmapped owner, a read-only or foreign file.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn is_proc_root(directory: BorrowedFd<'_>) -> Result<bool> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    const PROC_ROOT_INODE: u64 = 1;
    let proc = fs::fstatfs(directory)?.f_type as i64 == PROC_SUPER_MAGIC;
    Ok(proc && fs::fstat(directory)?.st_ino == PROC_ROOT_INODE)
}

/// Lets the descriptors from 3 on survive the exec.
fn keep_descriptors(count: u32) -> Result<()> {
    for fd in 3..3 + i64::from(count) {
        // SAFETY: sets a flag of a descriptor; a closed one is an error.
        check(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

/// Formats without allocating.
pub(super) fn decimal(value: i32, buffer: &mut [u8; 12]) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_written_without_allocation() {
        assert_eq!(decimal(-1000, &mut [0; 12]), b"-1000");
        assert_eq!(decimal(0, &mut [0; 12]), b"0");
        assert_eq!(decimal(i32::MIN, &mut [0; 12]), b"-2147483648");
    }
}
