//! A runtime in which there is something to see: goroutines that wait, one that
//! computes, and one in `blocking`. Run it with `WIREPATH_SCHEDTRACE=100`,
//! `WIREPATH_SCHEDDETAIL=1` and `WIREPATH_LEAKS=1`; it prints a dump.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wirepath_runtime::chan::channel;
use wirepath_runtime::{Runtime, blocking, go_named, sleep};

const MILLISECOND: Duration = Duration::from_millis(1);

fn until(stop: &AtomicBool, between: impl Fn()) {
    while !stop.load(Ordering::Acquire) {
        between();
    }
}

fn main() {
    let runtime = match Runtime::builder().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    let (send, receive) = channel::<()>(0);
    for _ in 0..3 {
        let receive = receive.clone();
        runtime.go(move || receive.recv());
    }
    runtime.go(|| {
        go_named("sleeper", || sleep(Duration::from_secs(3600)));
    });
    std::thread::sleep(Duration::from_millis(100));
    // Until the dump is taken.
    let stop = Arc::new(AtomicBool::new(false));
    let (blocks, computes) = (stop.clone(), stop.clone());
    let busy = [
        runtime.go(move || blocking(|| until(&blocks, || std::thread::sleep(MILLISECOND)))),
        runtime.go(move || until(&computes, std::hint::spin_loop)),
    ];
    std::thread::sleep(Duration::from_millis(200));
    print!("{}", runtime.dump(1000));
    stop.store(true, Ordering::Release);
    for g in busy {
        g.join().expect("nothing panics in it");
    }
    // At rest, with goroutines that wait.
    std::thread::sleep(Duration::from_millis(300));
    drop(runtime);
    drop(send);
}
