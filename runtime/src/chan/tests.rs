//! What a channel promises, in threads; under `--cfg loom`, in every
//! interleaving of few.

#[cfg(loom)]
mod modelled {
    use loom::thread;
    use std::time::Duration;

    use crate::chan::{RecvTimeoutError, SendTimeoutError, channel};

    /// The model's time is always up.
    const SOON: Duration = Duration::ZERO;

    #[test]
    fn a_send_that_times_out_was_not_received() {
        loom::model(|| {
            let (tx, rx) = channel(0);
            let sender = thread::spawn(move || tx.send_timeout(7, SOON));
            let received = rx.recv_timeout(SOON);
            let sent = sender.join().unwrap();
            match received {
                Ok(value) => assert!(value == 7 && sent == Ok(())),
                Err(_) => assert_eq!(sent, Err(SendTimeoutError::Timeout(7))),
            }
        });
    }

    #[test]
    fn a_receiver_that_gives_up_passes_its_turn_on() {
        loom::model(|| {
            let (tx, rx) = channel(0);
            let hasty = rx.clone();
            let hasty = thread::spawn(move || hasty.recv_timeout(SOON));
            let patient = thread::spawn(move || rx.recv());
            tx.send(1).expect("one of them takes it");
            drop(tx);
            let (hasty, patient) = (hasty.join().unwrap(), patient.join().unwrap());
            assert_eq!(u8::from(hasty.is_ok()) + u8::from(patient.is_ok()), 1);
        });
    }

    #[test]
    fn a_waiting_sender_moves_up() {
        loom::model(|| {
            let (tx, rx) = channel(1);
            let sender = thread::spawn(move || {
                tx.send(1).unwrap();
                tx.send(2).unwrap();
            });
            assert_eq!(rx.recv(), Ok(1));
            assert_eq!(rx.recv(), Ok(2));
            assert!(rx.recv().is_err());
            sender.join().unwrap();
        });
    }

    #[test]
    fn a_close_ends_both_sides() {
        loom::model(|| {
            let (tx, rx) = channel(0);
            let closer = tx.clone();
            let sender = thread::spawn(move || tx.send(1).is_ok());
            let closer = thread::spawn(move || closer.close());
            let received = rx.recv().is_ok();
            assert_eq!(sender.join().unwrap(), received);
            closer.join().unwrap();
        });
    }

    #[test]
    fn the_last_receiver_returns_the_value() {
        loom::model(|| {
            let (tx, rx) = channel(0);
            let receiver = thread::spawn(move || rx.recv_timeout(SOON));
            let sent = tx.send(1).is_ok();
            let received = receiver.join().unwrap();
            assert_eq!(received.is_ok(), sent);
            assert!(sent || received == Err(RecvTimeoutError::Timeout));
        });
    }
}

#[cfg(not(loom))]
mod threads {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::chan::{
        Receiver, RecvError, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError,
        TrySendError, channel,
    };

    #[track_caller]
    fn wait_until(mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
            thread::yield_now();
        }
    }

    fn senders_waiting<T>(tx: &Sender<T>) -> bool {
        !tx.chan.lock().sending.is_empty()
    }

    fn receivers_waiting<T>(rx: &Receiver<T>) -> bool {
        !rx.chan.lock().receiving.is_empty()
    }

    #[test]
    fn a_buffer_keeps_order_and_says_when_it_is_full() {
        let (tx, rx) = channel(2);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.send(1).unwrap();
        tx.try_send(2).unwrap();
        assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!((tx.len(), rx.len(), rx.capacity()), (2, 2, 2));
        assert_eq!(rx.recv(), Ok(1));
        tx.send(3).unwrap();
        drop(tx);
        assert_eq!(rx.collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn unbuffered_means_that_both_meet() {
        let (tx, rx) = channel(0);
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let sender = thread::spawn({
            let tx = tx.clone();
            move || {
                for i in 0..3 {
                    tx.send(i).unwrap();
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        for i in 0..3 {
            wait_until(|| senders_waiting(&tx));
            assert_eq!(sent.load(Ordering::SeqCst), i);
            assert_eq!(rx.try_recv(), Ok(i));
            wait_until(|| sent.load(Ordering::SeqCst) == i + 1);
        }
        sender.join().unwrap();
    }

    #[test]
    fn a_value_goes_straight_to_the_receiver_that_waits() {
        let (tx, rx) = channel(0);
        let receiver = thread::spawn({
            let rx = rx.clone();
            move || rx.recv()
        });
        wait_until(|| receivers_waiting(&rx));
        tx.try_send(5).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(5));
    }

    #[test]
    fn waiters_are_served_in_order() {
        let (tx, rx) = channel(0);
        let mut senders = Vec::new();
        for i in 0..4 {
            let mine = tx.clone();
            senders.push(thread::spawn(move || mine.send(i)));
            wait_until(|| tx.chan.lock().sending.len() == i + 1);
        }
        for i in 0..4 {
            assert_eq!(rx.recv(), Ok(i));
        }
        for sender in senders {
            sender.join().unwrap().unwrap();
        }
    }

    #[test]
    fn a_waiter_in_the_middle_can_give_up() {
        let (tx, rx) = channel(0);
        let spawn = |i: usize, timeout| {
            let mine = tx.clone();
            let sender = thread::spawn(move || mine.send_timeout(i, timeout));
            wait_until(|| tx.chan.lock().sending.len() > i);
            sender
        };
        let long = Duration::from_secs(60);
        let senders = [
            spawn(0, long),
            spawn(1, Duration::from_millis(500)),
            spawn(2, long),
        ];
        wait_until(|| tx.chan.lock().sending.len() == 2);
        assert_eq!(rx.recv(), Ok(0));
        assert_eq!(rx.recv(), Ok(2));
        let results = senders.map(|s| s.join().unwrap());
        assert_eq!(results, [Ok(()), Err(SendTimeoutError::Timeout(1)), Ok(())]);
    }

    #[test]
    fn a_close_lets_the_rest_be_received() {
        let (tx, rx) = channel(1);
        tx.send(1).unwrap();
        let blocked = thread::spawn({
            let tx = tx.clone();
            move || tx.send(2)
        });
        wait_until(|| senders_waiting(&tx));
        tx.close();
        tx.close();
        assert_eq!(blocked.join().unwrap().unwrap_err().0, 2);
        assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.recv(), Err(RecvError));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn the_last_of_one_side_ends_the_other() {
        let (tx, rx) = channel::<u8>(0);
        let other = tx.clone();
        let receiver = thread::spawn({
            let rx = rx.clone();
            move || rx.recv()
        });
        wait_until(|| receivers_waiting(&rx));
        drop(tx);
        other.send(1).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(1));
        drop(rx);
        assert_eq!(other.send(2).unwrap_err().0, 2);
    }

    #[test]
    fn values_that_nobody_can_receive_are_dropped() {
        let value = Arc::new(());
        let (tx, rx) = channel(4);
        tx.send(value.clone()).unwrap();
        drop(rx);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_drop_may_use_the_channel() {
        struct Last(Sender<Last>);
        impl Drop for Last {
            fn drop(&mut self) {
                assert!(self.0.is_empty());
            }
        }
        let (tx, rx) = channel(1);
        assert!(tx.try_send(Last(tx.clone())).is_ok());
        drop(rx);
    }

    #[test]
    fn timeouts_pass() {
        let (tx, rx) = channel::<u8>(0);
        let soon = Duration::from_millis(5);
        assert_eq!(rx.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
        let timeout = Err(SendTimeoutError::Timeout(1));
        assert_eq!(tx.send_timeout(1, soon), timeout);
        assert!(!senders_waiting(&tx) && !receivers_waiting(&rx));
    }

    /// Everything that was sent is received once, while waits on both sides
    /// end by timeout at every moment.
    #[test]
    fn nothing_is_lost_or_doubled_under_timeouts() {
        const SENDERS: u64 = 3;
        const EACH: u64 = 3_000;
        for capacity in [0, 1, 7] {
            let (tx, rx) = channel(capacity);
            let send = move |tx: Sender<u64>, who: u64| {
                for i in 0..EACH {
                    let mut value = who * EACH + i;
                    let wait = Duration::from_nanos(i % 50 * 1_000);
                    while let Err(e) = tx.send_timeout(value, wait) {
                        let SendTimeoutError::Timeout(back) = e else {
                            panic!("closed too early");
                        };
                        value = back;
                    }
                }
            };
            let senders = (0..SENDERS).map(|who| {
                let tx = tx.clone();
                thread::spawn(move || send(tx, who))
            });
            let senders: Vec<_> = senders.collect();
            drop(tx);
            let receive = |rx: Receiver<u64>| {
                let mut got = Vec::new();
                for wait in (0..50).cycle() {
                    match rx.recv_timeout(Duration::from_micros(wait)) {
                        Ok(value) => got.push(value),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Closed) => break,
                    }
                }
                got
            };
            let receivers = [rx.clone(), rx].map(|rx| thread::spawn(move || receive(rx)));
            senders.into_iter().for_each(|s| s.join().unwrap());
            let mut got = receivers.map(|r| r.join().unwrap()).concat();
            got.sort_unstable();
            assert!(got.iter().copied().eq(0..SENDERS * EACH), "at {capacity}");
        }
    }
}
