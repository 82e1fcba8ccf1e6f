//! Spans of `tracing` belong to goroutines, however these interleave.
//!
//! A test binary of its own: the subscriber is the process's.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tracing::span::Id;
use tracing::{Event, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use wirepath_runtime::{Next, Runtime, chan, go, sleep, steps, yield_now};

/// Keeps, for each event, its message and the names of the spans around it.
#[derive(Clone, Default)]
struct Keep(Arc<Mutex<Vec<(String, String)>>>);

struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if matches!(field.name(), "message" | "who") {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, attrs: &tracing::span::Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut who = Message(String::new());
        attrs.record(&mut who);
        let span = ctx.span(id).expect("it is new");
        span.extensions_mut().insert(who.0);
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let scope = ctx.event_scope(event);
        let names = scope.into_iter().flat_map(|scope| {
            scope.from_root().map(|span| {
                let extensions = span.extensions();
                extensions.get::<String>().cloned().unwrap_or_default()
            })
        });
        let names = names.collect::<Vec<_>>().join("/");
        self.0.lock().unwrap().push((message.0, names));
    }

    /// A subscriber that waits as goroutines do while spans are left and
    /// entered.
    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        sleep(Duration::from_nanos(1));
    }
}

/// Runs `f` and returns the events that begin with `prefix`.
fn events(procs: usize, prefix: &str, f: impl FnOnce() + Send + 'static) -> Vec<(String, String)> {
    static KEEP: OnceLock<Keep> = OnceLock::new();
    let keep = KEEP.get_or_init(|| {
        let keep = Keep::default();
        let subscriber = tracing_subscriber::registry().with(keep.clone());
        tracing::subscriber::set_global_default(subscriber).expect("set once");
        keep
    });
    let rt = Runtime::builder().max_procs(procs).build().unwrap();
    rt.run(f).unwrap();
    let mut kept = keep.0.lock().unwrap().clone();
    kept.retain(|(message, _)| message.starts_with(prefix));
    kept
}

/// What each of many goroutines does that run between each other.
fn interleave(prefix: &'static str, turn: fn()) {
    let workers: Vec<_> = (0..50)
        .map(|i| {
            go(move || {
                let outer = info_span!("outer", who = %format!("{prefix}{i}")).entered();
                for k in 0..4 {
                    turn();
                    info!("{prefix}{i}");
                    let _inner = info_span!("inner", who = %k).entered();
                    turn();
                    info!("{prefix}{i}/{k}");
                }
                drop(outer);
                turn();
                info!("{prefix}-none");
            })
        })
        .collect();
    workers.into_iter().for_each(|w| w.join().unwrap());
}

#[track_caller]
fn check(events: &[(String, String)], prefix: &str) {
    assert_eq!(events.len(), 50 * 9);
    for (message, spans) in events {
        let none = format!("{prefix}-none");
        let want = if *message == none { "" } else { message };
        assert_eq!(spans, want);
    }
}

#[test]
fn an_event_is_in_its_own_goroutines_spans() {
    let kept = events(1, "y", || interleave("y", yield_now));
    check(&kept, "y");
    let kept = events(1, "s", || {
        interleave("s", || sleep(Duration::from_micros(100)));
    });
    check(&kept, "s");
    let kept = events(3, "m", || {
        interleave("m", || sleep(Duration::from_micros(100)));
    });
    check(&kept, "m");
}

#[test]
fn steps_that_migrate_keep_their_own() {
    let kept = events(2, "t", || {
        let stepping: Vec<_> = (0..40)
            .map(|i| {
                steps(0, move |n| {
                    let _span = info_span!("step", who = %format!("t{i}-{n}")).entered();
                    sleep(Duration::from_micros(50));
                    info!("t{i}-{n}");
                    *n += 1;
                    if *n == 10 { Next::Done } else { Next::Yield }
                })
            })
            .collect();
        stepping.into_iter().for_each(|s| s.join().unwrap());
    });
    assert_eq!(kept.len(), 400);
    assert!(kept.iter().all(|(message, spans)| message == spans));
}

/// A span that is entered twice, and one that is left in another order than it
/// was entered in.
fn crossing(turn: fn()) {
    let a = info_span!("a", who = "na");
    let b = info_span!("b", who = "nb");
    let outer = a.enter();
    let middle = b.enter();
    let again = a.enter();
    turn();
    info!("n1");
    drop(middle);
    turn();
    info!("n2");
    drop(again);
    turn();
    info!("n3");
    drop(outer);
    turn();
    info!("n4");
}

#[test]
fn spans_that_do_not_nest_come_back() {
    let kept = events(1, "n", || {
        crossing(|| ());
        let others: Vec<_> = (0..3).map(|_| go(|| crossing(yield_now))).collect();
        others.into_iter().for_each(|g| g.join().unwrap());
    });
    for n in 1..=4 {
        let spans = |(message, spans): &(String, String)| {
            (*message == format!("n{n}")).then(|| spans.clone())
        };
        let got: Vec<_> = kept.iter().filter_map(spans).collect();
        assert_eq!(got, vec![got[0].clone(); 4], "n{n} as without a switch");
    }
}

#[test]
fn a_wake_that_comes_while_spans_are_left_is_not_lost() {
    let kept = events(1, "w", || {
        let (tx, rx) = chan::channel::<u32>(0);
        let receiver = go(move || {
            let _span = info_span!("receiver", who = "w").entered();
            let got: u32 = rx.iter().sum();
            info!("w{got}");
        });
        for i in 0..100 {
            let _span = info_span!("sender", who = i).entered();
            tx.send(i).unwrap();
        }
        drop(tx);
        receiver.join().unwrap();
    });
    assert_eq!(kept, [("w4950".to_string(), "\"w\"".to_string())]);
}
