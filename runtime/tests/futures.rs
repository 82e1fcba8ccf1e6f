//! Futures awaited in goroutines.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::channel::{mpsc as stream_channel, oneshot};
use futures::{SinkExt, StreamExt};
use wirepath_runtime::{Cancelled, Runtime, block_on, blocking, go, num_procs, sleep, yield_now};

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

#[test]
fn a_future_parks_the_goroutine_and_not_the_thread() {
    for procs in [1, 2] {
        let answer = runtime(procs).run(|| {
            let (ask, asked) = oneshot::channel();
            let (answer, answered) = oneshot::channel();
            // On one P they must take turns.
            go(move || {
                let question: u32 = block_on(asked).unwrap();
                answer.send(question * 2).unwrap();
            });
            ask.send(21).unwrap();
            block_on(answered).unwrap()
        });
        assert_eq!(answer.unwrap(), 42);
    }
}

#[test]
fn plain_threads_await_and_wake_as_well() {
    let rt = runtime(2);
    let (to_goroutine, in_goroutine) = oneshot::channel();
    let (to_thread, in_thread) = oneshot::channel();
    let echo = rt.go(move || to_thread.send(block_on(in_goroutine).unwrap()));
    std::thread::spawn(move || to_goroutine.send("hello"));
    assert_eq!(block_on(in_thread), Ok("hello"));
    echo.join().unwrap().unwrap();
}

#[test]
fn several_futures_are_awaited_at_once() {
    let rt = runtime(2);
    let all = rt.run(|| {
        let send = |value: u32, after: u64| {
            let (sender, receiver) = oneshot::channel();
            go(move || {
                sleep(Duration::from_millis(after));
                sender.send(value).unwrap();
            });
            receiver
        };
        let (a, b, c) = (send(1, 20), send(2, 0), send(3, 10));
        block_on(async move { futures::join!(a, b, c) })
    });
    assert_eq!(all.unwrap(), (Ok(1), Ok(2), Ok(3)));
}

#[test]
fn a_bounded_stream_goes_through_in_order() {
    const NUMBER: u32 = 10_000;
    let rt = runtime(2);
    let sum = rt.run(|| {
        let (mut sender, receiver) = stream_channel::channel(4);
        go(move || {
            for i in 0..NUMBER {
                block_on(sender.send(i)).unwrap();
            }
        });
        let all = block_on(receiver.collect::<Vec<u32>>());
        assert!(all.is_sorted());
        all.len()
    });
    assert_eq!(sum.unwrap(), NUMBER as usize);
}

/// Pending so many times; wakes itself each time.
struct Again(u32);

impl Future for Again {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn a_future_that_wakes_itself_lets_others_run() {
    let rt = runtime(1);
    rt.run(|| {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = go(move || {
            for _ in 0..100 {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now();
            }
        });
        block_on(Again(1_000));
        assert_eq!(turns.load(Ordering::Relaxed), 100);
        other.join().unwrap();
    })
    .unwrap();
}

#[test]
fn wakers_that_are_kept_do_no_harm() {
    let rt = runtime(2);
    let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let kept = wakers.clone();
    let stop = Arc::new(AtomicUsize::new(0));
    let stopped = stop.clone();
    let noise = std::thread::spawn(move || {
        while stopped.load(Ordering::Relaxed) == 0 {
            let now = kept.lock().unwrap().clone();
            now.into_iter().for_each(Waker::wake);
            std::thread::yield_now();
        }
    });
    rt.run(move || {
        for round in 0..200 {
            let wakers = wakers.clone();
            let (sender, mut receiver) = oneshot::channel();
            let waits = go(move || {
                let mine = poll_fn(|context| {
                    let mut wakers = wakers.lock().unwrap();
                    if wakers.len() < 50 {
                        wakers.push(context.waker().clone());
                    }
                    drop(wakers);
                    Pin::new(&mut receiver).poll(context)
                });
                let got = block_on(mine);
                // A stale wake ends no other wait early.
                let start = wirepath_runtime::now();
                sleep(Duration::from_millis(1));
                assert!(wirepath_runtime::now().since(start) >= Duration::from_millis(1));
                got
            });
            sender.send(round).unwrap();
            assert_eq!(waits.join().unwrap(), Ok(round));
        }
    })
    .unwrap();
    stop.store(1, Ordering::Relaxed);
    noise.join().unwrap();
}

#[test]
fn awaits_nest() {
    let rt = runtime(1);
    let got = rt.run(|| {
        block_on(async {
            let (sender, receiver) = oneshot::channel();
            go(move || sender.send(1).unwrap());
            // Inside of a poll.
            let inner = block_on(receiver).unwrap();
            inner + async { 2 }.await
        })
    });
    assert_eq!(got.unwrap(), 3);
}

/// Tells when it is dropped.
struct Tells(mpsc::Sender<&'static str>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

#[test]
fn shutdown_drops_the_future_and_ends_the_goroutine() {
    let rt = runtime(2);
    let (tell, told) = mpsc::channel();
    let waits = rt.go(move || {
        let tells = Tells(tell);
        block_on(async move {
            let _tells = tells;
            futures::future::pending::<()>().await;
        });
    });
    wait_until("the wait", || rt.dump(100).contains("[future"));
    let report = rt.shutdown(Duration::from_secs(20));
    assert_eq!(report.leaked, 0);
    assert_eq!(told.recv().unwrap(), "dropped");
    assert!(waits.join().unwrap_err().is::<Cancelled>());
}

#[test]
fn in_blocking_the_thread_waits() {
    let rt = runtime(1);
    let got = rt.run(|| {
        assert_eq!(num_procs(), 1);
        let (sender, receiver) = oneshot::channel();
        let go_on = go(move || sender.send(7).unwrap());
        let got = blocking(|| block_on(receiver));
        go_on.join().unwrap();
        got
    });
    assert_eq!(got.unwrap(), Ok(7));
}
