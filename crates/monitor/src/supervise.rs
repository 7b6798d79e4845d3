//! The loop: streams, attachers, execs, the daemon's requests, and the end.
//!
//! ```text
//!  running ──PID 1 ends──► drain output ► log written ► links to /proc removed ► reap
//!          ► exit.json ► Exited to the daemon ► cgroup removed, root let go
//!          ► links closed ► queued output flushed to attachers ► done
//! ```

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conex_logs::Stream;
use conex_logs::json_file::{Mark, Writer};
use conex_sys::process::{self, Ended};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::exec::{self, Exec};
use crate::exit::{ExitRecord, now_ns};
use crate::link::{Link, LinkError};
use crate::protocol::{Event, ExecFailed, ExecRequest, Request, StartRequest};
use crate::session::{self, Ready, Session};
use crate::start::Running;

/// How much is read from the container at once.
const CHUNK: usize = 64 * 1024;

/// Daemons connected at a time; more wait to be accepted.
const MAX_LINKS: usize = 16;

/// Version 1 announces a kill and does not tell when it is done: it is looked for
/// this often, and then only at the end.
const OOM_LOOKS: u32 = 50;
const OOM_LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

struct Supervisor<'a> {
    request: &'a StartRequest,
    running: Running,
    links: Vec<Link>,
    execs: Vec<Exec>,
    log: Log<'a>,
    /// How often the out-of-memory killer struck, as far as was told.
    oom_kills: u64,
    /// How often to look again for a kill that was announced.
    oom_looks: u32,
    buffer: Vec<u8>,
}

/// The container's log file.
struct Log<'a> {
    id: &'a str,
    writer: Option<Writer>,
    /// Its last line could not be written, and the daemon was told.
    fails: bool,
}

impl Log<'_> {
    fn write(&mut self, stream: Stream, bytes: &[u8], links: &mut Vec<Link>) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let written = writer.write(stream, bytes, now_ns().into());
        let failed_before = std::mem::replace(&mut self.fails, written.is_err());
        if let Err(error) = written
            && !failed_before
        {
            let text = format!(
                "the log of container {} cannot be written: {error}",
                self.id
            );
            tell(links, &Event::Warning(text));
        }
    }
}

impl Log<'_> {
    /// Where it ends now.
    fn mark(&self) -> Option<Mark> {
        self.writer.as_ref()?.mark().ok()
    }

    /// What is not in it yet, since the lines have no end.
    fn begun(&self) -> Vec<(Stream, &[u8])> {
        let Some(writer) = &self.writer else {
            return Vec::new();
        };
        [Stream::Stdout, Stream::Stderr]
            .map(|stream| (stream, writer.held_text(stream)))
            .to_vec()
    }
}

/// What a polled descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    OutOfMemory,
    Link(usize),
    Own(Ready),
    Exec(usize, Ready),
}

pub(crate) fn run(
    request: &StartRequest,
    mut running: Running,
    link: Link,
) -> Result<(), LinkError> {
    // A daemon that does not read must never hold the container up.
    link.set_non_blocking();
    let hello = Event::Started(running.hello.clone());
    let mut links = Vec::new();
    if link.send(&hello, &[running.pidfd.as_fd()]).is_ok() {
        links.push(link);
    }
    let mut supervisor = Supervisor {
        request,
        links,
        execs: Vec::new(),
        log: Log {
            id: &request.id,
            writer: running.log.take(),
            fails: false,
        },
        oom_kills: 0,
        oom_looks: 0,
        buffer: vec![0; CHUNK],
        running,
    };
    let ended = supervisor.watch()?;
    supervisor.end(ended);
    Ok(())
}

impl Supervisor<'_> {
    /// Serves everybody until PID 1 has ended.
    fn watch(&mut self) -> Result<Ended, LinkError> {
        loop {
            let ready = self.poll()?;
            if ready.is_empty() {
                self.look_for_oom_kills();
            }
            for (source, events) in ready {
                match source {
                    Source::Signals => {
                        if let Some(ended) = self.children() {
                            return Ok(ended);
                        }
                    }
                    Source::Listener => self.accept(),
                    Source::OutOfMemory => {
                        self.oom_looks = OOM_LOOKS;
                        self.look_for_oom_kills();
                    }
                    Source::Link(index) => self.serve(index),
                    Source::Own(ready) => self.serve_own(ready, events),
                    Source::Exec(index, ready) => {
                        if let Some(exec) = self.execs.get_mut(index) {
                            exec.serve(ready, events, &mut self.buffer);
                        }
                    }
                }
            }
            self.running.session.forget_gone();
            for _ in 0..self.running.session.take_detached() {
                tell(&mut self.links, &Event::Detached { exec: None });
            }
            let links = &mut self.links;
            exec::tidy(&mut self.execs, &mut |event| tell(links, event));
            self.links.retain(|l| !l.is_closed());
        }
    }

    fn poll(&self) -> Result<Vec<(Source, PollFlags)>, LinkError> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.running.signals, PollFlags::IN)];
        if self.links.len() < MAX_LINKS {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.running.listener, PollFlags::IN));
        }
        if let Some((events, flags)) = &self.running.oom {
            sources.push(Source::OutOfMemory);
            fds.push(PollFd::new(events, *flags));
        }
        for (index, link) in self.links.iter().enumerate() {
            sources.push(Source::Link(index));
            fds.push(PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN));
        }
        self.running.session.wanted(|ready, fd, flags| {
            sources.push(Source::Own(ready));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        });
        for (index, exec) in self.execs.iter().enumerate() {
            exec.session().wanted(|ready, fd, flags| {
                sources.push(Source::Exec(index, ready));
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            });
        }
        loop {
            let wait = (self.oom_looks > 0).then_some(&OOM_LOOK);
            match poll(&mut fds, wait) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let ready = sources
            .into_iter()
            .zip(fds)
            .map(|(source, fd)| (source, fd.revents()));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    /// Tells of every time the killer struck since the last look.
    fn look_for_oom_kills(&mut self) {
        if let Some((events, _)) = &self.running.oom {
            // Else it would be ready for ever: a counter is emptied, a file read from its start.
            let mut read = [0; 1024];
            let _rewound = rustix::fs::seek(events, rustix::fs::SeekFrom::Start(0)).is_err();
            while matches!(rustix::io::read(events, &mut read), Ok(1..)) {}
        }
        let cgroup = self.running.cgroup.as_ref();
        let kills = cgroup.and_then(|cgroup| cgroup.oom_kills().ok());
        let kills = kills.unwrap_or(self.oom_kills);
        self.oom_looks = match kills > self.oom_kills {
            true => 0,
            false => self.oom_looks.saturating_sub(1),
        };
        for _ in self.oom_kills..kills {
            tell(&mut self.links, &Event::OutOfMemory);
        }
        self.oom_kills = kills;
    }

    fn serve_own(&mut self, ready: Ready, events: PollFlags) {
        let Supervisor {
            running,
            log,
            links,
            buffer,
            ..
        } = self;
        running
            .session
            .serve(ready, events, buffer, &mut |stream, bytes| {
                log.write(stream, bytes, links);
            });
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.running.listener, flags) else {
            return;
        };
        let link = Link::new(socket);
        let hello = Event::Hello(self.running.hello.clone());
        let told = link.send(&hello, &[self.running.pidfd.as_fd()]).is_ok();
        if told
            && self
                .execs
                .iter()
                .flat_map(Exec::story)
                .all(|event| heard(&link, &event))
        {
            self.links.push(link);
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        match link.receive_request() {
            Ok((Request::Attach(wanted), mut fds)) => {
                let Some(socket) = fds.pop() else { return };
                let mark = self.log.mark();
                let event = Event::Attached {
                    log_bytes: mark.as_ref().map_or(0, |mark| mark.bytes),
                };
                let file: Vec<_> = mark.iter().map(|mark| mark.file.as_fd()).collect();
                if !heard_with(link, &event, &file) {
                    link.close();
                }
                let begun = match wanted.reads_log {
                    true => self.log.begun(),
                    false => Vec::new(),
                };
                let session = &mut self.running.session;
                session.attach(socket, wanted, session.is_terminal(), &begun);
            }
            Ok((Request::Resize { rows, columns }, _)) => {
                self.running.session.resize(rows, columns);
            }
            Ok((Request::Exec, fds)) => match ExecRequest::from_memory(fds) {
                Ok((request, socket)) => self.start_exec(request, socket),
                // Nobody of ours sends that, and there is no id to answer for.
                Err(_) => link.close(),
            },
            Ok((Request::ExecResize { id, rows, columns }, _)) => {
                if let Some(exec) = self.execs.iter().find(|exec| exec.id() == id) {
                    exec.session().resize(rows, columns);
                }
            }
            Ok((Request::ExecSignal { id, signal }, _)) => {
                // Not reaped, so its number is nobody else's.
                let exec = self.execs.iter().find(|exec| exec.id() == id);
                if let Some(pid) = exec.and_then(Exec::pid) {
                    let _ended = process::kill(pid, signal).is_err();
                }
            }
            Ok((Request::ExecTaken { id }, _)) => {
                if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id() == id) {
                    exec.taken();
                }
            }
            // A newer daemon's request we do not know: it learns by silence
            // that this monitor is older, from the version in its hello.
            Err(LinkError::Malformed(_)) => {}
            Err(error) if Link::is_timeout(&error) => {}
            Err(_) => link.close(),
        }
    }

    fn start_exec(&mut self, request: ExecRequest, socket: Option<OwnedFd>) {
        let id = request.id.clone();
        match Exec::start(request, socket, &self.running) {
            Ok(exec) => {
                for event in exec.story() {
                    tell(&mut self.links, &event);
                }
                self.execs.push(exec);
            }
            Err(failure) => tell(
                &mut self.links,
                &Event::ExecFailed(ExecFailed { id, failure }),
            ),
        }
    }

    /// An exec's process was reaped, or is gone with its container.
    fn exec_ended(&mut self, pid: i32, exit_code: i32) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid() == Some(pid)) {
            let event = exec.ended(exit_code, &mut self.buffer);
            tell(&mut self.links, &event);
        }
    }

    /// Reaps what ended; PID 1 last, when its links are gone.
    fn children(&mut self) -> Option<Ended> {
        let mut drained = [0u8; 1024];
        while rustix::io::read(&self.running.signals, &mut drained).is_ok() {}
        let mut end = [PollFd::new(&self.running.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let first_ended = matches!(poll(&mut end, Some(&now)), Ok(1));
        if first_ended {
            self.remove_proc_links();
        }
        loop {
            match process::reap(-1) {
                Ok(Some(ended)) if ended.pid == self.running.hello.pid => return Some(ended),
                Ok(Some(ended)) => self.exec_ended(ended.pid, ended.code),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Before the process id can be used again.
    fn remove_proc_links(&self) {
        for (link, _) in &self.request.proc_links {
            let _absent = fs::remove_file(link).is_err();
        }
    }

    fn end(mut self, ended: Ended) {
        self.remove_proc_links();
        self.look_for_oom_kills();
        let oom_killed = self.oom_kills > 0;
        self.kill_leftovers();
        self.end_execs();
        let Supervisor {
            running,
            log,
            links,
            buffer,
            ..
        } = &mut self;
        // Now the terminal can end.
        running.session.release_terminal();
        running
            .session
            .drain(buffer, &mut |stream, bytes| log.write(stream, bytes, links));
        if let Some(log) = self.log.writer.take() {
            // Lost lines were reported when they were lost.
            let _lost = log.finish().is_err();
        }
        let record = ExitRecord {
            id: self.request.id.clone(),
            pid: ended.pid,
            exit_code: ended.code,
            oom_killed,
            started_ns: self.running.hello.started_ns,
            finished_ns: now_ns(),
        };
        if let Err(error) = record.write(&self.request.run_dir) {
            let text = format!(
                "the exit record of container {} cannot be written: {error}",
                record.id
            );
            tell(&mut self.links, &Event::Warning(text));
        }
        // A daemon that cannot take it now finds the link closed, and the
        // record on disk.
        tell(&mut self.links, &Event::Exited(record));
        let _gone = fs::remove_file(self.request.run_dir.join("monitor.sock")).is_err();
        if let Some(cgroup) = self.running.cgroup.take()
            && let Err(error) = cgroup.remove()
        {
            tell(
                &mut self.links,
                &Event::Warning(format!("a cgroup is left behind: {error}")),
            );
        }
        drop(self.running.root);
        drop(self.running.listener);
        // From here the daemon may take everything back.
        self.links.clear();
        let sessions = self.execs.into_iter().map(Exec::into_session);
        let attachers = sessions
            .chain([self.running.session])
            .flat_map(Session::into_attachers);
        session::flush_all(attachers.collect());
    }

    /// What ran in the container has ended with it.
    fn end_execs(&mut self) {
        const KILLED: i32 = 128 + libc::SIGKILL;
        while let Ok(Some(ended)) = process::reap(-1) {
            self.exec_ended(ended.pid, ended.code);
        }
        let left: Vec<i32> = self.execs.iter().filter_map(Exec::pid).collect();
        for pid in left {
            self.exec_ended(pid, KILLED);
        }
    }

    /// A container in the host's pid namespace leaves its children running:
    /// they end with it, as its cgroup does.
    fn kill_leftovers(&mut self) {
        if let Some(cgroup) = &self.running.cgroup
            && cgroup.is_populated().unwrap_or(true)
        {
            let _left = cgroup.kill().is_err();
        }
    }
}

/// Sends to every daemon connected; one that cannot be reached is forgotten.
fn tell(links: &mut Vec<Link>, event: &Event) {
    links.retain(|link| heard(link, event));
}

/// Sends to a daemon. One that is behind misses the message; closing the link
/// would tell it that the monitor died.
fn heard(link: &Link, event: &Event) -> bool {
    heard_with(link, event, &[])
}

fn heard_with(link: &Link, event: &Event, fds: &[BorrowedFd<'_>]) -> bool {
    match link.send(event, fds) {
        Ok(()) => true,
        Err(error) => Link::is_timeout(&error),
    }
}
