//! Panics, cancellation, and waits in the middle of them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use wirepath_runtime::chan::{Receiver, channel};
use wirepath_runtime::{Cancelled, Next, Runtime, WaitGroup, go, sleep, steps, yield_now};

fn runtime(procs: usize) -> Runtime {
    Runtime::builder().max_procs(procs).build().unwrap()
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

/// Panics without a message on stderr.
fn throw(payload: &'static str) -> ! {
    resume_unwind(Box::new(payload))
}

fn payload(result: std::thread::Result<()>) -> &'static str {
    result.unwrap_err().downcast_ref::<&str>().unwrap()
}

/// Receives when it is dropped.
struct ReceivesAtEnd(Receiver<u32>, mpsc::Sender<u32>);

impl Drop for ReceivesAtEnd {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.recv().unwrap_or(0));
    }
}

#[test]
fn a_panic_is_caught_beside_waits() {
    let rt = runtime(1);
    rt.run(|| {
        let (sender, receiver) = channel(0);
        let catches = go(move || {
            let mut caught = 0;
            for i in 0..100 {
                let once = catch_unwind(AssertUnwindSafe(|| {
                    let got: u32 = receiver.recv().unwrap();
                    if got % 2 == 1 {
                        throw("odd");
                    }
                    yield_now();
                    got
                }));
                caught += usize::from(once.is_err());
                assert!(!std::thread::panicking(), "round {i}");
            }
            caught
        });
        for i in 0..100 {
            sender.send(i).unwrap();
            assert!(!std::thread::panicking(), "another one's panic");
        }
        assert_eq!(catches.join().unwrap(), 50);
    })
    .unwrap();
}

#[test]
fn a_wait_while_unwinding_lets_others_run() {
    // On one P who ends the wait can run only if the P was given away.
    for procs in [1, 2] {
        let rt = runtime(procs);
        let (tell, told) = mpsc::channel();
        rt.run(move || {
            let (sender, receiver) = channel(0);
            let unwinds = go(move || {
                let _at_end = ReceivesAtEnd(receiver, tell);
                throw("first");
            });
            let sends = steps(sender, |sender| match sender.try_send(7) {
                Ok(()) => Next::Done,
                Err(_) => Next::Yield,
            });
            sends.join().unwrap();
            assert_eq!(payload(unwinds.join()), "first");
            // The thread is of use again.
            assert_eq!(go(|| 5).join().unwrap(), 5);
        })
        .unwrap();
        assert_eq!(told.recv().unwrap(), 7);
    }
}

#[test]
fn many_wait_while_unwinding() {
    const NUMBER: usize = 20;
    let rt = runtime(2);
    let (tell, told) = mpsc::channel();
    rt.run(move || {
        let all: Vec<_> = (0..NUMBER)
            .map(|i| {
                let (sender, receiver) = channel(0);
                let tell = tell.clone();
                let unwinds = go(move || {
                    yield_now();
                    let _at_end = ReceivesAtEnd(receiver, tell);
                    throw("one of many");
                });
                steps(sender, move |sender| match sender.try_send(i as u32 + 1) {
                    Ok(()) => Next::Done,
                    Err(_) => Next::Sleep(wirepath_runtime::now() + Duration::from_millis(1)),
                });
                unwinds
            })
            .collect();
        for unwinds in all {
            assert_eq!(payload(unwinds.join()), "one of many");
        }
    })
    .unwrap();
    let sum: u32 = told.iter().take(NUMBER).sum();
    assert_eq!(sum as usize, NUMBER * (NUMBER + 1) / 2);
}

/// Panics when it is dropped, and catches that itself.
struct PanicsInside(Arc<AtomicUsize>);

impl Drop for PanicsInside {
    fn drop(&mut self) {
        let inner = catch_unwind(|| throw("inner"));
        assert_eq!(payload(inner), "inner");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn panics_nest() {
    let rt = runtime(1);
    let caught = Arc::new(AtomicUsize::new(0));
    let inside = caught.clone();
    let outer = rt.run(move || {
        let _first = PanicsInside(inside.clone());
        let _second = PanicsInside(inside);
        throw("outer");
    });
    assert_eq!(payload(outer), "outer");
    assert_eq!(caught.load(Ordering::Relaxed), 2);
}

#[test]
fn a_parked_goroutine_that_is_cancelled_drops_what_it_has() {
    let rt = runtime(2);
    let (sender, receiver) = channel::<u32>(0);
    let (tell, told) = mpsc::channel();
    let group = WaitGroup::new();
    group.add(1);
    let waits = rt.go(move || {
        let _at_end = ReceivesAtEnd(receiver, tell);
        // Ends by unwinding, and the drop waits while that goes on.
        group.wait();
    });
    wait_until("the wait", || rt.dump(100).contains("WaitGroup"));
    let feeds = std::thread::spawn(move || sender.send(9));
    let report = rt.shutdown(Duration::from_secs(20));
    assert_eq!((report.leaked, report.stuck_threads), (0, 0));
    feeds.join().unwrap().unwrap();
    assert_eq!(told.recv().unwrap(), 9);
    assert!(waits.join().unwrap_err().is::<Cancelled>());
}

#[test]
fn what_never_ran_is_dropped_where_it_may_wait() {
    let rt = runtime(1);
    let (tell, told) = mpsc::channel();
    let (sender, receiver) = channel::<u32>(0);
    let (started, ready) = mpsc::channel();
    // Keeps the only P, and starts one that comes to run after the end began.
    let hog = rt.go(move || {
        let at_end = ReceivesAtEnd(receiver, tell);
        let never_runs = go(move || drop(at_end));
        started.send(()).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while std::hint::black_box(true) {
                sleep_by_spinning();
            }
        }));
        (ended.is_err(), never_runs)
    });
    ready.recv().unwrap();
    drop(hog);
    let report = rt.shutdown(Duration::from_secs(20));
    assert_eq!(report.leaked, 0);
    // A cancelled receive does not wait.
    assert_eq!(told.recv().unwrap(), 0);
    drop(sender);
}

/// Computes for a while, and then looks whether the runtime ends.
fn sleep_by_spinning() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(5) {}
    sleep(Duration::from_micros(1));
}

#[test]
fn a_handle_gives_up_waiting_after_a_time() {
    let rt = runtime(2);
    rt.run(|| {
        let (sender, receiver) = channel(0);
        let waits = go(move || receiver.recv());
        let waits = waits.join_timeout(Duration::from_millis(5)).unwrap_err();
        assert!(!waits.is_finished());
        sender.send(3).unwrap();
        let ended = waits.join_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(ended.unwrap(), Ok(3));

        let panics = go(|| throw("gone"));
        let ended = panics.join_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(payload(ended), "gone");
    })
    .unwrap();
}
