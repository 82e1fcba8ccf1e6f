//! What a runtime tells about itself: dumps, metrics, the scheduler's line.

mod lab;

use std::io::{Read, Write};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::{Lab, SERVER};
use wirepath_runtime::chan::channel;
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{
    Builder, MetricValue, Next, Runtime, blocking, go, go_named, goroutine, sleep, yield_now,
};

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn runtime(procs: usize) -> Runtime {
    Builder::default().max_procs(procs).build().unwrap()
}

fn metric(rt: &Runtime, name: &str) -> u64 {
    let all = rt.metrics();
    all.iter().find(|(n, _)| *n == name).unwrap().1
}

/// Computes until it is told to stop.
fn spin(stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

/// The paragraph of a dump that is about the goroutine of that name.
fn about<'a>(dump: &'a str, name: &str) -> Option<&'a str> {
    let mut all = dump.split("\n\n");
    all.find(|part| {
        part.lines()
            .next()
            .is_some_and(|l| l.ends_with(&format!("]: {name}")))
    })
}

#[test]
fn a_dump_tells_state_thread_name_and_creator() {
    let rt = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let (send, receive) = channel::<()>(0);
    let (spins, blocks) = (stop.clone(), stop.clone());
    let handle = rt.handle();
    let main = rt.go(move || {
        let all = [
            go_named("waits", move || assert!(receive.recv().is_err())),
            go_named("blocks", move || {
                blocking(|| {
                    while !blocks.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }),
            go_named("spins", move || spin(&spins)),
        ];
        all.into_iter().for_each(|g| g.join().unwrap());
    });
    let line = line!() - 12;
    let seen = |name: &str, state: &str| {
        let dump = handle.dump(100);
        about(&dump, name).is_some_and(|part| part.contains(state))
    };
    wait_until("the wait", || seen("waits", "[chan receive, bound to M"));
    wait_until("blocking", || seen("blocks", "[syscall, blocking M"));
    wait_until("running", || {
        seen("spins", "[running, M") && seen("spins", " P")
    });
    let dump = rt.dump(100);
    let created = format!(
        "created at runtime/tests/seeing.rs:{line} by goroutine {}",
        main.id()
    );
    assert!(
        about(&dump, "waits").unwrap().contains(&created),
        "{created} in\n{dump}"
    );
    let first = format!("goroutine {} [join, bound to M", main.id());
    assert!(dump.contains(&first), "{dump}");
    assert!(rt.dump(1).contains("… and 3 more goroutines"));
    stop.store(true, Ordering::Release);
    drop(send);
    main.join().unwrap();
}

#[test]
fn a_goroutine_bound_to_a_busy_thread_says_behind_whom_it_waits() {
    let rt = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let spins = stop.clone();
    let waits = rt.go(|| sleep(Duration::from_millis(20)));
    wait_until("the sleep", || rt.dump(10).contains("[sleep, bound to M0]"));
    let busy = rt.go(move || spin(&spins));
    let behind = format!("[runnable, bound to M0 behind goroutine {}]", busy.id());
    wait_until("the wait", || rt.dump(10).contains(&behind));
    let all = rt.metrics();
    assert_eq!(metric(&rt, "goroutines_bound_waiting"), 1, "{all:?}");
    wait_until("the count", || !rt.long_runs().is_empty());
    wait_until("the waiter to be counted", || {
        rt.long_runs()[0].most_waiting == 1
    });
    stop.store(true, Ordering::Release);
    busy.join().unwrap();
    waits.join().unwrap();
}

#[test]
fn states_are_counted_without_a_look_at_goroutines() {
    let rt = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let gates: Vec<_> = (0..100)
        .map(|_| {
            let (send, receive) = channel::<()>(0);
            rt.go(move || receive.recv().is_err());
            send
        })
        .collect();
    let spins = stop.clone();
    let busy = rt.go(move || spin(&spins));
    wait_until("the states", || {
        metric(&rt, "goroutines_parked") == 100 && metric(&rt, "goroutines_running") == 1
    });
    let number = |name: &str| {
        let all = rt.read_metrics();
        let metric = all.iter().find(|m| m.name == name).unwrap();
        match &metric.value {
            MetricValue::Uint64(n) => *n,
            other => panic!("{name} is {other:?}"),
        }
    };
    assert_eq!(number("/sched/goroutines:goroutines"), 101);
    assert_eq!(number("/sched/goroutines-created:goroutines"), 101);
    assert_eq!(number("/sched/goroutines/running:goroutines"), 1);
    assert_eq!(number("/sched/goroutines/waiting:goroutines"), 100);
    assert_eq!(number("/sched/goroutines/runnable:goroutines"), 0);
    assert_eq!(number("/sched/gomaxprocs:threads"), 2);
    stop.store(true, Ordering::Release);
    busy.join().unwrap();
    drop(gates);
    wait_until("the end", || number("/sched/goroutines:goroutines") == 0);
}

#[test]
fn one_run_in_eight_is_timed_from_runnable_to_running() {
    let rt = runtime(1);
    const RUNS: u64 = 8000;
    rt.run(|| (0..RUNS).for_each(|_| yield_now())).unwrap();
    let all = rt.read_metrics();
    let unit = |name: &str| all.iter().find(|m| m.name == name).unwrap().clone();
    let metric = unit("/sched/latencies:seconds");
    assert_eq!(metric.unit, "seconds");
    let MetricValue::Histogram(latencies) = metric.value else {
        panic!("a histogram")
    };
    let wanted = RUNS / 8;
    assert!(
        (wanted..=wanted + 1).contains(&latencies.total()),
        "{}",
        latencies.total()
    );
    assert!(latencies.quantile(0.5).unwrap() <= latencies.quantile(0.99).unwrap());
}

#[test]
fn a_long_run_is_kept_by_the_place_where_it_was_started() {
    let rt = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let spins = stop.clone();
    let busy = rt.go(move || spin(&spins));
    let line = line!() - 1;
    wait_until("the count", || metric(&rt, "long_runs") == 1);
    wait_until("its length", || {
        rt.long_runs()[0].longest >= Duration::from_millis(30)
    });
    let runs = rt.long_runs();
    assert_eq!((runs[0].site.line(), runs[0].runs), (line, 1), "{runs:?}");
    assert_eq!(
        (runs[0].goroutine, runs[0].off_cpu),
        (busy.id(), 0),
        "{runs:?}"
    );
    stop.store(true, Ordering::Release);
    busy.join().unwrap();
}

/// The trap that the documentation names first: a `std` lock held across a
/// park, wanted by another goroutine on the same thread.
#[test]
fn a_thread_that_sleeps_in_user_code_is_seen() {
    let rt = runtime(1);
    let lock = Arc::new(Mutex::new(()));
    let stop = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicUsize::new(0));
    // A plain thread holds it, so that the test can end.
    let (held, ends) = (lock.clone(), stop.clone());
    let seen = taken.clone();
    let holder = std::thread::spawn(move || {
        let _held = held.lock().unwrap();
        seen.store(1, Ordering::Release);
        while !ends.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    wait_until("the lock", || taken.load(Ordering::Acquire) == 1);
    let wants = rt.go(move || drop(lock.lock().unwrap()));
    wait_until("the sleep to be seen", || {
        metric(&rt, "long_runs_off_cpu") == 1
    });
    assert_eq!(rt.long_runs()[0].off_cpu, 1);
    stop.store(true, Ordering::Release);
    wants.join().unwrap();
    holder.join().unwrap();
}

#[test]
fn spare_ps_are_as_many_as_ps_and_retire() {
    let rt = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let spins = stop.clone();
            rt.go(move || spin(&spins))
        })
        .collect();
    wait_until("the spare ones", || metric(&rt, "procs_spare_used") == 2);
    wait_until("four to run", || metric(&rt, "goroutines_running") == 4);
    // The other four wait: nobody may run more than twice the P's.
    assert_eq!(metric(&rt, "goroutines_runnable"), 4);
    stop.store(true, Ordering::Release);
    busy.into_iter().for_each(|g| g.join().unwrap());
    wait_until("the spare ones to retire", || {
        metric(&rt, "procs_spare_used") == 0
    });
}

#[test]
fn a_dump_of_a_stuck_scheduler_comes() {
    let rt = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let spins = stop.clone();
            rt.go(move || spin(&spins))
        })
        .collect();
    wait_until("all P's to be held", || {
        metric(&rt, "goroutines_running") == 2
    });
    let dump = rt.dump(10);
    assert_eq!(dump.matches("[running, M").count(), 2, "{dump}");
    assert_eq!(dump.matches("with spare P1").count(), 1, "{dump}");
    assert_eq!(dump.matches("[runnable]").count(), 1, "{dump}");
    stop.store(true, Ordering::Release);
    busy.into_iter().for_each(|g| g.join().unwrap());
}

#[test]
fn a_dump_while_goroutines_come_and_go() {
    let rt = runtime(2);
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let maker = rt.go(move || {
        while !ends.load(Ordering::Acquire) {
            let all = [(); 8].map(|()| go(yield_now));
            all.into_iter().for_each(|g| g.join().unwrap());
        }
    });
    let first = format!("goroutine {} [", maker.id());
    for _ in 0..200 {
        let dump = rt.dump(usize::MAX);
        assert!(dump.starts_with(&first), "{dump}");
        assert!(rt.read_metrics().len() > 10);
    }
    stop.store(true, Ordering::Release);
    maker.join().unwrap();
}

/// Runs the example `seen` with variables set.
fn example(variables: &[(&str, &str)]) -> Output {
    // Beside this test's own directory.
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let mut command = Command::new(path.join("examples/seen"));
    command.env("WIREPATH_MAXPROCS", "2");
    command.envs(variables.iter().copied());
    command.output().expect("examples are built with the tests")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn schedtrace_has_gos_fields_in_gos_order() {
    let out = example(&[("WIREPATH_SCHEDTRACE", "50")]);
    let lines = text(&out.stderr);
    assert!(out.status.success(), "{lines}");
    assert!(lines.lines().count() >= 5, "{lines}");
    let fields = [
        "gomaxprocs=",
        "idleprocs=",
        "threads=",
        "spinningthreads=",
        "needspinning=",
        "idlethreads=",
        "runqueue=",
        "[",
        "]",
        "schedticks=[",
        "]",
        "boundwaiting=",
        "wanting=",
        "blocking=",
        "spareprocs=",
        "longruns=",
    ];
    for line in lines.lines() {
        let (head, rest) = line.split_once("ms: ").unwrap();
        head.strip_prefix("SCHED ").unwrap().parse::<u64>().unwrap();
        let words = rest.split(' ').filter(|w| w.parse::<u64>().is_err());
        let names: Vec<_> = words
            .map(|w| w.trim_end_matches(char::is_numeric))
            .collect();
        assert_eq!(names, fields, "{line}");
        assert!(rest.starts_with("gomaxprocs=2 "), "{line}");
    }
    // While everything sleeps there are lines too, and the long run is counted.
    assert!(lines.contains(" idleprocs=2 "), "{lines}");
    assert!(
        lines.lines().last().unwrap().contains(" longruns=1"),
        "{lines}"
    );
    assert!(lines.contains(" blocking=1 "), "{lines}");
}

#[test]
fn scheddetail_adds_a_line_for_each_actor() {
    let out = example(&[("WIREPATH_SCHEDTRACE", "50"), ("WIREPATH_SCHEDDETAIL", "1")]);
    let lines = text(&out.stderr);
    for wanted in [
        "  P0: status=",
        "  P1: status=",
        "  M0: p=",
        ": status=4(chan receive) m=nil lockedm=",
        ": status=4(sleep) m=nil",
        ": status=2() m=",
        ": status=3() m=",
    ] {
        assert!(lines.contains(wanted), "{wanted} in {lines}");
    }
}

#[test]
fn leaks_are_listed_by_site_when_asked_for() {
    let out = example(&[("WIREPATH_LEAKS", "1")]);
    let report = text(&out.stderr);
    let mut lines = report.lines();
    assert_eq!(
        lines.next(),
        Some("goroutines left at the end: 4"),
        "{report}"
    );
    let receivers = lines.next().unwrap();
    let site = "[chan receive] created at runtime/examples/seen.rs:";
    assert!(receivers.starts_with(&format!("3 {site}")), "{report}");
    assert_eq!(
        lines
            .filter(|l| l.starts_with("1 [sleep] created at"))
            .count(),
        1,
        "{report}"
    );
    let quiet = example(&[]);
    assert_eq!(text(&quiet.stderr), "", "nothing is printed unasked");
    let dump = text(&quiet.stdout);
    assert!(dump.contains(" [chan receive, bound to M"), "{dump}");
    assert!(dump.contains("[syscall, blocking M"), "{dump}");
}

#[test]
fn a_bad_value_ends_the_build_with_words() {
    for variable in [
        "WIREPATH_SCHEDTRACE",
        "WIREPATH_SCHEDDETAIL",
        "WIREPATH_LEAKS",
    ] {
        let out = example(&[(variable, "often")]);
        assert_eq!(out.status.code(), Some(2));
        let why = text(&out.stderr);
        assert!(
            why.starts_with(&format!("{variable}=\"often\" is n")),
            "{why}"
        );
        assert!(why.contains("unset it or mend it"), "{why}");
    }
}

#[test]
fn steps_that_wait_are_not_bound_in_a_dump() {
    let rt = runtime(1);
    rt.steps(false, |slept| {
        if std::mem::replace(slept, true) {
            Next::Done
        } else {
            Next::Sleep(wirepath_runtime::now() + Duration::from_secs(3600))
        }
    });
    wait_until("the sleep", || {
        rt.dump(10).contains("goroutine 1 [sleep]:\n")
    });
    assert_eq!(metric(&rt, "goroutines_bound"), 0);
}

#[test]
fn who_waits_for_the_network_shows_the_connection() {
    let lab = Lab::new();
    let (ready, address) = channel(1);
    lab.server.go(move || {
        let listener = TcpListener::bind((SERVER, 0)).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let reader = go_named("reader", move || {
            let _ = stream.read(&mut [0; 8]);
            // Open, and no more is read.
            sleep(Duration::from_secs(3600));
        });
        let _ = listener.accept();
        reader.join().unwrap();
    });
    let (begin, begun) = channel::<()>(1);
    let client = lab.client.go(move || {
        let addr = address.recv().unwrap();
        let mut stream = TcpStream::connect(addr).unwrap();
        let local = stream.local_addr().unwrap();
        go_named("writer", move || {
            begun.recv().unwrap();
            // More than the peer, who reads little, has room for.
            stream.write_all(&vec![7; 1 << 20])
        });
        (addr, local)
    });
    let (server, client) = client.join().unwrap();
    let flow = format!("tcp {server} -> {client} ESTABLISHED, recv-q 0, send-q 0; to read");
    let listens = format!("tcp {server} LISTEN, accept-q 0 of 4096, half-open 0; to accept");
    wait_until("both waits", || {
        let dump = lab.server.dump(10);
        let reader = about(&dump, "reader")
            .is_some_and(|part| part.contains("[IO wait, bound to M") && part.contains(&flow));
        reader && dump.contains(&listens)
    });
    begin.send(()).unwrap();
    let flow = format!("tcp {client} -> {server} ESTABLISHED, recv-q 0, send-q ");
    wait_until("the full buffer", || {
        let dump = lab.client.dump(10);
        about(&dump, "writer").is_some_and(|part| {
            let line = part.lines().nth(1).unwrap_or_default();
            let queue = line
                .split(&flow)
                .nth(1)
                .and_then(|rest| rest.strip_suffix("; to write"));
            queue.is_some_and(|n| n.parse::<usize>().unwrap() > 0)
        })
    });
}

#[test]
fn a_goroutine_with_a_thread_of_its_own_says_so_and_its_thread_ends() {
    let rt = runtime(1);
    let (send, receive) = channel::<()>(0);
    let main = rt.go(move || {
        goroutine()
            .own_thread()
            .go(move || receive.recv().is_err())
            .join()
            .unwrap()
    });
    let locked = "[chan receive, locked to thread M";
    wait_until("the wait", || rt.dump(10).contains(locked));
    let before = metric(&rt, "threads");
    drop(send);
    assert!(main.join().unwrap());
    wait_until("the end of the thread", || {
        metric(&rt, "threads") == before - 1
    });
    wait_until("the count", || metric(&rt, "goroutines_live") == 0);
}

#[test]
fn who_waits_for_the_kernel_shows_the_socket() {
    let rt = runtime(2);
    let (ready, address) = channel(1);
    rt.go(move || {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        go_named("reader", move || stream.read(&mut [0; 8]).map(|_| ()));
        let _ = listener.accept();
    });
    let server = rt.go(move || address.recv().unwrap()).join().unwrap();
    let client = std::net::TcpStream::connect(server).unwrap();
    let peer = client.local_addr().unwrap();
    let flow = format!("tcp {server} -> {peer} ESTABLISHED, recv-q 0, send-q 0; to read");
    let listens = format!("tcp {server} LISTEN, accept-q 0; to accept");
    wait_until("both waits", || {
        let dump = rt.dump(10);
        let reader = about(&dump, "reader").is_some_and(|part| part.contains(&flow));
        reader && dump.contains(&listens) && dump.contains("\n\tkernel fd ")
    });
}
