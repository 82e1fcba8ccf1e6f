//! What goroutines cost, measured as `benches/go/goroutines` measures Go's.
//!
//! It is called with the name of a measurement and prints its values, in
//! nanoseconds, one a line. `benches/goroutines` runs both, side by side.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use wirepath_runtime::chan::channel;
use wirepath_runtime::{Goroutine, Next, Runtime, WaitGroup, go, goroutine, steps, yield_now};

const BATCH: u32 = 1000;
const CAPACITY: usize = 128;

fn per_round(rounds: u32, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let nanos = start.elapsed().as_nanos() as f64;
    println!("{:.1}", nanos / f64::from(rounds));
}

/// Starts goroutines that end at once, a batch at a time.
fn spawn(rounds: u32) {
    per_round(rounds, || {
        let group = WaitGroup::new();
        for _ in 0..rounds / BATCH {
            group.add(BATCH as isize);
            for _ in 0..BATCH {
                let group = group.clone();
                go(move || group.done());
            }
            group.wait();
        }
    });
}

/// Hands a value back and forth over two unbuffered channels, with a goroutine
/// described by `with`.
fn ping_pong(with: Goroutine, rounds: u32) {
    let (there, from_there) = channel(0);
    let (back, from_back) = channel(0);
    with.go(move || {
        for value in from_there.iter() {
            if back.send(value).is_err() {
                return;
            }
        }
    });
    per_round(rounds, || {
        for i in 0..rounds {
            there.send(i).expect("the other end is there");
            from_back.recv().expect("the other end is there");
        }
    });
}

/// Sends values from one producer to one consumer.
fn buffered(rounds: u32) {
    let (values, received) = channel(CAPACITY);
    per_round(rounds, || {
        go(move || {
            for i in 0..rounds {
                values.send(i).expect("the other end is there");
            }
        });
        assert_eq!(received.iter().count(), rounds as usize);
    });
}

/// A turn of two goroutines that only let each other run.
fn yields(rounds: u32) {
    per_round(rounds, || {
        let both = [(), ()].map(|()| {
            go(move || {
                for _ in 0..rounds / 2 {
                    yield_now();
                }
            })
        });
        for one in both {
            one.join().expect("no panic");
        }
    });
}

/// A step of a goroutine that only lets others run.
fn step(rounds: u32) {
    per_round(rounds, || {
        let counted = steps(0, move |n| {
            *n += 1;
            if *n == rounds {
                Next::Done
            } else {
                Next::Yield
            }
        });
        counted.join().expect("no panic");
    });
}

fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {}
}

/// The time from the readying of a goroutine to its run on a P that was idle;
/// the one that readies keeps its own P busy.
fn wake(rounds: u32) {
    let (ready, readied) = channel(1);
    let (report, woken) = mpsc::channel();
    go(move || {
        for sent in readied.iter() {
            let sent: Instant = sent;
            report.send(sent.elapsed()).expect("it is received");
        }
    });
    for _ in 0..rounds {
        // Long enough for the other P to have gone to sleep.
        spin(Duration::from_micros(300));
        ready.send(Instant::now()).expect("the other end is there");
        spin(Duration::from_micros(300));
        println!("{}", woken.recv().expect("it is sent").as_nanos());
    }
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let work: fn() = match name.as_str() {
        "spawn" => || spawn(1_000_000),
        "ping-pong" => || ping_pong(goroutine(), 1_000_000),
        "threads" => || ping_pong(goroutine().own_thread(), 20_000),
        "buffered" => || buffered(4_000_000),
        "yield" => || yields(2_000_000),
        "step" => || step(2_000_000),
        "wake" => || wake(1000),
        _ => {
            eprintln!("usage: goroutines spawn|ping-pong|threads|buffered|yield|step|wake");
            std::process::exit(2);
        }
    };
    let runtime = Runtime::builder().build().expect("a runtime");
    runtime.run(work).expect("no panic");
}
