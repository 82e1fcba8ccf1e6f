use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Runtime, go, now, select, simulate, sleep, yield_now};

const SECOND: Duration = Duration::from_secs(1);

/// In virtual time.
#[track_caller]
fn run(f: impl FnOnce() + Send + 'static) {
    simulate(1, f).unwrap();
}

#[test]
fn an_end_reaches_all_that_was_made_from_it_and_nothing_else() {
    let root = Context::background();
    let (parent, cancel) = root.with_cancel();
    let (child, cancel_child) = parent.with_value(5_u8).with_cancel();
    let grandchild = child.with_value("x");
    let (sibling, _keep) = parent.with_cancel();
    let detached = child.without_cancel();
    cancel_child.cancel();
    let errs = [&root, &parent, &child, &grandchild, &sibling, &detached].map(Context::err);
    let ended = Some(ContextError::Cancelled);
    assert_eq!(errs, [None, None, ended, ended, None, None]);
    cancel.cancel();
    let errs = [&parent, &sibling, &detached].map(Context::err);
    assert_eq!(errs, [ended, ended, None]);
    assert_eq!(detached.value(), Some(&5_u8));
    // What is made from one that has ended has ended.
    assert_eq!(parent.with_cancel().0.err(), ended);
    assert!(parent.with_cancel().0.done().unwrap().try_recv().is_err());
    assert!(root.done().is_none());
}

#[test]
fn the_first_cause_counts_and_is_inherited() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    assert!(child.cause().is_none());
    cancel.cancel_cause("the client left");
    cancel_child.cancel_cause("too late");
    cancel.cancel();
    for ctx in [&parent, &child] {
        assert_eq!(ctx.cause().unwrap().to_string(), "the client left");
        assert_eq!(ctx.err(), Some(ContextError::Cancelled));
    }
    let (plain, cancel) = Context::background().with_cancel();
    cancel.cancel();
    assert_eq!(plain.cause().unwrap().to_string(), "context canceled");
}

#[test]
fn values_are_found_by_their_type_in_the_nearest() {
    #[derive(Debug, PartialEq)]
    struct User(u32);
    let ctx = Context::background().with_value(User(1)).with_value(7_u64);
    let inner = ctx.with_value(User(2));
    assert_eq!(ctx.value(), Some(&User(1)));
    assert_eq!(inner.value(), Some(&User(2)));
    assert_eq!(inner.value(), Some(&7_u64));
    assert_eq!(inner.value::<u8>(), None);
}

#[test]
fn deadlines_end_contexts_in_their_time() {
    run(|| {
        let start = now();
        let long = Context::background().with_timeout(3 * SECOND);
        let short = long.with_timeout(SECOND);
        // One cannot outlive the other.
        let longer = long.with_timeout(9 * SECOND);
        assert_eq!(longer.deadline(), Some(start + 3 * SECOND));
        for (ctx, ends) in [(&short, 1), (&longer, 3), (&long, 3)] {
            select! { recv(ctx.done()) => {} }
            assert_eq!(now().since(start), ends * SECOND);
            assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
        }
        let past = Context::background().with_deadline(start);
        assert_eq!(past.err(), Some(ContextError::DeadlineExceeded));
        assert_eq!(
            past.cause().unwrap().to_string(),
            "context deadline exceeded"
        );
    });
}

#[test]
fn functions_are_called_at_the_end_unless_stopped() {
    run(|| {
        let called = Arc::new(AtomicUsize::new(0));
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _keep) = ctx.with_cancel();
        let add = |n: usize| {
            let called = called.clone();
            move || {
                called.fetch_add(n, Ordering::SeqCst);
            }
        };
        let first = child.after_func(add(1));
        let stopped = child.after_func(add(10));
        assert!(stopped.stop() && !stopped.stop());
        cancel.cancel();
        assert!(!first.stop());
        crate::simulation::wait();
        assert_eq!(called.load(Ordering::SeqCst), 1);
        child.after_func(add(100));
        assert!(!Context::background().after_func(add(1_000)).stop());
        crate::simulation::wait();
        assert_eq!(called.load(Ordering::SeqCst), 101);
    });
}

#[test]
fn a_parent_forgets_children_that_are_dropped() {
    let (parent, _cancel) = Context::background().with_cancel();
    let heirs = || parent.0.signal.as_ref().unwrap().state.lock().heirs.len();
    let (child, cancel) = parent.with_cancel();
    let grandchild = child.with_value(1).with_cancel();
    assert_eq!(heirs(), 1);
    drop((child, cancel));
    assert_eq!(heirs(), 1, "the grandchild ends with it");
    drop(grandchild);
    assert_eq!(heirs(), 0);
}

#[test]
fn a_long_chain_is_dropped_and_ended_without_much_stack() {
    let (mut ctx, cancel) = Context::background().with_cancel();
    let mut keep = Vec::new();
    for i in 0..100_000 {
        let (next, cancel) = ctx.with_value(i).with_cancel();
        ctx = next;
        keep.push(cancel);
    }
    cancel.cancel();
    assert_eq!(ctx.err(), Some(ContextError::Cancelled));
    drop(keep);
    drop(ctx);
}

#[test]
fn ends_from_many_sides_at_once_reach_everybody() {
    let rt = Runtime::builder().max_procs(2).build().unwrap();
    rt.run(|| {
        for _ in 0..200 {
            let (root, cancel) = Context::background().with_cancel();
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let root = root.clone();
                    go(move || {
                        let (child, own) = root.with_cancel();
                        go(move || own.cancel());
                        select! { recv(child.done()) => child.err() }
                    })
                })
                .collect();
            yield_now();
            cancel.cancel();
            for one in waiting {
                assert_eq!(one.join().unwrap(), Some(ContextError::Cancelled));
            }
        }
    })
    .unwrap();
}

#[test]
fn deadlines_that_nobody_waits_for_do_not_pile_up() {
    run(|| {
        for _ in 0..10_000 {
            drop(Context::background().with_timeout(3_600 * SECOND));
        }
        let entries: usize = crate::m::with_local(|local| {
            let shared = &local.unwrap().shared;
            shared.ps.iter().map(|p| p.timers.len()).sum()
        });
        assert!(entries < 1_000, "{entries} entries");
        sleep(SECOND);
    });
}
