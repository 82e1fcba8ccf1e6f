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
//! A mechanism asks its source of readiness for edges and hands each to the
//! table ([`Table::notify`], [`Table::notify_kernel`]) with the token that it
//! was registered under; wakes are collected and delivered by the caller after
//! every lock is released. There are two over the same table, and both may be
//! live in one runtime: `netpoll_stack.rs`, the readiness of our own stack, and
//! `netpoll_epoll.rs`, Linux's epoll for descriptors of the kernel.
//! [`Source`] says of a descriptor which one is its own.
//!
//! # A call that took all there was
//!
//! A read of a stream that fills less than its buffer has emptied it: what
//! comes later is an edge of its own, which the word keeps. So one may wait
//! without asking again, which would cost a system call only to hear
//! `WouldBlock`. But an end or an error behind those bytes was told already,
//! perhaps together with them. Hence such an edge stays in the side
//! ([`side::Side`]): while it does, no wait sleeps; a call that says
//! `WouldBlock` after all takes it away.
//!
//! # Lock order
//!
//! [`deadline::Entry`]'s, then a slot's, then the timer heap's. A
//! [`source::KernelFd`]'s is held with no other. The word and the deadlines are
//! atomic. Nothing here parks while it holds a lock.

mod deadline;
mod describe;
mod hangup;
mod side;
mod sockets;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::event::Timespec;
use wirepath_driver::Nanos;
use wirepath_driver::trace::{self, Kind};
use wirepath_stack::syscall::{Ready, Turn};
use wirepath_stack::{Errno, Fd, Stack};

use crate::events;
use crate::net::Network;
pub(crate) use crate::netpoll_epoll::{EVENT, EpollPoll, WAKEUP};
use crate::netpoll_stack::StackPoll;
use crate::park::{Parker, WaitReason, Wake, park};
use crate::time::now;
use crate::word::Arm;

use deadline::NEVER;
pub(crate) use describe::{Patience, Waits};
use hangup::HangUp;
pub use hangup::HangUpWatch;
use side::Side;
pub(crate) use source::{CallError, KernelFd, Source};
use table::Slot;
pub(crate) use table::Table;

/// The readiness of everything that goroutines of one runtime wait for.
pub(crate) struct Netpoll {
    stack: Option<StackPoll>,
    pub(crate) kernel: EpollPoll,
    table: Table,
    /// What calls take that name no network.
    network: Network,
    dialled: AtomicUsize,
}

impl Netpoll {
    /// # Errors
    /// When there is no descriptor to be had.
    pub(crate) fn new(stack: Option<Stack>) -> io::Result<Netpoll> {
        let network = match stack {
            Some(_) => Network::Stack,
            None => Network::Kernel,
        };
        Ok(Netpoll {
            network,
            stack: stack.map(StackPoll::new),
            kernel: EpollPoll::new()?,
            table: Table::new(),
            dialled: AtomicUsize::new(0),
        })
    }

    /// With `network` for calls that name none.
    pub(crate) fn with_network(self, network: Network) -> Netpoll {
        Netpoll { network, ..self }
    }

    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// Looks for descriptors of the kernel that are ready. Appends whom it
    /// concerns to `woken`; the caller unparks them.
    pub(crate) fn poll_kernel(&self, now: Nanos, woken: &mut Vec<Parker>) {
        self.kernel.poll(&self.table, now, woken);
    }

    /// Sleeps until something happens, as [`EpollPoll::wait`].
    pub(crate) fn sleep(&self, timeout: Option<&Timespec>, woken: &mut Vec<Parker>) -> bool {
        self.kernel.wait(&self.table, timeout, woken)
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

    /// Enters a descriptor of the stack, which [`Netpoll::register`] follows.
    /// `what` it is called in errors: «the connection».
    pub(crate) fn open(&self, fds: &[Fd], what: &'static str) -> io::Result<Arc<PollDesc>> {
        self.enter(Source::stack(fds), what)
    }

    fn enter(&self, source: Source, what: &'static str) -> io::Result<Arc<PollDesc>> {
        let desc = self.table.open(source, what);
        desc.ok_or_else(|| Errno::NoBuffers.into())
    }

    /// Enters a descriptor of the kernel, which must not block, and has epoll
    /// report its readiness. It is closed if that fails.
    ///
    /// # Errors
    /// `PermissionDenied` for what cannot be waited for (a regular file); out
    /// of memory.
    pub(crate) fn open_kernel(&self, fd: OwnedFd, what: &'static str) -> io::Result<Arc<PollDesc>> {
        let desc = self.enter(Source::Kernel(KernelFd::new(fd)), what)?;
        let Source::Kernel(kernel) = &desc.source else {
            unreachable!("made so above");
        };
        let added = kernel.call(|fd| self.kernel.register(fd, desc.token));
        added.inspect_err(|_| {
            desc.close();
            drop(kernel.take());
            self.release(&desc);
        })?;
        Ok(desc)
    }

    /// Takes a kernel descriptor out of epoll and of `desc`, which
    /// [`PollDesc::close`] said is to be closed; the caller closes it.
    pub(crate) fn take_kernel(&self, desc: &PollDesc) -> Option<OwnedFd> {
        let Source::Kernel(kernel) = &desc.source else {
            return None;
        };
        let fd = kernel.take()?;
        self.kernel.deregister(fd.as_fd());
        Some(fd)
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
/// readiness is an edge, and a wake without cause is allowed. Of a TCP stream a
/// call that moved fewer bytes than it was given room for (but at least one)
/// will do as well: it took all there was, and what comes later is another edge.
pub struct Wait(pub(crate) WaitInner);

impl Wait {
    /// Waits here, in the middle of a step, or of a goroutine that has none; the
    /// call is to be tried again then. It ends without a word when the deadline
    /// of the direction has passed, which that call tells.
    ///
    /// # Errors
    /// `ResourceBusy` when another waits for the same already; `Other` when the
    /// runtime shuts down.
    pub fn wait(self) -> io::Result<()> {
        self.0.desc.wait(self.0.dir)
    }

    /// What the trace calls the flow.
    pub(crate) fn flow(&self) -> u64 {
        self.0.desc.flow()
    }
}

/// See [`Wait`].
pub(crate) struct WaitInner {
    pub(crate) desc: Arc<PollDesc>,
    pub(crate) dir: Dir,
}

/// What the runtime knows of one descriptor.
pub(crate) struct PollDesc {
    pub(crate) source: Source,
    /// What it is called in errors: «the connection».
    what: &'static str,
    sides: [Side; 2],
    hangup: HangUp,
    closing: AtomicBool,
    /// What epoll tells of a kernel descriptor by: its slot, and a generation
    /// that no other user of the slot has.
    pub(crate) token: u64,
    /// The place in the table, which outlives this descriptor.
    slot: Arc<Slot>,
}

impl PollDesc {
    fn new(source: Source, what: &'static str, token: u64, slot: Arc<Slot>) -> PollDesc {
        PollDesc {
            source,
            what,
            sides: [Side::new(), Side::new()],
            hangup: HangUp::new(),
            closing: AtomicBool::new(false),
            token,
            slot,
        }
    }

    fn side(&self, dir: Dir) -> &Side {
        &self.sides[dir as usize]
    }

    /// What the trace calls the flow. The kernel's have the highest bit, which
    /// the stack's have not until their generations have gone half around.
    pub(crate) fn flow(&self) -> u64 {
        match &self.source {
            Source::Stack { fd, .. } => fd.raw(),
            Source::Kernel(_) => 1 << 63 | self.token,
        }
    }

    /// An edge from the mechanism: takes the waiters whom it concerns.
    pub(crate) fn notify(&self, ready: Ready, woken: &mut Vec<Parker>) {
        for (dir, cause, end) in [
            (Dir::Read, Ready::READ, Ready::END | Ready::MORE),
            (Dir::Write, Ready::WRITE, Ready::empty()),
        ] {
            if !ready.intersects(cause | Ready::HANGUP) {
                continue;
            }
            let ends = ready.intersects(end | Ready::HANGUP);
            if let Some(waiter) = self.side(dir).notify(ends) {
                if trace::enabled() {
                    trace_woken(Kind::GReady, self.flow(), &waiter);
                }
                woken.push(waiter);
            }
        }
        if ready.intersects(Ready::END | Ready::HANGUP) {
            woken.extend(self.hangup.tell());
        }
    }

    /// Announces a waiter. `Armed`: park, or return to the scheduler; the
    /// waiter will be made ready, if it is not already. `Ready`: try again.
    /// `Busy`: somebody waits already.
    pub(crate) fn arm(&self, dir: Dir, waiter: Parker) -> Arm {
        let closing = || self.closing.load(Ordering::SeqCst);
        self.side(dir).arm(waiter, closing)
    }

    /// Runs `call` until it does not block, parking in between.
    pub(crate) fn retry<T, E: Into<CallError>>(
        &self,
        dir: Dir,
        mut call: impl FnMut(Nanos) -> Result<T, E>,
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
    pub(crate) fn attempt<T, E: Into<CallError>>(
        &self,
        dir: Dir,
        call: impl FnOnce(Nanos) -> Result<T, E>,
    ) -> io::Result<T> {
        let now = now();
        let side = self.side(dir);
        if !self.closing.load(Ordering::SeqCst) && side.expired(|| now) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, DeadlineExceeded));
        }
        self.unless_closed(|| side.noting_end(|| call(now).map_err(Into::into)))
    }

    /// Runs `call`; an error because the descriptor was closed, also while it
    /// ran, says so.
    pub(crate) fn unless_closed<T, E: Into<CallError>>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
    ) -> io::Result<T> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(self.closed());
        }
        call().map_err(|e| match e.into() {
            e if e.is_bad_fd() && self.closing.load(Ordering::SeqCst) => self.closed(),
            e => e.into(),
        })
    }

    fn closed(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, Closed(self.what))
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
        if trace::enabled() {
            events::block(WaitReason::IoWait, self.flow());
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
        if let Some(watcher) = self.hangup.tell() {
            watcher.unpark();
        }
        true
    }

    /// The deadline of one direction passed: takes its waiter.
    fn expire(&self, dir: Dir, woken: &mut Vec<Parker>) {
        if let Some(waiter) = self.side(dir).word.disarm() {
            if trace::enabled() {
                trace_woken(Kind::GoUnblock, 0, &waiter);
            }
            woken.push(waiter);
        }
    }

    fn deadline(&self, dir: Dir) -> u64 {
        self.side(dir).deadline.load(Ordering::SeqCst)
    }
}

#[cold]
fn trace_woken(kind: Kind, flow: u64, waiter: &Parker) {
    let event = trace::Event::new(trace::stamp(), kind, flow);
    trace::emit(event.to(waiter.goroutine_id()));
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
