//! What a runtime's users cannot see of the scheduler.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use wirepath_driver::clock;

use super::state::Phase;
use super::{Shared, Sizes, unpark_batch};
use crate::Next;
use crate::netpoll::Netpoll;
use crate::park::Parker;
use crate::spawn::{go_in, steps_in};

fn start(procs: usize) -> Arc<Shared> {
    let shared = Shared::new(Sizes::of(procs), Netpoll::new(None).unwrap(), None).unwrap();
    shared.start_first().unwrap();
    shared.start_sysmon().unwrap();
    shared
}

fn stop(shared: &Shared) {
    shared.exit();
    assert_eq!(
        shared.join_threads(clock::now() + Duration::from_secs(20)),
        0
    );
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = clock::now();
    while !condition() {
        assert!(
            clock::now().since(start).as_secs() < 20,
            "waited for {what}"
        );
        std::thread::yield_now();
    }
}

/// A goroutine that keeps its P until the flag is set.
fn stuck(shared: &Arc<Shared>) -> (Arc<AtomicBool>, crate::JoinHandle<()>) {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let handle = go_in(shared, None, Location::caller(), move || {
        while !released.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    (release, handle)
}

#[test]
fn there_is_a_poller_while_a_p_is_idle_and_a_goroutine_runs() {
    let shared = start(2);
    let (release, handle) = stuck(&shared);
    wait_until("a poller", || {
        shared.polled.load(Ordering::SeqCst) && shared.census.idle() == 1
    });
    release.store(true, Ordering::Release);
    handle.join().unwrap();
    stop(&shared);
}

#[test]
fn a_spare_p_retires_when_the_stuck_goroutine_returns() {
    let shared = start(1);
    let (release, handle) = stuck(&shared);
    let end = Arc::new(AtomicBool::new(false));
    let runs = Arc::new(AtomicUsize::new(0));
    let (ended, ran) = (end.clone(), runs.clone());
    // It never leaves the spare P without work.
    let busy = steps_in(&shared, None, Location::caller(), (), move |()| {
        ran.fetch_add(1, Ordering::Relaxed);
        match ended.load(Ordering::Acquire) {
            true => Next::Done,
            false => Next::Yield,
        }
    });
    wait_until("a spare P", || runs.load(Ordering::Relaxed) > 0);
    assert_eq!(shared.in_use(), 1);
    release.store(true, Ordering::Release);
    handle.join().unwrap();
    wait_until("it to retire", || shared.in_use() == 0);
    let before = runs.load(Ordering::Relaxed);
    wait_until("the work to go on", || {
        runs.load(Ordering::Relaxed) > before
    });
    end.store(true, Ordering::Release);
    busy.join().unwrap();
    stop(&shared);
}

#[test]
fn a_batch_wakes_goroutines_of_several_runtimes() {
    let both = [start(1), start(1)];
    let handles = both.each_ref().map(|shared| {
        steps_in(shared, None, Location::caller(), 0, |runs| {
            *runs += 1;
            match *runs {
                1 => Next::Sleep(clock::now() + Duration::from_secs(3_600)),
                _ => Next::Done,
            }
        })
    });
    let mut batch = Vec::new();
    for shared in &both {
        wait_until("the park and the sleep", || {
            shared.all_idle() && shared.registry.all(|g| g.state.phase() == Phase::Parked)
        });
        batch.extend(shared.live().into_iter().map(Parker::G));
    }
    unpark_batch(&mut batch);
    handles.into_iter().for_each(|h| h.join().unwrap());
    both.iter().for_each(|shared| stop(shared));
}

#[test]
fn nothing_is_started_once_the_runtime_ends() {
    let shared = start(1);
    shared.exit();
    let threads = shared.m_count();
    shared.ensure_poller();
    assert!(!shared.compensate(0, 0) || shared.m_count() == threads);
    assert_eq!(
        shared.join_threads(clock::now() + Duration::from_secs(20)),
        0
    );
}

#[test]
fn a_sleep_is_rounded_up_to_whole_milliseconds_and_bounded() {
    let rounded = |left| {
        let timeout = super::sleeper::timeout(left);
        (timeout.tv_sec, timeout.tv_nsec)
    };
    for (left, want) in [
        (Duration::ZERO, (0, 0)),
        (Duration::from_nanos(1), (0, 1_000_000)),
        (Duration::from_micros(999), (0, 1_000_000)),
        (Duration::from_millis(1), (0, 1_000_000)),
        (Duration::new(0, 999_000_001), (1, 0)),
        (Duration::new(2, 1_000_001), (2, 2_000_000)),
        (Duration::MAX, (86_400, 0)),
    ] {
        assert_eq!(rounded(left), want, "{left:?}");
    }
}
