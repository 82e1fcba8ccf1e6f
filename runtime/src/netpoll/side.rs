//! One direction of a poll descriptor: who waits, until when, and whether an
//! end was told.
//!
//! # The order that matters
//!
//! Whoever has news stores it (the end, a close, a deadline) and then takes the
//! waiter out of the word. Whoever waits enters the word and then looks at all
//! of these. So one of the two sees what the other did.

use std::sync::atomic::AtomicU64;

use wirepath_driver::Nanos;

use super::CallError;
use super::deadline::NEVER;
use crate::park::Parker;
use crate::sync_shim::{AtomicBool, Ordering};
use crate::time::now;
use crate::word::{Arm, WaitWord};

/// One direction of a [`super::PollDesc`].
pub(super) struct Side {
    pub(super) word: WaitWord,
    /// In nanoseconds; [`NEVER`] for none.
    pub(super) deadline: AtomicU64,
    /// An end or an error was told, and no call has said `WouldBlock` since.
    ended: AtomicBool,
}

impl Side {
    pub(super) fn new() -> Side {
        Side {
            word: WaitWord::new(),
            deadline: AtomicU64::new(NEVER),
            ended: AtomicBool::new(false),
        }
    }

    /// Whether there is a deadline that has passed. The clock is read only
    /// when there is one.
    pub(super) fn expired(&self, now: impl FnOnce() -> Nanos) -> bool {
        match self.deadline.load(Ordering::SeqCst) {
            NEVER => false,
            at => at <= now().0,
        }
    }

    /// An edge, which tells of an end if `ends`: takes the waiter.
    pub(super) fn notify(&self, ends: bool) -> Option<Parker> {
        if ends {
            self.ended.store(true, Ordering::SeqCst);
        }
        self.word.notify()
    }

    /// Announces a waiter. `Ready` also if there is a reason not to wait that
    /// may have come before: an end, a deadline, or `closing`.
    pub(super) fn arm(&self, waiter: Parker, closing: impl FnOnce() -> bool) -> Arm {
        let armed = self.word.arm(waiter);
        if armed == Arm::Armed
            && (closing() || self.ended.load(Ordering::SeqCst) || self.expired(now))
            // Else somebody has taken it out, and wakes it.
            && self.word.disarm().is_some()
        {
            return Arm::Ready;
        }
        armed
    }

    /// Runs `call`, and forgets an end that was told if it would block.
    ///
    /// It is forgotten before the call, and noted again after it: an end that
    /// is told meanwhile is noted in either case.
    pub(super) fn noting_end<T>(
        &self,
        call: impl FnOnce() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let ended = self.ended.load(Ordering::SeqCst) && self.ended.swap(false, Ordering::SeqCst);
        let result = call();
        if ended && !result.as_ref().is_err_and(|e| e.is_would_block()) {
            self.ended.store(true, Ordering::SeqCst);
        }
        result
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::model::{Arc, Mutex, lock};
    use wirepath_stack::Errno;

    /// A stream: bytes that wait, and whether its end is behind them.
    #[derive(Default)]
    struct Stream {
        queue: Mutex<(usize, bool)>,
    }

    impl Stream {
        fn read(&self) -> Result<usize, CallError> {
            let mut queue = lock(&self.queue);
            match std::mem::take(&mut queue.0) {
                0 if !queue.1 => Err(Errno::WouldBlock.into()),
                n => Ok(n),
            }
        }
    }

    /// What came of reading until there is nothing more to do.
    #[derive(Debug, PartialEq)]
    enum Reader {
        SawEnd,
        Waits,
    }

    /// Reads, and waits after each read without asking again, as every read is
    /// short.
    fn read_on(side: &Side, stream: &Stream, got: &mut usize) -> Reader {
        loop {
            match side.noting_end(|| stream.read()) {
                Ok(0) => return Reader::SawEnd,
                Ok(n) => *got += n,
                Err(_) => {}
            }
            match side.arm(Parker::current(), || false) {
                Arm::Armed => return Reader::Waits,
                Arm::Ready => {}
                Arm::Busy => panic!("nobody else waits"),
            }
        }
    }

    fn check(arrivals: &'static [(usize, bool)]) {
        loom::model(move || {
            let shared = Arc::new((Side::new(), Stream::default()));
            let source = shared.clone();
            let network = loom::thread::spawn(move || {
                let (side, stream) = &*source;
                let mut woken = 0;
                for (bytes, end) in arrivals {
                    let mut queue = lock(&stream.queue);
                    queue.0 += bytes;
                    queue.1 |= end;
                    drop(queue);
                    woken += usize::from(side.notify(*end).is_some());
                }
                woken
            });
            let (side, stream) = &*shared;
            let mut got = 0;
            let mut reader = read_on(side, stream, &mut got);
            let mut woken = network.join().unwrap();
            // Each wake has it go on.
            while reader == Reader::Waits {
                let is_woken = side.word.disarm().is_none();
                assert!(is_woken && woken > 0, "it waits, and nobody wakes it");
                woken -= 1;
                reader = read_on(side, stream, &mut got);
            }
            assert_eq!(got, arrivals.iter().map(|(bytes, _)| bytes).sum::<usize>());
        });
    }

    #[test]
    fn loom_side_an_end_behind_bytes_is_seen() {
        check(&[(1, true)]);
    }

    #[test]
    fn loom_side_an_end_after_bytes_is_seen() {
        check(&[(1, false), (2, true)]);
        check(&[(1, false), (0, true)]);
    }
}
