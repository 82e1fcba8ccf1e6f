//! The scheduler's part of a trace tells what happened, in order. One test in a
//! process of its own, since the rings are the process's.

use std::time::Duration;

use wirepath_runtime::trace::{self, Event, Kind, Label};
use wirepath_runtime::{Runtime, blocking, chan, current_id, go, sleep, yield_now};

fn text(label: Label) -> String {
    let number = usize::from(label.0);
    let labels = trace::labels();
    let text = number.checked_sub(1).and_then(|at| labels.get(at));
    text.map_or_else(String::new, ToString::to_string)
}

/// The kinds of a goroutine's own events, in order.
fn life(events: &[Event], g: u64) -> Vec<Kind> {
    let mine = |e: &&Event| e.actor.g == g && e.kind != Kind::GoCreate && e.kind != Kind::GoUnblock;
    events.iter().filter(mine).map(|e| e.kind).collect()
}

#[test]
fn a_goroutines_life_is_told() {
    trace::enable(1 << 12);
    let runtime = Runtime::builder().max_procs(2).build().unwrap();
    let (main, worker) = runtime
        .run(|| {
            let (tx, rx) = chan::channel::<u64>(0);
            let worker = go(move || {
                let me = current_id().expect("on a goroutine");
                rx.recv().unwrap();
                yield_now();
                blocking(|| ());
                sleep(Duration::from_millis(1));
                me
            });
            // The worker waits by then.
            sleep(Duration::from_millis(20));
            tx.send(7).unwrap();
            (
                current_id().expect("on a goroutine"),
                worker.join().unwrap(),
            )
        })
        .unwrap();
    runtime.shutdown(Duration::from_secs(1));
    let snapshot = trace::snapshot();
    trace::disable();
    let events = &snapshot.events;
    assert_eq!(snapshot.lost, 0);
    assert!(events.is_sorted_by_key(|e| e.at));
    assert_eq!(
        life(events, worker),
        [
            Kind::GRun,
            Kind::GoBlock,
            Kind::GRun,
            Kind::GoYield,
            Kind::GRun,
            Kind::GoBlocking,
            Kind::GoUnblocked,
            Kind::GoBlock,
            Kind::GRun,
            Kind::GoEnd,
        ]
    );
    let of = |kind: Kind, g: u64| {
        let found = events
            .iter()
            .filter(move |e| e.kind == kind && e.target() == g);
        found.copied().collect::<Vec<_>>()
    };
    let created = of(Kind::GoCreate, worker);
    assert_eq!((created.len(), created[0].actor.g), (1, main));
    assert!(text(created[0].label()).contains("runtime/tests/events.rs:"));
    // By main, and by the timer, as which nobody or whoever polls runs.
    let woken = of(Kind::GoUnblock, worker);
    assert_eq!((woken.len(), woken[0].actor.g), (2, main));
    let reasons = events
        .iter()
        .filter(|e| e.kind == Kind::GoBlock && e.actor.g == worker);
    let reasons: Vec<_> = reasons.map(|e| text(e.label())).collect();
    assert_eq!(reasons, ["chan receive", "sleep"]);
    let runs = events.iter().filter(|e| e.kind == Kind::GRun);
    assert!(runs.clone().all(|e| e.actor.p > 0 && e.actor.m > 0));
    assert!(events.iter().any(|e| e.kind == Kind::ProcStart));
    assert!(events.iter().any(|e| e.kind == Kind::ProcStop));
}
