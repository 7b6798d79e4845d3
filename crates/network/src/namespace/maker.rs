//! The thread that makes namespaces: `unshare` and `setns` change the thread
//! that calls them, so no other thread may.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use conex_sys::process::{enter_namespace, unshare};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};

use super::Prepared;
use crate::host::{conf, set_sysctl};
use crate::netlink::{LinkError, Route};

/// Loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;

enum Job {
    Take(SyncSender<io::Result<Prepared>>),
    Enter(OwnedFd, SyncSender<io::Result<Prepared>>),
    Refill,
}

/// The thread's door.
#[derive(Debug)]
pub(super) struct Maker {
    jobs: Sender<Job>,
}

impl Maker {
    pub(super) fn start(ready: usize) -> io::Result<Maker> {
        let home = own_namespace()?;
        let (jobs, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || work(&home, &inbox, ready))?;
        Ok(Maker { jobs })
    }

    pub(super) fn take(&self) -> io::Result<Prepared> {
        self.ask(Job::Take)
    }

    /// What was taken is in use: another one may be made. Before that, making
    /// it would be in the way, since the kernel does one thing at a time here.
    pub(super) fn refill(&self) {
        // Whoever takes next hears of a thread that has ended.
        let _ended = self.jobs.send(Job::Refill).is_err();
    }

    /// Opens a socket in a namespace that is in use.
    pub(super) fn enter(&self, namespace: OwnedFd) -> io::Result<Prepared> {
        self.ask(|answer| Job::Enter(namespace, answer))
    }

    fn ask(
        &self,
        job: impl FnOnce(SyncSender<io::Result<Prepared>>) -> Job,
    ) -> io::Result<Prepared> {
        let (answer, result) = mpsc::sync_channel(1);
        let ended = |_| io::Error::other("the thread that makes network namespaces has ended");
        self.jobs
            .send(job(answer))
            .map_err(|_| ended(mpsc::RecvError))?;
        result.recv().map_err(ended)?
    }
}

/// Ends when the door is gone, and also when it cannot come home: it would
/// make everything in the wrong place.
fn work(home: &OwnedFd, inbox: &Receiver<Job>, ready: usize) {
    let mut shelf: Vec<Prepared> = Vec::new();
    let mut refill = true;
    loop {
        // Whoever waits comes first, the shelf is filled in between.
        let job = if refill && shelf.len() < ready {
            match inbox.try_recv() {
                Ok(job) => Some(job),
                Err(mpsc::TryRecvError::Empty) => None,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        } else {
            match inbox.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            }
        };
        let Some(job) = job else {
            match make() {
                Ok(made) => shelf.push(made),
                // Whoever asks next gets the reason.
                Err(_) => refill = false,
            }
            if go_home(home).is_err() {
                return;
            }
            refill &= shelf.len() < ready;
            continue;
        };
        let (result, answer) = match job {
            Job::Refill => {
                refill = true;
                continue;
            }
            Job::Take(answer) => match shelf.pop() {
                Some(prepared) => {
                    let _gone = answer.send(Ok(prepared)).is_err();
                    continue;
                }
                None => (make(), answer),
            },
            Job::Enter(fd, answer) => (enter(fd), answer),
        };
        let back = go_home(home);
        // The asker waits for it.
        let _gone = answer.send(result).is_err();
        if back.is_err() {
            return;
        }
    }
}

fn go_home(home: &OwnedFd) -> Result<(), rustix::io::Errno> {
    enter_namespace(home.as_fd(), libc::CLONE_NEWNET)
}

fn own_namespace() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

fn make() -> io::Result<Prepared> {
    unshare(libc::CLONE_NEWNET)?;
    let fd = own_namespace()?;
    inside(fd, true).map_err(io::Error::other)
}

fn enter(fd: OwnedFd) -> io::Result<Prepared> {
    enter_namespace(fd.as_fd(), libc::CLONE_NEWNET)?;
    inside(fd, false).map_err(io::Error::other)
}

/// Called by the thread when it is in the namespace.
fn inside(fd: OwnedFd, fresh: bool) -> Result<Prepared, LinkError> {
    let mut route = Route::open()?;
    if fresh {
        // Interfaces tell their neighbours when they get their address.
        set_sysctl(&conf("ipv4", "default", "arp_notify"), "1")?;
        if std::path::Path::new("/proc/sys/net/ipv6").exists() {
            set_sysctl(&conf("ipv6", "default", "ndisc_notify"), "1")?;
            // The host is the only router and says nothing of itself; whoever
            // else did would be a container. An interface gets link-local
            // addresses only where its network has IPv6, and nobody else can
            // have them.
            set_sysctl(&conf("ipv6", "default", "accept_ra"), "0")?;
            set_sysctl(&conf("ipv6", "default", "accept_dad"), "0")?;
            set_sysctl(&conf("ipv6", "default", "addr_gen_mode"), "1")?;
        }
        let mut up = LinkMessage::default();
        up.header.index = LOOPBACK;
        up.header.flags = LinkFlags::Up;
        up.header.change_mask = LinkFlags::Up;
        route.push(RouteNetlinkMessage::SetLink(up), 0, ("set up", "lo"), &[]);
        route.commit()?;
    }
    Ok(Prepared {
        fd,
        route,
        next_index: fresh.then_some(LOOPBACK + 1),
    })
}
