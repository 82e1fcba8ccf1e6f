//! The scheduler as its users see it.

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wirepath_runtime::chan::{self, channel};
use wirepath_runtime::{
    Cancelled, JoinHandle, Next, Runtime, SpawnError, blocking, current_id, go, goroutine, now,
    num_procs, sleep, steps, yield_now,
};

fn runtime(procs: usize) -> Runtime {
    let builder = Runtime::builder().max_procs(procs).procs_limit(8);
    builder.build().unwrap()
}

fn metric(runtime: &Runtime, name: &str) -> u64 {
    let all = runtime.metrics();
    all.iter().find(|(n, _)| *n == name).unwrap().1
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "waited for {what}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn main_returns_its_value_and_children_theirs() {
    for procs in [1, 2, 4] {
        let rt = runtime(procs);
        let sum = rt.run(move || {
            assert_eq!(num_procs(), procs);
            let children: Vec<_> = (0..100).map(|i| go(move || i * 2)).collect();
            children.into_iter().map(|c| c.join().unwrap()).sum::<i32>()
        });
        assert_eq!(sum.unwrap(), 9900);
        assert_eq!(current_id(), None);
    }
}

#[test]
fn a_panic_ends_only_its_goroutine() {
    let rt = runtime(1);
    rt.run(|| {
        let bad = go(|| std::panic::resume_unwind(Box::new("gone")));
        let bad_step = steps(0, |n| {
            *n += 1;
            if *n == 3 {
                std::panic::resume_unwind(Box::new("step"));
            }
            Next::Yield
        });
        let good = go(|| 7);
        let payload: Box<dyn std::any::Any + Send> = JoinHandle::<()>::join(bad).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"gone"));
        let payload = bad_step.join().unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"step"));
        assert_eq!(good.join().unwrap(), 7);
    })
    .unwrap();
    wait_until("the end of all", || metric(&rt, "goroutines_live") == 0);
}

#[test]
fn goroutines_of_one_p_take_turns() {
    let rt = runtime(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = order.clone();
    rt.run(move || {
        let both: Vec<_> = (0..2)
            .map(|id| {
                let seen = seen.clone();
                go(move || {
                    for _ in 0..50 {
                        seen.lock().unwrap().push(id);
                        yield_now();
                    }
                })
            })
            .collect();
        both.into_iter().for_each(|g| g.join().unwrap());
    })
    .unwrap();
    let order = order.lock().unwrap();
    let changes = order.windows(2).filter(|w| w[0] != w[1]).count();
    assert!(changes > 80, "{changes} changes in {order:?}");
}

#[test]
fn yielding_steps_do_not_starve_bound_goroutines_or_the_global_queue() {
    let rt = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let busy = rt.steps((), move |()| {
        if stopped.load(Ordering::Acquire) {
            Next::Done
        } else {
            Next::Yield
        }
    });
    // From outside: through the global queue; then bound, and readied.
    let other = rt.go(|| {
        for _ in 0..10 {
            yield_now();
        }
        sleep(Duration::from_millis(1));
    });
    other.join().unwrap();
    stop.store(true, Ordering::Release);
    busy.join().unwrap();
}

#[test]
fn a_goroutine_with_its_own_thread_shares_it_with_nobody() {
    for procs in [1, 2] {
        let rt = runtime(procs);
        let threads = metric(&rt, "threads");
        rt.run(|| {
            let (there, received) = channel(0);
            let (back, from_back) = channel(0);
            let own = goroutine().own_thread().go(move || {
                let me = std::thread::current().id();
                for value in received.iter() {
                    assert_eq!(std::thread::current().id(), me);
                    // What it starts runs elsewhere, also while it waits for it.
                    let child = go(|| std::thread::current().id());
                    assert_ne!(child.join().unwrap(), me);
                    sleep(Duration::from_micros(100));
                    yield_now();
                    back.send((value, me)).unwrap();
                }
                me
            });
            let others: Vec<_> = (0..20)
                .map(|_| {
                    go(|| {
                        for _ in 0..100 {
                            yield_now();
                        }
                        std::thread::current().id()
                    })
                })
                .collect();
            for i in 0..50 {
                there.send(i).unwrap();
                let (value, thread) = from_back.recv().unwrap();
                assert_eq!(value, i);
                assert_ne!(thread, std::thread::current().id());
            }
            drop(there);
            let own = own.join().unwrap();
            for other in others {
                assert_ne!(other.join().unwrap(), own);
            }
        })
        .unwrap();
        // Its thread ended with it; two more wait for work at most.
        wait_until("the thread to end", || {
            metric(&rt, "threads") <= threads + 2
        });
    }
}

#[test]
fn threads_of_goroutines_that_ended_leave_room_for_others() {
    let rt = Runtime::builder()
        .max_procs(1)
        .max_threads(5)
        .build()
        .unwrap();
    rt.run(|| {
        for i in 0..50 {
            assert_eq!(goroutine().own_thread().go(move || i).join().unwrap(), i);
        }
    })
    .unwrap();
    let waits = rt
        .run(|| {
            goroutine()
                .own_thread()
                .go(|| sleep(Duration::from_secs(1000)))
        })
        .unwrap();
    let report = rt.shutdown(Duration::from_secs(10));
    assert_eq!((report.leaked, report.stuck_threads), (0, 0));
    assert!(waits.join().unwrap_err().is::<Cancelled>());
}

/// Starts a goroutine that starts the next, until told to stop.
fn chain(stop: Arc<AtomicBool>) {
    if !stop.load(Ordering::Acquire) {
        go(move || chain(stop));
    }
}

#[test]
fn a_chain_of_starts_inherits_one_time_slice() {
    let rt = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let starts = stop.clone();
    // Each start goes to `runnext`, before all others.
    rt.go(move || chain(starts));
    let other = rt.steps(0, |n| {
        *n += 1;
        if *n == 100 { Next::Done } else { Next::Yield }
    });
    other.join().unwrap();
    stop.store(true, Ordering::Release);
}

#[test]
fn a_bound_goroutine_never_changes_threads() {
    let rt = runtime(4);
    rt.run(|| {
        let all: Vec<_> = (0..64)
            .map(|i| {
                go(move || {
                    let home = std::thread::current().id();
                    let kept = Rc::new(Cell::new(0));
                    for n in 0..100 {
                        match (i + n) % 3 {
                            0 => yield_now(),
                            1 => go(|| ()).join().unwrap(),
                            _ => sleep(Duration::from_micros(50)),
                        }
                        kept.set(kept.get() + 1);
                        assert_eq!(std::thread::current().id(), home);
                    }
                    kept.get()
                })
            })
            .collect();
        for g in all {
            assert_eq!(g.join().unwrap(), 100);
        }
    })
    .unwrap();
}

/// What the code between two waits sees through a thread-local must be of the
/// thread that runs it, also in the loop that goes on after a step elsewhere.
#[test]
fn steps_move_and_see_the_thread_that_they_are_on() {
    thread_local!(static ME: Cell<Option<std::thread::ThreadId>> = const { Cell::new(None) });
    let rt = runtime(2);
    let moved = Arc::new(AtomicUsize::new(0));
    wait_until("steps to move", || {
        let moved = moved.clone();
        rt.run(move || {
            // Of different lengths, so that a P runs out of them and steals.
            let all: Vec<_> = (0..16)
                .map(|i| {
                    let moved = moved.clone();
                    steps((None, 0usize), move |(last, runs)| {
                        let here = std::thread::current().id();
                        ME.with(|me| {
                            assert!(me.get().is_none_or(|id| id == here));
                            me.set(Some(here));
                        });
                        if last.replace(here).is_some_and(|l| l != here) {
                            moved.fetch_add(1, Ordering::Relaxed);
                        }
                        *runs += 1;
                        if *runs > i * 100 {
                            Next::Done
                        } else {
                            Next::Yield
                        }
                    })
                })
                .collect();
            all.into_iter().for_each(|g| g.join().unwrap());
            moved.load(Ordering::Relaxed) >= 10
        })
        .unwrap()
    });
    assert!(metric(&rt, "steals") > 0);
}

#[test]
fn steps_sleep_and_end() {
    let rt = runtime(2);
    let start = now();
    rt.steps(0, |n| {
        *n += 1;
        if *n > 5 {
            return Next::Done;
        }
        Next::Sleep(now() + Duration::from_millis(2))
    })
    .join()
    .unwrap();
    assert!(now().since(start) >= Duration::from_millis(10));
}

#[test]
fn sleeps_end_in_order_of_their_times() {
    let rt = runtime(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = order.clone();
    rt.run(move || {
        let start = now();
        let all: Vec<_> = [30, 10, 20]
            .map(|ms| {
                let seen = seen.clone();
                go(move || {
                    sleep((start + Duration::from_millis(ms)).since(now()));
                    seen.lock().unwrap().push(ms);
                })
            })
            .into();
        all.into_iter()
            .for_each(|g: JoinHandle<()>| g.join().unwrap());
    })
    .unwrap();
    assert_eq!(*order.lock().unwrap(), [10, 20, 30]);
}

fn deep(n: usize) -> usize {
    let frame = std::hint::black_box([n as u8; 256]);
    if n == 0 {
        usize::from(frame[0])
    } else {
        deep(n - 1) + 1
    }
}

#[test]
fn a_stack_grows_by_demand() {
    let rt = Runtime::builder()
        .max_procs(1)
        .stack_size(8 << 20)
        .build()
        .unwrap();
    assert_eq!(rt.run(|| deep(8_000)).unwrap(), 8_000);
}

#[test]
fn a_hundred_thousand_goroutines() {
    let rt = runtime(2);
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    rt.run(move || {
        let all: Vec<_> = (0..100_000)
            .map(|_| {
                let count = counted.clone();
                steps(0, move |n| {
                    *n += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                    if *n == 2 { Next::Done } else { Next::Yield }
                })
            })
            .collect();
        all.into_iter().for_each(|g| g.join().unwrap());
    })
    .unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 200_000);
    wait_until("the end of all", || metric(&rt, "goroutines_live") == 0);
}

#[test]
fn stacks_of_many_waiting_goroutines_are_used_again() {
    let rt = runtime(2);
    for _ in 0..2 {
        rt.run(|| {
            let all: Vec<_> = (0..5_000)
                .map(|_| go(|| sleep(Duration::from_millis(20))))
                .collect();
            all.into_iter().for_each(|g| g.join().unwrap());
        })
        .unwrap();
    }
}

#[test]
fn plain_threads_and_goroutines_wake_each_other() {
    let rt = runtime(2);
    let handle = rt.handle();
    let outside = std::thread::spawn(move || {
        (0..200)
            .map(|i| handle.go(move || i).join().unwrap())
            .sum::<i32>()
    });
    assert_eq!(outside.join().unwrap(), 19_900);
}

#[test]
fn blocking_lets_others_run() {
    let rt = runtime(1);
    rt.run(|| {
        let (tx, rx) = std::sync::mpsc::channel();
        let waits = go(move || blocking(|| rx.recv().unwrap()));
        let sends = go(move || tx.send(5).unwrap());
        assert_eq!(waits.join().unwrap(), 5);
        sends.join().unwrap();
    })
    .unwrap();
}

#[test]
fn with_all_threads_taken_goroutines_wait_for_one() {
    let rt = Runtime::builder()
        .max_procs(1)
        .max_threads(2)
        .build()
        .unwrap();
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let rx = Arc::new(Mutex::new(rx));
    let blocked: Vec<_> = (0..2)
        .map(|_| {
            let rx = rx.clone();
            rt.go(move || blocking(|| rx.lock().unwrap().recv().unwrap()))
        })
        .collect();
    wait_until("both to block", || metric(&rt, "threads_blocking") == 2);
    let waits = rt.go(|| 5);
    tx.send(()).unwrap();
    assert_eq!(waits.join().unwrap(), 5);
    tx.send(()).unwrap();
    for one in blocked {
        one.join().unwrap();
    }
    assert_eq!(metric(&rt, "threads"), 2);
    let error = Runtime::builder().max_threads(1).build().unwrap_err();
    assert!(error.to_string().starts_with("1 threads are too few"));
}

/// The most goroutines that run at once in a hundred steps from now.
fn most_at_once(steps: &AtomicUsize, most: &AtomicUsize) -> usize {
    most.store(0, Ordering::SeqCst);
    let start = steps.load(Ordering::SeqCst);
    wait_until("steps", || steps.load(Ordering::SeqCst) > start + 100);
    most.load(Ordering::SeqCst)
}

#[test]
fn the_number_of_ps_changes_under_load() {
    let rt = runtime(1);
    let [running, most, count] = [0; 3].map(|n| Arc::new(AtomicUsize::new(n)));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let (running, most) = (running.clone(), most.clone());
            let (count, stop) = (count.clone(), stop.clone());
            rt.steps((), move |()| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                if stop.load(Ordering::Relaxed) {
                    Next::Done
                } else {
                    Next::Yield
                }
            })
        })
        .collect();
    let mut before = 1;
    for procs in [4, 1, 2, 8, 3, 1] {
        assert_eq!(rt.set_max_procs(procs), Ok(before));
        let what = format!("{procs} at once");
        wait_until(&what, || most_at_once(&count, &most) == procs);
        before = procs;
    }
    for wrong in [0, 9] {
        let error = rt.set_max_procs(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("from 1 to 8 P's, not {wrong}")));
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn sysmon_runs_free_goroutines_past_a_stuck_one() {
    let rt = runtime(1);
    let free = Arc::new(AtomicBool::new(false));
    let seen = free.clone();
    rt.run(move || {
        go(move || free.store(true, Ordering::Release));
        // No call into the runtime: nothing takes its P from it.
        wait_until("a spare P", || seen.load(Ordering::Acquire));
    })
    .unwrap();
}

#[test]
fn shutdown_ends_waits() {
    let rt = runtime(2);
    let sleeper = rt.go(|| sleep(Duration::from_secs(3600)));
    let stepper = rt.steps((), |()| Next::Sleep(now() + Duration::from_secs(3600)));
    wait_until("both asleep", || metric(&rt, "goroutines_parked") == 2);
    let report = rt.shutdown(Duration::from_secs(20));
    assert_eq!((report.leaked, report.stuck_threads), (0, 0), "{report:?}");
    for handle in [sleeper, stepper] {
        assert!(handle.join().unwrap_err().is::<Cancelled>());
    }
}

#[test]
fn shutdown_counts_what_does_not_end() {
    let rt = runtime(1);
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    rt.go(move || {
        while !released.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    wait_until("it to run", || metric(&rt, "goroutines_running") == 1);
    let report = rt.shutdown(Duration::from_millis(10));
    release.store(true, Ordering::Release);
    assert_eq!((report.leaked, report.stuck_threads), (1, 1), "{report:?}");
    assert!(report.leaked_goroutines.contains("running"), "{report:?}");
}

#[test]
fn random_work_ends() {
    let rt = runtime(3);
    rt.run(|| {
        let all: Vec<_> = (0..200u64)
            .map(|seed| {
                go(move || {
                    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    let mut total = 0u64;
                    for _ in 0..50 {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        total += match x % 5 {
                            0 => {
                                yield_now();
                                1
                            }
                            1 => go(|| 1).join().unwrap(),
                            2 => {
                                sleep(Duration::from_micros(x % 200));
                                1
                            }
                            3 => {
                                let s = steps(0, |n| {
                                    *n += 1;
                                    if *n > 3 { Next::Done } else { Next::Yield }
                                });
                                s.join().unwrap();
                                1
                            }
                            _ => blocking(|| 1),
                        };
                    }
                    total
                })
            })
            .collect();
        for g in all {
            assert_eq!(g.join().unwrap(), 50);
        }
    })
    .unwrap();
}

#[test]
fn a_deadlock_is_told_and_ends_the_process() {
    let tests = std::env::current_exe().unwrap();
    let example = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join("deadlock");
    // `cargo test` builds the examples beside the tests.
    for procs in ["1", "2", "4"] {
        let out = Command::new(&example)
            .env(wirepath_runtime::MAX_PROCS_VAR, procs)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.starts_with("fatal error: all goroutines are asleep - deadlock!\n"),
            "{stderr}"
        );
        let lines = stderr.lines().filter(|l| l.starts_with("goroutine "));
        for (line, (number, name)) in lines.zip([(1, "main"), (2, "other")]) {
            let state = format!("goroutine {number} [chan ");
            assert!(line.starts_with(&state), "{stderr}");
            assert!(line.ends_with(&format!("]: {name}")), "{stderr}");
        }
        assert_eq!(stderr.matches("created at ").count(), 2, "{stderr}");
        assert!(out.stdout.is_empty());
    }
}

#[test]
fn a_runtime_that_was_shut_down_says_so_to_who_starts_or_joins() {
    let rt = runtime(2);
    let handle = rt.handle();
    rt.shutdown(Duration::from_secs(20));
    let held = Arc::new(());
    for _ in 0..10 {
        let kept = held.clone();
        let late = handle.goroutine().try_go(move || drop(kept));
        assert!(matches!(late, Err(SpawnError::ShutDown)));
    }
    let kept = held.clone();
    let late = handle.go(move || drop(kept)).join();
    assert!(late.unwrap_err().is::<Cancelled>());
    assert_eq!(Arc::strong_count(&held), 1, "a closure was kept");
}

#[test]
fn who_joins_a_goroutine_that_never_ran_is_told_of_the_shutdown() {
    let rt = runtime(1);
    let release = Arc::new(AtomicBool::new(false));
    let running = Arc::new(AtomicUsize::new(0));
    // They keep the P and the spare one past the shutdown.
    let stuck = [(); 2].map(|()| {
        let (released, running) = (release.clone(), running.clone());
        rt.go(move || {
            running.fetch_add(1, Ordering::SeqCst);
            while !released.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
        })
    });
    wait_until("both to run", || running.load(Ordering::SeqCst) == 2);
    let never: Vec<_> = (0..10).map(|_| rt.go(yield_now)).collect();
    let joins = std::thread::spawn(|| never.into_iter().map(JoinHandle::join).collect::<Vec<_>>());
    let report = rt.shutdown(Duration::ZERO);
    assert!(report.stuck_threads >= 2, "{report:?}");
    assert_eq!(report.leaked, 12);
    for result in joins.join().unwrap() {
        assert!(result.unwrap_err().is::<Cancelled>());
    }
    release.store(true, Ordering::Release);
    stuck.into_iter().for_each(|g| g.join().unwrap());
}

#[test]
fn a_thread_that_comes_back_from_blocking_after_the_shutdown_ends() {
    struct Tells(Arc<AtomicBool>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (release, released) = std::sync::mpsc::channel();
    let (entered, enters) = std::sync::mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let tells = Tells(ended.clone());
    let rt = runtime(1);
    let inside = rt.go(move || {
        let _tells = tells;
        blocking(|| {
            entered.send(()).unwrap();
            released.recv().unwrap();
        });
        let (send, recv) = chan::channel::<u8>(0);
        // A wait that nobody would end fails.
        let failed = recv.recv().is_err();
        drop(send);
        sleep(Duration::from_secs(3_600));
        failed
    });
    enters.recv().unwrap();
    let report = rt.shutdown(Duration::ZERO);
    assert_eq!(report.stuck_threads, 1);
    release.send(()).unwrap();
    wait_until("the goroutine's end", || ended.load(Ordering::SeqCst));
    assert!(inside.join().unwrap_err().is::<Cancelled>());
}

#[test]
fn a_value_whose_drop_waits_does_so_when_its_goroutine_is_cancelled_unrun() {
    struct Waits(chan::Receiver<()>, Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            // The wait ends with the shutdown, the drop goes on.
            assert!(self.0.recv().is_err());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let rt = runtime(1);
    let (_send, recv) = chan::channel(0);
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let mut handles = Vec::new();
    for _ in 0..10 {
        let waits = Waits(recv.clone(), count.clone());
        let far = now() + Duration::from_secs(3_600);
        handles.push(rt.steps(waits, move |_| Next::Sleep(far)));
    }
    let report = rt.shutdown(Duration::from_secs(20));
    assert_eq!((report.leaked, report.stuck_threads), (0, 0));
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
    for handle in handles {
        assert!(handle.join().unwrap_err().is::<Cancelled>());
    }
}
