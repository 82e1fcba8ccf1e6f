//! The locks, with threads and with goroutines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Mutex, RwLock};
use crate::sync::{Cond, Once, OnceCell, Semaphore, WaitGroup};
use crate::{Cancelled, Runtime, go, sleep, yield_now};

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
        yield_now();
    }
}

fn run<T: Send + 'static>(procs: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
    let rt = Runtime::builder().max_procs(procs).build().unwrap();
    rt.run(f).unwrap()
}

#[test]
fn goroutines_and_threads_count_together() {
    const EACH: usize = 2_000;
    let rt = Runtime::builder().max_procs(2).build().unwrap();
    let count = Arc::new(Mutex::new(0));
    let work = |count: Arc<Mutex<usize>>| {
        move || {
            for i in 0..EACH {
                let mut guard = count.lock();
                let seen = *guard;
                if i % 64 == 0 {
                    // It may be held across a wait.
                    yield_now();
                }
                *guard = seen + 1;
            }
        }
    };
    let goroutines: Vec<_> = (0..6).map(|_| rt.go(work(count.clone()))).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(work(count.clone()))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    goroutines.into_iter().for_each(|g| g.join().unwrap());
    assert_eq!(*count.lock(), 8 * EACH);
    assert!(!count.is_locked());
}

#[test]
fn a_panic_releases_and_does_not_poison() {
    run(1, || {
        let mutex = Arc::new(Mutex::new(1));
        let lock = Arc::new(RwLock::new(1));
        let (m, l) = (mutex.clone(), lock.clone());
        let ended = go(move || {
            let _guards = (m.lock(), l.write());
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert_eq!((*mutex.lock(), *lock.write()), (1, 1));
    });
}

#[test]
fn try_lock_does_not_wait() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    assert!(mutex.try_lock().is_none());
    drop(guard);
    assert!(mutex.try_lock().is_some());
}

/// Go's `TestMutexFairness`: one that holds the mutex nearly always does not
/// keep another from it.
#[test]
fn one_that_waits_is_not_passed_for_ever() {
    run(2, || {
        let mutex = Arc::new(Mutex::new(()));
        let stop = Arc::new(AtomicBool::new(false));
        let greedy = go({
            let (mutex, stop) = (mutex.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let guard = mutex.lock();
                    thread::sleep(Duration::from_micros(100));
                    drop(guard);
                }
            }
        });
        for _ in 0..10 {
            thread::sleep(Duration::from_micros(100));
            drop(mutex.lock());
        }
        stop.store(true, Ordering::Relaxed);
        greedy.join().unwrap();
    });
}

#[test]
fn a_shutdown_ends_waits_for_locks() {
    let rt = Runtime::builder().max_procs(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let lock = Arc::new(RwLock::new(()));
    let semaphore = Arc::new(Semaphore::new(1));
    let held = (mutex.lock(), lock.write(), semaphore.acquire(1));
    let started = Arc::new(AtomicUsize::new(0));
    let count = |started: &Arc<AtomicUsize>| started.fetch_add(1, Ordering::SeqCst);
    let (m, l, s) = (mutex.clone(), lock.clone(), semaphore.clone());
    let (s1, s2, s3, s4) = (
        started.clone(),
        started.clone(),
        started.clone(),
        started.clone(),
    );
    let l2 = lock.clone();
    let waiting = [
        rt.go(move || drop((count(&s1), m.lock()))),
        rt.go(move || drop((count(&s2), l.read()))),
        rt.go(move || drop((count(&s3), l2.write()))),
        rt.go(move || drop((count(&s4), s.acquire(1)))),
    ];
    wait_until(|| started.load(Ordering::SeqCst) == 4);
    rt.shutdown(Duration::from_secs(20));
    for one in waiting {
        assert!(one.join().unwrap_err().is::<Cancelled>());
    }
    drop(held);
    // Nobody is left in their lists.
    drop((mutex.lock(), lock.write(), semaphore.acquire(1)));
}

#[test]
fn readers_share_and_a_writer_does_not() {
    const EACH: usize = 1_000;
    run(2, || {
        let lock = Arc::new(RwLock::new((0, 0)));
        let group = WaitGroup::new();
        for _ in 0..2 {
            let lock = lock.clone();
            group.go(move || {
                for _ in 0..EACH {
                    let mut pair = lock.write();
                    pair.0 += 1;
                    yield_now();
                    pair.1 += 1;
                }
            });
        }
        for _ in 0..4 {
            let lock = lock.clone();
            group.go(move || {
                for _ in 0..EACH {
                    let pair = lock.read();
                    let before = pair.0;
                    yield_now();
                    assert_eq!((pair.0, pair.1), (before, before));
                }
            });
        }
        group.wait();
        assert_eq!(*lock.read(), (2 * EACH, 2 * EACH));
    });
}

#[test]
fn a_writer_that_waits_keeps_new_readers_out_and_then_lets_them_in() {
    run(1, || {
        let lock = Arc::new(RwLock::new(Vec::new()));
        let reader = lock.read();
        let also = lock.try_read().expect("readers share");
        let writer = go({
            let lock = lock.clone();
            move || lock.write().push("writer")
        });
        wait_until(|| lock.try_read().is_none());
        let late = go({
            let lock = lock.clone();
            move || lock.read().len()
        });
        let second = go({
            let lock = lock.clone();
            move || lock.write().push("second")
        });
        // They run to their wait.
        (0..10).for_each(|_| yield_now());
        drop((reader, also));
        writer.join().unwrap();
        assert_eq!(late.join().unwrap(), 1, "readers go before the next writer");
        second.join().unwrap();
        assert_eq!(*lock.read(), ["writer", "second"]);
    });
}

#[test]
fn a_condition_wakes_in_order() {
    run(1, || {
        let pair = Arc::new((Mutex::new((0, Vec::new())), Cond::new()));
        for _ in 0..4 {
            let pair = pair.clone();
            go(move || {
                let mut state = pair.0.lock();
                let came = state.0;
                state.0 += 1;
                pair.1.wait(state).1.push(came);
            });
        }
        wait_until(|| pair.0.lock().0 == 4);
        for n in 1..=2 {
            pair.1.signal();
            wait_until(|| pair.0.lock().1.len() == n);
        }
        pair.1.broadcast();
        wait_until(|| pair.0.lock().1.len() == 4);
        let mut order = pair.0.lock().1.clone();
        assert_eq!(order[..2], [0, 1]);
        // Those that a broadcast woke compete for the mutex.
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
        let (guard, signalled) = pair.1.wait_timeout(pair.0.lock(), Duration::from_millis(1));
        assert!(!signalled && guard.0 == 4);
    });
}

#[test]
fn once_is_once_though_it_panics() {
    run(2, || {
        let once = Arc::new(Once::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let group = WaitGroup::new();
        for _ in 0..8 {
            let (once, calls) = (once.clone(), calls.clone());
            group.go(move || {
                once.call(|| {
                    sleep(Duration::from_millis(1));
                    calls.fetch_add(1, Ordering::SeqCst);
                    panic!("on purpose");
                });
                assert!(once.is_done());
            });
        }
        group.wait();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_value_is_made_once_and_again_after_a_panic() {
    run(2, || {
        let cell = Arc::new(OnceCell::new());
        let failing = cell.clone();
        assert!(
            go(move || *failing.get_or_init(|| panic!("on purpose")))
                .join()
                .is_err()
        );
        assert_eq!(cell.get(), None);
        let makers: Vec<_> = (0..4)
            .map(|i| {
                let cell = cell.clone();
                go(move || {
                    *cell.get_or_init(|| {
                        sleep(Duration::from_millis(1));
                        i
                    })
                })
            })
            .collect();
        let got: Vec<usize> = makers.into_iter().map(|g| g.join().unwrap()).collect();
        assert!(got.iter().all(|v| Some(v) == cell.get()), "{got:?}");
        assert_eq!(cell.set(9), Err(9));
    });
}

#[test]
fn a_semaphore_serves_in_order_also_who_wants_much() {
    run(1, || {
        let semaphore = Arc::new(Semaphore::new(3));
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = semaphore.acquire(2);
        let group = WaitGroup::new();
        for weight in [3, 1, 1] {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            group.go(move || {
                let permit = semaphore.acquire(weight);
                order.lock().push(permit.weight());
            });
            (0..10).for_each(|_| yield_now());
        }
        assert!(semaphore.try_acquire(1).is_none(), "others wait before it");
        let short = Duration::from_millis(1);
        assert!(semaphore.acquire_timeout(1, short).is_none());
        drop(held);
        group.wait();
        assert_eq!(*order.lock(), [3, 1, 1]);
        assert_eq!(semaphore.available(), 3);
    });
}

#[test]
fn one_that_gives_up_lets_those_behind_it_pass() {
    run(1, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let held = semaphore.acquire(1);
        let much = go({
            let semaphore = semaphore.clone();
            move || {
                semaphore
                    .acquire_timeout(2, Duration::from_millis(20))
                    .is_some()
            }
        });
        wait_until(|| semaphore.try_acquire(1).is_none());
        let little = go({
            let semaphore = semaphore.clone();
            move || semaphore.acquire(1).weight()
        });
        assert!(!much.join().unwrap());
        assert_eq!(little.join().unwrap(), 1);
        drop(held);
    });
}

#[test]
#[should_panic(expected = "can never be acquired")]
fn more_than_the_size_is_refused() {
    let _ = Semaphore::new(2).acquire(3);
}

#[test]
fn a_group_counts_goroutines_that_panic() {
    run(1, || {
        let group = WaitGroup::new();
        let ended = group.go(|| panic!("on purpose"));
        group.wait();
        assert!(ended.join().is_err());
    });
}
