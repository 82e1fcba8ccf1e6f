//! Whether the peer has hung up, and who wants to know it without reading.
//!
//! A reader learns of a peer's end only when it reads, and somebody who works
//! on an answer does not. So a descriptor has, beside its two sides, one
//! watcher: a waker that is woken once, when the peer's stream has ended, when
//! the connection failed, or when it was closed here.
//!
//! # The order that matters
//!
//! It is that of a side: whoever has the news stores it and then takes the
//! watcher out of the word; a watcher enters the word and then looks. So one of
//! the two sees what the other did. The news stays: who comes later is told at
//! once, and nobody is in the word then for longer than that look.

use std::sync::Arc;
use std::task::Waker;

use crate::park::{Parker, Task};
use crate::sync_shim::{AtomicBool, Ordering};
use crate::word::{Arm, WaitWord};

use super::PollDesc;

/// The news, and the watcher who waits for it.
pub(super) struct HangUp {
    word: WaitWord,
    told: AtomicBool,
}

impl HangUp {
    pub(super) fn new() -> HangUp {
        HangUp {
            word: WaitWord::new(),
            told: AtomicBool::new(false),
        }
    }

    /// It has happened. The watcher, to be woken.
    pub(super) fn tell(&self) -> Option<Parker> {
        self.told.store(true, Ordering::SeqCst);
        self.word.notify()
    }

    /// Enters a watcher. `Ready`: it has happened already. `Busy`: there is
    /// another.
    fn enter(&self, watcher: Parker) -> Arm {
        let entered = self.word.arm(watcher);
        if entered == Arm::Armed
            && self.told.load(Ordering::SeqCst)
            // Else somebody has taken it out, and wakes it.
            && self.word.disarm().is_some()
        {
            return Arm::Ready;
        }
        entered
    }

    /// Takes out the watcher, if it was not told. One that entered since, and
    /// is about to look, is woken: it comes after the news.
    fn leave(&self, is_mine: impl FnOnce(&Parker) -> bool) {
        match self.word.disarm() {
            Some(other) if !is_mine(&other) => other.unpark(),
            _ => {}
        }
    }
}

/// Watches a connection for its peer hanging up, until it is dropped: see
/// [`TcpStream::watch_hangup`](crate::net::TcpStream::watch_hangup).
pub struct HangUpWatch {
    desc: Arc<PollDesc>,
    task: Arc<Task>,
}

impl HangUpWatch {
    /// Watches `desc`; wakes at once if it has happened. `None`: there is
    /// another watcher.
    pub(crate) fn new(desc: &Arc<PollDesc>, waker: &Waker) -> Option<HangUpWatch> {
        let task = Arc::<Task>::default();
        task.watch(waker);
        match desc.hangup.enter(Parker::Task(task.clone())) {
            Arm::Armed => {}
            Arm::Ready => waker.wake_by_ref(),
            Arm::Busy => return None,
        }
        let desc = desc.clone();
        Some(HangUpWatch { desc, task })
    }
}

impl Drop for HangUpWatch {
    fn drop(&mut self) {
        let is_mine = |p: &Parker| matches!(p, Parker::Task(t) if Arc::ptr_eq(t, &self.task));
        self.desc.hangup.leave(is_mine);
    }
}

impl std::fmt::Debug for HangUpWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HangUpWatch").finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_hangup_is_told_once_to_whom_it_meets() {
        loom::model(|| {
            let hangup = Arc::new(HangUp::new());
            let other = hangup.clone();
            let edge = loom::thread::spawn(move || other.tell().is_some());
            let entered = hangup.enter(Parker::current());
            let woken = edge.join().unwrap();
            match entered {
                Arm::Armed => assert!(woken, "it watches, and nobody tells it"),
                Arm::Ready => assert!(!woken, "told twice"),
                Arm::Busy => panic!("nobody else watches"),
            }
            assert_eq!(hangup.enter(Parker::current()), Arm::Ready);
        });
    }

    #[test]
    fn loom_hangup_reaches_the_next_watcher_if_one_leaves() {
        loom::model(|| {
            let hangup = Arc::new(HangUp::new());
            assert_eq!(hangup.enter(Parker::current()), Arm::Armed);
            let other = hangup.clone();
            let edge = loom::thread::spawn(move || usize::from(other.tell().is_some()));
            hangup.leave(|_| true);
            let entered = hangup.enter(Parker::current());
            let woken = edge.join().unwrap();
            match entered {
                Arm::Armed => assert_eq!(woken, 1),
                // The edge met the first, or nobody.
                Arm::Ready => assert!(woken <= 1),
                Arm::Busy => panic!("the first has left"),
            }
        });
    }
}
