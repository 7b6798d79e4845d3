//! The loop: streams, attachers, the daemon's requests, and the end.
//!
//! ```text
//!  running ──PID 1 ends──► drain output ► log written ► links to /proc removed ► reap
//!          ► exit.json ► Exited to the daemon ► cgroup removed, root let go
//!          ► links closed ► queued output flushed to attachers ► done
//! ```

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use conex_logs::Stream;
use conex_logs::json_file::Writer;
use conex_sys::process::{self, Ended};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::attach::Attacher;
use crate::exit::{ExitRecord, now_ns};
use crate::link::{Link, LinkError};
use crate::protocol::{Event, Request, StartRequest, Stdin};
use crate::start::{Output, Running};
use crate::stdin::Input;

/// How much is read from the container at once.
const CHUNK: usize = 64 * 1024;

struct Supervisor<'a> {
    request: &'a StartRequest,
    running: Running,
    links: Vec<Link>,
    attachers: Vec<Attacher>,
    input: Input,
    log: Option<Writer>,
    buffer: Vec<u8>,
}

/// What a polled descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Link(usize),
    Output(Stream),
    Input,
    Attacher(usize),
}

pub(crate) fn run(
    request: &StartRequest,
    mut running: Running,
    link: Link,
) -> Result<(), LinkError> {
    let raw = matches!(running.output, Output::Terminal(_));
    let attachers = std::mem::take(&mut running.attachers)
        .into_iter()
        .map(|(streams, socket)| Attacher::new(socket, streams, raw))
        .collect();
    let hello = Event::Started(running.hello.clone());
    let mut links = Vec::new();
    if link.send(&hello, &[running.pidfd.as_fd()]).is_ok() {
        links.push(link);
    }
    let mut supervisor = Supervisor {
        request,
        links,
        attachers,
        input: Input::new(running.stdin.take()),
        log: running.log.take(),
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
            for (source, events) in self.poll()? {
                match source {
                    Source::Signals => {
                        if let Some(ended) = self.children() {
                            return Ok(ended);
                        }
                    }
                    Source::Listener => self.accept(),
                    Source::Link(index) => self.serve(index),
                    Source::Output(stream) => {
                        self.copy_output(stream);
                    }
                    Source::Input => self.flush_input(),
                    Source::Attacher(index) => self.attacher(index, events),
                }
            }
            self.attachers.retain(|a| !a.is_gone());
            self.links.retain(|l| !l.is_closed());
        }
    }

    fn poll(&self) -> Result<Vec<(Source, PollFlags)>, LinkError> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![
            PollFd::new(&self.running.signals, PollFlags::IN),
            PollFd::new(&self.running.listener, PollFlags::IN),
        ];
        for (index, link) in self.links.iter().enumerate() {
            sources.push(Source::Link(index));
            fds.push(PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN));
        }
        if !self.attachers.iter().any(Attacher::holds_back) {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(fd) = output(&self.running.output, stream) {
                    sources.push(Source::Output(stream));
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
            }
        }
        if self.input.is_waiting()
            && let Some(fd) = self.terminal().or(self.input.pipe())
        {
            sources.push(Source::Input);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        for (index, attacher) in self.attachers.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, attacher.sends_input() && self.input.has_room());
            wanted.set(PollFlags::OUT, attacher.is_waiting());
            sources.push(Source::Attacher(index));
            fds.push(PollFd::from_borrowed_fd(attacher.socket(), wanted));
        }
        loop {
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let ready = sources.into_iter().zip(fds).map(|(source, fd)| (source, fd.revents()));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn terminal(&self) -> Option<BorrowedFd<'_>> {
        match &self.running.output {
            Output::Terminal(master) => master.as_ref().map(AsFd::as_fd),
            Output::Pipes { .. } => None,
        }
    }

    /// Copies one chunk; says whether there may be more.
    fn copy_output(&mut self, stream: Stream) -> bool {
        let Some(fd) = output(&self.running.output, stream) else { return false };
        match rustix::io::read(fd, &mut self.buffer) {
            Ok(0) => {
                self.close_output(stream);
                false
            }
            Ok(n) => {
                let bytes = &self.buffer[..n];
                if let Some(log) = &mut self.log
                    && let Err(error) = log.write(stream, bytes, now_ns().into())
                {
                    let text = format!("the log of container {} cannot be written: {error}", self.request.id);
                    tell(&mut self.links, &Event::Warning(text));
                }
                for attacher in &mut self.attachers {
                    attacher.output(stream, bytes);
                }
                true
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => true,
            // EIO: the last process with the terminal open is gone.
            Err(_) => {
                self.close_output(stream);
                false
            }
        }
    }

    fn close_output(&mut self, stream: Stream) {
        match (&mut self.running.output, stream) {
            (Output::Terminal(end), _)
            | (Output::Pipes { stdout: end, .. }, Stream::Stdout)
            | (Output::Pipes { stderr: end, .. }, Stream::Stderr) => *end = None,
        }
    }

    fn flush_input(&mut self) {
        let terminal = match &self.running.output {
            Output::Terminal(Some(master)) => Some(master.as_fd()),
            _ => None,
        };
        self.input.flush(terminal);
    }

    fn attacher(&mut self, index: usize, events: PollFlags) {
        let Some(attacher) = self.attachers.get_mut(index) else { return };
        if events.contains(PollFlags::OUT) {
            attacher.flush();
        }
        if events.intersects(PollFlags::IN) && attacher.sends_input() {
            match attacher.read(&mut self.buffer) {
                Some([]) if self.request.stdin == Stdin::Once => self.input.close(),
                Some(bytes) => self.input.push(bytes),
                None => {}
            }
            self.flush_input();
        }
        let Some(attacher) = self.attachers.get_mut(index) else { return };
        // Both directions closed, and everything it sent has been read.
        if events.intersects(PollFlags::HUP | PollFlags::ERR) && !events.contains(PollFlags::IN) {
            let had_input = attacher.sends_input();
            attacher.mark_gone();
            if had_input && self.request.stdin == Stdin::Once {
                self.input.close();
            }
        }
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::accept_with(&self.running.listener, flags) else { return };
        let link = Link::new(socket);
        let hello = Event::Hello(self.running.hello.clone());
        if link.send(&hello, &[self.running.pidfd.as_fd()]).is_ok() {
            self.links.push(link);
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        match link.receive_request() {
            Ok((Request::Attach(streams), mut fds)) => {
                let Some(socket) = fds.pop() else { return };
                let raw = matches!(self.running.output, Output::Terminal(_));
                let log_bytes = self
                    .request
                    .log
                    .as_ref()
                    .and_then(|log| fs::metadata(&log.path).ok())
                    .map_or(0, |m| m.len());
                if link.send(&Event::Attached { log_bytes }, &[]).is_err() {
                    link.close();
                }
                self.attachers.push(Attacher::new(socket, streams, raw));
            }
            Ok((Request::Resize { rows, columns }, _)) => {
                if let Output::Terminal(Some(master)) = &self.running.output {
                    let size = rustix::termios::Winsize {
                        ws_row: rows,
                        ws_col: columns,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _closed = rustix::termios::tcsetwinsize(master, size).is_err();
                }
            }
            // A newer daemon's request we do not know: it learns by silence
            // that this monitor is older, from the version in its hello.
            Err(LinkError::Malformed(_)) => {}
            Err(_) => link.close(),
        }
    }

    /// Reaps what ended; PID 1 last, when its links are gone.
    fn children(&mut self) -> Option<Ended> {
        let mut drained = [0u8; 1024];
        while rustix::io::read(&self.running.signals, &mut drained).is_ok() {}
        let mut end = [PollFd::new(&self.running.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let first_ended = matches!(poll(&mut end, Some(&now)), Ok(1));
        if first_ended {
            self.remove_proc_links();
        }
        loop {
            match process::reap(-1) {
                Ok(Some(ended)) if ended.pid == self.running.hello.pid => return Some(ended),
                Ok(Some(_)) => {}
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
        let oom_killed = self.kill_leftovers();
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.copy_output(stream) {}
            self.close_output(stream);
        }
        if let Some(log) = self.log.take() {
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
            let text = format!("the exit record of container {} cannot be written: {error}", record.id);
            tell(&mut self.links, &Event::Warning(text));
        }
        if oom_killed {
            tell(&mut self.links, &Event::OutOfMemory);
        }
        tell(&mut self.links, &Event::Exited(record));
        let _gone = fs::remove_file(self.request.run_dir.join("monitor.sock")).is_err();
        if let Some(cgroup) = self.running.cgroup.take()
            && let Err(error) = cgroup.remove()
        {
            tell(&mut self.links, &Event::Warning(format!("a cgroup is left behind: {error}")));
        }
        drop(self.running.root);
        // From here the daemon may take everything back.
        self.links.clear();
        flush_all(self.attachers);
    }

    /// A container in the host's pid namespace leaves its children running:
    /// they end with it, as its cgroup does.
    fn kill_leftovers(&mut self) -> bool {
        let Some(cgroup) = &self.running.cgroup else { return false };
        let oom_killed = cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        if cgroup.is_populated().unwrap_or(true) {
            let _left = cgroup.kill().is_err();
        }
        oom_killed
    }
}

/// Sends to every daemon connected; one that cannot be reached is forgotten.
fn tell(links: &mut Vec<Link>, event: &Event) {
    links.retain(|link| link.send(event, &[]).is_ok());
}

/// Waits until every attacher has what is queued for it, or went away.
fn flush_all(mut attachers: Vec<Attacher>) {
    loop {
        attachers.iter_mut().for_each(Attacher::flush);
        attachers.retain(Attacher::is_waiting);
        if attachers.is_empty() {
            return;
        }
        let mut fds: Vec<_> = attachers
            .iter()
            .map(|a| PollFd::from_borrowed_fd(a.socket(), PollFlags::OUT))
            .collect();
        if !matches!(poll(&mut fds, None), Ok(_) | Err(Errno::INTR)) {
            return;
        }
        let hung: Vec<bool> = fds.iter().map(|f| f.revents().contains(PollFlags::HUP)).collect();
        for (attacher, hung) in attachers.iter_mut().zip(hung) {
            if hung {
                attacher.mark_gone();
            }
        }
    }
}

/// Where a stream is read from, while it is open. A terminal has one stream.
fn output(output: &Output, stream: Stream) -> Option<BorrowedFd<'_>> {
    let end = match (output, stream) {
        (Output::Terminal(master), Stream::Stdout) => master,
        (Output::Terminal(_), Stream::Stderr) => return None,
        (Output::Pipes { stdout, .. }, Stream::Stdout) => stdout,
        (Output::Pipes { stderr, .. }, Stream::Stderr) => stderr,
    };
    end.as_ref().map(AsFd::as_fd)
}
