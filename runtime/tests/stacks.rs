//! Goroutines' stacks: how large they are, and what happens when one is full or
//! when there is memory for no more.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wirepath_runtime::chan::channel;
use wirepath_runtime::{
    Next, Runtime, SpawnError, go, goroutine, sleep, stack_high_water, steps, yield_now,
};

const PAGE: usize = 4096;

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
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[inline(never)]
fn deep(n: usize) -> usize {
    let frame = std::hint::black_box([n as u8; 256]);
    if n == 0 {
        usize::from(frame[0])
    } else {
        deep(n - 1) + 1
    }
}

/// A frame larger than stack and guard together.
#[inline(never)]
fn large_frame() -> u8 {
    let mut frame = [0u8; 512 * 1024];
    for (i, byte) in frame.iter_mut().enumerate() {
        *byte = i as u8;
    }
    std::hint::black_box(&frame)[1]
}

const CHILD: &str = "WIREPATH_TEST_CHILD";

/// Runs this test binary again with only the named (ignored) test.
fn child(test: &str) -> Output {
    child_command(test).output().unwrap()
}

fn child_command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .arg(test)
        .env(CHILD, "1");
    command
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
#[ignore = "run by a test below, in a process of its own"]
fn child_overflow() {
    if is_child() {
        let digger = || goroutine().name("digger").go(|| deep(1 << 20)).join();
        let _ = runtime(1).run(digger);
    }
}

#[test]
#[ignore = "run by a test below, in a process of its own"]
fn child_large_frame() {
    if is_child() {
        let large = || goroutine().name("large").go(large_frame).join();
        let _ = runtime(1).run(large);
    }
}

#[test]
#[ignore = "run by a test below, in a process of its own"]
fn child_overflow_of_a_sized_stack() {
    if is_child() {
        let small = || goroutine().stack_size(20_000).go(|| deep(1 << 20)).join();
        let _ = runtime(1).run(small);
    }
}

#[test]
fn an_overflow_names_the_goroutine_and_shows_where_it_was() {
    let cases = [
        ("child_overflow", "goroutine 2 (digger)", 256, "deep"),
        (
            "child_large_frame",
            "goroutine 2 (large)",
            256,
            "large_frame",
        ),
        ("child_overflow_of_a_sized_stack", "goroutine 2", 32, "deep"),
    ];
    for (test, who, kib, function) in cases {
        let out = child(test);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), None, "{test}: no signal: {stderr}");
        let first = format!("{who} overflowed its stack of {kib} KiB\nstarted at ");
        assert!(stderr.contains(&first), "{test}: {stderr}");
        assert!(stderr.contains("stacks.rs:"), "{test}: {stderr}");
        let (_, trace) = stderr.split_once("backtrace").expect("there is one");
        assert!(trace.contains(function), "{test}: {stderr}");
        assert!(!stderr.contains("could not be had"), "{test}: {stderr}");
    }
}

#[test]
fn a_goroutine_has_the_stack_that_it_asks_for() {
    let rt = runtime(2);
    rt.run(|| {
        for size in [16 << 10, 100_000, 1 << 20, 64 << 20] {
            let depth = size / 1024;
            let dug = goroutine().stack_size(size).go(move || {
                let depth = deep(depth);
                yield_now();
                (depth, stack_high_water().unwrap())
            });
            let (dug, water) = dug.join().unwrap();
            assert_eq!(dug, depth);
            assert!(water >= depth * 256 && water <= size.next_power_of_two());
        }
        let stepped = goroutine().stack_size(4 << 20).steps(0, |n| {
            *n += deep(8_000);
            if *n == 24_000 {
                Next::Done
            } else {
                Next::Yield
            }
        });
        stepped.join().unwrap();
    })
    .unwrap();
}

#[test]
fn impossible_sizes_are_refused() {
    let rt = runtime(1);
    for size in [0, 16 * 1024 - 1, (1 << 30) + 1, usize::MAX] {
        let refused = rt.goroutine().stack_size(size).try_go(|| ()).unwrap_err();
        assert!(matches!(refused, SpawnError::StackSize(s) if s == size));
    }
}

#[test]
fn the_high_water_mark_rises_with_use() {
    assert_eq!(stack_high_water(), None, "no goroutine");
    let rt = runtime(1);
    rt.run(|| {
        let before = stack_high_water().unwrap();
        assert!((PAGE..=16 * PAGE).contains(&before), "{before}");
        deep(256);
        assert!(stack_high_water().unwrap() >= before.max(256 * 256));
        deep(1);
        assert!(stack_high_water().unwrap() >= 256 * 256, "it does not sink");
    })
    .unwrap();
}

/// The KiB of stack of each goroutine in a dump that waits for a channel.
fn stacks_of(dump: &str) -> Vec<usize> {
    let parts = dump
        .split("\n\n")
        .filter(|part| part.contains("chan receive"));
    let kib = parts.filter_map(|part| {
        let mut lines = part.lines();
        let kib = lines.find_map(|line| line.strip_suffix(" KiB of stack"))?;
        kib.trim().parse().ok()
    });
    kib.collect()
}

#[test]
fn a_goroutine_that_waits_at_once_has_one_page() {
    let rt = runtime(1);
    let (sender, receiver) = channel::<()>(0);
    for _ in 0..64 {
        let receiver = receiver.clone();
        rt.go(move || receiver.recv());
    }
    wait_until("all to wait", || stacks_of(&rt.dump(100)).len() == 64);
    // Frames are larger without optimization.
    let most = if cfg!(debug_assertions) { 2 } else { 1 };
    for kib in stacks_of(&rt.dump(100)) {
        assert!(kib * 1024 <= most * PAGE, "{kib} KiB");
    }
    drop(sender);
}

#[test]
fn memory_of_stacks_that_nobody_needs_is_given_back() {
    let rt = runtime(2);
    let tops = Arc::new(Mutex::new(Vec::new()));
    let seen = tops.clone();
    rt.run(move || {
        let all = (0..500).map(|_| {
            let seen = seen.clone();
            go(move || {
                deep(200);
                let here = std::hint::black_box(0u8);
                seen.lock().unwrap().push((&raw const here).addr());
                sleep(Duration::from_millis(300));
            })
        });
        let all: Vec<_> = all.collect();
        all.into_iter().for_each(|g| g.join().unwrap());
    })
    .unwrap();
    // One that ended early left its stack to another.
    let tops: BTreeSet<usize> = tops.lock().unwrap().iter().map(|top| top / PAGE).collect();
    assert!(tops.len() > 200, "{} stacks", tops.len());
    let resident = || tops.iter().filter(|page| is_resident(**page)).count();
    // Each thread keeps a few.
    wait_until("the memory to be given back", || resident() <= 16 * 5);
}

/// Whether the page of this number exists, as `/proc/self/pagemap` tells.
fn is_resident(page: usize) -> bool {
    use std::os::unix::fs::FileExt;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entry = [0; 8];
    let at = (page * 8) as u64;
    pagemap.read_exact_at(&mut entry, at).unwrap();
    u64::from_ne_bytes(entry) >> 63 == 1
}

#[test]
fn the_limit_on_goroutines_is_an_error_and_a_panic_of_the_caller() {
    let rt = Runtime::builder()
        .max_procs(2)
        .max_goroutines(10)
        .build()
        .unwrap();
    rt.run(|| {
        let (sender, receiver) = channel::<()>(0);
        // With this one, ten.
        let nine: Vec<_> = (0..9)
            .map(|_| {
                let receiver = receiver.clone();
                goroutine().try_go(move || receiver.recv()).unwrap()
            })
            .collect();
        assert!(matches!(
            goroutine().try_go(|| ()).unwrap_err(),
            SpawnError::Limit(10)
        ));
        assert!(matches!(
            goroutine().try_steps((), |()| Next::Done).unwrap_err(),
            SpawnError::Limit(10)
        ));
        let panic = std::panic::catch_unwind(|| go(|| ())).unwrap_err();
        let words = panic.downcast_ref::<String>().unwrap();
        assert!(words.contains("10 goroutines live"), "{words}");

        drop(sender);
        nine.into_iter()
            .for_each(|g| assert!(g.join().is_ok_and(|r| r.is_err())));
        steps((), |()| Next::Done).join().unwrap();
        assert_eq!(go(|| 7).join().unwrap(), 7, "the others went on");
    })
    .unwrap();
}

#[test]
fn goroutines_are_started_in_a_runtime_that_lives() {
    assert!(matches!(
        goroutine().try_go(|| ()).unwrap_err(),
        SpawnError::NoRuntime
    ));
    let rt = runtime(1);
    let handle = rt.handle();
    rt.shutdown(Duration::from_secs(10));
    assert!(matches!(
        handle.goroutine().try_go(|| ()).unwrap_err(),
        SpawnError::ShutDown
    ));
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_without_address_space() {
    if !is_child() {
        return;
    }
    let rt = runtime(1);
    // Stacks come in chunks of 320 MiB. What is left when no chunk fits any more
    // is for the heap, and does not depend on what the process had before.
    let had = std::fs::read_to_string("/proc/self/statm").unwrap();
    let had: usize = had.split(' ').next().unwrap().parse().unwrap();
    let limit = Some((had * PAGE + ((8 * 320 + 200) << 20)) as u64);
    let limit = rustix::process::Rlimit {
        current: limit,
        maximum: limit,
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = ended.clone();
    rt.run(move || {
        let (sender, receiver) = channel::<()>(0);
        let mut started = Vec::new();
        let error = loop {
            let (receiver, counted) = (receiver.clone(), counted.clone());
            let next = goroutine().try_go(move || {
                assert!(receiver.recv().is_err());
                counted.fetch_add(1, Ordering::Relaxed);
            });
            match next {
                Ok(handle) => started.push(handle),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, SpawnError::Stack(_)), "{error}");
        assert!(started.len() > 1_000, "only {}", started.len());
        let panic = std::panic::catch_unwind(|| go(|| ())).unwrap_err();
        let words = panic.downcast_ref::<String>().unwrap();
        assert!(words.contains("no memory for another"), "{words}");

        // All that were started run, and what they leave is used again.
        drop(sender);
        let number = started.len();
        started.into_iter().for_each(|g| g.join().unwrap());
        assert_eq!(counted.load(Ordering::Relaxed), number);
        assert_eq!(go(|| 7).join().unwrap(), 7);
    })
    .unwrap();
    println!("the others went on");
}

#[test]
fn without_address_space_for_stacks_the_others_go_on() {
    // A backtrace maps files.
    let mut child = child_command("child_without_address_space");
    let out = child.env("RUST_BACKTRACE", "0").output().unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && stdout.contains("the others went on"),
        "{stdout}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
