//! Timers in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::chan::TryRecvError;
use crate::simulation::wait;
use crate::{go, select, simulate, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn run(f: impl FnOnce() + Send + 'static) {
    simulate(1, f).unwrap();
}

fn entries() -> usize {
    crate::m::with_local(|local| {
        let shared = &local.unwrap().shared;
        shared.ps.iter().map(|p| p.timers.len()).sum()
    })
}

#[test]
fn a_timer_fires_once_at_its_time() {
    run(|| {
        let start = now();
        let timer = Timer::new(2 * SECOND);
        assert_eq!(timer.times().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(timer.times().recv(), Ok(start + 2 * SECOND));
        assert_eq!(timer.times().recv_timeout(9 * SECOND).ok(), None);
        assert!(!timer.stop());
        assert_eq!(after(SECOND).recv(), Ok(start + 12 * SECOND));
    });
}

#[test]
fn a_stopped_timer_sends_nothing_also_if_it_had_fired() {
    run(|| {
        let timer = Timer::new(SECOND);
        assert!(timer.stop() && !timer.stop());
        sleep(2 * SECOND);
        assert!(timer.times().is_empty());
        assert!(!timer.reset(SECOND));
        sleep(2 * SECOND);
        // It has fired and nobody has received that (Go 1.23).
        assert!(timer.stop());
        assert!(timer.times().is_empty());
    });
}

#[test]
fn a_reset_leaves_no_stale_time() {
    run(|| {
        let start = now();
        // (set to, reset after, reset to)
        for (first, at, second) in [(5, 1, 10), (5, 1, 1), (1, 3, 2), (4, 1, 3)] {
            let begin = now();
            let timer = Timer::new(first * SECOND);
            sleep(at * SECOND);
            let fires = now() + second * SECOND;
            assert!(timer.reset(second * SECOND));
            assert_eq!(timer.times().recv(), Ok(fires), "{:?}", begin.since(start));
            assert_eq!(timer.times().recv_timeout(20 * SECOND).ok(), None);
        }
    });
}

#[test]
fn moving_a_timer_away_costs_no_entries() {
    run(|| {
        let timer = Timer::new(SECOND);
        let before = entries();
        for i in 0..10_000 {
            timer.reset(SECOND + Duration::from_nanos(i));
            timer.stop();
        }
        assert_eq!(entries(), before);
        // Nearer each time: the old ones are swept out.
        for i in 0..10_000 {
            timer.reset(SECOND - Duration::from_nanos(i));
        }
        assert!(entries() < 1_000, "{} entries", entries());
        assert!(timer.times().recv().is_ok());
    });
}

#[test]
fn timers_that_nobody_hears_do_not_pile_up() {
    run(|| {
        let kept = after(3_600 * SECOND);
        for _ in 0..10_000 {
            drop(after(3_600 * SECOND));
            drop(tick(3_600 * SECOND));
        }
        assert!(entries() < 1_000, "{} entries", entries());
        let start = now();
        assert_eq!(kept.recv(), Ok(start + 3_600 * SECOND));
    });
}

#[test]
fn a_wait_with_a_timeout_leaves_no_entry_for_long() {
    run(|| {
        let (tx, rx) = channel(1);
        for i in 0..10_000 {
            tx.send(i).unwrap();
            let (late, from_late) = channel::<u8>(0);
            let sender = go(move || late.send(1));
            from_late.recv_timeout(3_600 * SECOND).unwrap();
            sender.join().unwrap().unwrap();
            assert_eq!(rx.recv_timeout(3_600 * SECOND), Ok(i));
        }
        assert!(entries() < 1_000, "{} entries", entries());
    });
}

#[test]
fn a_ticker_drops_what_is_not_received_in_time() {
    run(|| {
        let start = now();
        let ticker = Ticker::new(SECOND);
        assert_eq!(ticker.times().recv(), Ok(start + SECOND));
        assert_eq!(ticker.times().recv(), Ok(start + 2 * SECOND));
        sleep(3 * SECOND + SECOND / 2);
        // The first that was missed is there, the others are gone.
        assert_eq!(ticker.times().recv(), Ok(start + 3 * SECOND));
        assert_eq!(ticker.times().recv(), Ok(start + 6 * SECOND));
        ticker.reset(5 * SECOND);
        assert_eq!(ticker.times().recv(), Ok(start + 11 * SECOND));
        ticker.stop();
        assert_eq!(ticker.times().recv_timeout(60 * SECOND).ok(), None);
    });
}

#[test]
fn ticks_that_come_late_are_skipped() {
    let second = 1_000_000_000;
    // (when, period, now, next)
    for (when, period, at, next) in [
        (10, 10, 10, 20),
        (10, 10, 19, 20),
        (10, 10, 20, 30),
        (10, 10, 55, 60),
        (second, second, 7 * second + 1, 8 * second),
    ] {
        let got = next_tick(Nanos(when), Duration::from_nanos(period), Nanos(at));
        assert_eq!(got, Nanos(next));
    }
}

#[test]
fn functions_are_called_in_goroutines_of_their_own() {
    run(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let called = calls.clone();
        let timer = after_func(SECOND, move || {
            sleep(SECOND);
            called.fetch_add(1, Ordering::SeqCst);
        });
        assert!(timer.reset(2 * SECOND));
        sleep(2 * SECOND);
        wait();
        assert_eq!(calls.load(Ordering::SeqCst), 0, "it sleeps");
        assert!(!timer.stop(), "it was called");
        sleep(SECOND);
        wait();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(!timer.reset(SECOND));
        assert!(timer.stop());
        sleep(5 * SECOND);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_timer_is_a_case_of_a_select() {
    run(|| {
        let (_tx, rx) = channel::<u8>(0);
        let timer = Timer::new(3 * SECOND);
        let ticker = Ticker::new(SECOND);
        let mut ticks = 0;
        loop {
            select! {
                recv(rx) => unreachable!("nothing is sent"),
                recv(ticker) => ticks += 1,
                recv(timer) -> at => { at.unwrap(); break; }
            }
        }
        assert!((2..=3).contains(&ticks), "{ticks}");
        let start = now();
        let ended = select! {
            recv(rx) => false,
            recv(after(SECOND)) => true,
        };
        assert!(ended && now().since(start) == SECOND);
    });
}

#[test]
#[should_panic(expected = "a period above zero")]
fn a_ticker_needs_a_period() {
    Ticker::new(Duration::ZERO);
}
