//! What a select promises, in threads; under `--cfg loom`, in every
//! interleaving of few.

#[cfg(loom)]
mod modelled {
    use loom::thread;
    use std::time::Duration;

    use crate::chan::channel;
    use crate::select;

    /// The model's time is always up.
    const SOON: Duration = Duration::ZERO;

    #[test]
    fn loom_select_receives_once_from_two_senders() {
        loom::model(|| {
            let (a, from_a) = channel(0);
            let (b, from_b) = channel(0);
            let a = thread::spawn(move || a.send_timeout(1, SOON).is_ok());
            let b = thread::spawn(move || b.send_timeout(2, SOON).is_ok());
            let got = select! {
                recv(from_a) -> v => v.map_or(0, |v: i32| v),
                recv(from_b) -> v => v.map_or(0, |v: i32| v),
            };
            drop((from_a, from_b));
            let (a, b) = (a.join().unwrap(), b.join().unwrap());
            // A channel whose sender gave up is closed, which is ready too.
            assert_eq!((a, b), (got == 1, got == 2));
        });
    }

    #[test]
    fn loom_selects_that_face_each_other_meet() {
        loom::model(|| {
            let (a, from_a) = channel(0);
            let (b, from_b) = channel(0);
            let (a2, from_a2) = (a.clone(), from_a.clone());
            let (b2, from_b2) = (b.clone(), from_b.clone());
            let other = thread::spawn(move || {
                select! {
                    send(b2, 2) -> sent => (sent.is_ok(), 0),
                    recv(from_a2) -> v => (false, v.unwrap()),
                }
            });
            let (sent, got) = select! {
                send(a, 1) -> sent => (sent.is_ok(), 0),
                recv(from_b) -> v => (false, v.unwrap()),
            };
            let (other_sent, other_got) = other.join().unwrap();
            match (sent, other_sent) {
                (true, false) => assert_eq!((got, other_got), (0, 1)),
                (false, true) => assert_eq!((got, other_got), (2, 0)),
                _ => panic!("each did the same as the other"),
            }
            drop((a2, from_a, b, from_b2));
        });
    }

    #[test]
    fn loom_select_and_a_close() {
        loom::model(|| {
            let (a, from_a) = channel::<u8>(0);
            let (b, from_b) = channel(0);
            let closer = thread::spawn(move || a.close());
            let receiver = thread::spawn(move || from_b.recv_timeout(SOON).is_ok());
            let (closed, sent) = select! {
                recv(from_a) -> v => (v.is_err(), false),
                send(b, 5) -> sent => (false, sent.is_ok()),
            };
            closer.join().unwrap();
            assert_eq!(receiver.join().unwrap(), sent);
            // Without receivers a send is refused.
            assert!(closed || sent || b.try_send(6).is_err());
        });
    }

    #[test]
    fn loom_select_that_gives_up_has_sent_nothing() {
        loom::model(|| {
            let (a, from_a) = channel(0);
            let receiver = thread::spawn(move || from_a.recv_timeout(SOON).is_ok());
            let sent = select! {
                send(a, 5) -> sent => sent.is_ok(),
                default(SOON) => false,
            };
            drop(a);
            assert_eq!(receiver.join().unwrap(), sent);
        });
    }
}

#[cfg(not(loom))]
mod threads {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::chan::{Receiver, RecvError, SendError, Sender, channel, never};
    use crate::select;
    use crate::select::Select;

    const LONG: Duration = Duration::from_secs(60);

    #[track_caller]
    fn wait_until(mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
            thread::yield_now();
        }
    }

    #[test]
    fn takes_what_is_ready() {
        let (tx, rx) = channel(1);
        let (full, _from_full) = channel(0);
        let mut seen = Vec::new();
        for _ in 0..2 {
            select! {
                recv(rx) -> v => seen.push(v),
                send(tx, 7) -> sent => sent.unwrap(),
                send(full, 1) => unreachable!("nobody receives"),
            }
        }
        assert_eq!(seen, [Ok(7)]);
    }

    #[test]
    fn default_when_nothing_is_ready() {
        let (tx, rx) = channel::<u8>(0);
        let got = select! {
            recv(rx) -> _ => 1,
            send(tx, 1) -> _ => 2,
            default => 3,
        };
        assert_eq!(got, 3);
        let got = select! {
            recv(&rx) -> _ => { 1 }
            default(Duration::from_millis(5)) => { 3 }
        };
        assert_eq!(got, 3);
        let got = select! { default => 4 };
        assert_eq!(got, 4);
    }

    #[test]
    fn closed_channels_are_ready() {
        let (tx, rx) = channel::<u8>(0);
        tx.close();
        let got = select! {
            recv(rx) -> v => v,
            recv(never::<u8>()) -> _ => unreachable!("never"),
        };
        assert_eq!(got, Err(RecvError));
        let sent = select! { send(tx, 5) -> sent => sent };
        assert_eq!(sent, Err(SendError(5)));
    }

    #[test]
    #[should_panic(expected = "send on a closed channel")]
    fn a_send_that_is_not_asked_for_panics_when_closed() {
        let (tx, rx) = channel::<u8>(0);
        drop(rx);
        select! { send(tx, 5) => {} }
    }

    #[test]
    fn none_is_never_ready() {
        let (tx, rx) = channel(1);
        tx.send(1).unwrap();
        let mut from = Some(&rx);
        let mut got = Vec::new();
        for _ in 0..2 {
            select! {
                recv(from) -> v => { got.push(v.unwrap()); from = None; }
                send(None::<&Sender<u8>>, 1) => unreachable!("nobody"),
                default => got.push(0),
            }
        }
        assert_eq!(got, [1, 0]);
    }

    #[test]
    fn expressions_are_evaluated_once_and_in_order() {
        let (tx, rx) = channel(0);
        let (tx, rx) = (&tx, &rx);
        let order = std::cell::RefCell::new(Vec::new());
        let note = |n: u8| order.borrow_mut().push(n);
        select! {
            recv({ note(1); rx }) -> _ => {}
            send({ note(2); tx }, { note(3); 9 }) => {}
            default({ note(4); Duration::ZERO }) => {}
        }
        assert_eq!(*order.borrow(), [1, 2, 3, 4]);
    }

    #[test]
    fn values_that_were_not_sent_are_dropped_before_the_body() {
        let value = Arc::new(());
        let (tx, _rx) = channel(0);
        select! {
            send(tx, value.clone()) => {}
            default => assert_eq!(Arc::strong_count(&value), 1),
        }
    }

    #[test]
    fn bodies_may_leave_a_loop_and_a_function() {
        fn first(rx: &Receiver<u32>) -> Option<u32> {
            loop {
                select! {
                    recv(rx) -> v => {
                        let v = v.ok()?;
                        if v == 1 { continue; }
                        break Some(v);
                    }
                }
            }
        }
        let (tx, rx) = channel(4);
        (1..3).for_each(|i| tx.send(i).unwrap());
        assert_eq!(first(&rx), Some(2));
        drop(tx);
        assert_eq!(first(&rx), None);
    }

    /// Go: each ready case is taken with the same probability.
    #[test]
    fn ready_cases_take_turns() {
        let channels: Vec<_> = (0..3).map(|_| channel::<u8>(1)).collect();
        let mut taken = [0_u32; 3];
        for _ in 0..6_000 {
            for (tx, _) in &channels {
                let _ = tx.try_send(1);
            }
            let case = select! {
                recv(channels[0].1) => 0,
                recv(channels[1].1) => 1,
                recv(channels[2].1) => 2,
            };
            taken[case as usize] += 1;
        }
        // 2,000 each; the deviation is 36.
        assert!(
            taken.iter().all(|n| (1_700..2_300).contains(n)),
            "{taken:?}"
        );
    }

    #[test]
    fn a_close_ends_a_select_that_waits() {
        let (tx, rx) = channel::<u8>(0);
        let (_keep, other) = channel::<u8>(0);
        let waiter = thread::spawn({
            let rx = rx.clone();
            move || {
                select! {
                    recv(rx) -> v => v,
                    recv(other) -> v => v,
                }
            }
        });
        wait_until(|| rx.has_waiters());
        tx.close();
        assert_eq!(waiter.join().unwrap(), Err(RecvError));
        assert!(!rx.has_waiters());
    }

    #[test]
    fn a_close_returns_the_value_of_a_select_that_waits() {
        let (tx, rx) = channel(0);
        let (_keep, other) = channel::<u8>(0);
        let waiter = thread::spawn({
            let tx = tx.clone();
            move || {
                select! {
                    send(tx, String::from("mine")) -> sent => sent.unwrap_err().0,
                    recv(other) => unreachable!("nothing is sent"),
                }
            }
        });
        wait_until(|| rx.has_waiters());
        drop(rx);
        assert_eq!(waiter.join().unwrap(), "mine");
        assert!(!tx.has_waiters());
    }

    #[test]
    fn a_select_does_not_meet_itself() {
        let (tx, rx) = channel(0);
        let got = select! {
            send(tx, 1) -> _ => 1,
            recv(rx) -> _ => 2,
            default(Duration::from_millis(20)) => 3,
        };
        assert_eq!(got, 3);
        // But each of its halves meets others.
        let peer = (tx.clone(), rx.clone());
        let waiter = thread::spawn(move || {
            select! {
                send(peer.0, 1) -> _ => None,
                recv(peer.1) -> v => v.ok(),
            }
        });
        wait_until(|| rx.has_waiters());
        tx.send(8).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(8));
        assert!(!rx.has_waiters());
    }

    #[test]
    fn a_select_that_gives_up_leaves_all_lists() {
        let (tx, rx) = channel::<u8>(0);
        let (tx2, rx2) = channel::<u8>(0);
        select! {
            recv(rx) => unreachable!("nothing is sent"),
            send(tx2, 1) => unreachable!("nobody receives"),
            default(Duration::from_millis(5)) => {}
        }
        assert!(!tx.has_waiters() && !rx2.has_waiters());
    }

    /// Go's `TestSelectDuplicateChannel`: one channel may be in two cases.
    #[test]
    fn a_channel_in_two_cases() {
        let (tx, rx) = channel(0);
        let waiter = thread::spawn({
            let rx = rx.clone();
            move || {
                select! {
                    recv(rx) -> v => v.unwrap(),
                    recv(rx) -> v => v.unwrap() + 100,
                }
            }
        });
        wait_until(|| rx.has_waiters());
        tx.send(5).unwrap();
        assert!([5, 105].contains(&waiter.join().unwrap()));
        assert!(!rx.has_waiters());
    }

    /// Go's `TestSelfSelect`: goroutines that select to send and receive on one
    /// channel meet each other, never themselves.
    #[test]
    fn selects_on_one_channel_pair_up() {
        const ROUNDS: usize = 3_000;
        for capacity in [0, 10] {
            let (tx, rx) = channel(capacity);
            let work = |me: usize| {
                let (tx, rx) = (tx.clone(), rx.clone());
                thread::spawn(move || {
                    for i in 0..ROUNDS {
                        let _ = i;
                        select! {
                            send(tx, me) => {}
                            recv(rx) -> v => assert!(capacity > 0 || v != Ok(me), "met itself"),
                        }
                    }
                    drop((tx, rx));
                })
            };
            let both = [work(0), work(1)];
            // An odd one at the end is left alone: let it go.
            let (tx, rx) = (tx.clone(), rx.clone());
            while !both.iter().all(thread::JoinHandle::is_finished) {
                select! {
                    send(tx, 9) => {}
                    recv(rx) => {}
                    default(Duration::from_millis(1)) => {}
                }
            }
            both.into_iter().for_each(|t| t.join().unwrap());
        }
    }

    /// Two selects, each with both directions between them.
    #[test]
    fn selects_that_face_each_other_lose_nothing() {
        const ROUNDS: usize = 20_000;
        let (a, from_a) = channel(0);
        let (b, from_b) = channel(0);
        let work = |tx: Sender<usize>, rx: Receiver<usize>| {
            thread::spawn(move || {
                let (mut sent, mut got) = (0, 0);
                while sent + got < ROUNDS {
                    select! {
                        send(tx, 1) => sent += 1,
                        recv(rx) => got += 1,
                    }
                }
                (sent, got)
            })
        };
        let (one, two) = (work(a, from_b), work(b, from_a));
        let ((sent, got), (sent2, got2)) = (one.join().unwrap(), two.join().unwrap());
        assert_eq!((sent, got), (got2, sent2));
    }

    #[test]
    fn nothing_is_lost_or_doubled_among_selects() {
        const EACH: usize = 4_000;
        for capacity in [0, 1, 3] {
            let channels: Vec<_> = (0..3).map(|_| channel::<usize>(capacity)).collect();
            let got = Arc::new(
                (0..3 * EACH)
                    .map(|_| AtomicUsize::new(0))
                    .collect::<Vec<_>>(),
            );
            thread::scope(|s| {
                let senders: Vec<_> = (0..3)
                    .map(|who| {
                        let txs: Vec<_> = channels.iter().map(|c| c.0.clone()).collect();
                        s.spawn(move || {
                            for i in 0..EACH {
                                let value = who * EACH + i;
                                let limit = Duration::from_micros(i as u64 % 40);
                                while !select! {
                                    send(txs[0], value) => true,
                                    send(txs[1], value) => true,
                                    send(txs[2], value) => true,
                                    default(limit) => false,
                                } {}
                            }
                        })
                    })
                    .collect();
                for _ in 0..2 {
                    let rxs: Vec<_> = channels.iter().map(|c| c.1.clone()).collect();
                    let got = got.clone();
                    s.spawn(move || {
                        let mut open: Vec<_> = rxs.iter().map(Some).collect();
                        while open.iter().any(Option::is_some) {
                            let mut select = Select::new();
                            for (i, rx) in open.iter().enumerate() {
                                select.recv(rx, move |value| (i, value));
                            }
                            match select.wait_timeout(Duration::from_micros(20)) {
                                Some((_, Ok(v))) => {
                                    got[v].fetch_add(1, Ordering::SeqCst);
                                }
                                Some((i, Err(_))) => open[i] = None,
                                None => {}
                            }
                        }
                    });
                }
                senders.into_iter().for_each(|t| t.join().unwrap());
                channels.iter().for_each(|c| c.0.close());
            });
            assert!(got.iter().all(|n| n.load(Ordering::SeqCst) == 1));
        }
    }

    #[test]
    fn a_dynamic_select_does_all_that_the_macro_does() {
        let (tx, rx) = channel(1);
        let poll = |rx: &Receiver<u8>| {
            let mut select = Select::new();
            select.recv(rx, |v| v);
            select.poll()
        };
        assert_eq!(poll(&rx), None);
        let mut select = Select::new();
        select.send(&tx, 4, |sent| sent.is_ok());
        select.recv(&None::<Receiver<u8>>, |_| false);
        assert!(select.wait());
        assert_eq!(poll(&rx), Some(Ok(4)));
        let mut select = Select::new();
        select.recv(&rx, |v| v);
        assert_eq!(select.wait_timeout(Duration::from_millis(1)), None);
        let empty: Select<'_, u8> = Select::default();
        assert_eq!(empty.poll(), None);
    }

    #[test]
    fn goroutines_and_threads_meet() {
        let rt = crate::Runtime::builder().max_procs(2).build().unwrap();
        let (tx, rx) = channel(0);
        let (done, finished) = channel::<()>(0);
        let server = rt.go(move || {
            let mut sum = 0;
            loop {
                select! {
                    recv(rx) -> v => sum += v.unwrap_or(0),
                    recv(finished) => return sum,
                }
            }
        });
        for i in 0..1_000_u64 {
            select! {
                send(tx, i) => {}
                default(LONG) => panic!("the goroutine does not receive"),
            }
        }
        drop(done);
        assert_eq!(server.join().unwrap(), 499_500);
    }

    #[test]
    fn a_shutdown_ends_a_select_that_waits() {
        let rt = crate::Runtime::builder().max_procs(1).build().unwrap();
        let (_tx, rx) = channel::<()>(0);
        let seen = rx.clone();
        let waiter = rt.go(move || {
            select! { recv(rx) => unreachable!("nothing is sent") }
        });
        let idle = rt.go(|| select! {});
        wait_until(|| seen.has_waiters());
        rt.shutdown(Duration::from_secs(20));
        for ended in [waiter.join().map(drop), idle.join().map(drop)] {
            assert!(ended.unwrap_err().is::<crate::Cancelled>());
        }
    }
}
