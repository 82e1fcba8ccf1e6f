//! Measures what the scheduler costs: a step, a yield in the middle of one, a
//! wake from goroutine to goroutine, and a start.
//!
//! `cargo run --release -p wirepath-runtime --example switch`

use std::time::Instant;

use wirepath_runtime::{Next, Runtime, go, steps, yield_now};

const ROUNDS: u32 = 1_000_000;

fn report(what: &str, start: Instant, times: u32) {
    println!(
        "{what:32} {:>6.1} ns",
        start.elapsed().as_nanos() as f64 / f64::from(times)
    );
}

fn main() {
    let rt = Runtime::builder().max_procs(1).build().expect("a runtime");
    let done = rt.run(|| {
        let start = Instant::now();
        let counted = steps(0, |n| {
            *n += 1;
            if *n == ROUNDS {
                Next::Done
            } else {
                Next::Yield
            }
        });
        counted.join().expect("no panic");
        report("a step", start, ROUNDS);

        let start = Instant::now();
        for _ in 0..ROUNDS {
            yield_now();
        }
        report("a yield in the middle of a step", start, ROUNDS);

        let start = Instant::now();
        for _ in 0..ROUNDS / 4 {
            go(|| ()).join().expect("no panic");
        }
        report("a goroutine, started and joined", start, ROUNDS / 4);
    });
    done.expect("no panic");
}
