//! Who may have a reader-writer lock.
//!
//! As in Go, a writer that waits keeps new readers out, so readers cannot
//! starve it; and when a writer leaves, all readers that wait go in before the
//! next writer, so writers cannot starve them. Whoever leaves last hands the
//! lock on, to the first writer or to all waiting readers; nobody competes for
//! it then.
//!
//! So a goroutine must not take it to read twice: if a writer comes in between,
//! the two wait for each other (as Go documents).

use crate::model::{AtomicUsize, Latch, LatchGuard, Ordering, Parker, WaitReason, Wake, park};
use crate::waiters::{Settled, Waiters};

const WRITER: usize = 1;
/// Somebody waits; changed under the latch. Nobody comes past it.
const QUEUED: usize = 2;
/// One reader; the count is above the marks.
const READER: usize = 4;

/// A reader-writer lock without data.
pub(super) struct RawRwLock {
    state: AtomicUsize,
    waiting: Latch<Queues>,
}

struct Queues {
    readers: Waiters<()>,
    writers: Waiters<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Reader,
    Writer,
}

impl Queues {
    const fn new() -> Queues {
        Queues {
            readers: Waiters::new(),
            writers: Waiters::new(),
        }
    }

    fn of(&mut self, role: Role) -> &mut Waiters<()> {
        match role {
            Role::Reader => &mut self.readers,
            Role::Writer => &mut self.writers,
        }
    }

    fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.writers.is_empty()
    }
}

impl Default for RawRwLock {
    fn default() -> RawRwLock {
        RawRwLock::new()
    }
}

impl RawRwLock {
    #[cfg(not(loom))]
    pub(super) const fn new() -> RawRwLock {
        RawRwLock {
            state: AtomicUsize::new(0),
            waiting: Latch::new(Queues::new()),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> RawRwLock {
        RawRwLock {
            state: AtomicUsize::new(0),
            waiting: Latch::new(Queues::new()),
        }
    }

    pub(super) fn try_read(&self) -> bool {
        self.enter(Role::Reader)
    }

    pub(super) fn try_write(&self) -> bool {
        self.enter(Role::Writer)
    }

    #[inline]
    pub(super) fn read(&self) {
        if !self.enter(Role::Reader) {
            self.wait(Role::Reader);
        }
    }

    #[inline]
    pub(super) fn write(&self) {
        if !self.enter(Role::Writer) {
            self.wait(Role::Writer);
        }
    }

    /// Takes it if that needs no wait.
    #[inline]
    fn enter(&self, role: Role) -> bool {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let to = match role {
                Role::Reader if seen & (WRITER | QUEUED) == 0 => seen + READER,
                Role::Writer if seen == 0 => WRITER,
                _ => return false,
            };
            match self
                .state
                .compare_exchange_weak(seen, to, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Enters the list. None: it has the lock already.
    fn enqueue(&self, role: Role) -> Option<usize> {
        let mut waiting = self.waiting.lock();
        loop {
            if self.enter(role) {
                return None;
            }
            let seen = self.state.load(Ordering::Relaxed);
            let free = match role {
                Role::Reader => seen & (WRITER | QUEUED) == 0,
                Role::Writer => seen == 0,
            };
            let marked = || {
                self.state.compare_exchange(
                    seen,
                    seen | QUEUED,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
            };
            if !free && marked().is_ok() {
                return Some(waiting.of(role).push(Parker::current(), None));
            }
        }
    }

    #[cold]
    fn wait(&self, role: Role) {
        let Some(ticket) = self.enqueue(role) else {
            return;
        };
        let reason = match role {
            Role::Reader => WaitReason::RwLockRead,
            Role::Writer => WaitReason::RwLockWrite,
        };
        loop {
            let cancelled = park(reason, None) == Wake::Cancelled;
            let mut waiting = self.waiting.lock();
            match waiting.of(role).settle(ticket, cancelled) {
                Settled::Waits => {}
                Settled::Completed(_) if !cancelled => return,
                Settled::Completed(_) => {
                    drop(waiting);
                    self.leave(role);
                    crate::spawn::unwind_cancelled();
                }
                Settled::Withdrawn(_) => {
                    self.withdrawn(waiting);
                    crate::spawn::unwind_cancelled();
                }
            }
        }
    }

    /// A waiter gave up. If it was the last writer, those readers go on that
    /// it kept out.
    fn withdrawn(&self, mut waiting: LatchGuard<'_, Queues>) {
        let mut woken = Vec::new();
        let held_to_write = self.state.load(Ordering::Relaxed) & WRITER != 0;
        if waiting.writers.is_empty() && !held_to_write {
            while let Some((reader, _)) = waiting.readers.pop() {
                woken.push(reader);
            }
            self.state
                .fetch_add(woken.len() * READER, Ordering::Relaxed);
        }
        if waiting.is_empty() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        drop(waiting);
        woken.into_iter().for_each(Parker::into_unparked);
    }

    fn leave(&self, role: Role) {
        match role {
            Role::Reader => self.leave_read(),
            Role::Writer => self.leave_write(),
        }
    }

    /// Gives it back; the caller has it to read.
    #[inline]
    pub(super) fn leave_read(&self) {
        let before = self.state.fetch_sub(READER, Ordering::Release);
        if before == READER | QUEUED {
            self.hand_on(Role::Writer);
        }
    }

    /// Gives it back; the caller has it to write.
    #[inline]
    pub(super) fn leave_write(&self) {
        let freed = self
            .state
            .compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed);
        if freed.is_err() {
            self.hand_on(Role::Reader);
        }
    }

    /// Passes the lock on, if it can to those of role `first`.
    #[cold]
    fn hand_on(&self, first: Role) {
        let mut waiting = self.waiting.lock();
        let seen = self.state.load(Ordering::Acquire);
        if first == Role::Writer && seen != QUEUED {
            // Somebody was let in, or gave up, meanwhile.
            return;
        }
        let mut woken = Vec::new();
        let readers_go = first == Role::Reader || waiting.writers.is_empty();
        let mut state = 0;
        if readers_go && !waiting.readers.is_empty() {
            while let Some((reader, _)) = waiting.readers.pop() {
                woken.push(reader);
                state += READER;
            }
        } else if let Some((writer, _)) = waiting.writers.pop() {
            woken.push(writer);
            state = WRITER;
        }
        if !waiting.is_empty() {
            state |= QUEUED;
        }
        // With QUEUED and nobody in, or with the caller in to write, the state
        // changes under the latch only.
        self.state.store(state, Ordering::Release);
        drop(waiting);
        woken.into_iter().for_each(Parker::into_unparked);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Guarded {
        raw: RawRwLock,
        value: UnsafeCell<usize>,
    }

    fn read(guarded: &Guarded) {
        guarded.raw.read();
        guarded.value.with(|_| ());
        guarded.raw.leave_read();
    }

    fn write(guarded: &Guarded) {
        guarded.raw.write();
        guarded.value.with_mut(|_| ());
        guarded.raw.leave_write();
    }

    fn all_get_it(work: [fn(&Guarded); 3]) {
        loom::model(move || {
            let guarded = Arc::new(Guarded {
                raw: RawRwLock::new(),
                value: UnsafeCell::new(0),
            });
            let others: Vec<_> = work[1..]
                .iter()
                .map(|&work| {
                    let guarded = guarded.clone();
                    thread::spawn(move || work(&guarded))
                })
                .collect();
            work[0](&guarded);
            others.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(guarded.raw.state.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn loom_rwlock_two_readers_and_a_writer() {
        all_get_it([read, write, read]);
    }

    #[test]
    fn loom_rwlock_two_writers_and_a_reader() {
        all_get_it([write, read, write]);
    }
}
