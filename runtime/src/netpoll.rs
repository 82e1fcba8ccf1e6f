//! netpoll, the policy: who waits for a descriptor, until when, and why the
//! wait ended.
//!
//! A [`PollDesc`] is what the runtime knows of one descriptor: a wait word and
//! a deadline for each direction, and whether it is being closed. Whoever
//! waits announces itself in the word ([`PollDesc::arm`]), looks once more for
//! a reason not to wait, and parks; an edge, a deadline or a close takes it
//! out of the word and wakes it, and it looks again. There is one waiter a
//! direction, as in Go.
//!
//! # What a mechanism supplies
//!
//! A mechanism asks its source of readiness for edges and hands each to
//! [`Table::notify`] with the token that it was registered under; wakes are
//! collected and delivered by the caller after every lock is released. The one
//! mechanism today is `netpoll_stack.rs`, the readiness of our own stack;
//! descriptors of the kernel would be another over the same table.
//!
//! # Lock order
//!
//! [`deadline::Entry`]'s, then a slot's, then the timer heap's. The word and
//! the deadlines are atomic. Nothing here parks while it holds a lock.

mod deadline;
mod describe;
mod sockets;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use wirepath_driver::Nanos;
use wirepath_driver::trace::{self, Actor, Stage};
use wirepath_stack::syscall::{Ready, Turn};
use wirepath_stack::{Errno, Fd, Stack};

use crate::netpoll_stack::StackPoll;
use crate::park::{Parker, WaitReason, Wake, park};
use crate::word::{Arm, WaitWord};

use deadline::NEVER;
pub(crate) use describe::{Patience, Waits};
use table::Slot;
pub(crate) use table::Table;

/// The readiness of everything that goroutines of one runtime wait for.
pub(crate) struct Netpoll {
    stack: Option<StackPoll>,
    table: Table,
    dialled: AtomicUsize,
}

impl Netpoll {
    pub(crate) fn new(stack: Option<Stack>) -> Netpoll {
        Netpoll {
            stack: stack.map(StackPoll::new),
            table: Table::new(),
            dialled: AtomicUsize::new(0),
        }
    }

    /// One turn of a shard: at most `budget` frames in. Appends whom it
    /// concerns to `woken`; the caller unparks them.
    pub(crate) fn poll(
        &self,
        shard: usize,
        now: Nanos,
        budget: usize,
        woken: &mut Vec<Parker>,
    ) -> Turn {
        self.stack.as_ref().map_or_else(Turn::default, |source| {
            source.poll(&self.table, shard, now, budget, woken)
        })
    }

    /// Sends what the shard's connections have to send.
    pub(crate) fn flush(&self, shard: usize, now: Nanos) {
        if let Some(source) = &self.stack {
            source.stack.flush(shard, now);
        }
    }

    /// When the shard has something to do without a frame.
    pub(crate) fn next_event(&self, shard: usize) -> Option<Nanos> {
        self.stack.as_ref()?.stack.next_event(shard)
    }

    /// Called before sleeping on the shard's fd. True: do not sleep.
    pub(crate) fn arm(&self, shard: usize) -> bool {
        self.stack.as_ref().is_some_and(|s| s.stack.arm(shard))
    }

    /// What to sleep on: one fd for each shard that has one.
    pub(crate) fn wakeup_fds(&self) -> Vec<OwnedFd> {
        self.stack
            .as_ref()
            .map_or_else(Vec::new, StackPoll::wakeup_fds)
    }

    pub(crate) fn shards(&self) -> usize {
        self.stack.as_ref().map_or(0, |s| s.stack.shards())
    }

    /// The stack, for calls.
    pub(crate) fn stack(&self) -> io::Result<&Stack> {
        match &self.stack {
            Some(source) => Ok(&source.stack),
            None => Err(io::Error::new(io::ErrorKind::NetworkDown, NoStack)),
        }
    }

    /// The shard for the next connection that is opened from this side.
    pub(crate) fn dial_shard(&self) -> usize {
        self.dialled.fetch_add(1, Ordering::Relaxed) % self.shards().max(1)
    }

    /// Enters a descriptor.
    pub(crate) fn open(&self, fds: &[Fd], is_listener: bool) -> io::Result<Arc<PollDesc>> {
        let desc = self.table.open(fds, is_listener);
        desc.ok_or_else(|| Errno::NoBuffers.into())
    }

    /// Has the stack report the readiness of one of the descriptor's fds.
    pub(crate) fn register(&self, desc: &PollDesc, fd: Fd) -> io::Result<()> {
        let ready = self.stack()?.register(fd, desc.slot.token)?;
        let mut woken = Vec::new();
        desc.notify(ready, &mut woken);
        woken.iter().for_each(Parker::unpark);
        Ok(())
    }

    /// Removes a descriptor that was closed.
    pub(crate) fn release(&self, desc: &PollDesc) {
        self.table.release(desc);
    }
}

/// A direction of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dir {
    /// Bytes to read, or a connection to accept.
    Read,
    /// Room to write, or the end of a connect.
    Write,
}

impl Dir {
    fn verb(self) -> &'static str {
        match self {
            Dir::Read => "read",
            Dir::Write => "write",
        }
    }
}

/// What a goroutine waits for between two steps: one direction of one
/// connection or listener.
///
/// Made by [`crate::net::TcpStream::readable`] and its like, right after a
/// call returned `WouldBlock`, and handed to the runtime at the end of the
/// step. The next step must try the call again until it returns `WouldBlock`:
/// readiness is an edge, and a wake without cause is allowed.
pub struct Wait(pub(crate) WaitInner);

/// See [`Wait`].
pub(crate) struct WaitInner {
    pub(crate) desc: Arc<PollDesc>,
    pub(crate) dir: Dir,
}

/// One direction of a [`PollDesc`].
struct Side {
    word: WaitWord,
    /// In nanoseconds; [`NEVER`] for none.
    deadline: AtomicU64,
}

impl Side {
    fn new() -> Side {
        Side {
            word: WaitWord::new(),
            deadline: AtomicU64::new(NEVER),
        }
    }

    /// Whether there is a deadline that has passed. The clock is read only
    /// when there is one.
    fn expired(&self, now: impl FnOnce() -> Nanos) -> bool {
        match self.deadline.load(Ordering::SeqCst) {
            NEVER => false,
            at => at <= now().0,
        }
    }
}

/// What the runtime knows of one descriptor.
pub(crate) struct PollDesc {
    /// The descriptor: what the trace calls the flow.
    fd: Fd,
    /// A listener's descriptors on the other shards.
    others: Box<[Fd]>,
    is_listener: bool,
    sides: [Side; 2],
    closing: AtomicBool,
    /// The place in the table, which outlives this descriptor.
    slot: Arc<Slot>,
}

impl PollDesc {
    fn new(fds: &[Fd], is_listener: bool, slot: Arc<Slot>) -> PollDesc {
        let (&fd, others) = fds.split_first().expect("a descriptor has an fd");
        PollDesc {
            fd,
            others: others.into(),
            is_listener,
            sides: [Side::new(), Side::new()],
            closing: AtomicBool::new(false),
            slot,
        }
    }

    fn side(&self, dir: Dir) -> &Side {
        &self.sides[dir as usize]
    }

    fn owns(&self, fd: Fd) -> bool {
        self.fd == fd || self.others.contains(&fd)
    }

    /// An edge from the mechanism: takes the waiters whom it concerns.
    pub(crate) fn notify(&self, ready: Ready, woken: &mut Vec<Parker>) {
        for (dir, cause) in [
            (Dir::Read, Ready::READ | Ready::HANGUP),
            (Dir::Write, Ready::WRITE | Ready::HANGUP),
        ] {
            if !ready.intersects(cause) {
                continue;
            }
            if let Some(waiter) = self.side(dir).word.notify() {
                if trace::enabled() {
                    self.trace_ready(&waiter);
                }
                woken.push(waiter);
            }
        }
    }

    #[cold]
    fn trace_ready(&self, waiter: &Parker) {
        let mut event = trace::Event::new(crate::time::now(), Stage::GReady, self.fd.raw());
        event.actor = Actor {
            g: waiter.goroutine_id(),
            ..Actor::default()
        };
        trace::emit(event);
    }

    /// Announces a waiter. `Armed`: park, or return to the scheduler; the
    /// waiter will be made ready, if it is not already. `Ready`: try again.
    /// `Busy`: somebody waits already.
    pub(crate) fn arm(&self, dir: Dir, waiter: Parker) -> Arm {
        let side = self.side(dir);
        let armed = side.word.arm(waiter);
        // A close or a deadline that came before the announcement found
        // nobody to wake, so both are looked at again after it.
        if armed == Arm::Armed
            && (self.closing.load(Ordering::SeqCst) || side.expired(crate::time::now))
            && let Some(waiter) = side.word.disarm()
        {
            waiter.unpark();
        }
        armed
    }

    /// Runs `call` until it does not block, parking in between.
    pub(crate) fn retry<T>(
        &self,
        dir: Dir,
        mut call: impl FnMut(Nanos) -> Result<T, Errno>,
    ) -> io::Result<T> {
        loop {
            match self.attempt(dir, &mut call) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(dir)?,
                done => return done,
            }
        }
    }

    /// Runs `call` once with the time, unless the descriptor is closed or the
    /// direction's deadline has passed.
    pub(crate) fn attempt<T>(
        &self,
        dir: Dir,
        call: impl FnOnce(Nanos) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let now = crate::time::now();
        if !self.closing.load(Ordering::SeqCst) && self.side(dir).expired(|| now) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, DeadlineExceeded));
        }
        self.unless_closed(|| call(now))
    }

    /// Runs `call`; an error because the descriptor was closed, also while it
    /// ran, says so.
    pub(crate) fn unless_closed<T>(
        &self,
        call: impl FnOnce() -> Result<T, Errno>,
    ) -> io::Result<T> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(self.closed());
        }
        call().map_err(|e| match e {
            Errno::BadFd if self.closing.load(Ordering::SeqCst) => self.closed(),
            e => e.into(),
        })
    }

    fn closed(&self) -> io::Error {
        let what = if self.is_listener {
            "the listener"
        } else {
            "the connection"
        };
        io::Error::new(io::ErrorKind::ConnectionAborted, Closed(what))
    }

    /// Parks the caller until something happened in this direction. May return
    /// without cause.
    fn wait(&self, dir: Dir) -> io::Result<()> {
        let me = Parker::current();
        match self.arm(dir, me.clone()) {
            Arm::Armed => {}
            Arm::Ready => return Ok(()),
            Arm::Busy => return Err(io::Error::new(io::ErrorKind::ResourceBusy, Busy(dir))),
        }
        let wake = park(WaitReason::IoWait, None);
        // Still there after a wake without cause. Another goroutine may have
        // come in after ours was taken: it is told to look again.
        match self.side(dir).word.disarm() {
            Some(waiter) if waiter != me => waiter.unpark(),
            _ => {}
        }
        match wake {
            Wake::Cancelled => Err(io::Error::other(ShuttingDown)),
            Wake::Notified | Wake::Deadline => Ok(()),
        }
    }

    /// Sets or clears the deadline of one direction. When it passes, the
    /// waiter in that direction is woken, also one that waits already.
    pub(crate) fn set_deadline(&self, dir: Dir, at: Option<Nanos>) {
        let at = at.map_or(NEVER, |at| at.0);
        self.side(dir).deadline.store(at, Ordering::SeqCst);
        self.slot.cover(dir, at);
    }

    /// Begins the close: calls fail from now on, and both waiters are woken.
    /// True for the caller that closes, and has to tell the mechanism.
    pub(crate) fn close(&self) -> bool {
        if self.closing.swap(true, Ordering::SeqCst) {
            return false;
        }
        for side in &self.sides {
            if let Some(waiter) = side.word.disarm() {
                waiter.unpark();
            }
        }
        true
    }

    /// The deadline of one direction passed: takes its waiter.
    fn expire(&self, dir: Dir, woken: &mut Vec<Parker>) {
        woken.extend(self.side(dir).word.disarm());
    }

    fn deadline(&self, dir: Dir) -> u64 {
        self.side(dir).deadline.load(Ordering::SeqCst)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("this runtime was built without a network stack")]
struct NoStack;

#[derive(Debug, thiserror::Error)]
#[error("the deadline passed")]
struct DeadlineExceeded;

#[derive(Debug, thiserror::Error)]
#[error("the runtime is shutting down")]
pub(crate) struct ShuttingDown;

#[derive(Debug, thiserror::Error)]
#[error(
    "another goroutine already waits to {} here; only one at a time may wait in each direction",
    .0.verb()
)]
struct Busy(Dir);

#[derive(Debug, thiserror::Error)]
#[error("{0} was closed on this side")]
struct Closed(&'static str);
