use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

fn pair(ring_frames: usize, slots: u32) -> (CableEnd, CableEnd) {
    cable(CableOptions {
        ring_frames,
        slots,
        ..CableOptions::default()
    })
    .unwrap()
}

fn frames(end: &CableEnd, count: usize, byte: u8) -> VecDeque<Frame> {
    let make = |_| {
        let mut frame = end.pool().take_tx().unwrap();
        assert!(frame.fill(&[byte; 60]));
        frame
    };
    (0..count).map(make).collect()
}

fn readable(end: &CableEnd, timeout: Duration) -> bool {
    let fd = end.wakeup().unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).unwrap();
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn a_frame_crosses_with_its_times() {
    let (mut a, mut b) = pair(4, 8);
    let mut out = frames(&a, 1, 7);
    assert_eq!(a.tx_burst(Nanos(1), &mut out).unwrap(), 1);
    let mut got = Vec::new();
    assert_eq!(b.rx_burst(Nanos(2), &mut got).unwrap(), 0);
    a.kick(Nanos(3)).unwrap();
    assert_eq!(b.rx_burst(Nanos(4), &mut got).unwrap(), 1);
    assert_eq!(&got[0][..], [7; 60]);
    assert_eq!(got[0].meta.rx_at, Some(Nanos(3)));
    assert_eq!(got[0].meta.polled_at, Nanos(4));
    assert_eq!(a.pool().free(), 7);
    assert_eq!(a.reclaim(Nanos(5)), 1);
    assert_eq!(a.pool().free(), 8);
    assert_eq!((a.stats().tx_frames, b.stats().rx_frames), (1, 1));
    assert_eq!((a.stats().kicks, b.stats().rx_bytes), (1, 60));
}

#[test]
fn a_full_ring_keeps_the_rest_and_says_when_there_is_room() {
    let (mut a, mut b) = pair(2, 16);
    let mut out = frames(&a, 3, 0);
    assert_eq!(a.tx_burst(Nanos(0), &mut out).unwrap(), 2);
    assert_eq!((out.len(), a.stats().tx_ring_full), (1, 1));
    a.kick(Nanos(0)).unwrap();
    assert!(!a.arm() && !readable(&a, Duration::ZERO));
    b.rx_burst(Nanos(0), &mut Vec::new()).unwrap();
    assert!(readable(&a, Duration::ZERO));
    assert!(a.arm(), "room is there already");
    assert_eq!(a.tx_burst(Nanos(0), &mut out).unwrap(), 1);
}

#[test]
fn only_an_armed_end_is_written_to() {
    let (mut a, mut b) = pair(8, 16);
    let send = |a: &mut CableEnd| {
        let mut out = frames(a, 1, 0);
        a.tx_burst(Nanos(0), &mut out).unwrap();
        a.kick(Nanos(0)).unwrap();
    };
    send(&mut a);
    assert!(!readable(&b, Duration::ZERO), "not armed");
    assert!(b.arm(), "a frame waits");
    b.rx_burst(Nanos(0), &mut Vec::new()).unwrap();
    assert!(!b.arm());
    send(&mut a);
    send(&mut a);
    assert!(readable(&b, Duration::ZERO));
    assert_eq!(b.rx_burst(Nanos(0), &mut Vec::new()).unwrap(), 2);
    assert!(!readable(&b, Duration::ZERO), "found empty, so quiet again");
}

#[test]
fn without_a_frame_to_receive_into_nothing_is_lost() {
    let (mut a, mut b) = pair(8, 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut out = frames(&a, 1, 9);
        a.tx_burst(Nanos(0), &mut out).unwrap();
        a.kick(Nanos(0)).unwrap();
    }
    assert_eq!(b.rx_burst(Nanos(0), &mut held).unwrap(), 3);
    assert_eq!(b.stats().rx_no_frame, 1);
    held.clear();
    assert_eq!(b.rx_burst(Nanos(0), &mut held).unwrap(), 1);
}

#[test]
fn what_is_no_frame_is_counted() {
    let (mut a, mut b) = pair(8, 8);
    let mut short = a.pool().take_tx().unwrap();
    assert!(short.fill(&[0; 13]));
    a.tx_burst(Nanos(0), &mut VecDeque::from([short])).unwrap();
    a.kick(Nanos(0)).unwrap();
    assert_eq!(b.rx_burst(Nanos(0), &mut Vec::new()).unwrap(), 0);
    assert_eq!(b.stats().rx_bad_len, 1);
}

#[test]
fn a_pulled_cable_drops_and_counts_and_gives_frames_back() {
    let (mut a, b) = pair(2, 8);
    let mut out = frames(&a, 4, 0);
    a.tx_burst(Nanos(0), &mut out).unwrap();
    a.kick(Nanos(0)).unwrap();
    drop(b);
    for _ in 0..2 {
        a.kick(Nanos(0)).unwrap();
        a.tx_burst(Nanos(0), &mut out).unwrap();
    }
    a.kick(Nanos(0)).unwrap();
    assert!(out.is_empty());
    assert_eq!((a.stats().tx_frames, a.stats().tx_down), (2, 2));
    assert_eq!(a.pool().free(), 8);
}

#[test]
fn senseless_cables_are_refused() {
    for (ring_frames, mtu) in [(0, 1500), (8, 70_000), (8, usize::MAX)] {
        let options = CableOptions {
            ring_frames,
            mtu,
            ..CableOptions::default()
        };
        assert!(matches!(cable(options), Err(CableError::Shape { .. })));
    }
}

/// Two threads that sleep on the fd whenever there is nothing to do. A lost
/// wake-up ends in the poll's timeout, which fails the test.
#[test]
fn no_wake_up_is_lost_under_load() {
    const COUNT: usize = 20_000;
    fn sleep(end: &mut CableEnd) {
        if !end.arm() {
            assert!(readable(end, Duration::from_secs(20)), "a wake-up was lost");
        }
    }
    let (mut a, mut b) = pair(4, 32);
    let receiver = std::thread::spawn(move || {
        let (mut got, mut bytes) = (Vec::new(), Vec::new());
        while bytes.len() < COUNT {
            if b.rx_burst(Nanos(0), &mut got).unwrap() == 0 {
                sleep(&mut b);
            }
            bytes.extend(got.drain(..).map(|f| f[0]));
        }
        bytes
    });
    let mut out = VecDeque::new();
    for i in 0..COUNT {
        out.append(&mut frames(&a, 1, i as u8));
        while !out.is_empty() {
            let taken = a.tx_burst(Nanos(0), &mut out).unwrap();
            a.kick(Nanos(0)).unwrap();
            if taken == 0 {
                sleep(&mut a);
                a.rx_burst(Nanos(0), &mut Vec::new()).unwrap();
            }
        }
    }
    let bytes = receiver.join().unwrap();
    assert!(bytes.iter().enumerate().all(|(i, b)| *b == i as u8));
}
