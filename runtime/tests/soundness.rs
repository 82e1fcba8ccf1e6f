//! The rule that makes `go` safe, attacked: a goroutine in the middle of user
//! code never changes threads, whatever else goes on; between two steps it may.
//!
//! What must not compile is in `src/must_not_compile.rs`.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use wirepath_runtime::{
    Cancelled, JoinHandle, Next, Runtime, blocking, chan, go, now, sleep, steps, yield_now,
};

thread_local! {
    /// Its address tells the thread; what is in it, who borrowed it last.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// Uses of a [`Home`] on another thread than its own. A test that runs beside
/// others counts its own.
type Strays = Arc<AtomicUsize>;

/// Something that must not leave its thread, and that notes when it did.
struct Home {
    thread: ThreadId,
    strays: Strays,
    _not_send: PhantomData<Rc<()>>,
}

impl Home {
    fn new(strays: &Strays) -> Home {
        Home {
            thread: std::thread::current().id(),
            strays: strays.clone(),
            _not_send: PhantomData,
        }
    }

    fn check(&self) {
        let strayed = std::thread::current().id() != self.thread;
        self.strays
            .fetch_add(usize::from(strayed), Ordering::Relaxed);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.check();
    }
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(30), "waited for {what}");
        std::thread::yield_now();
    }
}

fn runtime() -> Runtime {
    Runtime::builder().max_procs(4).build().unwrap()
}

/// Waits in one of all the ways that there are.
fn any_wait(kind: usize) {
    match kind % 6 {
        0 => yield_now(),
        1 => sleep(Duration::from_micros(20)),
        2 => go(|| ()).join().unwrap(),
        3 => blocking(std::thread::yield_now),
        4 => {
            let (send, recv) = chan::channel(0);
            go(move || send.send(()));
            recv.recv().unwrap();
        }
        _ => {
            let (_send, recv) = chan::channel::<()>(0);
            recv.recv_timeout(Duration::from_micros(20)).unwrap_err();
        }
    }
}

/// Holds an `Rc`, a guard and a borrow of a thread-local through many waits.
fn hold_through_waits(seed: usize, rounds: usize, strays: &Strays) -> usize {
    let home = Home::new(strays);
    let shared = Rc::new(Cell::new(0));
    let lock = Mutex::new(0);
    let guard = lock.lock().unwrap();
    HERE.with(|here| {
        for round in 0..rounds {
            let other = shared.clone();
            any_wait(seed + round);
            home.check();
            let same = HERE.with(|now| std::ptr::eq(here, now));
            strays.fetch_add(usize::from(!same), Ordering::Relaxed);
            here.set(seed as u64);
            other.set(other.get() + 1);
        }
    });
    drop(guard);
    shared.get()
}

/// Free goroutines of a few steps, to be stolen, until the flag is set.
fn traffic(stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    (0..32)
        .map(|_| {
            let stop = stop.clone();
            steps(0u32, move |n| {
                *n += 1;
                (0..*n % 64).for_each(|_| std::hint::spin_loop());
                match stop.load(Ordering::Relaxed) {
                    true => Next::Done,
                    false if n.is_multiple_of(7) => Next::Sleep(now() + Duration::from_micros(50)),
                    false => Next::Yield,
                }
            })
        })
        .collect()
}

#[test]
fn what_is_held_through_waits_stays_on_its_thread_under_stealing() {
    let strays = Strays::default();
    let seen = strays.clone();
    let rt = runtime();
    let steals = rt
        .run(move || {
            let stop = Arc::new(AtomicBool::new(false));
            let traffic = traffic(&stop);
            let holders: Vec<_> = (0..100)
                .map(|seed| {
                    let strays = seen.clone();
                    go(move || hold_through_waits(seed, 40, &strays))
                })
                .collect();
            for holder in holders {
                assert_eq!(holder.join().unwrap(), 40);
            }
            stop.store(true, Ordering::Relaxed);
            traffic.into_iter().for_each(|t| t.join().unwrap());
            let metrics = wirepath_runtime::metrics();
            metrics.iter().find(|m| m.0 == "steals").unwrap().1
        })
        .unwrap();
    assert!(steals > 0, "nothing was stolen: this showed nothing");
    assert_eq!(strays.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_held_stays_on_its_thread_while_others_are_stuck() {
    let strays = Strays::default();
    let seen = strays.clone();
    let rt = runtime();
    rt.run(move || {
        let release = Arc::new(AtomicBool::new(false));
        // One for each P: spare P's must come, and steal.
        let stuck: Vec<_> = (0..4)
            .map(|_| {
                let (release, strays) = (release.clone(), seen.clone());
                go(move || {
                    let home = Home::new(&strays);
                    yield_now();
                    while !release.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    home.check();
                })
            })
            .collect();
        let freed = release.clone();
        let holders: Vec<_> = (0..40)
            .map(|seed| {
                let strays = seen.clone();
                go(move || hold_through_waits(seed, 10, &strays))
            })
            .collect();
        // Itself bound to an M that is perhaps stuck, so a step frees them.
        let waits = Instant::now();
        steps((), move |()| {
            if waits.elapsed() < Duration::from_millis(60) {
                return Next::Yield;
            }
            freed.store(true, Ordering::Release);
            Next::Done
        });
        stuck.into_iter().for_each(|g| g.join().unwrap());
        for holder in holders {
            assert_eq!(holder.join().unwrap(), 10);
        }
    })
    .unwrap();
    assert_eq!(strays.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_held_is_dropped_on_its_thread_at_shutdown() {
    let strays = Strays::default();
    let rt = runtime();
    let held = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..200)
        .map(|i| {
            let (strays, held) = (strays.clone(), held.clone());
            rt.go(move || {
                let _home = Home::new(&strays);
                let (_send, recv) = chan::channel::<()>(0);
                any_wait(i);
                held.fetch_add(1, Ordering::SeqCst);
                match i % 2 {
                    0 => sleep(Duration::from_secs(3_600)),
                    _ => assert!(recv.recv().is_err()),
                }
            })
        })
        .collect();
    wait_until("all to hold something", || {
        held.load(Ordering::SeqCst) == 200
    });
    let report = rt.shutdown(Duration::from_secs(30));
    assert_eq!((report.leaked, report.stuck_threads), (0, 0));
    for (i, handle) in handles.into_iter().enumerate() {
        match i % 2 {
            0 => assert!(handle.join().unwrap_err().is::<Cancelled>()),
            _ => handle.join().unwrap(),
        }
    }
    assert_eq!(strays.load(Ordering::Relaxed), 0);
}

#[test]
fn a_step_stays_on_its_thread_and_moves_between_two() {
    let strays = Strays::default();
    let moves = Arc::new(AtomicUsize::new(0));
    let (seen, moved) = (strays.clone(), moves.clone());
    let rt = runtime();
    rt.run(move || {
        let stop = Arc::new(AtomicBool::new(false));
        let traffic = traffic(&stop);
        let movers: Vec<_> = (0..16)
            .map(|seed| {
                let (strays, moved) = (seen.clone(), moved.clone());
                let mut last = None;
                steps(0, move |round| {
                    *round += 1;
                    let here = std::thread::current().id();
                    let other = last.replace(here).is_some_and(|last| last != here);
                    moved.fetch_add(usize::from(other), Ordering::Relaxed);
                    hold_through_waits(2 * (seed + *round), 1, &strays);
                    match moved.load(Ordering::Relaxed) >= 20 || *round == 100_000 {
                        true => Next::Done,
                        false => Next::Yield,
                    }
                })
            })
            .collect();
        movers.into_iter().for_each(|m| m.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        traffic.into_iter().for_each(|t| t.join().unwrap());
    })
    .unwrap();
    assert!(moves.load(Ordering::Relaxed) > 0, "no step ever moved");
    assert_eq!(strays.load(Ordering::Relaxed), 0);
}

#[test]
fn a_borrow_of_a_thread_local_through_a_wait_is_one_that_others_meet() {
    thread_local!(static SHARED: RefCell<u32> = const { RefCell::new(0) });
    let rt = Runtime::builder().max_procs(1).build().unwrap();
    let met = rt.run(|| {
        SHARED.with(|shared| {
            let _borrow = shared.borrow_mut();
            // What the crate's documentation warns of, and no more than that:
            // the borrow is seen, and nothing is unsound.
            go(|| SHARED.with(|shared| shared.try_borrow().is_err()))
                .join()
                .unwrap()
        })
    });
    assert!(met.unwrap());
}
