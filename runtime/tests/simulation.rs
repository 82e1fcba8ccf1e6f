//! Virtual time as its users see it. No test here takes longer for the times
//! in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wirepath_runtime::chan;
use wirepath_runtime::simulation::{Deadlock, Failure, simulate, wait};
use wirepath_runtime::{
    BuildError, Cancelled, JoinHandle, Next, Runtime, WaitGroup, blocking, go, go_named, now,
    sleep, steps, yield_now,
};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn sleeps_of_days_pass_at_once_and_take_exactly_their_time() {
    let run = simulate(1, || {
        let start = now();
        let naps: Vec<_> = [30, 1, 7]
            .into_iter()
            .map(|days| {
                go(move || {
                    sleep(24 * days * HOUR);
                    now().since(start)
                })
            })
            .collect();
        let woken: Vec<_> = naps.into_iter().map(|nap| nap.join().unwrap()).collect();
        assert_eq!(woken, [30, 1, 7].map(|days| 24 * days * HOUR));
    });
    assert_eq!(run.unwrap().elapsed, 24 * 30 * HOUR);
}

#[test]
fn the_clock_stands_while_something_can_run() {
    let run = simulate(2, || {
        let start = now();
        let sleeper = go(|| sleep(Duration::from_nanos(1)));
        for _ in 0..10_000 {
            yield_now();
        }
        assert!(!sleeper.is_finished());
        assert_eq!(now(), start);
        sleeper.join().unwrap();
    });
    assert_eq!(run.unwrap().elapsed, Duration::from_nanos(1));
}

#[test]
fn a_channels_time_out_is_exact() {
    let run = simulate(3, || {
        let (send, recv) = chan::channel::<u8>(0);
        let start = now();
        assert!(recv.recv_timeout(HOUR).is_err());
        assert_eq!(now().since(start), HOUR);
        go(move || {
            sleep(HOUR);
            send.send(7).unwrap();
        });
        assert_eq!(recv.recv_timeout(2 * HOUR).unwrap(), 7);
        now().since(start)
    });
    assert_eq!(run.unwrap().value, 2 * HOUR);
}

#[test]
fn steps_sleep_in_virtual_time() {
    let run = simulate(4, || {
        steps(0, |runs| {
            *runs += 1;
            match *runs {
                5 => Next::Done,
                _ => Next::Sleep(now() + HOUR),
            }
        })
        .join()
        .unwrap();
    });
    assert_eq!(run.unwrap().elapsed, 4 * HOUR);
}

/// Goroutines that race for a lock of the test; who came when.
fn race(seed: u64) -> (Vec<(u32, u64)>, u64) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let trace = seen.clone();
    let run = simulate(seed, move || {
        let group = WaitGroup::new();
        let (send, recv) = chan::channel(2);
        for id in 0..6 {
            group.add(1);
            let (seen, send, group) = (seen.clone(), send.clone(), group.clone());
            go(move || {
                for round in 0..5 {
                    seen.lock().unwrap().push((id, now().0));
                    match (id + round) % 3 {
                        0 => yield_now(),
                        1 => sleep(Duration::from_micros(u64::from(round) + 1)),
                        _ => send.send(id).unwrap(),
                    }
                }
                group.done();
            });
        }
        drop(send);
        while let Ok(id) = recv.recv() {
            seen.lock().unwrap().push((100 + id, now().0));
        }
        group.wait();
    });
    let trace = trace.lock().unwrap().clone();
    (trace, run.unwrap().fingerprint)
}

#[test]
fn the_same_seed_gives_the_same_interleaving_and_another_another() {
    let runs: Vec<_> = (0..20).map(race).collect();
    let again: Vec<_> = (0..20).map(race).collect();
    assert_eq!(runs, again);
    let mut prints: Vec<_> = runs.iter().map(|run| run.1).collect();
    prints.sort_unstable();
    prints.dedup();
    assert!(prints.len() > 15, "20 seeds gave {} runs", prints.len());
}

#[test]
fn every_order_of_two_that_race_comes_with_some_seed() {
    let first = |seed| {
        let (send, recv) = chan::channel(2);
        let run = simulate(seed, move || {
            for id in 0..2 {
                let send = send.clone();
                go(move || send.send(id).unwrap());
            }
            recv.recv().unwrap()
        });
        run.unwrap().value
    };
    let zeros = (0..64).filter(|&seed| first(seed) == 0).count();
    assert!((10..55).contains(&zeros), "{zeros} of 64");
}

#[test]
fn wait_returns_once_all_others_wait() {
    let run = simulate(5, || {
        let done = Arc::new(AtomicBool::new(false));
        let (send, recv) = chan::channel(0);
        let flag = done.clone();
        let other = go(move || {
            let n: u32 = recv.recv().unwrap();
            for _ in 0..n {
                yield_now();
            }
            flag.store(true, Ordering::Relaxed);
            sleep(HOUR);
        });
        wait();
        assert!(!done.load(Ordering::Relaxed));
        let start = now();
        send.send(1_000).unwrap();
        wait();
        assert!(done.load(Ordering::Relaxed));
        assert_eq!(now(), start, "wait let the clock go on");
        other.join().unwrap();
        wait();
    });
    assert_eq!(run.unwrap().elapsed, HOUR);
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().cloned();
    let text = owned.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
    text.expect("a panic with words")
}

#[test]
fn wait_is_for_one_goroutine_of_virtual_time_at_a_time() {
    simulate(6, || {
        let first = go(wait);
        for _ in 0..1_000 {
            yield_now();
        }
        let payload = go(wait).join().unwrap_err();
        let text = text(payload.as_ref());
        assert!(text.contains("another goroutine waits"), "{text}");
        first.join().unwrap();
    })
    .unwrap();
    let real = Runtime::builder().max_procs(1).build().unwrap();
    let text = text(real.run(wait).unwrap_err().as_ref());
    assert!(text.contains("virtual time"), "{text}");
}

#[test]
fn a_deadlock_is_an_error_with_the_list() {
    let failure = simulate(7, || {
        let (send, recv) = chan::channel::<u8>(0);
        let (_kept, other) = chan::channel::<u8>(0);
        go_named("sender", move || {
            let _ = other.recv();
            drop(send);
        });
        recv.recv()
    })
    .unwrap_err();
    let Failure::Deadlock(Deadlock(list)) = failure else {
        panic!("{failure}");
    };
    assert!(list.contains("main") && list.contains("sender"), "{list}");
    assert_eq!(list.matches("[chan receive").count(), 2, "{list}");
    assert!(list.contains("simulation.rs"), "{list}");
}

#[test]
fn a_deadlock_unwinds_what_waited() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let told = Told(dropped.clone());
    let rt = Runtime::builder().virtual_time(8).build().unwrap();
    let payload = rt
        .run(move || {
            let _told = told;
            let group = WaitGroup::new();
            group.add(1);
            group.wait();
        })
        .unwrap_err();
    assert!(payload.is::<Deadlock>());
    assert!(dropped.load(Ordering::SeqCst));
    // It is shut down since: what is started now ends at once.
    assert!(rt.go(|| ()).join().unwrap_err().is::<Cancelled>());
}

#[test]
fn goroutines_that_outlive_main_for_ever_are_an_error() {
    let failure = simulate(9, || {
        // Nobody stops it; the clock stands once main has returned.
        go_named("ticker", || {
            loop {
                sleep(Duration::from_secs(1));
            }
        });
        sleep(Duration::from_secs(3));
    })
    .unwrap_err();
    let text = failure.to_string();
    assert!(text.contains("blocked goroutines remain"), "{text}");
    assert!(
        text.contains("]: ticker") && !text.contains("]: main"),
        "{text}"
    );
    // Those that can end do.
    let late = Arc::new(AtomicBool::new(false));
    let flag = late.clone();
    simulate(9, move || {
        go(move || {
            (0..100).for_each(|_| yield_now());
            flag.store(true, Ordering::Relaxed);
        });
    })
    .unwrap();
    assert!(late.load(Ordering::Relaxed));
}

#[test]
fn a_panic_of_main_is_an_error() {
    let failure = simulate(10, || -> u8 { std::panic::resume_unwind(Box::new("gone")) });
    let failure = failure.unwrap_err();
    assert!(matches!(&failure, Failure::Panicked(_)));
    assert!(failure.to_string().ends_with("gone"), "{failure}");
}

#[test]
fn blocking_keeps_the_thread_and_may_wait() {
    let run = simulate(11, || {
        let home = std::thread::current().id();
        let (send, recv) = chan::channel(0);
        go(move || {
            sleep(HOUR);
            send.send(std::thread::current().id()).unwrap();
        });
        // A wait inside parks the goroutine, as anywhere else.
        assert_eq!(blocking(|| recv.recv().unwrap()), home);
        assert_eq!(blocking(|| std::thread::current().id()), home);
    });
    assert_eq!(run.unwrap().elapsed, HOUR);
}

#[test]
fn virtual_time_refuses_several_ps() {
    let build = |procs| Runtime::builder().virtual_time(1).max_procs(procs).build();
    assert!(matches!(build(2), Err(BuildError::VirtualProcs(2))));
    assert!(build(1).is_ok());
}

#[test]
fn a_thread_outside_may_start_and_join() {
    let rt = Runtime::builder().virtual_time(12).build().unwrap();
    let slept = rt.go(|| {
        let start = now();
        sleep(HOUR);
        now().since(start)
    });
    assert_eq!(slept.join().unwrap(), HOUR);
    assert_eq!(rt.run(|| 5).unwrap(), 5);
}

#[test]
fn a_panic_while_it_waits_in_drop_blocks_and_goes_on() {
    struct Naps;
    impl Drop for Naps {
        fn drop(&mut self) {
            sleep(Duration::from_millis(5));
        }
    }
    let run = simulate(13, || {
        let bad = go(|| {
            let _naps = Naps;
            std::panic::resume_unwind(Box::new("gone"));
        });
        JoinHandle::<()>::join(bad).unwrap_err();
    });
    assert_eq!(run.unwrap().elapsed, Duration::from_millis(5));
}
