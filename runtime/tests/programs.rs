//! Random programs on the real scheduler and in virtual time, held against a
//! model. `PROGRAM=seed` runs one; the ignored test runs for
//! `PROGRAM_SECONDS` (60).

mod program;

use std::time::{Duration, Instant};

use program::{Log, Program, Rng, check, run};
use wirepath_runtime::{Runtime, simulate};

/// How long a program may take, which takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Tells of which program a panic is.
struct Told<'a>(&'a Program, String);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: PROGRAM={}\n{:?}", self.1, self.0.seed, self.0);
        }
    }
}

fn run_really(rt: &Runtime, program: &Program) {
    let told = Told(program, format!("in {rt:?}"));
    let copy = program.clone();
    let handle = rt.go(move || run(&copy));
    let start = Instant::now();
    while !handle.is_finished() {
        assert!(start.elapsed() < LIMIT, "it hangs:\n{}", rt.dump(1_000));
        std::thread::yield_now();
    }
    check(program, &handle.join().expect("main does not panic"));
    while live(rt) > 0 {
        assert!(start.elapsed() < LIMIT, "these remain:\n{}", rt.dump(1_000));
        std::thread::yield_now();
    }
    drop(told);
}

fn live(rt: &Runtime) -> u64 {
    let metrics = rt.metrics();
    let live = metrics.iter().find(|m| m.0 == "goroutines_live");
    live.expect("there is such a metric").1
}

fn run_virtually(program: &Program, seed: u64) -> (Log, u64) {
    let _told = Told(program, format!("in virtual time, seed {seed}"));
    let copy = program.clone();
    let run = simulate(seed, move || run(&copy));
    let run = run.unwrap_or_else(|failure| panic!("{failure}"));
    check(program, &run.value);
    (run.value, run.fingerprint)
}

/// The seeds to try: one if it was asked for.
fn seeds(many: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("PROGRAM") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("PROGRAM is a number");
            seed..seed + 1
        }
        Err(_) => many,
    }
}

fn runtimes() -> [Runtime; 3] {
    [1, 2, 4].map(|procs| Runtime::builder().max_procs(procs).build().unwrap())
}

#[test]
fn random_programs_do_what_the_model_allows() {
    let runtimes = runtimes();
    for seed in seeds(0..150) {
        let program = Program::random(seed);
        runtimes.iter().for_each(|rt| run_really(rt, &program));
    }
}

#[test]
fn random_programs_do_what_the_model_allows_in_every_order_of_virtual_time() {
    for seed in seeds(1_000..1_150) {
        let program = Program::random(seed);
        for order in 0..8 {
            run_virtually(&program, order);
        }
    }
}

#[test]
fn a_random_program_runs_the_same_way_with_the_same_seed() {
    let mut differ = 0;
    for seed in seeds(2_000..2_030) {
        let program = Program::random(seed);
        let first = run_virtually(&program, seed);
        assert_eq!(first, run_virtually(&program, seed), "program {seed}");
        differ += usize::from(first.1 != run_virtually(&program, seed + 1).1);
    }
    assert!(differ > 0, "the seed changes nothing");
}

#[test]
#[ignore = "runs for a minute, or PROGRAM_SECONDS"]
fn random_programs_for_long() {
    let seconds = std::env::var("PROGRAM_SECONDS").map_or(60, |s| s.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let mut rng = Rng::new(random);
    let runtimes = runtimes();
    let mut programs = 0;
    while Instant::now() < end {
        let program = Program::random(rng.next());
        runtimes.iter().for_each(|rt| run_really(rt, &program));
        (0..4).for_each(|_| drop(run_virtually(&program, rng.next())));
        programs += 1;
    }
    println!("{programs} programs");
}
