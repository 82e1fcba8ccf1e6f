//! Until when the poller sleeps, as those see it who act behind its back.
//!
//! # The delicate order
//!
//! The poller announces until when it will sleep, and then looks once more at
//! what it sleeps for ([`Vigil::begin`]); arming the shards comes after that.
//! Whoever adds a timer, moves the network's next event, or disarms a shard by
//! a poll does that first, and then looks whether somebody sleeps. With a full
//! fence between the two steps on both sides at least one sees the other: the
//! poller does not go to sleep, or it is woken.

use wirepath_driver::Nanos;

use crate::sync_shim::{AtomicU64, Ordering, fence};

/// The announcement: when the poller will wake by itself; 0 while it is awake.
pub(super) struct Vigil(AtomicU64);

impl Vigil {
    pub(super) fn new() -> Vigil {
        Vigil(AtomicU64::new(0))
    }

    /// Somebody sleeps, or is about to.
    pub(super) fn is_kept(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// The poller is about to sleep until what is `due` first, which is looked
    /// up again after the announcement. None: that has come nearer.
    pub(super) fn begin(&self, due: impl Fn() -> Nanos) -> Option<Nanos> {
        let until = due();
        self.0.store(until.0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        (due() >= until).then_some(until)
    }

    /// The poller is awake.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// A timer was added that is due at `when`. True: wake the poller.
    #[must_use]
    pub(super) fn is_past(&self, when: Nanos) -> bool {
        when.0 < self.0.load(Ordering::SeqCst)
    }

    /// The network's next event may have come nearer. True: wake the poller.
    #[must_use]
    pub(super) fn is_past_moved(&self, next_event: impl FnOnce() -> Nanos) -> bool {
        fence(Ordering::SeqCst);
        self.is_kept() && self.is_past(next_event())
    }

    /// A shard was polled, which disarms it; `arm` arms it, and tells whether
    /// it has frames already. True: wake the poller.
    ///
    /// The shard's lock, which the poll and each arming take, is the fence here:
    /// an arming that the poll undid was announced before the poll.
    #[must_use]
    pub(super) fn rearm(&self, arm: impl FnOnce() -> bool) -> bool {
        self.is_kept() && arm()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync_shim::AtomicUsize;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// What the poller sleeps on, a timer, and a shard whose readiness works as
    /// that of a cable.
    struct Rig {
        vigil: Vigil,
        timer: AtomicU64,
        frames: AtomicUsize,
        armed: AtomicUsize,
        /// The shard's.
        lock: Mutex<()>,
        /// What ends a sleep: the eventfd, or the shard's fd.
        fds: Mutex<bool>,
    }

    const LATE: Nanos = Nanos(100);
    const SOON: Nanos = Nanos(10);

    impl Rig {
        fn new() -> Arc<Rig> {
            Arc::new(Rig {
                vigil: Vigil::new(),
                timer: AtomicU64::new(LATE.0),
                frames: AtomicUsize::new(0),
                armed: AtomicUsize::new(0),
                lock: Mutex::new(()),
                fds: Mutex::new(false),
            })
        }

        fn due(&self) -> Nanos {
            Nanos(self.timer.load(Ordering::SeqCst))
        }

        fn write(&self) {
            *self.fds.lock().unwrap() = true;
        }

        /// `Queue::arm`: from now on the next frame writes the fd. True: there
        /// are some.
        fn arm(&self) -> bool {
            let _shard = self.lock.lock().unwrap();
            // A cable stores it. Loom would then let a sender's swap that came
            // before be seen after, as if it were no one operation.
            self.armed.swap(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.frames.load(Ordering::Relaxed) > 0
        }

        /// A peer puts a frame on the wire.
        fn send(&self) {
            self.frames.fetch_add(1, Ordering::AcqRel);
            fence(Ordering::SeqCst);
            if self.armed.load(Ordering::Relaxed) > 0 && self.armed.swap(0, Ordering::AcqRel) > 0 {
                self.write();
            }
        }

        /// `sleep_as_poller`, up to epoll: until when it sleeps there.
        fn sleep(&self) -> Option<Nanos> {
            let until = self.vigil.begin(|| self.due())?;
            (!self.arm()).then_some(until)
        }

        fn take_frames(&self) {
            let _shard = self.lock.lock().unwrap();
            self.armed.swap(0, Ordering::AcqRel);
            self.frames.swap(0, Ordering::AcqRel);
        }

        /// A running P's poll, which takes the frames and disarms the shard.
        fn poll(&self) {
            self.take_frames();
            if self.vigil.rearm(|| self.arm()) {
                self.write();
            }
        }

        /// Who sleeps with nothing to wake it must have nothing to wake for.
        fn check(&self, slept: Option<Nanos>) {
            let woken = *self.fds.lock().unwrap();
            let Some(until) = slept.filter(|_| !woken) else {
                return;
            };
            assert!(until <= self.due(), "it sleeps past a timer");
            assert_eq!(self.frames.load(Ordering::SeqCst), 0, "frames wait");
            let armed = self.armed.load(Ordering::SeqCst);
            assert_eq!(armed, 1, "the next frame would not wake it");
        }
    }

    fn beside_a_sleep(act: fn(&Rig)) {
        loom::model(move || {
            let rig = Rig::new();
            let poller = rig.clone();
            let poller = thread::spawn(move || poller.sleep());
            act(&rig);
            let slept = poller.join().unwrap();
            rig.check(slept);
        });
    }

    #[test]
    fn loom_vigil_a_timer_added_beside_is_seen_or_wakes() {
        beside_a_sleep(|rig| {
            rig.timer.store(SOON.0, Ordering::SeqCst);
            // Both accesses are sequentially consistent, which loom knows of
            // fences only.
            fence(Ordering::SeqCst);
            if rig.vigil.is_past(SOON) {
                rig.write();
            }
        });
    }

    #[test]
    fn loom_vigil_an_event_that_moved_is_seen_or_wakes() {
        beside_a_sleep(|rig| {
            // A shard publishes its next event without an order of its own.
            rig.timer.store(SOON.0, Ordering::Relaxed);
            if rig.vigil.is_past_moved(|| rig.due()) {
                rig.write();
            }
        });
    }

    #[test]
    fn loom_vigil_a_poll_behind_its_back_leaves_the_shard_armed() {
        beside_a_sleep(Rig::poll);
    }

    #[test]
    fn loom_vigil_a_poll_and_a_frame_behind_its_back() {
        loom::model(|| {
            let rig = Rig::new();
            let (poller, peer) = (rig.clone(), rig.clone());
            let poller = thread::spawn(move || poller.sleep());
            let peer = thread::spawn(move || peer.send());
            rig.poll();
            peer.join().unwrap();
            let slept = poller.join().unwrap();
            rig.check(slept);
        });
    }

    /// What the tests above are worth: the same with one step in the wrong
    /// place is found out.
    mod broken {
        use super::*;

        #[test]
        #[should_panic(expected = "past a timer")]
        fn loom_vigil_to_look_before_adding_misses_the_sleep() {
            beside_a_sleep(|rig| {
                let wake = rig.vigil.is_past(SOON);
                rig.timer.store(SOON.0, Ordering::SeqCst);
                if wake {
                    rig.write();
                }
            });
        }

        #[test]
        #[should_panic(expected = "past a timer")]
        fn loom_vigil_an_event_moved_without_the_fence() {
            beside_a_sleep(|rig| {
                rig.timer.store(SOON.0, Ordering::Relaxed);
                if rig.vigil.0.load(Ordering::Relaxed) > SOON.0 {
                    rig.write();
                }
            });
        }

        #[test]
        #[should_panic(expected = "would not wake it")]
        fn loom_vigil_to_rearm_before_the_poll_leaves_it_disarmed() {
            beside_a_sleep(|rig| {
                if rig.vigil.rearm(|| rig.arm()) {
                    rig.write();
                }
                rig.take_frames();
            });
        }

        #[test]
        #[should_panic(expected = "would not wake it")]
        fn loom_vigil_to_arm_before_the_announcement() {
            loom::model(|| {
                let rig = Rig::new();
                let poller = rig.clone();
                let poller = thread::spawn(move || {
                    let ready = poller.arm();
                    let until = poller.vigil.begin(|| poller.due())?;
                    (!ready).then_some(until)
                });
                rig.poll();
                let slept = poller.join().unwrap();
                rig.check(slept);
            });
        }
    }
}
