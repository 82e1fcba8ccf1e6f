//! Waiting for several goroutines at once.

use std::fmt;

use crate::model::{Arc, Mutex, Parker, WaitReason, Wake, lock, park};

/// Waits for a collection of goroutines to finish, as Go's `sync.WaitGroup`.
/// Clones share it.
///
/// [`add`](WaitGroup::add) before starting a goroutine, [`done`](WaitGroup::done)
/// at its end, [`wait`](WaitGroup::wait) for all of them. It can be used again
/// once it has come to zero.
#[derive(Clone)]
pub struct WaitGroup(Arc<Mutex<State>>);

/// Done when it is dropped, by a goroutine that ended or that never began.
struct Counted(WaitGroup);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.done();
    }
}

struct State {
    count: usize,
    /// How often the count came to zero: a waiter leaves when that happened,
    /// also if the count has risen again since.
    rounds: u64,
    waiters: Vec<Parker>,
}

impl WaitGroup {
    /// A group of none.
    pub fn new() -> WaitGroup {
        WaitGroup(Arc::new(Mutex::new(State {
            count: 0,
            rounds: 0,
            waiters: Vec::new(),
        })))
    }

    /// Adds to the count what may be negative. At zero the waiters go on.
    ///
    /// # Panics
    /// As in Go, when the count would be negative.
    pub fn add(&self, delta: isize) {
        let mut state = lock(&self.0);
        let Some(count) = state.count.checked_add_signed(delta) else {
            drop(state);
            panic!("negative WaitGroup counter: more was done than added");
        };
        state.count = count;
        if count == 0 && delta != 0 {
            state.rounds += 1;
            let waiters = std::mem::take(&mut state.waiters);
            drop(state);
            waiters.iter().for_each(Parker::unpark);
        }
    }

    /// Takes one from the count.
    ///
    /// # Panics
    /// As [`add`](WaitGroup::add).
    pub fn done(&self) {
        self.add(-1);
    }

    /// Starts a goroutine that counts until it ends, also if it panics.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn go<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> crate::JoinHandle<T> {
        self.add(1);
        let counted = Counted(self.clone());
        crate::go(move || {
            let _counted = counted;
            f()
        })
    }

    /// Waits until the count is zero.
    ///
    /// A goroutine whose runtime shuts down meanwhile ends here, by unwinding.
    pub fn wait(&self) {
        let mut state = lock(&self.0);
        if state.count == 0 {
            return;
        }
        let round = state.rounds;
        state.waiters.push(Parker::current());
        loop {
            drop(state);
            let woken = park(WaitReason::WaitGroup, None);
            state = lock(&self.0);
            if state.rounds != round {
                return;
            }
            if woken == Wake::Cancelled {
                drop(state);
                crate::spawn::unwind_cancelled();
            }
        }
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = lock(&self.0).count;
        f.debug_struct("WaitGroup").field("count", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(loom)]
    use loom::{model, thread};
    #[cfg(not(loom))]
    use std::thread;

    #[cfg(not(loom))]
    fn model(run: impl Fn()) {
        (0..200).for_each(|_| run());
    }

    #[test]
    fn waits_for_all() {
        model(|| {
            let group = WaitGroup::new();
            group.add(2);
            let spawn = |group: WaitGroup| thread::spawn(move || group.done());
            let threads = [spawn(group.clone()), spawn(group.clone())];
            group.wait();
            assert_eq!(lock(&group.0).count, 0);
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
    }

    #[test]
    fn a_waiter_leaves_though_the_group_is_used_again() {
        model(|| {
            let group = WaitGroup::new();
            group.add(1);
            let waiter = group.clone();
            let waiter = thread::spawn(move || waiter.wait());
            group.done();
            group.add(1);
            // A waiter that came too late waits for the second round.
            group.done();
            waiter.join().unwrap();
        });
    }

    #[test]
    #[cfg(not(loom))]
    fn a_waiter_of_an_earlier_round_does_not_wait_for_the_next() {
        let group = WaitGroup::new();
        group.add(1);
        let waiter = group.clone();
        let waiter = thread::spawn(move || waiter.wait());
        let start = std::time::Instant::now();
        while lock(&group.0).waiters.is_empty() {
            assert!(start.elapsed().as_secs() < 20, "it never waited");
            thread::yield_now();
        }
        group.done();
        group.add(1);
        waiter.join().unwrap();
    }

    #[test]
    #[cfg(not(loom))]
    fn zero_is_no_wait() {
        let group = WaitGroup::new();
        group.wait();
        group.add(0);
        group.wait();
    }

    #[test]
    #[cfg(not(loom))]
    #[should_panic(expected = "negative WaitGroup counter")]
    fn less_than_zero_panics() {
        WaitGroup::new().done();
    }
}
