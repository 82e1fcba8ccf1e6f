//! What very many goroutines cost that do nothing.
//!
//! `million parked|steps|shutdown [number]` starts that many goroutines, a
//! million unless told otherwise, waits until all of them wait, and prints the
//! seconds that this took, and for each goroutine the resident bytes and those
//! of page tables. `shutdown` prints the seconds that their end took as well,
//! and fails when one is left or lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wirepath_runtime::chan::channel;
use wirepath_runtime::{Next, Runtime, now};

/// Longer than any of the modes takes, and short of what a clock can hold.
const NEVER: Duration = Duration::from_secs(100 * 24 * 3600);

/// Bytes of a line of `/proc/self/status`.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = text.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: u64 = kib
        .and_then(|kib| kib.parse().ok())
        .expect("a number of kB");
    kib * 1024
}

fn metric(runtime: &Runtime, name: &str) -> u64 {
    let all = runtime.metrics();
    let found = all.iter().find(|(n, _)| *n == name);
    found.expect("the runtime has it").1
}

/// Goroutines that began and that ended.
#[derive(Default)]
struct Counts {
    began: AtomicUsize,
    ended: AtomicUsize,
}

/// Counts its goroutine's end, also when that is unwinding.
struct Ended(Arc<Counts>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

fn start_parked(runtime: &Runtime, number: usize, counts: &Arc<Counts>) {
    let (sender, receiver) = channel::<()>(0);
    // Never sent to, and never closed.
    std::mem::forget(sender);
    let counts = counts.clone();
    let started = runtime.run(move || {
        for _ in 0..number {
            let (receiver, ended) = (receiver.clone(), Ended(counts.clone()));
            wirepath_runtime::go(move || {
                ended.0.began.fetch_add(1, Ordering::Relaxed);
                let _ = receiver.recv();
                drop(ended);
            });
        }
    });
    started.expect("no panic");
}

fn start_steps(runtime: &Runtime, number: usize, counts: &Arc<Counts>) {
    let counts = counts.clone();
    let started = runtime.run(move || {
        for _ in 0..number {
            wirepath_runtime::steps(counts.clone(), |counts| {
                counts.began.fetch_add(1, Ordering::Relaxed);
                Next::Sleep(now() + NEVER)
            });
        }
    });
    started.expect("no panic");
}

fn wait_parked(runtime: &Runtime, number: usize, counts: &Counts) {
    // The metrics look at each goroutine: they are asked when it is near.
    while counts.began.load(Ordering::Relaxed) < number
        || metric(runtime, "goroutines_parked") < number as u64
    {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let number: usize = args
        .next()
        .map_or(1_000_000, |n| n.parse().expect("a number"));
    let runtime = Runtime::builder().build().expect("a runtime");
    let counts = Arc::new(Counts::default());
    let (rss, tables) = (status("VmRSS:"), status("VmPTE:"));
    let start = Instant::now();
    match mode.as_str() {
        "parked" | "shutdown" => start_parked(&runtime, number, &counts),
        "steps" => start_steps(&runtime, number, &counts),
        _ => {
            eprintln!("usage: million parked|steps|shutdown [number]");
            std::process::exit(2);
        }
    }
    wait_parked(&runtime, number, &counts);
    let each = |now: u64, before: u64| (now - before) as f64 / number as f64;
    println!("seconds {:.2}", start.elapsed().as_secs_f64());
    println!("resident {:.0}", each(status("VmRSS:"), rss));
    println!("tables {:.0}", each(status("VmPTE:"), tables));
    if mode == "shutdown" {
        shutdown(runtime, number, &counts);
    } else {
        // Ending them is not what is measured.
        std::process::exit(0);
    }
}

fn shutdown(runtime: Runtime, number: usize, counts: &Counts) {
    let start = Instant::now();
    let report = runtime.shutdown(Duration::from_secs(120));
    println!("shutdown seconds {:.2}", start.elapsed().as_secs_f64());
    assert_eq!((report.leaked, report.stuck_threads), (0, 0), "left behind");
    assert_eq!(
        counts.ended.load(Ordering::Relaxed),
        number,
        "each ended once"
    );
}
