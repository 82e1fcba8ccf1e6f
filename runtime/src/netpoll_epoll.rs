//! netpoll, the mechanism over Linux's epoll: descriptors of the kernel.
//!
//! There is one epoll set for the runtime. It holds every kernel descriptor
//! that goroutines may wait for, and what wakes the poller from its sleep: an
//! eventfd and the fd of each shard (the token tells which is which). So one M
//! that blocks in it waits for everything.
//!
//! A kernel descriptor is added once, for all its events, edge-triggered, as Go
//! does, and is never modified: a wait costs no system call. Its token is the
//! slot of its poll descriptor and the slot's generation, so that what the
//! kernel still tells of a descriptor that was closed reaches nobody, also once
//! the slot and the number have a new user.
//!
//! Rejected: one epoll for each P (a goroutine that moves would take its
//! descriptors along, two calls each time); one-shot registration (a call for
//! each wait).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use wirepath_driver::Nanos;
use wirepath_stack::syscall::Ready;

use crate::netpoll::Table;
use crate::park::Parker;

/// Token of the eventfd that wakes the poller.
pub(crate) const EVENT: u64 = 0;

/// Token of the fds that wake the poller for a shard.
pub(crate) const WAKEUP: u64 = 1;

/// Tokens from here are of kernel descriptors: their generation is never 0.
const DESCRIPTORS: u64 = 1 << 32;

/// Events taken by one call (Go's number).
const BATCH: usize = 128;

/// The epoll set.
pub(crate) struct EpollPoll {
    epoll: OwnedFd,
    /// Kernel descriptors in the set.
    registered: AtomicUsize,
    /// When somebody last looked.
    last: AtomicU64,
}

impl EpollPoll {
    pub(crate) fn new() -> io::Result<EpollPoll> {
        Ok(EpollPoll {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            registered: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        })
    }

    /// Adds what shall end the poller's sleep, for as long as the set lives.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        debug_assert!(token < DESCRIPTORS);
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, fd, data, EventFlags::IN)?)
    }

    /// Adds a descriptor. What it is ready for already is told as an edge.
    ///
    /// # Errors
    /// `EPERM` for what cannot be waited for (a regular file).
    pub(crate) fn register(&self, fd: BorrowedFd<'_>, token: u64) -> rustix::io::Result<()> {
        debug_assert!(token >= DESCRIPTORS);
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI;
        let data = epoll::EventData::new_u64(token);
        // Before it is added: a look that finds none does not ask the kernel.
        self.registered.fetch_add(1, Ordering::SeqCst);
        epoll::add(&self.epoll, fd, data, all | EventFlags::ET).inspect_err(|_| {
            self.registered.fetch_sub(1, Ordering::SeqCst);
        })
    }

    /// Takes a descriptor out that is about to be closed. Closing alone would
    /// leave it in if another process or a duplicate still holds it open.
    pub(crate) fn deregister(&self, fd: BorrowedFd<'_>) {
        // It was added, so it can be taken out.
        let _ = epoll::delete(&self.epoll, fd);
        self.registered.fetch_sub(1, Ordering::SeqCst);
    }

    /// Kernel descriptors in the set.
    pub(crate) fn registered(&self) -> usize {
        self.registered.load(Ordering::SeqCst)
    }

    /// Looks without sleeping; without descriptors it asks nobody. The waiters
    /// of edges are appended to `woken`.
    pub(crate) fn poll(&self, table: &Table, now: Nanos, woken: &mut Vec<Parker>) {
        if self.registered() > 0 {
            self.last.store(now.0, Ordering::Relaxed);
            self.wait(table, Some(&Timespec::default()), woken);
        }
    }

    /// When [`EpollPoll::poll`] last asked.
    pub(crate) fn last(&self) -> Nanos {
        Nanos(self.last.load(Ordering::Relaxed))
    }

    /// Sleeps until something happens, `timeout` at most. The waiters of edges
    /// are appended to `woken`, to be unparked by the caller. True: the eventfd
    /// is to be read.
    pub(crate) fn wait(
        &self,
        table: &Table,
        timeout: Option<&Timespec>,
        woken: &mut Vec<Parker>,
    ) -> bool {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        // An interrupted sleep is a wake without cause, which is allowed.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout) else {
            return false;
        };
        let mut rung = false;
        for event in events {
            match event.data.u64() {
                EVENT => rung = true,
                WAKEUP => {}
                token => table.notify_kernel(token, ready(event.flags), woken),
            }
        }
        rung
    }
}

/// epoll's flags in netpoll's words. Urgent data (`EPOLLPRI`) makes a read end
/// early, as if nothing were left, hence [`Ready::MORE`].
fn ready(flags: EventFlags) -> Ready {
    let mut ready = Ready::empty();
    for (flag, means) in [
        (EventFlags::IN, Ready::READ),
        (EventFlags::OUT, Ready::WRITE),
        (EventFlags::RDHUP, Ready::READ.union(Ready::END)),
        (EventFlags::PRI, Ready::READ.union(Ready::MORE)),
        (EventFlags::HUP, Ready::HANGUP),
        (EventFlags::ERR, Ready::HANGUP),
    ] {
        if flags.contains(flag) {
            ready |= means;
        }
    }
    ready
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn flags_become_edges() {
        let read_end = Ready::READ | Ready::END;
        for (flags, want) in [
            (EventFlags::IN, Ready::READ),
            (EventFlags::OUT, Ready::WRITE),
            (EventFlags::IN | EventFlags::OUT, Ready::READ | Ready::WRITE),
            (EventFlags::IN | EventFlags::RDHUP, read_end),
            (EventFlags::RDHUP, read_end),
            (EventFlags::PRI, Ready::READ | Ready::MORE),
            (EventFlags::HUP, Ready::HANGUP),
            (
                EventFlags::ERR | EventFlags::IN,
                Ready::HANGUP | Ready::READ,
            ),
            (EventFlags::empty(), Ready::empty()),
        ] {
            assert_eq!(ready(flags), want, "{flags:?}");
        }
    }
}
